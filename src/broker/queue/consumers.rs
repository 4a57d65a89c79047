//! The consumers of a queue and whose turn it is.
//!
//! A consumer that can take a message stands in the rotation of its priority level; one that cannot (window full,
//! outbox full) is taken out when its turn comes and put back by the event that lets it go on, so that choosing costs
//! the same however many consumers wait.
//!
//! ```text
//! Idle --activate--> Turning --prefetch reached--> Full     --settle--> Turning
//!                    Turning --no room----------> Stalled  --resume--> Turning
//! ```
//!
//! Instead of the rotations there can be one order by what each holds ([`Loads`]): then no level has anybody in it.
//!
//! With a single active consumer only that one ever turns; the others are `Waiting` until it is their turn to be it.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::held::Held;
use super::loads::Loads;
use crate::broker::delivery::{ConsumerId, DeliverySink};
use crate::message::Seq;

/// What a consumer asks for.
pub struct ConsumerSpec {
    /// Where its deliveries go.
    pub sink: Arc<dyn DeliverySink>,
    /// Deliveries count as settled at once; they neither count to the prefetch nor can be acknowledged.
    pub no_ack: bool,
    /// Nobody else may consume from the queue.
    pub exclusive: bool,
    /// `x-priority`: higher levels are served first while they can take messages.
    pub priority: i32,
    /// Unacknowledged deliveries that it may hold, 0 for no limit.
    pub prefetch: u32,
    /// `x-consumer-timeout` of the consumer in ms, which takes the place of the queue's.
    pub timeout_ms: Option<u64>,
}

/// No slot.
const NOBODY: u32 = u32::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Registered, consume-ok not sent yet.
    Idle,
    /// In the rotation.
    Turning,
    /// Holds as many unacknowledged deliveries as it may.
    Full,
    /// Its outbox or its channel's window is full.
    Stalled,
    /// Another one is the single active consumer.
    Waiting,
    /// It held a message for too long, and goes when its channel has given back what it holds.
    Late,
}

/// Who is the single active consumer of a queue that has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Single {
    /// All consumers take turns.
    #[default]
    Off,
    /// Nobody consumes.
    Vacant,
    /// The consumer in this slot.
    Active(u32),
    /// The first one may finish what it holds, then the second one takes over.
    Handover(u32, u32),
}

pub(super) struct Consumer {
    pub(super) sink: Arc<dyn DeliverySink>,
    pub(super) no_ack: bool,
    exclusive: bool,
    priority: i32,
    prefetch: u32,
    held: Option<Box<Held>>,
    in_flight: u32,
    state: State,
    generation: u32,
    /// Room in the outbox as of `round`, less what was assigned since.
    room_bytes: usize,
    round: u64,
}

struct Level {
    priority: i32,
    rotation: VecDeque<u32>,
}

/// All consumers of one queue.
#[derive(Default)]
pub(super) struct Consumers {
    slots: Vec<Option<Consumer>>,
    /// All slots below are taken.
    taken_below: u32,
    /// Levels by falling priority; none while `loads` takes their place.
    levels: Vec<Level>,
    /// Who holds the fewest messages is next.
    loads: Option<Box<Loads>>,
    count: u32,
    /// Those that have a timeout: mostly none, and asking is part of every visit.
    timed: u32,
    generation: u32,
    round: u64,
    single: Single,
    /// There is a single active consumer, or who holds the fewest messages is next.
    is_special: bool,
    /// A newcomer of higher priority takes over from the single active consumer, as in quorum queues.
    preempts: bool,
}

impl Consumers {
    /// `single_active`: one consumer at a time; `preempts`: a newcomer of higher priority is it (semantics row 84).
    pub(super) fn new(single_active: bool, preempts: bool) -> Self {
        Self {
            single: if single_active {
                Single::Vacant
            } else {
                Single::Off
            },
            preempts,
            is_special: single_active,
            ..Self::default()
        }
    }

    /// There is at most one active consumer.
    pub(super) fn is_single_active(&self) -> bool {
        self.single != Single::Off
    }

    /// From now on there is one active consumer, or there are many again. What the others hold when one becomes it
    /// stays with them.
    pub(super) fn set_single_active(&mut self, single_active: bool) {
        if single_active == self.is_single_active() {
            return;
        }
        if single_active {
            let first = self.first_in_line(NOBODY);
            self.single = first.map_or(Single::Vacant, Single::Active);
            for (slot, consumer) in self.slots.iter_mut().enumerate() {
                if let Some(consumer) = consumer
                    && consumer.state == State::Turning
                    && Some(slot as u32) != first
                {
                    consumer.state = State::Waiting;
                }
            }
            for level in &mut self.levels {
                level.rotation.retain(|slot| Some(*slot) == first);
            }
            if let Some(loads) = &mut self.loads {
                let others: Vec<_> = loads.slots().filter(|slot| Some(*slot) != first).collect();
                others.into_iter().for_each(|slot| loads.remove(slot));
            }
        } else {
            self.single = Single::Off;
            for slot in 0..self.slots.len() as u32 {
                self.begin(slot);
            }
        }
        self.is_special = single_active || self.loads.is_some();
    }

