//! What becomes of messages that were with a consumer: done, rejected for good, or ready again.

use super::dying::DeathReason;
use super::log::Lookup;
use super::state::{Effects, Return, State};
use crate::broker::delivery::ConsumerId;
use crate::message::Seq;

impl State {
    /// Unacknowledged messages are done. Unknown seqs (purged queue, deleted message) are ignored.
    pub(super) fn settle(&mut self, consumer: ConsumerId, seqs: &[Seq], effects: &mut Effects) {
        // Neighbours of one lane: in it seqs are far from those of the next.
        for run in seqs.chunk_by(|before, after| before + 1 == *after) {
            if let [first, .., last] | [first @ last] = run {
                self.gone_run(*first, *last, effects);
            }
        }
        self.release(consumer, seqs);
        self.forget_if_empty();
    }

    /// Unacknowledged messages are rejected for good.
    pub(super) fn discard(&mut self, consumer: ConsumerId, seqs: &[Seq], effects: &mut Effects) {
        for &seq in seqs {
            if !matches!(self.lane_mut(seq).log.lookup(seq), Lookup::Gone) {
                self.die(seq, DeathReason::Rejected, effects);
            }
        }
        self.release(consumer, seqs);
        self.forget_if_empty();
    }

    /// Unacknowledged messages are ready again, at their original position or behind those that came back before.
    pub(super) fn requeue(
        &mut self,
        now_ms: u64,
        consumer: ConsumerId,
        seqs: &[Seq],
        how: Return,
        effects: &mut Effects,
    ) {
        for &seq in seqs {
            let counted = self.settings.counts_deliveries;
            let limit = self.settings.delivery_limit;
            let lane = self.lane_mut(seq);
            if matches!(lane.log.lookup(seq), Lookup::Gone) {
                continue;
            }
            if counted {
                let counts = lane.counts.entry(seq).or_default();
                counts.acquired = counts.acquired.saturating_add(1);
                if how == Return::Failed {
                    counts.delivered = counts.delivered.saturating_add(1);
                }
                effects.counted.push(seq);
                if how == Return::Failed && limit.is_some_and(|limit| counts.delivered > limit) {
                    self.die(seq, DeathReason::DeliveryLimit, effects);
                    continue;
                }
            }
            if !self.delay(now_ms, seq, how, effects) {
                self.give_back(seq);
            }
        }
        self.release(consumer, seqs);
    }

    /// A message that was with a consumer is ready again, and first in its group.
    pub(super) fn give_back(&mut self, seq: Seq) {
        if self.lane_mut(seq).give_back(seq) {
            self.back_in_group(seq);
        }
    }

    /// A message is ready again that its group was busy with.
    pub(super) fn back_in_group(&mut self, seq: Seq) {
        let place = self.lane_mut(seq).place(seq);
        if let Some(groups) = &mut self.groups
            && let Some(next) = groups.came_back(place)
        {
            self.lane_mut(next).release(next);
        }
    }

    fn release(&mut self, consumer: ConsumerId, seqs: &[Seq]) {
        self.unacked = self.unacked.saturating_sub(seqs.len() as u64);
        self.consumers.released(consumer, seqs);
    }
}
