use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::broker::arguments::Arguments;
use crate::broker::exchange::{Exchange, ExchangeSpec};
use crate::message::record::{Body, NewMessage};
use crate::random::SystemRandom;

fn exchange(name: &str) -> Arc<Exchange> {
    Arc::new(Exchange::new(ExchangeSpec {
        name: name.into(),
        kind: ExchangeType::from_name("fanout").unwrap(),
        durable: false,
        auto_delete: false,
        internal: false,
        arguments: Arguments::default(),
        alternate: None,
        delays_id: None,
    }))
}

fn binding(destination: &Arc<Exchange>, weight: &str) -> Binding {
    Binding {
        source: "x".into(),
        destination: Destination::Exchange(destination.clone()),
        routing_key: weight.into(),
        arguments: Arguments::default(),
    }
}

fn arguments(entries: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert((*name).into(), value.clone());
    }
    table
}

fn route(table: &dyn RoutingTable, routing_keys: &[&str], properties: &[u8]) -> Vec<String> {
    let message = NewMessage {
        exchange: b"x",
        routing_key: b"",
        properties,
        annotations: &[],
        body: Body::Inline(b""),
        persistent: false,
        priority: 0,
        expiry_ms: 0,
    };
    let mut found = Vec::new();
    let mut message = Message::new(routing_keys, &message, &SystemRandom);
    table.route(&mut message, &mut |destination| {
        found.push(destination.name().to_string());
    });
    found
}

fn table(bindings: &[(&Arc<Exchange>, &str)]) -> Box<dyn RoutingTable> {
    let mut table = (TYPE.table)(&FieldTable::default());
    for (destination, weight) in bindings {
        table.add(&binding(destination, weight));
    }
    table
}

/// Where each of 4,000 keys goes.
fn spread(table: &dyn RoutingTable) -> Vec<String> {
    let keys = (0..4_000).map(|number| format!("key-{number}"));
    keys.map(|key| route(table, &[&key], &[0, 0]).concat())
        .collect()
}

fn counts(spread: &[String]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for name in spread {
        *counts.entry(&**name).or_default() += 1;
    }
    counts
}

#[test]
fn shares_follow_the_weights() {
    let (a, b, c) = (exchange("a"), exchange("b"), exchange("c"));
    let table = table(&[(&a, "1"), (&b, "2"), (&c, "1")]);
    let spread = spread(&*table);
    let counts = counts(&spread);
    // Six standard deviations of a fair draw on either side; the hash is fixed, so that this never wavers.
    for (name, expected) in [("a", 1_000), ("b", 2_000), ("c", 1_000)] {
        assert!(counts[name].abs_diff(expected) < 190, "{counts:?}");
    }
}

#[test]
fn a_key_stays_where_it_is_unless_its_destination_goes() {
    let (a, b, c, d) = (exchange("a"), exchange("b"), exchange("c"), exchange("d"));
    let mut table = table(&[(&a, "1"), (&b, "1"), (&c, "1")]);
    let before = spread(&*table);
    table.add(&binding(&d, "1"));
    let with_d = spread(&*table);
    for (before, after) in before.iter().zip(&with_d) {
        assert!(before == after || after == "d", "{before} became {after}");
    }
    assert!(counts(&with_d)["d"] > 0);
    table.remove(&binding(&d, "1"));
    assert_eq!(spread(&*table), before);
    table.remove(&binding(&b, "1"));
    for (before, after) in before.iter().zip(&spread(&*table)) {
        assert!(before == after || before == "b", "{before} became {after}");
        assert_ne!(after, "b");
    }
}

#[test]
fn the_order_of_bindings_makes_no_difference() {
    let (a, b, c) = (exchange("a"), exchange("b"), exchange("c"));
    let one = table(&[(&a, "1"), (&b, "2"), (&c, "3")]);
    // Other objects of the same names, as after a restart.
    let (a, b, c) = (exchange("a"), exchange("b"), exchange("c"));
    let other = table(&[(&c, "3"), (&b, "1"), (&a, "1"), (&b, "01")]);
    assert_eq!(spread(&*one), spread(&*other));
}

