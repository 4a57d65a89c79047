//! What is due when, for one owner: a queue (expiry anywhere, retries) or an exchange that delays.
//!
//! ```text
//!  time ->   |  near: all of it in memory   |  far: in the store only, but for what is not durable yet  |
//!            now                        horizon
//! ```
//!
//! The index holds the nearest entries and knows where the rest begins; its memory does not grow with the number of
//! entries in the store. It does no I/O and has no clock: the owner keeps it under its own lock and
//!
//! 1. emits `Op::PutDue` with each [`DueIndex::insert`] of a stored entry and `Op::RemoveDue` for each stored entry
//!    that [`DueIndex::pop`] or [`DueIndex::remove`] answers, in the same visit, and passes that visit's epoch;
//! 2. calls [`DueIndex::durable`] with the last durable epoch now and then, at the latest before it asks for a page;
//! 3. asks [`DueIndex::wanted_page`] after each change, has the page read outside its lock (`Loader::load_due`), and
//!    gives it to [`DueIndex::install`];
//! 4. sets its timer to [`DueIndex::wake_ms`].
//!
//! Entries come out strictly in order of (time, seq), never twice. Those that are not in the store (of transient
//! messages) stay in memory. An entry that is stored, but not durable yet when a page is read, would be in neither: so
//! the index holds each stored entry until it was durable before the last page was asked for. In the same way it
//! remembers what was removed until no page can bring it back.

use std::collections::{BTreeMap, HashSet, VecDeque};

use crate::message::{Epoch, Seq};

/// How much of the near entries is held, and how far ahead pages are read.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Stored entries in memory; above this the later half goes.
    pub near_max: usize,
    /// Their payload in bytes, likewise.
    pub near_bytes_max: usize,
    /// Rows of a page, at most half of `near_max`.
    pub page_rows: usize,
    /// Bytes of a page.
    pub page_bytes: usize,
    /// A page is read when fewer near entries than a page's are left and what is in the store may be due in this time.
    pub ahead_ms: u64,
}

/// The limits of every owner.
pub const LIMITS: Limits = Limits {
    near_max: 4096,
    near_bytes_max: 2 * 1024 * 1024,
    page_rows: 1024,
    page_bytes: 512 * 1024,
    ahead_ms: 5_000,
};

/// What an entry is found by. An owner stores one at most once; what was taken out may come back to stay in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DueKey {
    /// When, in ms since the Unix epoch.
    pub time_ms: u64,
    /// Which of those at that time.
    pub seq: Seq,
}

impl DueKey {
    /// Behind all entries.
    const END: Self = Self {
        time_ms: u64::MAX,
        seq: Seq::MAX,
    };

    const fn after(self) -> Self {
        match self.seq.checked_add(1) {
            Some(seq) => Self {
                time_ms: self.time_ms,
                seq,
            },
            None => Self {
                time_ms: self.time_ms.saturating_add(1),
                seq: 0,
            },
        }
    }
}

/// What an entry carries.
pub trait Payload {
    /// Bytes of memory beside the entry itself.
    fn bytes(&self) -> usize;
}

/// Of an expiry mark and of a retry: the size of the message's body.
impl Payload for u64 {
    fn bytes(&self) -> usize {
        0
    }
}

/// In the place of an epoch that is not known yet: [`DueIndex::stamp`] has to follow in the same visit.
pub const UNSTAMPED: Epoch = Epoch::MAX;

/// An entry that is taken out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken<T> {
    /// Its key.
    pub key: DueKey,
    /// What it carries.
    pub payload: T,
    /// It is in the store, or on its way there: to be removed with `Op::RemoveDue`.
    pub stored: bool,
}

/// What [`DueIndex::remove`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed<T> {
    /// An entry that was in memory.
    Near(Taken<T>),
    /// Nothing in memory: the entry is in the store, if there is one. To be removed with `Op::RemoveDue`.
    Far,
    /// There is no such entry.
    Missing,
}

/// What stands first in an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// An entry that is due.
    Due(DueKey),
    /// Perhaps one that is due: a page has to be read first.
    Unread,
    /// Nothing that is due.
    None,
}

/// A page to be read with `Store::due`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest {
    /// The first key.
    pub from: DueKey,
    /// At most so many rows.
    pub rows: usize,
    /// At most so many bytes, but at least one row.
    pub bytes: usize,
}

#[derive(Debug)]
struct Entry<T> {
    payload: T,
    stored: bool,
}

