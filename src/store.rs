//! The journal: everything durable, on RocksDB, in one group commit after the other.
//!
//! ```text
//! visit (gate shared) -> queues and topology change -> cut (gate exclusive) -> gather -> batch -> write, sync ->
//! durable
//! ```
//!
//! The store knows queues as ids, messages as records with seqs, and everything else as keys and values of the `state`
//! family. It does not know what they mean. What it promises:
//!
//! - A [`Ticket`] that is durable covers everything done in its epoch: synced to disk, or settled before it was
//!   written.
//! - An epoch is on disk as a whole or not at all, and never without all epochs before it.
//! - After a crash every record comes back whose epoch was durable and which was not settled in a durable epoch, with
//!   its
//!   seq; a seq on disk is never given to another message.
//! - Memory grows with the number of chunks (about 90 bytes for 256 KiB), not with that of messages.
//!
//! Only the store's own threads and the callers of [`Store::load`], [`Store::spill`] and [`WakesHeld::commit`] touch
//! RocksDB.

mod apply;
mod batch;
mod bodies;
#[cfg(test)]
mod by_hand;
mod cleaner;
mod commit;
mod direct;
mod due;
mod durable_file;
mod encode;
mod error;
mod families;
mod gate;
mod grace;
mod ids;
mod index;
mod intent_log;
mod keys;
mod load;
mod look;
mod options;
mod own_work;
mod queue_index;
mod recovery;
mod respill;
mod rewrite;
mod row;
mod settled_row;
mod space;
mod spill;
mod statistics;
mod thread;
mod waiters;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};

#[cfg(test)]
pub(crate) use by_hand::{Step, StoreByHand};
pub use due::{DueEntry, DuePage, RecoveredDue};
pub use error::{LoadError, OpenError, SpillError};
pub use gate::{Source, Visit};
pub use load::Loaded;
pub use options::{
    BALLAST_BYTES, BLOB_SLACK_BYTES, BODY_PART_BYTES, CHUNK_BYTES, CHUNK_BYTES_MIN,
    EPOCH_BYTES_EARLY, EPOCH_BYTES_MAX, Identity, SLICES_MAX, StoreOptions, TAIL_BYTES_MAX,
    WriteHook,
};
pub use own_work::WakesHeld;
pub use recovery::{ExpiringRow, Recovered, RecoveredQueue, StateRows};
pub use space::SpaceState;
pub use statistics::Statistics;
pub use waiters::Waiter;

use crate::message::op::{Op, Slice};
use crate::message::{Epoch, QueueId, Seq, Ticket, base_id};
use cleaner::{Cleaner, Upkeep};
use commit::Committer;
use families::Database;
use gate::Gate;
use ids::Ids;
use index::Index;
use space::Ballast;
use statistics::Counters;
use waiters::Watermark;

/// A cheap handle on an open store.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

impl Store {
    /// Opens or creates the store in a directory and reads what has to be known of it. Blocks.
    pub fn open(options: StoreOptions) -> Result<(Self, Recovered), OpenError> {
        let (parts, recovered) = Parts::open(options)?;
        let shared = Arc::clone(&parts.shared);
        let (committer, thread) = start(parts);
        Ok((Self::over(shared, Some(committer), Some(thread)), recovered))
    }

    /// The broker's rows of family `state` in a directory, by key, without opening its store: another process may work
    /// in it. `None`: there never was a store. Blocks.
    ///
    /// # Errors
    /// The directory cannot be read, or a newer version wrote it.
    pub fn look(dir: &Path) -> Result<Option<StateRows>, OpenError> {
        look::broker_rows(dir)
    }

