//! The queue with all its features against a simple model: a list of messages, each with a place, in the order in which
//! they are to go out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use amq_protocol::types::{AMQPValue, FieldTable};
use parking_lot::Mutex;
use proptest::prelude::*;

use super::consumers::ConsumerSpec;
use super::dying::DeathReason;
use super::lane::lane_of;
use super::log::Lookup;
use super::marks::MARKS_MAX;
use super::settings::{DeadLetter, Settings};
use super::state::{Effects, Got, Return, State};
use crate::broker::arguments::Overflow;
use crate::broker::deduplication::QueueSettings;
use crate::broker::delivery::{Cancellation, ConsumerId, Delivery, DeliverySink};
use crate::broker::due::DueKey;
use crate::message::field;
use crate::message::op::Counts;
use crate::message::record::{self, Body, NewMessage, RecordRef};
use crate::message::run::Run;
use crate::message::{Epoch, Seq};

/// What a delivery said.
type Seen = (Seq, bool, Counts);

/// A consumer that takes what the test lets it take, in a log that all consumers share.
struct Taker {
    number: usize,
    log: Arc<Mutex<Vec<(usize, Seen)>>>,
    room: AtomicUsize,
    refuses: Arc<AtomicBool>,
}

impl DeliverySink for Taker {
    fn room_bytes(&self) -> usize {
        self.room.load(Ordering::Relaxed)
    }
    fn deliver(&self, deliveries: &[Delivery<'_>]) -> usize {
        let count = if self.refuses.load(Ordering::Relaxed) {
            deliveries.len() / 2
        } else {
            deliveries.len()
        };
        let mut log = self.log.lock();
        let seen = deliveries[..count].iter().map(seen);
        log.extend(seen.map(|seen| (self.number, seen)));
        count
    }
    fn stall(&self) -> bool {
        false
    }
    fn wake(&self) {}
    fn cancelled(&self, _: Cancellation) {}
}

fn seen(delivery: &Delivery<'_>) -> Seen {
    (delivery.seq, delivery.redelivered, delivery.counts)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Ready,
    Unacked(usize),
    Dying(DeathReason),
}

#[derive(Debug, Clone)]
struct Message {
    bytes: u64,
    arrival_ms: u64,
    /// 0: never.
    expiry_ms: u64,
    group: Option<u8>,
    /// The id that it has taken: nobody else may have it while it is there.
    id: Option<u8>,
    place: Place,
    delivered: bool,
    counts: Counts,
    /// When it came back, in a queue that returns in that order.
    turn: Option<u64>,
}

const GETTER: usize = 99;

struct Holder {
    id: ConsumerId,
    no_ack: bool,
    prefetch: u32,
    is_there: bool,
    refuses: Arc<AtomicBool>,
}

struct World {
    settings: Settings,
    state: State,
    messages: BTreeMap<Seq, Message>,
    holders: Vec<Holder>,
    /// The ids that a cache remembers, the oldest first, with their times; `None` in the place of one that came again.
    remembered: Vec<(Option<u8>, u64)>,
    log: Arc<Mutex<Vec<(usize, Seen)>>>,
    /// What the store would give back.
    stored: BTreeMap<Seq, Vec<u8>>,
    /// Marks in the store, and the epoch that wrote the last of them.
    marks: BTreeMap<DueKey, u64>,
    epoch: Epoch,
    now_ms: u64,
    turn: u64,
}

impl World {
    fn new(settings: Settings) -> Self {
        Self {
            state: State::new(Arc::new(settings.clone())),
            settings,
            messages: BTreeMap::new(),
            holders: Vec::new(),
            remembered: Vec::new(),
            log: Arc::default(),
            stored: BTreeMap::new(),
            marks: BTreeMap::new(),
            epoch: 1,
            now_ms: 1_000,
            turn: 0,
        }
    }

    // The model.

    /// The size and the time of the cache; `None`: ids are taken by what is in the queue.
    fn cache(&self) -> Option<(usize, u64)> {
        let rules = self.settings.deduplication.as_ref()?;
        rules.is_cache.then_some((CACHE_SIZE, CACHE_TTL_MS))
    }

    fn is_duplicate_model(&self, id: u8) -> bool {
        match self.cache() {
            Some(_) => {
                let known = |(known, until): &(_, u64)| *known == Some(id) && *until > self.now_ms;
                self.remembered.iter().any(known)
            }
            None => self.messages.values().any(|taken| taken.id == Some(id)),
        }
    }

