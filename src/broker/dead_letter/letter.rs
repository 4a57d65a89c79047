//! A dead letter: the message that died with another exchange and key, its history in the headers, and without its
//! expiration (semantics rows 36-40).

use std::sync::Arc;

use amq_protocol::types::AMQPValue;
use bytes::Bytes;

use super::deaths::{Death, Deaths};
use crate::broker::exchange::TRACE_EXCHANGE;
use crate::broker::firehose::{self, Traced};
use crate::broker::queue::{Dead, DeadLetter, Queue};
use crate::broker::vhost::VHost;
use crate::message::field;
use crate::message::properties::{Properties, Rewrite};
use crate::message::record::{Body, NewMessage, RecordRef};

/// What goes to the dead-letter exchange.
pub(super) struct Letter<'a> {
    dead: &'a Dead,
    record: RecordRef<'a>,
    exchange: &'a str,
    /// Routing keys; the first one is the message's own.
    pub(super) keys: Vec<String>,
    pub(super) deaths: Deaths,
    annotations: Vec<u8>,
    properties: Vec<u8>,
}

impl<'a> Letter<'a> {
    /// `None`: the record is damaged, which its checks when it was read rule out.
    pub(super) fn new(
        dead: &'a Dead,
        queue: &str,
        settings: &'a DeadLetter,
        now_ms: u64,
    ) -> Option<Self> {
        let record = dead.message.record()?;
        let properties = Properties::read(record.properties()).ok()?;
        let mut deaths = Deaths::read(record.annotations());
        let mut keys = vec![String::from_utf8_lossy(record.routing_key()).into_owned()];
        if !deaths.copies_dropped {
            keys.extend(copies(&properties));
        }
        deaths.add(Death {
            queue: queue.into(),
            reason: dead.reason,
            count: 1,
            time_ms: now_ms,
            exchange: record.exchange().to_vec(),
            routing_keys: keys.iter().map(|key| key.as_bytes().to_vec()).collect(),
            original_expiration: properties.expiration.map(<[u8]>::to_vec),
        });
        if let Some(routing_key) = &settings.routing_key {
            keys = vec![routing_key.as_ref().to_owned()];
            deaths.copies_dropped = true;
        }
        Some(Self {
            dead,
            record,
            exchange: &settings.exchange,
            keys,
            properties: rewritten(record.properties(), &deaths)?,
            annotations: deaths.encode(),
            deaths,
        })
    }

    /// Copies it to the firehose: it died in `queue` and goes to these queues.
    pub(super) fn trace(&self, vhost: &VHost, queue: &str, targets: &[Arc<Queue>]) {
        if self.record.exchange() == TRACE_EXCHANGE.as_bytes() {
            return;
        }
        let message = self.message();
        let traced = Traced {
            exchange: message.exchange,
            routing_key: message.routing_key,
            properties: &self.properties,
            body: match &self.dead.message.body {
                Some(body) => body.bytes.clone(),
                None => Bytes::copy_from_slice(self.record.inline_body()),
            },
        };
        let targets = targets.iter().map(|queue| &*queue.spec.name);
        firehose::dead_lettered(vhost, traced, queue, self.dead.reason, targets);
    }

    /// The message as it enters its next queue.
    pub(super) fn message(&self) -> NewMessage<'_> {
        NewMessage {
            exchange: self.exchange.as_bytes(),
            routing_key: self.keys.first().map_or(&[], String::as_bytes),
            properties: &self.properties,
            annotations: &self.annotations,
            body: match &self.dead.message.body {
                Some(body) => Body::Shared(body.clone()),
                None => Body::Inline(self.record.inline_body()),
            },
            persistent: self.record.is_persistent(),
            priority: self.record.priority(),
            expiry_ms: 0,
        }
    }
}

/// The keys in the CC header; BCC was taken out when the message was published.
fn copies(properties: &Properties<'_>) -> Vec<String> {
    let headers = properties.decode_headers().ok().flatten();
    let Some(AMQPValue::FieldArray(keys)) =
        headers.and_then(|headers| headers.inner().get("CC").cloned())
    else {
        return Vec::new();
    };
    let texts = keys.as_slice().iter().filter_map(AMQPValue::as_long_string);
    texts
        .map(|key| String::from_utf8_lossy(key.as_bytes()).into_owned())
        .collect()
}

fn rewritten(properties: &[u8], deaths: &Deaths) -> Option<Vec<u8>> {
    let text = |bytes: &[u8]| {
        let mut value = Vec::new();
        field::put_long_string(&mut value, bytes);
        value
    };
    let (first_reason, first_queue, first_exchange) = deaths.first.as_ref()?;
    let last = deaths.entries.first()?;
    let values = [
        (&b"x-death"[..], deaths.header()),
        (b"x-first-death-exchange", text(first_exchange)),
        (b"x-first-death-queue", text(first_queue.as_bytes())),
        (
            b"x-first-death-reason",
            text(first_reason.name().as_bytes()),
        ),
        (b"x-last-death-exchange", text(&deaths.last_exchange)),
        (b"x-last-death-queue", text(last.queue.as_bytes())),
        (b"x-last-death-reason", text(last.reason.name().as_bytes())),
    ];
    let headers: Vec<(&[u8], Option<&[u8]>)> = values
        .iter()
        .map(|(name, value)| (*name, Some(value.as_slice())))
        .collect();
    Rewrite {
        remove_expiration: true,
        headers: &headers,
        ..Rewrite::default()
    }
    .apply(properties)
    .ok()
}