/// See the module.
#[derive(Debug)]
pub struct DueIndex<T> {
    limits: Limits,
    /// Everything in memory: all that is before the horizon, and what is behind it and not only in the store.
    known: BTreeMap<DueKey, Entry<T>>,
    /// From here on there may be entries that only the store has.
    horizon: DueKey,
    /// Stored entries before the horizon, and the bytes of their payload.
    near_count: usize,
    near_bytes: usize,
    /// All entries.
    count: u64,
    /// Stored entries by the epoch that writes them, until it is durable.
    unwritten: VecDeque<(Epoch, DueKey)>,
    /// Stored entries that were taken out, by the epoch that removes their rows, until that is durable.
    removed: HashSet<DueKey>,
    removals: VecDeque<(Epoch, DueKey)>,
    durable: Epoch,
    /// The page that is being read, and the last durable epoch when it was asked for.
    loading: Option<(PageRequest, Epoch)>,
}

impl<T: Payload> DueIndex<T> {
    /// An index without entries.
    pub fn new(limits: Limits) -> Self {
        Self::recovered(limits, 0, 0)
    }

    /// The index of an owner that has `count` entries in the store, none of them before `earliest_ms`. Nothing is read
    /// before it is needed.
    pub fn recovered(limits: Limits, count: u64, earliest_ms: u64) -> Self {
        let first = DueKey {
            time_ms: earliest_ms,
            seq: 0,
        };
        Self {
            limits,
            known: BTreeMap::new(),
            horizon: if count == 0 { DueKey::END } else { first },
            near_count: 0,
            near_bytes: 0,
            count,
            unwritten: VecDeque::new(),
            removed: HashSet::new(),
            removals: VecDeque::new(),
            durable: 0,
            loading: None,
        }
    }

    /// Number of entries.
    pub const fn len(&self) -> u64 {
        self.count
    }

    /// There is nothing.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Entries in memory.
    pub fn resident(&self) -> usize {
        self.known.len()
    }

    /// Adds an entry. `stored_in`: the epoch of the visit that puts it into the store; `None`: it stays in memory.
    pub fn insert(&mut self, key: DueKey, payload: T, stored_in: Option<Epoch>) {
        self.count += 1;
        let entry = Entry {
            payload,
            stored: stored_in.is_some(),
        };
        if let Some(epoch) = stored_in {
            self.unwritten.push_back((epoch, key));
            if key < self.horizon {
                self.near(entry.payload.bytes(), true);
            }
        }
        let before = self.known.insert(key, entry);
        debug_assert!(before.is_none(), "one at a time has a key");
        self.shrink();
    }

    /// What stands first at `now_ms`.
    pub fn first(&self, now_ms: u64) -> First {
        let known = self.known.first_key_value().map(|(key, _)| *key);
        match known.filter(|key| *key < self.horizon) {
            Some(key) if key.time_ms <= now_ms => First::Due(key),
            Some(_) => First::None,
            None if self.horizon != DueKey::END && self.horizon.time_ms <= now_ms => First::Unread,
            None => First::None,
        }
    }

    /// Takes the first entry out if it is due at `now_ms`. Without an answer something may be due all the same: then
    /// [`Self::wanted_page`] has to be read first, or is being read.
    pub fn pop(&mut self, now_ms: u64, epoch: Epoch) -> Option<Taken<T>> {
        let key = *self.known.first_key_value()?.0;
        if key.time_ms > now_ms || key >= self.horizon {
            return None;
        }
        let entry = self.known.remove(&key)?;
        Some(self.taken(key, entry, epoch))
    }

    /// Takes an entry out, due or not. Of an entry that may only be in the store the caller knows that it is there.
    pub fn remove(&mut self, key: DueKey, epoch: Epoch) -> Removed<T> {
        match self.known.remove(&key) {
            Some(entry) => Removed::Near(self.taken(key, entry, epoch)),
            None if key < self.horizon || self.removed.contains(&key) => Removed::Missing,
            None => {
                self.count = self.count.saturating_sub(1);
                self.forget(key, epoch);
                Removed::Far
            }
        }
    }

    fn taken(&mut self, key: DueKey, entry: Entry<T>, epoch: Epoch) -> Taken<T> {
        self.count = self.count.saturating_sub(1);
        let Entry { payload, stored } = entry;
        if stored {
            if key < self.horizon {
                self.near(payload.bytes(), false);
            }
            self.forget(key, epoch);
        }
        Taken {
            key,
            payload,
            stored,
        }
    }

    fn forget(&mut self, key: DueKey, epoch: Epoch) {
        self.removed.insert(key);
        self.removals.push_back((epoch, key));
    }

    /// The entries in memory from `from` on.
    pub fn known_from(&self, from: DueKey) -> impl Iterator<Item = (DueKey, &T)> {
        let known = self.known.range(from..);
        known.map(|(key, entry)| (*key, &entry.payload))
    }

    /// An entry in memory.
    pub fn known(&self, key: DueKey) -> Option<&T> {
        self.known.get(&key).map(|entry| &entry.payload)
    }

    /// Whether an entry was taken out, while the store may still have its row.
    pub fn was_removed(&self, key: DueKey) -> bool {
        self.removed.contains(&key)
    }

