//! What the firehose copies, and how the copies look.

use std::sync::Arc;

use bytes::Bytes;

use super::Firehose;
use crate::broker::delivery::Delivery;
use crate::broker::exchange::{TRACE_EXCHANGE, sender_selected};
use crate::broker::outlet::Notice;
use crate::broker::queue::DeathReason;
use crate::broker::vhost::VHost;
use crate::message::{field, properties};

/// Where messages are copied from: a channel.
pub struct Tap {
    firehose: Arc<Firehose>,
    vhost: Arc<str>,
    node: Arc<str>,
    connection: Box<str>,
    channel: u16,
    user: Box<str>,
}

/// A message as its publisher or consumer sees it.
pub struct Traced<'a> {
    /// The exchange that it was published to.
    pub exchange: &'a [u8],
    /// Its routing key; those of CC are found in its properties.
    pub routing_key: &'a [u8],
    /// Its property list.
    pub properties: &'a [u8],
    /// Its body.
    pub body: Bytes,
}

impl<'a> Traced<'a> {
    /// A message in its queue.
    pub fn held(delivery: &Delivery<'a>) -> Self {
        Self {
            exchange: delivery.record.exchange(),
            routing_key: delivery.record.routing_key(),
            properties: delivery.record.properties(),
            body: match delivery.body {
                Some(body) => body.bytes.clone(),
                None => Bytes::copy_from_slice(delivery.record.inline_body()),
            },
        }
    }
}

/// How a delivery came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// Acknowledged.
    Ack,
    /// Rejected for good.
    Reject,
    /// Given back to its queue, by the client or because its channel or consumer ended.
    Requeue,
}

impl Settled {
    /// How the routing key of the copy begins.
    const fn word(self) -> &'static str {
        match self {
            Self::Ack => "ack",
            Self::Reject => "reject",
            Self::Requeue => "requeue",
        }
    }
}

/// A message died in `queue` and went, as `traced`, to these queues. No channel has to do with it.
pub fn dead_lettered<'q>(
    vhost: &VHost,
    traced: Traced<'_>,
    queue: &str,
    reason: DeathReason,
    targets: impl Iterator<Item = &'q str>,
) {
    if traced.exchange == TRACE_EXCHANGE.as_bytes() {
        return;
    }
    let mut entries = message_entries(&traced);
    node_entries(&mut entries, &vhost.services.node, &vhost.name);
    put_text(&mut entries, b"reason", reason.name().as_bytes());
    put_queues(&mut entries, targets);
    let key = format!("dead_letter.{queue}");
    vhost.firehose.outlet.put(copy(key, &entries, traced.body));
}

impl Tap {
    /// A tap at a channel. `connection` and `user` are what the copies say of it.
    pub fn new(vhost: &VHost, connection: &str, channel: u16, user: &str) -> Self {
        Self {
            firehose: vhost.firehose.clone(),
            vhost: vhost.name.clone(),
            node: vhost.services.node.clone(),
            connection: connection.into(),
            channel,
            user: user.into(),
        }
    }

    /// Whether messages are copied at the moment.
    pub fn is_on(&self) -> bool {
        self.firehose.is_on()
    }

    /// A message was published and goes to these queues.
    pub fn published<'q>(&self, traced: Traced<'_>, queues: impl Iterator<Item = &'q str>) {
        let key = format!("publish.{}", String::from_utf8_lossy(traced.exchange));
        self.put(key, traced, |entries| put_queues(entries, queues));
    }

    /// A message was delivered from this queue.
    pub fn delivered(&self, traced: Traced<'_>, queue: &str, redelivered: bool) {
        self.put(format!("deliver.{queue}"), traced, |entries| {
            field::put_name(entries, b"redelivered");
            field::put_int(entries, redelivered.into());
        });
    }

    /// A delivery from this queue came to its end. `None`: the message is on the disk only, so that the copy is lost.
    pub fn settled(&self, what: Settled, delivery: Option<Delivery<'_>>, queue: &str) {
        match delivery {
            Some(delivery) => {
                let key = format!("{}.{queue}", what.word());
                self.put(key, Traced::held(&delivery), |_| ());
            }
            None => self.firehose.outlet.lose(),
        }
    }

    fn put(&self, key: String, traced: Traced<'_>, more: impl FnOnce(&mut Vec<u8>)) {
        if traced.exchange == TRACE_EXCHANGE.as_bytes() {
            return;
        }
        let mut entries = message_entries(&traced);
        node_entries(&mut entries, &self.node, &self.vhost);
        put_text(&mut entries, b"connection", self.connection.as_bytes());
        field::put_name(&mut entries, b"channel");
        field::put_int(&mut entries, self.channel.into());
        put_text(&mut entries, b"user", self.user.as_bytes());
        more(&mut entries);
        self.firehose.outlet.put(copy(key, &entries, traced.body));
    }
}

/// A copy with these headers. Its key is cut to what a routing key can be.
fn copy(mut key: String, entries: &[u8], body: Bytes) -> Notice {
    let mut end = key.len().min(255);
    while !key.is_char_boundary(end) {
        end -= 1;
    }
    key.truncate(end);
    // The flag of headers, and the table.
    let mut properties = vec![0x20, 0];
    properties.extend_from_slice(&(entries.len() as u32).to_be_bytes());
    properties.extend_from_slice(entries);
    Notice {
        routing_key: key,
        properties,
        body,
        persistent: false,
    }
}

fn put_text(entries: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    field::put_name(entries, name);
    field::put_long_string(entries, value);
}

/// What is said of the message.
fn message_entries(traced: &Traced<'_>) -> Vec<u8> {
    let mut entries = Vec::with_capacity(256);
    put_text(&mut entries, b"exchange_name", traced.exchange);
    field::put_name(&mut entries, b"routing_keys");
    field::put_array(&mut entries, &routing_keys(traced));
    field::put_name(&mut entries, b"properties");
    // Properties were checked when they arrived.
    let properties = properties::table(traced.properties).unwrap_or_default();
    field::put_table(&mut entries, &properties);
    entries
}

fn put_queues<'q>(entries: &mut Vec<u8>, queues: impl Iterator<Item = &'q str>) {
    let mut names = Vec::new();
    queues.for_each(|name| field::put_long_string(&mut names, name.as_bytes()));
    field::put_name(entries, b"routed_queues");
    field::put_array(entries, &names);
}

/// What is said of the place.
fn node_entries(entries: &mut Vec<u8>, node: &str, vhost: &str) {
    put_text(entries, b"node", node.as_bytes());
    put_text(entries, b"vhost", vhost.as_bytes());
}

/// Encoded long strings: the message's own key and those of CC. BCC is gone when a message is copied.
fn routing_keys(traced: &Traced<'_>) -> Vec<u8> {
    let mut keys = Vec::new();
    field::put_long_string(&mut keys, traced.routing_key);
    let headers = properties::Properties::read(traced.properties)
        .ok()
        .and_then(|properties| properties.decode_headers().ok().flatten());
    let copies = headers.and_then(|headers| sender_selected::keys(&headers, "CC").ok());
    for key in copies.into_iter().flatten() {
        field::put_long_string(&mut keys, key.as_bytes());
    }
    keys
}
