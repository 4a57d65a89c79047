//! Errors on the wire: the one place where reply codes, scopes and texts come from.
//!
//! Everything that is refused, in the broker or here, becomes an [`AmqpError`]: a reply code, which decides whether the
//! channel or the connection dies (AMQP 0-9-1, "constants"), and the explanation. The wire carries
//! `NAME - explanation` in a short string.

use std::fmt::{self, Display};

use amq_protocol::protocol::AMQPClass;
use amq_protocol::types::{AMQPValue, FieldTable};

use super::frame::{self, FrameError, OVERHEAD_BYTES};
use super::octets::{Numbers, Snippet};
use crate::auth::{AccessRefused, VHostRefused};
use crate::broker::arguments::{expiration, term};
use crate::broker::error::Error;
use crate::broker::exchange::sender_selected;
use crate::broker::names::Resource;
use crate::config::DeprecatedFeature;

/// A short string holds this many bytes.
const REPLY_TEXT_BYTES_MAX: usize = 255;

/// What replaces the end of a text that is too long.
const ELLIPSIS: &str = "...";

/// What an error ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// A "soft" error: channel.close.
    Channel,
    /// A "hard" error: connection.close.
    Connection,
}

/// The reply codes of AMQP 0-9-1 that a broker sends in close methods, with RabbitMQ's use of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum ReplyCode {
    /// The broker or an operator closes the connection.
    ConnectionForced = 320,
    /// No permission.
    AccessRefused = 403,
    /// There is no such thing.
    NotFound = 404,
    /// Another connection has it exclusively.
    ResourceLocked = 405,
    /// Things are not as the request supposes.
    PreconditionFailed = 406,
    /// Bytes that are no frame.
    FrameError = 501,
    /// A frame with illegal values.
    SyntaxError = 502,
    /// A method that makes no sense here.
    CommandInvalid = 503,
    /// A channel is used as it cannot be.
    ChannelError = 504,
    /// A frame that is not due.
    UnexpectedFrame = 505,
    /// More than the broker can give.
    ResourceError = 506,
    /// Against the rules or the negotiated limits.
    NotAllowed = 530,
    /// The broker does not do that.
    NotImplemented = 540,
    /// The broker's own failure.
    InternalError = 541,
}

impl ReplyCode {
    /// Its number on the wire.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// Its name, with which the text begins.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ConnectionForced => "CONNECTION_FORCED",
            Self::AccessRefused => "ACCESS_REFUSED",
            Self::NotFound => "NOT_FOUND",
            Self::ResourceLocked => "RESOURCE_LOCKED",
            Self::PreconditionFailed => "PRECONDITION_FAILED",
            Self::FrameError => "FRAME_ERROR",
            Self::SyntaxError => "SYNTAX_ERROR",
            Self::CommandInvalid => "COMMAND_INVALID",
            Self::ChannelError => "CHANNEL_ERROR",
            Self::UnexpectedFrame => "UNEXPECTED_FRAME",
            Self::ResourceError => "RESOURCE_ERROR",
            Self::NotAllowed => "NOT_ALLOWED",
            Self::NotImplemented => "NOT_IMPLEMENTED",
            Self::InternalError => "INTERNAL_ERROR",
        }
    }

    /// What it ends when it happens on a channel.
    pub const fn scope(self) -> Scope {
        match self {
            Self::AccessRefused
            | Self::NotFound
            | Self::ResourceLocked
            | Self::PreconditionFailed => Scope::Channel,
            _ => Scope::Connection,
        }
    }
}

/// Which method the close method names as the one at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Offender {
    /// The one that is being carried out.
    Current,
    /// This one: (class, method).
    Method(u16, u16),
    /// None: the fault is in the framing.
    None,
}

const BASIC_PUBLISH: Offender = Offender::Method(60, 40);

/// An error as a client learns of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AmqpError {
    code: ReplyCode,
    text: String,
    offender: Offender,
}

impl AmqpError {
    /// An error that the method which is being carried out is to blame for.
    pub fn new(code: ReplyCode, explanation: &str) -> Self {
        // RabbitMQ says nothing about its own failures.
        let dash = if explanation.is_empty() { "" } else { " - " };
        let mut text = format!("{}{dash}{explanation}", code.name());
        cut(&mut text);
        Self {
            code,
            text,
            offender: Offender::Current,
        }
    }

