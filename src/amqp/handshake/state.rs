//! The handshake's state machine: a frame in, the next state and an answer out. It knows no socket and
//! no clock.
//!
//! ```text
//!              start-ok                tune-ok               open
//!  Starting ─────────────▶ Tuning ─────────────▶ Opening ─────────▶ Opened
//!              ◀ tune                                     ◀ open-ok
//! ```
//!
//! Heartbeats are welcome everywhere and change nothing; all else is a [`Violation`]. There is no
//! connection.secure: no mechanism that is offered has a challenge.

use std::sync::Arc;

use amq_protocol::protocol::connection::{AMQPMethod, OpenOk, StartOk, Tune, TuneOk};
use amq_protocol::protocol::{AMQPClass, parse_class};
use amq_protocol::types::{AMQPValue, FieldTable};

use super::HandshakeContext;
use super::violation::{Offender, ReplyCode, Violation};
use crate::amqp::connection::Limits;
use crate::amqp::frame::{self, Frame, OVERHEAD_BYTES};
use crate::amqp::nesting;
use crate::amqp::session::Capabilities;
use crate::auth::{Mechanism, User};
use crate::broker::admission::Admission;
use crate::config::{Config, FRAME_MAX_BYTES_MIN};

/// The largest frame before the tuning: RabbitMQ's `initial_frame_max`, enough for the tokens that some
/// put into start-ok.
const FRAME_BYTES_MAX_BEFORE_TUNING: u32 = 8192;

const START_OK: Offender = (10, 11);
/// RabbitMQ blames its own tune for limits that the peer set.
const TUNE: Offender = (10, 30);
const TUNE_OK: Offender = (10, 31);
const OPEN: Offender = (10, 40);

/// Where in the handshake a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Header,
    Starting,
    Tuning,
    Opening,
}

impl Stage {
    /// RabbitMQ's name of the state.
    pub fn name(self) -> &'static str {
        match self {
            Self::Header => "pre_init",
            Self::Starting => "starting",
            Self::Tuning => "tuning",
            Self::Opening => "opening",
        }
    }
}

/// What the peer has said so far.
pub(super) enum State {
    Starting,
    Tuning(Client),
    Opening(Client, Limits),
}

/// Who the peer is.
pub(super) struct Client {
    pub(super) user: User,
    pub(super) mechanism: Mechanism,
    pub(super) capabilities: Capabilities,
    pub(super) properties: FieldTable,
}

/// What follows from a frame.
pub(super) enum Step {
    Next {
        state: State,
        answer: Option<AMQPClass>,
    },
    /// The end: open-ok is due.
    Opened {
        client: Client,
        limits: Limits,
        vhost: Arc<str>,
        admission: Admission,
        answer: AMQPClass,
    },
}

impl State {
    pub(super) fn stage(&self) -> Stage {
        match self {
            Self::Starting => Stage::Starting,
            Self::Tuning(_) => Stage::Tuning,
            Self::Opening(..) => Stage::Opening,
        }
    }

    /// The largest payload that is read. Like RabbitMQ this forgives clients that forget the overhead of
    /// a frame, as quite a few do.
    pub(super) fn payload_bytes_max(&self) -> u32 {
        match self {
            Self::Starting | Self::Tuning(_) => FRAME_BYTES_MAX_BEFORE_TUNING,
            Self::Opening(_, limits) => limits.frame_max_bytes,
        }
    }

    pub(super) fn receive(
        self,
        frame: Frame<'_>,
        context: &HandshakeContext<'_>,
    ) -> Result<Step, Violation> {
        let stage = self.stage();
        if frame.channel != 0 {
            return Err(Violation::unexpected_frame(stage, &frame));
        }
        match frame.kind {
            frame::METHOD => match frame.payload {
                [a, b, c, d, arguments @ ..] => {
                    let method = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
                    self.receive_method(method, frame.payload, arguments, context)
                }
                _ => Err(Violation::unknown_frame(stage, &frame)),
            },
            frame::HEARTBEAT if frame.payload.is_empty() => Ok(Step::Next {
                state: self,
                answer: None,
            }),
            frame::HEADER | frame::BODY => Err(Violation::unexpected_frame(stage, &frame)),
            _ => Err(Violation::unknown_frame(stage, &frame)),
        }
    }

