//! The epoch gate: who changes state, and where one epoch ends and the next begins.
//!
//! Every change happens inside a [`Visit`], which holds the gate shared. The store thread **cuts** under the gate held
//! exclusively: the epoch number moves on and the dirty list is swapped, nothing else, so that the world stands still
//! for a moment only. Since a visit sees one epoch number from its beginning to its end, all that it changes (the
//! removal of a dead letter here, its arrival there) is in one epoch and so in one commit.
//!
//! Lock order: gate, then a queue, then an outbox. A visit never nests: parking_lot parks new readers behind a waiting
//! writer, so that a thread which asks for the gate while it holds it would wait for itself.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::Thread;

use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use super::options::EPOCH_BYTES_EARLY;
use super::own_work;
use crate::message::op::Op;
use crate::message::{Epoch, Ticket};

/// Anything that has work for the next epoch: a queue.
pub trait Source: Send + Sync {
    /// Appends to `ops` everything that changed in epochs up to `epoch` and was not gathered yet, without the records
    /// that were settled meanwhile.
    ///
    /// Called by the store thread, outside the gate, once per epoch in which the source was marked dirty. Must not open
    /// a visit. Records of one queue come with rising seqs, across epochs too.
    fn gather(&self, epoch: Epoch, ops: &mut Vec<Op>);

    /// Whether records that arrived in epochs up to `epoch` and were not gathered are with consumers: what these settle
    /// before the gathering is never written.
    fn may_settle_soon(&self, _epoch: Epoch) -> bool {
        false
    }
}

/// What happened in an epoch so far, besides what sources keep themselves.
#[derive(Default)]
pub(super) struct Open {
    pub(super) dirty: Vec<Arc<dyn Source>>,
    pub(super) ops: Vec<Op>,
}

/// What a cut takes away.
pub(super) struct Cut {
    pub(super) epoch: Epoch,
    pub(super) open: Open,
    /// Bytes announced with [`Visit::add_pending`], to be given back when the epoch is durable.
    pub(super) bytes: usize,
}

struct Inside {
    epoch: Epoch,
    open: Mutex<Open>,
}

pub(super) struct Gate {
    inside: RwLock<Inside>,
    /// The number of the open epoch, for those who do not hold the gate.
    epoch: AtomicU64,
    /// Bytes announced in the open epoch.
    open_bytes: AtomicUsize,
    /// Bytes announced and not durable.
    pending_bytes: AtomicUsize,
    /// Milliseconds since the Unix epoch: never goes back, not even over a restart.
    clock: AtomicU64,
    signal: Signal,
}

/// Wakes the store thread without a system call when it is awake.
#[derive(Default)]
struct Signal {
    work: AtomicBool,
    urgent: AtomicBool,
    thread: std::sync::OnceLock<Thread>,
}

impl Signal {
    fn raise(&self, flag: &AtomicBool) {
        if !flag.swap(true, Ordering::AcqRel)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }
}

impl Gate {
    pub(super) fn new(first_epoch: Epoch, clock_ms: u64) -> Self {
        Self {
            inside: RwLock::new(Inside {
                epoch: first_epoch,
                open: Mutex::default(),
            }),
            epoch: AtomicU64::new(first_epoch),
            open_bytes: AtomicUsize::new(0),
            pending_bytes: AtomicUsize::new(0),
            clock: AtomicU64::new(clock_ms),
            signal: Signal::default(),
        }
    }

    /// Names the thread that is woken when there is work.
    pub(super) fn set_thread(&self, thread: Thread) {
        // A second call cannot happen: the store starts one thread.
        let _ = self.signal.thread.set(thread);
    }