    /// What was stored and removed in an [`UNSTAMPED`] epoch was so in `epoch`.
    pub fn stamp(&mut self, epoch: Epoch) {
        for changes in [&mut self.unwritten, &mut self.removals] {
            let newest = changes.iter_mut().rev();
            let unstamped = newest.take_while(|(at, _)| *at == UNSTAMPED);
            unstamped.for_each(|(at, _)| *at = epoch);
        }
    }

    /// Epochs up to `epoch` are durable.
    pub fn durable(&mut self, epoch: Epoch) {
        self.durable = self.durable.max(epoch);
        // What became durable after the page was asked for may be missing in it, or still be in it.
        let settled = self.loading.map_or(self.durable, |(_, before)| before);
        while let Some((_, key)) = self.unwritten.pop_front_if(|(epoch, _)| *epoch <= settled) {
            // It may have been taken out since, and be back: then it is nowhere else.
            let is_stored = self.known.get(&key).is_some_and(|entry| entry.stored);
            if key >= self.horizon && is_stored {
                self.known.remove(&key);
            }
        }
        while let Some((_, key)) = self.removals.pop_front_if(|(epoch, _)| *epoch <= settled) {
            self.removed.remove(&key);
        }
    }

    /// The page that has to be read now, once: [`Self::install`] has to follow.
    pub fn wanted_page(&mut self, now_ms: u64) -> Option<PageRequest> {
        let is_time = self.horizon.time_ms <= now_ms.saturating_add(self.limits.ahead_ms);
        let wanted = self.horizon != DueKey::END
            && is_time
            && self.loading.is_none()
            && self.near_count < self.limits.page_rows;
        if !wanted {
            return None;
        }
        let request = PageRequest {
            from: self.horizon,
            rows: self.limits.page_rows,
            bytes: self.limits.page_bytes,
        };
        self.loading = Some((request, self.durable));
        Some(request)
    }

    /// Takes over the page that was asked for: its rows in order, and whether there are more behind them.
    pub fn install(&mut self, rows: impl IntoIterator<Item = (DueKey, T)>, more: bool) {
        let Some((request, _)) = self.loading.take() else {
            return;
        };
        if request.from != self.horizon {
            // Meanwhile so much came before it that memory was needed for that. It is read again later.
            return;
        }
        let mut last = None;
        for (key, payload) in rows {
            last = Some(key);
            if self.removed.contains(&key) {
                continue;
            }
            // What is known of it already is the same.
            self.known.entry(key).or_insert(Entry {
                payload,
                stored: true,
            });
        }
        let before = self.horizon;
        self.horizon = match last {
            Some(last) if more => last.after(),
            _ => DueKey::END,
        };
        let (mut count, mut bytes) = (0, 0);
        for (_, entry) in self.known.range(before..self.horizon) {
            if entry.stored {
                count += 1;
                bytes += entry.payload.bytes();
            }
        }
        self.near_count += count;
        self.near_bytes += bytes;
        self.durable(self.durable);
        self.shrink();
    }

    /// The time at which the owner has something to do: to pop, or to ask for a page.
    pub fn wake_ms(&self) -> Option<u64> {
        let first = self.known.first_key_value().map(|(key, _)| *key);
        let first = first.filter(|key| *key < self.horizon);
        let is_reading = self.loading.is_some() || self.near_count >= self.limits.page_rows;
        let page = (self.horizon != DueKey::END && !is_reading)
            .then(|| self.horizon.time_ms.saturating_sub(self.limits.ahead_ms));
        let first = first.map(|key| key.time_ms);
        first.into_iter().chain(page).min()
    }

    fn near(&mut self, bytes: usize, add: bool) {
        if add {
            self.near_count += 1;
            self.near_bytes += bytes;
        } else {
            self.near_count = self.near_count.saturating_sub(1);
            self.near_bytes = self.near_bytes.saturating_sub(bytes);
        }
    }

    /// Leaves the later half of the stored entries to the store when they have become too many.
    fn shrink(&mut self) {
        let Limits {
            near_max,
            near_bytes_max,
            ..
        } = self.limits;
        if self.near_count <= near_max && self.near_bytes <= near_bytes_max {
            return;
        }
        let (mut count, mut bytes) = (self.near_count, self.near_bytes);
        let mut far = Vec::new();
        for (key, entry) in self.known.range(..self.horizon).rev() {
            // One stays, however large it is: it is what is due next.
            if count <= 1 || (count <= near_max / 2 && bytes <= near_bytes_max / 2) {
                break;
            }
            if entry.stored {
                count -= 1;
                bytes -= entry.payload.bytes();
                far.push(*key);
            }
        }
        (self.near_count, self.near_bytes) = (count, bytes);
        let Some(first_far) = far.last() else { return };
        self.horizon = *first_far;
        // Those that are not durable yet stay until they are.
        let unwritten: HashSet<DueKey> = self.unwritten.iter().map(|(_, key)| *key).collect();
        for key in far {
            if !unwritten.contains(&key) {
                self.known.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests;
