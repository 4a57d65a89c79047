//! The state of a queue: pure, synchronous, without clock, store or lock.
//!
//! A message is in exactly one place:
//!
//! ```text
//!  append -> ready (log at or after the cursor, or `returned`, or `refused`)
//!              | dispatch, get                          ^
//!              v                                        | requeue, refused by the outbox
//!            unacked (held by a channel, by seq) -------+
//!              | settle
//!              v
//!            gone
//! ```
//!
//! Everything that the caller has to do about a change (tell the store, load a cold stretch) comes back in
//! [`Effects`].

use super::consumers::Consumers;
use super::log::{Log, Lookup, Next};
use crate::broker::delivery::{ConsumerId, Delivery};
use crate::message::ranges::RangeSet;
use crate::message::record::{NewMessage, RecordRef, SharedBody};
use crate::message::{Epoch, Seq};

/// Most messages that one visit dispatches.
pub const VISIT_MESSAGES_MAX: usize = 256;

/// Most bytes that one visit dispatches; one larger message goes alone.
pub const VISIT_BYTES_MAX: usize = 64 * 1024;

/// Resident messages from which on publishers give consumers time.
const BACKLOG_BYTES: usize = 8 * 1024 * 1024;

/// What a change asks of the caller.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Effects {
    /// Ranges that the store may hold and that are gone.
    pub(super) settled: Vec<(Seq, Seq)>,
    /// Persistent messages went out that are not settled.
    pub(super) delivered: bool,
    /// A cold stretch is needed: load from the first to at most the second seq.
    pub(super) load: Option<(Seq, Seq)>,
    /// The visit's share is done but consumers could take more: visit again.
    pub(super) more: bool,
}

impl Effects {
    fn settle(&mut self, seq: Seq) {
        match self.settled.last_mut() {
            Some((_, last)) if *last + 1 == seq => *last = seq,
            _ => self.settled.push((seq, seq)),
        }
    }
}

/// What basic.get found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Got<T> {
    /// A message, and what the caller made of it.
    Message(T),
    /// Nothing is ready.
    Empty,
    /// The head is only in the store: load it and ask again.
    Cold,
}

/// Messages, consumers and their relation.
pub(super) struct State {
    log: Log,
    /// Everything below was delivered at least once, or is gone.
    cursor: Seq,
    /// Ready again, delivered before: below the cursor.
    returned: RangeSet,
    /// Ready again without ever having been delivered (an outbox refused them): below the cursor.
    refused: RangeSet,
    /// Seqs below were delivered before the last restart.
    delivered_before: Seq,
    ready: u64,
    unacked: u64,
    pub(super) consumers: Consumers,
}

impl State {
    pub(super) fn new() -> Self {
        Self::over(Log::new(1), 1, 0, 0)
    }

    /// The state after a restart: `live` messages in `first..next_seq`, all of them only in the store.
    pub(super) fn recovered(first: Seq, next_seq: Seq, delivered_upto: Seq, live: u64) -> Self {
        let first = first.clamp(1, next_seq.max(1));
        Self::over(
            Log::cold(first, next_seq.max(1), live),
            if live > 0 { first } else { next_seq },
            delivered_upto,
            live,
        )
    }

    fn over(log: Log, cursor: Seq, delivered_before: Seq, ready: u64) -> Self {
        Self {
            log,
            cursor,
            returned: RangeSet::new(),
            refused: RangeSet::new(),
            delivered_before,
            ready,
            unacked: 0,
            consumers: Consumers::default(),
        }
    }

    pub(super) const fn ready(&self) -> u64 {
        self.ready
    }

    pub(super) const fn unacked(&self) -> u64 {
        self.unacked
    }

    pub(super) const fn next_seq(&self) -> Seq {
        self.log.next_seq()
    }

    /// Seqs below may have been delivered.
    pub(super) fn delivered_upto(&self) -> Seq {
        self.cursor.max(self.delivered_before)
    }

