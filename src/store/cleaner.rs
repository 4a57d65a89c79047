//! What is done once a second while the store works, and once after it has become idle: the `durable` file, the
//! ballast, the intent log, and keeping the disk usage of blob files in proportion.
//!
//! A blob file goes when everything in it is dead and compaction has noticed. Chunks die roughly in the order in which
//! they were written, but a few that stay keep whole files. When the files hold more than twice what is live and some
//! slack, compaction is made to notice first (it moves keys only), then the store thread rewrites the oldest chunks,
//! then compaction has to notice again. Spilled rows have a round of their own, in which this thread rewrites.

use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

use super::durable_file::DurableFile;
use super::families::{Database, WriteOnce};
use super::index::Index;
use super::intent_log::{self, Made};
use super::keys::RowKey;
use super::row::Place;
use super::space::{SpaceState, is_no_space};
use super::{Shared, fatal};
use crate::message::Epoch;

/// Time between two looks while the store works.
const TICK: Duration = Duration::from_secs(1);

/// Deleted rows that make a flush of an idle store worth while.
const IDLE_FLUSH_DELETES: u64 = 256;

/// Bytes of chunks that are rewritten before compaction is made to notice.
const ROUND_BYTES: u64 = 64 * 1024 * 1024;

/// Shared between the store thread and the upkeep thread.
#[derive(Default)]
pub(super) struct Upkeep {
    thread: OnceLock<Thread>,
    active: AtomicBool,
    stopped: AtomicBool,
    /// Something was written since the last tick.
    busy: AtomicBool,
    /// Last epoch that was synced, whichever way.
    pub(super) synced: AtomicU64,
    /// Last epoch that RocksDB was given.
    pub(super) written: AtomicU64,
    /// Last epoch that a sync of the write-ahead log covers.
    pub(super) covered: AtomicU64,
    /// The write-ahead log is to be synced.
    cover_wanted: AtomicBool,
    /// There is an intent log now.
    pub(super) intent_log_made: AtomicBool,
    /// Rows deleted since the last flush.
    pub(super) deletes: AtomicU64,
    /// The store thread has rewrites that are due later.
    pub(super) rewrites_wait: AtomicBool,
    /// The store thread has old chunks left to rewrite.
    pub(super) old_wait: AtomicBool,
    /// Bytes of old chunks that the store thread is asked to rewrite.
    pub(super) clean_bytes: AtomicU64,
}

impl Upkeep {
    /// Something was written.
    pub(super) fn poke(&self) {
        self.busy.store(true, Ordering::Release);
        if !self.active.swap(true, Ordering::AcqRel) {
            self.wake();
        }
    }

    /// The write-ahead log was synced after `epoch` was written to it.
    pub(super) fn cover(&self, epoch: Epoch) {
        self.covered.fetch_max(epoch, Ordering::AcqRel);
    }

    /// The write-ahead log is to be synced before the intent log is full.
    pub(super) fn want_cover(&self) {
        if !self.cover_wanted.swap(true, Ordering::AcqRel) {
            self.wake();
        }
    }

    pub(super) fn set_thread(&self, thread: Thread) {
        // A second call cannot happen: the store starts one thread.
        let _ = self.thread.set(thread);
    }

    /// The store thread has ended.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.wake();
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

/// The upkeep thread.
pub(super) struct Cleaner {
    shared: Arc<Shared>,
    durable: DurableFile,
    rounds: [Round; 2],
    /// Whether there is an intent log, or why not, is known.
    intent_log_tried: bool,
}

/// Where the cleaning of some families is.
#[derive(Debug)]
struct Round {
    rows: Rows,
    /// What the next step of cleaning is.
    step: Step,
    /// Bytes in blob files before the last rewrite, if there was one since cleaning began.
    before: Option<u64>,
}

/// What is cleaned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rows {
    /// Chunks, and bodies that are kept apart.
    Durable,
    /// Transient records.
    Spilled,
}

/// Cleaning goes round: compact, measure, rewrite, compact again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Compaction has to notice what is dead.
    Compact,
    /// It has, and that was not enough.
    Rewrite,
    /// A whole round, with a rewrite, has freed nothing. Only new writes can change that.
    Stalled,
}

impl Cleaner {
    pub(super) fn new(shared: Arc<Shared>, durable: DurableFile) -> Self {
        Self {
            shared,
            durable,
            rounds: [Round::new(Rows::Durable), Round::new(Rows::Spilled)],
            intent_log_tried: false,
        }
    }

    /// Works until the store is closed.
    pub(super) fn run(mut self) {
        let mut due = Instant::now();
        while self.wait(due) {
            self.tick();
            due = Instant::now() + TICK;
        }
        self.cover();
        self.state_durable();
    }

