//! The destinations of bindings that a message takes together, each once.

use std::collections::HashMap;

use crate::broker::binding::Destination;

/// Up to this many a scan is faster than an index.
const SCANNED_MAX: usize = 16;

/// A set of destinations, each with the number of bindings that lead to it.
///
/// Most sets have one member, and an exchange can have very many sets: one member is kept in place.
#[derive(Default)]
pub(super) enum Destinations {
    #[default]
    None,
    One(Entry),
    Many(Box<Many>),
}

/// A destination and how many bindings lead to it.
pub(super) struct Entry {
    destination: Destination,
    bindings: u32,
}

#[derive(Default)]
pub(super) struct Many {
    entries: Vec<Entry>,
    /// Places in `entries` by address, once they are many.
    index: HashMap<usize, usize>,
}

impl Destinations {
    pub(super) const fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Destination> {
        let entries = match self {
            Self::None => &[],
            Self::One(entry) => std::slice::from_ref(entry),
            Self::Many(many) => &many.entries[..],
        };
        entries.iter().map(|entry| &entry.destination)
    }

    /// The destination if it is the only one, with one binding.
    pub(super) fn single(&self) -> Option<&Destination> {
        match self {
            Self::One(entry) if entry.bindings == 1 => Some(&entry.destination),
            _ => None,
        }
    }

    /// One more binding leads to `destination`.
    pub(super) fn add(&mut self, destination: &Destination) {
        match self {
            Self::None => {
                *self = Self::One(Entry {
                    destination: destination.clone(),
                    bindings: 1,
                })
            }
            Self::One(entry) if entry.destination.address() == destination.address() => {
                entry.bindings += 1
            }
            Self::One(_) => {
                let Self::One(first) = std::mem::take(self) else {
                    return;
                };
                let mut many = Many::default();
                many.push(first);
                many.push(Entry {
                    destination: destination.clone(),
                    bindings: 1,
                });
                *self = Self::Many(Box::new(many));
            }
            Self::Many(many) => match many.position(destination) {
                Some(at) => many.entries[at].bindings += 1,
                None => many.push(Entry {
                    destination: destination.clone(),
                    bindings: 1,
                }),
            },
        }
    }

    /// One binding less leads to `destination`.
    pub(super) fn remove(&mut self, destination: &Destination) {
        match self {
            Self::One(entry) if entry.destination.address() == destination.address() => {
                entry.bindings -= 1;
                if entry.bindings == 0 {
                    *self = Self::None;
                }
            }
            Self::None | Self::One(_) => {}
            Self::Many(many) => {
                many.remove(destination);
                if many.entries.len() == 1 {
                    *self = many.entries.pop().map_or(Self::None, Self::One);
                }
            }
        }
    }
}

impl Many {
    fn push(&mut self, entry: Entry) {
        if !self.index.is_empty() {
            self.index
                .insert(entry.destination.address(), self.entries.len());
        }
        self.entries.push(entry);
        if self.index.is_empty() && self.entries.len() > SCANNED_MAX {
            let places = self
                .entries
                .iter()
                .enumerate()
                .map(|(at, entry)| (entry.destination.address(), at));
            self.index = places.collect();
        }
    }

    fn remove(&mut self, destination: &Destination) {
        let Some(at) = self.position(destination) else {
            return;
        };
        self.entries[at].bindings -= 1;
        if self.entries[at].bindings > 0 {
            return;
        }
        self.entries.swap_remove(at);
        if self.index.remove(&destination.address()).is_some()
            && let Some(moved) = self.entries.get(at)
        {
            self.index.insert(moved.destination.address(), at);
        }
        if self.entries.len() < SCANNED_MAX / 2 {
            self.index = HashMap::new();
        }
    }

    fn position(&self, destination: &Destination) -> Option<usize> {
        let address = destination.address();
        if self.index.is_empty() {
            return self
                .entries
                .iter()
                .position(|entry| entry.destination.address() == address);
        }
        self.index.get(&address).copied()
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
            delays_id: None,
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
