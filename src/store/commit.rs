//! One epoch after the other is cut, gathered, composed, written and announced.
//!
//! ```text
//! visits:   change queues ........ | change queues ........ |
//! commit:                      cut E | gather E, compose, write + sync | durable = E, wake | cut E+1 ...
//! ```
//!
//! The store thread does it ([`thread`](super::thread)), or whoever brings a little work to a store at rest
//! ([`own_work`](super::own_work)).

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rocksdb::WriteOptions;

use super::apply::Work;
use super::batch::Batch;
use super::cleaner::oldest_chunks;
use super::families::{Database, Mutable};
use super::gate::Cut;
use super::grace::Grace;
use super::intent_log::IntentLog;
use super::keys::{RowKey, state};
use super::own_work::none_settles_soon;
use super::rewrite::Rewrites;
use super::space::{self, SpaceState, is_no_space};
use super::statistics::count;
use super::{Shared, fatal};
use crate::message::op::Op;
use crate::message::{Epoch, QueueId};

/// Free space with which RocksDB has no reason to refuse writes, in bytes.
const FREE_ENOUGH: u64 = 128 * 1024 * 1024;

/// RocksDB looks for space every five seconds. If it does not go on long after there is some, a new start will.
const RESUME_MAX: Duration = Duration::from_secs(60);

/// Time between two tries to write when the disk is full.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// A store that is closed while the disk is full gives up after this time: what it holds was never confirmed.
const CLOSING_RETRIES_MAX: Duration = Duration::from_secs(10);

/// What commits: the store thread, or whoever finds it at rest.
pub(super) struct Committer {
    shared: Arc<Shared>,
    rewrites: Rewrites,
    last_start: Option<Instant>,
    /// Work came before anybody heard of the last commit: from those who do not wait for it.
    busy: bool,
    grace: Grace,
    /// Last epoch that had a batch.
    last_written: Epoch,
    /// Not before it has been made.
    intent_log: Option<IntentLog>,
}

/// Whether an epoch may rewrite what is worth it: up to megabytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rewriting {
    Now,
    Later,
}

/// How a batch reaches the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// By a sync of the write-ahead log.
    WriteAheadLog,
    /// By the intent log: the write-ahead log follows without a sync.
    IntentLog,
    /// Whenever the operating system likes.
    NoSync,
}

impl Committer {
    /// Begins behind `epoch`.
    pub(super) fn new(
        shared: Arc<Shared>,
        epoch: Epoch,
        sparse: Vec<RowKey>,
        full: Vec<QueueId>,
    ) -> Self {
        let mut rewrites = Rewrites::default();
        full.into_iter().for_each(|queue| rewrites.add_full(queue));
        sparse.into_iter().for_each(|key| rewrites.add_sparse(key));
        Self {
            rewrites,
            last_start: None,
            busy: false,
            grace: Grace::default(),
            last_written: epoch,
            intent_log: open_intent_log(&shared, epoch),
            shared,
        }
    }

    /// Whether there is something to do without a wake.
    pub(super) fn has_work(&self) -> bool {
        self.rewrites.has_work()
    }

    /// When the last commit started, if work had come before anybody heard of it.
    pub(super) fn busy_since(&self) -> Option<Instant> {
        self.last_start.filter(|_| self.busy)
    }

    /// Commits on the caller's thread, if that takes no longer than a small write to a quick disk. False: it is left
    /// to the store thread.
    pub(super) fn commit_here(&mut self) -> bool {
        if !self.is_quick() {
            return false;
        }
        if let Some(cut) = self.cut() {
            self.commit_cut(cut, Instant::now(), Rewriting::Later);
            count(&self.shared.counters.committed_here, 1);
        }
        if self.has_work() {
            self.shared.gate.wake();
        }
        true
    }

    fn is_quick(&self) -> bool {
        let shared = &self.shared;
        let is_at_rest = !self.busy
            && !self.rewrites.has_work()
            && !shared.gate.has_wake()
            && !shared.is_closing()
            && shared.upkeep.clean_bytes.load(Ordering::Acquire) == 0
            && *shared.space.borrow() == SpaceState::Ok;
        is_at_rest
            && self.intent_log.as_ref().is_some_and(IntentLog::is_quick)
            && shared
                .gate
                .small_epoch()
                .is_some_and(|(epoch, sources)| none_settles_soon(&sources, epoch))
    }

