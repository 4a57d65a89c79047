//! What a queue remembers of messages for a time or up to a number of them, whatever becomes of the messages.

use super::super::ledger::{Checked, Kept, promise};
use super::{Arrival, Cause, Facts, Oracle, SeenQueue};

impl SeenQueue {
    /// At most how many ids it remembers, and how long; `None`: it has no cache.
    fn cache(&self) -> Option<(usize, Option<u64>)> {
        let rules = self.settings.deduplication.as_ref()?;
        let settings = &rules.settings;
        rules
            .is_cache
            .then(|| (settings.entries_max(), settings.ttl_ms()))
    }

    pub(super) fn has_cache(&self) -> bool {
        self.cache().is_some()
    }
}

/// How certain it is that an id is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Memory {
    Known,
    Perhaps,
    Unknown,
}

impl Oracle {
    fn memory(&self, facts: &Facts, queue: &SeenQueue, arrival: &Arrival) -> Memory {
        let (Some((entries_max, _)), Some(token)) = (queue.cache(), arrival.found.token) else {
            return Memory::Unknown;
        };
        let kept = self.ledger.caches.get(&arrival.queue);
        let kept = kept.map_or(&[][..], |kept| kept);
        let Some(at) = kept.iter().rposition(|kept| kept.token == token) else {
            return Memory::Unknown;
        };
        // What came in the same step may have come in any order.
        let since = kept[at].since;
        let surely = kept.iter().filter(|other| {
            let is_behind = since < other.since && other.since < self.steps;
            other.is_sure && is_behind
        });
        if kept[at].until_ms <= facts.now_ms || surely.count() >= entries_max {
            return Memory::Unknown;
        }
        let perhaps = kept.iter().filter(|other| other.since >= since);
        // So may all that comes in this one.
        let coming = self.coming.iter().filter(|(number, (queue, token))| {
            let is_other = *number != arrival.found.number;
            is_other && *queue == arrival.queue && token.is_some()
        });
        let most = perhaps.count() + coming.count();
        match kept[at].is_sure && most <= entries_max && since < self.steps {
            true => Memory::Known,
            false => Memory::Perhaps,
        }
    }

    /// Another one with its id comes to the queue in this step, perhaps before it.
    fn has_rival(&self, arrival: &Arrival) -> bool {
        let id = (arrival.queue, arrival.found.token);
        let mut numbers = self.coming.iter().filter(|(_, coming)| *coming == id);
        numbers.any(|(number, _)| *number != arrival.found.number)
    }

    /// It may be dropped as one that came before. What died here and comes back is no repetition of itself.
    pub(super) fn may_be_repetition(
        &self,
        facts: &Facts,
        queue: &SeenQueue,
        arrival: &Arrival,
    ) -> bool {
        let is_known = self.memory(facts, queue, arrival) != Memory::Unknown;
        let has_cache = queue.has_cache() && arrival.found.token.is_some();
        has_cache && !may_come_back(queue, arrival) && (is_known || self.has_rival(arrival))
    }

    /// It was let in.
    pub(super) fn check_repetition(
        &self,
        facts: &Facts,
        queue: &SeenQueue,
        arrival: &Arrival,
    ) -> Checked {
        let is_asked = !matches!(arrival.cause, Cause::DueHere | Cause::Refused);
        promise!(
            !is_asked
                || may_come_back(queue, arrival)
                || self.memory(facts, queue, arrival) != Memory::Known,
            "message {} is a repetition and let in to {}, which remembers {:?} of {:?}",
            arrival.found.number,
            queue.name,
            queue.cache(),
            self.ledger.caches.get(&arrival.queue)
        );
        Ok(())
    }

    /// Its id is remembered, or perhaps it is not.
    pub(super) fn remember_id(
        &mut self,
        facts: &Facts,
        queue: &SeenQueue,
        arrival: &Arrival,
        is_sure: bool,
    ) {
        let is_asked = !matches!(arrival.cause, Cause::DueHere | Cause::Refused);
        let (Some((entries_max, ttl_ms)), Some(token)) = (queue.cache(), arrival.found.token)
        else {
            return;
        };
        if is_asked {
            let kept = Kept {
                token,
                until_ms: ttl_ms.map_or(u64::MAX, |ms| facts.now_ms + ms),
                since: self.steps,
                since_ms: facts.now_ms,
                persistent: arrival.found.persistent && queue.durable,
                is_sure,
            };
            let cache = self.ledger.caches.entry(arrival.queue).or_default();
            cache.push(kept);
            make_room(cache, entries_max, self.steps);
        }
    }
}

/// What made room for others is gone, or may be. A start remembers less than there was: it does not come back then.
pub(in super::super) fn make_room(cache: &mut Vec<Kept>, entries_max: usize, steps: u64) {
    let before = cache.clone();
    cache.retain_mut(|kept| {
        let behind = before.iter().filter(|other| other.since > kept.since);
        let surely = behind.filter(|other| other.is_sure && other.since < steps);
        let perhaps = before.iter().filter(|other| other.since >= kept.since);
        kept.is_sure &= perhaps.count() <= entries_max;
        surely.count() < entries_max
    });
}

/// It died here before.
fn may_come_back(queue: &SeenQueue, arrival: &Arrival) -> bool {
    let mut deaths = arrival.histories.iter().flatten();
    deaths.any(|death| death.queue == queue.name)
}
