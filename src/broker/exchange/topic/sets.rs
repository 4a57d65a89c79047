//! What is bound under a key of the trie, as a number.
//!
//! Most keys lead to one destination, and very many keys to few destinations: a set of one is shared by all keys that
//! have it, so that a node of the trie needs four octets for it.

use std::collections::HashMap;

use super::super::destinations::Destinations;
use crate::broker::binding::Destination;

/// A set of destinations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct SetId(u32);

/// Sets with this bit have their place in [`Sets::own`], the others one place before theirs in [`Sets::shared`].
const OWN: u32 = 1 << 31;

/// All sets of a trie.
#[derive(Default)]
pub(super) struct Sets {
    /// Sets of one destination and one binding.
    shared: Vec<Shared>,
    shared_free: Vec<u32>,
    /// Places in `shared` by the address of the destination.
    by_address: HashMap<usize, u32>,
    /// All other sets, each of one key.
    own: Vec<Destinations>,
    own_free: Vec<u32>,
}

#[derive(Default)]
struct Shared {
    destinations: Destinations,
    keys: u32,
}

impl SetId {
    /// The empty set.
    pub(super) const EMPTY: Self = Self(0);

    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Its place among those of its key alone.
    fn own(self) -> Option<usize> {
        (self.0 & OWN != 0).then_some((self.0 & !OWN) as usize)
    }

    /// Its place among those that keys share.
    fn shared(self) -> Option<usize> {
        (self.0 & OWN == 0).then(|| (self.0 as usize).checked_sub(1))?
    }
}

impl Sets {
    /// The destinations; `None` for the empty set.
    pub(super) fn get(&self, id: SetId) -> Option<&Destinations> {
        match (id.own(), id.shared()) {
            (Some(own), _) => self.own.get(own),
            (None, Some(shared)) => Some(&self.shared.get(shared)?.destinations),
            (None, None) => None,
        }
    }

    /// The set that `id` becomes when one more binding leads to `destination`.
    pub(super) fn add(&mut self, id: SetId, destination: &Destination) -> SetId {
        if id.is_empty() {
            return self.share(destination);
        }
        if let Some(own) = id.own() {
            self.own[own].add(destination);
            return id;
        }
        let mut destinations = Destinations::default();
        let before = self.get(id).into_iter().flat_map(Destinations::iter);
        before.for_each(|before| destinations.add(before));
        destinations.add(destination);
        self.release(id);
        let place = match self.own_free.pop() {
            Some(place) => {
                self.own[place as usize] = destinations;
                place
            }
            None => {
                self.own.push(destinations);
                self.own.len() as u32 - 1
            }
        };
        SetId(place | OWN)
    }

    /// The set that `id` becomes when one binding less leads to `destination`.
    pub(super) fn remove(&mut self, id: SetId, destination: &Destination) -> SetId {
        let Some(own) = id.own() else {
            let leads_there = |found: &Destination| found.address() == destination.address();
            let is_in = |set: &Destinations| set.iter().any(leads_there);
            if self.get(id).is_some_and(is_in) {
                self.release(id);
                return SetId::EMPTY;
            }
            return id;
        };
        self.own[own].remove(destination);
        let only = match self.own[own].single() {
            Some(only) => Some(only.clone()),
            None if self.own[own].is_empty() => None,
            None => return id,
        };
        self.own[own] = Destinations::default();
        self.own_free.push(own as u32);
        only.map_or(SetId::EMPTY, |only| self.share(&only))
    }

    /// Whether nothing is left of any set.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.by_address.is_empty()
            && self.shared.len() == self.shared_free.len()
            && self.own.len() == self.own_free.len()
    }

    fn share(&mut self, destination: &Destination) -> SetId {
        let (shared, free) = (&mut self.shared, &mut self.shared_free);
        let place = *self
            .by_address
            .entry(destination.address())
            .or_insert_with(|| {
                free.pop().unwrap_or_else(|| {
                    shared.push(Shared::default());
                    shared.len() as u32 - 1
                })
            });
        let set = &mut self.shared[place as usize];
        if set.keys == 0 {
            set.destinations.add(destination);
        }
        set.keys += 1;
        SetId(place + 1)
    }

    /// A key has this shared set no more.
    fn release(&mut self, id: SetId) {
        let Some(place) = id.shared() else { return };
        let set = &mut self.shared[place];
        set.keys -= 1;
        if set.keys == 0 {
            let gone = std::mem::take(&mut set.destinations);
            gone.iter()
                .for_each(|gone| _ = self.by_address.remove(&gone.address()));
            self.shared_free.push(place as u32);
        }
    }
}
