//! Bytes that are no frame, frames that are not due, and what cannot be decoded.

use super::{AmqpError, Offender, REPLY_TEXT_BYTES_MAX, ReplyCode};
use crate::amqp::frame::{self, FrameError, OVERHEAD_BYTES};
use crate::amqp::octets::{Numbers, Snippet};

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
