//! A queue: its state behind a short lock, changed only in visits.
//!
//! - [`state`]: what a queue is; pure.
//! - [`log`], [`chunk`]: where its records are.
//! - [`consumers`]: whose turn it is.
//! - [`pending`]: what it owes to the store.
//!
//! Whoever brings work does the work: a publisher appends and dispatches, a consumer that acknowledges dispatches into
//! its own window, a drained outbox resumes its stalled consumers. Lock order: gate (the visit) -> queue -> outbox.

mod chunk;
mod consumers;
mod evict;
mod gather;
mod log;
mod pending;
mod state;
#[cfg(test)]
mod state_test;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, MutexGuard};

pub use self::consumers::ConsumerSpec;
use self::pending::Pending;
use self::state::{Effects, Got, State};
pub use self::state::{VISIT_BYTES_MAX, VISIT_MESSAGES_MAX};
use super::arguments::QueueArguments;
use super::delivery::{ConsumerId, Delivery};
use super::{ConnectionId, Services};
use crate::message::op::Op;
use crate::message::record::{self, NewMessage};
use crate::message::{QueueId, Seq, Ticket};
use crate::store::{Loaded, RecoveredQueue, Visit, Waiter};

/// What a queue is declared as. Never changes.
#[derive(Debug)]
pub struct QueueSpec {
    /// Identity in the store.
    pub id: QueueId,
    /// Virtual host.
    pub vhost: Arc<str>,
    /// Name, up to 255 bytes.
    pub name: Arc<str>,
    /// Survives a restart, with its persistent messages. Never true for an exclusive queue.
    pub durable: bool,
    /// Goes with its last consumer.
    pub auto_delete: bool,
    /// The connection that alone may use it and with which it goes.
    pub exclusive_owner: Option<ConnectionId>,
    /// Arguments of the declaration.
    pub arguments: QueueArguments,
}

/// Numbers of messages and consumers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueCounts {
    /// Messages that wait for a consumer.
    pub ready: u64,
    /// Messages that were delivered and not acknowledged.
    pub unacked: u64,
    /// Consumers.
    pub consumers: u32,
}

/// Under which conditions a queue is deleted.
#[derive(Debug, Clone, Copy, Default)]
pub struct DeleteCondition {
    /// Only without consumers.
    pub if_unused: bool,
    /// Only without ready messages.
    pub if_empty: bool,
}

/// Why a conditional delete was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteRefused {
    /// It has consumers.
    InUse,
    /// It has ready messages.
    NotEmpty,
}

/// Why a consumer was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsumeRefused {
    /// Exclusive access exists, or was asked for while there are consumers.
    ExclusiveInUse,
    /// The queue was deleted.
    Deleted,
}

/// What became of a batch of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// All are in the queue.
    Accepted {
        /// When they are safe.
        ticket: Ticket,
        /// Consumers could take more: call [`Queue::pump`] in further visits.
        more: bool,
        /// There are consumers, and they are behind: publishers should give them time.
        backlog: bool,
    },
    /// The queue was deleted meanwhile; nothing was kept.
    Deleted,
}

/// What basic.get found.
#[derive(Debug)]
pub enum GetOutcome<T> {
    /// A message, and what the caller made of it.
    Message(T),
    /// Nothing is ready.
    Empty,
    /// The head has to be read from the store: wait with [`Queue::when_loaded`] and ask again.
    Loading,
    /// The queue was deleted.
    Deleted,
}

/// How far ahead of its deliveries a queue says that it has delivered, so that the mark is written rarely. A restart
/// takes any mark for all: see `delivered_before`.
const DELIVERED_AHEAD: Seq = 1 << 16;

struct Inner {
    state: State,
    pending: Pending,
    /// Seqs below are marked as delivered in the store, or will be with the epoch that is open.
    delivered_mark: Seq,
    /// A load of a cold stretch is on its way.
    loading: bool,
    load_waiters: Vec<Arc<dyn Waiter>>,
    /// Resident bytes as last reported to the memory budget.
    reported_bytes: usize,
    /// Transient records went to the store: their settlements must go there too.
    spilled: bool,
    deleted: bool,
}

