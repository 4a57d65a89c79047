//! The visits of publishers.

use std::sync::Arc;

use super::state::Effects;
use super::{Inner, Queue};
use crate::broker::arguments::Overflow;
use crate::message::Ticket;
use crate::message::record::{self, NewMessage};
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
        /// There are consumers, and they are behind: publishers should give them time.
        backlog: bool,
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
        if let Some(stream) = self.stream() {
            return stream.publish(self, visit, messages);
        }
        let mut inner = self.inner.lock();
        if inner.deleted {
            return Published::Deleted;
        }
        let mut batch = Batch::default();
        for (index, message) in messages.enumerate() {
            if self.refuses(&mut inner, visit, message) {
                batch.refused.push(index as u32);
                if inner.state.settings.overflow != Overflow::RejectPublishDeadLetter
                    || inner.state.settings.dead_letter.is_none()
                {
                    continue;
                }
                self.append(&mut inner, visit, message, true, &mut batch);
            } else {
                self.append(&mut inner, visit, message, false, &mut batch);
            }
        }
        if batch.journaled_bytes > 0 && inner.marked_in > 0 {
            // In the epoch of the messages: they cannot outlive the mark that covers them.
            self.mark_delivered(&mut inner, visit);
        }
        // Twice: once for what came now, once for a backlog, so that a busy queue catches up.
        let mut more = self.dispatch(&mut inner, visit) && self.dispatch(&mut inner, visit);
        more |= self.trim(&mut inner, visit);
        let backlog = inner.state.has_backlog();
        self.set_timer(&inner);
        self.keep_within_budget(&mut inner);
        drop(inner);
        let mut ticket = Ticket::IMMEDIATE;
        if batch.journaled_bytes > 0 {
            visit.add_pending(batch.journaled_bytes);
            ticket = visit.ticket();
        }
        Published::Accepted {
            ticket,
            more,
            backlog,
            refused: batch.refused,
        }
    }

    /// Whether the queue is too full for a message. What came before in the same batch gets its chance to leave first,
    /// as if it had come alone.
    fn refuses(
        self: &Arc<Self>,
        inner: &mut Inner,
        visit: &Visit<'_>,
        message: &NewMessage<'_>,
    ) -> bool {
        let bytes = message.body.len() as u64;
        inner.state.refuses(bytes) && {
            self.dispatch(inner, visit);
            inner.state.refuses(bytes)
        }
    }

    fn append(
        self: &Arc<Self>,
        inner: &mut Inner,
        visit: &Visit<'_>,
        message: &NewMessage<'_>,
        dying: bool,
        batch: &mut Batch,
    ) {
        let journaled = self.spec.durable && message.persistent;
        let epoch = visit.epoch();
        let saved_by = if journaled { epoch } else { 0 };
        let seq = if dying {
            let mut effects = Effects::default();
            let seq = inner
                .state
                .append_dying(visit.now_ms(), message, saved_by, &mut effects);
            self.apply(inner, visit, effects);
            seq
        } else {
            inner.state.append(visit.now_ms(), message, saved_by)
        };
        if journaled {
            batch.journaled_bytes += record::encoded_len(message) + shared_len(message);
            let pending = &mut inner.state.lane_mut(seq).pending;
            pending.appended(epoch, seq, || visit.mark_dirty(self.clone()));
        }
    }
}

#[derive(Default)]
struct Batch {
    journaled_bytes: usize,
    refused: Vec<u32>,
}

fn shared_len(message: &NewMessage<'_>) -> usize {
    match &message.body {
        record::Body::Shared(body) => body.bytes.len(),
        record::Body::Inline(_) => 0,
    }
}
