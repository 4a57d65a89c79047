//! A peer of the handshake, in memory, and the bytes that it sends.

use amq_protocol::protocol::connection::{AMQPMethod, Close, CloseOk, Open, StartOk, TuneOk};
use amq_protocol::protocol::{AMQPClass, parse_class};
use amq_protocol::types::{AMQPValue, FieldTable, ShortString};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::Instant;

use super::super::*;
use crate::amqp::frame;
use crate::amqp::server_properties::server_properties;
use crate::message::op::Op;

pub(super) const HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";
pub(super) const TUNED: &str = "start 0.9, tune 2047 131072 60";
pub(super) const LOGIN_REFUSED: &str = "close 403 'ACCESS_REFUSED - Login was refused using authentication \
    mechanism PLAIN. For details see the broker logfile.' by 0.0";

/// A broker with the vhosts `/` and `closed`, and the user guest with permissions in `/`.
pub(super) struct Broker {
    pub(super) config: Config,
    pub(super) auth: Auth,
    pub(super) peer: SocketAddr,
}

impl Broker {
    pub(super) fn new(config: Config) -> Self {
        let auth = Auth::recover(std::iter::empty(), &config).unwrap();
        auth.add_default_user(&mut |_: Op| {}, &config).unwrap();
        let peer = "127.0.0.1:50000".parse().unwrap();
        Self { config, auth, peer }
    }

    /// What a peer that sends `bytes` gets, and what came of it.
    pub(super) async fn meet(&self, bytes: &[u8]) -> (String, Result<Negotiated, HandshakeError>) {
        let (mut server, mut client) = duplex(64 * 1024);
        let server_properties = server_properties(&self.config);
        let context = HandshakeContext {
            config: &self.config,
            auth: &self.auth,
            server_properties: &server_properties,
            logged_in: &|_, _| (),
            admit: &|user, name| {
                if !["/", "closed"].contains(&name) {
                    return Err(AdmissionRefused::NoSuchVHost(name.to_owned()));
                }
                self.auth.check_vhost(user, name)?;
                Ok(Admission::default())
            },
            peer: self.peer,
            local: "127.0.0.1:5672".parse().unwrap(),
        };
        let serve = async {
            let outcome = handshake(&mut server, &context).await;
            drop(server);
            outcome
        };
        let converse = async {
            client.write_all(bytes).await.unwrap();
            transcript(&mut client).await
        };
        let (outcome, transcript) = tokio::join!(serve, converse);
        (transcript, outcome)
    }

    pub(super) async fn check(&self, bytes: &[&[u8]], expected: &str) {
        let (transcript, _) = self.meet(&bytes.concat()).await;
        assert_eq!(transcript, expected);
    }
}

pub(super) fn broker() -> Broker {
    Broker::new(Config::default())
}

/// All that arrives, in words, and after which time the connection ended.
pub(super) async fn transcript(client: &mut DuplexStream) -> String {
    let start = Instant::now();
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).await.unwrap();
    let mut said = Vec::new();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        if rest.starts_with(b"AMQP") {
            said.push(format!("header {:?}", &rest[4..8]));
            rest = &rest[8..];
            continue;
        }
        let frame = frame::cut(rest, u32::MAX).unwrap().unwrap();
        said.push(describe(&frame));
        rest = &rest[frame.wire_len()..];
    }
    said.push(format!("end after {} s", start.elapsed().as_secs()));
    said.join(", ")
}

pub(super) fn describe(frame: &Frame<'_>) -> String {
    assert_eq!((frame.kind, frame.channel), (frame::METHOD, 0));
    let (_, AMQPClass::Connection(method)) = parse_class(frame.payload).unwrap() else {
        panic!("{frame:?}")
    };
    match method {
        AMQPMethod::Start(start) => {
            assert_eq!(start.locales.to_string(), "en_US");
            format!("start {}.{}", start.version_major, start.version_minor)
        }
        AMQPMethod::Tune(tune) => {
            format!(
                "tune {} {} {}",
                tune.channel_max, tune.frame_max, tune.heartbeat
            )
        }
        AMQPMethod::OpenOk(_) => "open-ok".into(),
        AMQPMethod::Close(close) => format!(
            "close {} '{}' by {}.{}",
            close.reply_code, close.reply_text, close.class_id, close.method_id
        ),
        other => panic!("{other:?}"),
    }
}

pub(super) fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [
        &[kind],
        &channel.to_be_bytes()[..],
        &size,
        payload,
        &[frame::FRAME_END],
    ]
    .concat()
}

pub(super) fn method(method: AMQPMethod) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::put_method(&mut bytes, 0, &AMQPClass::Connection(method));
    bytes
}

pub(super) fn start_ok(mechanism: &str, response: &[u8], client_properties: FieldTable) -> Vec<u8> {
    method(AMQPMethod::StartOk(StartOk {
        client_properties,
        mechanism: mechanism.into(),
        response: response.into(),
        locale: "en_US".into(),
    }))
}

/// The right password.
pub(super) fn login() -> Vec<u8> {
    start_ok("PLAIN", b"\0guest\0guest", FieldTable::default())
}

pub(super) fn tune_ok(channel_max: u16, frame_max: u32, heartbeat: u16) -> Vec<u8> {
    method(AMQPMethod::TuneOk(TuneOk {
        channel_max,
        frame_max,
        heartbeat,
    }))
}

pub(super) fn tuned() -> Vec<u8> {
    tune_ok(2047, 131_072, 60)
}

pub(super) fn open(vhost: &str) -> Vec<u8> {
    let virtual_host = ShortString::try_new(vhost).unwrap();
    method(AMQPMethod::Open(Open { virtual_host }))
}

/// As far as connection.open is due.
pub(super) fn before_open() -> Vec<u8> {
    [HEADER, &login(), &tuned()].concat()
}

pub(super) fn close() -> Vec<u8> {
    method(AMQPMethod::Close(Close {
        reply_code: 200,
        reply_text: "bye".into(),
        class_id: 0,
        method_id: 0,
    }))
}

pub(super) fn close_ok() -> Vec<u8> {
    method(AMQPMethod::CloseOk(CloseOk {}))
}

pub(super) fn with_capability(name: &str) -> FieldTable {
    let mut capabilities = FieldTable::default();
    capabilities.insert(name.into(), AMQPValue::Boolean(true));
    let mut properties = FieldTable::default();
    properties.insert("capabilities".into(), AMQPValue::FieldTable(capabilities));
    properties
}