    /// Seqs below are delivered with the next `count` deliveries at the latest, if seqs are dense. A short queue counts
    /// as delivered as a whole: a restart leaves gaps in its seqs.
    pub(super) fn delivered_soon(&self, count: u64) -> Seq {
        if self.ready <= count {
            self.log.next_seq()
        } else {
            self.delivered_upto() + count
        }
    }

    pub(super) const fn log(&self) -> &Log {
        &self.log
    }

    pub(super) const fn log_mut(&mut self) -> &mut Log {
        &mut self.log
    }

    /// Consumers work on messages that are in memory, but more slowly than these arrive. What is read back from the
    /// store is limited by the disk anyway.
    pub(super) fn has_backlog(&self) -> bool {
        self.log.resident_bytes() > BACKLOG_BYTES
            && self.consumers.count() > 0
            && !self.log.has_cold()
    }

    /// Where reading goes on: chunks around it stay in memory.
    pub(super) fn head(&self) -> Seq {
        let returned = self.returned.first().unwrap_or(self.cursor);
        self.refused
            .first()
            .unwrap_or(self.cursor)
            .min(returned)
            .min(self.cursor)
    }

    /// Adds a message. `epoch`: as in `Log::append`.
    pub(super) fn append(&mut self, now_ms: u64, message: &NewMessage<'_>, epoch: Epoch) -> Seq {
        self.ready += 1;
        self.log.append(now_ms, message, epoch)
    }

    /// Hands ready messages to consumers: one visit's share.
    ///
    /// First each message gets a consumer, from what the queue knows; then each outbox is locked once for its share.
    pub(super) fn dispatch(&mut self, effects: &mut Effects) {
        effects.more = false;
        if self.ready == 0 || !self.consumers.any_turning() {
            return;
        }
        self.consumers.begin_round();
        let Self {
            log,
            consumers,
            returned,
            refused,
            ..
        } = self;
        let mut picker = Picker {
            consumers,
            assigned: Assigned::default(),
            bytes: 0,
            bound: Bound::Open,
        };
        let again = pick_again(log, returned, refused, self.delivered_before, &mut picker);
        self.ready -= again.lost;
        let mut cold = again.cold;
        if picker.bound == Bound::Open && cold.is_none() {
            let delivered_before = self.delivered_before;
            let next = log.scan(self.cursor, |record, body| {
                picker.pick(record, body, record.seq() < delivered_before)
            });
            self.cursor = match next {
                Next::At(seq) => seq,
                Next::Cold(seq) => {
                    cold = Some(seq);
                    seq
                }
                Next::End => {
                    // Records that the store lost would otherwise be counted for ever.
                    self.ready = self.ready.min(picker.assigned.deliveries.len() as u64);
                    log.next_seq()
                }
            };
        }
        let Picker {
            assigned, bound, ..
        } = picker;
        effects.more = bound == Bound::Share;
        let ahead = cold.or_else(|| log.cold_after(self.cursor));
        effects.load = ahead.and_then(|seq| log.cold_end(seq).map(|end| (seq, end)));
        let handed = assigned.hand_over(&mut self.consumers);
        self.account(&handed, effects);
    }

    /// Books what the outboxes took and puts back what they refused.
    fn account(&mut self, handed: &[Handed], effects: &mut Effects) {
        let mut taken = 0;
        for &Handed {
            seq,
            fate,
            persistent,
        } in handed
        {
            match fate {
                Fate::RefusedAgain if seq >= self.delivered_before => {
                    self.returned.insert(seq);
                }
                Fate::RefusedAgain | Fate::Refused => {
                    self.refused.insert(seq);
                }
                Fate::Settled => {
                    taken += 1;
                    if self.log.settle(seq) == Some(true) {
                        effects.settle(seq);
                    }
                }
                Fate::Unacked => {
                    taken += 1;
                    self.unacked += 1;
                    effects.delivered |= persistent;
                }
            }
        }
        self.ready -= taken;
        self.forget_if_empty();
    }

