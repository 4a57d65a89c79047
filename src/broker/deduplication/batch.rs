//! The messages of one visit that go through exchanges that deduplicate.

use std::sync::Arc;

use parking_lot::MutexGuard;

use super::cache::Cache;
use super::{Deduplication, Identity};
use crate::store::Visit;

/// What a message turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// It has not been seen.
    New,
    /// It was accepted before.
    Duplicate,
    /// It is the same as an earlier message of the batch, at this place: what becomes of that one becomes of both.
    Repeats(usize),
}

/// The locked memories that a batch needs. While it lives nobody else publishes through these exchanges.
pub struct Batch<'a> {
    memories: Vec<(&'a Arc<Deduplication>, MutexGuard<'a, Cache>)>,
    /// Place, memory and identity of the messages that are new.
    new: Vec<(usize, usize, Identity)>,
}

impl<'a> Batch<'a> {
    /// Locks `memories`, each once and always in the same order.
    pub fn lock(memories: impl Iterator<Item = &'a Arc<Deduplication>>) -> Self {
        let mut memories: Vec<_> = memories.collect();
        memories.sort_unstable_by_key(|memory| Arc::as_ptr(memory).addr());
        memories.dedup_by(|one, other| Arc::ptr_eq(one, other));
        Self {
            memories: memories
                .into_iter()
                .map(|memory| (memory, memory.cache.lock()))
                .collect(),
            new: Vec::new(),
        }
    }

    /// Looks at the message at `place`, which was published to the exchange of `memory`.
    pub fn look(
        &mut self,
        memory: &Arc<Deduplication>,
        place: usize,
        properties: &[u8],
        now_ms: u64,
    ) -> Finding {
        let known = |(known, _): &(&Arc<Deduplication>, _)| Arc::ptr_eq(known, memory);
        let Some(at) = self.memories.iter().position(known) else {
            return Finding::New;
        };
        let Some(identity) = memory.settings.identity(properties, now_ms) else {
            return Finding::New;
        };
        if self.memories[at].1.contains(&identity.hash, now_ms) {
            return Finding::Duplicate;
        }
        let earlier = self
            .new
            .iter()
            .find(|(_, in_memory, known)| *in_memory == at && known.hash == identity.hash);
        if let Some((earlier, ..)) = earlier {
            return Finding::Repeats(*earlier);
        }
        self.new.push((place, at, identity));
        Finding::New
    }

    /// Remembers the new messages of which `is_accepted` is true, on the disk if `is_durable`. Both get a place.
    pub fn remember(
        self,
        visit: &Visit<'_>,
        is_accepted: impl Fn(usize) -> bool,
        is_durable: impl Fn(usize) -> bool,
    ) {
        let Self { mut memories, new } = self;
        for (memory, cache) in &mut memories {
            memory.forget_rows(visit, cache.expire(visit.now_ms()));
        }
        for (place, at, identity) in new {
            if !is_accepted(place) {
                continue;
            }
            let (memory, cache) = &mut memories[at];
            if cache.is_closed() {
                continue;
            }
            let is_stored = memory.settings.is_persistent && is_durable(place);
            let forgotten = cache.insert(identity.hash, identity.expires_ms, is_stored);
            memory.forget_rows(visit, forgotten);
            if is_stored {
                memory.put_row(visit, identity);
            }
        }
    }
}