    fn receive_method(
        self,
        method: Offender,
        payload: &[u8],
        arguments: &[u8],
        context: &HandshakeContext<'_>,
    ) -> Result<Step, Violation> {
        let stage = self.stage();
        let decode = || decode(stage, method, payload, arguments);
        match (self, method) {
            (Self::Starting, START_OK) => match decode()? {
                AMQPMethod::StartOk(start_ok) => start(start_ok, context),
                _ => Err(Violation::undecodable(stage, arguments, method)),
            },
            (Self::Tuning(client), TUNE_OK) => match decode()? {
                AMQPMethod::TuneOk(tune_ok) => tune(client, &tune_ok, context.config),
                _ => Err(Violation::undecodable(stage, arguments, method)),
            },
            (Self::Opening(client, limits), OPEN) => match decode()? {
                AMQPMethod::Open(open) => {
                    enter(client, limits, open.virtual_host.as_str(), context)
                }
                _ => Err(Violation::undecodable(stage, arguments, method)),
            },
            _ => Err(unexpected_method(stage, method)),
        }
    }
}

/// start-ok: the peer says who it is, and is told the limits of the server.
fn start(start_ok: StartOk, context: &HandshakeContext<'_>) -> Result<Step, Violation> {
    let name = start_ok.mechanism.as_str();
    let mechanism = Mechanism::from_name(name)
        .filter(|mechanism| context.auth.mechanisms().contains(mechanism))
        .ok_or_else(|| {
            let reason = format!("unknown authentication mechanism '{name}'");
            Violation::new(Stage::Starting, ReplyCode::CommandInvalid, reason, START_OK)
        })?;
    let capabilities = capabilities(&start_ok.client_properties);
    let user = login(
        mechanism,
        start_ok.response.as_bytes(),
        capabilities,
        context,
    )?;
    let client = Client {
        user,
        mechanism,
        capabilities,
        properties: start_ok.client_properties,
    };
    let tune = Tune {
        channel_max: context.config.channel_max,
        frame_max: context.config.frame_max_bytes,
        heartbeat: context.config.heartbeat_seconds,
    };
    Ok(Step::Next {
        state: State::Tuning(client),
        answer: Some(AMQPClass::Connection(AMQPMethod::Tune(tune))),
    })
}

fn login(
    mechanism: Mechanism,
    response: &[u8],
    capabilities: Capabilities,
    context: &HandshakeContext<'_>,
) -> Result<User, Violation> {
    use crate::auth::LoginError::Malformed;

    let login = context
        .auth
        .authenticate(mechanism, response, context.peer_is_loopback());
    (context.logged_in)(mechanism, &login);
    login.map_err(|error| match error {
        Malformed => {
            let reason = format!("malformed response to the authentication mechanism {mechanism}");
            Violation::new(Stage::Starting, ReplyCode::SyntaxError, reason, START_OK)
        }
        error => Violation::login(
            format!("{mechanism} login refused: {error}"),
            format!(
                "Login was refused using authentication mechanism {mechanism}. \
                 For details see the broker logfile."
            ),
            capabilities.authentication_failure_close,
        ),
    })
}

/// tune-ok: the peer accepts the limits or lowers them. The heartbeat is its choice alone.
fn tune(client: Client, tune_ok: &TuneOk, config: &Config) -> Result<Step, Violation> {
    let frame_max_bytes = negotiate(
        "frame_max",
        "",
        FRAME_MAX_BYTES_MIN,
        config.frame_max_bytes,
        tune_ok.frame_max,
    )?;
    let channel_max = negotiate(
        "channel_max",
        " (no limit)",
        1,
        config.channel_max.into(),
        tune_ok.channel_max.into(),
    )?;
    let limits = Limits {
        frame_max_bytes: frame_max_bytes.unwrap_or_else(|| frame_bytes_without_limit(config)),
        channel_max: channel_max
            .and_then(|number| u16::try_from(number).ok())
            .unwrap_or(u16::MAX),
        heartbeat_seconds: tune_ok.heartbeat,
    };
    Ok(Step::Next {
        state: State::Opening(client, limits),
        answer: None,
    })
}

/// The value that holds for both, `None` for no limit. 0 stands for none on either side; a client that
/// wants none while the server has one is refused.
fn negotiate(
    field: &str,
    zero: &str,
    min: u32,
    server: u32,
    client: u32,
) -> Result<Option<u32>, Violation> {
    let refuse = |zero: &str, than: &str| {
        let reason = format!("negotiated {field} = {client}{zero} is {than}");
        Violation::new(Stage::Tuning, ReplyCode::NotAllowed, reason, TUNE)
    };
    match client {
        0 if server == 0 => Ok(None),
        1.. if client < min => Err(refuse(
            "",
            &format!("lower than the minimum allowed value ({min})"),
        )),
        0 => Err(refuse(
            zero,
            &format!("higher than the maximum allowed value ({server})"),
        )),
        _ if server != 0 && client > server => Err(refuse(
            "",
            &format!("higher than the maximum allowed value ({server})"),
        )),
        _ => Ok(Some(client)),
    }
}

