//! Messages that the broker moved here (dead letters, what was delayed) and whose move is not on disk yet.
//!
//! Nobody gets these, nor what stands behind them. A crash takes the move back and the message moves once more: had a
//! consumer got it before, it would get it twice, and the second time as new.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use super::lane::Lane;
use super::log::Lookup;
use super::state::State;
use super::{Inner, Queue};
use crate::message::{Epoch, Seq, Ticket};
use crate::store::{SpaceState, Visit, Waiter};

/// By rising epoch the first seq that was moved here in it.
#[derive(Debug, Default)]
pub(super) struct Arriving {
    firsts: VecDeque<(Epoch, Seq)>,
}

impl Lane {
    /// A message was moved here in `epoch`. True: it is the first one in this epoch.
    pub(super) fn moved_here(&mut self, epoch: Epoch, seq: Seq) -> bool {
        let firsts = &mut self.arriving.get_or_insert_default().firsts;
        let is_first = firsts.back().is_none_or(|(last, _)| *last < epoch);
        if is_first {
            firsts.push_back((epoch, seq));
        }
        is_first
    }

    /// Moves in epochs up to `durable` are on disk.
    fn arrived_for_good(&mut self, durable: Epoch) {
        let Some(arriving) = &mut self.arriving else {
            return;
        };
        let firsts = &mut arriving.firsts;
        while firsts.front().is_some_and(|(epoch, _)| *epoch <= durable) {
            firsts.pop_front();
        }
        if firsts.is_empty() {
            self.arriving = None;
        }
    }

    /// The first seq that nobody gets yet; the highest there is, which no message has, if there is none.
    pub(super) fn closed_from(&self) -> Seq {
        let first = self
            .arriving
            .as_ref()
            .and_then(|arriving| arriving.firsts.front());
        first.map_or(Seq::MAX, |(_, seq)| *seq)
    }

    /// The epoch after which a ready message can go that cannot yet.
    fn opens_after(&self) -> Option<Epoch> {
        let (epoch, seq) = *self.arriving.as_ref()?.firsts.front()?;
        (self.ready > 0 && self.log.next_seq() > seq).then_some(epoch)
    }
}

impl State {
    /// A persistent message was moved here. True: nobody gets it before the epoch is on disk. One whose time ends with
    /// the visit (TTL 0) goes now or never (semantics row 33).
    pub(super) fn moved_here(&mut self, visit: &Visit<'_>, seq: Seq) -> bool {
        let lane = self.lane_mut(seq);
        let is_brief = match lane.log.lookup(seq) {
            Lookup::Found(record, _) => {
                record.expiry_ms() != 0 && record.expiry_ms() <= visit.now_ms()
            }
            Lookup::Cold | Lookup::Gone => false,
        };
        !is_brief && lane.moved_here(visit.epoch(), seq)
    }

    /// The epoch after which a message can go that cannot yet.
    pub(super) fn opens_after(&self) -> Option<Epoch> {
        self.lanes.iter().filter_map(Lane::opens_after).min()
    }
}

impl Queue {
    /// What was moved here and is on disk is like any other message from now on. A full disk must not keep messages
    /// from those who make room.
    pub(super) fn open(&self, inner: &mut Inner) {
        let lanes = inner.state.lanes_mut();
        if lanes.iter().all(|lane| lane.arriving.is_none()) {
            return;
        }
        let store = &self.services.store;
        let durable = match store.space() {
            SpaceState::Full => Epoch::MAX,
            _ => store.durable(),
        };
        for lane in lanes {
            lane.arrived_for_good(durable);
        }
    }

    /// Asks to be called when what was moved here in this visit can go.
    pub(super) fn when_open(self: &Arc<Self>, visit: &Visit<'_>) {
        let waiter = Arc::new(Opening(Arc::downgrade(self)));
        let store = &self.services.store;
        store.subscribe(Ticket::local(visit.epoch()), waiter);
    }
}

/// Has the queue called when its messages can go.
struct Opening(Weak<Queue>);

impl Waiter for Opening {
    fn wake(&self) {
        if let Some(queue) = self.0.upgrade() {
            queue.call_at(0);
        }
    }
}
