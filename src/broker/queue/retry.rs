//! Delayed retry: a message that comes back waits before it is delivered again, longer each time
//! (`x-delayed-retry-type`, `-min`, `-max` as in RabbitMQ 4.3's quorum queues, here for every type of queue).
//!
//! A waiting message stays where it is in its lane, held. Until when it waits is a row in the store, so that a restart
//! goes on waiting; in memory are the rows that come next ([`DueIndex`]) and, of all others, the ranges of seqs.

use super::lane::{Lane, lane_of};
use super::log::Lookup;
use super::state::{Effects, Return, State, VISIT_MESSAGES_MAX};
use crate::broker::due::{DueIndex, DueKey, LIMITS, UNSTAMPED};
use crate::message::op::Counts;
use crate::message::ranges::RangeSet;
use crate::message::{QueueId, Seq, lane_id};
use crate::store::RecoveredDue;

/// Set in the number of a lane: the owner of its waiting messages in the store.
const RETRY_OWNER: u16 = 1 << 15;

/// Longest delay: ten years, as for a time to live.
const DELAY_MS_MAX: u64 = 315_360_000_000;

/// Which messages wait, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Those that a consumer failed on: basic.reject with requeue, a channel that ended.
    pub failed: bool,
    /// Those that a consumer gave back: basic.nack with requeue.
    pub returned: bool,
    /// The first delay in ms.
    pub min_ms: u64,
    /// The longest delay in ms.
    pub max_ms: u64,
    /// How delays grow: `None` by the first one each time, as in RabbitMQ; else by this factor each time.
    pub multiplier: Option<u64>,
}

impl Retry {
    /// How long a message waits now, with these deliveries behind it; `None`: it does not.
    fn delay_ms(&self, how: Return, counts: Counts) -> Option<u64> {
        let times = match how {
            Return::Failed if self.failed => counts.delivered,
            // What is only given back counts in the other number.
            Return::Released if self.returned => counts.acquired,
            _ => return None,
        };
        let times = u64::from(times.max(1));
        let delay_ms = match self.multiplier {
            None => self.min_ms.saturating_mul(times),
            Some(factor) => {
                let exponent = u32::try_from(times - 1).unwrap_or(u32::MAX);
                self.min_ms.saturating_mul(factor.saturating_pow(exponent))
            }
        };
        Some(delay_ms.min(self.max_ms).min(DELAY_MS_MAX))
    }
}

/// Under which the waiting messages of a lane are stored.
pub(super) const fn retry_owner(queue: QueueId, seq: Seq) -> QueueId {
    owner_of_lane(queue, lane_of(seq))
}

/// The same for all of a lane.
pub(super) const fn owner_of_lane(queue: QueueId, lane: u16) -> QueueId {
    lane_id(queue, lane | RETRY_OWNER)
}

/// The lane whose waiting messages are stored under the lane number `owner`.
pub(in crate::broker) const fn retry_lane(owner: u16) -> Option<u16> {
    if owner & RETRY_OWNER == 0 {
        None
    } else {
        Some(owner & !RETRY_OWNER)
    }
}

/// Messages of a lane that waited for their retry when the broker stopped.
#[derive(Debug, Default)]
pub struct RecoveredRetries {
    /// Which lane.
    pub lane: u16,
    /// The rows that say until when.
    pub rows: RecoveredDue,
    /// Which messages.
    pub seqs: RangeSet,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// Rows of messages that are gone, which the next epoch removes.
    pub gone: Vec<DueKey>,
}

/// What waits in a lane: sizes of bodies by the ends of their waiting.
pub(super) type Retries = DueIndex<u64>;

impl State {
    /// A message comes back. `true`: it waits.
    pub(super) fn delay(
        &mut self,
        now_ms: u64,
        seq: Seq,
        how: Return,
        effects: &mut Effects,
    ) -> bool {
        let Some(retry) = self.settings.retry else {
            return false;
        };
        let is_durable = self.is_durable;
        let lane = self.lane_mut(seq);
        let Some(delay_ms) = retry.delay_ms(how, lane.counts(seq)) else {
            return false;
        };
        let (persistent, bytes, expiry_ms) = match lane.log.lookup(seq) {
            Lookup::Found(record, _) => (
                record.is_persistent(),
                record.body_len() as u64,
                record.expiry_ms(),
            ),
            // When it expires is not known here: it does when it has waited. Nor is its size, or whether it survives a
            // restart, which looks that up.
            Lookup::Cold => (true, 0, 0),
            Lookup::Gone => return false,
        };
        // A message that expires waits no longer than that.
        let delay_ms = match expiry_ms {
            0 => delay_ms,
            _ => delay_ms.min(expiry_ms.saturating_sub(now_ms)),
        };
        if delay_ms == 0 {
            return false;
        }
        // Wherever it stands: only so is it known from what is with a consumer.
        lane.held.insert(seq);
        let key = DueKey {
            time_ms: now_ms.saturating_add(delay_ms),
            seq,
        };
        let stored = persistent && is_durable;
        let retries = lane
            .retries
            .get_or_insert_with(|| Box::new(Retries::new(LIMITS)));
        retries.insert(key, bytes, stored.then_some(UNSTAMPED));
        if stored {
            effects.waits.push((key, bytes));
        }
        true
    }

