//! `headers`: a message takes the bindings whose arguments its headers match.
//!
//! `x-match` says how: `all` (the default) or `any` of the arguments, those called `x-...` left out; `all-with-x` and
//! `any-with-x` look at these too. An argument without a value (void) asks only whether the header is there. Without
//! anything to compare, `all` matches everything and `any` nothing.

use std::collections::HashMap;

use amq_protocol::types::{AMQPValue, FieldTable};

use super::destinations::Destinations;
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
    /// By the arguments as they are stored.
    patterns: HashMap<Arguments, (Pattern, Destinations)>,
}

impl RoutingTable for Headers {
    fn add(&mut self, binding: &Binding) {
        let arguments = &binding.arguments;
        let (_, destinations) = self
            .patterns
            .entry(arguments.clone())
            .or_insert_with(|| (Pattern::new(&arguments.table()), Destinations::default()));
        destinations.add(&binding.destination);
    }

    fn remove(&mut self, binding: &Binding) {
        if let Some((_, destinations)) = self.patterns.get_mut(&binding.arguments) {
            destinations.remove(&binding.destination);
            if destinations.is_empty() {
                self.patterns.remove(&binding.arguments);
            }
        }
    }

    fn route(&self, message: &mut Message<'_>, found: &mut dyn FnMut(&Destination)) {
        let headers = message.headers();
        let matching = self
            .patterns
            .values()
            .filter(|(pattern, _)| pattern.matches(headers));
        matching
            .flat_map(|(_, destinations)| destinations.iter())
            .for_each(found);
    }
}

/// How many of the arguments must match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quantity {
    All,
    Any,
}

/// The arguments of a binding, ready to compare.
struct Pattern {
    quantity: Quantity,
    wanted: Vec<(Box<str>, AMQPValue)>,
}

impl Pattern {
    fn new(arguments: &FieldTable) -> Self {
        let (quantity, with_x) = match arguments.inner().get(X_MATCH).and_then(term::bytes) {
            Some(b"any") => (Quantity::Any, false),
            Some(b"any-with-x") => (Quantity::Any, true),
            Some(b"all-with-x") => (Quantity::All, true),
            _ => (Quantity::All, false),
        };
        let is_compared = |key: &str| key != X_MATCH && (with_x || !key.starts_with("x-"));
        let compared = arguments
            .inner()
            .iter()
            .filter(|(key, _)| is_compared(key.as_str()));
        Self {
            quantity,
            wanted: compared
                .map(|(key, value)| (key.as_str().into(), value.clone()))
                .collect(),
        }
    }

    fn matches(&self, headers: &FieldTable) -> bool {
        let mut results = self.wanted.iter().map(|(key, wanted)| {
            headers
                .inner()
                .get(&**key)
                .is_some_and(|found| matches!(wanted, AMQPValue::Void) || are_equal(wanted, found))
        });
        match self.quantity {
            Quantity::All => results.all(|result| result),
            Quantity::Any => results.any(|result| result),
        }
    }
}

/// Values are compared without their types: integers and timestamps are equal when their numbers are, floats likewise,
/// strings and byte arrays when their bytes are. An integer never equals a float (`=:=` since RabbitMQ 4). A void
/// header equals no value. Tables are equal when their entries are, in whatever order.
fn are_equal(wanted: &AMQPValue, found: &AMQPValue) -> bool {
    if let (Some(wanted), Some(found)) = (whole_number(wanted), whole_number(found)) {
        return wanted == found;
    }
    if let (Some(wanted), Some(found)) = (term::bytes(wanted), term::bytes(found)) {
        return wanted == found;
    }
    match (wanted, found) {
        (AMQPValue::Float(wanted), AMQPValue::Double(found)) => f64::from(*wanted) == *found,
        (AMQPValue::Double(wanted), AMQPValue::Float(found)) => *wanted == f64::from(*found),
        _ => wanted == found,
    }
}