#[test]
fn without_bindings_there_is_no_way() {
    let a = exchange("a");
    let mut table = table(&[(&a, "5")]);
    table.remove(&binding(&a, "5"));
    assert!(route(&*table, &["k"], &[0, 0]).is_empty());
}

#[test]
fn further_keys_do_not_count() {
    let (a, b) = (exchange("a"), exchange("b"));
    let table = table(&[(&a, "1"), (&b, "1")]);
    for number in 0..100 {
        let further = format!("cc-{number}");
        assert_eq!(
            route(&*table, &["k", &further], &[0, 0]),
            route(&*table, &["k"], &[0, 0])
        );
    }
}

#[test]
fn a_header_or_a_property_decides_if_it_was_declared_so() {
    let (a, b) = (exchange("a"), exchange("b"));
    let message_id = |number: u32| {
        let text = number.to_string();
        let mut properties = vec![0, 0x80, text.len() as u8];
        properties.extend_from_slice(text.as_bytes());
        properties
    };
    let header = |number: u32| {
        let mut properties = vec![0x20, 0, 0, 0, 0, 7, 1, b'h', b'I'];
        properties.extend_from_slice(&number.to_be_bytes());
        properties
    };
    let by = |name: &str, value: &str| {
        let arguments = arguments(&[(name, AMQPValue::LongString(value.into()))]);
        let mut table = (TYPE.table)(&arguments);
        table.add(&binding(&a, "1"));
        table.add(&binding(&b, "1"));
        table
    };
    let check = |table: &dyn RoutingTable, properties: &dyn Fn(u32) -> Vec<u8>| {
        let ways: Vec<_> = (0..200)
            .map(|number| route(table, &["k"], &properties(number)).concat())
            .collect();
        let counts = counts(&ways);
        assert!(counts["a"] > 60 && counts["b"] > 60, "{counts:?}");
        // Messages without it all go one way.
        let missing: Vec<_> = (0..50)
            .map(|number| route(table, &[&number.to_string()], &[0, 0]).concat())
            .collect();
        assert_eq!(counts_of_one(&missing), 50);
    };
    check(&*by("hash-property", "message_id"), &message_id);
    check(&*by("hash-header", "h"), &header);
}

fn counts_of_one(ways: &[String]) -> usize {
    let counts = counts(ways);
    assert_eq!(counts.len(), 1, "{counts:?}");
    counts.values().sum()
}

#[test]
fn weights_are_numbers_from_one() {
    for key in ["1", "+2", "007", "99999999999999999999999999"] {
        assert!(weight(key).is_ok(), "{key}");
    }
    let refused = |key| weight(key).unwrap_err().to_string();
    for key in ["0", "-1", "-0"] {
        assert_eq!(refused(key), "The binding key must be greater than 0");
    }
    for key in ["abc", "1.5", " 1", "a\"b"] {
        let expected = format!("The binding key must be an integer: <<{key:?}>>");
        assert_eq!(refused(key), expected);
    }
    assert_eq!(refused(""), "The binding key must be an integer: <<>>");
}

#[test]
fn arguments_that_contradict_are_refused() {
    let text = |text: &str| AMQPValue::LongString(text.into());
    let refused = |entries: &[(&str, AMQPValue)]| {
        (TYPE.validate)(&arguments(entries))
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refused(&[
            ("hash-header", text("a")),
            ("hash-property", text("timestamp"))
        ]),
        "hash-header and hash-property are mutually exclusive"
    );
    assert_eq!(
        refused(&[("hash-property", text("user_id"))]),
        "Unsupported property: user_id"
    );
    assert_eq!(
        refused(&[("hash-header", AMQPValue::LongInt(5))]),
        "hash-header must be a string, not signedint"
    );
    for property in ["correlation_id", "message_id", "timestamp"] {
        let table = arguments(&[("hash-property", text(property))]);
        assert_eq!((TYPE.validate)(&table), Ok(()));
    }
}