    /// Takes the first ready message for basic.get. `take` encodes it; it also learns how many remain.
    pub(super) fn get<T>(
        &mut self,
        no_ack: bool,
        effects: &mut Effects,
        take: impl FnOnce(Delivery<'_>, u64) -> T,
    ) -> Got<T> {
        let Some((seq, redelivered)) = self.first_ready() else {
            return Got::Empty;
        };
        let (record, body) = match self.log.lookup(seq) {
            Lookup::Found(record, body) => (record, body),
            Lookup::Cold => {
                effects.load = self.log.cold_end(seq).map(|end| (seq, end));
                return Got::Cold;
            }
            Lookup::Gone => return Got::Empty,
        };
        let persistent = record.is_persistent();
        let taken = take(
            Delivery {
                seq,
                redelivered,
                record,
                body,
            },
            self.ready.saturating_sub(1),
        );
        self.ready = self.ready.saturating_sub(1);
        if !self.returned.remove(seq) && !self.refused.remove(seq) {
            self.cursor = seq + 1;
        }
        if no_ack {
            if self.log.settle(seq) == Some(true) {
                effects.settle(seq);
            }
        } else {
            self.unacked += 1;
            effects.delivered |= persistent;
        }
        self.forget_if_empty();
        Got::Message(taken)
    }

    /// The first ready seq and whether it was delivered before. Seqs whose records turn out to be gone are skipped.
    fn first_ready(&mut self) -> Option<(Seq, bool)> {
        let before = match (self.returned.first(), self.refused.first()) {
            (Some(returned), Some(refused)) if refused < returned => {
                Some((refused, refused < self.delivered_before))
            }
            (Some(returned), _) => Some((returned, true)),
            (None, refused) => refused.map(|seq| (seq, seq < self.delivered_before)),
        };
        if before.is_some() {
            return before;
        }
        match self.log.next(self.cursor) {
            Next::At(seq) | Next::Cold(seq) => {
                self.cursor = seq;
                Some((seq, seq < self.delivered_before))
            }
            Next::End => None,
        }
    }

    /// Unacknowledged messages are done. Unknown seqs (purged queue, deleted message) are ignored.
    pub(super) fn settle(&mut self, consumer: ConsumerId, seqs: &[Seq], effects: &mut Effects) {
        for &seq in seqs {
            if self.log.settle(seq) == Some(true) {
                effects.settle(seq);
            }
        }
        self.release(consumer, seqs.len());
        self.forget_if_empty();
    }

    /// Unacknowledged messages are ready again, at their original position.
    pub(super) fn requeue(&mut self, consumer: ConsumerId, seqs: &[Seq]) {
        for &seq in seqs {
            if !matches!(self.log.lookup(seq), Lookup::Gone) && self.returned.insert(seq) {
                self.ready += 1;
            }
        }
        self.release(consumer, seqs.len());
    }

    fn release(&mut self, consumer: ConsumerId, count: usize) {
        self.unacked = self.unacked.saturating_sub(count as u64);
        self.consumers.released(consumer, count as u32);
    }

    /// Drops every ready message and answers how many; what is unacknowledged stays.
    pub(super) fn purge(&mut self, effects: &mut Effects) -> u64 {
        let purged = self.ready;
        let before: Vec<(Seq, Seq)> = self
            .returned
            .take()
            .into_iter()
            .chain(self.refused.take())
            .collect();
        for seq in before.into_iter().flat_map(|(first, last)| first..=last) {
            if self.log.settle(seq) == Some(true) {
                effects.settle(seq);
            }
        }
        let (start, end) = (self.cursor, self.log.next_seq());
        self.log.drop_cold_from(start);
        while let Next::At(seq) = self.log.next(self.cursor) {
            self.log.settle(seq);
            self.cursor = seq + 1;
        }
        if start < end {
            effects.settled.push((start, end - 1));
        }
        self.cursor = end;
        self.ready = 0;
        self.forget_if_empty();
        purged
    }

    /// Stretches whose records are all gone do not linger because their count was an estimate.
    fn forget_if_empty(&mut self) {
        if self.ready == 0 && self.unacked == 0 {
            self.log.drop_cold_from(0);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound {
    /// There is room for more.
    Open,
    /// The visit has done its share.
    Share,
    /// No consumer can take the next message.
    NoConsumer,
}

/// The first pass: a consumer for each message.
struct Picker<'log, 'queue> {
    consumers: &'queue mut Consumers,
    assigned: Assigned<'log>,
    bytes: usize,
    bound: Bound,
}

impl<'log> Picker<'log, '_> {
    fn pick(
        &mut self,
        record: RecordRef<'log>,
        body: Option<&'log SharedBody>,
        redelivered: bool,
    ) -> bool {
        let delivery = Delivery {
            seq: record.seq(),
            redelivered,
            record,
            body,
        };
        let cost = delivery.cost_bytes();
        let count = self.assigned.deliveries.len();
        if count >= VISIT_MESSAGES_MAX || (count > 0 && self.bytes + cost > VISIT_BYTES_MAX) {
            self.bound = Bound::Share;
            return false;
        }
        let Some(slot) = self.consumers.choose(cost) else {
            self.bound = Bound::NoConsumer;
            return false;
        };
        self.bytes += cost;
        self.assigned.slots.push(slot);
        self.assigned.deliveries.push(delivery);
        true
    }
}

/// What became of the search among the messages that are ready again.
struct Again {
    /// The next one is only in the store.
    cold: Option<Seq>,
    /// Messages that were not to be found any more.
    lost: u64,
}

/// Messages that are ready again stand before the cursor: they go first, in their original order.
fn pick_again<'log>(
    log: &'log Log,
    returned: &mut RangeSet,
    refused: &mut RangeSet,
    delivered_before: Seq,
    picker: &mut Picker<'log, '_>,
) -> Again {
    let mut again = Again {
        cold: None,
        lost: 0,
    };
    loop {
        let (set, was_delivered) = match (returned.first(), refused.first()) {
            (Some(first), Some(other)) if other < first => (&mut *refused, false),
            (Some(_), _) => (&mut *returned, true),
            (None, Some(_)) => (&mut *refused, false),
            (None, None) => return again,
        };
        let Some(seq) = set.first() else { return again };
        match log.lookup(seq) {
            Lookup::Found(record, body) => {
                if !picker.pick(record, body, was_delivered || seq < delivered_before) {
                    return again;
                }
            }
            Lookup::Cold => {
                again.cold = Some(seq);
                return again;
            }
            Lookup::Gone => again.lost += 1,
        }
        set.pop_first();
    }
}

/// Messages and, at the same place, the consumer slot that each goes to.
#[derive(Default)]
struct Assigned<'log> {
    slots: Vec<u32>,
    deliveries: Vec<Delivery<'log>>,
}

#[derive(Debug, Clone, Copy)]
struct Handed {
    seq: Seq,
    fate: Fate,
    persistent: bool,
}

#[derive(Debug, Clone, Copy)]
enum Fate {
    /// Delivered without acknowledgement.
    Settled,
    /// Delivered, waits for its acknowledgement.
    Unacked,
    /// The outbox would not take it.
    Refused,
    /// Likewise, and it had been delivered before.
    RefusedAgain,
}

impl Assigned<'_> {
    /// The second pass: each consumer's share goes to its outbox at once.
    fn hand_over(self, consumers: &mut Consumers) -> Vec<Handed> {
        let mut handed = Vec::with_capacity(self.deliveries.len());
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
    let accepted = if consumer.no_ack {
        Fate::Settled
    } else {
        Fate::Unacked
    };
    for (index, delivery) in share.iter().enumerate() {
        let fate = match (index < taken, delivery.redelivered) {
            (true, _) => accepted,
            (false, true) => Fate::RefusedAgain,
            (false, false) => Fate::Refused,
        };
        handed.push(Handed {
            seq: delivery.seq,
            fate,
            persistent: delivery.record.is_persistent(),
        });
    }
    if taken < share.len() {
        consumers.refused(slot, (share.len() - taken) as u32);
    }
}