    /// From now on who holds the fewest messages is next, or consumers take turns again.
    pub(super) fn set_least_loaded(&mut self, least_loaded: bool) {
        if least_loaded == self.loads.is_some() {
            return;
        }
        let rotations = self.levels.drain(..).flat_map(|level| level.rotation);
        let mut turning: Vec<_> = rotations.collect();
        turning.extend(self.loads.iter().flat_map(|loads| loads.slots()));
        self.loads = least_loaded.then(Box::default);
        self.is_special = least_loaded || self.is_single_active();
        for slot in turning {
            if let Some(consumer) = self.at(slot) {
                self.join(slot, consumer.priority, consumer.in_flight);
            }
        }
    }

    pub(super) const fn count(&self) -> u32 {
        self.count
    }

    /// Whether any consumer could take a message, as far as the queue knows.
    pub(super) fn any_turning(&self) -> bool {
        self.levels.iter().any(|level| !level.rotation.is_empty())
            || self.loads.as_ref().is_some_and(|loads| !loads.is_empty())
    }

    /// One consumer asked for exclusive access.
    pub(super) fn has_exclusive(&self) -> bool {
        // It is alone.
        self.count == 1
            && self
                .slots
                .iter()
                .flatten()
                .any(|consumer| consumer.exclusive)
    }

    pub(super) fn add(&mut self, spec: ConsumerSpec) -> ConsumerId {
        self.generation = self.generation.wrapping_add(1);
        let consumer = Consumer {
            sink: spec.sink,
            no_ack: spec.no_ack,
            exclusive: spec.exclusive,
            priority: spec.priority,
            prefetch: spec.prefetch,
            held: spec
                .timeout_ms
                .filter(|timeout_ms| *timeout_ms > 0)
                .map(|timeout_ms| Box::new(Held::new(timeout_ms))),
            in_flight: 0,
            state: State::Idle,
            generation: self.generation,
            room_bytes: 0,
            round: 0,
        };
        let from = self.taken_below as usize;
        let slot = match self.slots[from..].iter().position(Option::is_none) {
            Some(after) => from + after,
            None => {
                self.slots.push(None);
                self.slots.len() - 1
            }
        };
        self.taken_below = slot as u32 + 1;
        self.timed += u32::from(consumer.held.is_some());
        self.slots[slot] = Some(consumer);
        self.count += 1;
        self.arrived(slot as u32);
        ConsumerId {
            slot: slot as u32,
            generation: self.generation,
        }
    }

    /// A newcomer may become the single active consumer.
    fn arrived(&mut self, slot: u32) {
        match self.single {
            Single::Off | Single::Handover(..) => {}
            Single::Vacant => self.single = Single::Active(slot),
            Single::Active(active) => {
                let higher = match (self.at(active), self.at(slot)) {
                    (Some(active), Some(newcomer)) => newcomer.priority > active.priority,
                    _ => false,
                };
                if self.preempts && higher {
                    self.leave_rotation(active);
                    if let Some(consumer) = self.slots[active as usize].as_mut()
                        && !matches!(consumer.state, State::Idle | State::Late)
                    {
                        consumer.state = State::Waiting;
                    }
                    self.single = Single::Handover(active, slot);
                    self.hand_over_if_done();
                }
            }
        }
    }

    /// The single active consumer that is to go has finished: the next one begins.
    fn hand_over_if_done(&mut self) {
        if let Single::Handover(active, next) = self.single
            && self
                .at(active)
                .is_none_or(|consumer| consumer.in_flight == 0)
        {
            self.single = Single::Active(next);
            self.begin(next);
        }
    }

    /// The consumer in this slot need not wait for another one any more.
    fn begin(&mut self, slot: u32) {
        if let Some(consumer) = self.at(slot) {
            let id = ConsumerId {
                slot,
                generation: consumer.generation,
            };
            self.turn(id, |state| state == State::Waiting);
        }
    }

    /// A consumer went: if it was the single active one, or was to be it, the first in line takes its place.
    fn departed(&mut self, slot: u32) {
        match self.single {
            Single::Active(active) if active == slot => {
                self.single = match self.first_in_line(slot) {
                    Some(next) => Single::Active(next),
                    None => Single::Vacant,
                };
                if let Single::Active(next) = self.single {
                    self.begin(next);
                }
            }
            Single::Handover(active, next) if active == slot => {
                self.single = Single::Active(next);
                self.begin(next);
            }
            Single::Handover(active, next) if next == slot => {
                self.single = Single::Active(active);
                self.begin(active);
            }
            _ => {}
        }
    }