/// A queue.
pub struct Queue {
    /// What it was declared as.
    pub spec: QueueSpec,
    services: Services,
    /// Mirrors `Inner::deleted` for those who do not hold the lock (route caches).
    deleted: AtomicBool,
    inner: Mutex<Inner>,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Queue")
            .field("vhost", &self.spec.vhost)
            .field("name", &self.spec.name)
            .finish()
    }
}

impl Queue {
    /// A queue as declared, or as the store remembers its messages.
    pub fn new(
        spec: QueueSpec,
        services: &Services,
        recovered: Option<RecoveredQueue>,
    ) -> Arc<Self> {
        let state = match recovered {
            Some(found) => State::recovered(
                found.first_live,
                found.next_seq,
                delivered_before(&found),
                found.live_count,
            ),
            None => State::new(),
        };
        let inner = Inner {
            state,
            pending: Pending::default(),
            delivered_mark: 0,
            loading: false,
            load_waiters: Vec::new(),
            reported_bytes: 0,
            spilled: false,
            deleted: false,
        };
        Arc::new(Self {
            spec,
            services: services.clone(),
            deleted: AtomicBool::new(false),
            inner: Mutex::new(inner),
        })
    }

    /// True once the queue is deleted; publishers drop cached routes to it.
    pub fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// Counts at this moment.
    pub fn counts(&self) -> QueueCounts {
        let inner = self.inner.lock();
        QueueCounts {
            ready: inner.state.ready(),
            unacked: inner.state.unacked(),
            consumers: inner.state.consumers.count(),
        }
    }