    /// Ends the open epoch and makes it durable. False when there was nothing in it and nobody waits for it.
    pub(super) fn commit(&mut self) -> bool {
        let start = Instant::now();
        let Some(cut) = self.cut() else {
            self.busy = false;
            return false;
        };
        let waited = self.grace.give(&cut.open.dirty, cut.epoch, cut.bytes, || {
            self.shared.is_closing()
        });
        let bytes = cut.bytes;
        let left = self.commit_cut(cut, start, Rewriting::Now);
        if waited {
            self.grace.learn(bytes, left);
        }
        true
    }

    /// Makes an epoch durable that was cut, and tells everybody. Answers how many of its bytes had to be written.
    fn commit_cut(&mut self, cut: Cut, start: Instant, rewriting: Rewriting) -> usize {
        self.last_start = Some(start);
        let Cut { epoch, open, bytes } = cut;
        let mut ops = Vec::new();
        for source in open.dirty {
            source.gather(epoch, &mut ops);
        }
        let left = ops.iter().map(appended_bytes).sum();
        ops.extend(open.ops);
        let shared = Arc::clone(&self.shared);
        if self.write_epoch(epoch, ops, rewriting) {
            shared.counters.committed(start.elapsed());
            shared.upkeep.poke();
        }
        self.busy = shared.gate.has_wake();
        self.announce(epoch, bytes);
        left
    }

    /// Ends the open epoch. `None` when there was nothing in it and nobody waits for it.
    pub(super) fn cut(&mut self) -> Option<Cut> {
        self.choose_old_chunks();
        let shared = &self.shared;
        let force = shared.watermark.is_awaited(shared.gate.epoch())
            || (self.rewrites.has_work() && !shared.is_closing());
        shared.gate.cut(force)
    }

    /// Tells everybody that an epoch is durable.
    pub(super) fn announce(&self, epoch: Epoch, bytes: usize) {
        self.shared.watermark.advance(epoch);
        self.shared.give_back(bytes);
    }

    /// Composes an epoch, writes it and waits for the disk. False when there was nothing to write.
    pub(super) fn write_epoch(&mut self, epoch: Epoch, ops: Vec<Op>, rewriting: Rewriting) -> bool {
        let written = self.compose_and_write(epoch, ops, rewriting);
        self.shared.index.write().written(epoch);
        count(&self.shared.counters.epochs, 1);
        written
    }

    fn compose_and_write(&mut self, epoch: Epoch, ops: Vec<Op>, rewriting: Rewriting) -> bool {
        let shared = Arc::clone(&self.shared);
        let wrote_ahead = Cell::new(false);
        let (mut batch, spill_gone) = {
            let database = shared.database.read();
            let Some(database) = database.as_ref() else {
                return false;
            };
            let mut work = Work::new(database, epoch);
            let prepared = work.prepare(&shared.index, &shared.ids, ops, |batch| {
                self.write(database, epoch, &batch, false);
                wrote_ahead.set(true);
            });
            work.apply(&mut shared.index.write(), prepared);
            if rewriting == Rewriting::Now && !shared.is_closing() {
                let rewritten =
                    self.rewrites
                        .run(&mut work, &shared.index, shared.options.tail_bytes_max);
                count(&shared.counters.bytes_rewritten, rewritten as u64);
                shared
                    .upkeep
                    .rewrites_wait
                    .store(!self.rewrites.is_empty(), Ordering::Release);
                shared
                    .upkeep
                    .old_wait
                    .store(self.rewrites.has_old(), Ordering::Release);
            }
            work.write_settled(&mut shared.index.write());
            (work.batch, work.spill_gone)
        };
        shared.forget_spilled(&spill_gone);
        if batch.is_empty() {
            return false;
        }
        self.finish(epoch, &mut batch, wrote_ahead.get());
        true
    }