    fn over(
        shared: Arc<Shared>,
        committer: Option<Arc<Mutex<Committer>>>,
        thread: Option<JoinHandle<()>>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                shared,
                committer,
                thread: Mutex::new(thread),
            }),
        }
    }

    /// Begins a piece of work on shared state. `now_ms` is the time since the Unix epoch, read once for the visit.
    ///
    /// Waits for a cut that is under way. A thread that already holds a visit must not ask for another.
    pub fn visit(&self, now_ms: u64) -> Visit<'_> {
        self.shared().gate.visit(now_ms)
    }

    /// Until what it returns is gone, visits of this thread do not wake the store thread: what they do may be committed
    /// here, see [`WakesHeld::commit`].
    pub fn hold_wakes(&self) -> WakesHeld<'_> {
        WakesHeld::new(self)
    }

    /// The last durable epoch.
    pub fn durable(&self) -> Epoch {
        self.shared().watermark.durable()
    }

    /// Whether everything that `ticket` covers is durable.
    pub fn is_durable(&self, ticket: Ticket) -> bool {
        self.durable() >= ticket.position
    }

    /// Wakes `waiter` once when `ticket` is durable; at once, on this thread, if it is already.
    pub fn subscribe(&self, ticket: Ticket, waiter: Arc<dyn Waiter>) {
        let shared = self.shared();
        let waits = shared.watermark.subscribe(ticket.position, waiter);
        // There may be nothing in an open epoch that would end it. One that was cut is being written: a wake would only
        // make the store look busy, and the next commit late.
        if waits && ticket.position >= shared.gate.epoch() {
            shared.gate.wake();
        }
    }

    /// Waits until `ticket` is durable. Not within a visit, which would keep the epoch from ending.
    pub async fn wait(&self, ticket: Ticket) {
        gate::assert_outside();
        if !self.is_durable(ticket) {
            let woken = Arc::new(Notify::new());
            self.subscribe(ticket, Arc::clone(&woken) as Arc<dyn Waiter>);
            woken.notified().await;
        }
    }

    /// Bytes announced with [`Visit::add_pending`] that are not durable yet.
    pub fn pending_bytes(&self) -> usize {
        self.shared().gate.pending_bytes()
    }

    /// Whether publishers may go on: less than [`EPOCH_BYTES_MAX`] waits.
    pub fn has_room(&self) -> bool {
        self.pending_bytes() < EPOCH_BYTES_MAX
    }

    /// Waits until [`Self::has_room`].
    pub async fn room(&self) {
        gate::assert_outside();
        loop {
            let mut freed = std::pin::pin!(self.shared().room.notified());
            // Registered before the look, so that no change is missed.
            freed.as_mut().enable();
            if self.has_room() {
                return;
            }
            freed.await;
        }
    }

    /// Reads records back: those of `from..=upto` that are not settled, as far as the store has applied it, about 256
    /// KiB at a time. Blocks; for a thread pool.
    ///
    /// Only for records that are durable or were spilled: what is not written yet is not found.
    pub fn load(&self, queue: QueueId, from: Seq, upto: Seq) -> Result<Loaded, LoadError> {
        self.shared().load(queue, from, upto)
    }

    /// What [`Self::load`] would read now: up to which seq, and roughly how many bytes. `None`: it would fail.
    pub fn load_extent(&self, queue: QueueId, from: Seq, upto: Seq) -> Option<(Seq, usize)> {
        self.shared().load_extent(queue, from, upto)
    }

    /// Reads what `owner` has due, from `from` (time, seq) on in that order: at most `count_max` rows, and no more
    /// after `bytes_max` bytes, but at least one. Only what is written is found, and what was removed in an epoch that
    /// is not written yet is still found. Blocks; for a thread pool.
    ///
    /// The cost does not depend on what is before `from`, where removed rows have left their tombstones: read on from
    /// the last entry, or from [`RecoveredDue::earliest_ms`] after a start.
    ///
    /// # Errors
    /// The store is closed, or a row cannot be read.
    pub fn due(
        &self,
        owner: QueueId,
        from: (u64, Seq),
        count_max: usize,
        bytes_max: usize,
    ) -> Result<DuePage, LoadError> {
        self.shared().due(owner, from, count_max, bytes_max)
    }

    /// Puts transient records aside until they are settled or loaded; a restart forgets them. Blocks; for a thread
    /// pool.
    ///
    /// Settle operations are applied to what is spilled when they are committed: the queue repeats those for records
    /// that were settled between taking the slice and the return of this call.
    pub fn spill(&self, slice: Slice) -> Result<(), SpillError> {
        self.shared().spill(slice)
    }

    /// A queue id that was never given out before in this directory, as far as anything on disk names it. Below
    /// `1 << 48`: the bits above are for the queue's lanes, see [`crate::message::lane_id`].
    pub fn next_queue_id(&self) -> QueueId {
        self.shared().ids.next_queue()
    }

    /// An id for a body that several durable queues share. Never 0, never given out before.
    pub fn next_body_id(&self) -> u64 {
        self.shared().ids.next_body()
    }

    /// Deletes the rows of all queues, with all their lanes, but `known`, given by their base ids: what a crash between
    /// two epochs cannot leave, but an older version or a lost topology row might. The ticket is durable when they are
    /// gone.
    pub fn forget_unknown(&self, known: &HashSet<QueueId>, now_ms: u64) -> Ticket {
        let mut unknown: Vec<QueueId> = {
            let index = self.shared().index.read();
            let all = index.queues.keys().chain(index.due.keys()).copied();
            all.filter(|queue| !known.contains(&base_id(*queue)))
                .collect()
        };
        unknown.sort_unstable();
        unknown.dedup();
        if unknown.is_empty() {
            return Ticket::IMMEDIATE;
        }
        // What was not durable left them: transient queues and delayed messages.
        tracing::info!(
            owners = unknown.len(),
            "deleting rows that belong to nothing durable"
        );
        let visit = self.visit(now_ms);
        for queue in unknown {
            visit.push(Op::QueueDeleted { queue });
        }
        visit.ticket()
    }

    /// Whether commits find room on the disk.
    pub fn space(&self) -> SpaceState {
        *self.shared().space.borrow()
    }

    /// Follows [`Self::space`].
    pub fn space_changes(&self) -> watch::Receiver<SpaceState> {
        self.shared().space.subscribe()
    }

    /// What the store has done and how large it is.
    pub fn statistics(&self) -> Statistics {
        let shared = self.shared();
        let index = shared.index.read();
        Statistics {
            queues: index.queues.len() as u64,
            rows: index
                .queues
                .values()
                .map(|queue| queue.rows().len() as u64)
                .sum(),
            tail_bytes: index.tail_bytes,
            chunk_live_bytes: index.chunk_live_bytes,
            bodies: index.bodies.len() as u64,
            due: index.due.values().map(|due| due.recovered.count).sum(),
            ..shared.counters.read()
        }
    }

    /// Commits what is pending, syncs and closes. Nothing becomes durable afterwards.
    pub async fn close(&self) {
        let shared = self.shared();
        let mut stopped = shared.stopped.subscribe();
        shared.close();
        // An error means that the sender is gone, and with it the store.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    }

    fn shared(&self) -> &Shared {
        &self.inner.shared
    }
}

