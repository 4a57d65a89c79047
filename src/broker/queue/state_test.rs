//! The queue against a simple model: a list of messages, each ready, unacknowledged or gone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use proptest::prelude::*;

use super::consumers::ConsumerSpec;
use super::log::{Keep, Lookup};
use super::settings::Settings;
use super::state::{Effects, Got, RecoveredLanes, Return, State};
use crate::broker::delivery::{Cancellation, ConsumerId, Delivery, DeliverySink};
use crate::message::Seq;
use crate::message::record::{self, Body, NewMessage};
use crate::message::run::Run;
use crate::store::RecoveredQueue;

/// A consumer that takes what the test lets it take.
struct Taker {
    taken: Mutex<Vec<(Seq, bool, Vec<u8>)>>,
    room: AtomicUsize,
    refuses: AtomicBool,
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
        let mut taken = self.taken.lock();
        for delivery in &deliveries[..count] {
            taken.push((
                delivery.seq,
                delivery.redelivered,
                delivery.body_bytes().to_vec(),
            ));
        }
        count
    }
    fn stall(&self) -> bool {
        self.room.load(Ordering::Relaxed) == 0
    }
    fn wake(&self) {}
    fn cancelled(&self, _: Cancellation) {}
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Ready { delivered: bool },
    Unacked(usize),
}

/// What the queue should hold.
#[derive(Default)]
struct Model {
    messages: BTreeMap<Seq, Place>,
}

impl Model {
    fn ready(&self) -> impl Iterator<Item = (Seq, bool)> {
        self.messages.iter().filter_map(|(seq, place)| match place {
            Place::Ready { delivered } => Some((*seq, *delivered)),
            Place::Unacked(_) => None,
        })
    }

    fn unacked_of(&self, holder: usize) -> Vec<Seq> {
        let held = self
            .messages
            .iter()
            .filter(|(_, place)| **place == Place::Unacked(holder));
        held.map(|(seq, _)| *seq).collect()
    }
}

const GETTER: usize = 99;

struct World {
    state: State,
    model: Model,
    consumers: Vec<(ConsumerId, Arc<Taker>, bool, u32)>,
    /// What the store would give back: records by seq.
    stored: BTreeMap<Seq, Vec<u8>>,
}

impl World {
    fn new() -> Self {
        Self {
            state: State::new(Arc::new(Settings::default())),
            model: Model::default(),
            consumers: Vec::new(),
            stored: BTreeMap::new(),
        }
    }

    /// Adds messages in a row. Each has the record that it would have alone.
    fn append(&mut self, count: u64, size: usize) {
        let first = self.state.lanes()[0].log.next_seq();
        let last = first + count - 1;
        let bodies: Vec<Vec<u8>> = (first..=last)
            .map(|seq| vec![seq as u8; size + (seq % 3) as usize])
            .collect();
        let message = |body| NewMessage {
            exchange: b"",
            routing_key: b"q",
            properties: &[0, 0],
            annotations: &[],
            body: Body::Inline(body),
            persistent: true,
            priority: 0,
            expiry_ms: 0,
        };
        let repeated: Vec<&[u8]> = bodies[1..].iter().map(Vec::as_slice).collect();
        let run = Run {
            first: &message(&bodies[0]),
            repeated: &repeated,
        };
        assert_eq!(self.state.append_run(0, run, 1), (first, last));
        for (seq, body) in (first..=last).zip(&bodies) {
            let mut encoded = Vec::new();
            record::encode(&mut encoded, seq, 0, &message(body));
            match self.state.lanes()[0].log.lookup(seq) {
                Lookup::Found(record, None) => assert_eq!(record.bytes(), encoded),
                other => panic!("{seq}: {other:?}"),
            }
            self.stored.insert(seq, encoded);
            self.model
                .messages
                .insert(seq, Place::Ready { delivered: false });
        }
    }

    /// Dispatches until nothing moves, serving loads from the store, and books what consumers got.
    fn settle_down(&mut self) {
        for _ in 0..10_000 {
            let mut effects = Effects::default();
            self.state.dispatch(1, &mut effects);
            let moved = self.book();
            if let Some(from) = effects.load {
                self.load(from);
            } else if !effects.more && !moved {
                return;
            }
        }
        panic!("dispatch does not come to an end");
    }

