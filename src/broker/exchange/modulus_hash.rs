//! `x-modulus-hash`: a message takes one of the bindings, chosen by its routing key. Binding keys mean nothing.
//!
//! The hash of the key, modulo the number of bindings, is the place in the list of destinations. A binding that comes
//! or goes moves most keys; `x-consistent-hash` does not have that.

use super::choices::Choices;
use super::hash::{hash, mix};
use super::{ExchangeType, Message, RoutingTable, any_arguments, any_binding};
use crate::broker::binding::{Binding, Destination};

pub(super) const TYPE: ExchangeType = ExchangeType {
    name: "x-modulus-hash",
    table: |_| Box::<ModulusHash>::default(),
    validate: any_arguments,
    validate_binding: any_binding,
};

#[derive(Default)]
struct ModulusHash {
    choices: Choices,
}

impl RoutingTable for ModulusHash {
    fn add(&mut self, binding: &Binding) {
        self.choices.add(binding);
    }

    fn remove(&mut self, binding: &Binding) {
        self.choices.remove(binding);
    }

    fn route(&self, message: &mut Message<'_>, found: &mut dyn FnMut(&Destination)) {
        let keys = message.routing_keys.iter();
        let hashed = keys.fold(0, |before, key| mix(before ^ hash(0, key.as_bytes())));
        let chosen = self.choices.pick(|count| (hashed % count as u64) as usize);
        chosen.into_iter().for_each(found);
    }
}
