//! `x-recent-history`: a message takes all bindings, and a new binding gets the latest messages at once.
//!
//! `x-recent-history-length` says how many are kept, 20 by default; a message whose header `x-recent-history-no-store`
//! is true is not kept. They are kept in memory, as in RabbitMQ: a restart forgets them.

use std::collections::VecDeque;

use amq_protocol::types::{AMQPValue, FieldTable};
use bytes::Bytes;
use parking_lot::Mutex;

use super::destinations::Destinations;
use super::{ExchangeType, Message, RoutingTable, any_binding};
use crate::broker::arguments::{expiration, term};
use crate::broker::binding::{Binding, Destination};
use crate::broker::error::Error;
use crate::message::BODY_SHARED_BYTES_MIN;
use crate::message::properties::Properties;
use crate::message::record::{Body, NewMessage, SharedBody};

pub(super) const TYPE: ExchangeType = ExchangeType {
    name: "x-recent-history",
    table: |arguments| {
        Box::new(RecentHistory {
            destinations: Destinations::default(),
            // What was declared was valid.
            history: Mutex::new(History::new(length(arguments).unwrap_or(LENGTH_DEFAULT))),
        })
    },
    validate: |arguments| length(arguments).map(drop),
    validate_binding: any_binding,
};

const LENGTH: &str = "x-recent-history-length";
const NO_STORE: &str = "x-recent-history-no-store";
const LENGTH_DEFAULT: usize = 20;

/// The messages that one exchange keeps take at most this much memory: beyond that the oldest go early, all but the
/// latest.
const HISTORY_BYTES_MAX: usize = 16 * 1024 * 1024;

struct RecentHistory {
    destinations: Destinations,
    history: Mutex<History>,
}

impl RoutingTable for RecentHistory {
    fn add(&mut self, binding: &Binding) {
        self.destinations.add(&binding.destination);
    }

    fn remove(&mut self, binding: &Binding) {
        self.destinations.remove(&binding.destination);
    }

    fn route(&self, message: &mut Message<'_>, found: &mut dyn FnMut(&Destination)) {
        let no_store = message.headers().inner().get(NO_STORE);
        if no_store != Some(&AMQPValue::Boolean(true)) {
            let kept = KeptMessage::new(message);
            self.history.lock().push(kept);
        }
        self.destinations.iter().for_each(found);
    }

    fn kept(&self) -> Vec<KeptMessage> {
        self.history.lock().messages.iter().cloned().collect()
    }
}

/// The latest messages, oldest first.
struct History {
    length: usize,
    bytes: usize,
    messages: VecDeque<KeptMessage>,
}

impl History {
    const fn new(length: usize) -> Self {
        Self {
            length,
            bytes: 0,
            messages: VecDeque::new(),
        }
    }

    fn push(&mut self, message: KeptMessage) {
        self.bytes += message.bytes();
        self.messages.push_back(message);
        while self.messages.len() > self.length
            || (self.bytes > HISTORY_BYTES_MAX && self.messages.len() > 1)
        {
            if let Some(oldest) = self.messages.pop_front() {
                self.bytes -= oldest.bytes();
            }
        }
    }
}

/// A message that an exchange keeps for bindings to come.
#[derive(Debug, Clone)]
pub struct KeptMessage {
    exchange: Bytes,
    routing_key: Bytes,
    /// Its own, and those of CC and BCC.
    routing_keys: Vec<Box<str>>,
    properties: Bytes,
    annotations: Bytes,
    body: Bytes,
    persistent: bool,
    priority: u8,
}

impl KeptMessage {
    fn new(message: &mut Message<'_>) -> Self {
        let content = message.content();
        Self {
            exchange: Bytes::copy_from_slice(content.exchange),
            routing_key: Bytes::copy_from_slice(content.routing_key),
            routing_keys: message
                .routing_keys
                .iter()
                .map(|key| (*key).into())
                .collect(),
            properties: Bytes::copy_from_slice(content.properties),
            annotations: Bytes::copy_from_slice(content.annotations),
            body: match &content.body {
                Body::Inline(body) => Bytes::copy_from_slice(body),
                Body::Shared(body) => body.bytes.clone(),
            },
            persistent: content.persistent,
            priority: content.priority,
        }
    }

    /// Its routing keys, the message's own first.
    pub(in crate::broker) fn routing_keys(&self) -> Vec<&str> {
        self.routing_keys.iter().map(|key| &**key).collect()
    }

