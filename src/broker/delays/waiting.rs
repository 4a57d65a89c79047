//! All that waits in one place: persistent messages, which a start finds again, and transient ones, which it does not.
//!
//! Both are in the store, so that memory does not grow with them; the rows of transient ones stand under an id that is
//! new with each start, and the next start removes them with everything else that belongs to nothing. They come out in
//! one order.

use super::held::Held;
use crate::broker::due::{DueIndex, DueKey, First, LIMITS, PageRequest, Removed, Taken};
use crate::message::{Epoch, QueueId};
use crate::store::RecoveredDue;

/// One of the two.
#[derive(Debug)]
struct Side {
    owner: QueueId,
    index: DueIndex<Held>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Waiting {
    persistent: Side,
    transient: Side,
}

/// A message that is taken out, and under which id it was stored.
pub(super) struct Out {
    pub(super) owner: QueueId,
    pub(super) taken: Taken<Held>,
}

impl Waiting {
    /// What a start found under `persistent`; transient messages will be stored under `transient`.
    pub(super) fn new(persistent: QueueId, recovered: RecoveredDue, transient: QueueId) -> Self {
        let RecoveredDue {
            count, earliest_ms, ..
        } = recovered;
        Self {
            persistent: Side {
                owner: persistent,
                index: DueIndex::recovered(LIMITS, count, earliest_ms),
            },
            transient: Side {
                owner: transient,
                index: DueIndex::new(LIMITS),
            },
        }
    }

    const fn sides(&self) -> [&Side; 2] {
        [&self.persistent, &self.transient]
    }

    const fn sides_mut(&mut self) -> [&mut Side; 2] {
        [&mut self.persistent, &mut self.transient]
    }

    /// Ids in the store.
    pub(super) fn owners(&self) -> [QueueId; 2] {
        self.sides().map(|side| side.owner)
    }

    pub(super) fn len(&self) -> u64 {
        self.sides().iter().map(|side| side.index.len()).sum()
    }

    /// Adds a message that is stored in `epoch`, and answers under which id.
    pub(super) fn insert(
        &mut self,
        key: DueKey,
        held: Held,
        persistent: bool,
        epoch: Epoch,
    ) -> QueueId {
        let side = match persistent {
            true => &mut self.persistent,
            false => &mut self.transient,
        };
        side.index.insert(key, held, Some(epoch));
        side.owner
    }

    /// The next message, if it is due. `None` also when a page has to be read first to know.
    pub(super) fn pop(&mut self, now_ms: u64, epoch: Epoch) -> Option<Out> {
        let persistent = self.persistent.index.first(now_ms);
        let side = match (persistent, self.transient.index.first(now_ms)) {
            (First::Unread, _) | (_, First::Unread) | (First::None, First::None) => return None,
            (First::Due(first), First::Due(other)) if other < first => &mut self.transient,
            (First::Due(_), _) => &mut self.persistent,
            (First::None, First::Due(_)) => &mut self.transient,
        };
        let taken = side.index.pop(now_ms, epoch)?;
        Some(Out {
            owner: side.owner,
            taken,
        })
    }

    /// Takes a message out, due or not. `stored`: the id under which the store has it; `None`: it has none, but may
    /// get it. Answers under which id it is to be removed.
    pub(super) fn remove(
        &mut self,
        key: DueKey,
        stored: Option<QueueId>,
        epoch: Epoch,
    ) -> Option<QueueId> {
        let side = self.sides_mut().into_iter().find(|side| match stored {
            Some(owner) => side.owner == owner,
            None => side.index.known(key).is_some(),
        })?;
        match side.index.remove(key, epoch) {
            Removed::Near(_) | Removed::Far => Some(side.owner),
            Removed::Missing => None,
        }
    }

    /// See [`DueIndex::was_removed`].
    pub(super) fn was_removed(&self, key: DueKey) -> bool {
        self.sides().iter().any(|side| side.index.was_removed(key))
    }

    /// Messages in memory from `from` on, in no order.
    pub(super) fn known_from(&self, from: DueKey) -> impl Iterator<Item = (DueKey, &Held)> {
        let sides = self.sides().into_iter();
        sides.flat_map(move |side| side.index.known_from(from))
    }

    /// A message in memory.
    pub(super) fn known(&self, key: DueKey) -> Option<&Held> {
        let sides = self.sides().into_iter();
        sides.filter_map(|side| side.index.known(key)).next()
    }

    pub(super) fn durable(&mut self, epoch: Epoch) {
        for side in self.sides_mut() {
            side.index.durable(epoch);
        }
    }

    /// Pages to be read now, each once.
    pub(super) fn wanted_pages(
        &mut self,
        now_ms: u64,
    ) -> impl Iterator<Item = (QueueId, PageRequest)> {
        let sides = self.sides_mut().into_iter();
        sides.filter_map(move |side| Some((side.owner, side.index.wanted_page(now_ms)?)))
    }

    /// Takes over a page of what is stored under `owner`.
    pub(super) fn install(
        &mut self,
        owner: QueueId,
        rows: impl Iterator<Item = (DueKey, Held)>,
        more: bool,
    ) {
        for side in self.sides_mut() {
            if side.owner == owner {
                return side.index.install(rows, more);
            }
        }
    }

    /// See [`DueIndex::wake_ms`]. `None` also when a page is being read without which nothing can come out: whoever
    /// installs it asks again.
    pub(super) fn wake_ms(&self, now_ms: u64) -> Option<u64> {
        let mut firsts = self
            .sides()
            .into_iter()
            .map(|side| side.index.first(now_ms));
        if firsts.any(|first| first == First::Unread) {
            return None;
        }
        let times = self.sides().map(|side| side.index.wake_ms());
        times.into_iter().flatten().min()
    }

    /// Nothing waits any more.
    pub(super) fn clear(&mut self) {
        for side in self.sides_mut() {
            side.index = DueIndex::new(LIMITS);
        }
    }

    /// Messages in memory.
    #[cfg(test)]
    pub(super) fn resident(&self) -> usize {
        self.sides().iter().map(|side| side.index.resident()).sum()
    }
}
