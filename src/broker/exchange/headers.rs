//! `headers`: a message takes the bindings whose arguments its headers match.
//!
//! `x-match` says how: `all` (the default) or `any` of the arguments, those called `x-...` left out; `all-with-x` and
//! `any-with-x` look at these too. An argument without a value (void) asks only whether the header is there. Without
//! anything to compare, `all` matches everything and `any` nothing.
//!
//! A binding comes to conditions of which one must hold: all of its arguments together, or each of them alone. They are
//! found by what they ask for ([`mod@conditions`]), so that the cost of a message grows with its headers and its
//! matches, not with the number of bindings.

mod conditions;
#[cfg(test)]
mod tests;
mod value;

use amq_protocol::types::{AMQPValue, FieldTable};

use self::conditions::{Condition, Conditions};
use super::{ExchangeType, Message, RoutingTable, any_arguments};
use crate::broker::arguments::Arguments;
use crate::broker::arguments::term::{self, Term};
use crate::broker::binding::{Binding, Destination};
use crate::broker::error::Error;

pub(super) const TYPE: ExchangeType = ExchangeType {
    name: "headers",
    table: |_| Box::<Headers>::default(),
    validate: any_arguments,
    validate_binding: |_, arguments, _| validate_match(arguments),
};

const X_MATCH: &str = "x-match";

#[derive(Default)]
struct Headers {
    conditions: Conditions,
}

impl RoutingTable for Headers {
    fn add(&mut self, binding: &Binding) {
        for condition in conditions(&binding.arguments) {
            self.conditions.add(condition, &binding.destination);
        }
    }

    fn remove(&mut self, binding: &Binding) {
        for condition in conditions(&binding.arguments) {
            self.conditions.remove(&condition, &binding.destination);
        }
    }

    fn route(&self, message: &mut Message<'_>, found: &mut dyn FnMut(&Destination)) {
        self.conditions.matching(message.headers(), found);
    }
}

/// What the arguments of a binding come to: one of these must hold.
fn conditions(arguments: &Arguments) -> Vec<Condition> {
    let arguments = arguments.table();
    let (is_any, with_x) = match arguments.inner().get(X_MATCH).and_then(term::bytes) {
        Some(b"any") => (true, false),
        Some(b"any-with-x") => (true, true),
        Some(b"all-with-x") => (false, true),
        _ => (false, false),
    };
    let is_compared = |key: &str| key != X_MATCH && (with_x || !key.starts_with("x-"));
    let compared = arguments
        .inner()
        .iter()
        .filter(|(key, _)| is_compared(key.as_str()))
        .map(|(key, value)| (key.as_str(), value));
    let conditions = if is_any {
        compared.map(|pair| Condition::new([pair])).collect()
    } else {
        vec![Condition::new(compared)]
    };
    conditions.into_iter().flatten().collect()
}

fn validate_match(arguments: &FieldTable) -> Result<(), Error> {
    match arguments.inner().get(X_MATCH) {
        None => Ok(()),
        Some(value @ AMQPValue::LongString(how)) => match how.as_bytes() {
            b"all" | b"any" | b"all-with-x" | b"any-with-x" => Ok(()),
            _ => Err(Error::InvalidBinding(format!(
                "Invalid x-match field value {}; expected all, any, all-with-x, or any-with-x",
                Term(value)
            ))),
        },
        Some(value) => Err(Error::InvalidBinding(format!(
            "Invalid x-match field type {} (value {}); expected longstr",
            term::type_name(value),
            Term(value)
        ))),
    }
}
