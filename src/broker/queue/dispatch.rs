//! Dispatch: which consumer gets which message. First each message gets a consumer, from what the queue knows; then
//! each outbox is locked once for its share.

use super::consumers::Consumers;
use super::dying::DeathReason;
use super::groups::{Admission, Groups};
use super::lane::{Offer, Pick};
use super::state::{Effects, State, VISIT_BYTES_MAX, VISIT_MESSAGES_MAX, is_expired};
use crate::broker::delivery::Delivery;
use crate::message::Seq;
use crate::rate::Throttle;

/// Room made at once for what a visit hands out.
const ASSIGNED_RESERVED: u64 = 128;

impl State {
    /// Hands ready messages to consumers: one visit's share.
    ///
    /// First each message gets a consumer, from what the queue knows; then each outbox is locked once for its share.
    pub(super) fn dispatch(&mut self, now_ms: u64, effects: &mut Effects) {
        effects.more = false;
        let is_held = self.is_paused || self.returning > 0;
        if is_held || self.ready_in_lanes() == 0 || !self.consumers.any_turning() {
            return;
        }
        let messages_max = match &self.throttle {
            None => VISIT_MESSAGES_MAX,
            Some(throttle) => allowed(throttle, now_ms),
        };
        if messages_max == 0 {
            return self.wait_for_rate(now_ms, effects);
        }
        self.consumers.begin_round();
        let capacity = self.ready_in_lanes().min(ASSIGNED_RESERVED) as usize;
        let mut picker = Picker {
            consumers: &mut self.consumers,
            groups: self.groups.as_deref_mut(),
            assigned: Assigned::with_capacity(capacity),
            expired: Vec::new(),
            now_ms,
            messages_max,
            bytes: 0,
            share_done: false,
        };
        for lane in &mut self.lanes {
            if lane.ready() == 0 {
                continue;
            }
            let picked = lane.pick(|offer| picker.pick(offer));
            effects.load = picked.load;
            if !picked.all {
                break;
            }
        }
        effects.more = picker.share_done;
        let Picker {
            assigned, expired, ..
        } = picker;
        let handed = assigned.hand_over(&mut self.consumers);
        self.account(&handed, now_ms, effects);
        self.spend(&handed, now_ms);
        if effects.more && messages_max < VISIT_MESSAGES_MAX {
            self.wait_for_rate(now_ms, effects);
        }
        for seq in expired {
            self.die(seq, DeathReason::Expired, effects);
        }
        self.forget_if_empty();
        // What went out or died may have been all that there was to load.
        effects.load = effects.load.filter(|from| {
            let log = &self.lane_mut(*from).log;
            log.cold_end(*from).is_some()
        });
    }

    /// Books what the outboxes took where the rate is limited.
    fn spend(&self, handed: &[Handed], now_ms: u64) {
        if let Some(throttle) = &self.throttle {
            let taken = handed
                .iter()
                .filter(|run| !matches!(run.fate, Fate::Refused { .. }));
            let count = taken.map(|run| run.last - run.first + 1).sum();
            throttle.spend(now_ms, count, 0);
        }
    }

    /// There is more to do, but not now.
    fn wait_for_rate(&self, now_ms: u64, effects: &mut Effects) {
        if let Some(throttle) = &self.throttle {
            let wait_ms = throttle.wait_ms(now_ms);
            effects.more = wait_ms == 0;
            effects.throttled_ms = (wait_ms > 0).then_some(wait_ms);
        }
    }

    /// Books what the outboxes took and puts back what they refused.
    fn account(&mut self, handed: &[Handed], now_ms: u64, effects: &mut Effects) {
        for run in handed {
            match run.fate {
                Fate::Refused { .. } => {}
                Fate::Settled => self.gone_run(run.first, run.last, effects),
                Fate::Unacked { persistent } => {
                    self.unacked += run.last - run.first + 1;
                    self.consumers
                        .delivered(run.slot, run.first..=run.last, now_ms);
                    effects.delivered |= persistent;
                    effects.held = true;
                }
            }
        }
        // The first one goes back last: where the order of return counts it must come out first.
        for run in handed.iter().rev() {
            if let Fate::Refused { redelivered, bytes } = run.fate {
                self.lane_mut(run.first)
                    .put_back(run.first, redelivered, u64::from(bytes));
                self.back_in_group(run.first);
                // Somebody else may have room for it.
                effects.more |= self.consumers.any_turning();
            }
        }
    }
}

/// How many messages a visit may hand out at this rate.
fn allowed(throttle: &Throttle, now_ms: u64) -> usize {
    let available = throttle.available(now_ms);
    usize::try_from(available).map_or(VISIT_MESSAGES_MAX, |count| count.min(VISIT_MESSAGES_MAX))
}

