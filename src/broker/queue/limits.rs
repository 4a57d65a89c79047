//! What is too much or too old goes: the rules of `x-max-length`, `x-max-length-bytes` and of the time to live.

use super::dying::DeathReason;
use super::lane::Head;
use super::log::Lookup;
use super::state::{Effects, State, VISIT_MESSAGES_MAX};
use crate::broker::arguments::Overflow;
use crate::message::Seq;

impl State {
    /// Drops messages from the head while the queue is over its limits: one visit's share. RabbitMQ drops from the head
    /// of the highest priority too.
    pub(super) fn enforce_limits(&mut self, effects: &mut Effects) {
        if !self.settings.has_limit() || self.settings.overflow != Overflow::DropHead {
            return;
        }
        let mut dropped = 0;
        while self.settings.is_over(self.ready(), self.ready_bytes()) {
            if dropped == VISIT_MESSAGES_MAX {
                effects.more = true;
                return;
            }
            // Expiry is the business of others: 0 is before any of them.
            match self.head_to_drop(effects) {
                Some((seq, bytes)) => {
                    self.lane_mut(seq).take(seq, bytes);
                    self.die(seq, DeathReason::MaxLen, effects);
                    dropped += 1;
                }
                None => break,
            }
        }
        self.forget_if_empty();
    }

    /// `None`: nothing is ready, or the head has to be loaded first.
    fn head_to_drop(&mut self, effects: &mut Effects) -> Option<(Seq, u64)> {
        for lane in &mut self.lanes {
            // What waits for its group may stand before what is ready.
            let blocked = lane.first_blocked();
            let head = match lane.ready() {
                0 => Head::None,
                _ => lane.first_ready(),
            };
            let ready = match head {
                Head::None => None,
                Head::Cold(seq) | Head::At { seq, .. } => Some(seq),
            };
            if let Some((place, seq, bytes)) = blocked
                && ready.is_none_or(|ready| place < lane.place(ready))
            {
                return Some((seq, bytes));
            }
            match head {
                Head::None => {}
                Head::Cold(seq) => {
                    effects.load_at(lane, seq);
                    return None;
                }
                Head::At { seq, .. } => {
                    let bytes = match lane.log.lookup(seq) {
                        Lookup::Found(record, _) => record.body_len() as u64,
                        _ => 0,
                    };
                    return Some((seq, bytes));
                }
            }
        }
        None
    }

    /// Ready messages whose time is up die, wherever they stand: one visit's share.
    pub(super) fn expire(&mut self, now_ms: u64, effects: &mut Effects) {
        let sizes = self.settings.max_length_bytes.is_some();
        for at in 0..self.lanes.len() {
            let lane = &mut self.lanes[at];
            if let Some(seq) = lane.unread(sizes) {
                effects.load_at(lane, seq);
            }
            if lane
                .expiry
                .deadline_ms()
                .is_none_or(|deadline_ms| deadline_ms > now_ms)
            {
                continue;
            }
            let (expired, cold) = lane.expired(now_ms, VISIT_MESSAGES_MAX);
            effects.more |= expired.len() >= VISIT_MESSAGES_MAX;
            if let Some(seq) = cold {
                effects.load_at(lane, seq);
            }
            for (seq, bytes) in expired {
                self.lane_mut(seq).take(seq, bytes);
                self.die(seq, DeathReason::Expired, effects);
            }
        }
        self.forget_if_empty();
    }

    /// Nothing happens to a message by itself before this time.
    pub(super) fn deadline_ms(&self) -> Option<u64> {
        let times = self.lanes.iter().flat_map(|lane| {
            let retries = lane.retries.as_ref();
            [
                lane.expiry.deadline_ms(),
                retries.and_then(|retries| retries.wake_ms()),
            ]
        });
        times.flatten().min()
    }
}
