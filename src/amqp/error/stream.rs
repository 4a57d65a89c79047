//! What streams refuse, in the words of RabbitMQ 4.3 (`rabbit_stream_queue`, `rabbit_channel`).

use amq_protocol::types::AMQPValue;

use super::AmqpError;
use crate::broker::arguments::term::{self, Term};
use crate::broker::error::Error;
use crate::broker::names::Resource;
use crate::broker::queue::Queue;

fn resource(queue: &Queue) -> Resource {
    Resource::queue(&queue.spec.vhost, &queue.spec.name)
}

impl AmqpError {
    /// A method that makes no sense for a stream, for instance `basic.get`.
    pub fn not_supported_by_stream(method: &str, queue: &Queue) -> Self {
        let queue = resource(queue);
        Self::not_implemented(format_args!(
            "{method} not supported by stream queues {queue}"
        ))
    }

    /// A consumer of a stream needs a prefetch.
    pub fn stream_without_prefetch(queue: &Queue) -> Self {
        let queue = resource(queue);
        Self::precondition_failed(format_args!(
            "consumer prefetch count is not set for stream {queue}"
        ))
    }

    /// A consumer of a stream has to acknowledge.
    pub fn stream_without_acknowledgements(queue: &Queue) -> Self {
        let queue = resource(queue);
        Self::not_implemented(format_args!(
            "automatic acknowledgement not supported by stream {queue}"
        ))
    }

    /// A stream does not know the window of a channel.
    pub fn stream_with_global_qos(queue: &Queue) -> Self {
        Self::not_implemented(format_args!(
            "{} does not support global qos",
            resource(queue)
        ))
    }

    /// `x-stream-offset` means nothing.
    pub fn invalid_stream_offset(value: &AMQPValue, queue: &Queue) -> Self {
        let reason = format!(
            "{{invalid_stream_offset_arg,{{{},{}}}}}",
            term::type_name(value),
            Term(value)
        );
        Error::InvalidArgument {
            argument: "x-stream-offset",
            resource: resource(queue),
            reason,
        }
        .into()
    }
}