/// Without a limit of frames that of messages remains: no message needs a larger frame.
fn frame_bytes_without_limit(config: &Config) -> u32 {
    let bytes = config
        .max_message_size_bytes
        .saturating_add(OVERHEAD_BYTES as u64);
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    bytes.max(Config::default().frame_max_bytes)
}

/// open: the peer enters a vhost.
fn enter(
    client: Client,
    limits: Limits,
    vhost: &str,
    context: &HandshakeContext<'_>,
) -> Result<Step, Violation> {
    let refuse =
        |reason: String| Violation::new(Stage::Opening, ReplyCode::NotAllowed, reason, OPEN);
    let admission =
        (context.admit)(&client.user, vhost).map_err(|refused| refuse(refused.to_string()))?;
    Ok(Step::Opened {
        client,
        limits,
        vhost: vhost.into(),
        admission,
        answer: AMQPClass::Connection(AMQPMethod::OpenOk(OpenOk {})),
    })
}

/// Reads the arguments of one of the three methods that are due in some state.
fn decode(
    stage: Stage,
    method: Offender,
    payload: &[u8],
    arguments: &[u8],
) -> Result<AMQPMethod, Violation> {
    if !nesting::method_is_bounded(payload) {
        return Err(Violation::undecodable(stage, arguments, method));
    }
    if method == OPEN && !starts_with_utf8(arguments) {
        let reason = "Malformed UTF-8 in shortstr".to_owned();
        return Err(Violation::new(stage, ReplyCode::FrameError, reason, method));
    }
    match parse_class(payload) {
        Ok(([], AMQPClass::Connection(method))) => Ok(method),
        _ => Err(Violation::undecodable(stage, arguments, method)),
    }
}

/// Whether the short string at the start is text, as far as it goes.
fn starts_with_utf8(arguments: &[u8]) -> bool {
    let Some((&bytes, rest)) = arguments.split_first() else {
        return true;
    };
    let name = rest.get(..bytes.into());
    name.is_none_or(|name| std::str::from_utf8(name).is_ok())
}

fn unexpected_method(stage: Stage, method: Offender) -> Violation {
    let (class_id, method_id) = method;
    if is_method(method) {
        let reason = format!("unexpected method in connection state {}", stage.name());
        return Violation::new(stage, ReplyCode::ChannelError, reason, method);
    }
    let reason = format!("unknown method {class_id}.{method_id}");
    Violation::new(stage, ReplyCode::CommandInvalid, reason, method)
}

/// Whether the protocol, with RabbitMQ's extensions, has a method of that class and id.
fn is_method((class_id, method_id): Offender) -> bool {
    let methods: &[u16] = match class_id {
        10 => &[10, 11, 20, 21, 30, 31, 40, 41, 50, 51, 60, 61, 70, 71],
        20 => &[10, 11, 20, 21, 40, 41],
        30 => &[10, 11],
        40 => &[10, 11, 20, 21, 30, 31, 40, 51],
        50 => &[10, 11, 20, 21, 30, 31, 40, 41, 50, 51],
        60 => &[
            10, 11, 20, 21, 30, 31, 40, 50, 60, 70, 71, 72, 80, 90, 100, 110, 111, 120,
        ],
        85 => &[10, 11],
        90 => &[10, 11, 20, 21, 30, 31],
        _ => &[],
    };
    methods.contains(&method_id)
}

/// What the client says that it knows, in its client-properties.
fn capabilities(properties: &FieldTable) -> Capabilities {
    let capabilities = match properties.inner().get("capabilities") {
        Some(AMQPValue::FieldTable(capabilities)) => Some(capabilities),
        _ => None,
    };
    let has = |name: &str| {
        let value = capabilities.and_then(|table| table.inner().get(name));
        value == Some(&AMQPValue::Boolean(true))
    };
    Capabilities {
        consumer_cancel_notify: has("consumer_cancel_notify"),
        connection_blocked: has("connection.blocked"),
        authentication_failure_close: has("authentication_failure_close"),
    }
}
