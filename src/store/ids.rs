//! Numbers that are given out once in the life of a data directory.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::message::{QUEUE_ID_BITS, QueueId};

/// Counters for queue and body ids. Every batch that is written carries them when they moved, and an id is taken before
/// the operation that names it, so that what is on disk is always above every id on disk.
pub(super) struct Ids {
    queue: AtomicU64,
    body: AtomicU64,
    spill: AtomicU64,
}

impl Ids {
    /// Counters that give out `queue` and `body` next.
    pub(super) fn new(queue: QueueId, body: u64) -> Self {
        Self {
            queue: AtomicU64::new(queue.max(1)),
            body: AtomicU64::new(body.max(1)),
            spill: AtomicU64::new(1),
        }
    }

    pub(super) fn next_queue(&self) -> QueueId {
        let id = self.queue.fetch_add(1, Ordering::Relaxed);
        // A million queues a second would take nine years to get there.
        assert!(id >> QUEUE_ID_BITS == 0, "queue ids are used up");
        id
    }

    pub(super) fn next_body(&self) -> u64 {
        self.body.fetch_add(1, Ordering::Relaxed)
    }

    /// Ends the key of a spilled row. Starts anew with each start, as the family does.
    pub(super) fn next_spill(&self) -> u64 {
        self.spill.fetch_add(1, Ordering::Relaxed)
    }

    /// The counters as they are stored.
    pub(super) fn encode(&self) -> [u8; 16] {
        let mut out = [0; 16];
        out[..8].copy_from_slice(&self.queue.load(Ordering::Relaxed).to_le_bytes());
        out[8..].copy_from_slice(&self.body.load(Ordering::Relaxed).to_le_bytes());
        out
    }
}
