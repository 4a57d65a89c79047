//! A plain blocking client: opening connections, declaring things, closing. Not on the hot path.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use amq_protocol::auth::Credentials;
use amq_protocol::frame::{AMQPFrame, ProtocolVersion};
use amq_protocol::protocol::connection::{self, AMQPMethod as ConnectionMethod};
use amq_protocol::protocol::{AMQPClass, channel};
use amq_protocol::types::{AMQPValue, FieldTable, ShortString};

use super::error::PerfError;
use super::frame::{self, Input};
use super::settings::Target;

/// Longest silence of the broker while it owes an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Calls on their way before the first answer is awaited.
const PIPELINE_MAX: usize = 500;
const INPUT_BYTES: usize = 16 << 10;
const CHANNEL: u16 = 1;

/// An open connection with channel 1 open on it.
pub(super) struct Client {
    stream: TcpStream,
    input: Input,
    output: Vec<u8>,
    /// Who this is, in messages to the user.
    role: String,
    /// What was agreed on.
    tuned: connection::TuneOk,
    /// Product and version as the broker names itself.
    product: String,
}

/// What a driver of its own needs to go on with an opened connection.
pub(super) struct Opened {
    pub(super) stream: TcpStream,
    pub(super) role: String,
    /// Bytes that arrived behind the last answer.
    pub(super) rest: Vec<u8>,
    pub(super) frame_bytes_max: usize,
    pub(super) heartbeat: Option<Duration>,
}

impl Client {
    /// Connects, logs in, opens the vhost and channel 1.
    pub(super) fn open(target: &Target, role: impl Into<String>) -> Result<Self, PerfError> {
        let role = role.into();
        let stream = connect(target)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        let input = Input::new(INPUT_BYTES, target.frame_bytes_max as usize, &[]);
        let tuned = connection::TuneOk {
            channel_max: 0,
            frame_max: 0,
            heartbeat: 0,
        };
        let product = String::new();
        let mut client = Self {
            stream,
            input,
            output: Vec::new(),
            role,
            tuned,
            product,
        };
        client.handshake(target)?;
        let open = channel::AMQPMethod::Open(channel::Open {});
        client.call(AMQPClass::Channel(open))?;
        Ok(client)
    }

    fn handshake(&mut self, target: &Target) -> Result<(), PerfError> {
        let user = &target.uri.authority.userinfo;
        self.push(&AMQPFrame::ProtocolHeader(ProtocolVersion::amqp_0_9_1()));
        self.flush()?;
        let start = self.expect_connection("connection.start", |method| match method {
            ConnectionMethod::Start(start) => Some(start),
            _ => None,
        })?;
        self.product = product(&start.server_properties);
        let login = Credentials::new(user.username.as_str().into(), user.password.as_str().into());
        self.send(
            0,
            AMQPClass::Connection(ConnectionMethod::StartOk(connection::StartOk {
                client_properties: client_properties(&self.role),
                mechanism: "PLAIN".into(),
                response: login.sasl_auth_string(amq_protocol::auth::SASLMechanism::Plain),
                locale: "en_US".into(),
            })),
        )?;
        let tune = self.expect_connection("connection.tune", |method| match method {
            ConnectionMethod::Tune(tune) => Some(tune),
            _ => None,
        })?;
        self.tuned = tune_ok(target, &tune);
        self.push(&method_frame(
            0,
            ConnectionMethod::TuneOk(self.tuned.clone()),
        ));
        let virtual_host = ShortString::try_new(target.uri.vhost.clone())
            .map_err(|_| PerfError::Option("the vhost's name is too long".into()))?;
        self.push(&method_frame(
            0,
            ConnectionMethod::Open(connection::Open { virtual_host }),
        ));
        self.flush()?;
        self.expect_connection("connection.open-ok", |method| match method {
            ConnectionMethod::OpenOk(ok) => Some(ok),
            _ => None,
        })?;
        Ok(())
    }

    /// Waits for one particular method on channel 0.
    fn expect_connection<T>(
        &mut self,
        name: &str,
        take: impl Fn(ConnectionMethod) -> Option<T>,
    ) -> Result<T, PerfError> {
        match self.receive()? {
            AMQPClass::Connection(method) => {
                take(method).ok_or_else(|| self.protocol(format!("{name} expected")))
            }
            other => Err(self.protocol(format!("{name} expected, got {other:?}"))),
        }
    }

