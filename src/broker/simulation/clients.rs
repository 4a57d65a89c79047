//! Consumers, and what they hold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::ledger::CopyId;
use super::message::{body, number};
use super::oracle::Delivered;
use crate::broker::delivery::{Cancellation, ConsumerId, Delivery, DeliverySink};
use crate::broker::queue::Queue;
use crate::message::{QueueId, Seq, Ticket};

/// Who holds deliveries: a consumer by its number, or `None` for those of basic.get.
pub(super) type HolderNumber = Option<usize>;

/// What outboxes saw.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// Consumers that held something for too long.
    pub(super) timed_out: Vec<usize>,
    pub(super) deliveries: Vec<Delivered>,
    pub(super) refused: Vec<CopyId>,
}

/// The outbox of one consumer. It has room for so many deliveries.
pub(super) struct Outbox {
    number: usize,
    queue: QueueId,
    no_ack: bool,
    room: AtomicUsize,
    is_stalled: AtomicBool,
    /// There is something in the stream.
    is_woken: AtomicBool,
    log: Arc<Mutex<Log>>,
}

impl Outbox {
    pub(super) fn room(&self) -> usize {
        self.room.load(Ordering::Relaxed)
    }

    /// There is room for more. True: the queue waits to be told.
    pub(super) fn drain(&self, room: usize) -> bool {
        self.room.fetch_add(room, Ordering::Relaxed);
        self.is_stalled.swap(false, Ordering::Relaxed)
    }
}

impl Outbox {
    /// Whether the queue asked for its connection since the last look.
    pub(super) fn take_wake(&self) -> bool {
        self.is_woken.swap(false, Ordering::Relaxed)
    }
}

impl DeliverySink for Outbox {
    fn room_bytes(&self) -> usize {
        match self.room() {
            0 => 0,
            _ => 1 << 20,
        }
    }

    fn deliver(&self, deliveries: &[Delivery<'_>]) -> usize {
        let taken = deliveries.len().min(self.room());
        self.room.fetch_sub(taken, Ordering::Relaxed);
        let (taken, refused) = deliveries.split_at(taken);
        let mut log = self.log.lock();
        for delivery in taken {
            let delivered = seen(Some(self.number), self.queue, self.no_ack, delivery);
            log.deliveries.push(delivered);
        }
        log.refused
            .extend(refused.iter().map(|delivery| (self.queue, delivery.seq)));
        if !refused.is_empty() {
            self.is_stalled.store(true, Ordering::Relaxed);
        }
        taken.len()
    }

    fn wake(&self) {
        self.is_woken.store(true, Ordering::Relaxed);
    }

    fn stall(&self) -> bool {
        let is_full = self.room() == 0;
        self.is_stalled.store(is_full, Ordering::Relaxed);
        is_full
    }

    fn cancelled(&self, why: Cancellation) {
        match why {
            Cancellation::TimedOut { .. } => self.log.lock().timed_out.push(self.number),
            Cancellation::QueueDeleted => {}
        }
    }
}

pub(super) fn seen(
    consumer: HolderNumber,
    queue: QueueId,
    no_ack: bool,
    delivery: &Delivery<'_>,
) -> Delivered {
    let number = number(delivery.record.properties());
    let bytes = delivery.body_bytes();
    Delivered {
        consumer,
        queue,
        seq: delivery.seq,
        number,
        no_ack,
        redelivered: delivery.redelivered,
        counts: delivery.counts,
        body_bytes: bytes.len() as u64,
        is_body_right: *bytes == *body(number, bytes.len()),
    }
}

pub(super) struct Consumer {
    pub(super) number: usize,
    pub(super) queue: Arc<Queue>,
    pub(super) id: ConsumerId,
    pub(super) outbox: Arc<Outbox>,
    pub(super) prefetch: u32,
    pub(super) priority: i32,
    pub(super) is_exclusive: bool,
    /// How long it may hold what it has.
    pub(super) timeout_ms: Option<u64>,
    /// It has held something for longer: it gets nothing more, and its channel takes it off.
    pub(super) is_late: bool,
    /// Deliveries begin when this is durable; `None`: they have begun.
    pub(super) waits_for: Option<Ticket>,
}

/// A delivery that is to be acknowledged.
#[derive(Debug, Clone, Copy)]
struct Holding {
    by: HolderNumber,
    /// By which the queue knows who has it.
    id: ConsumerId,
    since_ms: u64,
}

/// All clients of a broker.
#[derive(Default)]
pub(super) struct Clients {
    pub(super) consumers: BTreeMap<usize, Consumer>,
    held: BTreeMap<CopyId, Holding>,
    next_number: usize,
    pub(super) log: Arc<Mutex<Log>>,
}

impl Clients {
    /// An outbox for the next consumer.
    pub(super) fn outbox(&mut self, queue: QueueId, no_ack: bool, room: usize) -> Arc<Outbox> {
        self.next_number += 1;
        Arc::new(Outbox {
            number: self.next_number,
            queue,
            no_ack,
            room: AtomicUsize::new(room),
            is_stalled: AtomicBool::new(false),
            is_woken: AtomicBool::new(false),
            log: self.log.clone(),
        })
    }