    /// Waits for the next tick, until it is due and the store works. False when the store is closed.
    fn wait(&self, due: Instant) -> bool {
        let upkeep = &self.shared.upkeep;
        while !upkeep.stopped.load(Ordering::Acquire) {
            if upkeep.cover_wanted.load(Ordering::Acquire) {
                self.cover();
            } else if !upkeep.active.load(Ordering::Acquire) {
                std::thread::park();
            } else {
                match due.checked_duration_since(Instant::now()) {
                    Some(left) if !left.is_zero() => std::thread::park_timeout(left),
                    _ => return true,
                }
            }
        }
        false
    }

    /// Syncs the write-ahead log with what it was given for the intent log.
    pub(super) fn cover(&self) {
        let upkeep = &self.shared.upkeep;
        let written = upkeep.written.load(Ordering::Acquire);
        if written > upkeep.covered.load(Ordering::Acquire)
            && let Some(database) = self.shared.database.read().as_ref()
        {
            match database.db().flush_wal(true) {
                Ok(()) => upkeep.cover(written),
                // The next commit finds no room in the intent log, and waits for space.
                Err(error) if is_no_space(&error) => {}
                Err(error) => fatal(&format!("the write-ahead log cannot be synced: {error}")),
            }
        }
        upkeep.cover_wanted.store(false, Ordering::Release);
    }

    /// Makes the intent log when there is plenty of room, once.
    fn make_intent_log(&mut self) {
        let options = &self.shared.options;
        if self.intent_log_tried || options.no_sync {
            return;
        }
        match intent_log::make(&options.dir) {
            Ok(Made::NoRoomYet) => return,
            Ok(Made::AlreadyThere | Made::NotPossible) => {}
            Ok(Made::Now) => {
                let made = &self.shared.upkeep.intent_log_made;
                made.store(true, Ordering::Release);
            }
            Err(error) => tracing::warn!(%error, "cannot make the intent log, commits do without"),
        }
        self.intent_log_tried = true;
    }

    pub(super) fn tick(&mut self) {
        let shared = Arc::clone(&self.shared);
        self.state_durable();
        if *shared.space.borrow() == SpaceState::Ok
            && let Err(error) = shared.ballast.make()
        {
            tracing::warn!(%error, "cannot make the ballast file");
        }
        self.make_intent_log();
        let waits = shared.upkeep.rewrites_wait.load(Ordering::Acquire);
        if waits {
            shared.gate.wake();
        }
        let busy = shared.upkeep.busy.swap(false, Ordering::AcqRel);
        let cleaning = match shared.database.read().as_ref() {
            Some(database) => self.clean(database, busy),
            None => false,
        };
        if !busy && !waits && !cleaning {
            shared.upkeep.active.store(false, Ordering::Release);
            // A commit between the look at `busy` and here has found `active` still set.
            if shared.upkeep.busy.load(Ordering::Acquire) {
                shared.upkeep.active.store(true, Ordering::Release);
            }
        }
    }

    pub(super) fn state_durable(&mut self) {
        let synced = self.shared.upkeep.synced.load(Ordering::Acquire);
        if synced == 0 {
            return;
        }
        if let Err(error) = self.durable.write(synced) {
            if error.raw_os_error() == Some(libc::ENOSPC) {
                tracing::warn!(%error, "cannot write the last durable epoch");
            } else {
                fatal(&format!(
                    "the last durable epoch cannot be written: {error}"
                ));
            }
        }
    }

    /// Lets dead rows leave the disk. True when there is more to do.
    fn clean(&mut self, database: &Database, busy: bool) -> bool {
        let mut excess = false;
        let mut more = false;
        for round in &mut self.rounds {
            let Some(size) = round.rows.excess(&self.shared, database) else {
                round.begin();
                continue;
            };
            excess = true;
            more |= said(round.step(&self.shared, database, busy, size));
        }
        if !excess {
            said(self.flush_when_idle(database, busy).map(|()| false));
        }
        more
    }

    fn flush_when_idle(&self, database: &Database, busy: bool) -> Result<(), rocksdb::Error> {
        let deletes = self.shared.upkeep.deletes.load(Ordering::Relaxed);
        if busy || deletes < IDLE_FLUSH_DELETES {
            return Ok(());
        }
        self.shared
            .upkeep
            .deletes
            .fetch_sub(deletes, Ordering::Relaxed);
        flush(database)
    }
}

/// What a step of cleaning said, false if it failed.
fn said(result: Result<bool, rocksdb::Error>) -> bool {
    result.unwrap_or_else(|error| {
        // A full disk shows in the next commit, and so does anything else that matters.
        if !is_no_space(&error) {
            tracing::error!(%error, "cannot clean up");
        }
        false
    })
}

impl Round {
    const fn new(rows: Rows) -> Self {
        Self {
            rows,
            step: Step::Compact,
            before: None,
        }
    }

    const fn begin(&mut self) {
        *self = Self::new(self.rows);
    }