    /// Calls one method on channel 1 and waits for its answer.
    pub(super) fn call(&mut self, method: AMQPClass) -> Result<AMQPClass, PerfError> {
        self.send(CHANNEL, method)?;
        self.receive()
    }

    /// Calls many methods, many of them on their way at once, and waits for all answers.
    pub(super) fn call_all(
        &mut self,
        methods: impl Iterator<Item = AMQPClass>,
    ) -> Result<(), PerfError> {
        let mut waiting = 0;
        for method in methods {
            self.push(&AMQPFrame::Method(CHANNEL, method));
            waiting += 1;
            if waiting == PIPELINE_MAX {
                self.flush()?;
                self.receive_many(waiting / 2)?;
                waiting -= waiting / 2;
            }
        }
        self.flush()?;
        self.receive_many(waiting)
    }

    fn receive_many(&mut self, count: usize) -> Result<(), PerfError> {
        (0..count).try_for_each(|_| self.receive().map(drop))
    }

    fn send(&mut self, channel: u16, method: AMQPClass) -> Result<(), PerfError> {
        self.push(&AMQPFrame::Method(channel, method));
        self.flush()
    }

    fn push(&mut self, frame: &AMQPFrame) {
        frame::push(&mut self.output, frame);
    }

    fn flush(&mut self) -> Result<(), PerfError> {
        let written = self.stream.write_all(&self.output);
        self.output.clear();
        written.map_err(|source| self.lost(source))
    }

    /// The next method; heartbeats and connection.blocked are passed over, closes are errors.
    fn receive(&mut self) -> Result<AMQPClass, PerfError> {
        loop {
            let Some(frame) = self.receive_frame()? else {
                continue;
            };
            let method = match frame {
                AMQPFrame::Heartbeat => continue,
                AMQPFrame::Method(_, method) => method,
                AMQPFrame::ProtocolHeader(version) => {
                    return Err(self.protocol(format!("the broker speaks AMQP {version}")));
                }
                other => return Err(self.protocol(format!("a method expected, got {other}"))),
            };
            match method {
                AMQPClass::Connection(
                    ConnectionMethod::Blocked(_) | ConnectionMethod::Unblocked(_),
                ) => {}
                AMQPClass::Connection(ConnectionMethod::Close(close)) => {
                    let (code, text) = (close.reply_code, close.reply_text.to_string());
                    return Err(PerfError::ConnectionClosed {
                        role: self.role.clone(),
                        code,
                        text,
                    });
                }
                AMQPClass::Channel(channel::AMQPMethod::Close(close)) => {
                    let (code, text) = (close.reply_code, close.reply_text.to_string());
                    return Err(PerfError::ChannelClosed {
                        role: self.role.clone(),
                        code,
                        text,
                    });
                }
                method => return Ok(method),
            }
        }
    }