    fn remember_model(&mut self, id: u8) {
        let Some((size, ttl_ms)) = self.cache() else {
            return;
        };
        while self
            .remembered
            .first()
            .is_some_and(|(known, until_ms)| known.is_none() || *until_ms <= self.now_ms)
        {
            self.remembered.remove(0);
        }
        for (known, _) in &mut self.remembered {
            known.take_if(|known| *known == id);
        }
        if self.remembered.len() == size {
            self.remembered.remove(0);
        }
        self.remembered.push((Some(id), self.now_ms + ttl_ms));
    }

    /// Ready messages in the order in which they are to go.
    fn ready(&self) -> Vec<Seq> {
        let mut ready: Vec<_> = self
            .messages
            .iter()
            .filter(|(_, message)| message.place == Place::Ready)
            .map(|(seq, message)| {
                let turn = message.turn.map_or((1, 0), |turn| (0, turn));
                (std::cmp::Reverse(lane_of(*seq)), turn, *seq)
            })
            .collect();
        ready.sort_unstable();
        ready.into_iter().map(|(.., seq)| seq).collect()
    }

    /// Groups that have a message with a consumer.
    fn busy(&self) -> BTreeSet<u8> {
        let unacked = self
            .messages
            .values()
            .filter(|message| matches!(message.place, Place::Unacked(_)));
        unacked.filter_map(|message| message.group).collect()
    }

    /// Ready messages that may go now: of each idle group the first.
    fn eligible(&self) -> Vec<Seq> {
        let mut busy = self.busy();
        let mut ready = self.ready();
        ready.retain(|seq| {
            self.messages[seq]
                .group
                .is_none_or(|group| busy.insert(group))
        });
        ready
    }

    fn kill(&mut self, seq: Seq, reason: DeathReason) {
        if self.settings.dead_letter.is_some() {
            if let Some(message) = self.messages.get_mut(&seq) {
                message.place = Place::Dying(reason);
            }
        } else {
            self.messages.remove(&seq);
        }
    }

    fn ready_bytes(&self) -> u64 {
        self.ready()
            .iter()
            .map(|seq| self.messages[seq].bytes)
            .sum()
    }

    /// What is too old goes; before dispatch only what came before this moment.
    fn expire_model(&mut self, arrived_before_ms: u64) {
        for seq in self.ready() {
            let Message {
                expiry_ms,
                arrival_ms,
                ..
            } = self.messages[&seq];
            if expiry_ms != 0 && expiry_ms <= self.now_ms && arrival_ms < arrived_before_ms {
                self.kill(seq, DeathReason::Expired);
            }
        }
    }

    /// What is too old or too much goes.
    fn trim_model(&mut self) {
        self.expire_model(u64::MAX);
        while self.settings.overflow == Overflow::DropHead
            && self
                .settings
                .is_over(self.ready().len() as u64, self.ready_bytes())
        {
            let head = self.ready()[0];
            self.kill(head, DeathReason::MaxLen);
        }
    }

    fn held_by(&self, holder: usize) -> Vec<Seq> {
        let held = self.messages.iter();
        held.filter(|(_, message)| message.place == Place::Unacked(holder))
            .map(|(seq, _)| *seq)
            .collect()
    }

    /// A delivery must be of a message that may go now, and say of it what is so.
    fn deliver_model(&mut self, holder: usize, no_ack: bool, (seq, redelivered, counts): Seen) {
        assert!(self.eligible().contains(&seq), "{seq} may not go now");
        let message = self.messages.get_mut(&seq).unwrap();
        assert_eq!(
            (redelivered, counts),
            (message.delivered, message.counts),
            "{seq}"
        );
        message.delivered = true;
        message.turn = None;
        message.place = Place::Unacked(holder);
        if no_ack {
            self.messages.remove(&seq);
        }
    }

    // The queue.

