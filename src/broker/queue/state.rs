//! The state of a queue: pure, synchronous, without clock, store or lock.
//!
//! A message is in exactly one place:
//!
//! ```text
//!  append -> ready (in a lane) <----------------------------+
//!              | dispatch, get                              | requeue, refused by the outbox
//!              v                                            |
//!            unacked (held by a channel, by seq) -----------+
//!              | settle        | discard, or it was delivered too often
//!              v               v
//!            gone <- moved -- dying (held by its lane) <- expired or dropped while ready
//! ```
//!
//! Everything that the caller has to do about a change (tell the store, load a cold stretch, dead-letter them) comes
//! back in [`Effects`].

use std::sync::Arc;

use super::backlog::Backlog;
use super::consumers::Consumers;
use super::duplicates::{Duplicates, FormerIds, IdChange};
use super::dying::{DeathReason, Dying, REFUSED_MS};
use super::groups::{Admission, Groups};
use super::lane::{Head, Lane, lane_of};
use super::log::Lookup;
use super::retry::RecoveredRetries;
use super::settings::Settings;
use crate::broker::arguments::ConsumerChoice;
use crate::broker::delivery::Delivery;
use crate::broker::due::DueKey;
use crate::message::properties::has_priority;
use crate::message::record::{NewMessage, RecordRef};
use crate::message::run::Run;
use crate::message::{Epoch, Seq};
use crate::rate::Throttle;
use crate::store::{RecoveredDue, RecoveredQueue};

/// Most messages that one visit dispatches.
pub const VISIT_MESSAGES_MAX: usize = 256;

/// Most bytes that one visit dispatches; one larger message goes alone.
pub const VISIT_BYTES_MAX: usize = 64 * 1024;

/// Ready messages from which on publishers give consumers time, in bytes.
const BACKLOG_BYTES: u64 = 8 * 1024 * 1024;

/// How long publishers pause for consumers that are slow.
const SLOW_PAUSE_MS: u64 = 1;

/// What a record takes beside its body, about.
const RECORD_BYTES: u64 = 64;

/// What a change asks of the caller.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Effects {
    /// Ranges that the store may hold and that are gone.
    pub(super) settled: Vec<(Seq, Seq)>,
    /// Persistent messages went out that are not settled.
    pub(super) delivered: bool,
    /// A consumer holds messages that it did not hold before, persistent or not.
    pub(super) held: bool,
    /// A cold stretch is needed: load from there on.
    pub(super) load: Option<Seq>,
    /// The visit's share is done but there is more to do: visit again.
    pub(super) more: bool,
    /// Messages died that are to be dead-lettered.
    pub(super) died: bool,
    /// Counts of deliveries changed of these messages.
    pub(super) counted: Vec<Seq>,
    /// Persistent messages wait for their retry, with the sizes of their bodies.
    pub(super) waits: Vec<(DueKey, u64)>,
    /// These have waited.
    pub(super) waited: Vec<DueKey>,
    /// Ids were taken or are free again.
    pub(super) ids: Vec<IdChange>,
    /// There is more to hand out, in so many ms: the rate does not allow it now.
    pub(super) throttled_ms: Option<u64>,
}

impl Effects {
    pub(super) fn settle(&mut self, seq: Seq) {
        match self.settled.last_mut() {
            Some((_, last)) if *last + 1 == seq => *last = seq,
            _ => self.settled.push((seq, seq)),
        }
    }

    pub(super) fn load_at(&mut self, lane: &Lane, seq: Seq) {
        self.load = lane.log.cold_end(seq).map(|_| seq);
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

/// What the store remembers of a queue.
#[derive(Debug, Default)]
pub struct RecoveredLanes {
    /// Its lanes by number.
    pub lanes: Vec<(u16, RecoveredQueue)>,
    /// Messages that wait for their retry.
    pub retries: Vec<RecoveredRetries>,
    /// Messages that wait to become visible, if any ever did.
    pub delayed: Option<RecoveredDue>,
}

/// Why a message comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Return {
    /// The consumer did not look at it, or wants it later: basic.nack with requeue, basic.recover.
    Released,
    /// The consumer failed on it: basic.reject with requeue, or its channel ended. A delivery limit counts this.
    Failed,
}

/// Messages, consumers and their relation.
pub(super) struct State {
    /// By falling precedence. Lanes appear with their first message and stay.
    pub(super) lanes: Vec<Lane>,
    pub(super) settings: Arc<Settings>,
    pub(super) dying: Dying,
    pub(super) groups: Option<Box<Groups>>,
    /// What came before, if it is to be dropped when it comes again.
    pub(super) duplicates: Option<Box<Duplicates>>,
    /// What the store has to be told of ids that were known by other rules.
    pub(super) former_ids: Option<Box<FormerIds>>,
    /// Persistent messages are in the store, and with them until when they wait.
    pub(super) is_durable: bool,
    pub(super) unacked: u64,
    pub(super) consumers: Consumers,
    backlog: Backlog,
    /// Consumers get nothing.
    pub(super) is_paused: bool,
    /// Returns that take several visits and are not over yet.
    pub(super) returning: u32,
    /// How fast they get something, if that is limited.
    pub(super) throttle: Option<Arc<Throttle>>,
}

impl State {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        Self::recovered(settings, RecoveredLanes::default())
    }

