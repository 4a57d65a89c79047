//! What one exchange or queue remembers: hashes, oldest first, in a bounded ring with an index.
//!
//! An entry takes 32 bytes in the ring and some 6 in the index, which holds places in the ring instead of hashes.

use std::collections::VecDeque;

use hashbrown::HashTable;

use super::Hash;

#[derive(Debug)]
struct Entry {
    hash: Hash,
    /// `u64::MAX` for never.
    expires_ms: u64,
    /// The store has a row of it.
    is_stored: bool,
    /// The same hash came again after its time, or was never accepted: this entry stands for nothing.
    is_replaced: bool,
}

/// A bounded memory of hashes.
#[derive(Debug)]
pub(in crate::broker) struct Cache {
    entries_max: usize,
    entries: VecDeque<Entry>,
    /// Number of the front entry: entries are numbered as they come, modulo 2^32.
    first: u32,
    /// Numbers of the entries that stand for their hash.
    index: HashTable<u32>,
}

impl Cache {
    /// An empty one for at most `entries_max` entries.
    pub(in crate::broker) fn new(entries_max: usize) -> Self {
        Self {
            entries_max,
            entries: VecDeque::new(),
            first: 0,
            index: HashTable::new(),
        }
    }

    pub(in crate::broker) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether `hash` is remembered.
    pub(in crate::broker) fn contains(&self, hash: &Hash, now_ms: u64) -> bool {
        self.find(hash)
            .is_some_and(|at| self.entries[at].expires_ms > now_ms)
    }

    /// Remembers `hash`, which is not remembered or past its time. Answers hashes whose rows go: of entries that made
    /// room.
    pub(in crate::broker) fn insert(
        &mut self,
        hash: Hash,
        expires_ms: u64,
        is_stored: bool,
    ) -> Vec<Hash> {
        let mut forgotten = Vec::new();
        if let Some(at) = self.find(&hash) {
            let entry = &mut self.entries[at];
            entry.is_replaced = true;
            if entry.is_stored && !is_stored {
                forgotten.push(hash);
            }
            self.unindex(&hash);
        }
        while self.entries.len() >= self.entries_max.max(1) {
            self.pop(&mut forgotten);
        }
        let number = self.first.wrapping_add(self.entries.len() as u32);
        self.entries.push_back(Entry {
            hash,
            expires_ms,
            is_stored,
            is_replaced: false,
        });
        let (entries, first) = (&self.entries, self.first);
        self.index
            .insert_unique(index_hash(&hash), number, |number| {
                index_hash(&entries[number.wrapping_sub(first) as usize].hash)
            });
        forgotten
    }

    /// Forgets the oldest as long as their time is over. Answers hashes whose rows go.
    pub(in crate::broker) fn expire(&mut self, now_ms: u64) -> Vec<Hash> {
        let mut forgotten = Vec::new();
        while self
            .entries
            .front()
            .is_some_and(|entry| entry.is_replaced || entry.expires_ms <= now_ms)
        {
            self.pop(&mut forgotten);
        }
        forgotten
    }

    /// Forgets everything, for good. Answers all hashes that have rows.
    pub(in crate::broker) fn close(&mut self) -> Vec<Hash> {
        let mut forgotten = Vec::new();
        while !self.entries.is_empty() {
            self.pop(&mut forgotten);
        }
        *self = Self::new(0);
        forgotten
    }

    /// Nothing must be inserted any more: it would outlive its exchange.
    pub(in crate::broker) const fn is_closed(&self) -> bool {
        self.entries_max == 0
    }

    fn pop(&mut self, forgotten: &mut Vec<Hash>) {
        let Some(oldest) = self.entries.front() else {
            return;
        };
        let hash = oldest.hash;
        if !oldest.is_replaced {
            if oldest.is_stored {
                forgotten.push(hash);
            }
            self.unindex(&hash);
        }
        self.entries.pop_front();
        self.first = self.first.wrapping_add(1);
    }