    /// Its reply code.
    pub const fn code(&self) -> u16 {
        self.code.number()
    }

    /// What it ends. On channel 0 everything ends the connection, whatever this says.
    pub const fn scope(&self) -> Scope {
        self.code.scope()
    }

    /// The reply text: `NAME - explanation`, cut on a UTF-8 boundary to the 255 bytes of a short string.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Class and method id of the method at fault, given those of the method that is being carried out. Both are 0
    /// when the fault is in the framing.
    pub const fn ids(&self, current: (u16, u16)) -> (u16, u16) {
        match self.offender {
            Offender::Current => current,
            Offender::Method(class, method) => (class, method),
            Offender::None => (0, 0),
        }
    }

    fn framing(code: ReplyCode, explanation: &str) -> Self {
        Self {
            offender: Offender::None,
            ..Self::new(code, explanation)
        }
    }

    fn publishing(code: ReplyCode, explanation: &str) -> Self {
        Self {
            offender: BASIC_PUBLISH,
            ..Self::new(code, explanation)
        }
    }
}

/// Shortens `text` to what a short string holds, between characters.
fn cut(text: &mut String) {
    if text.len() > REPLY_TEXT_BYTES_MAX {
        let mut end = REPLY_TEXT_BYTES_MAX - ELLIPSIS.len();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str(ELLIPSIS);
    }
}

/// Frames.
impl AmqpError {
    /// Bytes that are no frame: `type 1, all octets = <<>>: {frame_too_large,200000,131064}`.
    pub fn from_frame(error: &FrameError) -> Self {
        let explanation = match error {
            FrameError::BadEnd {
                found,
                kind,
                octets,
            } => {
                format!(
                    "type {kind}, {}: {{invalid_frame_end_marker,{found}}}",
                    Snippet(octets)
                )
            }
            FrameError::TooLarge {
                size, limit, kind, ..
            } => {
                // What is allowed, without what is forgiven.
                let limit = limit.saturating_sub(OVERHEAD_BYTES as u32);
                format!(
                    "type {kind}, {}: {{frame_too_large,{size},{limit}}}",
                    Snippet(&[])
                )
            }
        };
        Self::framing(ReplyCode::FrameError, &explanation)
    }

    /// A frame of a type that does not exist, or a heartbeat with a payload.
    pub fn unknown_frame(frame: &frame::Frame<'_>) -> Self {
        let explanation = format!(
            "type {}, {}: unknown_frame",
            frame.kind,
            Snippet(frame.payload)
        );
        Self::framing(ReplyCode::FrameError, &explanation)
    }

    /// A frame on the wrong channel: content on channel 0, a heartbeat on another one.
    pub fn unexpected_frame(frame: &frame::Frame<'_>) -> Self {
        let explanation = format!("type {}, {}", frame.kind, Snippet(frame.payload));
        Self::framing(ReplyCode::UnexpectedFrame, &explanation)
    }

    /// Content that no basic.publish announced.
    pub fn expected_method_frame() -> Self {
        Self::framing(
            ReplyCode::UnexpectedFrame,
            "expected method frame, got non method frame instead",
        )
    }

    /// A method or a body frame follows basic.publish. `_method`: which of them makes no difference to the text.
    pub fn expected_content_header(_method: bool) -> Self {
        let explanation =
            "expected content header for class 60, got non content header frame instead";
        Self::publishing(ReplyCode::UnexpectedFrame, explanation)
    }

    /// The content header is of another class.
    pub fn wrong_content_class(class: u16) -> Self {
        let explanation =
            format!("expected content header for class 60, got one for class {class} instead");
        Self::publishing(ReplyCode::UnexpectedFrame, &explanation)
    }

    /// A method or a header follows where the body is not complete.
    pub fn expected_content_body(_method: bool) -> Self {
        let explanation = "expected content body, got non content body frame instead";
        Self::publishing(ReplyCode::UnexpectedFrame, explanation)
    }

    /// More body than the header announced.
    pub fn body_exceeds_size() -> Self {
        Self::publishing(
            ReplyCode::FrameError,
            "content body frame exceeds remaining content size",
        )
    }

    /// A frame whose inside cannot be decoded, where RabbitMQ says nothing of use.
    pub fn malformed_frame() -> Self {
        Self::framing(ReplyCode::FrameError, "malformed frame")
    }