    /// The state after a restart.
    pub(super) fn recovered(settings: Arc<Settings>, found: RecoveredLanes) -> Self {
        let in_order = settings.returns_in_order;
        let recovered = |(number, found)| Lane::recovered(number, in_order, found);
        let mut lanes: Vec<Lane> = found.lanes.into_iter().map(recovered).collect();
        lanes.sort_by_key(|lane| std::cmp::Reverse(lane.number()));
        if lanes.is_empty() {
            // Most queues never have another one, and `push` would make room for four.
            lanes = vec![Lane::new(0, in_order)];
        }
        lanes.shrink_to_fit();
        let mut consumers =
            Consumers::new(settings.single_active_consumer, settings.returns_in_order);
        consumers.set_least_loaded(settings.consumer_choice == ConsumerChoice::LeastLoaded);
        let mut state = Self {
            lanes,
            groups: settings
                .message_group
                .clone()
                .map(|header| Box::new(Groups::new(header))),
            duplicates: settings
                .deduplication
                .clone()
                .map(|rules| Box::new(Duplicates::new(rules))),
            former_ids: None,
            consumers,
            settings,
            dying: Dying::default(),
            is_durable: false,
            unacked: 0,
            backlog: Backlog::default(),
            is_paused: false,
            returning: 0,
            throttle: None,
        };
        for retries in found.retries {
            state.wait_still(retries);
        }
        state
    }

    pub(super) fn ready(&self) -> u64 {
        let blocked: u64 = match self.groups {
            Some(_) => self.lanes.iter().map(Lane::blocked).sum(),
            None => 0,
        };
        self.ready_in_lanes() + blocked
    }

    pub(super) fn ready_in_lanes(&self) -> u64 {
        match &self.lanes[..] {
            [lane] => lane.ready(),
            lanes => lanes.iter().map(Lane::ready).sum(),
        }
    }

    /// Bytes of ready bodies.
    pub(super) fn ready_bytes(&self) -> u64 {
        let lanes = self.lanes.iter();
        lanes
            .map(|lane| lane.ready_bytes() + lane.blocked_bytes())
            .sum()
    }

    pub(super) const fn unacked(&self) -> u64 {
        self.unacked
    }

    pub(super) fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    pub(super) fn lanes_mut(&mut self) -> &mut [Lane] {
        &mut self.lanes
    }

    /// The lane of a message. A seq always comes from a lane that is there.
    pub(super) fn lane_mut(&mut self, seq: Seq) -> &mut Lane {
        let at = match &self.lanes[..] {
            [_] => 0,
            lanes => {
                let number = lane_of(seq);
                let place = lanes.iter().position(|lane| lane.number() == number);
                place.unwrap_or_default()
            }
        };
        &mut self.lanes[at]
    }

    pub(super) fn resident_bytes(&self) -> usize {
        match &self.lanes[..] {
            [lane] => lane.log.resident_bytes(),
            lanes => lanes.iter().map(|lane| lane.log.resident_bytes()).sum(),
        }
    }

    /// How long a publisher should give consumers that are behind, in ms, so that they take messages from memory or
    /// soon will again.
    pub(super) fn backlog_pause_ms(&mut self, now_ms: u64) -> u64 {
        let ready = self.ready_in_lanes();
        if ready == 0 || self.consumers.count() == 0 {
            return 0;
        }
        let bytes = self.ready_bytes() + ready * RECORD_BYTES;
        if bytes <= BACKLOG_BYTES {
            return 0;
        }
        let excess = (bytes - BACKLOG_BYTES) / (bytes / ready);
        let arrived = self.lanes.iter().map(Lane::arrived).sum();
        match self.backlog.pause_ms(now_ms, arrived, ready, excess) {
            Some(pause_ms) => pause_ms,
            // What is read back from the store is limited by the disk anyway.
            None if self.lanes.iter().any(Lane::has_cold_ready) => 0,
            None => SLOW_PAUSE_MS,
        }
    }

