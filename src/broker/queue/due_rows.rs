//! What a queue has in family `due` of the store beside whole messages: marks of messages that expire out of order, and
//! until when messages wait for their retry.

use std::sync::Arc;

use bytes::Bytes;

use super::marks::Marks;
use super::retry::{owner_of_lane, retry_owner};
use super::state::Effects;
use super::{Inner, Queue};
use crate::broker::due::{DueKey, PageRequest};
use crate::broker::loader::DueOwner;
use crate::message::QueueId;
use crate::message::op::{DueRecord, Op};
use crate::store::{DuePage, Visit};

/// What a row counts in an epoch's limit.
const ROW_BYTES: usize = 64;

impl Queue {
    /// Tells the store which messages wait for their retry and which have waited, in the epoch of their counts.
    pub(super) fn remember_waiting(&self, inner: &mut Inner, visit: &Visit<'_>, effects: &Effects) {
        if effects.waits.is_empty() && effects.waited.is_empty() {
            return;
        }
        for (key, bytes) in &effects.waits {
            visit.push(put(retry_owner(self.spec.id, key.seq), *key, *bytes));
        }
        for key in &effects.waited {
            visit.push(remove(retry_owner(self.spec.id, key.seq), *key));
        }
        for lane in inner.state.lanes_mut() {
            if let Some(retries) = &mut lane.retries {
                retries.stamp(visit.epoch());
            }
        }
    }

    /// Tells the store which marks memory has no room for, and which are done with. Asks for the rows that come next.
    pub(super) fn keep_due(self: &Arc<Self>, inner: &mut Inner, visit: &Visit<'_>) {
        let durable = self.services.store.durable();
        let now_ms = visit.now_ms();
        for lane in inner.state.lanes_mut() {
            if let Some(marks) = lane.expiry.marks() {
                self.store_marks(marks, visit);
                if let Some(page) = marks.wanted_page(now_ms, durable)
                    && let Some(owner) = marks.owner()
                {
                    self.ask(owner, page);
                }
            }
            let number = lane.number();
            if let Some(retries) = &mut lane.retries {
                retries.durable(durable);
                if let Some(page) = retries.wanted_page(now_ms) {
                    self.ask(owner_of_lane(self.spec.id, number), page);
                }
            }
        }
    }

    /// Retries whose ends are in memory.
    #[cfg(test)]
    pub(in crate::broker) fn retries_in_memory(&self) -> usize {
        let durable = self.services.store.durable();
        let mut inner = self.inner.lock();
        let lanes = inner.state.lanes_mut().iter_mut();
        let retries = lanes.filter_map(|lane| lane.retries.as_mut());
        retries
            .map(|retries| {
                retries.durable(durable);
                retries.resident()
            })
            .sum()
    }

    fn store_marks(&self, marks: &mut Marks, visit: &Visit<'_>) {
        let Some(changes) = marks.changes(visit.epoch()) else {
            return;
        };
        if let Some(queue) = changes.retired {
            visit.push(Op::QueueDeleted { queue });
        }
        let owner = marks.owner().unwrap_or_else(|| {
            let owner = self.services.store.next_queue_id();
            marks.set_owner(owner);
            owner
        });
        visit.add_pending(changes.puts.len() * ROW_BYTES);
        for (key, bytes) in changes.puts {
            visit.push(put(owner, key, bytes));
        }
        for key in changes.removals {
            visit.push(remove(owner, key));
        }
    }

    fn ask(self: &Arc<Self>, owner: QueueId, page: PageRequest) {
        let me: Arc<dyn DueOwner> = self.clone();
        self.services
            .loader
            .load_due(Arc::downgrade(&me), owner, page);
    }
}

impl DueOwner for Queue {
    fn install_due(self: Arc<Self>, owner: QueueId, page: DuePage) {
        let visit = self.services.visit();
        let mut inner = self.inner.lock();
        if inner.deleted {
            return;
        }
        let more = page.more;
        let rows = page.entries.into_iter().map(|entry| {
            let key = DueKey {
                time_ms: entry.time_ms,
                seq: entry.seq,
            };
            (key, body_bytes(&entry.record))
        });
        for lane in inner.state.lanes_mut() {
            if owner_of_lane(self.spec.id, lane.number()) == owner {
                if let Some(retries) = &mut lane.retries {
                    retries.install(rows, more);
                }
                break;
            }
            if let Some(marks) = lane.expiry.marks()
                && marks.owner() == Some(owner)
            {
                marks.install(rows, more);
                break;
            }
        }
        // What is due by now goes in the visits of the timer.
        self.keep_due(&mut inner, &visit);
        self.set_timer(&inner);
    }
}

/// A row: its value is the size of the body.
pub(super) fn put(owner: QueueId, key: DueKey, body_bytes: u64) -> Op {
    Op::PutDue(DueRecord {
        owner,
        time_ms: key.time_ms,
        seq: key.seq,
        record: Bytes::copy_from_slice(&body_bytes.to_le_bytes()),
        body: None,
    })
}

pub(in crate::broker) const fn remove(owner: QueueId, key: DueKey) -> Op {
    Op::RemoveDue {
        owner,
        time_ms: key.time_ms,
        seq: key.seq,
    }
}

/// The size in the value of a row.
pub(in crate::broker) fn body_bytes(record: &[u8]) -> u64 {
    let bytes = record.first_chunk().copied().unwrap_or_default();
    u64::from_le_bytes(bytes)
}