    /// Takes a step, as the blob files have `size` bytes. True when there is more to do.
    fn step(
        &mut self,
        shared: &Shared,
        database: &Database,
        busy: bool,
        size: u64,
    ) -> Result<bool, rocksdb::Error> {
        if self.rows.rewrite_goes_on(shared) {
            return Ok(true);
        }
        if busy && self.step == Step::Stalled {
            self.begin();
        }
        match self.step {
            Step::Compact => {
                for family in self.rows.families() {
                    compact(database, *family)?;
                }
                let left = self.rows.excess(shared, database).unwrap_or(0);
                // Files in each of which something lives give compaction alone nothing to free.
                self.step = match self.before {
                    Some(before) if left >= before => Step::Stalled,
                    _ => Step::Rewrite,
                };
            }
            Step::Rewrite => {
                self.before = Some(size);
                self.rows.rewrite(shared, database)?;
                self.step = Step::Compact;
            }
            Step::Stalled => return Ok(false),
        }
        Ok(true)
    }
}

impl Rows {
    const fn families(self) -> &'static [WriteOnce] {
        match self {
            Self::Durable => &[WriteOnce::Chunks, WriteOnce::Bodies],
            Self::Spilled => &[WriteOnce::Spill],
        }
    }

    /// Size of the blob files if it is out of proportion to what is live in them.
    fn excess(self, shared: &Shared, database: &Database) -> Option<u64> {
        let live = {
            let index = shared.index.read();
            match self {
                Self::Durable => [index.chunk_live_bytes, index.body_live_bytes],
                Self::Spilled => [index.spill_live_bytes, 0],
            }
        };
        let slack = shared.options.blob_slack_bytes;
        let mut sum = 0;
        let mut is_much = false;
        for (family, live) in self.families().iter().zip(live) {
            let size = blob_bytes(database, *family);
            is_much |= size > 2 * live + slack;
            sum += size;
        }
        is_much.then_some(sum)
    }

    /// The last [`Self::rewrite`] is not over.
    fn rewrite_goes_on(self, shared: &Shared) -> bool {
        let upkeep = &shared.upkeep;
        self == Self::Durable
            && (upkeep.clean_bytes.load(Ordering::Acquire) > 0
                || upkeep.old_wait.load(Ordering::Acquire))
    }

    fn rewrite(self, shared: &Shared, database: &Database) -> Result<(), rocksdb::Error> {
        match self {
            Self::Durable => {
                shared
                    .upkeep
                    .clean_bytes
                    .store(ROUND_BYTES, Ordering::Release);
                shared.gate.wake();
                Ok(())
            }
            Self::Spilled => shared.respill(database, ROUND_BYTES),
        }
    }
}

/// Bytes in the blob files of a family.
pub(super) fn blob_bytes(database: &Database, family: WriteOnce) -> u64 {
    let size = database
        .db()
        .property_int_value_cf(database.family(family), "rocksdb.total-blob-file-size");
    size.ok().flatten().unwrap_or(0)
}

/// The chunks that were written first, of all queues: together about `bytes`.
pub(super) fn oldest_chunks(index: &Index, bytes: u64) -> Vec<RowKey> {
    let all = index.queues.iter().flat_map(|(id, queue)| {
        let rows = queue.rows().iter();
        let chunks = rows.filter(|(_, row)| row.place == Place::Chunks);
        chunks.map(|(first, row)| (row.key(*id, *first), u64::from(row.bytes)))
    });
    oldest(all, bytes)
}

/// Those of the rows, given with their sizes, that were written first: together about `bytes`.
pub(super) fn oldest(rows: impl Iterator<Item = (RowKey, u64)>, bytes: u64) -> Vec<RowKey> {
    let mut oldest: BinaryHeap<(Epoch, RowKey, u64)> = BinaryHeap::new();
    let mut sum = 0;
    for (key, size) in rows {
        if sum >= bytes
            && oldest
                .peek()
                .is_some_and(|(newest, ..)| *newest <= key.epoch)
        {
            continue;
        }
        sum += size;
        oldest.push((key.epoch, key, size));
        while let Some((_, _, last)) = oldest.peek()
            && sum - last >= bytes
        {
            sum -= last;
            oldest.pop();
        }
    }
    oldest
        .into_sorted_vec()
        .into_iter()
        .map(|(_, key, _)| key)
        .collect()
}

pub(super) fn flush(database: &Database) -> Result<(), rocksdb::Error> {
    use WriteOnce as W;
    for family in [W::Tail, W::Chunks, W::Index, W::Settled, W::Bodies, W::Due] {
        database.db().flush_cf(database.family(family))?;
    }
    database.db().flush_cf(database.state())
}

pub(super) fn compact(database: &Database, family: WriteOnce) -> Result<(), rocksdb::Error> {
    database.db().flush_cf(database.family(family))?;
    database
        .db()
        .compact_range_cf(database.family(family), None::<&[u8]>, None::<&[u8]>);
    Ok(())
}
