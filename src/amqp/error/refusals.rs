//! What the broker refuses, and what is wrong with messages and consumers.

use amq_protocol::types::{AMQPValue, FieldTable};

use super::{AmqpError, ReplyCode};
use crate::auth::{AccessRefused, VHostRefused};
use crate::broker::arguments::{expiration, term};
use crate::broker::error::Error;
use crate::broker::exchange::sender_selected;
use crate::broker::names::Resource;

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

    /// A consumer held a delivery for too long, and its client has no `consumer_cancel_notify`.
    pub fn consumer_timed_out(channel: u16, timeout_ms: u64) -> Self {
        Self::precondition_failed(format_args!(
            "delivery acknowledgement on channel {channel} timed out. Timeout value used: {timeout_ms} ms. \
             This timeout value can be configured, see consumers doc guide to learn more"
        ))
    }

    /// `x-consumer-timeout` of a consumer is no number of milliseconds.
    pub fn invalid_consumer_timeout(queue: &Resource) -> Self {
        Self::precondition_failed(format_args!(
            "invalid arg 'x-consumer-timeout' for {queue}: expected a non-negative integer"
        ))
    }

    /// A client publishes to an internal exchange.
    pub fn internal_exchange(name: &str, vhost: &str) -> Self {
        let explanation =
            format!("cannot publish to internal exchange '{name}' in vhost '{vhost}'");
        Self::publishing(ReplyCode::AccessRefused, &explanation)
    }

    /// A request asks for a direct reply, and its channel has no consumer for it.
    pub fn reply_consumer_missing() -> Self {
        Self::publishing(
            ReplyCode::PreconditionFailed,
            "fast reply consumer does not exist",
        )
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

    /// The channel has as many consumers as it may have.
    pub fn too_many_consumers(limit: u64) -> Self {
        Self::not_allowed(format_args!(
            "reached maximum ({limit}) of consumers per channel"
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
            Error::NotFound(_) | Error::NoSuchPolicy { .. } => ReplyCode::NotFound,
            Error::Locked(_) => ReplyCode::ResourceLocked,
            Error::ExclusiveUse(_)
            | Error::ReservedName(_)
            | Error::SystemExchange(_)
            | Error::DefaultExchange
            | Error::ReplyQueue(_)
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
            | Error::InvalidExchange(_)
            | Error::QueueLimit { .. }
            | Error::NodeQueueLimit { .. }
            | Error::NodeExchangeLimit { .. }
            | Error::VHostLimit { .. }
            | Error::InvalidParameter
            | Error::CannotMove(_)
            | Error::RoutingKeyTooLong
            | Error::CannotChange { .. }
            | Error::ProtectedVHost(_)
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