    fn append(&mut self, size: usize, priority: u8, ttl_ms: Option<u64>, labels: Labels) {
        let Labels { group, id } = labels;
        let body = vec![7; size];
        let properties = properties(labels);
        let own_ms = ttl_ms.map_or(0, |ttl_ms| self.now_ms + ttl_ms);
        let message = NewMessage {
            exchange: b"",
            routing_key: b"q",
            properties: &properties,
            annotations: &[],
            body: Body::Inline(&body),
            persistent: true,
            priority,
            expiry_ms: own_ms,
        };
        let identity = self.state.identity(self.now_ms, &message);
        if let (Some(id), Some(identity)) = (id, &identity) {
            let is_duplicate = self.is_duplicate_model(id);
            assert_eq!(self.state.is_duplicate(self.now_ms, identity), is_duplicate);
            if is_duplicate {
                return;
            }
        }
        let by_queue_ms = self
            .settings
            .message_ttl_ms
            .map(|ttl_ms| self.now_ms + ttl_ms);
        let expiry_ms = match (own_ms, by_queue_ms) {
            (0, by_queue_ms) => by_queue_ms.unwrap_or(0),
            (own_ms, by_queue_ms) => by_queue_ms.map_or(own_ms, |ms| ms.min(own_ms)),
        };
        let rejects = self.settings.overflow != Overflow::DropHead
            && self.settings.is_over(
                self.ready().len() as u64 + 1,
                self.ready_bytes() + size as u64,
            );
        assert_eq!(self.state.refuses(0, size as u64), rejects);
        let (seq, place) = if rejects {
            if self.settings.dead_letter.is_none() {
                return;
            }
            let mut effects = Effects::default();
            let seq = self
                .state
                .append_dying(self.now_ms, &message, 1, &mut effects);
            (seq, Place::Dying(DeathReason::MaxLen))
        } else {
            let run = Run::single(&message);
            let (seq, _) = self.state.append_run(self.now_ms, run, 1);
            if let (Some(id), Some(identity)) = (id, identity) {
                let effects = &mut Effects::default();
                self.state
                    .remember(self.now_ms, identity, Some(seq), true, effects);
                self.remember_model(id);
            }
            (seq, Place::Ready)
        };
        let mut encoded = Vec::new();
        let stored = NewMessage {
            expiry_ms: if rejects { 0 } else { expiry_ms },
            ..message.clone()
        };
        record::encode(&mut encoded, seq, self.now_ms, &stored);
        self.stored.insert(seq, encoded);
        let message = Message {
            bytes: size as u64,
            arrival_ms: self.now_ms,
            expiry_ms: stored.expiry_ms,
            group,
            id: id.filter(|_| !rejects && self.settings.deduplication.is_some()),
            place,
            delivered: false,
            counts: Counts::default(),
            turn: None,
        };
        assert!(self.messages.insert(seq, message).is_none());
        self.settle_down();
    }

    /// What a visit does by itself, until there is nothing left to do.
    fn settle_down(&mut self) {
        self.expire_model(self.now_ms);
        self.until_quiet(|world, effects| world.state.dispatch(world.now_ms, effects));
        self.trim_model();
        self.until_quiet(|world, effects| {
            let mut more = Effects::default();
            world.state.expire(world.now_ms, &mut more);
            if more.load.is_none() && !more.more {
                world.state.enforce_limits(&mut more);
            }
            *effects = more;
        });
        // Room that deaths made in groups.
        self.until_quiet(|world, effects| world.state.dispatch(world.now_ms, effects));
    }

    fn until_quiet(&mut self, mut work: impl FnMut(&mut Self, &mut Effects)) {
        for _ in 0..10_000 {
            let mut effects = Effects::default();
            work(self, &mut effects);
            self.book();
            let has_read = self.keep_marks();
            if let Some((from, upto)) = effects.load {
                self.load(from, upto);
            } else if !effects.more && !has_read {
                return;
            }
        }
        panic!("the work does not come to an end");
    }

    /// The store writes and reads marks at once. True: it was asked for some.
    fn keep_marks(&mut self) -> bool {
        let mut has_read = false;
        for lane in self.state.lanes_mut() {
            let number = lane.number();
            let Some(marks) = lane.expiry.marks() else {
                continue;
            };
            self.epoch += 1;
            if let Some(changes) = marks.changes(self.epoch) {
                if changes.retired.is_some() {
                    self.marks.retain(|key, _| lane_of(key.seq) != number);
                }
                marks.set_owner(7);
                for (key, bytes) in changes.puts {
                    assert_eq!(self.marks.insert(key, bytes), None, "written once");
                }
                for key in changes.removals {
                    assert!(self.marks.remove(&key).is_some(), "removed once");
                }
            }
            if let Some(page) = marks.wanted_page(self.now_ms, self.epoch) {
                has_read = true;
                let own = |(key, _): &(&DueKey, _)| lane_of(key.seq) == number;
                let rows: Vec<_> = self.marks.range(page.from..).filter(own).collect();
                let more = rows.len() > page.rows;
                let rows = rows.into_iter().take(page.rows);
                marks.install(rows.map(|(key, bytes)| (*key, *bytes)), more);
            }
            // What came back has a mark in memory, and so has what waits for its group.
            let has_groups = self.settings.message_group.is_some();
            let came_back = lane.returned.first().is_some() || !lane.refused.is_empty();
            let resident = marks.resident();
            assert!(
                has_groups || came_back || resident <= MARKS_MAX + 17,
                "{resident} marks in memory"
            );
        }
        has_read
    }

