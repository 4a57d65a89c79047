//! What a queue has in family `due` of the store: marks of messages that expire out of order.

use std::sync::Arc;

use bytes::Bytes;

use super::{Inner, Queue};
use crate::broker::due::DueKey;
use crate::broker::loader::DueOwner;
use crate::message::QueueId;
use crate::message::op::{DueRecord, Op};
use crate::store::{DuePage, Visit};

/// What a row counts in an epoch's limit.
const ROW_BYTES: usize = 64;

impl Queue {
    /// Tells the store which marks memory has no room for, and which are done with. Asks for the next ones.
    pub(super) fn store_marks(self: &Arc<Self>, inner: &mut Inner, visit: &Visit<'_>) {
        for lane in inner.state.lanes_mut() {
            let Some(marks) = lane.expiry.marks() else {
                continue;
            };
            if let Some(changes) = marks.changes(visit.epoch()) {
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
            let durable = self.services.store.durable();
            if let Some(page) = marks.wanted_page(visit.now_ms(), durable)
                && let Some(owner) = marks.owner()
            {
                let me: Arc<dyn DueOwner> = self.clone();
                self.services
                    .loader
                    .load_due(Arc::downgrade(&me), owner, page);
            }
        }
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
        let mut lanes = inner.state.lanes_mut().iter_mut();
        let of_owner = lanes.find_map(|lane| {
            let marks = lane.expiry.marks()?;
            (marks.owner() == Some(owner)).then_some(marks)
        });
        let Some(marks) = of_owner else { return };
        marks.install(rows, more);
        // What is due by now goes in the visits of the timer.
        self.store_marks(&mut inner, &visit);
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

pub(super) const fn remove(owner: QueueId, key: DueKey) -> Op {
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