    /// The highest priority, and of these who came first.
    fn first_in_line(&self, but: u32) -> Option<u32> {
        let others = self
            .slots
            .iter()
            .enumerate()
            .filter_map(|(slot, consumer)| {
                let consumer = consumer.as_ref().filter(|_| slot as u32 != but)?;
                Some((
                    std::cmp::Reverse(consumer.priority),
                    consumer.generation,
                    slot as u32,
                ))
            });
        others.min().map(|(_, _, slot)| slot)
    }

    fn leave_rotation(&mut self, slot: u32) {
        for level in &mut self.levels {
            let place = level.rotation.iter().position(|turning| *turning == slot);
            if let Some(place) = place {
                level.rotation.remove(place);
            }
        }
        if let Some(loads) = &mut self.loads {
            loads.remove(slot);
        }
    }

    /// Takes a consumer out. `false` when it is gone already.
    pub(super) fn remove(&mut self, id: ConsumerId) -> bool {
        let Some(consumer) = self.get(id) else {
            return false;
        };
        self.timed -= u32::from(consumer.held.is_some());
        self.slots[id.slot as usize] = None;
        self.taken_below = self.taken_below.min(id.slot);
        self.count -= 1;
        self.leave_rotation(id.slot);
        self.departed(id.slot);
        self.drop_unused_levels();
        true
    }

    /// Takes all consumers out, in order of registration slot.
    pub(super) fn take_all(&mut self) -> Vec<Arc<dyn DeliverySink>> {
        self.count = 0;
        self.taken_below = 0;
        self.timed = 0;
        self.levels.clear();
        if let Some(loads) = &mut self.loads {
            **loads = Loads::default();
        }
        if self.is_single_active() {
            self.single = Single::Vacant;
        }
        std::mem::take(&mut self.slots)
            .into_iter()
            .flatten()
            .map(|consumer| consumer.sink)
            .collect()
    }

    fn drop_unused_levels(&mut self) {
        let slots = &self.slots;
        self.levels.retain(|level| {
            let mut consumers = slots.iter().flatten();
            !level.rotation.is_empty()
                || consumers.any(|consumer| consumer.priority == level.priority)
        });
        if self.count == 0 {
            self.slots = Vec::new();
            self.taken_below = 0;
            self.levels = Vec::new();
        }
    }

    fn get(&self, id: ConsumerId) -> Option<&Consumer> {
        self.slots
            .get(id.slot as usize)?
            .as_ref()
            .filter(|consumer| consumer.generation == id.generation)
    }

    fn get_mut(&mut self, id: ConsumerId) -> Option<&mut Consumer> {
        self.slots
            .get_mut(id.slot as usize)?
            .as_mut()
            .filter(|consumer| consumer.generation == id.generation)
    }

    pub(super) fn at(&self, slot: u32) -> Option<&Consumer> {
        self.slots.get(slot as usize)?.as_ref()
    }

    /// consume-ok is out: deliveries may begin.
    pub(super) fn activate(&mut self, id: ConsumerId) {
        self.turn(id, |state| state == State::Idle);
    }

    /// The outbox or the window has room again.
    pub(super) fn resume(&mut self, id: ConsumerId) {
        self.turn(id, |state| state == State::Stalled);
    }

    /// Keeps further deliveries from consumers that have held one for too long, and answers where to tell them and
    /// their timeouts. They stay until their channels have given back what they hold: a single active consumer goes no
    /// sooner, lest the next one overtakes that.
    pub(super) fn stop_late(&mut self, now_ms: u64) -> Vec<(Arc<dyn DeliverySink>, u64)> {
        let mut late = Vec::new();
        for (slot, consumer) in self.slots.iter_mut().enumerate() {
            if let Some(consumer) = consumer
                && let Some(held) = consumer
                    .held
                    .take_if(|held| held.deadline_ms().is_some_and(|at_ms| at_ms <= now_ms))
            {
                consumer.state = State::Late;
                late.push((slot as u32, consumer.sink.clone(), held.timeout_ms));
            }
        }
        self.timed -= late.len() as u32;
        let stopped = late.into_iter().map(|(slot, sink, timeout_ms)| {
            self.leave_rotation(slot);
            (sink, timeout_ms)
        });
        stopped.collect()
    }

    /// No consumer's time is up before this.
    pub(super) fn deadline_ms(&self) -> Option<u64> {
        if self.timed == 0 {
            return None;
        }
        let held = self.slots.iter().flatten();
        held.filter_map(|consumer| consumer.held.as_ref()?.deadline_ms())
            .min()
    }