    /// The properties of a message, given with their flags, cannot be decoded. RabbitMQ's channel crashes (541); here
    /// it is the client's fault, as with the arguments of methods.
    pub fn undecodable_properties(properties: &[u8]) -> Self {
        let list = properties.get(2..).unwrap_or_default();
        let shown = &list[..list.len().min(REPLY_TEXT_BYTES_MAX)];
        Self::publishing(
            ReplyCode::FrameError,
            &format!("cannot decode {}", Numbers(shown)),
        )
    }

    /// A short string that is no UTF-8.
    pub fn malformed_utf8() -> Self {
        Self::framing(ReplyCode::FrameError, "Malformed UTF-8 in shortstr")
    }

    /// A method frame that cannot be decoded: 503 when there is no such method (RabbitMQ drops the connection without
    /// a word), 501 when its arguments are at fault.
    pub fn unparsable_method(payload: &[u8]) -> Self {
        let Some(([class_high, class_low, method_high, method_low], arguments)) =
            payload.split_first_chunk()
        else {
            return Self::malformed_frame();
        };
        let class = u16::from_be_bytes([*class_high, *class_low]);
        let method = u16::from_be_bytes([*method_high, *method_low]);
        let error = if is_known_method(class, method) {
            let shown = &arguments[..arguments.len().min(REPLY_TEXT_BYTES_MAX)];
            Self::new(
                ReplyCode::FrameError,
                &format!("cannot decode {}", Numbers(shown)),
            )
        } else {
            Self::new(ReplyCode::CommandInvalid, "unimplemented method")
        };
        Self {
            offender: Offender::Method(class, method),
            ..error
        }
    }
}

/// Whether AMQP 0-9-1 with RabbitMQ's extensions has this method.
const fn is_known_method(class: u16, method: u16) -> bool {
    match class {
        10 => matches!(
            method,
            10 | 11 | 20 | 21 | 30 | 31 | 40 | 41 | 50 | 51 | 60 | 61 | 70 | 71
        ),
        20 => matches!(method, 10 | 11 | 20 | 21 | 40 | 41),
        30 => matches!(method, 10 | 11),
        40 => matches!(method, 10 | 11 | 20 | 21 | 30 | 31 | 40 | 51),
        50 => matches!(method, 10 | 11 | 20 | 21 | 30 | 31 | 40 | 41 | 50 | 51),
        60 => matches!(
            method,
            10 | 11
                | 20
                | 21
                | 30
                | 31
                | 40
                | 50
                | 60
                | 70
                | 71
                | 72
                | 80
                | 90
                | 100
                | 110
                | 111
                | 120
        ),
        85 => matches!(method, 10 | 11),
        90 => matches!(method, 10 | 11 | 20 | 21 | 30 | 31),
        _ => false,
    }
}

/// Methods, channels and the connection.
impl AmqpError {
    /// 403.
    pub fn access_refused(explanation: impl Display) -> Self {
        Self::new(ReplyCode::AccessRefused, &explanation.to_string())
    }

    /// 404.
    pub fn not_found(explanation: impl Display) -> Self {
        Self::new(ReplyCode::NotFound, &explanation.to_string())
    }

    /// 406.
    pub fn precondition_failed(explanation: impl Display) -> Self {
        Self::new(ReplyCode::PreconditionFailed, &explanation.to_string())
    }

    /// 530.
    pub fn not_allowed(explanation: impl Display) -> Self {
        Self::new(ReplyCode::NotAllowed, &explanation.to_string())
    }

    /// 540, for instance `immediate=true`.
    pub fn not_implemented(explanation: impl Display) -> Self {
        Self::new(ReplyCode::NotImplemented, &explanation.to_string())
    }

    /// 541: the broker failed. Clients are not told how.
    pub fn internal_error() -> Self {
        Self::new(ReplyCode::InternalError, "")
    }

    /// 541, RabbitMQ's code for what the configuration denies.
    pub fn denied_feature(feature: DeprecatedFeature) -> Self {
        Self::new(ReplyCode::InternalError, &feature.denied_explanation())
    }

    /// 320: the broker stops, an operator wants it, or the virtual host is gone.
    pub fn connection_forced(explanation: impl Display) -> Self {
        Self::new(ReplyCode::ConnectionForced, &explanation.to_string())
    }

    /// A method that only the broker sends, or that channels do not have.
    pub fn unexpected_method(_method: &AMQPClass) -> Self {
        Self::new(ReplyCode::CommandInvalid, "unimplemented method")
    }