    /// The store answers with a piece of what was asked for.
    fn load(&mut self, from: Seq) {
        let upto = self.state.lane_mut(from).log.cold_end(from).unwrap();
        let covered = upto.min(from + 6);
        let records: Vec<u8> = self
            .stored
            .range(from..=covered)
            .flat_map(|(_, record)| record.clone())
            .collect();
        assert!(
            self.state.lanes_mut()[0]
                .log
                .install(from, covered, records, Vec::new())
        );
    }

    /// Each delivery must be the first ready message at its time, with the right flag and body.
    fn book(&mut self) -> bool {
        let mut moved = false;
        for holder in 0..self.consumers.len() {
            let (_, taker, no_ack, _) = &self.consumers[holder];
            let (no_ack, taken) = (*no_ack, std::mem::take(&mut *taker.taken.lock()));
            let mut previous = None;
            for (seq, redelivered, body) in taken {
                moved = true;
                assert!(previous < Some(seq), "a consumer gets messages in order");
                previous = Some(seq);
                let place = self.model.messages.get(&seq).copied();
                assert_eq!(
                    place,
                    Some(Place::Ready {
                        delivered: redelivered
                    }),
                    "seq {seq}"
                );
                assert!(body.iter().all(|byte| *byte == seq as u8));
                if no_ack {
                    self.model.messages.remove(&seq);
                } else {
                    self.model.messages.insert(seq, Place::Unacked(holder));
                }
            }
        }
        moved
    }

    fn get(&mut self, no_ack: bool) {
        let expected = self.model.ready().next();
        loop {
            let mut effects = Effects::default();
            let got = self.state.get(1, no_ack, &mut effects, |delivery, left| {
                (delivery.seq, delivery.redelivered, left)
            });
            match got {
                Got::Cold => {
                    self.load(effects.load.unwrap());
                }
                Got::Empty => return assert_eq!(expected, None),
                Got::Message((seq, redelivered, left)) => {
                    assert_eq!(Some((seq, redelivered)), expected);
                    assert_eq!(left, self.model.ready().count() as u64 - 1);
                    if no_ack {
                        self.model.messages.remove(&seq);
                    } else {
                        self.model.messages.insert(seq, Place::Unacked(GETTER));
                    }
                    return;
                }
            }
        }
    }

    fn id(&self, holder: usize) -> ConsumerId {
        self.consumers
            .get(holder)
            .map_or(ConsumerId::NONE, |(id, ..)| *id)
    }

    fn finish(&mut self, holder: usize, every: usize, requeue: bool) {
        let seqs: Vec<Seq> = self
            .model
            .unacked_of(holder)
            .into_iter()
            .step_by(every)
            .collect();
        for seq in &seqs {
            if requeue {
                self.model
                    .messages
                    .insert(*seq, Place::Ready { delivered: true });
            } else {
                self.model.messages.remove(seq);
                self.stored.remove(seq);
            }
        }
        if requeue {
            let mut effects = Effects::default();
            self.state
                .requeue(1, self.id(holder), &seqs, Return::Released, &mut effects);
        } else {
            self.state
                .settle(self.id(holder), &seqs, &mut Effects::default());
        }
    }

