//! The destinations of bindings that a message takes together, each once.

use std::collections::HashMap;

use crate::broker::binding::Destination;

/// Up to this many a scan is faster than an index.
const SCANNED_MAX: usize = 16;

/// A set of destinations, each with the number of bindings that lead to it.
#[derive(Default)]
pub(super) struct Destinations {
    entries: Vec<Entry>,
    /// Places in `entries` by address, once they are many.
    index: Option<Box<HashMap<usize, usize>>>,
}

struct Entry {
    destination: Destination,
    bindings: u32,
}

impl Destinations {
    pub(super) const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Destination> {
        self.entries.iter().map(|entry| &entry.destination)
    }

    /// One more binding leads to `destination`.
    pub(super) fn add(&mut self, destination: &Destination) {
        if let Some(at) = self.position(destination) {
            self.entries[at].bindings += 1;
            return;
        }
        if self.entries.is_empty() {
            // Most sets have one member.
            self.entries.reserve_exact(1);
        }
        if let Some(index) = &mut self.index {
            index.insert(destination.address(), self.entries.len());
        }
        self.entries.push(Entry { destination: destination.clone(), bindings: 1 });
        if self.index.is_none() && self.entries.len() > SCANNED_MAX {
            let places = self.entries.iter().enumerate().map(|(at, entry)| (entry.destination.address(), at));
            self.index = Some(Box::new(places.collect()));
        }
    }

    /// One binding less leads to `destination`.
    pub(super) fn remove(&mut self, destination: &Destination) {
        let Some(at) = self.position(destination) else { return };
        self.entries[at].bindings -= 1;
        if self.entries[at].bindings > 0 {
            return;
        }
        self.entries.swap_remove(at);
        let moved = self.entries.get(at).map(|entry| entry.destination.address());
        if let Some(index) = &mut self.index {
            index.remove(&destination.address());
            if let Some(moved) = moved {
                index.insert(moved, at);
            }
        }
        if self.entries.len() < SCANNED_MAX / 2 {
            self.index = None;
            self.entries.shrink_to_fit();
        }
    }

    fn position(&self, destination: &Destination) -> Option<usize> {
        let address = destination.address();
        match &self.index {
            Some(index) => index.get(&address).copied(),
            None => self.entries.iter().position(|entry| entry.destination.address() == address),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::broker::arguments::Arguments;
    use crate::broker::exchange::{Exchange, ExchangeSpec, ExchangeType};

    fn destination(number: usize) -> Destination {
        Destination::Exchange(Arc::new(Exchange::new(ExchangeSpec {
            name: number.to_string().into(),
            kind: ExchangeType::from_name("direct").unwrap(),
            durable: false,
            auto_delete: false,
            internal: false,
            arguments: Arguments::default(),
            alternate: None,
        })))
    }

    proptest! {
        #[test]
        fn counts_bindings_as_a_map_does(steps in prop::collection::vec((any::<bool>(), 0usize..40), 0..300)) {
            let known: Vec<_> = (0..40).map(destination).collect();
            let mut destinations = Destinations::default();
            let mut model: BTreeMap<String, u32> = BTreeMap::new();
            for (add, number) in steps {
                let name = number.to_string();
                if add {
                    destinations.add(&known[number]);
                    *model.entry(name).or_default() += 1;
                } else {
                    destinations.remove(&known[number]);
                    if let Some(count) = model.get_mut(&name) {
                        *count -= 1;
                        model.retain(|_, count| *count > 0);
                    }
                }
                let mut names: Vec<_> = destinations.iter().map(|found| found.name().to_string()).collect();
                names.sort_unstable();
                prop_assert_eq!(&names, &model.keys().cloned().collect::<Vec<_>>());
                prop_assert_eq!(destinations.is_empty(), model.is_empty());
            }
        }
    }
}