fn whole_number(value: &AMQPValue) -> Option<i128> {
    match value {
        AMQPValue::Timestamp(seconds) => Some((*seconds).into()),
        value => term::integer(value).map(i128::from),
    }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn table(entries: &[(&str, AMQPValue)]) -> FieldTable {
        entries
            .iter()
            .map(|(key, value)| ((*key).into(), value.clone()))
            .collect::<BTreeMap<_, _>>()
            .into()
    }

    fn text(text: &str) -> AMQPValue {
        AMQPValue::LongString(text.into())
    }

    fn matches(arguments: &[(&str, AMQPValue)], headers: &[(&str, AMQPValue)]) -> bool {
        Pattern::new(&table(arguments)).matches(&table(headers))
    }

    #[test]
    fn all_is_the_default_and_any_needs_one() {
        let two = [("a", text("1")), ("b", text("2"))];
        let any = [("x-match", text("any")), ("a", text("1")), ("b", text("2"))];
        assert!(matches(
            &two,
            &[("a", text("1")), ("b", text("2")), ("c", text("3"))]
        ));
        assert!(!matches(&two, &[("a", text("1"))]));
        assert!(matches(&any, &[("b", text("2"))]));
        assert!(!matches(&any, &[("b", text("3"))]));
    }

    #[test]
    fn nothing_to_compare_matches_everything_or_nothing() {
        assert!(matches(&[], &[]));
        assert!(matches(
            &[("x-match", text("all")), ("x-ignored", text("1"))],
            &[]
        ));
        assert!(!matches(&[("x-match", text("any"))], &[("a", text("1"))]));
    }

    #[test]
    fn x_arguments_count_only_with_x() {
        let with = |how| [("x-match", text(how)), ("x-a", text("1"))];
        let headers = [("x-a", text("1"))];
        assert!(matches(&with("all-with-x"), &headers) && !matches(&with("all-with-x"), &[]));
        assert!(matches(&with("any-with-x"), &headers) && !matches(&with("any-with-x"), &[]));
        assert!(matches(&with("all"), &[]) && !matches(&with("any"), &headers));
    }

    #[test]
    fn void_asks_for_presence() {
        let arguments = [("a", AMQPValue::Void)];
        assert!(matches(&arguments, &[("a", text("anything"))]));
        assert!(matches(&arguments, &[("a", AMQPValue::Void)]));
        assert!(!matches(&arguments, &[("b", text("anything"))]));
        assert!(!matches(&[("a", text(""))], &[("a", AMQPValue::Void)]));
    }

    #[test]
    fn values_are_compared_by_number_and_bytes_not_by_width() {
        assert!(matches(
            &[("a", AMQPValue::ShortShortInt(5))],
            &[("a", AMQPValue::LongLongInt(5))]
        ));
        assert!(matches(
            &[("a", AMQPValue::Float(0.5))],
            &[("a", AMQPValue::Double(0.5))]
        ));
        assert!(matches(
            &[("a", text("x"))],
            &[("a", AMQPValue::ByteArray(b"x".to_vec().into()))]
        ));
        assert!(matches(
            &[("a", AMQPValue::Timestamp(5))],
            &[("a", AMQPValue::LongInt(5))]
        ));
        assert!(!matches(
            &[("a", AMQPValue::Timestamp(u64::MAX))],
            &[("a", AMQPValue::LongInt(-1))]
        ));
        assert!(!matches(
            &[("a", AMQPValue::LongInt(1))],
            &[("a", AMQPValue::Double(1.0))]
        ));
        assert!(!matches(
            &[("a", AMQPValue::LongInt(5))],
            &[("a", text("5"))]
        ));
        assert!(!matches(
            &[("a", AMQPValue::Boolean(true))],
            &[("a", text("true"))]
        ));
    }

    /// The texts were read from a running RabbitMQ.
    #[test]
    fn other_ways_of_matching_are_refused() {
        let refused = |value| {
            validate_match(&table(&[("x-match", value)]))
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            refused(text("bad")),
            "Invalid x-match field value <<\"bad\">>; expected all, any, all-with-x, or any-with-x"
        );
        assert_eq!(
            refused(AMQPValue::LongInt(5)),
            "Invalid x-match field type signedint (value 5); expected longstr"
        );
        assert_eq!(
            refused(AMQPValue::Void),
            "Invalid x-match field type void (value undefined); expected longstr"
        );
        assert_eq!(validate_match(&FieldTable::default()), Ok(()));
    }

    /// RabbitMQ's algorithm: walk the sorted arguments and keep two flags.
    fn model(arguments: &FieldTable, headers: &FieldTable) -> bool {
        let how = arguments
            .inner()
            .get(X_MATCH)
            .map_or_else(|| "all".to_owned(), |how| term::Plain(how).to_string());
        let (mut all, mut any) = (true, false);
        for (key, wanted) in arguments.inner() {
            if key.as_str() == X_MATCH
                || (!how.ends_with("-with-x") && key.as_str().starts_with("x-"))
            {
                continue;
            }
            let found = headers.inner().get(key.as_str());
            let result = match (wanted, found) {
                (AMQPValue::Void, Some(_)) => true,
                (_, None) => false,
                (wanted, Some(found)) => wanted == found,
            };
            all &= result;
            any |= result;
        }
        if how.starts_with("all") { all } else { any }
    }

    fn entries() -> impl Strategy<Value = FieldTable> {
        let key = prop::sample::select(vec!["a", "b", "x-a", "x-b", "x-"]);
        let value = prop::sample::select(vec![
            text("1"),
            text("2"),
            AMQPValue::Boolean(true),
            AMQPValue::Void,
        ]);
        prop::collection::vec((key, value), 0..5).prop_map(|entries| table(&entries))
    }

    proptest! {
        #[test]
        fn matches_as_rabbitmqs_algorithm_does(
            mut arguments in entries(),
            headers in entries(),
            how in prop::sample::select(vec!["all", "any", "all-with-x", "any-with-x", ""]),
        ) {
            if !how.is_empty() {
                arguments.insert(X_MATCH.into(), text(how));
            }
            prop_assert_eq!(Pattern::new(&arguments).matches(&headers), model(&arguments, &headers));
        }
    }
}