    /// A method on channel 0 that is not due in this state of the connection, for instance `running`.
    pub fn unexpected_method_in_state(_method: &AMQPClass, state: &str) -> Self {
        Self::new(
            ReplyCode::ChannelError,
            &format!("unexpected method in connection state {state}"),
        )
    }

    /// A channel is used before it was opened.
    pub fn channel_not_open() -> Self {
        Self::new(ReplyCode::ChannelError, "expected 'channel.open'")
    }

    /// A channel is opened twice.
    pub fn second_channel_open() -> Self {
        Self::new(ReplyCode::ChannelError, "second 'channel.open' seen")
    }

    /// More channels than negotiated, or a number above.
    pub fn too_many_channels(number: u16, channel_max: u16) -> Self {
        let explanation = format!(
            "number of channels opened ({number}) has reached the negotiated channel_max ({channel_max})"
        );
        Self::framing(ReplyCode::NotAllowed, &explanation)
    }

    /// connection.open of a virtual host that does not exist.
    pub fn vhost_not_found(vhost: &str) -> Self {
        Self::not_allowed(format_args!("vhost {vhost} not found"))
    }
}

/// Messages and consumers.
impl AmqpError {
    /// A message that is larger than the broker takes.
    pub fn message_too_large(size: u64, size_max: u64) -> Self {
        let configured = if size_max < crate::config::MESSAGE_SIZE_BYTES_MAX {
            "configured "
        } else {
            ""
        };
        let explanation =
            format!("message size {size} is larger than {configured}max size {size_max}");
        Self::publishing(ReplyCode::PreconditionFailed, &explanation)
    }

    /// The queue does not exist, or no longer.
    pub fn queue_not_found(name: &str, vhost: &str) -> Self {
        Self::not_found(format_args!("no queue '{name}' in vhost '{vhost}'"))
    }

    /// Exclusive consumption was asked for or exists.
    pub fn exclusive_use(name: &str, vhost: &str) -> Self {
        Self::access_refused(format_args!(
            "queue '{name}' in vhost '{vhost}' in exclusive use"
        ))
    }

    /// A client publishes to an internal exchange.
    pub fn internal_exchange(name: &str, vhost: &str) -> Self {
        let explanation =
            format!("cannot publish to internal exchange '{name}' in vhost '{vhost}'");
        Self::publishing(ReplyCode::AccessRefused, &explanation)
    }

    /// The user-id property names somebody else.
    pub fn user_id_mismatch(claimed: &str, user: &str) -> Self {
        let explanation =
            format!("user_id property set to '{claimed}' but authenticated user was '{user}'");
        Self::publishing(ReplyCode::PreconditionFailed, &explanation)
    }

    /// The expiration property is no number of milliseconds. `reason` is an Erlang term.
    pub fn invalid_expiration(value: &str, reason: &str) -> Self {
        let explanation = format!("invalid expiration '{value}': {reason}");
        Self::publishing(ReplyCode::PreconditionFailed, &explanation)
    }

    /// basic.ack, nack or reject of a delivery that is not outstanding.
    pub fn unknown_delivery_tag(delivery_tag: u64) -> Self {
        Self::precondition_failed(format_args!("unknown delivery tag {delivery_tag}"))
    }

    /// A consumer tag that the channel uses already.
    pub fn consumer_tag_in_use(consumer_tag: &str) -> Self {
        Self::not_allowed(format_args!(
            "attempt to reuse consumer tag '{consumer_tag}'"
        ))
    }

    /// `x-priority` of a consumer of `queue` is no integer.
    pub fn invalid_consumer_priority(value: &AMQPValue, queue: Resource) -> Self {
        let reason = format!("\"expected integer, got {}\"", term::type_name(value));
        Error::InvalidArgument {
            argument: "x-priority",
            resource: queue,
            reason,
        }
        .into()
    }
}

/// The further routing keys in the header `name` (CC or BCC) of a message.
///
/// # Errors
/// 406 when it is not an array.
pub fn copy_keys(headers: &FieldTable, name: &'static str) -> Result<Vec<String>, AmqpError> {
    Ok(sender_selected::keys(headers, name)?)
}

/// The milliseconds in an expiration property.
///
/// # Errors
/// 406 when it is no number or out of range.
pub fn parse_expiration(value: &str) -> Result<u64, AmqpError> {
    Ok(expiration::parse(value)?)
}