    /// Adds the epoch's own rows and writes the batch. Before that something of the epoch was written ahead, or not.
    fn finish(&mut self, epoch: Epoch, batch: &mut Batch, wrote_ahead: bool) {
        let shared = Arc::clone(&self.shared);
        let ids = shared.ids.encode();
        let mut last_ids = shared.ids_written.lock();
        if *last_ids != ids {
            batch.put_quietly(Mutable::State, state::IDS, &ids);
            *last_ids = ids;
        }
        drop(last_ids);
        batch.put_quietly(
            Mutable::State,
            state::EPOCH,
            &epoch_row(epoch, shared.gate.clock_ms()),
        );
        if let Some(database) = shared.database.read().as_ref() {
            self.write_through(database, epoch, batch, wrote_ahead);
        }
        count(&shared.counters.epochs_written, 1);
    }

    /// Writes a batch and waits until it is on the disk.
    fn write_through(
        &mut self,
        database: &Database,
        epoch: Epoch,
        batch: &Batch,
        wrote_ahead: bool,
    ) {
        let shared = Arc::clone(&self.shared);
        let upkeep = &shared.upkeep;
        let way = self.way(batch, wrote_ahead);
        self.write(database, epoch, batch, way == Way::WriteAheadLog);
        upkeep.written.store(epoch, Ordering::Release);
        match way {
            Way::WriteAheadLog => upkeep.cover(epoch),
            Way::IntentLog => self.intend(database, epoch, batch),
            Way::NoSync => {}
        }
        if way != Way::NoSync {
            upkeep.synced.store(epoch, Ordering::Release);
            count(&shared.counters.syncs, 1);
        }
        self.last_written = epoch;
    }

    fn way(&mut self, batch: &Batch, wrote_ahead: bool) -> Way {
        let upkeep = &self.shared.upkeep;
        if self.shared.options.no_sync || !batch.needs_sync() {
            return Way::NoSync;
        }
        if upkeep.intent_log_made.swap(false, Ordering::AcqRel) {
            self.intent_log = open_intent_log(&self.shared, self.last_written);
        }
        let covered = upkeep.covered.load(Ordering::Acquire);
        let log = self.intent_log.as_mut().filter(|_| !wrote_ahead);
        match log.is_some_and(|log| log.has_room(batch.len(), covered)) {
            true => Way::IntentLog,
            false => Way::WriteAheadLog,
        }
    }

    /// Writes to the intent log what RocksDB has been given without a sync.
    fn intend(&mut self, database: &Database, epoch: Epoch, batch: &Batch) {
        let Some(log) = &mut self.intent_log else {
            return;
        };
        let upkeep = &self.shared.upkeep;
        let Err(error) = log.write(epoch, self.last_written, batch.bytes()) else {
            count(&self.shared.counters.intents, 1);
            if log.wants_cover(upkeep.covered.load(Ordering::Acquire)) {
                upkeep.want_cover();
            }
            return;
        };
        tracing::error!(%error, "the intent log cannot be written, commits do without");
        self.intent_log = None;
        match database.db().flush_wal(true) {
            Ok(()) => upkeep.cover(epoch),
            Err(error) => fatal(&format!("epoch {epoch} cannot be written: {error}")),
        }
    }

    /// Writes a batch. Comes back only when that succeeded (or a closing store gave up): a full disk is waited out, any
    /// other failure ends the process, since nobody can tell what of earlier writes is on the disk then.
    fn write(&self, database: &Database, epoch: Epoch, batch: &Batch, sync: bool) {
        let shared = &self.shared;
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        if let Err(failure) = self.try_write(database, epoch, batch, &options) {
            // Where this thread serves connections another one takes them over.
            tokio::task::block_in_place(|| {
                self.write_again(database, epoch, batch, &options, failure);
            });
        }
        let counters = &shared.counters;
        count(&counters.bytes_written, batch.len() as u64);
        count(&counters.rows_put, u64::from(batch.puts()));
        count(&counters.rows_deleted, u64::from(batch.single_deletes()));
        shared
            .upkeep
            .deletes
            .fetch_add(u64::from(batch.single_deletes()), Ordering::Relaxed);
    }

