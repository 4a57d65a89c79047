//! The visits of consumers.

use std::sync::Arc;

use parking_lot::MutexGuard;

use super::consumers::ConsumerSpec;
use super::state::{Effects, Got, Return, State};
use super::stream::ReaderSpec;
use super::{Inner, Queue};
use crate::broker::delivery::{ConsumerId, Delivery};
use crate::message::{Seq, Ticket};
use crate::store::{SpaceState, Visit};

/// Why a consumer was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsumeRefused {
    /// Exclusive access exists, or was asked for while there are consumers.
    ExclusiveInUse,
    /// The queue was deleted.
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
    /// The mark that the queue delivers is not on disk, or that a message was moved here: ask again when it is, lest a
    /// crash makes what was got look new.
    Unsaved(Ticket),
    /// The queue was deleted.
    Deleted,
}

impl Queue {
    /// Registers a consumer. Deliveries begin with [`Self::activate`], so that consume-ok goes first, and should not
    /// begin before the ticket is durable: then a crash cannot make what was delivered look new.
    ///
    /// # Errors
    /// Exclusive access is refused as RabbitMQ does, and nothing can be consumed from a deleted queue.
    pub fn subscribe(
        self: &Arc<Self>,
        visit: &Visit<'_>,
        mut spec: ConsumerSpec,
    ) -> Result<(ConsumerId, Ticket), ConsumeRefused> {
        let mut inner = self.inner.lock();
        if inner.deleted {
            return Err(ConsumeRefused::Deleted);
        }
        if spec.timeout_ms.is_none() {
            spec.timeout_ms = inner.state.settings.consumer_timeout_ms;
        }
        let consumers = &mut inner.state.consumers;
        // Exclusive access makes no sense where there is one active consumer anyway: RabbitMQ refuses it.
        let conflicts = spec.exclusive && (consumers.count() > 0 || consumers.is_single_active());
        if consumers.has_exclusive() || conflicts {
            return Err(ConsumeRefused::ExclusiveInUse);
        }
        let id = consumers.add(spec);
        self.mark_delivered(&mut inner, visit);
        Ok((id, self.marked(&inner)))
    }

    /// Registers a consumer of a stream, as [`Self::subscribe`] does one of another queue.
    ///
    /// # Errors
    /// The queue was deleted, or is no stream.
    pub fn attach(
        &self,
        visit: &Visit<'_>,
        spec: ReaderSpec,
    ) -> Result<ConsumerId, ConsumeRefused> {
        match self.stream() {
            Some(stream) => stream.attach(self.spec.id, visit, spec),
            None => Err(ConsumeRefused::Deleted),
        }
    }

    /// Deliveries to this consumer may begin. True: call [`Self::pump`] in further visits.
    pub fn activate(self: &Arc<Self>, visit: &Visit<'_>, consumer: ConsumerId) -> bool {
        if let Some(stream) = self.stream() {
            stream.activate(self, consumer);
            return false;
        }
        let mut inner = self.inner.lock();
        inner.state.consumers.activate(consumer);
        self.dispatch(&mut inner, visit)
    }

    /// Its outbox or window has room again. True: call [`Self::pump`] in further visits, for a stream this method.
    pub fn resume(self: &Arc<Self>, visit: &Visit<'_>, consumer: ConsumerId) -> bool {
        if let Some(stream) = self.stream() {
            return stream.resume(self, consumer);
        }
        let mut inner = self.inner.lock();
        inner.state.consumers.resume(consumer);
        self.dispatch(&mut inner, visit)
    }