impl From<Error> for AmqpError {
    /// The table: which reply code a refusal of the broker has.
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::NotFound(_) => ReplyCode::NotFound,
            Error::Locked(_) => ReplyCode::ResourceLocked,
            Error::ExclusiveUse(_)
            | Error::ReservedName(_)
            | Error::SystemExchange(_)
            | Error::DefaultExchange
            | Error::InternalExchange(_) => ReplyCode::AccessRefused,
            Error::Inequivalent { .. }
            | Error::InUse(_)
            | Error::NotEmpty(_)
            | Error::InvalidArgument { .. }
            | Error::UnsupportedArgument { .. }
            | Error::InvalidArgumentType { .. }
            | Error::InvalidProperty { .. }
            | Error::ServerNamedQueue(_)
            | Error::InvalidStreamArgument(_)
            | Error::UnknownExchangeType(_)
            | Error::InvalidBinding(_)
            | Error::InvalidSenderSelectedHeader { .. }
            | Error::InvalidExpiration { .. } => ReplyCode::PreconditionFailed,
            Error::ConditionNotSupported { .. } => ReplyCode::NotImplemented,
            Error::VHostDeleted(_) => ReplyCode::ConnectionForced,
        };
        Self::new(code, &error.to_string())
    }
}

impl From<AccessRefused> for AmqpError {
    fn from(refused: AccessRefused) -> Self {
        Self::access_refused(refused)
    }
}

impl From<VHostRefused> for AmqpError {
    fn from(refused: VHostRefused) -> Self {
        Self::not_allowed(refused)
    }
}

