//! A queue beside its model, with consumers, and a store that writes and reads at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::model::{Message, Place};
use super::steps::{Finish, Labels, properties};
use crate::broker::arguments::Overflow;
use crate::broker::delivery::{Cancellation, ConsumerId, Delivery, DeliverySink};
use crate::broker::due::DueKey;
use crate::broker::queue::consumers::ConsumerSpec;
use crate::broker::queue::dying::DeathReason;
use crate::broker::queue::lane::lane_of;
use crate::broker::queue::log::{Keep, Lookup};
use crate::broker::queue::marks::MARKS_MAX;
use crate::broker::queue::settings::Settings;
use crate::broker::queue::state::{Effects, Got, State};
use crate::message::op::Counts;
use crate::message::record::{self, Body, NewMessage, RecordRef};
use crate::message::run::Run;
use crate::message::{Epoch, Seq};

/// What a delivery said.
pub(super) type Seen = (Seq, bool, Counts);

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

pub(super) const GETTER: usize = 99;

pub(super) struct Holder {
    pub(super) id: ConsumerId,
    pub(super) no_ack: bool,
    pub(super) prefetch: u32,
    pub(super) is_there: bool,
    pub(super) refuses: Arc<AtomicBool>,
}

pub(super) struct World {
    pub(super) settings: Settings,
    pub(super) state: State,
    pub(super) messages: BTreeMap<Seq, Message>,
    pub(super) holders: Vec<Holder>,
    /// The ids that a cache remembers, the oldest first, with their times; `None` in the place of one that came again.
    pub(super) remembered: Vec<(Option<u8>, u64)>,
    pub(super) log: Arc<Mutex<Vec<(usize, Seen)>>>,
    /// What the store would give back.
    pub(super) stored: BTreeMap<Seq, Vec<u8>>,
    /// Marks in the store, and the epoch that wrote the last of them.
    pub(super) marks: BTreeMap<DueKey, u64>,
    pub(super) epoch: Epoch,
    pub(super) now_ms: u64,
    pub(super) turn: u64,
}

impl World {
    pub(super) fn new(settings: Settings) -> Self {
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

    pub(super) fn append(
        &mut self,
        size: usize,
        priority: u8,
        ttl_ms: Option<u64>,
        labels: Labels,
    ) {
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
    pub(super) fn settle_down(&mut self) {
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

    pub(super) fn until_quiet(&mut self, mut work: impl FnMut(&mut Self, &mut Effects)) {
        for _ in 0..10_000 {
            let mut effects = Effects::default();
            work(self, &mut effects);
            self.book();
            let has_read = self.keep_marks();
            if let Some(from) = effects.load {
                self.load(from);
            } else if !effects.more && !has_read {
                return;
            }
        }
        panic!("the work does not come to an end");
    }

    /// The store writes and reads marks at once. True: it was asked for some.
    pub(super) fn keep_marks(&mut self) -> bool {
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
    pub(super) fn load(&mut self, from: Seq) {
        let upto = self.state.lane_mut(from).log.cold_end(from).unwrap();
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
    pub(super) fn book(&mut self) {
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

    pub(super) fn get(&mut self, no_ack: bool) {
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
                    self.load(effects.load.unwrap());
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

    pub(super) fn id(&self, holder: usize) -> ConsumerId {
        self.holders
            .get(holder)
            .map_or(ConsumerId::NONE, |holder| holder.id)
    }

    pub(super) fn finish(&mut self, holder: usize, every: usize, how: Finish) {
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

    /// Messages that died leave, as when they are dead-lettered: each died for the reason that the model knows.
    pub(super) fn bury(&mut self, count: usize) {
        for _ in 0..count {
            let Some((seq, reason)) = self.state.dying.first() else {
                break;
            };
            let lane = self.state.lane_mut(seq);
            let record = match lane.log.lookup(seq) {
                Lookup::Cold => {
                    self.load(seq);
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

    pub(super) fn evict(&mut self) {
        for lane in self.state.lanes_mut() {
            let head = lane.head();
            lane.log.evict(
                Keep {
                    next: head,
                    leaves: None,
                },
                1,
                usize::MAX,
            );
        }
    }

    pub(super) fn purge(&mut self) {
        let ready = self.ready();
        assert_eq!(
            self.state.purge(&mut Effects::default()),
            ready.len() as u64
        );
        self.messages.retain(|seq, _| !ready.contains(seq));
    }

    pub(super) fn consume(&mut self, no_ack: bool, prefetch: u32, priority: i32) {
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
    pub(super) fn refuse(&mut self, holder: usize, refuses: bool) {
        if let Some(holder) = self.holders.get(holder) {
            holder.refuses.store(refuses, Ordering::Relaxed);
            self.state.consumers.resume(holder.id);
        }
    }

    pub(super) fn cancel(&mut self, holder: usize) {
        self.state.consumers.remove(self.id(holder));
        if let Some(holder) = self.holders.get_mut(holder) {
            holder.is_there = false;
        }
    }

    pub(super) fn check(&mut self) {
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
}
