//! Policy against argument.

use std::collections::BTreeMap;
use std::sync::Arc;

use amq_protocol::types::{AMQPValue, FieldTable};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::tests::policy;
use super::super::{Applied, Effective};
use super::*;
use crate::broker::names::Resource;

fn effective(definition: Value) -> Effective {
    let applied = Applied {
        policy: Some(Arc::new(policy("p", 0, "", definition))),
        operator_policy: None,
    };
    applied.effective()
}

fn arguments(entries: &[(&'static str, AMQPValue)]) -> QueueArguments {
    let entries: BTreeMap<_, _> = entries
        .iter()
        .map(|(key, value)| ((*key).into(), value.clone()))
        .collect();
    let table: FieldTable = entries.into();
    QueueArguments::new(&Resource::queue(&"/".into(), "q"), &table).unwrap()
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

fn number(value: i64) -> AMQPValue {
    AMQPValue::LongLongInt(value)
}

#[test]
fn of_numbers_the_smaller_one_holds() {
    let declared = arguments(&[("x-max-length", number(5)), ("x-message-ttl", number(50))]);
    let policies = effective(json!({"max-length": 9, "message-ttl": 7, "expires": 3}));
    let settings = queue_settings(&declared, &policies);
    assert_eq!(settings.max_length, Some(5));
    assert_eq!(settings.message_ttl_ms, Some(7));
    assert_eq!(settings.expires_ms, Some(3));
    assert_eq!(settings.max_length_bytes, None);
}

#[test]
fn rates_are_numbers_like_others() {
    let declared = arguments(&[
        ("x-max-publish-rate", number(5)),
        ("x-max-consume-rate", number(50)),
    ]);
    let policies = effective(
        json!({"max-publish-rate": 9, "max-consume-rate": 7, "max-publish-bytes-rate": 3}),
    );
    let rates = queue_settings(&declared, &policies).rates;
    assert_eq!(rates.max_publish_rate, Some(5));
    assert_eq!(rates.max_publish_bytes_rate, Some(3));
    assert_eq!(rates.max_consume_rate, Some(7));
}

#[test]
fn where_messages_go_is_the_arguments_business() {
    let policies = effective(json!({
        "dead-letter-exchange": "of the policy", "dead-letter-routing-key": "k", "overflow": "reject-publish",
    }));
    let settings = queue_settings(&arguments(&[]), &policies);
    let dead_letter = settings.dead_letter.unwrap();
    assert_eq!(&*dead_letter.exchange, "of the policy");
    assert_eq!(settings.overflow, Overflow::RejectPublish);
    let declared = arguments(&[
        ("x-dead-letter-exchange", text("mine")),
        ("x-overflow", text("drop-head")),
    ]);
    let settings = queue_settings(&declared, &policies);
    let dead_letter = settings.dead_letter.unwrap();
    assert_eq!(&*dead_letter.exchange, "mine");
    assert_eq!(dead_letter.routing_key.as_deref(), Some("k"));
    assert_eq!(settings.overflow, Overflow::DropHead);
}

#[test]
fn in_a_quorum_queue_the_overflow_behaviour_is_the_policys() {
    let declared = arguments(&[
        ("x-queue-type", text("quorum")),
        ("x-overflow", text("reject-publish")),
    ]);
    for (policy, expected) in [
        ("drop-head", Overflow::DropHead),
        ("reject-publish", Overflow::RejectPublish),
        ("reject-publish-dlx", Overflow::DropHead),
    ] {
        let settings = queue_settings(&declared, &effective(json!({"overflow": policy})));
        assert_eq!(settings.overflow, expected, "{policy}");
    }
}

#[test]
fn the_choice_of_a_consumer_is_the_arguments_or_the_policys() {
    let choice = |declared: &[(&'static str, AMQPValue)], policy| {
        queue_settings(&arguments(declared), &effective(policy)).consumer_choice
    };
    let turns = [("x-consumer-choice", text("round-robin"))];
    let least = [("x-consumer-choice", text("least-loaded"))];
    let policy = || json!({"consumer-choice": "least-loaded"});
    let other = || json!({"max-length": 5});
    assert_eq!(choice(&[], other()), ConsumerChoice::RoundRobin);
    assert_eq!(choice(&[], policy()), ConsumerChoice::LeastLoaded);
    assert_eq!(choice(&turns, policy()), ConsumerChoice::RoundRobin);
    assert_eq!(choice(&least, other()), ConsumerChoice::LeastLoaded);
}

#[test]
fn a_delivery_limit_can_be_raised_lowered_and_lifted() {
    let limit = |argument: Option<i64>, policy: i64| {
        let mut entries = vec![("x-queue-type", text("quorum"))];
        entries.extend(argument.map(|limit| ("x-delivery-limit", number(limit))));
        queue_settings(
            &arguments(&entries),
            &effective(json!({"delivery-limit": policy})),
        )
        .delivery_limit
    };
    assert_eq!(limit(None, 50), Some(50), "the default does not count");
    assert_eq!(limit(None, -1), None);
    assert_eq!(limit(Some(5), 50), Some(5));
    assert_eq!(limit(Some(50), 5), Some(5));
    assert_eq!(limit(Some(-1), 5), Some(5));
    assert_eq!(limit(Some(5), -1), Some(5));
}

#[test]
fn retries_can_be_set_and_shortened() {
    let policies = effective(json!({
        "delayed-retry-type": "failed", "delayed-retry-min": 100, "delayed-retry-max": 900,
    }));
    let settings = queue_settings(&arguments(&[]), &policies);
    let retry = settings.retry.unwrap();
    assert!(retry.failed && !retry.returned && settings.counts_deliveries);
    assert_eq!((retry.min_ms, retry.max_ms), (100, 900));
    let declared = arguments(&[
        ("x-delayed-retry-type", text("all")),
        ("x-delayed-retry-min", number(50)),
        ("x-delayed-retry-max", number(5000)),
    ]);
    let retry = queue_settings(&declared, &policies).retry.unwrap();
    assert!(retry.failed && retry.returned);
    assert_eq!((retry.min_ms, retry.max_ms), (50, 900));
}

#[test]
fn times_are_bounded() {
    let settings = queue_settings(
        &arguments(&[]),
        &effective(json!({"message-ttl": u64::MAX})),
    );
    assert_eq!(settings.message_ttl_ms, Some(EXPIRY_MS_MAX));
}

proptest! {
    /// A number that both give is never more than either of them, and one that only one gives is that.
    #[test]
    fn numbers_are_the_minimum(argument in prop::option::of(0..100_i64), policy in prop::option::of(0..100_u64)) {
        let entries: Vec<_> = argument.map(|value| ("x-max-length", number(value))).into_iter().collect();
        let definition = match policy {
            Some(value) => json!({"max-length": value}),
            None => json!({"queue-version": 2}),
        };
        let settings = queue_settings(&arguments(&entries), &effective(definition));
        let given = argument.map(|value| value as u64).into_iter().chain(policy);
        prop_assert_eq!(settings.max_length, given.min());
    }
}