    /// The store answers with a piece of what was asked for.
    fn load(&mut self, from: Seq, upto: Seq) {
        let covered = upto.min(from + 6);
        let records: Vec<u8> = self
            .stored
            .range(from..=covered)
            .flat_map(|(_, record)| record.clone())
            .collect();
        let lane = self.state.lane_mut(from);
        assert!(lane.install(from, covered, records, Vec::new()));
    }

    /// The consumers of one dispatch got their shares one after the other: merged they are in the queue's order.
    fn book(&mut self) {
        let mut taken = std::mem::take(&mut *self.log.lock());
        let order: BTreeMap<Seq, usize> = self.ready().into_iter().zip(0..).collect();
        let place = |seq: &Seq| order.get(seq).copied();
        for holder in 0..self.holders.len() {
            let own = taken.iter().filter(|(number, _)| *number == holder);
            let places: Vec<_> = own.map(|(_, (seq, ..))| place(seq)).collect();
            assert!(places.is_sorted(), "a consumer gets messages in order");
        }
        taken.sort_by_key(|(_, (seq, ..))| place(seq));
        let last = taken.last().and_then(|(_, (seq, ..))| place(seq));
        for (holder, seen) in taken {
            let no_ack = self.holders[holder].no_ack;
            self.deliver_model(holder, no_ack, seen);
        }
        // What stands before a delivered message was delivered too. Messages of different groups may pass each other,
        // and others pass what a consumer refused.
        let refuses = |holder: &Holder| holder.refuses.load(Ordering::Relaxed);
        if self.holders.iter().any(refuses) {
            return;
        }
        for seq in self.ready() {
            let overtaken = order.contains_key(&seq) && order.get(&seq).copied() < last;
            assert!(
                !overtaken || self.messages[&seq].group.is_some(),
                "{seq} was overtaken"
            );
        }
    }

    fn get(&mut self, no_ack: bool) {
        let expected = self.eligible().first().copied();
        loop {
            let mut effects = Effects::default();
            let got = self
                .state
                .get(self.now_ms, no_ack, &mut effects, |delivery, left| {
                    (seen(&delivery), left)
                });
            match got {
                Got::Cold => {
                    let (from, upto) = effects.load.unwrap();
                    self.load(from, upto);
                }
                Got::Empty => return assert_eq!(expected, None),
                Got::Message((seen, left)) => {
                    assert_eq!(Some(seen.0), expected);
                    assert_eq!(left, self.ready().len() as u64 - 1);
                    return self.deliver_model(GETTER, no_ack, seen);
                }
            }
        }
    }

    fn id(&self, holder: usize) -> ConsumerId {
        self.holders
            .get(holder)
            .map_or(ConsumerId::NONE, |holder| holder.id)
    }

    fn finish(&mut self, holder: usize, every: usize, how: Finish) {
        let seqs: Vec<Seq> = self.held_by(holder).into_iter().step_by(every).collect();
        let mut effects = Effects::default();
        let id = self.id(holder);
        match how {
            Finish::Ack => {
                self.state.settle(id, &seqs, &mut effects);
                self.messages.retain(|seq, _| !seqs.contains(seq));
            }
            Finish::Discard => {
                self.state.discard(id, &seqs, &mut effects);
                seqs.iter()
                    .for_each(|seq| self.kill(*seq, DeathReason::Rejected));
            }
            Finish::Requeue(how) => {
                self.state
                    .requeue(self.now_ms, id, &seqs, how, &mut effects);
                seqs.iter().for_each(|seq| self.requeue_model(*seq, how));
            }
        }
    }

