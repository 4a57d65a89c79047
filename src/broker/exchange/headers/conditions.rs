//! The conditions of an exchange's bindings, and which of them the headers of a message fulfil.
//!
//! Conditions that ask for the same headers have one shape and differ in the values only: a message fulfils at most one
//! of a shape, and one hash finds it. Of the shapes only those are looked at that are listed under a header of the
//! message. Each is listed under one of its headers, that with the shortest list when it came.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use amq_protocol::types::{AMQPValue, FieldTable};
use hashbrown::{DefaultHashBuilder, HashTable};

use super::super::destinations::Destinations;
use super::value::{are_equal, hash};
use crate::broker::binding::Destination;

/// Headers that a message must have, all of them.
pub(super) struct Condition {
    shape: Arc<[Name]>,
    /// One for each name that asks for it, in order.
    values: Box<[AMQPValue]>,
}

/// The name of a header that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Name {
    name: Box<str>,
    /// With a certain value; otherwise it only has to be there.
    has_value: bool,
}

/// The conditions that ask for the same headers.
#[derive(Default)]
struct Shape {
    names: Arc<[Name]>,
    /// The one of `names` under which it is listed.
    listed_under: usize,
    /// By their values.
    entries: HashTable<Entry>,
}

struct Entry {
    hash: u64,
    values: Box<[AMQPValue]>,
    destinations: Destinations,
}

/// Conditions, each with the destinations that it leads to.
#[derive(Default)]
pub(super) struct Conditions {
    /// Where the condition leads that asks for nothing.
    unconditional: Destinations,
    shapes: Vec<Shape>,
    /// Places in `shapes` that are not taken.
    free: Vec<usize>,
    by_names: HashMap<Arc<[Name]>, usize>,
    /// Places in `shapes` by the header under which they are listed.
    lists: HashMap<Box<str>, Vec<usize>>,
    /// Secret, as clients choose the values.
    seed: DefaultHashBuilder,
}

impl Condition {
    /// All of `pairs`, whose names differ and rise; void stands for any value. `None` if nothing can fulfil it, as a
    /// number that is not one equals nothing.
    pub(super) fn new<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a AMQPValue)>,
    ) -> Option<Self> {
        let (mut names, mut values) = (Vec::new(), Vec::new());
        for (name, value) in pairs {
            let has_value = !matches!(value, AMQPValue::Void);
            if has_value {
                if !are_equal(value, value) {
                    return None;
                }
                values.push(value.clone());
            }
            names.push(Name {
                name: name.into(),
                has_value,
            });
        }
        Some(Self {
            shape: names.into(),
            values: values.into(),
        })
    }

    fn hash(&self, seed: &DefaultHashBuilder) -> u64 {
        hash_all(seed, self.values.iter())
    }
}

impl Conditions {
    /// One more binding leads to `destination` under `condition`.
    pub(super) fn add(&mut self, condition: Condition, destination: &Destination) {
        if condition.shape.is_empty() {
            return self.unconditional.add(destination);
        }
        let at = match self.by_names.get(&condition.shape) {
            Some(at) => *at,
            None => self.add_shape(&condition.shape),
        };
        let hash = condition.hash(&self.seed);
        let entry = self.shapes[at].entries.entry(
            hash,
            |entry| entry.has(&condition.values),
            |entry| entry.hash,
        );
        let mut entry = entry.or_insert_with(|| Entry {
            hash,
            values: condition.values.clone(),
            destinations: Destinations::default(),
        });
        entry.get_mut().destinations.add(destination);
    }

    /// One binding less leads to `destination` under `condition`.
    pub(super) fn remove(&mut self, condition: &Condition, destination: &Destination) {
        if condition.shape.is_empty() {
            return self.unconditional.remove(destination);
        }
        let Some(at) = self.by_names.get(&condition.shape).copied() else {
            return;
        };
        let hash = condition.hash(&self.seed);
        let entries = &mut self.shapes[at].entries;
        if let Ok(mut entry) = entries.find_entry(hash, |entry| entry.has(&condition.values)) {
            entry.get_mut().destinations.remove(destination);
            if entry.get().destinations.is_empty() {
                entry.remove();
            }
        }
        if entries.is_empty() {
            self.remove_shape(at);
        }
    }

