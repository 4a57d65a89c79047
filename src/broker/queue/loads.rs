//! The consumers of a queue that may get a message, by how much they hold: an order in place of the rotations.
//!
//! Who has the fewest unacknowledged deliveries is first, and among these who was longest not chosen. To find the
//! first, or a new place for one whose load has changed, takes the logarithm of the number of consumers.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

/// Where a consumer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    priority: Reverse<i32>,
    load: u32,
    /// Rises with each choice.
    turn: u64,
    slot: u32,
}

/// The order.
#[derive(Default)]
pub(super) struct Loads {
    order: BTreeSet<Place>,
    places: HashMap<u32, Place>,
    turn: u64,
}

impl Loads {
    /// A consumer may get messages; it holds this many.
    pub(super) fn insert(&mut self, slot: u32, priority: i32, load: u32) {
        self.remove(slot);
        self.turn += 1;
        let place = Place {
            priority: Reverse(priority),
            load,
            turn: self.turn,
            slot,
        };
        self.order.insert(place);
        self.places.insert(slot, place);
    }

    /// It may not, or is gone.
    pub(super) fn remove(&mut self, slot: u32) {
        if let Some(place) = self.places.remove(&slot) {
            self.order.remove(&place);
        }
    }

    /// It holds another number of messages now, and keeps its turn. One that is not in the order stays out of it.
    pub(super) fn change(&mut self, slot: u32, load: u32) {
        if let Some(place) = self.places.get_mut(&slot) {
            self.order.remove(place);
            place.load = load;
            self.order.insert(*place);
        }
    }

    /// The consumer that is next.
    pub(super) fn first(&self) -> Option<u32> {
        self.order.first().map(|place| place.slot)
    }

    /// All of them, who is next first.
    pub(super) fn slots(&self) -> impl Iterator<Item = u32> {
        self.order.iter().map(|place| place.slot)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}