    fn requeue_model(&mut self, seq: Seq, how: Return) {
        let message = self.messages.get_mut(&seq).unwrap();
        message.place = Place::Ready;
        if self.settings.returns_in_order {
            self.turn += 1;
            message.turn = Some(self.turn);
        }
        if !self.settings.counts_deliveries {
            return;
        }
        message.counts.acquired += 1;
        message.counts.delivered += u32::from(how == Return::Failed);
        let over = |limit| how == Return::Failed && message.counts.delivered > limit;
        if self.settings.delivery_limit.is_some_and(over) {
            message.turn = None;
            self.kill(seq, DeathReason::DeliveryLimit);
        }
    }

    /// Messages that died leave, as when they are dead-lettered: each died for the reason that the model knows.
    fn bury(&mut self, count: usize) {
        for _ in 0..count {
            let Some((seq, reason)) = self.state.dying.first() else {
                break;
            };
            let lane = self.state.lane_mut(seq);
            let record = match lane.log.lookup(seq) {
                Lookup::Cold => {
                    let end = lane.log.cold_end(seq).unwrap();
                    self.load(seq, end);
                    continue;
                }
                Lookup::Gone => panic!("{seq} died twice"),
                Lookup::Found(record, _) => record.bytes().to_vec(),
            };
            self.state.dying.pop();
            let record = RecordRef::parse(&record).unwrap();
            self.state.free_id_of_dead(record, &mut Effects::default());
            self.state.left(seq, &mut Effects::default());
            let buried = self.messages.remove(&seq).map(|message| message.place);
            assert_eq!(buried, Some(Place::Dying(reason)), "{seq}");
        }
    }

    fn evict(&mut self) {
        for lane in self.state.lanes_mut() {
            let head = lane.head();
            lane.log.evict(head, 1, usize::MAX);
        }
    }

    fn purge(&mut self) {
        let ready = self.ready();
        assert_eq!(
            self.state.purge(&mut Effects::default()),
            ready.len() as u64
        );
        self.messages.retain(|seq, _| !ready.contains(seq));
    }

    fn consume(&mut self, no_ack: bool, prefetch: u32, priority: i32) {
        if self.holders.len() == 4 {
            return;
        }
        let refuses = Arc::new(AtomicBool::new(false));
        let sink = Arc::new(Taker {
            number: self.holders.len(),
            log: self.log.clone(),
            room: AtomicUsize::new(1 << 20),
            refuses: refuses.clone(),
        });
        let id = self.state.consumers.add(ConsumerSpec {
            sink,
            no_ack,
            exclusive: false,
            priority,
            prefetch,
            timeout_ms: None,
        });
        self.state.consumers.activate(id);
        self.holders.push(Holder {
            id,
            no_ack,
            prefetch,
            is_there: true,
            refuses,
        });
    }

    /// From now on a consumer takes half of what it is offered, or all of it again.
    fn refuse(&mut self, holder: usize, refuses: bool) {
        if let Some(holder) = self.holders.get(holder) {
            holder.refuses.store(refuses, Ordering::Relaxed);
            self.state.consumers.resume(holder.id);
        }
    }

    fn cancel(&mut self, holder: usize) {
        self.state.consumers.remove(self.id(holder));
        if let Some(holder) = self.holders.get_mut(holder) {
            holder.is_there = false;
        }
    }

