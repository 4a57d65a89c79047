//! Arguments of declarations: field tables from the network become typed values here, once.
//!
//! [`QueueArguments`] knows what a queue does with its arguments; [`validate`] refuses what RabbitMQ refuses; unknown
//! `x-` arguments are kept and mean nothing. [`equivalence`] compares declarations of the same name.

pub mod equivalence;
pub mod expiration;
mod max_age;
mod table;
pub mod term;
mod validate;

use std::sync::Arc;

use amq_protocol::types::{AMQPValue, FieldTable};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

pub use self::max_age::max_age_ms;
pub use self::table::Arguments;
pub(super) use self::validate::is_max_age;
use super::deduplication::QueueSettings;
use super::error::Error;
use super::names::{self, Resource};
use super::queue::Retry;
use crate::rate::RateLimits;

/// The longest time to live or to stay unused, in ms: ten years, as in RabbitMQ (`rabbit_misc:check_expiry`).
pub const EXPIRY_MS_MAX: u64 = 315_360_000_000;

/// What kind of queue was declared.
///
/// Quorum queues and streams are declared and refused as RabbitMQ does. They are not replicated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QueueType {
    /// `classic`, and the default.
    #[default]
    Classic,
    /// `quorum`.
    Quorum,
    /// `stream`.
    Stream,
}

impl QueueType {
    /// The type called `name` in `x-queue-type`.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        match name {
            b"classic" => Some(Self::Classic),
            b"quorum" => Some(Self::Quorum),
            b"stream" => Some(Self::Stream),
            _ => None,
        }
    }

    /// Its value of `x-queue-type`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
            Self::Stream => "stream",
        }
    }

    /// RabbitMQ's name of the module, which its error texts contain.
    pub const fn module(self) -> &'static str {
        match self {
            Self::Classic => "rabbit_classic_queue",
            Self::Quorum => "rabbit_quorum_queue",
            Self::Stream => "rabbit_stream_queue",
        }
    }

    /// The arguments that a queue of this type knows, in the order in which declarations are compared: RabbitMQ's, then
    /// those that it has only here.
    pub fn arguments(self) -> impl Iterator<Item = &'static str> {
        validate::known_arguments(self)
    }
}

/// What happens to a message that does not fit into a queue with a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overflow {
    /// The oldest ready messages are dropped or dead-lettered.
    #[default]
    DropHead,
    /// The new message is refused.
    RejectPublish,
    /// The new message is refused and dead-lettered.
    RejectPublishDeadLetter,
}

impl Overflow {
    /// The behaviour called `name` in `x-overflow`.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        match name {
            b"drop-head" => Some(Self::DropHead),
            b"reject-publish" => Some(Self::RejectPublish),
            b"reject-publish-dlx" => Some(Self::RejectPublishDeadLetter),
            _ => None,
        }
    }
}

/// Which of the consumers of one priority gets the next message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ConsumerChoice {
    /// They take turns.
    #[default]
    RoundRobin,
    /// Who holds the fewest unacknowledged deliveries; among these they take turns.
    LeastLoaded,
}

impl ConsumerChoice {
    /// The choice called `name` in `x-consumer-choice`.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        match name {
            b"round-robin" => Some(Self::RoundRobin),
            b"least-loaded" => Some(Self::LeastLoaded),
            _ => None,
        }
    }
}

/// The arguments of a queue, validated. A queue without arguments carries one word.
#[derive(Debug, Clone, Default)]
pub struct QueueArguments {
    parsed: Option<Arc<Parsed>>,
}

/// The arguments of a queue that is there: administration replaces them as a whole.
#[derive(Debug, Default)]
pub struct LiveArguments(RwLock<QueueArguments>);

impl LiveArguments {
    /// The arguments at the moment.
    pub fn get(&self) -> QueueArguments {
        self.0.read().clone()
    }

    /// Others hold from now on.
    pub(in crate::broker) fn replace(&self, arguments: QueueArguments) {
        *self.0.write() = arguments;
    }
}

impl From<QueueArguments> for LiveArguments {
    fn from(arguments: QueueArguments) -> Self {
        Self(RwLock::new(arguments))
    }
}

