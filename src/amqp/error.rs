//! Errors on the wire: the one place where reply codes, scopes and texts come from.
//!
//! Everything that is refused, in the broker or here, becomes an [`AmqpError`]: a reply code, which decides whether the
//! channel or the connection dies (AMQP 0-9-1, "constants"), and the explanation. The wire carries
//! `NAME - explanation` in a short string.
//!
//! - [`reply_code`]: the codes and what they end.
//! - [`framing`]: bytes and frames that are wrong.
//! - [`refusals`]: what the broker refuses, messages and consumers. [`stream`]: what streams refuse.

mod framing;
mod refusals;
mod reply_code;
mod stream;
#[cfg(test)]
mod tests;

use std::fmt::{self, Display};

use amq_protocol::protocol::AMQPClass;

use crate::config::DeprecatedFeature;

pub use self::refusals::{copy_keys, parse_expiration};
pub use self::reply_code::{ReplyCode, Scope};

/// A short string holds this many bytes.
const REPLY_TEXT_BYTES_MAX: usize = 255;

/// What replaces the end of a text that is too long.
const ELLIPSIS: &str = "...";

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

    /// More channels than the user may have.
    pub fn user_channel_limit(user: &str, limit: u64) -> Self {
        let explanation = format!(
            "number of channels opened for user '{user}' has reached the maximum allowed user limit of ({limit})"
        );
        Self::framing(ReplyCode::NotAllowed, &explanation)
    }

    /// More channels than the node may have.
    pub fn node_channel_limit(node: &str, limit: u64) -> Self {
        let explanation = format!(
            "number of channels opened on node '{node}' has reached the maximum allowed limit of ({limit})"
        );
        Self::framing(ReplyCode::NotAllowed, &explanation)
    }

    /// connection.open of a virtual host that does not exist.
    pub fn vhost_not_found(vhost: &str) -> Self {
        Self::not_allowed(format_args!("vhost {vhost} not found"))
    }
}

impl Display for AmqpError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl std::error::Error for AmqpError {}

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
