//! How fast consumers get something.

use super::super::ledger::{Checked, promise};
use super::{Facts, Oracle, Seen};
use crate::message::QueueId;
use crate::rate::Bucket;

impl Oracle {
    /// Consumers get no more than the rate of their queue lets pass. What basic.get takes its connection counts.
    pub(super) fn check_rates(&mut self, facts: &Facts, seen: &Seen) -> Checked {
        self.buckets.retain(|id, _| seen.queues.contains_key(id));
        for (id, queue) in &seen.queues {
            let Some(rate) = queue.settings.rates.max_consume_rate else {
                self.buckets.remove(id);
                continue;
            };
            let bucket = self.buckets.entry(*id).or_insert_with(|| Bucket::new(rate));
            if bucket.per_second() != rate {
                *bucket = Bucket::new(rate);
            }
            let deliveries = facts.deliveries.iter();
            let consumed = deliveries.filter(|one| one.queue == *id && one.consumer.is_some());
            let count = consumed.count() as u64;
            let allowed = bucket.available(facts.now_ms);
            promise!(
                count <= allowed,
                "{count} messages of {} went at once, and {allowed} may",
                queue.name
            );
            bucket.take(facts.now_ms, count);
        }
        Ok(())
    }

    /// Whether the rate of a queue lets a consumer have something.
    pub(in super::super) fn may_pass(&self, queue: QueueId, now_ms: u64) -> bool {
        let bucket = self.buckets.get(&queue);
        bucket.is_none_or(|bucket| bucket.clone().available(now_ms) > 0)
    }
}
