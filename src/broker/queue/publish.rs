//! The visits of publishers.

use std::sync::Arc;

use parking_lot::MutexGuard;

use super::state::Effects;
use super::{Inner, Queue};
use crate::broker::arguments::Overflow;
use crate::broker::dead_letter;
use crate::broker::deduplication::Identity;
use crate::message::record::{self, NewMessage};
use crate::message::run::Run;
use crate::message::{Epoch, Seq, Ticket};
use crate::store::Visit;

/// What became of a batch of messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// All are in the queue but those that it refused.
    Accepted {
        /// When they are safe.
        ticket: Ticket,
        /// There is more to do: call [`Queue::pump`] in further visits.
        more: bool,
        /// The queue's consumers are behind: publishers should give them so much time.
        backlog_pause_ms: u64,
        /// Places in the batch of the messages for which the queue was too full (`x-overflow`).
        refused: Vec<u32>,
    },
    /// The queue was deleted meanwhile; nothing was kept.
    Deleted,
}

impl Queue {
    /// Appends a batch and hands out what consumers can take.
    pub fn publish<'m>(
        self: &Arc<Self>,
        visit: &Visit<'_>,
        messages: impl Iterator<Item = &'m NewMessage<'m>>,
    ) -> Published {
        self.publish_runs(visit, messages.map(Run::single))
    }

    /// As [`Self::publish`], of messages that leave another place in the same visit. Consumers get them when that is on
    /// disk. `refused_die`: as when they are published; otherwise they stay where they are.
    pub fn take_over<'m>(
        self: &Arc<Self>,
        visit: &Visit<'_>,
        messages: impl Iterator<Item = &'m NewMessage<'m>>,
        refused_die: bool,
    ) -> Published {
        let batch = Batch {
            refused_die,
            ..Batch::of_moved()
        };
        self.receive(visit, messages.map(Run::single), batch)
    }

    /// As [`Self::publish`]; places count the messages of all runs.
    pub fn publish_runs<'m>(
        self: &Arc<Self>,
        visit: &Visit<'_>,
        runs: impl Iterator<Item = Run<'m>>,
    ) -> Published {
        self.receive(visit, runs, Batch::published())
    }

    fn receive<'m>(
        self: &Arc<Self>,
        visit: &Visit<'_>,
        runs: impl Iterator<Item = Run<'m>>,
        mut batch: Batch,
    ) -> Published {
        if let Some(stream) = self.stream() {
            return stream.publish(self, visit, runs);
        }
        let mut inner = self.inner.lock();
        if inner.deleted {
            return Published::Deleted;
        }
        let looks_at_each = inner.state.looks_at_each();
        for run in runs {
            if looks_at_each {
                for message in run.messages() {
                    self.arrive(&mut inner, visit, &message, &mut batch);
                }
            } else {
                self.append(&mut inner, visit, run, &mut batch);
                batch.count += run.count() as u32;
            }
        }
        self.finish(inner, visit, batch)
    }

    /// Hands out what consumers can take of a batch that is in the queue.
    pub(super) fn finish(
        self: &Arc<Self>,
        mut inner: MutexGuard<'_, Inner>,
        visit: &Visit<'_>,
        batch: Batch,
    ) -> Published {
        if batch.journaled_bytes > 0 && inner.is_marked {
            // In the epoch of the messages: they cannot outlive the mark that covers them.
            self.mark_delivered(&mut inner, visit);
        }
        // Twice: once for what came now, once for a backlog, so that a busy queue catches up.
        let mut more = self.dispatch(&mut inner, visit) && self.dispatch(&mut inner, visit);
        more |= self.trim(&mut inner, visit);
        let backlog_pause_ms = inner.state.backlog_pause_ms(visit.now_ms());
        self.set_timer(&inner);
        self.keep_within_budget(&mut inner);
        drop(inner);
        if batch.opens {
            self.when_open(visit);
        }
        let mut ticket = Ticket::IMMEDIATE;
        if batch.journaled_bytes > 0 {
            visit.add_pending(batch.journaled_bytes);
        }
        if batch.journaled_bytes > 0 || batch.joins || batch.has_delayed {
            ticket = visit.ticket();
        }
        Published::Accepted {
            ticket,
            more,
            backlog_pause_ms,
            refused: batch.refused,
        }
    }

    /// One message: it is dropped because it came before, or refused because the queue is too full (then it dies at
    /// once, if that is what the queue does), or waits to become visible, or is appended.
    fn arrive(
        self: &Arc<Self>,
        inner: &mut Inner,
        visit: &Visit<'_>,
        message: &NewMessage<'_>,
        batch: &mut Batch,
    ) {
        let place = batch.count;
        batch.count += 1;
        let identity = inner.state.identity(visit.now_ms(), message);
        if let Some(identity) = &identity
            && self.drops(inner, visit, message, identity)
        {
            batch.joins |= self.is_journaled(message);
            return;
        }
        if self.refuses(inner, visit, message) {
            batch.refused.push(place);
            if batch.refused_die {
                self.bury_refused(inner, visit, message, batch);
            }
            return;
        }
        let seq = match Self::delay_of(inner, message) {
            Some(delay) => {
                self.wait(inner, visit, message, delay);
                batch.has_delayed |= self.is_journaled(message);
                None
            }
            None => Some(self.append(inner, visit, Run::single(message), batch).0),
        };
        if let Some(identity) = identity {
            self.remember(inner, visit, message, identity, seq);
        }
    }

    /// A message that was refused goes to the dead-letter exchange, if that is what the queue does.
    fn bury_refused(
        self: &Arc<Self>,
        inner: &mut Inner,
        visit: &Visit<'_>,
        message: &NewMessage<'_>,
        batch: &mut Batch,
    ) {
        let settings = &inner.state.settings;
        if settings.overflow == Overflow::RejectPublishDeadLetter && settings.dead_letter.is_some()
        {
            let mut effects = Effects::default();
            let saved_by = self.saved_by(visit, message);
            let seq = inner
                .state
                .append_dying(visit.now_ms(), message, saved_by, &mut effects);
            self.apply(inner, visit, effects);
            self.appended(inner, visit, Run::single(message), (seq, seq), batch);
        }
    }

    /// Whether the queue is too full for a message: what waits to become visible counts, since it cannot be refused any
    /// more. What came before in the same batch gets its chance to leave first,
    /// as if it had come alone.
    fn refuses(
        self: &Arc<Self>,
        inner: &mut Inner,
        visit: &Visit<'_>,
        message: &NewMessage<'_>,
    ) -> bool {
        let bytes = message.body.len() as u64;
        let delayed = inner.delayed();
        inner.state.refuses(delayed, bytes) && {
            self.dispatch(inner, visit);
            inner.state.refuses(delayed, bytes)
        }
    }

    /// Whether a message came before. What died here and comes back was the first itself.
    fn drops(
        &self,
        inner: &Inner,
        visit: &Visit<'_>,
        message: &NewMessage<'_>,
        identity: &Identity,
    ) -> bool {
        let Some(duplicates) = &inner.state.duplicates else {
            return false;
        };
        inner.state.is_duplicate(visit.now_ms(), identity)
            && !(duplicates.outlives_messages()
                && dead_letter::died_in(message.annotations, &self.spec.name))
    }

    fn remember(
        self: &Arc<Self>,
        inner: &mut Inner,
        visit: &Visit<'_>,
        message: &NewMessage<'_>,
        identity: Identity,
        seq: Option<Seq>,
    ) {
        let mut effects = Effects::default();
        let is_stored = self.is_journaled(message);
        inner
            .state
            .remember(visit.now_ms(), identity, seq, is_stored, &mut effects);
        self.apply(inner, visit, effects);
    }

    pub(super) fn append(
        self: &Arc<Self>,
        inner: &mut Inner,
        visit: &Visit<'_>,
        run: Run<'_>,
        batch: &mut Batch,
    ) -> (Seq, Seq) {
        let saved_by = self.saved_by(visit, run.first);
        let seqs = inner.state.append_run(visit.now_ms(), run, saved_by);
        if batch.is_moved && run.first.persistent {
            batch.opens |= inner.state.moved_here(visit, seqs.0);
        }
        self.appended(inner, visit, run, seqs, batch);
        seqs
    }

    const fn is_journaled(&self, message: &NewMessage<'_>) -> bool {
        self.spec.durable && message.persistent
    }

    /// The epoch that writes a message; 0 if none does.
    fn saved_by(&self, visit: &Visit<'_>, message: &NewMessage<'_>) -> Epoch {
        if self.is_journaled(message) {
            visit.epoch()
        } else {
            0
        }
    }

    /// Tells the store about messages that are to be written.
    fn appended(
        self: &Arc<Self>,
        inner: &mut Inner,
        visit: &Visit<'_>,
        run: Run<'_>,
        (first, last): (Seq, Seq),
        batch: &mut Batch,
    ) {
        if self.is_journaled(run.first) {
            let names_and_properties = record::encoded_len(run.first) - inline_len(run.first);
            batch.journaled_bytes += run.count() * names_and_properties + run.body_bytes();
            let pending = &mut inner.state.lane_mut(first).pending;
            pending.appended(visit.epoch(), first, last, || {
                visit.mark_dirty(self.clone())
            });
        }
    }
}

/// What a visit has taken in.
#[derive(Default)]
pub(super) struct Batch {
    /// The messages leave another place in the same visit.
    is_moved: bool,
    /// Some of them can go when the epoch is on disk.
    opens: bool,
    /// Messages so far.
    count: u32,
    journaled_bytes: usize,
    /// A message that survives a restart waits to become visible.
    has_delayed: bool,
    /// A duplicate is as safe as the first when this epoch is, at the latest.
    joins: bool,
    refused: Vec<u32>,
    /// What is refused goes to the dead-letter exchange, if that is what the queue does.
    refused_die: bool,
}

impl Batch {
    fn published() -> Self {
        Self {
            refused_die: true,
            ..Self::default()
        }
    }

    pub(super) fn of_moved() -> Self {
        Self {
            is_moved: true,
            ..Self::default()
        }
    }
}

fn inline_len(message: &NewMessage<'_>) -> usize {
    match &message.body {
        record::Body::Inline(body) => body.len(),
        record::Body::Shared(_) => 0,
    }
}
