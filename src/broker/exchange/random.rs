//! `x-random` and `x-local-random`: a message takes one of the bindings, each equally likely.
//!
//! `x-local-random` picks among the queues of the node that the publisher is connected to. There is one node, so that
//! the two differ only in which bindings they take.

use amq_protocol::types::FieldTable;

use super::choices::Choices;
use super::{ExchangeType, LeadsTo, Message, RoutingTable, any_arguments, any_binding};
use crate::broker::arguments::QueueType;
use crate::broker::binding::{Binding, Destination};
use crate::broker::error::Error;

/// Keys mean nothing.
pub(super) const TYPE: ExchangeType = ExchangeType {
    name: "x-random",
    table: |_| Box::<Random>::default(),
    validate: any_arguments,
    validate_binding: any_binding,
};

/// Only classic queues, and only with the empty key.
pub(super) const LOCAL_TYPE: ExchangeType = ExchangeType {
    name: "x-local-random",
    table: |_| Box::<Random>::default(),
    validate: any_arguments,
    validate_binding: validate_local_binding,
};

#[derive(Default)]
struct Random {
    choices: Choices,
}

impl RoutingTable for Random {
    fn add(&mut self, binding: &Binding) {
        self.choices.add(binding);
    }

    fn remove(&mut self, binding: &Binding) {
        self.choices.remove(binding);
    }

    fn route(&self, message: &mut Message<'_>, found: &mut dyn FnMut(&Destination)) {
        if let Some(chosen) = self.choices.pick(|count| message.choose(count)) {
            found(chosen);
        }
    }
}

fn validate_local_binding(
    routing_key: &str,
    _arguments: &FieldTable,
    leads_to: LeadsTo,
) -> Result<(), Error> {
    let refuse = |reason| Err(Error::InvalidBinding(reason));
    if !routing_key.is_empty() {
        return refuse(format!(
            "Non empty binding '{routing_key}' key not permitted"
        ));
    }
    match leads_to {
        LeadsTo::Queue(QueueType::Classic) => Ok(()),
        LeadsTo::Queue(other) => refuse(format!(
            "Queue type {} not valid for this exchange type",
            other.module()
        )),
        LeadsTo::Exchange => refuse("Destination not found".into()),
    }
}