/// Closes the store with its last handle.
struct Inner {
    shared: Arc<Shared>,
    /// `None`: it is worked by hand.
    committer: Option<Arc<Mutex<Committer>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.close();
        // The last handle may be that of a waiter which the store thread has just woken.
        if let Some(thread) = self
            .thread
            .lock()
            .take()
            .filter(|thread| thread.thread().id() != std::thread::current().id())
        {
            let _ = thread.join();
        }
    }
}

/// What the handles and the store's threads have in common.
struct Shared {
    options: StoreOptions,
    gate: Gate,
    watermark: Watermark,
    /// `None` once the store is closed.
    database: RwLock<Option<Database>>,
    index: RwLock<Index>,
    ids: Ids,
    /// The ids as they were last written.
    ids_written: Mutex<[u8; 16]>,
    space: watch::Sender<SpaceState>,
    room: Notify,
    counters: Counters,
    upkeep: Upkeep,
    ballast: Ballast,
    closing: AtomicBool,
    stopped: watch::Sender<bool>,
}

impl Shared {
    fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.gate.wake();
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    fn give_back(&self, bytes: usize) {
        let before = self.gate.pending_bytes();
        self.gate.give_back(bytes);
        if before >= EPOCH_BYTES_MAX && self.gate.pending_bytes() < EPOCH_BYTES_MAX {
            self.room.notify_waiters();
        }
    }
}

/// An open store at rest: whoever has this makes it work.
struct Parts {
    shared: Arc<Shared>,
    committer: Committer,
    cleaner: Cleaner,
    owner: File,
}

impl Parts {
    fn open(options: StoreOptions) -> Result<(Self, Recovered), OpenError> {
        let ballast = Ballast::new(&options.dir, options.ballast_bytes);
        let opened = recovery::open(&options, &ballast)?;
        let shared = Arc::new(Shared {
            gate: Gate::new(opened.epoch + 1, opened.clock_ms),
            watermark: Watermark::new(opened.epoch),
            database: RwLock::new(Some(opened.database)),
            index: RwLock::new(opened.index),
            ids_written: Mutex::new(opened.ids.encode()),
            ids: opened.ids,
            space: watch::channel(SpaceState::Ok).0,
            room: Notify::new(),
            counters: Counters::default(),
            upkeep: Upkeep::default(),
            ballast,
            closing: AtomicBool::new(false),
            stopped: watch::channel(false).0,
            options,
        });
        let parts = Self {
            committer: Committer::new(
                Arc::clone(&shared),
                opened.epoch,
                opened.sparse,
                opened.full,
            ),
            cleaner: Cleaner::new(Arc::clone(&shared), opened.durable_file),
            owner: opened.owner,
            shared,
        };
        Ok((parts, opened.recovered))
    }
}

/// Starts the store thread, which starts the upkeep thread and takes everything down at the end.
fn start(parts: Parts) -> (Arc<Mutex<Committer>>, JoinHandle<()>) {
    let Parts {
        shared,
        committer,
        cleaner,
        owner,
    } = parts;
    let gate_owner = Arc::clone(&shared);
    let committer = Arc::new(Mutex::new(committer));
    let commits = Arc::clone(&committer);
    let thread = spawn("store", move || {
        let upkeep = spawn("store-upkeep", move || cleaner.run());
        shared.upkeep.set_thread(upkeep.thread().clone());
        shared.upkeep.poke();
        thread::run(&commits, &shared);
        shared.upkeep.stop();
        let _ = upkeep.join();
        drop(shared.database.write().take());
        drop(owner);
        shared.watermark.close();
        shared.stopped.send_replace(true);
    });
    gate_owner.gate.set_thread(thread.thread().clone());
    // What came before the gate knew its thread.
    thread.thread().unpark();
    (committer, thread)
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    let thread = std::thread::Builder::new().name(name.into()).spawn(body);
    thread.expect("a process that cannot start a thread cannot go on")
}

/// Ends the process: the disk holds what was confirmed, a start continues from there.
fn fatal(reason: &str) -> ! {
    tracing::error!(reason, "the store cannot go on");
    std::process::abort();
}
