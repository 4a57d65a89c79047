//! The destinations of an exchange that picks one of them, in an order that does not depend on when they were bound.

use crate::broker::binding::{Binding, Destination};

/// One place per binding: what is bound twice is picked twice as often, as in RabbitMQ.
#[derive(Default)]
pub(super) struct Choices {
    /// By kind and name.
    places: Vec<Destination>,
}

impl Choices {
    pub(super) fn add(&mut self, binding: &Binding) {
        let at = self.position(&binding.destination);
        self.places.insert(at, binding.destination.clone());
    }

    pub(super) fn remove(&mut self, binding: &Binding) {
        let at = self.position(&binding.destination);
        if self
            .places
            .get(at)
            .is_some_and(|found| order(found) == order(&binding.destination))
        {
            self.places.remove(at);
        }
    }

    /// The destination at the place that `choose` draws from their number; none without bindings.
    pub(super) fn pick(&self, choose: impl FnOnce(usize) -> usize) -> Option<&Destination> {
        if self.places.is_empty() {
            return None;
        }
        self.places.get(choose(self.places.len()))
    }

    fn position(&self, destination: &Destination) -> usize {
        self.places
            .partition_point(|known| order(known) < order(destination))
    }
}

fn order(destination: &Destination) -> (crate::broker::names::ResourceKind, &str) {
    (destination.kind(), destination.name())
}
