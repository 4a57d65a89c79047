//! What a peer did wrong during the handshake, and whether it is told.

use amq_protocol::protocol::AMQPClass;
use amq_protocol::protocol::connection::{AMQPMethod, Close};
use amq_protocol::types::ShortString;

use super::state::Stage;
use crate::amqp::frame::{Frame, FrameError, OVERHEAD_BYTES};
use crate::amqp::octets::{Numbers, Snippet};

/// A short string holds this many bytes (AMQP 0-9-1 section 4.2.5.3).
const REPLY_TEXT_BYTES_MAX: usize = 255;

/// The reply codes that end a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyCode {
    AccessRefused = 403,
    FrameError = 501,
    SyntaxError = 502,
    CommandInvalid = 503,
    ChannelError = 504,
    UnexpectedFrame = 505,
    NotAllowed = 530,
}

impl ReplyCode {
    fn name(self) -> &'static str {
        match self {
            Self::AccessRefused => "ACCESS_REFUSED",
            Self::FrameError => "FRAME_ERROR",
            Self::SyntaxError => "SYNTAX_ERROR",
            Self::CommandInvalid => "COMMAND_INVALID",
            Self::ChannelError => "CHANNEL_ERROR",
            Self::UnexpectedFrame => "UNEXPECTED_FRAME",
            Self::NotAllowed => "NOT_ALLOWED",
        }
    }
}

/// Class and method id of the method at fault; zero where none is.
pub(super) type Offender = (u16, u16);

/// A violation of the protocol or a refusal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Violation {
    pub(super) code: ReplyCode,
    /// For the log.
    reason: String,
    /// For the peer, if it is not to learn the reason.
    safe_reason: Option<String>,
    offender: Offender,
    /// Whether the peer gets connection.close. If not, it gets nothing but the end of the connection.
    pub(super) is_answered: bool,
    /// Whether the frames that follow can still be told apart.
    pub(super) is_in_sync: bool,
}

impl Violation {
    /// RabbitMQ answers a peer only once it has logged in: before that it waits and drops it. Limits that
    /// are out of bounds it means to answer in the stage before, but for an oversight does not; here they
    /// are.
    pub(super) fn new(stage: Stage, code: ReplyCode, reason: String, offender: Offender) -> Self {
        let is_answered = match stage {
            Stage::Header | Stage::Starting => false,
            Stage::Tuning => code == ReplyCode::NotAllowed,
            Stage::Opening => true,
        };
        Self {
            code,
            reason,
            safe_reason: None,
            offender,
            is_answered,
            is_in_sync: true,
        }
    }

    /// A failed login. The peer is told so if it has the capability `authentication_failure_close`, and in
    /// no case why.
    pub(super) fn login(reason: String, safe_reason: String, is_answered: bool) -> Self {
        Self {
            code: ReplyCode::AccessRefused,
            reason,
            safe_reason: Some(safe_reason),
            offender: (0, 0),
            is_answered,
            is_in_sync: true,
        }
    }

    /// Bytes that are no frame.
    pub(super) fn framing(stage: Stage, error: &FrameError) -> Self {
        let text = match error {
            FrameError::BadEnd {
                found,
                kind,
                octets,
            } => {
                let snippet = Snippet(octets);
                format!("type {kind}, {snippet}: {{invalid_frame_end_marker,{found}}}")
            }
            FrameError::TooLarge {
                size, limit, kind, ..
            } => {
                let limit = limit.saturating_sub(OVERHEAD_BYTES as u32);
                let snippet = Snippet(b"");
                format!("type {kind}, {snippet}: {{frame_too_large,{size},{limit}}}")
            }
        };
        Self {
            is_in_sync: false,
            ..Self::new(stage, ReplyCode::FrameError, text, (0, 0))
        }
    }

    /// A frame that is none of the protocol's.
    pub(super) fn unknown_frame(stage: Stage, frame: &Frame<'_>) -> Self {
        let text = format!(
            "type {}, {}: unknown_frame",
            frame.kind,
            Snippet(frame.payload)
        );
        Self::new(stage, ReplyCode::FrameError, text, (0, 0))
    }

    /// A frame that has no business in the handshake.
    pub(super) fn unexpected_frame(stage: Stage, frame: &Frame<'_>) -> Self {
        let text = format!("type {}, {}", frame.kind, Snippet(frame.payload));
        Self::new(stage, ReplyCode::UnexpectedFrame, text, (0, 0))
    }

    /// A method whose arguments cannot be read.
    pub(super) fn undecodable(stage: Stage, arguments: &[u8], offender: Offender) -> Self {
        let shown = &arguments[..arguments.len().min(REPLY_TEXT_BYTES_MAX)];
        let text = format!("cannot decode {}", Numbers(shown));
        Self::new(stage, ReplyCode::FrameError, text, offender)
    }

    /// The connection.close that says so.
    pub(super) fn close(&self) -> AMQPClass {
        let reason = self.safe_reason.as_ref().unwrap_or(&self.reason);
        let (class_id, method_id) = self.offender;
        AMQPClass::Connection(AMQPMethod::Close(Close {
            reply_code: self.code as u16,
            reply_text: reply_text(self.code, reason),
            class_id,
            method_id,
        }))
    }
}

/// `NAME - explanation`, cut between characters to what fits.
fn reply_text(code: ReplyCode, explanation: &str) -> ShortString {
    let mut text = format!("{} - {explanation}", code.name());
    let boundary = (0..=REPLY_TEXT_BYTES_MAX).rfind(|&end| text.is_char_boundary(end));
    if text.len() > REPLY_TEXT_BYTES_MAX {
        text.truncate(boundary.unwrap_or(0));
    }
    ShortString::try_new(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reply_texts_are_cut_between_characters() {
        for (explanation, bytes) in [
            ("x".repeat(300), 255),
            ("ü".repeat(300), 254),
            ("xü".repeat(200), 255),
            ("short".into(), 19),
        ] {
            let text = reply_text(ReplyCode::NotAllowed, &explanation).to_string();
            assert_eq!(text.len(), bytes);
            assert!(format!("NOT_ALLOWED - {explanation}").starts_with(&text));
        }
    }
}