    pub(super) fn visit(&self, now_ms: u64) -> Visit<'_> {
        let nested = VISITING.replace(true);
        assert!(!nested, "a visit was asked for within a visit");
        let inside = self.inside.read();
        let epoch = inside.epoch;
        Visit {
            gate: self,
            epoch,
            now_ms: self.tick(now_ms),
            inside: Some(inside),
            work: Cell::new(false),
            urgent: Cell::new(false),
        }
    }

    fn tick(&self, now_ms: u64) -> u64 {
        let seen = self.clock.load(Ordering::Relaxed);
        if now_ms <= seen {
            return seen;
        }
        self.clock.fetch_max(now_ms, Ordering::Relaxed).max(now_ms)
    }

    /// The latest time that a visit was given.
    pub(super) fn clock_ms(&self) -> u64 {
        self.clock.load(Ordering::Relaxed)
    }

    /// The number of the open epoch.
    pub(super) fn epoch(&self) -> Epoch {
        self.epoch.load(Ordering::Acquire)
    }

    /// Ends the open epoch. `None` when nothing happened in it, unless `force` demands an (empty) epoch.
    pub(super) fn cut(&self, force: bool) -> Option<Cut> {
        let mut inside = self.inside.write();
        let bytes = self.open_bytes.swap(0, Ordering::AcqRel);
        let open = std::mem::take(inside.open.get_mut());
        if !force && bytes == 0 && open.dirty.is_empty() && open.ops.is_empty() {
            return None;
        }
        let epoch = inside.epoch;
        inside.epoch += 1;
        self.epoch.store(inside.epoch, Ordering::Release);
        Some(Cut { epoch, open, bytes })
    }

    /// The open epoch and its sources, if there is so little in it that to commit it takes one small write.
    pub(super) fn small_epoch(&self) -> Option<(Epoch, Vec<Arc<dyn Source>>)> {
        let inside = self.inside.read();
        let open = inside.open.lock();
        let is_small = self.open_bytes.load(Ordering::Acquire) <= own_work::BYTES_MAX
            && open.dirty.len() <= own_work::SOURCES_MAX
            && open.ops.is_empty();
        is_small.then(|| (inside.epoch, open.dirty.clone()))
    }

    pub(super) fn pending_bytes(&self) -> usize {
        self.pending_bytes.load(Ordering::Acquire)
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.pending_bytes.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// Enough waits in the open epoch to commit before the pace allows it.
    pub(super) fn wants_early_commit(&self) -> bool {
        self.open_bytes.load(Ordering::Acquire) >= EPOCH_BYTES_EARLY
    }

    /// Tells the store thread to look for work.
    pub(super) fn wake(&self) {
        self.signal.raise(&self.signal.work);
    }

    /// True once per wake; called by the store thread before it looks for work.
    pub(super) fn take_wake(&self) -> bool {
        self.signal.urgent.store(false, Ordering::Release);
        self.signal.work.swap(false, Ordering::AcqRel)
    }

    /// Whether a wake waits to be taken.
    pub(super) fn has_wake(&self) -> bool {
        self.signal.work.load(Ordering::Acquire)
    }
}

thread_local! {
    /// This thread holds a visit. A second one would wait for the first as soon as a cut waits between them: rarely,
    /// and for ever. So it is refused always.
    static VISITING: Cell<bool> = const { Cell::new(false) };
}

/// Panics where waiting for an epoch would be waiting for oneself.
pub(super) fn assert_outside() {
    assert!(!VISITING.get(), "a visit cannot wait for its own epoch");
}

/// One bounded piece of work on shared state: the right to change queues and topology.
///
/// Synchronous and short (at most 256 messages or 64 KiB): while it lives, no epoch can end. It is not `Send`, so that
/// it cannot be held across an await. A thread that holds one must not open another.
pub struct Visit<'a> {
    gate: &'a Gate,
    epoch: Epoch,
    now_ms: u64,
    /// Present until the visit is dropped.
    inside: Option<RwLockReadGuard<'a, Inside>>,
    work: Cell<bool>,
    urgent: Cell<bool>,
}

impl Visit<'_> {
    /// The epoch that everything in this visit belongs to.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The time of this visit in ms since the Unix epoch. Never earlier than that of an earlier visit, over restarts
    /// too.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Announces that `source` has something to gather for this epoch. The caller does this once per source and epoch.
    pub fn mark_dirty(&self, source: Arc<dyn Source>) {
        self.open(|open| open.dirty.push(source));
    }

    /// Counts `bytes` that wait for this epoch's commit, for back-pressure. Given back when the epoch is durable.
    pub fn add_pending(&self, bytes: usize) {
        self.gate.pending_bytes.fetch_add(bytes, Ordering::AcqRel);
        let before = self.gate.open_bytes.fetch_add(bytes, Ordering::AcqRel);
        if before < EPOCH_BYTES_EARLY && before + bytes >= EPOCH_BYTES_EARLY {
            self.urgent.set(true);
        }
        if before == 0 {
            self.work.set(true);
        }
    }

    /// Adds a change that belongs to no source (topology), behind those pushed before it.
    pub fn push(&self, op: Op) -> Ticket {
        self.open(|open| open.ops.push(op));
        self.ticket()
    }

    /// What is durable when everything in this visit is.
    pub fn ticket(&self) -> Ticket {
        Ticket::local(self.epoch)
    }

    fn open(&self, change: impl FnOnce(&mut Open)) {
        if let Some(inside) = &self.inside {
            change(&mut inside.open.lock());
            self.work.set(true);
        }
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        // The gate is left first: the store thread would only wait for it.
        drop(self.inside.take());
        VISITING.set(false);
        if self.work.get() && !own_work::hold_back() {
            self.gate.wake();
        }
        if self.urgent.get() {
            self.gate.signal.raise(&self.gate.signal.urgent);
        }
    }
}
