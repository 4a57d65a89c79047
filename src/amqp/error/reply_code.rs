//! The reply codes of close methods.

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