    fn check(&mut self) {
        self.stored.retain(|seq, _| self.messages.contains_key(seq));
        let ready = self.ready();
        assert_eq!(self.state.ready(), ready.len() as u64);
        let unacked = self.messages.values();
        let unacked = unacked.filter(|message| matches!(message.place, Place::Unacked(_)));
        assert_eq!(self.state.unacked(), unacked.count() as u64);
        let dying = self.messages.values();
        let dying = dying.filter(|message| matches!(message.place, Place::Dying(_)));
        assert_eq!(self.state.dying.is_empty(), dying.count() == 0);
        let taken = self.messages.values().filter(|taken| taken.id.is_some());
        let expected = match self.cache() {
            Some(_) => self.remembered.len(),
            None => taken.count(),
        };
        let known = self.state.duplicates.as_ref();
        assert_eq!(known.map_or(0, |known| known.len()), expected);
        let mut can_take = false;
        for (holder, consumer) in self.holders.iter().enumerate() {
            let held = self.held_by(holder).len();
            let has_window = consumer.prefetch == 0 || held < consumer.prefetch as usize;
            assert!(
                consumer.no_ack || consumer.prefetch == 0 || held <= consumer.prefetch as usize
            );
            let refuses = consumer.refuses.load(Ordering::Relaxed);
            can_take |= consumer.is_there && !refuses && (consumer.no_ack || has_window);
        }
        if can_take && !self.settings.single_active_consumer {
            assert_eq!(
                self.eligible(),
                Vec::<Seq>::new(),
                "nothing waits that could go"
            );
        }
        let expiring = |message: &&Message| message.place == Place::Ready && message.expiry_ms != 0;
        let expiring = self.messages.values().filter(expiring).count() as u64;
        let lanes = self.state.lanes_mut().iter_mut();
        let marks: u64 = lanes
            .filter_map(|lane| lane.expiry.marks())
            .map(|marks| marks.len())
            .sum();
        assert!(marks <= expiring, "what is not ready has no mark");
        if let Some(next_ms) = self.next_expiry_ms() {
            let deadline_ms = self.state.deadline_ms();
            assert!(
                deadline_ms.is_some_and(|at_ms| at_ms <= next_ms),
                "it would expire too late"
            );
        }
    }