    /// It holds these unacknowledged deliveries too.
    pub(super) fn delivered(&mut self, slot: u32, seqs: RangeInclusive<Seq>, now_ms: u64) {
        if let Some(Some(consumer)) = self.slots.get_mut(slot as usize)
            && let Some(held) = &mut consumer.held
        {
            for seq in seqs {
                held.delivered(seq, now_ms);
            }
        }
    }

    /// These of its deliveries are settled or came back.
    pub(super) fn released(&mut self, id: ConsumerId, seqs: &[Seq]) {
        if let Some(consumer) = self.get_mut(id) {
            consumer.in_flight = consumer.in_flight.saturating_sub(seqs.len() as u32);
            if let Some(held) = &mut consumer.held {
                held.released(seqs);
            }
            let in_flight = consumer.in_flight;
            if consumer.has_window() {
                self.turn(id, |state| state == State::Full);
            }
            // Asked once, as this is the way of each acknowledgement.
            if self.is_special {
                if let Some(loads) = &mut self.loads {
                    loads.change(id.slot, in_flight);
                }
                self.hand_over_if_done();
            }
        }
    }

    fn turn(&mut self, id: ConsumerId, when: impl Fn(State) -> bool) {
        let Some(consumer) = self.get(id) else {
            return;
        };
        if !when(consumer.state) {
            return;
        }
        let waits = match self.single {
            Single::Off => false,
            Single::Active(slot) => slot != id.slot,
            Single::Vacant | Single::Handover(..) => true,
        };
        let Some(consumer) = self.get_mut(id) else {
            return;
        };
        if waits {
            consumer.state = State::Waiting;
            return;
        }
        consumer.state = State::Turning;
        let (priority, in_flight) = (consumer.priority, consumer.in_flight);
        self.join(id.slot, priority, in_flight);
    }

    /// A consumer can get messages from now on, after those that can already.
    fn join(&mut self, slot: u32, priority: i32, in_flight: u32) {
        let at = match self
            .levels
            .binary_search_by(|level| priority.cmp(&level.priority))
        {
            Ok(at) => at,
            Err(at) => {
                if let Some(loads) = &mut self.loads {
                    return loads.insert(slot, priority, in_flight);
                }
                self.levels.insert(
                    at,
                    Level {
                        priority,
                        rotation: VecDeque::new(),
                    },
                );
                at
            }
        };
        self.levels[at].rotation.push_back(slot);
    }

    /// A new dispatch begins: what the outboxes can take is asked anew.
    pub(super) const fn begin_round(&mut self) {
        self.round += 1;
    }

    /// The consumer that gets the next message of `cost` bytes, with its window and room charged for it.
    pub(super) fn choose(&mut self, cost: usize) -> Option<u32> {
        let round = self.round;
        for level in &mut self.levels {
            while let Some(&slot) = level.rotation.front() {
                let Some(consumer) = self.slots[slot as usize].as_mut() else {
                    level.rotation.pop_front();
                    continue;
                };
                if consumer.takes(cost, round) {
                    if level.rotation.len() > 1 {
                        level.rotation.rotate_left(1);
                    }
                    return Some(slot);
                }
                level.rotation.pop_front();
            }
        }
        self.choose_by_load(cost)
    }

    /// The same where who holds the fewest messages is next.
    fn choose_by_load(&mut self, cost: usize) -> Option<u32> {
        let loads = self.loads.as_mut()?;
        while let Some(slot) = loads.first() {
            if let Some(consumer) = self.slots[slot as usize].as_mut()
                && consumer.takes(cost, self.round)
            {
                loads.insert(slot, consumer.priority, consumer.in_flight);
                return Some(slot);
            }
            loads.remove(slot);
        }
        None
    }

    /// The outbox refused `count` deliveries that were assigned in this round; `stalled` when it will resume later.
    pub(super) fn refused(&mut self, slot: u32, count: u32) {
        let Some(consumer) = self.slots[slot as usize].as_mut() else {
            return;
        };
        if !consumer.no_ack {
            consumer.in_flight = consumer.in_flight.saturating_sub(count);
        }
        consumer.state = State::Stalled;
        self.leave_rotation(slot);
    }
}

impl Consumer {
    const fn has_window(&self) -> bool {
        self.prefetch == 0 || self.in_flight < self.prefetch
    }

    /// Charges a message to this consumer, or leaves it out of the rotation in the state that says why.
    fn takes(&mut self, cost: usize, round: u64) -> bool {
        if !self.has_window() {
            self.state = State::Full;
            return false;
        }
        if self.round != round {
            self.round = round;
            self.room_bytes = self.sink.room_bytes();
        }
        if self.room_bytes == 0 {
            if self.sink.stall() {
                self.state = State::Stalled;
                return false;
            }
            self.room_bytes = self.sink.room_bytes().max(1);
        }
        self.room_bytes = self.room_bytes.saturating_sub(cost);
        if !self.no_ack {
            self.in_flight += 1;
        }
        true
    }
}
