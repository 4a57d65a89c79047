//! `fanout`: a message takes all bindings.

use super::destinations::Destinations;
use super::{ExchangeType, Message, RoutingTable, any_arguments, any_binding};
use crate::broker::binding::{Binding, Destination};
use crate::broker::deduplication::DEDUPLICATION;

pub(super) const TYPE: ExchangeType = ExchangeType {
    name: "fanout",
    table: |_| Box::<Fanout>::default(),
    validate: any_arguments,
    validate_binding: any_binding,
};

/// The type of the deduplication plugin: a fanout exchange that always deduplicates ([`crate::broker::deduplication`]).
pub(super) const DEDUPLICATION_TYPE: ExchangeType = ExchangeType {
    name: DEDUPLICATION,
    ..TYPE
};

#[derive(Default)]
struct Fanout {
    destinations: Destinations,
}

impl RoutingTable for Fanout {
    fn add(&mut self, binding: &Binding) {
        self.destinations.add(&binding.destination);
    }

    fn remove(&mut self, binding: &Binding) {
        self.destinations.remove(&binding.destination);
    }

    fn route(&self, _message: &mut Message<'_>, found: &mut dyn FnMut(&Destination)) {
        self.destinations.iter().for_each(found);
    }
}