#[derive(Debug, Clone, Default)]
struct Parsed {
    raw: Arguments,
    queue_type: QueueType,
    overflow: Option<Overflow>,
    single_active_consumer: bool,
    consumer_choice: Option<ConsumerChoice>,
    max_priority: Option<u8>,
    message_ttl_ms: Option<u64>,
    message_delay_ms: Option<u64>,
    expires_ms: Option<u64>,
    max_length: Option<u64>,
    max_length_bytes: Option<u64>,
    dead_letter_exchange: Option<Box<str>>,
    dead_letter_routing_key: Option<Box<str>>,
    /// Negative for no limit.
    delivery_limit: Option<i64>,
    consumer_timeout_ms: Option<u64>,
    message_group: Option<Box<str>>,
    delayed_retry: Option<Retry>,
    deduplication: Option<QueueSettings>,
    max_age_ms: Option<u64>,
    stream_segment_bytes: Option<u64>,
    stream_filter_bytes: Option<u8>,
    rates: RateLimits,
}

impl QueueArguments {
    /// Validates the arguments of a new queue and types them.
    ///
    /// # Errors
    /// An argument with a value that RabbitMQ refuses, or one that the queue's type does not have.
    pub fn new(resource: &Resource, table: &FieldTable) -> Result<Self, Error> {
        validate::validate(resource, table)?;
        Ok(Self::parse(table))
    }

    /// Types arguments that were validated when the queue was declared, possibly by an older version: a value that
    /// cannot be understood counts as absent.
    pub fn recovered(raw: &Arguments) -> Self {
        Self::parse(&raw.table())
    }

    fn parse(table: &FieldTable) -> Self {
        if table.inner().is_empty() {
            return Self::default();
        }
        let value = |key: &str| table.inner().get(key);
        let number = |key| {
            value(key)
                .and_then(term::integer)
                .and_then(|number| u64::try_from(number).ok())
        };
        let text = |key| value(key).and_then(text_of);
        Self {
            parsed: Some(Arc::new(Parsed {
                raw: Arguments::new(table),
                queue_type: queue_type(table).unwrap_or_default(),
                overflow: value("x-overflow")
                    .and_then(term::bytes)
                    .and_then(Overflow::from_name),
                consumer_choice: value("x-consumer-choice")
                    .and_then(term::bytes)
                    .and_then(ConsumerChoice::from_name),
                single_active_consumer: value("x-single-active-consumer")
                    .and_then(AMQPValue::as_bool)
                    .unwrap_or(false),
                max_priority: number("x-max-priority")
                    .and_then(|priority| u8::try_from(priority).ok()),
                message_ttl_ms: number("x-message-ttl"),
                message_delay_ms: number("x-message-delay"),
                expires_ms: number("x-expires"),
                max_length: number("x-max-length"),
                max_length_bytes: number("x-max-length-bytes"),
                dead_letter_exchange: text("x-dead-letter-exchange"),
                dead_letter_routing_key: value("x-dead-letter-routing-key")
                    .and_then(term::bytes)
                    .and_then(names::routing_key)
                    .map(Into::into),
                delivery_limit: value("x-delivery-limit").and_then(term::integer),
                consumer_timeout_ms: number("x-consumer-timeout"),
                message_group: text("x-message-group"),
                delayed_retry: delayed_retry(table),
                deduplication: QueueSettings::from_arguments(table),
                max_age_ms: value("x-max-age")
                    .and_then(term::bytes)
                    .and_then(max_age_ms),
                stream_segment_bytes: number("x-stream-max-segment-size-bytes"),
                stream_filter_bytes: number("x-stream-filter-size-bytes")
                    .and_then(|bytes| u8::try_from(bytes).ok()),
                rates: RateLimits {
                    max_publish_rate: number("x-max-publish-rate"),
                    max_publish_bytes_rate: number("x-max-publish-bytes-rate"),
                    max_consume_rate: number("x-max-consume-rate"),
                },
            })),
        }
    }

    /// All arguments as they were declared, known or not.
    pub fn table(&self) -> FieldTable {
        self.parsed
            .as_ref()
            .map(|parsed| parsed.raw.table())
            .unwrap_or_default()
    }

    /// The encoded table; empty without arguments.
    pub fn as_bytes(&self) -> &[u8] {
        self.parsed
            .as_ref()
            .map(|parsed| parsed.raw.as_bytes())
            .unwrap_or_default()
    }

