//! What a queue hands out and to whom: the seam between the broker and a protocol.

use crate::message::Seq;
use crate::message::op::Counts;
use crate::message::record::{RecordRef, SharedBody};

/// A consumer's place in its queue: slot and generation, so that a stale id never names another consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConsumerId {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

impl ConsumerId {
    /// Stands for basic.get, whose deliveries belong to no consumer.
    pub const NONE: Self = Self {
        slot: u32::MAX,
        generation: 0,
    };
}

/// One message on its way to a consumer, borrowed from the queue's chunk while the queue is locked.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    /// Position in the queue: what the receiver gives back to settle or requeue it.
    pub seq: Seq,
    /// It was delivered before, even if nobody saw it.
    pub redelivered: bool,
    /// How often, if the queue counts: none for one that never came back.
    pub counts: Counts,
    /// Its offset, if the queue is a stream.
    pub stream_offset: Option<u64>,
    /// The message.
    pub record: RecordRef<'a>,
    /// Its body when that is not part of the record.
    pub body: Option<&'a SharedBody>,
}

impl<'a> Delivery<'a> {
    /// Bytes that this delivery takes in an outbox, roughly (frames included).
    pub fn cost_bytes(&self) -> usize {
        self.record.encoded_len() + self.body.map_or(0, |body| body.bytes.len()) + 32
    }

    /// The body's bytes, wherever they are.
    pub fn body_bytes(&self) -> &'a [u8] {
        match self.body {
            Some(body) => &body.bytes,
            None => self.record.inline_body(),
        }
    }
}

/// Why the broker cancels a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancellation {
    /// Its queue was deleted.
    QueueDeleted,
    /// It kept a delivery unacknowledged for too long: what it holds goes back to the queue.
    TimedOut {
        /// The timeout in ms.
        timeout_ms: u64,
    },
}

/// Where a consumer's deliveries go. Implemented by the protocol's outbox.
///
/// All methods are called with the queue locked, so they must be short, must not block, and must not call back into
/// the queue. Lock order: queue before outbox.
pub trait DeliverySink: Send + Sync {
    /// Bytes that can still be taken before the soft limit. A hint: `deliver` decides.
    fn room_bytes(&self) -> usize;

    /// Takes deliveries in order and answers how many it took. What it refuses goes back to ready. If it took fewer
    /// than offered and is not closed, it calls `Queue::resume` for this consumer once it has room again.
    fn deliver(&self, deliveries: &[Delivery<'_>]) -> usize;

    /// There is something again for a consumer of a stream: its connection calls `Queue::resume` for it soon. Called
    /// from any thread, without a lock.
    fn wake(&self);

    /// Asks to be resumed when there is room. `false` means that there is room already.
    fn stall(&self) -> bool;

    /// The broker cancelled this consumer. What it has not acknowledged is still its channel's.
    fn cancelled(&self, why: Cancellation);
}