    /// Appends a batch and hands out what consumers can take.
    pub fn publish<'m>(
        self: &Arc<Self>,
        visit: &Visit<'_>,
        messages: impl Iterator<Item = &'m NewMessage<'m>>,
    ) -> Published {
        let mut inner = self.inner.lock();
        if inner.deleted {
            return Published::Deleted;
        }
        let epoch = visit.epoch();
        let mut journaled_bytes = 0;
        for message in messages {
            let journaled = self.spec.durable && message.persistent;
            let seq =
                inner
                    .state
                    .append(visit.now_ms(), message, if journaled { epoch } else { 0 });
            if journaled {
                journaled_bytes += record::encoded_len(message) + shared_len(message);
                inner
                    .pending
                    .appended(epoch, seq, || visit.mark_dirty(self.clone()));
            }
        }
        if journaled_bytes > 0 && inner.delivered_mark > 0 {
            // In the epoch of the messages: they cannot outlive the mark that covers them.
            self.mark_delivered(&mut inner, visit);
        }
        // Twice: once for what came now, once for a backlog, so that a busy queue catches up.
        let more = self.dispatch(&mut inner, visit) && self.dispatch(&mut inner, visit);
        let backlog = inner.state.has_backlog();
        self.keep_within_budget(&mut inner);
        drop(inner);
        if journaled_bytes > 0 {
            visit.add_pending(journaled_bytes);
        }
        let ticket = if journaled_bytes > 0 {
            visit.ticket()
        } else {
            Ticket::IMMEDIATE
        };
        Published::Accepted {
            ticket,
            more,
            backlog,
        }
    }

    /// Registers a consumer. Deliveries begin with [`Self::activate`], so that consume-ok goes first, and should not
    /// begin before the ticket is durable: then a crash cannot make what was delivered look new.
    ///
    /// # Errors
    /// Exclusive access is refused as RabbitMQ does, and nothing can be consumed from a deleted queue.
    pub fn subscribe(
        self: &Arc<Self>,
        visit: &Visit<'_>,
        spec: ConsumerSpec,
    ) -> Result<(ConsumerId, Ticket), ConsumeRefused> {
        let mut inner = self.inner.lock();
        if inner.deleted {
            return Err(ConsumeRefused::Deleted);
        }
        let consumers = &mut inner.state.consumers;
        if consumers.has_exclusive() || (spec.exclusive && consumers.count() > 0) {
            return Err(ConsumeRefused::ExclusiveInUse);
        }
        let id = consumers.add(spec);
        let marks = self.mark_delivered(&mut inner, visit);
        // What arrives later is on disk no sooner than the mark.
        let waits = marks && inner.state.ready() > 0;
        let ticket = if waits {
            visit.ticket()
        } else {
            Ticket::IMMEDIATE
        };
        Ok((id, ticket))
    }

    /// Deliveries to this consumer may begin. True: call [`Self::pump`] in further visits.
    pub fn activate(self: &Arc<Self>, visit: &Visit<'_>, consumer: ConsumerId) -> bool {
        let mut inner = self.inner.lock();
        inner.state.consumers.activate(consumer);
        self.dispatch(&mut inner, visit)
    }

    /// Its outbox or window has room again. True: call [`Self::pump`] in further visits.
    pub fn resume(self: &Arc<Self>, visit: &Visit<'_>, consumer: ConsumerId) -> bool {
        let mut inner = self.inner.lock();
        inner.state.consumers.resume(consumer);
        self.dispatch(&mut inner, visit)
    }

    /// Goes on dispatching. True: call again in a further visit.
    pub fn pump(self: &Arc<Self>, visit: &Visit<'_>) -> bool {
        let mut inner = self.inner.lock();
        self.dispatch(&mut inner, visit)
    }

    /// Removes a consumer; its unacknowledged deliveries stay with the channel. True: the queue is auto-delete and
    /// this was its last consumer.
    pub fn cancel(self: &Arc<Self>, visit: &Visit<'_>, consumer: ConsumerId) -> bool {
        let mut inner = self.inner.lock();
        let removed = inner.state.consumers.remove(consumer);
        self.dispatch(&mut inner, visit);
        removed && self.spec.auto_delete && !inner.deleted && inner.state.consumers.count() == 0
    }

    /// basic.get: `take` encodes the message while the queue is locked and learns how many remain ready.
    pub fn get<T>(
        self: &Arc<Self>,
        visit: &Visit<'_>,
        no_ack: bool,
        take: impl FnOnce(Delivery<'_>, u64) -> T,
    ) -> GetOutcome<T> {
        let mut inner = self.inner.lock();
        if inner.deleted {
            return GetOutcome::Deleted;
        }
        let mut effects = Effects::default();
        let got = inner.state.get(no_ack, &mut effects, take);
        self.apply(&mut inner, visit, effects);
        match got {
            Got::Message(taken) => GetOutcome::Message(taken),
            Got::Empty => GetOutcome::Empty,
            Got::Cold => GetOutcome::Loading,
        }
    }

    /// Unacknowledged deliveries are acknowledged or rejected for good. True: call [`Self::pump`].
    pub fn settle(self: &Arc<Self>, visit: &Visit<'_>, consumer: ConsumerId, seqs: &[Seq]) -> bool {
        let mut inner = self.inner.lock();
        if inner.deleted {
            return false;
        }
        let mut effects = Effects::default();
        inner.state.settle(consumer, seqs, &mut effects);
        self.apply(&mut inner, visit, effects);
        self.dispatch(&mut inner, visit)
    }

    /// Unacknowledged deliveries are ready again at their original place. True: call [`Self::pump`].
    pub fn requeue(
        self: &Arc<Self>,
        visit: &Visit<'_>,
        consumer: ConsumerId,
        seqs: &[Seq],
    ) -> bool {
        let mut inner = self.inner.lock();
        if inner.deleted {
            return false;
        }
        inner.state.requeue(consumer, seqs);
        self.dispatch(&mut inner, visit)
    }

    /// Drops all ready messages and answers how many there were.
    pub fn purge(self: &Arc<Self>, visit: &Visit<'_>) -> u64 {
        let mut inner = self.inner.lock();
        let mut effects = Effects::default();
        let purged = inner.state.purge(&mut effects);
        self.apply(&mut inner, visit, effects);
        self.report_memory(&mut inner);
        purged
    }

    /// Deletes the queue with everything in it, if the conditions hold, and answers how many messages were ready.
    /// Its consumers are told through their sinks. Deleting twice answers 0.
    ///
    /// # Errors
    /// A condition does not hold.
    pub fn delete(
        &self,
        visit: &Visit<'_>,
        condition: DeleteCondition,
    ) -> Result<u64, DeleteRefused> {
        let mut inner = self.inner.lock();
        if inner.deleted {
            return Ok(0);
        }
        if condition.if_empty && inner.state.ready() > 0 {
            return Err(DeleteRefused::NotEmpty);
        }
        if condition.if_unused && inner.state.consumers.count() > 0 {
            return Err(DeleteRefused::InUse);
        }
        inner.deleted = true;
        self.deleted.store(true, Ordering::Release);
        let ready = inner.state.ready();
        for sink in inner.state.consumers.take_all() {
            sink.cancelled();
        }
        if self.spec.durable || inner.spilled {
            visit.push(Op::QueueDeleted {
                queue: self.spec.id,
            });
        }
        inner.state = State::new();
        inner.pending.clear();
        wake_all(&mut inner);
        self.report_memory(&mut inner);
        Ok(ready)
    }

    /// A piece of a cold stretch was read. True: call [`Self::pump`].
    pub(super) fn install(self: &Arc<Self>, visit: &Visit<'_>, from: Seq, loaded: Loaded) -> bool {
        let mut inner = self.inner.lock();
        inner.loading = false;
        let records = loaded.records.to_vec();
        inner
            .state
            .log_mut()
            .install(from, loaded.covered_upto.max(from), records, loaded.bodies);
        wake_all(&mut inner);
        let more = self.dispatch(&mut inner, visit);
        self.keep_within_budget(&mut inner);
        more
    }

    /// Whether a load of a cold stretch is on its way.
    pub fn is_loading(&self) -> bool {
        self.inner.lock().loading
    }

    /// Wakes `waiter` when the load that is on its way has come. `false`: none is.
    pub fn when_loaded(&self, waiter: Arc<dyn Waiter>) -> bool {
        let mut inner = self.inner.lock();
        if inner.loading {
            inner.load_waiters.push(waiter);
        }
        inner.loading
    }

    fn dispatch(self: &Arc<Self>, inner: &mut MutexGuard<'_, Inner>, visit: &Visit<'_>) -> bool {
        let mut effects = Effects::default();
        inner.state.dispatch(&mut effects);
        let more = effects.more;
        self.apply(inner, visit, effects);
        self.report_memory(inner);
        more
    }

    /// Carries out what a change of state asks for.
    fn apply(self: &Arc<Self>, inner: &mut Inner, visit: &Visit<'_>, effects: Effects) {
        let epoch = visit.epoch();
        if self.spec.durable || inner.spilled {
            for (first, last) in effects.settled {
                inner
                    .pending
                    .settled(epoch, first, last, || visit.mark_dirty(self.clone()));
            }
        }
        if effects.delivered {
            self.mark_delivered(inner, visit);
        }
        if let Some((from, upto)) = effects.load
            && !inner.loading
        {
            inner.loading = true;
            self.services.loader.request(self, from, upto);
        }
    }

    /// Tells the store ahead of time that messages are delivered: the mark must not wait for a commit of its own, and a
    /// message whose mark is lost with a crash would come back as new. True if the mark moved.
    fn mark_delivered(self: &Arc<Self>, inner: &mut Inner, visit: &Visit<'_>) -> bool {
        let soon = inner.state.delivered_soon(DELIVERED_AHEAD / 2);
        let moves = self.spec.durable && soon > inner.delivered_mark;
        if moves {
            inner.delivered_mark = soon + DELIVERED_AHEAD / 2;
            let epoch = visit.epoch();
            inner
                .pending
                .delivered(epoch, || visit.mark_dirty(self.clone()));
        }
        moves
    }

    fn report_memory(&self, inner: &mut Inner) {
        let now = inner.state.log().resident_bytes();
        if now != inner.reported_bytes {
            self.services.memory.moved(inner.reported_bytes, now);
            inner.reported_bytes = now;
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let reported = self.inner.get_mut().reported_bytes;
        self.services.memory.moved(reported, 0);
    }
}

/// How far a queue may have delivered before the restart. A queue that never had a consumer has no mark. In all others
/// everything counts as delivered: the last deliveries before a crash may be ahead of any mark that reached the disk.
fn delivered_before(found: &RecoveredQueue) -> Seq {
    if found.delivered_upto > 0 {
        found.next_seq
    } else {
        0
    }
}

fn wake_all(inner: &mut Inner) {
    for waiter in std::mem::take(&mut inner.load_waiters) {
        waiter.wake();
    }
}

fn shared_len(message: &NewMessage<'_>) -> usize {
    match &message.body {
        record::Body::Shared(body) => body.bytes.len(),
        record::Body::Inline(_) => 0,
    }
}
