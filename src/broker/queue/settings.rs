//! What holds for a queue at the moment: its arguments, and what policies add to them.

use std::sync::{Arc, OnceLock};

use super::retry::Retry;
use crate::broker::arguments::{ConsumerChoice, Overflow, QueueArguments, QueueType};
use crate::broker::deduplication::QueueSettings;
use crate::rate::RateLimits;

/// Deliveries that a quorum queue gives a message before it counts as poisonous (RabbitMQ 4.0).
const QUORUM_DELIVERY_LIMIT: u32 = 20;

/// Time in ms that a consumer of a quorum queue may hold a message: RabbitMQ's default `consumer_timeout`.
const QUORUM_CONSUMER_TIMEOUT_MS: u64 = 1_800_000;

/// Levels of a quorum queue: always 32, without an argument (RabbitMQ 4.3).
const QUORUM_PRIORITY_MAX: u8 = 31;

/// The level in a quorum queue of a message without a priority.
const QUORUM_PRIORITY_DEFAULT: u8 = 4;

/// Where messages go that die in a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Exchange; the empty name is the default exchange.
    pub exchange: Arc<str>,
    /// Routing key that takes the place of the message's own.
    pub routing_key: Option<Arc<str>>,
}

/// Everything that changes what a queue does with a message. Replaced as a whole when a policy comes or goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// Time in ms that a message may wait, 0 to ten years.
    pub message_ttl_ms: Option<u64>,
    /// Time in ms until a message becomes visible, 0 to ten years; `None`: headers of messages mean nothing either.
    pub delay_ms: Option<u64>,
    /// Time in ms that the queue may stay unused.
    pub expires_ms: Option<u64>,
    /// Most ready messages.
    pub max_length: Option<u64>,
    /// Most bytes of ready bodies.
    pub max_length_bytes: Option<u64>,
    /// What happens beyond these.
    pub overflow: Overflow,
    /// Where messages go that die.
    pub dead_letter: Option<DeadLetter>,
    /// Failed deliveries after which a message dies; `None` for no limit.
    pub delivery_limit: Option<u32>,
    /// Time in ms that a consumer may keep a message unacknowledged.
    pub consumer_timeout_ms: Option<u64>,
    /// Whether messages that come back wait before their next delivery.
    pub retry: Option<Retry>,
    /// The highest priority level; 0 when priorities mean nothing.
    pub max_priority: u8,
    /// The level of a message without a priority.
    pub default_priority: u8,
    /// One consumer at a time.
    pub single_active_consumer: bool,
    /// Which of several consumers gets a message.
    pub consumer_choice: ConsumerChoice,
    /// Returned messages wait ahead of all others in the order of their return, as in quorum queues; otherwise they go
    /// back to their place.
    pub returns_in_order: bool,
    /// Deliveries are counted and shown as `x-delivery-count` and `x-acquired-count`.
    pub counts_deliveries: bool,
    /// The header whose value says which group a message belongs to.
    pub message_group: Option<Arc<str>>,
    /// What is dropped because it came before.
    pub deduplication: Option<QueueSettings>,
    /// How fast it takes and gives messages.
    pub rates: RateLimits,
    /// Streams: time in ms after which a segment is removed.
    pub max_age_ms: Option<u64>,
    /// Streams: size of a segment, 500 MB if not given.
    pub stream_segment_bytes: Option<u64>,
    /// Streams: size of the Bloom filter of a chunk, 16 to 255, 16 if not given.
    pub stream_filter_bytes: Option<u8>,
}

impl Settings {
    /// On the heap: once for all queues that have nothing special.
    pub fn shared(self) -> Arc<Self> {
        static PLAIN: OnceLock<Arc<Settings>> = OnceLock::new();
        let plain = PLAIN.get_or_init(Arc::default);
        if self == **plain {
            return Arc::clone(plain);
        }
        Arc::new(self)
    }

    /// What the arguments of the declaration say, without any policy.
    pub fn from_arguments(arguments: &QueueArguments) -> Self {
        let is_quorum = arguments.queue_type() == QueueType::Quorum;
        let delivery_limit = match arguments.delivery_limit() {
            Some(limit) => u32::try_from(limit).ok(),
            None => is_quorum.then_some(QUORUM_DELIVERY_LIMIT),
        };
        let dead_letter = arguments.dead_letter_exchange().map(|exchange| DeadLetter {
            exchange: exchange.into(),
            routing_key: arguments.dead_letter_routing_key().map(Into::into),
        });
        Self {
            message_ttl_ms: arguments.message_ttl_ms(),
            delay_ms: arguments.message_delay_ms(),
            expires_ms: arguments.expires_ms(),
            max_length: arguments.max_length(),
            max_length_bytes: arguments.max_length_bytes(),
            overflow: arguments.overflow(),
            dead_letter,
            delivery_limit,
            consumer_timeout_ms: arguments
                .consumer_timeout_ms()
                .or_else(|| is_quorum.then_some(QUORUM_CONSUMER_TIMEOUT_MS)),
            retry: arguments.delayed_retry(),
            max_priority: if is_quorum {
                QUORUM_PRIORITY_MAX
            } else {
                arguments.max_priority().unwrap_or(0)
            },
            default_priority: if is_quorum {
                QUORUM_PRIORITY_DEFAULT
            } else {
                0
            },
            single_active_consumer: arguments.single_active_consumer(),
            consumer_choice: arguments.consumer_choice().unwrap_or_default(),
            returns_in_order: is_quorum,
            counts_deliveries: is_quorum
                || delivery_limit.is_some()
                || arguments.delayed_retry().is_some(),
            message_group: arguments.message_group().map(Into::into),
            deduplication: arguments.deduplication().cloned(),
            rates: arguments.rates(),
            max_age_ms: arguments.max_age_ms(),
            stream_segment_bytes: arguments.stream_segment_bytes(),
            stream_filter_bytes: arguments.stream_filter_bytes(),
        }
    }

    /// New messages are refused when the queue is full.
    pub(super) fn rejects_publish(&self) -> bool {
        self.has_limit() && self.overflow != Overflow::DropHead
    }

    pub(super) const fn has_limit(&self) -> bool {
        self.max_length.is_some() || self.max_length_bytes.is_some()
    }

    /// Whether a queue with `count` ready messages of `bytes` bytes is over its limits.
    pub(super) fn is_over(&self, count: u64, bytes: u64) -> bool {
        self.max_length.is_some_and(|max| count > max)
            || self.max_length_bytes.is_some_and(|max| bytes > max)
    }
}