    pub(super) fn add(&mut self, consumer: Consumer) {
        self.consumers.insert(consumer.number, consumer);
    }

    pub(super) fn number_of(outbox: &Outbox) -> usize {
        outbox.number
    }

    /// Takes what the outboxes saw, and keeps what is to be acknowledged.
    pub(super) fn take_log(&mut self, now_ms: u64) -> Log {
        let log = std::mem::take(&mut *self.log.lock());
        for delivered in log.deliveries.iter().filter(|delivered| !delivered.no_ack) {
            let consumer = delivered
                .consumer
                .and_then(|number| self.consumers.get(&number));
            let id = consumer.map_or(ConsumerId::NONE, |consumer| consumer.id);
            let copy = (delivered.queue, delivered.seq);
            let holding = Holding {
                by: delivered.consumer,
                id,
                since_ms: now_ms,
            };
            self.held.insert(copy, holding);
        }
        log
    }

    pub(super) fn held(&self) -> BTreeSet<CopyId> {
        self.held.keys().copied().collect()
    }

    /// Who holds something, of which queue.
    pub(super) fn holders(&self) -> Vec<(QueueId, HolderNumber)> {
        let held = self.held.iter();
        let holders: BTreeSet<_> = held
            .map(|((queue, _), holding)| (*queue, holding.by))
            .collect();
        holders.into_iter().collect()
    }

    /// What that one holds of that queue.
    pub(super) fn held_by(&self, queue: QueueId, number: HolderNumber) -> Vec<Seq> {
        let held = self.held.iter();
        let own = held.filter(|((of, _), holding)| (*of, holding.by) == (queue, number));
        own.map(|((_, seq), _)| *seq).collect()
    }

    /// Since when a consumer has held its oldest delivery.
    pub(super) fn holds_since_ms(&self, number: usize) -> Option<u64> {
        let held = self.held.values();
        let own = held.filter(|holding| holding.by == Some(number));
        own.map(|holding| holding.since_ms).min()
    }

    /// A consumer that took too long.
    pub(super) fn late(&self) -> Option<&Consumer> {
        self.consumers.values().find(|consumer| consumer.is_late)
    }

    /// The consumers of a queue.
    pub(super) fn of(&self, queue: QueueId) -> impl Iterator<Item = &Consumer> {
        let consumers = self.consumers.values();
        consumers.filter(move |consumer| consumer.queue.spec.id == queue)
    }

    /// Whether a consumer has room for a message.
    pub(super) fn could_take(&self, consumer: &Consumer) -> bool {
        let queue = consumer.queue.spec.id;
        let held = self.held_by(queue, Some(consumer.number)).len() as u32;
        consumer.waits_for.is_none()
            && !consumer.is_late
            && consumer.outbox.room() > 0
            && (consumer.prefetch == 0 || held < consumer.prefetch)
    }

    /// Deliveries end. By which id the queue knows the consumer.
    pub(super) fn end(&mut self, queue: QueueId, seqs: &[Seq]) -> ConsumerId {
        let mut id = ConsumerId::NONE;
        for seq in seqs {
            id = self.held.remove(&(queue, *seq)).expect("it is held").id;
        }
        id
    }

    /// A queue is gone.
    pub(super) fn forget(&mut self, queue: QueueId) {
        self.held.retain(|(of, _), _| *of != queue);
        self.consumers
            .retain(|_, consumer| consumer.queue.spec.id != queue);
    }
}