impl Display for AmqpError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl std::error::Error for AmqpError {}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use amq_protocol::protocol::channel;

    use super::*;
    use crate::broker::names::Resource;

    fn vhost() -> Arc<str> {
        "/".into()
    }

    fn check(error: &AmqpError, code: u16, scope: Scope, offender: (u16, u16), text: &str) {
        assert_eq!(error.text(), text);
        assert_eq!((error.code(), error.scope()), (code, scope), "{text}");
        assert_eq!(error.ids((50, 10)), offender, "{text}");
    }

    /// Texts, codes and offenders were read from a running RabbitMQ.
    #[test]
    fn protocol_errors_have_rabbitmqs_codes_and_texts() {
        use Scope::{Channel, Connection};
        let (framing, publish, current) = ((0, 0), (60, 40), (50, 10));
        let method = AMQPClass::Channel(channel::AMQPMethod::OpenOk(channel::OpenOk {}));
        let frame = |kind, payload| frame::Frame {
            kind,
            channel: 0,
            payload,
        };
        let bad_end = FrameError::BadEnd {
            found: 0,
            kind: 1,
            octets: vec![0, 20, 0, 10, 0],
        };
        let too_large = FrameError::TooLarge {
            size: 200_000,
            limit: 131_072,
            kind: 1,
            octets: vec![1],
        };
        #[rustfmt::skip]
        let cases = [
            (AmqpError::from_frame(&bad_end), 501, Connection, framing,
             "FRAME_ERROR - type 1, all octets = <<0,20,0,10,0>>: {invalid_frame_end_marker,0}"),
            (AmqpError::from_frame(&too_large), 501, Connection, framing,
             "FRAME_ERROR - type 1, all octets = <<>>: {frame_too_large,200000,131064}"),
            (AmqpError::unknown_frame(&frame(9, b"abc")), 501, Connection, framing,
             "FRAME_ERROR - type 9, all octets = <<\"abc\">>: unknown_frame"),
            (AmqpError::unexpected_frame(&frame(8, b"")), 505, Connection, framing,
             "UNEXPECTED_FRAME - type 8, all octets = <<>>"),
            (AmqpError::unexpected_frame(&frame(2, b"abcdefghijklmnopqrst")), 505, Connection, framing,
             "UNEXPECTED_FRAME - type 2, first 16 octets = <<\"abcdefghijklmnop\">>"),
            (AmqpError::expected_method_frame(), 505, Connection, framing,
             "UNEXPECTED_FRAME - expected method frame, got non method frame instead"),
            (AmqpError::expected_content_header(true), 505, Connection, publish,
             "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead"),
            (AmqpError::wrong_content_class(50), 505, Connection, publish,
             "UNEXPECTED_FRAME - expected content header for class 60, got one for class 50 instead"),
            (AmqpError::expected_content_body(false), 505, Connection, publish,
             "UNEXPECTED_FRAME - expected content body, got non content body frame instead"),
            (AmqpError::malformed_utf8(), 501, Connection, framing,
             "FRAME_ERROR - Malformed UTF-8 in shortstr"),
            (AmqpError::channel_not_open(), 504, Connection, current,
             "CHANNEL_ERROR - expected 'channel.open'"),
            (AmqpError::second_channel_open(), 504, Connection, current,
             "CHANNEL_ERROR - second 'channel.open' seen"),
            (AmqpError::unexpected_method_in_state(&method, "running"), 504, Connection, current,
             "CHANNEL_ERROR - unexpected method in connection state running"),
            (AmqpError::unexpected_method(&method), 503, Connection, current,
             "COMMAND_INVALID - unimplemented method"),
            (AmqpError::too_many_channels(2, 2), 530, Connection, framing,
             "NOT_ALLOWED - number of channels opened (2) has reached the negotiated channel_max (2)"),
            (AmqpError::vhost_not_found("nope"), 530, Connection, current,
             "NOT_ALLOWED - vhost nope not found"),
            (AmqpError::consumer_tag_in_use("t"), 530, Connection, current,
             "NOT_ALLOWED - attempt to reuse consumer tag 't'"),
            (AmqpError::not_implemented("immediate=true"), 540, Connection, current,
             "NOT_IMPLEMENTED - immediate=true"),
            (AmqpError::internal_error(), 541, Connection, current, "INTERNAL_ERROR"),
            (AmqpError::unknown_delivery_tag(7), 406, Channel, current,
             "PRECONDITION_FAILED - unknown delivery tag 7"),
            (AmqpError::invalid_expiration("abc", "no_integer"), 406, Channel, publish,
             "PRECONDITION_FAILED - invalid expiration 'abc': no_integer"),
            (AmqpError::user_id_mismatch("abc", "guest"), 406, Channel, publish,
             "PRECONDITION_FAILED - user_id property set to 'abc' but authenticated user was 'guest'"),
            (AmqpError::message_too_large(20, 10), 406, Channel, publish,
             "PRECONDITION_FAILED - message size 20 is larger than configured max size 10"),
            (AmqpError::not_found("no previously declared queue"), 404, Channel, current,
             "NOT_FOUND - no previously declared queue"),
        ];
        for (error, code, scope, offender, text) in &cases {
            check(error, *code, *scope, *offender, text);
        }
    }

    #[test]
    fn refusals_of_the_broker_have_rabbitmqs_codes() {
        let queue = || Resource::queue(&vhost(), "q");
        let cases = [
            (
                Error::NotFound(queue()),
                404,
                "NOT_FOUND - no queue 'q' in vhost '/'",
            ),
            (
                Error::DefaultExchange,
                403,
                "ACCESS_REFUSED - operation not permitted on the default exchange",
            ),
            (
                Error::InUse(queue()),
                406,
                "PRECONDITION_FAILED - queue 'q' in vhost '/' in use",
            ),
            (
                Error::UnknownExchangeType("foo".into()),
                406,
                "PRECONDITION_FAILED - unknown exchange type 'foo'",
            ),
            (
                Error::InvalidArgument {
                    argument: "x-message-ttl",
                    resource: queue(),
                    reason: "{value_negative,-1}".into(),
                },
                406,
                "PRECONDITION_FAILED - invalid arg 'x-message-ttl' for queue 'q' in vhost '/': {value_negative,-1}",
            ),
            (
                Error::Locked(queue()),
                405,
                "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be \
                 originally declared on another connection or the exclusive property value does not match that of the \
                 original declaration.",
            ),
        ];
        for (error, code, text) in cases {
            check(&error.into(), code, Scope::Channel, (50, 10), text);
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let text = |name: &str| {
            AmqpError::from(Error::NotFound(Resource::queue(&vhost(), name)))
                .text()
                .to_owned()
        };
        let ascii = text(&"n".repeat(255));
        assert_eq!(ascii.len(), 255);
        assert!(ascii.ends_with("nnn..."));
        for padding in 0..4 {
            let cut = text(&format!("{}{}", "a".repeat(padding), "é€".repeat(50)));
            assert!((250..=255).contains(&cut.len()), "{} bytes", cut.len());
            assert!(cut.ends_with("..."));
        }
        assert!(!text(&"n".repeat(200)).ends_with("..."));
    }
}