    /// The message as if it were published at `now_ms`: its time to live begins then. A large body is stored under
    /// `body_id`, see [`SharedBody::id`].
    pub(in crate::broker) fn message(&self, now_ms: u64, body_id: u64) -> NewMessage<'_> {
        let body = if self.body.len() < BODY_SHARED_BYTES_MIN {
            Body::Inline(&self.body)
        } else {
            Body::Shared(SharedBody {
                id: body_id,
                bytes: self.body.clone(),
            })
        };
        NewMessage {
            exchange: &self.exchange,
            routing_key: &self.routing_key,
            properties: &self.properties,
            annotations: &self.annotations,
            body,
            persistent: self.persistent,
            priority: self.priority,
            expiry_ms: self
                .ttl_ms()
                .map_or(0, |ttl_ms| now_ms.saturating_add(ttl_ms)),
        }
    }

    fn ttl_ms(&self) -> Option<u64> {
        let properties = Properties::read(&self.properties).ok()?;
        let text = std::str::from_utf8(properties.expiration?).ok()?;
        expiration::parse(text).ok()
    }

    fn bytes(&self) -> usize {
        self.properties.len() + self.annotations.len() + self.body.len() + size_of::<Self>()
    }
}

/// How many messages are kept.
fn length(arguments: &FieldTable) -> Result<usize, Error> {
    let Some(value) = arguments.inner().get(LENGTH) else {
        return Ok(LENGTH_DEFAULT);
    };
    match term::integer(value).map(usize::try_from) {
        Some(Ok(length)) if length > 0 => Ok(length),
        _ => Err(Error::InvalidExchange(format!(
            "Invalid argument {}, '{LENGTH}' must be a positive integer",
            term::Term(value)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SystemRandom;

    fn exchange(length: Option<i32>) -> Box<dyn RoutingTable> {
        let mut arguments = FieldTable::default();
        if let Some(length) = length {
            arguments.insert(LENGTH.into(), AMQPValue::LongInt(length));
        }
        (TYPE.table)(&arguments)
    }

    fn publish(table: &dyn RoutingTable, properties: &[u8], body: &[u8]) {
        let message = NewMessage {
            exchange: b"x",
            routing_key: b"k",
            properties,
            annotations: &[],
            body: Body::Inline(body),
            persistent: false,
            priority: 0,
            expiry_ms: 0,
        };
        let mut message = Message::new(&["k"], &message, &SystemRandom);
        table.route(&mut message, &mut |_| {});
        assert!(!message.keys_only(), "every message must pass here");
    }

    fn bodies(table: &dyn RoutingTable) -> Vec<Bytes> {
        table.kept().into_iter().map(|kept| kept.body).collect()
    }

    #[test]
    fn the_latest_messages_are_kept() {
        let table = exchange(Some(2));
        for body in [b"1", b"2", b"3"] {
            publish(&*table, &[0, 0], body);
        }
        assert_eq!(bodies(&*table), [&b"2"[..], b"3"]);
    }

    #[test]
    fn twenty_are_kept_by_default() {
        let table = exchange(None);
        for number in 0..25u8 {
            publish(&*table, &[0, 0], &[number]);
        }
        let expected: Vec<_> = (5..25u8).map(|number| Bytes::from(vec![number])).collect();
        assert_eq!(bodies(&*table), expected);
    }

    #[test]
    fn large_messages_leave_early_but_the_latest_stays() {
        let table = exchange(Some(100));
        let half = vec![0; HISTORY_BYTES_MAX / 2];
        for _ in 0..3 {
            publish(&*table, &[0, 0], &half);
        }
        assert_eq!(bodies(&*table).len(), 1);
        publish(&*table, &[0, 0], &vec![0; 2 * HISTORY_BYTES_MAX]);
        assert_eq!(bodies(&*table).len(), 1);
    }

    #[test]
    fn a_message_can_ask_not_to_be_kept() {
        let table = exchange(None);
        // The flag of headers, a table with one boolean.
        let properties = |value: u8| {
            let mut entries = vec![NO_STORE.len() as u8];
            entries.extend_from_slice(NO_STORE.as_bytes());
            entries.extend_from_slice(&[b't', value]);
            let mut properties = vec![0x20, 0];
            properties.extend_from_slice(&(entries.len() as u32).to_be_bytes());
            properties.extend_from_slice(&entries);
            properties
        };
        publish(&*table, &properties(1), b"no");
        publish(&*table, &properties(0), b"yes");
        assert_eq!(bodies(&*table), [&b"yes"[..]]);
    }

    #[test]
    fn the_time_to_live_begins_with_the_delivery() {
        let table = exchange(None);
        publish(&*table, b"\x01\x00\x041000", b"");
        let kept = table.kept();
        assert_eq!(kept[0].message(5_000, 0).expiry_ms, 6_000);
    }
}