    /// Removes a consumer; its unacknowledged deliveries stay with the channel. True: the queue is auto-delete and
    /// this was its last consumer.
    pub fn cancel(self: &Arc<Self>, visit: &Visit<'_>, consumer: ConsumerId) -> bool {
        if let Some(stream) = self.stream() {
            stream.cancel(self, visit, consumer);
            return false;
        }
        let mut inner = self.inner.lock();
        let removed = inner.state.consumers.remove(consumer);
        inner.used_ms = visit.now_ms();
        self.set_timer(&inner);
        if self.dispatch(&mut inner, visit) {
            // Who takes its place may have any room.
            self.call_at(visit.now_ms());
        }
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
        inner.used_ms = visit.now_ms();
        if inner.state.is_paused {
            return GetOutcome::Empty;
        }
        if !no_ack && inner.state.ready() > 0 {
            self.mark_delivered(&mut inner, visit);
            let marked = self.marked(&inner);
            let store = &self.services.store;
            // A full disk must not keep messages from those who make room.
            if !store.is_durable(marked) && store.space() != SpaceState::Full {
                return GetOutcome::Unsaved(marked);
            }
        }
        self.open(&mut inner);
        let mut effects = Effects::default();
        let got = inner.state.get(visit.now_ms(), no_ack, &mut effects, take);
        let more = effects.more;
        let opens_after = inner.state.opens_after();
        self.apply(&mut inner, visit, effects);
        if more {
            // What is gone was in the way of the next one of its group.
            self.dispatch(&mut inner, visit);
        }
        match got {
            Got::Message(taken) => GetOutcome::Message(taken),
            Got::Empty => opens_after.map_or(GetOutcome::Empty, |epoch| {
                GetOutcome::Unsaved(Ticket::local(epoch))
            }),
            Got::Cold => GetOutcome::Loading,
        }
    }

    /// Unacknowledged deliveries are acknowledged. True: call [`Self::pump`].
    pub fn settle(self: &Arc<Self>, visit: &Visit<'_>, consumer: ConsumerId, seqs: &[Seq]) -> bool {
        let settled = self.change(visit, consumer, seqs, |state, effects| {
            state.settle(consumer, seqs, effects);
        });
        settled.is_some_and(|mut inner| self.dispatch(&mut inner, visit))
    }

    /// Unacknowledged deliveries are rejected for good: they go to the dead-letter exchange if there is one. True: call
    /// [`Self::pump`].
    pub fn discard(
        self: &Arc<Self>,
        visit: &Visit<'_>,
        consumer: ConsumerId,
        seqs: &[Seq],
    ) -> bool {
        let discarded = self.change(visit, consumer, seqs, |state, effects| {
            state.discard(consumer, seqs, effects);
        });
        discarded.is_some_and(|mut inner| self.dispatch(&mut inner, visit))
    }

    /// Unacknowledged deliveries are ready again. True: call [`Self::pump`].
    pub fn requeue(
        self: &Arc<Self>,
        visit: &Visit<'_>,
        consumer: ConsumerId,
        seqs: &[Seq],
        how: Return,
    ) -> bool {
        let requeued = self.change(visit, consumer, seqs, |state, effects| {
            state.requeue(visit.now_ms(), consumer, seqs, how, effects);
        });
        requeued.is_some_and(|mut inner| {
            let more = self.work(&mut inner, visit);
            self.set_timer(&inner);
            more
        })
    }

    /// Messages are about to come back in several visits. Until [`Self::end_return`] consumers get nothing, whoever
    /// they are and whenever they came: what is back, or arrives, would overtake what is still to come.
    pub fn begin_return(&self, _: &Visit<'_>) {
        if !self.is_stream() {
            self.inner.lock().state.returning += 1;
        }
    }

    /// They are back: called once for each [`Self::begin_return`]. True: call [`Self::pump`].
    pub fn end_return(self: &Arc<Self>, visit: &Visit<'_>) -> bool {
        let mut inner = self.inner.lock();
        if inner.deleted || self.is_stream() {
            return false;
        }
        inner.state.returning -= 1;
        let more = self.work(&mut inner, visit);
        self.set_timer(&inner);
        more
    }

    /// Changes the unacknowledged deliveries of a consumer and carries out what follows. `None` where there is nothing
    /// else to do: the queue was deleted, or is a stream, which gives credit back whatever the client says.
    fn change(
        self: &Arc<Self>,
        visit: &Visit<'_>,
        consumer: ConsumerId,
        seqs: &[Seq],
        change: impl FnOnce(&mut State, &mut Effects),
    ) -> Option<MutexGuard<'_, Inner>> {
        if let Some(stream) = self.stream() {
            stream.settle(self, visit, consumer, seqs);
            return None;
        }
        let mut inner = self.inner.lock();
        if inner.deleted {
            return None;
        }
        let mut effects = Effects::default();
        change(&mut inner.state, &mut effects);
        self.apply(&mut inner, visit, effects);
        Some(inner)
    }
}
