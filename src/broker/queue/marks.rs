//! The marks of messages that expire out of order: the times of these messages, the nearest first.
//!
//! A bounded number is in memory; further ones are rows of family `due`, of which the index keeps the nearest. The rows
//! stand under an id that is new with each start: the next start finds the times in the messages themselves, and
//! removes the rows with everything else that belongs to nothing.

use crate::broker::due::{self, DueIndex, DueKey, Limits, PageRequest, Removed, UNSTAMPED};
use crate::message::{Epoch, QueueId, Seq};

/// Marks in memory beyond which further ones go to the store.
pub(super) const MARKS_MAX: usize = if cfg!(test) { 8 } else { 4096 };

const LIMITS: Limits = if cfg!(test) {
    Limits {
        near_max: 12,
        near_bytes_max: usize::MAX,
        page_rows: 5,
        page_bytes: 1 << 20,
        ahead_ms: 20,
    }
} else {
    due::LIMITS
};

/// What the store has to be told.
#[derive(Debug, Default)]
pub(super) struct MarkChanges {
    /// Marks that memory has no room for, with the sizes of their bodies.
    pub(super) puts: Vec<(DueKey, u64)>,
    /// Such marks that are done with.
    pub(super) removals: Vec<DueKey>,
    /// Everything under this id is done with.
    pub(super) retired: Option<QueueId>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Marks {
    /// Sizes of bodies.
    index: DueIndex<u64>,
    changes: MarkChanges,
    /// Under which the store has the marks that it has.
    owner: Option<QueueId>,
}

impl Default for Marks {
    fn default() -> Self {
        Self {
            index: DueIndex::new(LIMITS),
            changes: MarkChanges::default(),
            owner: None,
        }
    }
}

impl Marks {
    pub(super) const fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// A message has a time of its own. `once`: it never had a mark before, so that its row can be written.
    pub(super) fn insert(&mut self, seq: Seq, expiry_ms: u64, bytes: u64, once: bool) {
        let key = key(seq, expiry_ms);
        if self.index.known(key).is_some() {
            return;
        }
        let stored = once && self.index.resident() >= MARKS_MAX;
        if stored {
            self.changes.puts.push((key, bytes));
        }
        self.index.insert(key, bytes, stored.then_some(UNSTAMPED));
    }

    /// The mark of a message is of no use any more. `has_row`: if it is not in memory it is in the store.
    pub(super) fn remove(&mut self, seq: Seq, expiry_ms: u64, has_row: bool) {
        let key = key(seq, expiry_ms);
        if !has_row && self.index.known(key).is_none() {
            return;
        }
        match self.index.remove(key, UNSTAMPED) {
            Removed::Near(taken) if !taken.stored => {}
            Removed::Near(_) | Removed::Far => self.changes.removals.push(key),
            Removed::Missing => {}
        }
    }

    /// Takes out the mark that comes next, with the size of the body, if its time has come.
    pub(super) fn pop(&mut self, now_ms: u64) -> Option<(Seq, u64)> {
        let taken = self.index.pop(now_ms, UNSTAMPED)?;
        if taken.stored {
            self.changes.removals.push(taken.key);
        }
        Some((taken.key.seq, taken.payload))
    }

    /// No message has a mark any more.
    pub(super) fn clear(&mut self) {
        let retired = self.owner.take().or(self.changes.retired);
        *self = Self::default();
        self.changes.retired = retired;
    }

    /// See [`DueIndex::wake_ms`].
    pub(super) fn wake_ms(&self) -> Option<u64> {
        self.index.wake_ms()
    }

    /// Under which the store has marks.
    pub(super) const fn owner(&self) -> Option<QueueId> {
        self.owner
    }

    /// The rows of this id are those of these marks from now on.
    pub(super) const fn set_owner(&mut self, owner: QueueId) {
        self.owner = Some(owner);
    }

    /// What happened since, in `epoch`; `None`: nothing.
    pub(super) fn changes(&mut self, epoch: Epoch) -> Option<MarkChanges> {
        let MarkChanges {
            puts,
            removals,
            retired,
        } = &self.changes;
        if puts.is_empty() && removals.is_empty() && retired.is_none() {
            return None;
        }
        self.index.stamp(epoch);
        Some(std::mem::take(&mut self.changes))
    }

    /// The page that is needed, once. `durable`: the last durable epoch.
    pub(super) fn wanted_page(&mut self, now_ms: u64, durable: Epoch) -> Option<PageRequest> {
        self.owner?;
        self.index.durable(durable);
        self.index.wanted_page(now_ms)
    }

    /// The page that was asked for.
    pub(super) fn install(&mut self, rows: impl IntoIterator<Item = (DueKey, u64)>, more: bool) {
        self.index.install(rows, more);
    }

    /// All marks.
    #[cfg(test)]
    pub(super) const fn len(&self) -> u64 {
        self.index.len()
    }

    /// Marks in memory.
    #[cfg(test)]
    pub(super) fn resident(&self) -> usize {
        self.index.resident()
    }
}

const fn key(seq: Seq, expiry_ms: u64) -> DueKey {
    DueKey {
        time_ms: expiry_ms,
        seq,
    }
}
