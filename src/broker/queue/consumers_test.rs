//! Whose turn it is, against a list that is searched as a whole each time.

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::consumers::{ConsumerSpec, Consumers};
use crate::broker::delivery::{Cancellation, ConsumerId, Delivery, DeliverySink};

/// An outbox that has room or has none.
struct Outbox(Arc<AtomicBool>);

impl DeliverySink for Outbox {
    fn room_bytes(&self) -> usize {
        if self.0.load(Ordering::Relaxed) {
            1 << 20
        } else {
            0
        }
    }

    fn deliver(&self, deliveries: &[Delivery<'_>]) -> usize {
        deliveries.len()
    }

    fn wake(&self) {}

    fn stall(&self) -> bool {
        true
    }

    fn cancelled(&self, _why: Cancellation) {}
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Turning,
    Full,
    Stalled,
}

struct Listed {
    id: ConsumerId,
    priority: i32,
    prefetch: u32,
    no_ack: bool,
    in_flight: u32,
    has_room: Arc<AtomicBool>,
    state: State,
    /// When it was chosen last, or joined.
    turn: u64,
}

impl Listed {
    const fn has_window(&self) -> bool {
        self.prefetch == 0 || self.in_flight < self.prefetch
    }
}

#[derive(Default)]
struct World {
    consumers: Consumers,
    list: Vec<Listed>,
    by_load: bool,
    turn: u64,
}

#[derive(Debug, Clone)]
enum Step {
    Add {
        priority: i32,
        prefetch: u32,
        no_ack: bool,
    },
    Choose(usize),
    /// A consumer settles so many of what it holds.
    Settle(usize, u32),
    /// Its outbox is full from now on, or has room again.
    Room(usize, bool),
    Cancel(usize),
    Switch(bool),
}

impl World {
    fn next_turn(&mut self) -> u64 {
        self.turn += 1;
        self.turn
    }

    /// Who stands first, as far as the list knows.
    fn order(&self) -> Vec<usize> {
        let turning = |at: &usize| self.list[*at].state == State::Turning;
        let mut order: Vec<_> = (0..self.list.len()).filter(turning).collect();
        order.sort_by_key(|at| {
            let listed = &self.list[*at];
            let load = if self.by_load { listed.in_flight } else { 0 };
            (Reverse(listed.priority), load, listed.turn)
        });
        order
    }

    fn expect_choice(&mut self) -> Option<ConsumerId> {
        for at in self.order() {
            let turn = self.next_turn();
            let listed = &mut self.list[at];
            if !listed.has_window() {
                listed.state = State::Full;
            } else if !listed.has_room.load(Ordering::Relaxed) {
                listed.state = State::Stalled;
            } else {
                listed.turn = turn;
                listed.in_flight += u32::from(!listed.no_ack);
                return Some(listed.id);
            }
        }
        None
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Add {
                priority,
                prefetch,
                no_ack,
            } => self.add(priority, prefetch, no_ack),
            Step::Choose(count) => {
                for _ in 0..count {
                    self.consumers.begin_round();
                    let chosen = self.consumers.choose(10);
                    let expected = self.expect_choice();
                    assert_eq!(chosen, expected.map(|id| id.slot));
                }
            }
            Step::Settle(at, count) => {
                let turn = self.next_turn();
                if let Some(listed) = self.list.get_mut(at) {
                    let seqs: Vec<_> = (0..u64::from(count.min(listed.in_flight))).collect();
                    listed.in_flight -= seqs.len() as u32;
                    if listed.state == State::Full && listed.has_window() {
                        (listed.state, listed.turn) = (State::Turning, turn);
                    }
                    self.consumers.released(listed.id, &seqs);
                }
            }
            Step::Room(at, has_room) => {
                let turn = self.next_turn();
                if let Some(listed) = self.list.get_mut(at) {
                    listed.has_room.store(has_room, Ordering::Relaxed);
                    if has_room && listed.state == State::Stalled {
                        (listed.state, listed.turn) = (State::Turning, turn);
                    }
                    if has_room {
                        self.consumers.resume(listed.id);
                    }
                }
            }
            Step::Cancel(at) => {
                if at < self.list.len() {
                    assert!(self.consumers.remove(self.list.remove(at).id));
                }
            }
            Step::Switch(by_load) => self.switch(by_load),
        }
    }

    fn add(&mut self, priority: i32, prefetch: u32, no_ack: bool) {
        let has_room = Arc::new(AtomicBool::new(true));
        let id = self.consumers.add(ConsumerSpec {
            sink: Arc::new(Outbox(has_room.clone())),
            no_ack,
            exclusive: false,
            priority,
            prefetch,
            timeout_ms: None,
        });
        self.consumers.activate(id);
        let turn = self.next_turn();
        self.list.push(Listed {
            id,
            priority,
            prefetch,
            no_ack,
            in_flight: 0,
            has_room,
            state: State::Turning,
            turn,
        });
    }

    /// They keep the order in which they stand.
    fn switch(&mut self, by_load: bool) {
        if by_load != self.by_load {
            for at in self.order() {
                self.list[at].turn = self.next_turn();
            }
        }
        self.by_load = by_load;
        self.consumers.set_least_loaded(by_load);
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (-1i32..2, 0u32..5, prop::bool::weighted(0.2))
            .prop_map(|(priority, prefetch, no_ack)| Step::Add { priority, prefetch, no_ack }),
        6 => (1usize..8).prop_map(Step::Choose),
        5 => (0usize..6, 1u32..5).prop_map(|(at, count)| Step::Settle(at, count)),
        2 => (0usize..6, any::<bool>()).prop_map(|(at, has_room)| Step::Room(at, has_room)),
        1 => (0usize..6).prop_map(Step::Cancel),
        1 => any::<bool>().prop_map(Step::Switch),
    ]
}

proptest! {
    #[test]
    fn the_choice_is_that_of_a_search_through_all(
        by_load: bool,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut world = World::default();
        world.switch(by_load);
        for step in steps {
            world.run(step);
            prop_assert_eq!(world.consumers.any_turning(), !world.order().is_empty());
        }
    }
}

#[test]
fn who_is_slow_gets_what_the_others_leave() {
    let mut world = World::default();
    world.switch(true);
    world.add(0, 10, false);
    world.add(0, 10, false);
    let slots = [world.list[0].id.slot, world.list[1].id.slot];
    let mut got = [0, 0];
    for _ in 0..100 {
        world.consumers.begin_round();
        let slot = world.consumers.choose(10).unwrap();
        got[usize::from(slot == slots[1])] += 1;
        // The second one settles at once, the first one never.
        if slot == slots[1] {
            world.consumers.released(world.list[1].id, &[1]);
        }
    }
    assert_eq!(got, [1, 99]);
}