    fn next_expiry_ms(&self) -> Option<u64> {
        let ready = self.messages.values();
        let ready = ready.filter(|message| message.place == Place::Ready);
        ready
            .map(|message| message.expiry_ms)
            .filter(|ms| *ms != 0)
            .min()
    }
}

/// What the headers of a message say.
#[derive(Debug, Clone, Copy)]
struct Labels {
    group: Option<u8>,
    id: Option<u8>,
}

/// Encoded properties: none, or headers.
fn properties(labels: Labels) -> Vec<u8> {
    let mut table = Vec::new();
    let headers = [
        (&b"group"[..], labels.group),
        (b"x-deduplication-header", labels.id),
    ];
    for (name, value) in headers {
        if let Some(value) = value {
            field::put_name(&mut table, name);
            field::put_long(&mut table, value.into());
        }
    }
    if table.is_empty() {
        return vec![0, 0];
    }
    let mut properties = vec![0x20, 0];
    properties.extend((table.len() as u32).to_be_bytes());
    properties.extend(table);
    properties
}

#[derive(Debug, Clone, Copy)]
enum Finish {
    Ack,
    Discard,
    Requeue(Return),
}

#[derive(Debug, Clone)]
enum Step {
    Append {
        count: u8,
        size: usize,
        priority: u8,
        ttl_ms: Option<u64>,
        labels: Labels,
    },
    Consume {
        no_ack: bool,
        prefetch: u32,
        priority: i32,
    },
    Cancel(usize),
    Refuse(usize, bool),
    Get(bool),
    Finish {
        holder: usize,
        every: usize,
        how: Finish,
    },
    Tick(u64),
    Bury(usize),
    Evict,
    Purge,
}

fn step() -> impl Strategy<Value = Step> {
    let ttl = prop_oneof![3 => Just(None), 3 => (0u64..300).prop_map(Some)];
    let group = prop_oneof![1 => Just(None), 4 => (0u8..4).prop_map(Some)];
    let id = prop_oneof![2 => Just(None), 3 => (0u8..12).prop_map(Some)];
    let labels = (group, id).prop_map(|(group, id)| Labels { group, id });
    let how = prop_oneof![
        Just(Finish::Ack),
        Just(Finish::Discard),
        Just(Finish::Requeue(Return::Released)),
        Just(Finish::Requeue(Return::Failed)),
    ];
    prop_oneof![
        6 => (1u8..20, prop_oneof![Just(10usize), Just(3_000)], 0u8..6, ttl, labels).prop_map(
            |(count, size, priority, ttl_ms, labels)| Step::Append { count, size, priority, ttl_ms, labels }
        ),
        2 => (any::<bool>(), 0u32..8, -1i32..2)
            .prop_map(|(no_ack, prefetch, priority)| Step::Consume { no_ack, prefetch, priority }),
        1 => (0usize..4).prop_map(Step::Cancel),
        1 => (0usize..4, any::<bool>()).prop_map(|(holder, refuses)| Step::Refuse(holder, refuses)),
        2 => any::<bool>().prop_map(Step::Get),
        5 => (0usize..5, 1usize..4, how)
            .prop_map(|(holder, every, how)| Step::Finish { holder, every, how }),
        3 => (1u64..200).prop_map(Step::Tick),
        2 => (1usize..40).prop_map(Step::Bury),
        2 => Just(Step::Evict),
        1 => Just(Step::Purge),
    ]
}

fn settings() -> impl Strategy<Value = Settings> {
    let overflow = prop_oneof![
        2 => Just(Overflow::DropHead),
        1 => Just(Overflow::RejectPublish),
        1 => Just(Overflow::RejectPublishDeadLetter),
    ];
    let switches = (
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
    );
    let limits = (
        prop::option::of(0u64..400),
        prop::option::weighted(0.4, 0u64..60),
        prop::option::weighted(0.2, 0u64..20_000),
        prop::option::of(0u32..3),
        overflow,
    );
    let deduplication = prop_oneof![2 => Just(None), 1 => Just(Some(false)), 1 => Just(Some(true))];
    (switches, limits, deduplication).prop_map(|(switches, limits, is_cache)| {
        let (has_dead_letter, has_priorities, is_single, in_order, has_groups) = switches;
        let (message_ttl_ms, max_length, max_length_bytes, delivery_limit, overflow) = limits;
        Settings {
            message_ttl_ms,
            max_length,
            max_length_bytes,
            overflow,
            delivery_limit,
            dead_letter: has_dead_letter.then(|| DeadLetter {
                exchange: "".into(),
                routing_key: None,
            }),
            max_priority: if has_priorities { 3 } else { 0 },
            single_active_consumer: is_single,
            returns_in_order: in_order,
            counts_deliveries: delivery_limit.is_some(),
            message_group: has_groups.then(|| "group".into()),
            deduplication: is_cache.and_then(rules),
            ..Settings::default()
        }
    })
}

const CACHE_SIZE: usize = 7;
const CACHE_TTL_MS: u64 = 400;

fn rules(is_cache: bool) -> Option<QueueSettings> {
    let mut arguments = FieldTable::default();
    arguments.insert("x-message-deduplication".into(), AMQPValue::Boolean(true));
    if is_cache {
        let size = AMQPValue::LongInt(CACHE_SIZE as i32);
        arguments.insert("x-cache-size".into(), size);
        let ttl_ms = AMQPValue::LongInt(CACHE_TTL_MS as i32);
        arguments.insert("x-cache-ttl".into(), ttl_ms);
    }
    QueueSettings::from_arguments(&arguments)
}

fn run(world: &mut World, step: Step) {
    match step {
        Step::Append {
            count,
            size,
            priority,
            ttl_ms,
            labels: Labels { group, id },
        } => {
            // Without the setting the header means nothing.
            let group = group.filter(|_| world.settings.message_group.is_some());
            for number in 0..count {
                let id = id.map(|id| (id + number) % 12);
                world.append(size, priority, ttl_ms, Labels { group, id });
            }
        }
        Step::Consume {
            no_ack,
            prefetch,
            priority,
        } => world.consume(no_ack, prefetch, priority),
        Step::Cancel(holder) => world.cancel(holder),
        Step::Refuse(holder, refuses) => world.refuse(holder, refuses),
        Step::Get(no_ack) => world.get(no_ack),
        Step::Finish { holder, every, how } => {
            world.finish(if holder == 4 { GETTER } else { holder }, every, how);
        }
        Step::Tick(ms) => {
            world.now_ms += ms;
        }
        Step::Bury(count) => world.bury(count),
        Step::Evict => world.evict(),
        Step::Purge => world.purge(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn a_queue_with_every_feature_behaves_as_a_list_of_messages(
        settings in settings(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut world = World::new(settings);
        for step in steps {
            run(&mut world, step);
            world.settle_down();
            world.check();
        }
        // In the end everything leaves.
        for holder in 0..world.holders.len() {
            world.cancel(holder);
        }
        for holder in [0, 1, 2, 3, GETTER] {
            world.finish(holder, 1, Finish::Requeue(Return::Released));
        }
        world.settle_down();
        while !world.ready().is_empty() {
            world.get(true);
        }
        world.get(true);
        world.bury(usize::MAX);
        world.check();
        world.settle_down();
        prop_assert!(world.messages.is_empty());
        prop_assert!(world.marks.is_empty(), "marks are left in the store");
        prop_assert_eq!(world.state.ready_bytes(), 0);
    }
}
