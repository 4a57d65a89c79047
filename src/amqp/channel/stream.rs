//! Consumers of streams: what they must ask for, and what their arguments mean.

use std::sync::Arc;

use amq_protocol::protocol::basic;
use amq_protocol::types::{AMQPValue, FieldTable};

use super::Channel;
use crate::amqp::error::AmqpError;
use crate::amqp::session::Session;
use crate::broker::arguments::term;
use crate::broker::delivery::DeliverySink;
use crate::broker::queue::{Filter, Queue, ReaderSpec, StartAt};

/// How a consumer of a stream wants to read.
pub(super) struct Reading {
    start: StartAt,
    filter: Option<Filter>,
    tracked: bool,
}

impl Reading {
    /// The consumer with its sink and tag.
    pub(super) fn spec(
        self,
        sink: Arc<dyn DeliverySink>,
        prefetch: u32,
        consumer_tag: &Arc<str>,
    ) -> ReaderSpec {
        ReaderSpec {
            sink,
            prefetch,
            start: self.start,
            filter: self.filter,
            track: self.tracked.then(|| consumer_tag.clone()),
        }
    }
}

impl Channel {
    /// What a consumer of a stream asks for.
    ///
    /// # Errors
    /// As RabbitMQ words it: an offset that means nothing or no prefetch (406), automatic acknowledgement or a window
    /// for the whole channel (540).
    pub(super) fn check_stream_consumer(
        &self,
        session: &Session,
        consume: &basic::Consume,
        queue: &Queue,
    ) -> Result<Reading, AmqpError> {
        let arguments = &consume.arguments;
        let offset = arguments.inner().get("x-stream-offset");
        let start = match offset {
            None => StartAt::Next,
            Some(value) => StartAt::from_value(value)
                .ok_or_else(|| AmqpError::invalid_stream_offset(value, queue))?,
        };
        if self.prefetch == 0 {
            return Err(AmqpError::stream_without_prefetch(queue));
        }
        if consume.no_ack {
            return Err(AmqpError::stream_without_acknowledgements(queue));
        }
        let shared_window = match session.outbox.lock().split(self.number) {
            Some((_, deliveries)) => deliveries.window_left() != usize::MAX,
            None => false,
        };
        if shared_window {
            return Err(AmqpError::stream_with_global_qos(queue));
        }
        Ok(Reading {
            start,
            filter: filter(arguments),
            tracked: is_tracked(consume, offset.is_some()),
        })
    }
}

/// `x-stream-filter`, a string or an array of strings, with `x-stream-match-unfiltered`. Anything else filters nothing,
/// as in RabbitMQ.
fn filter(arguments: &FieldTable) -> Option<Filter> {
    let values = match arguments.inner().get("x-stream-filter")? {
        AMQPValue::FieldArray(values) => values.as_slice(),
        value @ AMQPValue::LongString(_) => std::slice::from_ref(value),
        _ => return None,
    };
    let texts = values.iter().filter_map(term::bytes).map(<[u8]>::to_vec);
    let unfiltered = arguments.inner().get("x-stream-match-unfiltered");
    let match_unfiltered = unfiltered.and_then(AMQPValue::as_bool).unwrap_or(false);
    Some(Filter::new(texts, match_unfiltered))
}

/// Whether the broker remembers how far the consumer has come: if the client chose the tag and no offset, or asks for
/// it (`x-stream-automatic-offset-tracking`, as LavinMQ).
fn is_tracked(consume: &basic::Consume, has_offset: bool) -> bool {
    let tag = consume.consumer_tag.as_str();
    let asked = consume
        .arguments
        .inner()
        .get("x-stream-automatic-offset-tracking")
        .and_then(AMQPValue::as_bool);
    let is_named = !tag.is_empty() && !tag.starts_with("amq.ctag-");
    is_named && asked.unwrap_or(!has_offset)
}
