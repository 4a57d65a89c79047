//! A consumer of a channel as its queue sees it: encodes deliveries into the connection's outbox.
//!
//! - [`encoder`]: deliveries as frames.

mod encoder;

use std::borrow::Cow;
use std::sync::{Arc, OnceLock, Weak};

use self::encoder::Encoder;
use super::outbox::deliveries::Deliveries;
use super::outbox::{Cancelled, OUTBOX_SOFT_BYTES_MAX, Outbox, Stalled};
use crate::broker::delivery::{Cancellation, ConsumerId, Delivery, DeliverySink};
use crate::broker::firehose::{Tap, Traced};
use crate::broker::queue::Queue;
use crate::message::field;
use crate::message::op::Counts;
use crate::message::properties::Rewrite;
use crate::store::Waiter;

/// Deliveries go to `channel` of the connection that owns `outbox`.
pub struct ChannelConsumer {
    outbox: Arc<Outbox>,
    channel: u16,
    consumer_tag: Arc<str>,
    no_ack: bool,
    /// Number of the source in the channel's deliveries.
    source: u32,
    queue: Weak<Queue>,
    /// Known once the queue has registered it.
    id: OnceLock<ConsumerId>,
    /// Where the firehose copies deliveries from.
    tap: OnceLock<Tap>,
}

impl ChannelConsumer {
    /// A consumer for `queue`; [`Self::registered`] completes it before deliveries begin.
    pub fn new(
        outbox: &Arc<Outbox>,
        channel: u16,
        consumer_tag: Arc<str>,
        no_ack: bool,
        source: u32,
        queue: &Arc<Queue>,
    ) -> Arc<Self> {
        Arc::new(Self {
            outbox: outbox.clone(),
            channel,
            consumer_tag,
            no_ack,
            source,
            queue: Arc::downgrade(queue),
            id: OnceLock::new(),
            tap: OnceLock::new(),
        })
    }

    /// Its deliveries can be watched from here on.
    pub fn watch(&self, tap: Tap) {
        // Set once, by the channel that made it.
        let _ = self.tap.set(tap);
    }

    /// The queue knows it as `id`.
    pub fn registered(&self, id: ConsumerId) {
        // Set once, by the channel that made it.
        let _ = self.id.set(id);
    }

    /// Number of the source in the channel's deliveries.
    pub const fn source(&self) -> u32 {
        self.source
    }

    fn stalled(&self) -> Option<Stalled> {
        Some(Stalled {
            queue: self.queue.upgrade()?,
            consumer: *self.id.get()?,
        })
    }

    fn tag(&self, deliveries: &mut Deliveries, delivery: &Delivery<'_>) -> u64 {
        if self.no_ack {
            deliveries.next_tag_no_ack()
        } else {
            deliveries.next_tag(self.source, delivery.seq)
        }
    }
}

/// The properties as the consumer sees them: a queue that counts deliveries says so in the headers `x-delivery-count`
/// and `x-acquired-count` of a message that came back, as RabbitMQ's quorum queues do.
pub fn shown_properties<'a>(delivery: &Delivery<'a>) -> Cow<'a, [u8]> {
    let properties = delivery.record.properties();
    if let Some(offset) = delivery.stream_offset {
        return with_offset(properties, offset);
    }
    if delivery.counts == Counts::default() {
        return Cow::Borrowed(properties);
    }
    let number = |count: u32| {
        let mut value = Vec::new();
        field::put_long(&mut value, count.into());
        value
    };
    let (delivered, acquired) = (
        number(delivery.counts.delivered),
        number(delivery.counts.acquired),
    );
    let headers: [(&[u8], Option<&[u8]>); 2] = [
        (
            b"x-delivery-count",
            (delivery.counts.delivered > 0).then_some(&delivered[..]),
        ),
        (b"x-acquired-count", Some(&acquired)),
    ];
    let rewrite = Rewrite {
        headers: &headers,
        ..Rewrite::default()
    };
    // Properties in a record were checked when they arrived.
    rewrite
        .apply(properties)
        .map_or(Cow::Borrowed(properties), Cow::Owned)
}

/// Copies a delivery to the firehose.
pub fn trace(tap: &Tap, queue: &str, delivery: &Delivery<'_>) {
    tap.delivered(Traced::held(delivery), queue, delivery.redelivered);
}

/// An offset as the value of a header.
fn header_offset(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}

/// The properties with `x-stream-offset` as their last header, in the place of whatever the publisher put there.
fn with_offset(properties: &[u8], offset: u64) -> Cow<'_, [u8]> {
    let mut value = Vec::with_capacity(9);
    field::put_long(&mut value, header_offset(offset));
    let headers: [(&[u8], Option<&[u8]>); 1] = [(b"x-stream-offset", Some(&value))];
    let rewrite = Rewrite {
        headers: &headers,
        ..Rewrite::default()
    };
    // Properties in a record were checked when they arrived.
    rewrite
        .apply(properties)
        .map_or(Cow::Borrowed(properties), Cow::Owned)
}

impl DeliverySink for ChannelConsumer {
    fn room_bytes(&self) -> usize {
        self.outbox.room_bytes()
    }

    fn deliver(&self, batch: &[Delivery<'_>]) -> usize {
        let mut outbox = self.outbox.lock();
        if outbox.is_closed() {
            return 0;
        }
        // Several queues may have seen the same room: the second finds the outbox twice as full at most.
        if self.outbox.queued_bytes() >= 2 * OUTBOX_SOFT_BYTES_MAX {
            outbox.resume_later(self.stalled());
            return 0;
        }
        let payload_max = self.outbox.payload_max();
        let Some((buffer, deliveries)) = outbox.split(self.channel) else {
            return 0;
        };
        let allowed = if self.no_ack {
            batch.len()
        } else {
            batch.len().min(deliveries.window_left())
        };
        let within_window = allowed;
        let allowed = self.outbox.allowed(within_window);
        let mut encoder = Encoder::new(self.channel, self.consumer_tag.as_bytes(), payload_max);
        for delivery in &batch[..allowed] {
            let delivery_tag = self.tag(deliveries, delivery);
            encoder.put(buffer, delivery, delivery_tag);
        }
        if let Some(tap) = self.tap.get()
            && tap.is_on()
        {
            let queue = self.queue.upgrade();
            let name = queue.as_ref().map_or("", |queue| &*queue.spec.name);
            for delivery in &batch[..allowed] {
                trace(tap, name, delivery);
            }
        }
        self.outbox.spend(allowed);
        if allowed < within_window {
            outbox.resume_later(self.stalled());
            self.outbox.wake();
        } else if allowed < batch.len()
            && let Some(stalled) = self.stalled()
        {
            deliveries.wait_for_window(stalled);
        }
        allowed
    }

    fn stall(&self) -> bool {
        match self.stalled() {
            Some(stalled) => self.outbox.stall(stalled),
            None => true,
        }
    }

    fn wake(&self) {
        let mut outbox = self.outbox.lock();
        if !outbox.is_closed() {
            outbox.resume_later(self.stalled());
            drop(outbox);
            self.outbox.wake();
        }
    }

    fn cancelled(&self, why: Cancellation) {
        self.outbox.cancel(Cancelled {
            channel: self.channel,
            consumer_tag: self.consumer_tag.clone(),
            why,
        });
    }
}
