//! `topic`: keys are words separated by dots; in a binding key `*` stands for one word and `#` for any number of them.
//!
//! The binding keys form a trie of words ([`trie`]), so that the cost of a message grows with its words and its
//! matches, not with the number of bindings. A message with CC and BCC keys takes what any of its keys matches.

mod sets;
#[cfg(test)]
mod tests;
mod trie;
mod word;

use self::trie::Trie;
use super::{ExchangeType, Message, RoutingTable, any_arguments, any_binding};
use crate::broker::binding::{Binding, Destination};

/// RabbitMQ refuses more than two `#` in a key since 4.3.4, as its matching backtracks. The work is bounded here, so
/// any number is accepted.
pub(super) const TYPE: ExchangeType = ExchangeType {
    name: "topic",
    table: |_| Box::<Topic>::default(),
    validate: any_arguments,
    validate_binding: any_binding,
};

#[derive(Default)]
struct Topic {
    trie: Trie,
}

impl RoutingTable for Topic {
    fn add(&mut self, binding: &Binding) {
        self.trie.add(&binding.routing_key, &binding.destination);
    }

    fn remove(&mut self, binding: &Binding) {
        self.trie.remove(&binding.routing_key, &binding.destination);
    }

    fn route(&self, message: &mut Message<'_>, found: &mut dyn FnMut(&Destination)) {
        for key in message.routing_keys {
            self.trie.matches(key, &mut |destinations| {
                destinations.iter().for_each(&mut *found)
            });
        }
    }
}
