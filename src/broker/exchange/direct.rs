//! `direct`: a message takes the bindings whose key is its routing key.

use std::collections::HashMap;

use super::destinations::Destinations;
use super::{ExchangeType, Message, RoutingTable, any_arguments, any_binding};
use crate::broker::binding::{Binding, Destination};

pub(super) const TYPE: ExchangeType = ExchangeType {
    name: "direct",
    table: |_| Box::<Direct>::default(),
    validate: any_arguments,
    validate_binding: any_binding,
};

#[derive(Default)]
struct Direct {
    by_key: HashMap<Box<str>, Destinations>,
}

impl RoutingTable for Direct {
    fn add(&mut self, binding: &Binding) {
        self.by_key
            .entry(binding.routing_key.clone())
            .or_default()
            .add(&binding.destination);
    }

    fn remove(&mut self, binding: &Binding) {
        if let Some(destinations) = self.by_key.get_mut(&binding.routing_key) {
            destinations.remove(&binding.destination);
            if destinations.is_empty() {
                self.by_key.remove(&binding.routing_key);
            }
        }
    }

    fn route(&self, message: &mut Message<'_>, found: &mut dyn FnMut(&Destination)) {
        let matching = message
            .routing_keys
            .iter()
            .filter_map(|key| self.by_key.get(*key));
        matching.flat_map(Destinations::iter).for_each(found);
    }
}