    fn write_again(
        &self,
        database: &Database,
        epoch: Epoch,
        batch: &Batch,
        options: &WriteOptions,
        mut failure: WriteFailure,
    ) {
        let shared = &self.shared;
        let (mut full_since, mut refused_since) = (None, None);
        loop {
            let reason = match failure {
                WriteFailure::NoSpace(reason) => reason,
                WriteFailure::Other(reason) => {
                    fatal(&format!("epoch {epoch} cannot be written: {reason}"))
                }
            };
            count(&shared.counters.retries, 1);
            let since = *full_since.get_or_insert_with(|| {
                let released = shared.ballast.release();
                tracing::error!(%reason, ballast_released = released, "the disk is full, commits wait");
                shared.space.send_replace(SpaceState::Full);
                Instant::now()
            });
            if shared.is_closing() && since.elapsed() > CLOSING_RETRIES_MAX {
                tracing::error!(
                    epoch,
                    "closed with a full disk, unconfirmed changes are lost"
                );
                return;
            }
            let enough =
                space::free_bytes(&shared.options.dir).is_ok_and(|bytes| bytes > FREE_ENOUGH);
            refused_since = refused_since
                .filter(|_| enough)
                .or_else(|| enough.then(Instant::now));
            if refused_since.is_some_and(|since: Instant| since.elapsed() > RESUME_MAX) {
                fatal(&format!(
                    "there is space again, but writes do not resume: {reason}"
                ));
            }
            std::thread::sleep(RETRY_PAUSE);
            match self.try_write(database, epoch, batch, options) {
                Ok(()) => break,
                Err(again) => failure = again,
            }
        }
        if let Some(since) = full_since {
            tracing::info!(after = ?since.elapsed(), "the disk has space again, commits go on");
            shared.space.send_replace(SpaceState::Ok);
        }
    }

    fn try_write(
        &self,
        database: &Database,
        epoch: Epoch,
        batch: &Batch,
        options: &WriteOptions,
    ) -> Result<(), WriteFailure> {
        if let Some(hook) = &self.shared.options.write_hook
            && let Err(error) = hook(epoch)
        {
            return Err(match error.raw_os_error() {
                Some(libc::ENOSPC) => WriteFailure::NoSpace(error.to_string()),
                _ => WriteFailure::Other(error.to_string()),
            });
        }
        database
            .db()
            .write_opt(batch.to_write(), options)
            .map_err(|error| match is_no_space(&error) {
                true => WriteFailure::NoSpace(error.into_string()),
                false => WriteFailure::Other(error.into_string()),
            })
    }

    #[cfg(test)]
    pub(super) fn believe_in_disk(&mut self, mean: Duration) {
        let log = self.intent_log.as_mut().expect("the test has made one");
        log.believe_in_disk(mean);
    }

    #[cfg(test)]
    pub(super) fn break_intent_log(&mut self) {
        let log = self.intent_log.as_mut().expect("the test has made one");
        log.break_file();
    }

    /// Takes up what the upkeep thread found: blob files hold too much that is dead.
    fn choose_old_chunks(&mut self) {
        let wanted = self.shared.upkeep.clean_bytes.swap(0, Ordering::AcqRel);
        if wanted > 0 && !self.rewrites.has_old() {
            self.rewrites
                .add_old(oldest_chunks(&self.shared.index.read(), wanted));
        }
    }
}

/// The intent log behind `epoch`, if there is one. A store can do without.
fn open_intent_log(shared: &Shared, epoch: Epoch) -> Option<IntentLog> {
    if shared.options.no_sync {
        return None;
    }
    IntentLog::open(&shared.options.dir, epoch).unwrap_or_else(|error| {
        tracing::warn!(%error, "the intent log cannot be opened, commits do without");
        None
    })
}

enum WriteFailure {
    NoSpace(String),
    Other(String),
}

/// Bytes of records and bodies that an operation adds.
fn appended_bytes(op: &Op) -> usize {
    match op {
        Op::Append(slice) => {
            let bodies = slice.bodies.iter();
            slice.records.len() + bodies.map(|(_, body)| body.bytes.len()).sum::<usize>()
        }
        _ => 0,
    }
}

/// The `state` row of an epoch.
pub(super) fn epoch_row(epoch: Epoch, clock_ms: u64) -> [u8; 16] {
    let mut row = [0; 16];
    row[..8].copy_from_slice(&epoch.to_le_bytes());
    row[8..].copy_from_slice(&clock_ms.to_le_bytes());
    row
}
