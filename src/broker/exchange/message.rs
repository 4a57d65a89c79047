//! What exchanges look at in a message. All but its keys is read only when an exchange asks, and a route for which one
//! did is good for this message only.

use std::borrow::Cow;

use amq_protocol::types::FieldTable;

use crate::message::properties::Properties;
use crate::message::record::NewMessage;
use crate::random::Random;

/// A message on its way through exchanges.
pub(in crate::broker) struct Message<'a> {
    /// Its routing key, and those of CC and BCC.
    pub(super) routing_keys: &'a [&'a str],
    content: &'a NewMessage<'a>,
    random: &'a dyn Random,
    headers: Option<FieldTable>,
    keys_only: bool,
}

/// The properties that a consistent-hash exchange can be told to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Property {
    CorrelationId,
    MessageId,
    Timestamp,
}

impl<'a> Message<'a> {
    /// `content` with these keys. Choices are drawn from `random`.
    pub(in crate::broker) const fn new(
        routing_keys: &'a [&'a str],
        content: &'a NewMessage<'a>,
        random: &'a dyn Random,
    ) -> Self {
        Self {
            routing_keys,
            content,
            random,
            headers: None,
            keys_only: true,
        }
    }

    /// Its headers; without any, or when they cannot be read, the empty table.
    pub(super) fn headers(&mut self) -> &FieldTable {
        self.keys_only = false;
        let content = self.content;
        self.headers.get_or_insert_with(|| {
            let properties = Properties::read(content.properties).ok();
            let headers = properties.and_then(|properties| properties.decode_headers().ok());
            headers.flatten().unwrap_or_default()
        })
    }

    /// One of its properties; a timestamp as decimal digits.
    pub(super) fn property(&mut self, property: Property) -> Option<Cow<'a, [u8]>> {
        self.keys_only = false;
        let properties = Properties::read(self.content.properties).ok()?;
        match property {
            Property::CorrelationId => properties.correlation_id.map(Cow::Borrowed),
            Property::MessageId => properties.message_id.map(Cow::Borrowed),
            Property::Timestamp => properties
                .timestamp
                .map(|seconds| Cow::Owned(seconds.to_string().into_bytes())),
        }
    }

    /// How long it is to wait, in ms, if it is.
    pub(in crate::broker) fn delay_ms(&mut self) -> Option<u64> {
        self.keys_only = false;
        super::delayed::delay_ms(self.content.properties)
    }

    /// Its routing key, and those of CC and BCC.
    pub(in crate::broker) fn owned_routing_keys(&self) -> Vec<Box<str>> {
        let keys = self.routing_keys.iter();
        keys.map(|key| Box::from(*key)).collect()
    }

    /// A number below `count` (at least 1), by chance.
    pub(super) fn choose(&mut self, count: usize) -> usize {
        self.keys_only = false;
        self.random.below(count)
    }

    /// The whole message.
    pub(super) const fn content(&mut self) -> &'a NewMessage<'a> {
        self.keys_only = false;
        self.content
    }

    /// Whether the route depends on nothing but the keys, and the exchanges may stay unasked next time.
    pub(in crate::broker) const fn keys_only(&self) -> bool {
        self.keys_only
    }
}
