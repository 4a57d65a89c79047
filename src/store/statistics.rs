//! What the store has done so far, for tests and metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Sums since the store was opened, and sizes now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Epochs that ended.
    pub epochs: u64,
    /// Epochs that had something to write.
    pub epochs_written: u64,
    /// Writes that waited for the disk.
    pub syncs: u64,
    /// Those of them that waited at the intent log.
    pub intents: u64,
    /// Epochs that the store thread had nothing to do with: see [`WakesHeld`](super::WakesHeld).
    pub committed_here: u64,
    /// Bytes given to RocksDB, once each.
    pub bytes_written: u64,
    /// Rows put.
    pub rows_put: u64,
    /// Rows single-deleted.
    pub rows_deleted: u64,
    /// Rows written for the second time by sealing, rewriting and cleaning, in bytes.
    pub bytes_rewritten: u64,
    /// Writes that failed for want of space and were tried again.
    pub retries: u64,
    /// Sum of the times from the cut to durable, of written epochs, in microseconds.
    pub commit_us: u64,
    /// The longest of them.
    pub commit_us_max: u64,
    /// Queues with something on disk.
    pub queues: u64,
    /// Slices and chunks.
    pub rows: u64,
    /// Bytes in slices.
    pub tail_bytes: u64,
    /// Bytes in chunks that are not settled.
    pub chunk_live_bytes: u64,
    /// Bodies that are stored apart.
    pub bodies: u64,
    /// Rows that are due at a time.
    pub due: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) epochs: AtomicU64,
    pub(super) epochs_written: AtomicU64,
    pub(super) syncs: AtomicU64,
    pub(super) intents: AtomicU64,
    pub(super) committed_here: AtomicU64,
    pub(super) bytes_written: AtomicU64,
    pub(super) rows_put: AtomicU64,
    pub(super) rows_deleted: AtomicU64,
    pub(super) bytes_rewritten: AtomicU64,
    pub(super) retries: AtomicU64,
    commit_us: AtomicU64,
    commit_us_max: AtomicU64,
}

impl Counters {
    pub(super) fn committed(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.commit_us.fetch_add(us, Ordering::Relaxed);
        self.commit_us_max.fetch_max(us, Ordering::Relaxed);
    }

    /// The sums; the sizes are left 0.
    pub(super) fn read(&self) -> Statistics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Statistics {
            epochs: read(&self.epochs),
            epochs_written: read(&self.epochs_written),
            syncs: read(&self.syncs),
            intents: read(&self.intents),
            committed_here: read(&self.committed_here),
            bytes_written: read(&self.bytes_written),
            rows_put: read(&self.rows_put),
            rows_deleted: read(&self.rows_deleted),
            bytes_rewritten: read(&self.bytes_rewritten),
            retries: read(&self.retries),
            commit_us: read(&self.commit_us),
            commit_us_max: read(&self.commit_us_max),
            ..Statistics::default()
        }
    }
}

/// Adds to a counter.
pub(super) fn count(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}