/// The first pass: a consumer for each message.
struct Picker<'log, 'queue> {
    consumers: &'queue mut Consumers,
    groups: Option<&'queue mut Groups>,
    assigned: Assigned<'log>,
    expired: Vec<Seq>,
    now_ms: u64,
    /// What the visit may hand out, as far as the rate allows it.
    messages_max: usize,
    bytes: usize,
    /// The visit has done its share, but there is more to do.
    share_done: bool,
}

impl<'log> Picker<'log, '_> {
    fn pick(&mut self, offer: Offer<'log>) -> Pick {
        let Offer { delivery, place } = offer;
        let record = delivery.record;
        let cost = delivery.cost_bytes();
        let count = self.assigned.deliveries.len() + self.expired.len();
        if count >= self.messages_max || (count > 0 && self.bytes + cost > VISIT_BYTES_MAX) {
            self.share_done = true;
            return Pick::Stop;
        }
        if is_expired(record, self.now_ms) {
            self.expired.push(delivery.seq);
            return Pick::Taken;
        }
        let mut group = None;
        if let Some(groups) = &mut self.groups {
            // Asked first: a message of a busy group must not keep a consumer from those behind it.
            if !self.consumers.any_turning() {
                return Pick::Stop;
            }
            match groups.admit(record, place) {
                Admission::Granted(key) => group = key,
                Admission::Blocked => return Pick::Held,
                Admission::Full => return Pick::Stop,
            }
        }
        let Some(slot) = self.consumers.choose(cost) else {
            return Pick::Stop;
        };
        if let (Some(groups), Some(key)) = (&mut self.groups, group) {
            groups.granted(key, place);
        }
        self.bytes += cost;
        self.assigned.slots.push(slot);
        self.assigned.deliveries.push(delivery);
        Pick::Taken
    }
}

/// Messages and, at the same place, the consumer slot that each goes to.
struct Assigned<'log> {
    slots: Vec<u32>,
    deliveries: Vec<Delivery<'log>>,
}

/// What became of messages in a row that went to one consumer.
#[derive(Debug, Clone, Copy)]
struct Handed {
    first: Seq,
    last: Seq,
    slot: u32,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Delivered without acknowledgement.
    Settled,
    /// Delivered, waits for its acknowledgement.
    Unacked {
        /// It is a persistent message.
        persistent: bool,
    },
    /// The outbox would not take it. One message alone.
    Refused {
        /// It had been delivered before.
        redelivered: bool,
        /// Size of its body.
        bytes: u32,
    },
}

impl Assigned<'_> {
    fn with_capacity(count: usize) -> Self {
        Self {
            slots: Vec::with_capacity(count),
            deliveries: Vec::with_capacity(count),
        }
    }

    /// The second pass: each consumer's share goes to its outbox at once.
    fn hand_over(self, consumers: &mut Consumers) -> Vec<Handed> {
        let mut handed = Vec::new();
        let Some(&first) = self.slots.first() else {
            return handed;
        };
        if self.slots.iter().all(|slot| *slot == first) {
            hand_over_share(consumers, first, &self.deliveries, &mut handed);
            return handed;
        }
        let mut slots = self.slots.clone();
        slots.sort_unstable();
        slots.dedup();
        let mut share = Vec::with_capacity(self.deliveries.len());
        for slot in slots {
            share.clear();
            let own = self
                .slots
                .iter()
                .zip(&self.deliveries)
                .filter(|(owner, _)| **owner == slot);
            share.extend(own.map(|(_, delivery)| *delivery));
            hand_over_share(consumers, slot, &share, &mut handed);
        }
        handed
    }
}

fn hand_over_share(
    consumers: &mut Consumers,
    slot: u32,
    share: &[Delivery<'_>],
    handed: &mut Vec<Handed>,
) {
    let Some(consumer) = consumers.at(slot) else {
        debug_assert!(false, "the consumer was chosen under the same lock");
        return;
    };
    let taken = consumer.sink.deliver(share).min(share.len());
    let no_ack = consumer.no_ack;
    let (accepted, refused) = share.split_at(taken);
    for delivery in accepted {
        let seq = delivery.seq;
        let fate = if no_ack {
            Fate::Settled
        } else {
            let persistent = delivery.record.is_persistent();
            Fate::Unacked { persistent }
        };
        match handed.last_mut() {
            Some(run) if run.last + 1 == seq && run.slot == slot && run.fate == fate => {
                run.last = seq;
            }
            _ => handed.push(Handed {
                first: seq,
                last: seq,
                slot,
                fate,
            }),
        }
    }
    handed.extend(refused.iter().map(|delivery| Handed {
        first: delivery.seq,
        last: delivery.seq,
        slot,
        fate: Fate::Refused {
            redelivered: delivery.redelivered,
            bytes: delivery.record.body_len() as u32,
        },
    }));
    if taken < share.len() {
        consumers.refused(slot, (share.len() - taken) as u32);
    }
}