    fn check(&self) {
        assert_eq!(self.state.ready(), self.model.ready().count() as u64);
        assert_eq!(
            self.state.unacked(),
            self.model.messages.len() as u64 - self.state.ready()
        );
        for (holder, (_, _, no_ack, prefetch)) in self.consumers.iter().enumerate() {
            let held = self.model.unacked_of(holder).len();
            assert!(
                *no_ack || *prefetch == 0 || held <= *prefetch as usize,
                "prefetch is kept"
            );
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Append(u8, usize),
    Consume {
        no_ack: bool,
        prefetch: u32,
        priority: i32,
    },
    Cancel(usize),
    Get(bool),
    Finish {
        holder: usize,
        every: usize,
        requeue: bool,
    },
    Room {
        holder: usize,
        room: usize,
        refuses: bool,
    },
    Evict,
    Purge,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (1u8..40, prop_oneof![Just(10usize), Just(3_000)]).prop_map(|(count, size)| Step::Append(count, size)),
        2 => (any::<bool>(), 0u32..8, -1i32..2)
            .prop_map(|(no_ack, prefetch, priority)| Step::Consume { no_ack, prefetch, priority }),
        1 => (0usize..4).prop_map(Step::Cancel),
        2 => any::<bool>().prop_map(Step::Get),
        5 => (0usize..5, 1usize..4, any::<bool>())
            .prop_map(|(holder, every, requeue)| Step::Finish { holder, every, requeue }),
        2 => (0usize..4, prop_oneof![Just(0usize), Just(100), Just(1 << 20)], any::<bool>())
            .prop_map(|(holder, room, refuses)| Step::Room { holder, room, refuses }),
        3 => Just(Step::Evict),
        1 => Just(Step::Purge),
    ]
}

fn run(world: &mut World, step: Step) {
    match step {
        Step::Append(count, size) => world.append(count as u64, size),
        Step::Consume {
            no_ack,
            prefetch,
            priority,
        } if world.consumers.len() < 4 => {
            let taker = Arc::new(Taker {
                taken: Mutex::default(),
                room: AtomicUsize::new(1 << 20),
                refuses: AtomicBool::new(false),
            });
            let spec = ConsumerSpec {
                sink: taker.clone(),
                no_ack,
                exclusive: false,
                priority,
                prefetch,
                timeout_ms: None,
            };
            let id = world.state.consumers.add(spec);
            world.state.consumers.activate(id);
            world.consumers.push((id, taker, no_ack, prefetch));
        }
        Step::Consume { .. } => {}
        Step::Cancel(holder) => {
            // Its deliveries stay with the channel, which may settle them later.
            world.state.consumers.remove(world.id(holder));
        }
        Step::Get(no_ack) => world.get(no_ack),
        Step::Finish {
            holder,
            every,
            requeue,
        } => {
            world.finish(if holder == 4 { GETTER } else { holder }, every, requeue);
        }
        Step::Room {
            holder,
            room,
            refuses,
        } => {
            if let Some((id, taker, ..)) = world.consumers.get(holder) {
                taker.room.store(room, Ordering::Relaxed);
                taker.refuses.store(refuses, Ordering::Relaxed);
                if room > 0 {
                    world.state.consumers.resume(*id);
                }
            }
        }
        Step::Evict => {
            let lane = &mut world.state.lanes_mut()[0];
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
        Step::Purge => {
            let ready: Vec<Seq> = world.model.ready().map(|(seq, _)| seq).collect();
            assert_eq!(
                world.state.purge(&mut Effects::default()),
                ready.len() as u64
            );
            for seq in ready {
                world.model.messages.remove(&seq);
                world.stored.remove(&seq);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_queue_behaves_as_a_list_of_messages(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        for step in steps {
            run(&mut world, step);
            world.settle_down();
            world.check();
        }
        // In the end everything can be taken out, in order.
        for holder in [0, 1, 2, 3, GETTER] {
            world.finish(holder, 1, true);
        }
        for (_, taker, ..) in &world.consumers {
            taker.room.store(1 << 20, Ordering::Relaxed);
            taker.refuses.store(false, Ordering::Relaxed);
        }
        for holder in 0..world.consumers.len() {
            world.state.consumers.remove(world.id(holder));
        }
        while world.model.ready().next().is_some() {
            world.get(true);
        }
        world.get(true);
        world.check();
    }

    #[test]
    fn a_queue_starts_where_the_store_remembers_it(count in 1u64..60, delivered in 0u64..60) {
        let mut before = World::new();
        before.append(count, 10);
        let mut world = World::new();
        let found = RecoveredQueue {
            first_live: 1,
            next_seq: count + 1,
            end: 0,
            delivered_upto: delivered,
            live_count: count,
            live_bytes: 10 * count,
            ..RecoveredQueue::default()
        };
        world.state = State::recovered(Arc::new(Settings::default()), RecoveredLanes { lanes: vec![(0, found)], ..RecoveredLanes::default() });
        world.stored = before.stored;
        for seq in 1..=count {
            world.model.messages.insert(seq, Place::Ready { delivered: delivered > 0 });
        }
        world.check();
        for _ in 0..=count {
            world.get(true);
        }
        prop_assert_eq!(world.state.ready(), 0);
    }
}