    /// A frame that is in the buffer, or `None` after one more read.
    fn receive_frame(&mut self) -> Result<Option<AMQPFrame>, PerfError> {
        // A broker that does not like the version answers with its own header, not with a frame.
        if self.input.rest().starts_with(b"AMQP") && self.input.rest().len() >= 8 {
            return Err(self.protocol("the broker does not speak AMQP 0-9-1".into()));
        }
        match self.input.next() {
            Ok(Some(frame)) => match frame.decode() {
                Some(frame) => Ok(Some(frame)),
                None => Err(self.protocol("a method that cannot be read".into())),
            },
            Ok(None) => match self.input.fill(&mut self.stream) {
                Ok((0, _)) => Err(self.lost(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => Ok(None),
                Err(source) if source.kind() == io::ErrorKind::Interrupted => Ok(None),
                Err(source) => Err(self.lost(source)),
            },
            Err(error) => Err(self.protocol(error.to_string())),
        }
    }

    fn lost(&self, source: io::Error) -> PerfError {
        PerfError::Lost {
            role: self.role.clone(),
            source,
        }
    }

    fn protocol(&self, what: String) -> PerfError {
        PerfError::Protocol {
            role: self.role.clone(),
            what,
        }
    }

    /// Hands the connection over to a driver of its own.
    pub(super) fn into_opened(self) -> Opened {
        let heartbeat = Duration::from_secs(self.tuned.heartbeat.into());
        Opened {
            stream: self.stream,
            role: self.role,
            rest: self.input.rest().to_vec(),
            frame_bytes_max: self.tuned.frame_max as usize,
            heartbeat: (!heartbeat.is_zero()).then_some(heartbeat),
        }
    }

    /// Product and version as the broker names itself.
    pub(super) fn product(&self) -> &str {
        &self.product
    }

    /// The socket and what was not sent yet, for `close_all`.
    pub(super) fn into_rest(self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.output)
    }

    /// Closes in the polite way, for at most a few seconds.
    pub(super) fn close(self) {
        close_all(vec![self.into_rest()], Duration::from_secs(3));
    }
}

/// Closes many connections at once: each is sent what is left to send and connection.close, then
/// all are read until they have answered or `patience` is at its end. A broker that is gone by now
/// changes nothing about the run, so errors end only the politeness.
pub(super) fn close_all(connections: Vec<(TcpStream, Vec<u8>)>, patience: Duration) {
    let deadline = Instant::now() + patience;
    let left = || {
        deadline
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(1))
    };
    let mut close = Vec::new();
    frame::push(
        &mut close,
        &method_frame(
            0,
            ConnectionMethod::Close(connection::Close {
                reply_code: 200,
                reply_text: "Goodbye".into(),
                class_id: 0,
                method_id: 0,
            }),
        ),
    );
    let mut closing = VecDeque::new();
    for (mut stream, rest) in connections {
        let sent = stream
            .set_nonblocking(false)
            .and_then(|()| stream.set_write_timeout(Some(left())))
            .and_then(|()| stream.write_all(&rest))
            .and_then(|()| stream.write_all(&close));
        if sent.is_ok() {
            closing.push_back(stream);
        }
    }
    let mut waste = vec![0; 256 << 10];
    for mut stream in closing {
        loop {
            // The broker closes the socket behind close-ok, or soon after.
            let tail = match stream
                .set_read_timeout(Some(left()))
                .and_then(|()| stream.read(&mut waste))
            {
                Ok(0) | Err(_) => break,
                Ok(bytes) => &waste[..bytes],
            };
            if tail.ends_with(b"\x01\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x33\xCE") {
                break;
            }
        }
    }
}

fn method_frame(channel: u16, method: ConnectionMethod) -> AMQPFrame {
    AMQPFrame::Method(channel, AMQPClass::Connection(method))
}

fn connect(target: &Target) -> Result<TcpStream, PerfError> {
    let authority = &target.uri.authority;
    let address = format!("{}:{}", authority.host, authority.port);
    let failed = |source| PerfError::Connect {
        address: address.clone(),
        source,
    };
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for socket in (authority.host.as_str(), authority.port)
        .to_socket_addrs()
        .map_err(failed)?
    {
        match TcpStream::connect_timeout(&socket, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(failed(last))
}

/// The smaller of what both sides want, 0 standing for no limit.
fn tune_ok(target: &Target, tune: &connection::Tune) -> connection::TuneOk {
    let frame_max = match tune.frame_max {
        0 => target.frame_bytes_max,
        offered => offered.min(target.frame_bytes_max),
    };
    let heartbeat = match (tune.heartbeat, target.heartbeat_seconds) {
        (0, ours) => ours,
        (_, 0) => 0,
        (offered, ours) => offered.min(ours),
    };
    connection::TuneOk {
        channel_max: tune.channel_max,
        frame_max,
        heartbeat,
    }
}

fn product(properties: &FieldTable) -> String {
    let text = |key: &str| match properties.inner().get(key) {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        _ => String::new(),
    };
    format!("{} {}", text("product"), text("version"))
        .trim()
        .to_owned()
}

fn client_properties(role: &str) -> FieldTable {
    let mut capabilities = FieldTable::default();
    for name in [
        "publisher_confirms",
        "basic.nack",
        "connection.blocked",
        "consumer_cancel_notify",
        "authentication_failure_close",
    ] {
        capabilities.insert(name.into(), AMQPValue::Boolean(true));
    }
    let mut properties = FieldTable::default();
    for (key, value) in [
        ("product", "leveret perf"),
        ("version", env!("CARGO_PKG_VERSION")),
        ("platform", "Rust"),
        ("connection_name", role),
    ] {
        properties.insert(key.into(), AMQPValue::LongString(value.into()));
    }
    properties.insert("capabilities".into(), AMQPValue::FieldTable(capabilities));
    properties
}