    /// Reports where the conditions lead that `headers` fulfil; the same destination may be reported again.
    pub(super) fn matching(&self, headers: &FieldTable, found: &mut dyn FnMut(&Destination)) {
        self.unconditional.iter().for_each(&mut *found);
        if self.lists.is_empty() {
            return;
        }
        let names = headers.inner().keys();
        let listed = names.filter_map(|name| self.lists.get(name.as_str()));
        for at in listed.flatten() {
            if let Some(destinations) = self.shapes[*at].fulfilled(headers, &self.seed) {
                destinations.iter().for_each(&mut *found);
            }
        }
    }

    /// Whether nothing is left of any condition.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.unconditional.is_empty()
            && self.by_names.is_empty()
            && self.lists.is_empty()
            && self.free.len() == self.shapes.len()
    }

    /// How many shapes are looked at for `headers`.
    #[cfg(test)]
    pub(super) fn shapes_of(&self, headers: &FieldTable) -> usize {
        let names = headers.inner().keys();
        let listed = names.filter_map(|name| self.lists.get(name.as_str()));
        listed.map(Vec::len).sum()
    }

    fn add_shape(&mut self, names: &Arc<[Name]>) -> usize {
        let length = |name: &Name| self.lists.get(&name.name).map_or(0, Vec::len);
        let listed_under = (0..names.len())
            .min_by_key(|place| length(&names[*place]))
            .unwrap_or_default();
        let shape = Shape {
            names: names.clone(),
            listed_under,
            entries: HashTable::new(),
        };
        let at = match self.free.pop() {
            Some(at) => {
                self.shapes[at] = shape;
                at
            }
            None => {
                self.shapes.push(shape);
                self.shapes.len() - 1
            }
        };
        self.by_names.insert(names.clone(), at);
        let list = self.lists.entry(names[listed_under].name.clone());
        list.or_default().push(at);
        at
    }

    fn remove_shape(&mut self, at: usize) {
        let shape = std::mem::take(&mut self.shapes[at]);
        self.free.push(at);
        self.by_names.remove(&shape.names);
        let header = &shape.names[shape.listed_under].name;
        if let Some(list) = self.lists.get_mut(header) {
            list.retain(|listed| *listed != at);
            if list.is_empty() {
                self.lists.remove(header);
            }
        }
    }
}

impl Shape {
    /// Where the condition leads that `headers` fulfil, if there is one.
    fn fulfilled(&self, headers: &FieldTable, seed: &DefaultHashBuilder) -> Option<&Destinations> {
        let headers = headers.inner();
        let is_there = |name: &Name| headers.contains_key(&*name.name);
        if !self.names.iter().all(is_there) {
            return None;
        }
        let valued = self.names.iter().filter(|name| name.has_value);
        let values = valued.filter_map(|name| headers.get(&*name.name));
        let hash = hash_all(seed, values.clone());
        let is_equal = |entry: &Entry| {
            let mut pairs = entry.values.iter().zip(values.clone());
            pairs.all(|(wanted, found)| are_equal(wanted, found))
        };
        let entry = self.entries.find(hash, is_equal)?;
        Some(&entry.destinations)
    }
}

impl Entry {
    fn has(&self, values: &[AMQPValue]) -> bool {
        let mut pairs = self.values.iter().zip(values);
        pairs.all(|(left, right)| are_equal(left, right))
    }
}

fn hash_all<'a>(seed: &DefaultHashBuilder, values: impl Iterator<Item = &'a AMQPValue>) -> u64 {
    let mut state = seed.build_hasher();
    values.for_each(|value| hash(value, &mut state));
    state.finish()
}
