//! What is too much or too old goes: the rules of `x-max-length`, `x-max-length-bytes` and of the time to live.

use super::dying::DeathReason;
use super::lane::Head;
use super::log::Lookup;
use super::state::{Effects, State, VISIT_MESSAGES_MAX};
use crate::broker::arguments::Overflow;
use crate::message::Seq;

impl State {
    /// What has waited long enough is ready again, and what is too old or too much goes: one visit's share.
    pub(super) fn trim(&mut self, now_ms: u64, effects: &mut Effects) {
        // First: what comes back may be too old, or one too many.
        self.retry(now_ms, effects);
        self.expire(now_ms, effects);
        self.enforce_limits(effects);
    }

    /// Messages are to be dropped from its head.
    pub(super) fn is_too_full(&self) -> bool {
        let settings = &self.settings;
        settings.has_limit()
            && settings.overflow == Overflow::DropHead
            && settings.is_over(self.ready(), self.ready_bytes())
    }

    /// Drops messages from the head while the queue is over its limits: one visit's share. RabbitMQ drops from the head
    /// of the highest priority too.
    pub(super) fn enforce_limits(&mut self, effects: &mut Effects) {
        if !self.is_too_full() {
            return;
        }
        let mut dropped = 0;
        while self.is_too_full() {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::settings::Settings;
    use super::super::state::Return;
    use super::*;
    use crate::broker::delivery::ConsumerId;
    use crate::broker::queue::Retry;
    use crate::message::record::{Body, NewMessage};
    use crate::message::run::Run;

    fn message(expiry_ms: u64) -> NewMessage<'static> {
        NewMessage {
            exchange: b"",
            routing_key: b"q",
            properties: &[0, 0],
            annotations: &[],
            body: Body::Inline(b"body"),
            persistent: true,
            priority: 0,
            expiry_ms,
        }
    }

    /// A queue whose first message, which expires at `expiry_ms`, waits until 110 for its retry.
    fn waiting(max_length: Option<u64>, expiry_ms: u64) -> State {
        let settings = Settings {
            max_length,
            counts_deliveries: true,
            retry: Some(Retry {
                failed: true,
                returned: true,
                min_ms: 10,
                max_ms: 10,
                multiplier: None,
            }),
            ..Settings::default()
        };
        let mut state = State::new(Arc::new(settings));
        let mut effects = Effects::default();
        let (seq, _) = state.append_run(100, Run::single(&message(expiry_ms)), 1);
        state.get(100, false, &mut effects, |_, _| ());
        state.requeue(100, ConsumerId::NONE, &[seq], Return::Failed, &mut effects);
        assert_eq!(state.ready(), 0);
        state
    }

    #[test]
    fn what_comes_back_from_its_retry_may_be_one_too_many() {
        let mut state = waiting(Some(1), 0);
        state.append_run(101, Run::single(&message(0)), 1);
        state.trim(110, &mut Effects::default());
        assert_eq!(state.ready(), 1);
    }

    #[test]
    fn what_comes_back_from_its_retry_may_be_too_old() {
        let mut state = waiting(None, 105);
        state.trim(110, &mut Effects::default());
        assert_eq!(state.ready(), 0);
    }
}