    /// The lane for a message, made if there is none.
    fn lane_for(&mut self, message: &NewMessage<'_>) -> &mut Lane {
        let max = self.settings.max_priority;
        // The highest lane comes first. Others are there although priorities mean nothing when that was changed.
        if max == 0 && self.lanes[0].number() == 0 {
            return &mut self.lanes[0];
        }
        let default = self.settings.default_priority;
        let priority = if default != 0 && !has_priority(message.properties) {
            default
        } else {
            message.priority
        };
        let number = u16::from(priority.min(max));
        let at = self.lanes.partition_point(|lane| lane.number() > number);
        if self
            .lanes
            .get(at)
            .is_none_or(|lane| lane.number() != number)
        {
            let lane = Lane::new(number, self.settings.returns_in_order);
            self.lanes.insert(at, lane);
        }
        &mut self.lanes[at]
    }

    /// Whether each message that arrives has to be looked at.
    pub(super) fn looks_at_each(&self) -> bool {
        let settings = &self.settings;
        settings.rejects_publish() || settings.delay_ms.is_some() || self.duplicates.is_some()
    }

    /// Whether one more message of `bytes` is to be refused, while `delayed` others wait to become visible.
    pub(super) fn refuses(&self, delayed: u64, bytes: u64) -> bool {
        self.settings.rejects_publish()
            && self
                .settings
                .is_over(self.ready() + delayed + 1, self.ready_bytes() + bytes)
    }

    /// Adds messages in a row and answers the first and the last seq. `epoch`: as in `Log::append`.
    pub(super) fn append_run(&mut self, now_ms: u64, run: Run<'_>, epoch: Epoch) -> (Seq, Seq) {
        let ttl_ms = self.settings.message_ttl_ms;
        let lane = self.lane_for(run.first);
        let Some(ttl_ms) = ttl_ms else {
            return lane.append_run(now_ms, run, epoch);
        };
        let own_ms = match run.first.expiry_ms {
            0 => u64::MAX,
            own_ms => own_ms,
        };
        let first = NewMessage {
            expiry_ms: own_ms.min(now_ms.saturating_add(ttl_ms)),
            ..run.first.clone()
        };
        let run = Run {
            first: &first,
            repeated: run.repeated,
        };
        lane.append_run(now_ms, run, epoch)
    }

    /// Adds a message that was refused and goes to the dead-letter exchange at once.
    pub(super) fn append_dying(
        &mut self,
        now_ms: u64,
        message: &NewMessage<'_>,
        epoch: Epoch,
        effects: &mut Effects,
    ) -> Seq {
        let message = NewMessage {
            expiry_ms: REFUSED_MS,
            ..message.clone()
        };
        // It is at no time ready, and has no time left.
        let lane = self.lane_for(&message);
        let seq = lane.log.append(now_ms, &message, epoch);
        self.die(seq, DeathReason::MaxLen, effects);
        seq
    }

    /// A message is gone for good.
    pub(super) fn gone(&mut self, seq: Seq, effects: &mut Effects) {
        let lane = self.lane_mut(seq);
        if lane.settle(seq) == Some(true) {
            effects.settle(seq);
        }
        self.leave_group(seq, effects);
        self.free_id(seq, effects);
    }

    /// Messages in a row are gone for good.
    pub(super) fn gone_run(&mut self, first: Seq, last: Seq, effects: &mut Effects) {
        if self.groups.is_none() && self.duplicates.is_none() {
            let lane = self.lane_mut(first);
            return lane.settle_run(first, last, |seq| effects.settle(seq));
        }
        for seq in first..=last {
            self.gone(seq, effects);
        }
    }

    /// The message no longer keeps its group busy: the next one may go, and has to be offered.
    pub(super) fn leave_group(&mut self, seq: Seq, effects: &mut Effects) {
        if let Some(groups) = &mut self.groups
            && let Some(next) = groups.finished(seq)
        {
            self.lane_mut(next).release(next);
            effects.more = true;
        }
    }

    /// A message that is neither ready nor counted as unacknowledged any more dies.
    pub(super) fn die(&mut self, seq: Seq, reason: DeathReason, effects: &mut Effects) {
        if self.settings.dead_letter.is_none() {
            self.gone(seq, effects);
            return;
        }
        self.lane_mut(seq).hold(seq);
        self.dying.push(seq, reason);
        effects.died = true;
        self.leave_group(seq, effects);
    }