    /// `x-queue-type`.
    pub fn queue_type(&self) -> QueueType {
        self.parsed
            .as_ref()
            .map_or_else(QueueType::default, |parsed| parsed.queue_type)
    }

    /// `x-overflow`, or the default.
    pub fn overflow(&self) -> Overflow {
        self.declared_overflow().unwrap_or_default()
    }

    /// `x-overflow`.
    pub fn declared_overflow(&self) -> Option<Overflow> {
        self.parsed.as_ref()?.overflow
    }

    /// `x-consumer-choice`.
    pub fn consumer_choice(&self) -> Option<ConsumerChoice> {
        self.parsed.as_ref()?.consumer_choice
    }

    /// `x-single-active-consumer`.
    pub fn single_active_consumer(&self) -> bool {
        self.parsed
            .as_ref()
            .is_some_and(|parsed| parsed.single_active_consumer)
    }

    /// `x-max-priority`, 0 to 255.
    pub fn max_priority(&self) -> Option<u8> {
        self.parsed.as_ref()?.max_priority
    }

    /// `x-message-ttl` in ms, 0 to ten years.
    pub fn message_ttl_ms(&self) -> Option<u64> {
        self.parsed.as_ref()?.message_ttl_ms
    }

    /// `x-message-delay` in ms, 0 to ten years.
    pub fn message_delay_ms(&self) -> Option<u64> {
        self.parsed.as_ref()?.message_delay_ms
    }

    /// `x-expires` in ms, 1 to ten years.
    pub fn expires_ms(&self) -> Option<u64> {
        self.parsed.as_ref()?.expires_ms
    }

    /// `x-max-length` in ready messages.
    pub fn max_length(&self) -> Option<u64> {
        self.parsed.as_ref()?.max_length
    }

    /// `x-max-length-bytes` in bytes of ready bodies.
    pub fn max_length_bytes(&self) -> Option<u64> {
        self.parsed.as_ref()?.max_length_bytes
    }

    /// `x-dead-letter-exchange`; the empty name is the default exchange.
    pub fn dead_letter_exchange(&self) -> Option<&str> {
        self.parsed.as_ref()?.dead_letter_exchange.as_deref()
    }

    /// `x-delivery-limit`: failed deliveries after which a message dies, negative for no limit.
    pub fn delivery_limit(&self) -> Option<i64> {
        self.parsed.as_ref()?.delivery_limit
    }

    /// `x-consumer-timeout` in ms: how long a consumer may keep a message unacknowledged.
    pub fn consumer_timeout_ms(&self) -> Option<u64> {
        self.parsed.as_ref()?.consumer_timeout_ms
    }

    /// `x-delayed-retry-type` and what goes with it.
    pub fn delayed_retry(&self) -> Option<Retry> {
        self.parsed.as_ref()?.delayed_retry
    }

    /// `x-message-group`: the header that names a message's group.
    pub fn message_group(&self) -> Option<&str> {
        self.parsed.as_ref()?.message_group.as_deref()
    }

    /// `x-message-deduplication` and what goes with it.
    pub fn deduplication(&self) -> Option<&QueueSettings> {
        self.parsed.as_ref()?.deduplication.as_ref()
    }

    /// `x-max-age` in ms.
    pub fn max_age_ms(&self) -> Option<u64> {
        self.parsed.as_ref()?.max_age_ms
    }

    /// `x-stream-max-segment-size-bytes`, up to 3,000,000,000.
    pub fn stream_segment_bytes(&self) -> Option<u64> {
        self.parsed.as_ref()?.stream_segment_bytes
    }

    /// `x-stream-filter-size-bytes`, 16 to 255.
    pub fn stream_filter_bytes(&self) -> Option<u8> {
        self.parsed.as_ref()?.stream_filter_bytes
    }

    /// `x-max-publish-rate`, `x-max-publish-bytes-rate` and `x-max-consume-rate`.
    pub fn rates(&self) -> RateLimits {
        let parsed = self.parsed.as_ref();
        parsed.map(|parsed| parsed.rates).unwrap_or_default()
    }

    /// `x-dead-letter-routing-key`.
    pub fn dead_letter_routing_key(&self) -> Option<&str> {
        self.parsed.as_ref()?.dead_letter_routing_key.as_deref()
    }
}