    fn find(&self, hash: &Hash) -> Option<usize> {
        let place = |number: u32| number.wrapping_sub(self.first) as usize;
        self.index
            .find(index_hash(hash), |number| {
                self.entries[place(*number)].hash == *hash
            })
            .map(|number| place(*number))
    }

    fn unindex(&mut self, hash: &Hash) {
        let (entries, first) = (&self.entries, self.first);
        let found = self.index.find_entry(index_hash(hash), |number| {
            entries[number.wrapping_sub(first) as usize].hash == *hash
        });
        if let Ok(found) = found {
            found.remove();
        }
    }
}

/// The hash is random already.
fn index_hash(hash: &Hash) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&hash[..8]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// A list of what was remembered, oldest first.
    #[derive(Default)]
    struct Model {
        entries: Vec<(Hash, u64)>,
        rows: BTreeSet<Hash>,
    }

    proptest! {
        #[test]
        fn remembers_what_a_list_remembers(
            entries_max in 1usize..6,
            steps in prop::collection::vec((0u8..8, 0u64..6, any::<bool>()), 0..200),
        ) {
            let mut cache = Cache::new(entries_max);
            let mut model = Model::default();
            for (now_ms, (name, ttl_ms, is_stored)) in steps.into_iter().enumerate() {
                let now_ms = now_ms as u64;
                let hash = [name; 16];
                let known = model.entries.iter().any(|(known, expires)| *known == hash && *expires > now_ms);
                prop_assert_eq!(cache.contains(&hash, now_ms), known);
                for gone in cache.expire(now_ms) {
                    prop_assert!(model.rows.remove(&gone));
                }
                if !known {
                    let expires_ms = if ttl_ms == 0 { u64::MAX } else { now_ms + ttl_ms };
                    for gone in cache.insert(hash, expires_ms, is_stored) {
                        prop_assert!(model.rows.remove(&gone));
                    }
                    if is_stored {
                        model.rows.insert(hash);
                    }
                    model.entries.retain(|(known, _)| *known != hash);
                    model.entries.push((hash, expires_ms));
                }
                prop_assert!(cache.len() <= entries_max);
                // Which entries made room is up to the cache: never more than had to.
                let kept = |(hash, _): &(Hash, u64)| cache.contains(hash, now_ms);
                let alive = |(_, expires): &&(Hash, u64)| *expires > now_ms;
                let newest = model.entries.last().cloned();
                prop_assert!(newest.is_none_or(|newest| !alive(&&newest) || kept(&newest)));
                model.entries.retain(|entry| kept(entry));
                prop_assert!(model.rows.iter().all(|row| cache.find(row).is_some()), "a row without its entry");
            }
            let rows: BTreeSet<_> = cache.close().into_iter().collect();
            prop_assert_eq!(rows, model.rows);
        }
    }

    #[test]
    fn the_oldest_makes_room() {
        let mut cache = Cache::new(2);
        assert!(cache.insert([1; 16], u64::MAX, true).is_empty());
        assert!(cache.insert([2; 16], u64::MAX, false).is_empty());
        assert_eq!(cache.insert([3; 16], u64::MAX, true), [[1; 16]]);
        assert!(!cache.contains(&[1; 16], 0));
        assert!(cache.contains(&[2; 16], 0) && cache.contains(&[3; 16], 0));
    }

    #[test]
    fn an_entry_is_forgotten_at_its_time() {
        let mut cache = Cache::new(10);
        cache.insert([1; 16], 100, true);
        assert!(cache.contains(&[1; 16], 99) && !cache.contains(&[1; 16], 100));
        assert!(cache.expire(99).is_empty());
        assert_eq!(cache.expire(100), [[1; 16]]);
        assert_eq!(cache.len(), 0);
    }

    #[test]
    fn an_entry_takes_some_32_bytes() {
        assert_eq!(size_of::<Entry>(), 32);
    }
}
