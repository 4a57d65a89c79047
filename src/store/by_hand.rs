//! The store without its threads: whoever holds this takes its steps, one at a time, in any moment that the store
//! thread could have chosen. What happens between two steps happens between two steps.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::commit::Rewriting;
use super::gate::{Cut, Source};
use super::{OpenError, Parts, Recovered, Store, StoreOptions, cleaner};
use crate::message::Epoch;
use crate::message::op::Op;

/// An epoch on its way to the disk.
struct UnderWay {
    epoch: Epoch,
    bytes: usize,
    /// Who was not asked yet.
    sources: VecDeque<Arc<dyn Source>>,
    gathered: Vec<Op>,
    pushed: Vec<Op>,
    is_written: bool,
}

/// Takes the steps of a store.
pub(crate) struct StoreByHand {
    parts: Parts,
    under_way: Option<UnderWay>,
}

/// What a step has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// There was nothing to do.
    Idle,
    /// This epoch ended and is gathered from now on.
    Cut(Epoch),
    /// One source told what it owes.
    Gathered,
    /// The epoch was given to the disk, as a whole.
    Written(Epoch),
    /// Everybody was told that the epoch is durable.
    Announced(Epoch),
}

impl StoreByHand {
    pub(crate) fn open(options: StoreOptions) -> Result<(Self, Store, Recovered), OpenError> {
        let (parts, recovered) = Parts::open(options)?;
        let store = Store::over(Arc::clone(&parts.shared), None, None);
        let by_hand = Self {
            parts,
            under_way: None,
        };
        Ok((by_hand, store, recovered))
    }

    /// The next step of the store thread.
    pub(crate) fn step(&mut self) -> Step {
        let committer = &mut self.parts.committer;
        let Some(passing) = &mut self.under_way else {
            let Some(Cut { epoch, open, bytes }) = committer.cut() else {
                return Step::Idle;
            };
            self.under_way = Some(UnderWay {
                epoch,
                bytes,
                sources: open.dirty.into(),
                gathered: Vec::new(),
                pushed: open.ops,
                is_written: false,
            });
            return Step::Cut(epoch);
        };
        let epoch = passing.epoch;
        if let Some(source) = passing.sources.pop_front() {
            source.gather(epoch, &mut passing.gathered);
            return Step::Gathered;
        }
        if !passing.is_written {
            passing.is_written = true;
            let mut ops = std::mem::take(&mut passing.gathered);
            ops.append(&mut passing.pushed);
            committer.write_epoch(epoch, ops, Rewriting::Now);
            return Step::Written(epoch);
        }
        committer.announce(epoch, passing.bytes);
        self.under_way = None;
        Step::Announced(epoch)
    }

    /// The last epoch that the store waited for the disk to have; 0 for none since it was opened.
    pub(crate) fn synced(&self) -> Epoch {
        self.parts.shared.upkeep.synced.load(Ordering::Acquire)
    }

    /// The last epoch that a sync of the write-ahead log covers.
    pub(crate) fn covered(&self) -> Epoch {
        self.parts.shared.upkeep.covered.load(Ordering::Acquire)
    }

    /// What the upkeep thread does once a second.
    pub(crate) fn upkeep(&mut self) {
        self.parts.cleaner.tick();
    }

    /// From now on the disk refuses what goes to the intent log.
    pub(crate) fn break_intent_log(&mut self) {
        self.parts.committer.break_intent_log();
    }

    /// RocksDB writes its memory to files, as it does whenever it likes.
    pub(crate) fn flush(&self) {
        let database = self.parts.shared.database.read();
        let database = database.as_ref().expect("it is open as long as this lives");
        cleaner::flush(database).expect("a disk that works");
    }

    /// Makes everything durable and closes.
    pub(crate) fn close(mut self) {
        while self.step() != Step::Idle {}
        self.parts.cleaner.cover();
        self.parts.cleaner.state_durable();
    }
}

impl Drop for StoreByHand {
    /// The database closes now, whoever still holds the store.
    fn drop(&mut self) {
        drop(self.parts.shared.database.write().take());
    }
}
