//! Why the broker refuses: typed for the callers, worded as RabbitMQ words it for the clients.
//!
//! The text of an error is the explanation that follows the name of the reply code on the wire. Which code it is and
//! whether a channel or a connection dies is the protocol's business (`amqp::error` for AMQP 0-9-1).

use std::sync::Arc;

use thiserror::Error;

use super::arguments::QueueType;
use super::names::{NAME_BYTES_MAX, Resource};
use super::policy::PolicyKind;
use super::vhost::{PARAMETER_BYTES_MAX, PARAMETER_NAME_BYTES_MAX};

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// The queue or exchange does not exist.
    #[error("no {0}")]
    NotFound(Resource),

    /// It exists and differs from what is declared now.
    #[error(
        "inequivalent arg '{argument}' for {resource}: received {received} but current is {current}"
    )]
    Inequivalent {
        /// The property or argument that differs.
        argument: &'static str,
        /// Whose.
        resource: Resource,
        /// What was asked for, worded.
        received: String,
        /// What it was declared with, worded.
        current: String,
    },

    /// An exclusive queue of another connection, or one declared with another exclusive flag.
    #[error(
        "cannot obtain exclusive access to locked {0}. It could be originally declared on another connection or the \
         exclusive property value does not match that of the original declaration."
    )]
    Locked(Resource),

    /// Exclusive consumption was asked for or exists.
    #[error("{0} in exclusive use")]
    ExclusiveUse(Resource),

    /// A name that only the broker may create.
    #[error("{} name '{}' contains reserved prefix 'amq.*'", .0.kind, .0.name)]
    ReservedName(Resource),

    /// A predeclared exchange, or one that would be named like it, cannot be deleted.
    #[error("deletion of system {0} not allowed")]
    SystemExchange(Resource),

    /// The pseudo-queue of direct reply-to, and the addresses of its consumers, cannot be bound.
    #[error("{0} cannot be bound")]
    ReplyQueue(Resource),

    /// The default exchange cannot be declared, deleted or bound.
    #[error("operation not permitted on the default exchange")]
    DefaultExchange,

    /// Clients cannot publish to an internal exchange.
    #[error("cannot publish to internal {0}")]
    InternalExchange(Resource),

    /// Deletion on condition that it is unused.
    #[error("{0} in use")]
    InUse(Resource),

    /// Deletion on condition that it is empty.
    #[error("{0} not empty")]
    NotEmpty(Resource),

    /// Quorum queues are not deleted on conditions.
    #[error(
        "cannot delete {resource}. queue.delete operations with {flag} flag set are not supported by quorum queues"
    )]
    ConditionNotSupported {
        /// Which queue.
        resource: Resource,
        /// `if-empty` or `if-unused`.
        flag: &'static str,
    },

    /// An argument of a declaration has a value that does not fit.
    #[error("invalid arg '{argument}' for {resource}: {reason}")]
    InvalidArgument {
        /// Which argument.
        argument: &'static str,
        /// Of what.
        resource: Resource,
        /// What is wrong, as an Erlang term.
        reason: String,
    },

    /// An argument that exists, but not for queues of this type.
    #[error("invalid arg '{argument}' for {resource} of queue type {}", queue_type.module())]
    UnsupportedArgument {
        /// Which argument.
        argument: &'static str,
        /// Of which queue.
        resource: Resource,
        /// The type that does not have it.
        queue_type: QueueType,
    },

    /// An argument that names an exchange is not a string.
    #[error("invalid type '{found}' for arg '{argument}' in {resource}")]
    InvalidArgumentType {
        /// Which argument.
        argument: &'static str,
        /// Of what.
        resource: Resource,
        /// The AMQP type that was found, in RabbitMQ's words.
        found: &'static str,
    },

    /// A property that queues of this type cannot have.
    #[error("invalid property '{property}' for {resource}")]
    InvalidProperty {
        /// Which property.
        property: &'static str,
        /// Of which queue.
        resource: Resource,
    },

    /// A queue of this type needs a name from the client.
    #[error("Cannot declare a server-named queue for type {}", .0.module())]
    ServerNamedQueue(QueueType),

    /// An argument of a stream is out of its range; the text is complete.
    #[error("{0}")]
    InvalidStreamArgument(&'static str),

    /// There is no such exchange type.
    #[error("unknown exchange type '{0}'")]
    UnknownExchangeType(Arc<str>),

    /// Arguments that the exchange's type refuses; the text is complete.
    #[error("{0}")]
    InvalidExchange(String),

    /// A binding that the exchange's type refuses; the text is complete.
    #[error("{0}")]
    InvalidBinding(String),

    /// The header that lists further routing keys is not an array.
    #[error("invalid message: {{unacceptable_type_in_header,\"{header}\",{found}}}")]
    InvalidSenderSelectedHeader {
        /// CC or BCC.
        header: &'static str,
        /// The AMQP type that was found, in RabbitMQ's words.
        found: &'static str,
    },

    /// The expiration property is no number of milliseconds in range.
    #[error("invalid expiration '{value}': {reason}")]
    InvalidExpiration {
        /// The property as it came.
        value: String,
        /// What is wrong, as an Erlang term.
        reason: String,
    },

    /// The virtual host has as many queues as it may have.
    #[error("cannot declare queue '{queue}': queue limit in vhost '{vhost}' ({limit}) is reached")]
    QueueLimit {
        /// The queue that is one too many.
        queue: Arc<str>,
        /// The virtual host.
        vhost: Arc<str>,
        /// Its `max-queues`.
        limit: u64,
    },

    /// The node has as many queues as it may have.
    #[error("cannot declare queue '{queue}': queue limit in cluster ({limit}) is reached")]
    NodeQueueLimit {
        /// The queue that is one too many.
        queue: Arc<str>,
        /// `cluster_queue_limit`.
        limit: u64,
    },

    /// The node has as many exchanges as it may have.
    #[error("cannot declare {exchange}: exchange limit of {limit} is reached")]
    NodeExchangeLimit {
        /// The exchange that is one too many.
        exchange: Resource,
        /// `cluster_exchange_limit`.
        limit: u64,
    },

    /// The node has as many virtual hosts as it may have.
    #[error("cannot create vhost '{vhost}': vhost limit of {limit} is reached")]
    VHostLimit {
        /// The virtual host that is one too many.
        vhost: Arc<str>,
        /// `vhost_max`.
        limit: u64,
    },

    /// A parameter that cannot be stored.
    #[error(
        "the names of a parameter should have 1 to {} bytes, its value up to {} as JSON",
        PARAMETER_NAME_BYTES_MAX,
        PARAMETER_BYTES_MAX
    )]
    InvalidParameter,

    /// The virtual host is not to be deleted.
    #[error("vhost '{0}' is protected from deletion")]
    ProtectedVHost(Arc<str>),

    /// A stream gives no messages away, and a queue none to itself.
    #[error("messages of {0} cannot be moved there")]
    CannotMove(Resource),

    /// A routing key that no message can have.
    #[error("a routing key should have up to {} bytes", NAME_BYTES_MAX)]
    RoutingKeyTooLong,

    /// An argument of a queue that is there cannot become another one.
    #[error("arg '{argument}' of {resource} cannot be changed: {reason}")]
    CannotChange {
        /// Which argument.
        argument: &'static str,
        /// Of which queue.
        resource: Resource,
        /// Why.
        reason: &'static str,
    },

    /// There is no such policy to delete.
    #[error("{kind} '{name}' in vhost '{vhost}' does not exist")]
    NoSuchPolicy {
        /// A user's or an operator's.
        kind: PolicyKind,
        /// Its name.
        name: Arc<str>,
        /// The virtual host.
        vhost: Arc<str>,
    },

    /// The virtual host was deleted while connections were in it.
    #[error("vhost '{0}' is deleted")]
    VHostDeleted(Arc<str>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_worded_as_in_rabbitmq() {
        let vhost: Arc<str> = "/".into();
        let queue = || Resource::queue(&vhost, "q");
        let cases = [
            (Error::NotFound(queue()), "no queue 'q' in vhost '/'"),
            (
                Error::NotFound(Resource::exchange(&vhost, "x")),
                "no exchange 'x' in vhost '/'",
            ),
            (
                Error::Locked(queue()),
                "cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be originally declared on \
                 another connection or the exclusive property value does not match that of the original declaration.",
            ),
            (
                Error::ExclusiveUse(queue()),
                "queue 'q' in vhost '/' in exclusive use",
            ),
            (
                Error::ReservedName(Resource::exchange(&vhost, "amq.new")),
                "exchange name 'amq.new' contains reserved prefix 'amq.*'",
            ),
            (
                Error::SystemExchange(Resource::exchange(&vhost, "amq.direct")),
                "deletion of system exchange 'amq.direct' in vhost '/' not allowed",
            ),
            (
                Error::DefaultExchange,
                "operation not permitted on the default exchange",
            ),
            (
                Error::InternalExchange(Resource::exchange(&vhost, "x")),
                "cannot publish to internal exchange 'x' in vhost '/'",
            ),
            (Error::InUse(queue()), "queue 'q' in vhost '/' in use"),
            (Error::NotEmpty(queue()), "queue 'q' in vhost '/' not empty"),
            (
                Error::UnsupportedArgument {
                    argument: "x-max-priority",
                    resource: queue(),
                    queue_type: QueueType::Quorum,
                },
                "invalid arg 'x-max-priority' for queue 'q' in vhost '/' of queue type rabbit_quorum_queue",
            ),
            (
                Error::InvalidArgumentType {
                    argument: "alternate-exchange",
                    resource: Resource::exchange(&vhost, "x"),
                    found: "signedint",
                },
                "invalid type 'signedint' for arg 'alternate-exchange' in exchange 'x' in vhost '/'",
            ),
            (
                Error::InvalidProperty {
                    property: "exclusive-owner",
                    resource: queue(),
                },
                "invalid property 'exclusive-owner' for queue 'q' in vhost '/'",
            ),
            (
                Error::ServerNamedQueue(QueueType::Stream),
                "Cannot declare a server-named queue for type rabbit_stream_queue",
            ),
            (
                Error::UnknownExchangeType("foo".into()),
                "unknown exchange type 'foo'",
            ),
            (
                Error::InvalidSenderSelectedHeader {
                    header: "CC",
                    found: "longstr",
                },
                "invalid message: {unacceptable_type_in_header,\"CC\",longstr}",
            ),
        ];
        for (error, text) in cases {
            assert_eq!(error.to_string(), text);
        }
    }
}
