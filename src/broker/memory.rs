//! One budget for the resident chunks of all queues.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::store::Waiter;

/// Default of the budget. Together with RocksDB's memtables it keeps a broker with any depth of queues under 200 MiB.
pub const QUEUE_MEMORY_BYTES_MAX: usize = 48 * 1024 * 1024;

/// Bytes of resident chunks, and the limit above which the coldest are evicted.
pub struct QueueMemory {
    resident: AtomicUsize,
    budget: usize,
    waiting: AtomicBool,
    waiters: Mutex<Vec<Arc<dyn Waiter>>>,
    /// How often the waiters were woken.
    round: AtomicU64,
}

impl QueueMemory {
    /// A budget of `budget` bytes.
    pub const fn new(budget: usize) -> Self {
        Self {
            resident: AtomicUsize::new(0),
            budget,
            waiting: AtomicBool::new(false),
            waiters: Mutex::new(Vec::new()),
            round: AtomicU64::new(0),
        }
    }

    /// Bytes of all resident chunks.
    pub fn resident_bytes(&self) -> usize {
        self.resident.load(Ordering::Relaxed)
    }

    /// Records that a queue went from `before` to `after` resident bytes.
    pub fn moved(&self, before: usize, after: usize) {
        if after >= before {
            self.resident.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.resident.fetch_sub(before - after, Ordering::Relaxed);
            if self.waiting.load(Ordering::Acquire) && !self.is_far_over() {
                self.wake_all();
            }
        }
    }

    /// Wakes `waiter` once publishers may go on; at once if they may already. Answers the round in which it waits: it
    /// has been woken when [`Self::round`] differs.
    pub fn when_room(&self, waiter: Arc<dyn Waiter>) -> u64 {
        let round = {
            let mut waiters = self.waiters.lock();
            waiters.push(waiter);
            self.waiting.store(true, Ordering::Release);
            self.round()
        };
        if !self.is_far_over() {
            self.wake_all();
        }
        round
    }

    /// How often waiters were woken so far.
    pub fn round(&self) -> u64 {
        self.round.load(Ordering::Acquire)
    }

    fn wake_all(&self) {
        let waiters = {
            let mut waiters = self.waiters.lock();
            self.waiting.store(false, Ordering::Release);
            self.round.fetch_add(1, Ordering::AcqRel);
            std::mem::take(&mut *waiters)
        };
        for waiter in waiters {
            waiter.wake();
        }
    }

    /// Chunks must be evicted.
    pub fn is_over(&self) -> bool {
        self.resident_bytes() > self.budget
    }

    /// Eviction is slower than the publishers: they wait between visits until it has caught up.
    pub fn is_far_over(&self) -> bool {
        self.resident_bytes() > self.budget * 2
    }

    /// Bytes to evict until the budget holds again.
    pub fn excess_bytes(&self) -> usize {
        self.resident_bytes().saturating_sub(self.budget)
    }
}
