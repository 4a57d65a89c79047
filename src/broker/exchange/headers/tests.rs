use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::value::are_equal;
use super::*;
use crate::broker::exchange::{Exchange, ExchangeSpec};

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

fn destination(name: &str) -> Destination {
    Destination::Exchange(Arc::new(Exchange::new(ExchangeSpec {
        name: name.into(),
        kind: ExchangeType::from_name("fanout").unwrap(),
        durable: false,
        auto_delete: false,
        internal: false,
        arguments: Arguments::default(),
        alternate: None,
        delays_id: None,
    })))
}

fn binding(arguments: &FieldTable, destination: &Destination) -> Binding {
    Binding {
        source: "source".into(),
        destination: destination.clone(),
        routing_key: "".into(),
        arguments: Arguments::new(arguments),
    }
}

/// The names of the destinations of the bindings that `headers` match, each once.
fn matching(exchange: &Headers, headers: &FieldTable) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    exchange.conditions.matching(headers, &mut |destination| {
        found.insert(destination.name().to_string());
    });
    found
}

fn matches(arguments: &[(&str, AMQPValue)], headers: &[(&str, AMQPValue)]) -> bool {
    let binding = binding(&table(arguments), &destination("d"));
    let mut exchange = Headers::default();
    exchange.add(&binding);
    let matches = !matching(&exchange, &table(headers)).is_empty();
    exchange.remove(&binding);
    assert!(exchange.conditions.is_empty(), "something is left over");
    matches
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
        if key.as_str() == X_MATCH || (!how.ends_with("-with-x") && key.as_str().starts_with("x-"))
        {
            continue;
        }
        let found = headers.inner().get(key.as_str());
        let result = match (wanted, found) {
            (AMQPValue::Void, Some(_)) => true,
            (_, None) => false,
            (wanted, Some(found)) => are_equal(wanted, found),
        };
        all &= result;
        any |= result;
    }
    if how.starts_with("all") { all } else { any }
}

fn entries() -> impl Strategy<Value = FieldTable> {
    let key = prop::sample::select(vec!["a", "b", "c", "x-a", "x-b", "x-"]);
    prop::collection::vec((key, prop::sample::select(values())), 0..5)
        .prop_map(|entries| table(&entries))
}

/// Several that are equal and of different types, and one that equals nothing.
fn values() -> Vec<AMQPValue> {
    let list = |number: f32| AMQPValue::FieldArray(vec![AMQPValue::Float(number)].into());
    vec![
        text("1"),
        AMQPValue::ByteArray(b"1".to_vec().into()),
        text(""),
        AMQPValue::Boolean(true),
        AMQPValue::ShortShortInt(-1),
        AMQPValue::LongLongInt(-1),
        AMQPValue::LongUInt(1),
        AMQPValue::Timestamp(1),
        AMQPValue::Double(1.0),
        AMQPValue::Float(1.0),
        AMQPValue::Double(-0.0),
        AMQPValue::Float(0.0),
        AMQPValue::Double(f64::NAN),
        list(0.0),
        list(-0.0),
        AMQPValue::FieldTable(table(&[("a", text("1"))])),
        AMQPValue::FieldTable(FieldTable::default()),
        AMQPValue::Void,
    ]
}

fn arguments() -> impl Strategy<Value = FieldTable> {
    let how = prop::sample::select(vec!["all", "any", "all-with-x", "any-with-x", ""]);
    (entries(), how).prop_map(|(mut arguments, how)| {
        if !how.is_empty() {
            arguments.insert(X_MATCH.into(), text(how));
        }
        arguments
    })
}

#[test]
fn equal_values_hash_alike() {
    let seed = hashbrown::DefaultHashBuilder::default();
    let hash = |value: &AMQPValue| {
        let mut state = std::hash::BuildHasher::build_hasher(&seed);
        value::hash(value, &mut state);
        std::hash::Hasher::finish(&state)
    };
    for left in &values() {
        for right in &values() {
            if are_equal(left, right) {
                assert_eq!(hash(left), hash(right), "{left:?} and {right:?}");
            }
        }
    }
}

#[test]
fn a_message_is_compared_with_few_of_very_many_bindings() {
    // Each value of `a` and of `b` is that of many bindings: neither alone says which are meant.
    let mut exchange = Headers::default();
    let pairs = (0..100).flat_map(|a| (0..100).map(move |b| (a, b)));
    let arguments = |(a, b)| table(&[("a", AMQPValue::LongInt(a)), ("b", AMQPValue::LongInt(b))]);
    for (a, b) in pairs {
        exchange.add(&binding(
            &arguments((a, b)),
            &destination(&format!("{a}/{b}")),
        ));
    }
    assert_eq!(exchange.conditions.shapes_of(&arguments((5, 7))), 1);
    let found = matching(&exchange, &arguments((5, 7)));
    assert_eq!(found, BTreeSet::from(["5/7".to_owned()]));
}

proptest! {
    #[test]
    fn finds_what_rabbitmqs_algorithm_finds(
        steps in prop::collection::vec((any::<bool>(), arguments(), 0..3usize), 0..40),
        messages in prop::collection::vec(entries(), 1..10),
    ) {
        let destinations = ["d0", "d1", "d2"].map(destination);
        let mut exchange = Headers::default();
        let mut bound: BTreeMap<(Arguments, usize), FieldTable> = BTreeMap::new();
        for (add, arguments, to) in steps {
            let binding = binding(&arguments, &destinations[to]);
            let key = (binding.arguments.clone(), to);
            if add && bound.insert(key.clone(), arguments).is_none() {
                exchange.add(&binding);
            } else if !add && bound.remove(&key).is_some() {
                exchange.remove(&binding);
            }
        }
        for headers in &messages {
            let taken = bound.iter().filter(|(_, arguments)| model(arguments, headers));
            let expected: BTreeSet<_> = taken.map(|((_, to), _)| format!("d{to}")).collect();
            prop_assert_eq!(matching(&exchange, headers), expected, "{:?}", headers);
        }
        for ((_, to), arguments) in &bound {
            exchange.remove(&binding(arguments, &destinations[*to]));
        }
        prop_assert!(exchange.conditions.is_empty());
    }
}