/// The type that a declaration asks for; `None` for one that does not exist.
pub fn queue_type(table: &FieldTable) -> Option<QueueType> {
    match table.inner().get("x-queue-type") {
        None => Some(QueueType::Classic),
        Some(AMQPValue::LongString(name)) => QueueType::from_name(name.as_bytes()),
        Some(_) => None,
    }
}

/// First delay in ms where `x-delayed-retry-min` is absent.
const RETRY_MIN_MS_DEFAULT: u64 = 1_000;

/// `x-delayed-retry-type`, `-min`, `-max` as in RabbitMQ 4.3; `-multiplier` as in LavinMQ.
pub(super) fn delayed_retry(table: &FieldTable) -> Option<Retry> {
    let value = |key: &str| table.inner().get(key);
    let number = |key| {
        let number = value(key).and_then(term::integer)?;
        u64::try_from(number).ok()
    };
    let (failed, returned) = match value("x-delayed-retry-type").and_then(term::bytes)? {
        b"all" => (true, true),
        b"failed" => (true, false),
        b"returned" => (false, true),
        _ => return None,
    };
    let min_ms = number("x-delayed-retry-min").unwrap_or(RETRY_MIN_MS_DEFAULT);
    Some(Retry {
        failed,
        returned,
        min_ms,
        max_ms: number("x-delayed-retry-max").unwrap_or(min_ms),
        multiplier: number("x-delayed-retry-multiplier"),
    })
}

/// The name in an argument that names an exchange: `None` when it is absent.
///
/// # Errors
/// It is not a string.
pub fn exchange_name(
    resource: &Resource,
    table: &FieldTable,
    argument: &'static str,
) -> Result<Option<Box<str>>, Error> {
    match table.inner().get(argument) {
        None => Ok(None),
        Some(value @ AMQPValue::LongString(_)) => Ok(text_of(value)),
        Some(value) => Err(Error::InvalidArgumentType {
            argument,
            resource: resource.clone(),
            found: term::type_name(value),
        }),
    }
}

/// A string argument. Bytes that are no UTF-8 name nothing that exists, and do not matter beyond that.
fn text_of(value: &AMQPValue) -> Option<Box<str>> {
    match value {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn table(entries: impl IntoIterator<Item = (&'static str, AMQPValue)>) -> FieldTable {
        entries
            .into_iter()
            .map(|(key, value)| (key.into(), value))
            .collect::<BTreeMap<_, _>>()
            .into()
    }

    fn resource() -> Resource {
        let vhost: Arc<str> = "/".into();
        Resource::queue(&vhost, "q")
    }

    #[test]
    fn arguments_are_typed_once_and_kept_as_they_came() {
        let declared = table([
            ("x-message-ttl", AMQPValue::LongInt(60_000)),
            ("x-max-length", AMQPValue::LongLongInt(5)),
            ("x-overflow", AMQPValue::LongString("reject-publish".into())),
            ("x-dead-letter-exchange", AMQPValue::LongString("".into())),
            (
                "x-dead-letter-routing-key",
                AMQPValue::LongString("dead".into()),
            ),
            ("x-max-priority", AMQPValue::ShortShortUInt(10)),
            ("x-anything", AMQPValue::Void),
        ]);
        let arguments = QueueArguments::new(&resource(), &declared).unwrap();
        assert_eq!(arguments.message_ttl_ms(), Some(60_000));
        assert_eq!(arguments.max_length(), Some(5));
        assert_eq!(arguments.overflow(), Overflow::RejectPublish);
        assert_eq!(arguments.dead_letter_exchange(), Some(""));
        assert_eq!(arguments.dead_letter_routing_key(), Some("dead"));
        assert_eq!(arguments.max_priority(), Some(10));
        assert_eq!(arguments.table(), declared);
        let raw = Arguments::from_bytes(arguments.as_bytes()).unwrap();
        assert_eq!(
            QueueArguments::recovered(&raw).message_ttl_ms(),
            Some(60_000)
        );
    }

    #[test]
    fn a_queue_without_arguments_carries_one_word() {
        let arguments = QueueArguments::new(&resource(), &FieldTable::default()).unwrap();
        assert_eq!(size_of::<QueueArguments>(), size_of::<usize>());
        assert_eq!(arguments.queue_type(), QueueType::Classic);
        assert!(arguments.as_bytes().is_empty());
    }
}