    /// Takes the first ready message for basic.get. `take` encodes it; it also learns how many remain.
    pub(super) fn get<T>(
        &mut self,
        now_ms: u64,
        no_ack: bool,
        effects: &mut Effects,
        take: impl FnOnce(Delivery<'_>, u64) -> T,
    ) -> Got<T> {
        let (seq, redelivered) = loop {
            match self.first_ready(now_ms, effects) {
                First::At(seq, redelivered) => break (seq, redelivered),
                First::Again => {}
                First::Cold => return Got::Cold,
                First::None => return Got::Empty,
            }
        };
        let left = self.ready().saturating_sub(1);
        let lane = self.lane_mut(seq);
        let counts = lane.counts(seq);
        let Lookup::Found(record, body) = lane.log.lookup(seq) else {
            return Got::Empty;
        };
        let delivery = Delivery {
            seq,
            redelivered,
            record,
            body,
            counts,
            stream_offset: None,
        };
        let (persistent, bytes) = (record.is_persistent(), record.body_len() as u64);
        let taken = take(delivery, left);
        lane.take(seq, bytes);
        if no_ack {
            self.gone(seq, effects);
        } else {
            self.unacked += 1;
            effects.delivered |= persistent;
        }
        self.forget_if_empty();
        Got::Message(taken)
    }

    /// The message that goes next. What is in its way (expired, of a busy group) is put out of it.
    pub(super) fn first_ready(&mut self, now_ms: u64, effects: &mut Effects) -> First {
        for at in 0..self.lanes.len() {
            let lane = &mut self.lanes[at];
            if lane.ready() == 0 {
                continue;
            }
            let (seq, redelivered) = match lane.first_ready() {
                Head::None => continue,
                Head::Cold(seq) => {
                    effects.load_at(lane, seq);
                    return First::Cold;
                }
                Head::At { seq, .. } if seq >= lane.closed_from() => continue,
                Head::At { seq, redelivered } => (seq, redelivered),
            };
            let Lookup::Found(record, _) = lane.log.lookup(seq) else {
                continue;
            };
            let (bytes, expiry_ms) = (record.body_len() as u64, record.expiry_ms());
            if is_expired(record, now_ms) {
                lane.take(seq, bytes);
                self.die(seq, DeathReason::Expired, effects);
                return First::Again;
            }
            let place = lane.place(seq);
            match &mut self.groups {
                None => return First::At(seq, redelivered),
                Some(groups) => match groups.admit(record, place) {
                    Admission::Granted(key) => {
                        if let Some(key) = key {
                            groups.granted(key, place);
                        }
                        return First::At(seq, redelivered);
                    }
                    Admission::Full => return First::None,
                    Admission::Blocked => {
                        lane.block(seq, bytes, expiry_ms);
                        return First::Again;
                    }
                },
            }
        }
        First::None
    }

    /// Drops every ready message and answers how many; what is unacknowledged or dying stays.
    pub(super) fn purge(&mut self, effects: &mut Effects) -> u64 {
        let purged = self.ready();
        for lane in &mut self.lanes {
            effects.settled.append(&mut lane.purge());
        }
        let lanes = &self.lanes;
        if let Some(groups) = &mut self.groups {
            groups.retain(|seq| {
                lanes
                    .iter()
                    .any(|lane| !matches!(lane.log.lookup(seq), Lookup::Gone))
            });
        }
        self.free_purged_ids(effects);
        self.forget_if_empty();
        purged
    }

    /// A message that died has arrived where it goes, or nowhere.
    pub(super) fn left(&mut self, seq: Seq, effects: &mut Effects) {
        if self.lane_mut(seq).settle(seq) == Some(true) {
            effects.settle(seq);
        }
        self.free_id(seq, effects);
        if let Some(duplicates) = &mut self.duplicates {
            duplicates.has_moved(seq);
        }
        self.forget_if_empty();
    }

    /// Stretches whose records are all gone do not linger because their count was an estimate.
    pub(super) fn forget_if_empty(&mut self) {
        if self.unacked == 0 && self.ready() == 0 && self.dying.is_empty() && self.retries() == 0 {
            for lane in &mut self.lanes {
                lane.forget_cold();
            }
        }
    }
}

/// What stands first.
pub(super) enum First {
    At(Seq, bool),
    /// What stood there is out of the way: look again.
    Again,
    Cold,
    None,
}

/// Its time is up. A message whose time ended in the millisecond of its arrival (TTL 0) may still go to a consumer that
/// takes it at once (semantics row 33): it does not outlive that visit otherwise. One that was refused never may.
pub(super) fn is_expired(record: RecordRef<'_>, now_ms: u64) -> bool {
    let expiry_ms = record.expiry_ms();
    expiry_ms != 0 && expiry_ms <= now_ms && expiry_ms.min(record.arrival_ms()) < now_ms
}