    /// Messages that waited long enough are ready again: one visit's share. A visit hands out before it looks at times:
    /// where somebody could take them there is more to do.
    pub(super) fn retry(&mut self, now_ms: u64, effects: &mut Effects) {
        let mut count = 0;
        for at in 0..self.lanes.len() {
            while let Some(retries) = &mut self.lanes[at].retries
                && let Some(taken) = retries.pop(now_ms, UNSTAMPED)
            {
                if taken.stored {
                    effects.waited.push(taken.key);
                }
                self.give_back(taken.key.seq);
                effects.more |= self.consumers.any_turning();
                count += 1;
                if count == VISIT_MESSAGES_MAX {
                    effects.more = true;
                    return;
                }
            }
        }
    }

    /// Number of messages that wait for their retry.
    pub(super) fn retries(&self) -> u64 {
        self.lanes.iter().map(Lane::waiting).sum()
    }

    /// Messages waited when the broker stopped, and still do.
    pub(super) fn wait_still(&mut self, found: RecoveredRetries) {
        let mut lanes = self.lanes.iter_mut();
        if let Some(lane) = lanes.find(|lane| lane.number() == found.lane) {
            lane.wait_still(found);
        }
    }
}

impl Lane {
    /// Number of messages that wait for their retry.
    pub(super) fn waiting(&self) -> u64 {
        self.retries.as_ref().map_or(0, |retries| retries.len())
    }

    fn wait_still(&mut self, found: RecoveredRetries) {
        let RecoveredDue {
            count, earliest_ms, ..
        } = found.rows;
        self.ready = self.ready.saturating_sub(found.seqs.len());
        self.ready_bytes = self.ready_bytes.saturating_sub(found.bytes);
        self.held = found.seqs;
        let mut retries = Retries::recovered(LIMITS, count, earliest_ms);
        for key in found.gone {
            retries.remove(key, UNSTAMPED);
        }
        self.retries = Some(Box::new(retries));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINEAR: Retry = Retry {
        failed: true,
        returned: true,
        min_ms: 3_000,
        max_ms: 12_000,
        multiplier: None,
    };

    fn delays(retry: Retry, how: Return) -> Vec<Option<u64>> {
        let counts = |times| Counts {
            delivered: times,
            acquired: times,
        };
        (1..=5)
            .map(|times| retry.delay_ms(how, counts(times)))
            .collect()
    }

    #[test]
    fn delays_grow_to_their_limit() {
        let linear = [3_000, 6_000, 9_000, 12_000, 12_000].map(Some);
        assert_eq!(delays(LINEAR, Return::Failed), linear);
        assert_eq!(delays(LINEAR, Return::Released), linear);
        let doubled = Retry {
            multiplier: Some(2),
            max_ms: 20_000,
            ..LINEAR
        };
        let exponential = [3_000, 6_000, 12_000, 20_000, 20_000].map(Some);
        assert_eq!(delays(doubled, Return::Failed), exponential);
    }

    #[test]
    fn only_the_chosen_returns_wait() {
        let failed_only = Retry {
            returned: false,
            ..LINEAR
        };
        assert_eq!(delays(failed_only, Return::Released), [None; 5]);
        assert!(delays(failed_only, Return::Failed)[0].is_some());
    }

    #[test]
    fn huge_values_do_not_overflow() {
        let huge = Retry {
            min_ms: u64::MAX,
            max_ms: u64::MAX,
            multiplier: Some(u64::MAX),
            ..LINEAR
        };
        assert_eq!(delays(huge, Return::Failed)[4], Some(DELAY_MS_MAX));
    }

    #[test]
    fn owners_in_the_store_lead_back_to_their_lane() {
        let owner = retry_owner(7, 5 << 48 | 9);
        assert_eq!(retry_lane((owner >> 48) as u16), Some(5));
        assert_eq!(retry_lane(5), None);
    }
}
