//! What is accepted, what is refused in which words, and which policy holds.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

const CLASSIC: Target = Target::Queue(QueueType::Classic);
const QUORUM: Target = Target::Queue(QueueType::Quorum);
const STREAM: Target = Target::Queue(QueueType::Stream);

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other}"),
    }
}

fn parse(kind: PolicyKind, source: Value) -> Result<Policy, ValidationFailed> {
    Policy::parse(kind, "p", &object(source))
}

fn refusal(kind: PolicyKind, source: Value) -> String {
    parse(kind, source).unwrap_err().0.join("; ")
}

pub(super) fn policy(name: &str, priority: i64, pattern: &str, definition: Value) -> Policy {
    let source = json!({"pattern": pattern, "definition": definition, "priority": priority});
    Policy::parse(PolicyKind::User, name, &object(source)).unwrap()
}

fn with_definition(definition: Value) -> Value {
    json!({"pattern": "^q", "definition": definition})
}

#[test]
fn definitions_are_refused_in_rabbitmqs_words() {
    let cases = [
        (
            json!({"foo": 1}),
            "[{<<\"foo\">>,1}] are not recognised policy settings",
        ),
        (
            json!({"message-ttl": "a"}),
            "<<\"a\">> is not a valid message TTL",
        ),
        (
            json!({"max-length": -1}),
            "-1 is not a valid maximum length",
        ),
        (
            json!({"overflow": "x"}),
            "<<\"x\">> is not a valid overflow value",
        ),
        (json!({}), "no policy provided"),
        (json!({"expires": 0}), "0 is not a valid queue expiry"),
        (json!({"expires": 1.5}), "1.5 is not a valid queue expiry"),
        (
            json!({"dead-letter-routing-key": ["a", true, null]}),
            "[<<\"a\">>,true,null] is not a valid dead letter routing key",
        ),
        (
            json!({"dead-letter-routing-key": "k".repeat(256)}),
            &format!(
                "<<\"{}\">> is not a valid dead letter routing key",
                "k".repeat(256)
            ),
        ),
        (
            json!({"alternate-exchange": {"a": 1}}),
            "#{<<\"a\">> => 1} is not a valid alternate exchange name",
        ),
        (
            json!({"queue-mode": "x"}),
            "<<\"x\">> is not a valid queue-mode value",
        ),
        // The first by name, and known keys before unknown ones.
        (
            json!({"max-length": "a", "expires": "b"}),
            "<<\"b\">> is not a valid queue expiry",
        ),
        (
            json!({"foo": 1, "max-length": "a"}),
            "<<\"a\">> is not a valid maximum length",
        ),
        (
            json!({"message-ttl": 1, "foo": "b", "bar": {"x": [1, 2]}}),
            "[{<<\"bar\">>,#{<<\"x\">> => [1,2]}},{<<\"foo\">>,<<\"b\">>}] are not recognised policy settings",
        ),
        (
            json!({"max-age": "5x"}),
            "<<\"5x\">> is not a valid max age",
        ),
    ];
    for (definition, text) in cases {
        assert_eq!(refusal(PolicyKind::User, with_definition(definition)), text);
    }
}

#[test]
fn operator_policies_have_fewer_keys() {
    let definition = || with_definition(json!({"dead-letter-exchange": "x"}));
    assert!(parse(PolicyKind::User, definition()).is_ok());
    assert_eq!(
        refusal(PolicyKind::Operator, definition()),
        "[{<<\"dead-letter-exchange\">>,<<\"x\">>}] are not recognised policy settings"
    );
    for key in [
        "expires",
        "message-ttl",
        "max-length",
        "max-length-bytes",
        "delivery-limit",
    ] {
        assert!(
            parse(PolicyKind::Operator, with_definition(json!({key: 5}))).is_ok(),
            "{key}"
        );
    }
}

#[test]
fn all_faults_are_reported_the_last_check_first() {
    let source = json!({
        "pattern": 5, "definition": {"max-length": "a"}, "priority": "x", "apply-to": "foo",
    });
    let text = "<<\"a\">> is not a valid maximum length; apply-to 'foo' unrecognised; should be one of: 'queues', \
                'classic_queues',  'quorum_queues', 'streams', 'exchanges', or 'all'; pattern should be a binary but \
                was 5; priority should be a number, actually was <<\"x\">>";
    assert_eq!(refusal(PolicyKind::User, source), text);
    let error = parse(PolicyKind::User, with_definition(json!({}))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Validation failed\n\nno policy provided\n"
    );
    assert_eq!(
        refusal(PolicyKind::User, json!({"vhost": "/"})),
        "Unrecognised terms [{<<\"vhost\">>,<<\"/\">>}] in p; Key \"definition\" not found in p; Key \"pattern\" not \
         found in p"
    );
}

#[test]
fn a_pattern_that_is_none_is_refused() {
    let text = refusal(
        PolicyKind::User,
        json!({"pattern": "(", "definition": {"expires": 1}}),
    );
    let expected = "pattern should be regular expression but is invalid: ";
    assert!(text.starts_with(expected), "{text}");
}

#[test]
fn what_was_set_can_be_read_again() {
    let source = json!({
        "pattern": "^a", "definition": {"max-length": 5}, "priority": 1.5, "apply-to": "streams",
    });
    let policy = parse(PolicyKind::User, source.clone()).unwrap();
    assert_eq!(policy.to_json(), source);
}

#[test]
fn patterns_are_unanchored_and_the_empty_one_matches_all() {
    for (pattern, name, matches) in [
        ("b", "abc", true),
        ("^b", "abc", false),
        ("", "abc", true),
        ("^(?!amq\\.).*", "amq.gen-1", false),
    ] {
        let policy = policy("p", 0, pattern, json!({"expires": 1}));
        assert_eq!(policy.matches(CLASSIC, name), matches, "{pattern} {name}");
    }
}

#[test]
fn apply_to_chooses_by_type() {
    for (apply_to, targets) in [
        ("all", [true, true, true, true]),
        ("queues", [true, true, true, false]),
        ("classic_queues", [true, false, false, false]),
        ("quorum_queues", [false, true, false, false]),
        ("streams", [false, false, true, false]),
        ("exchanges", [false, false, false, true]),
    ] {
        let source =
            json!({"pattern": "", "definition": {"max-length-bytes": 1}, "apply-to": apply_to});
        let policy = parse(PolicyKind::User, source).unwrap();
        let found =
            [CLASSIC, QUORUM, STREAM, Target::Exchange].map(|target| policy.matches(target, "x"));
        assert_eq!(found, targets, "{apply_to}");
    }
}

/// The table is what RabbitMQ 3.10.8 answers for policies that apply to all.
#[test]
fn a_policy_with_a_key_of_another_type_holds_for_none_of_the_queues() {
    let (yes, no) = (true, false);
    for (key, value, matches) in [
        ("alternate-exchange", json!("x"), [yes, yes, yes]),
        ("dead-letter-exchange", json!("x"), [yes, yes, no]),
        (
            "dead-letter-strategy",
            json!("at-least-once"),
            [no, yes, no],
        ),
        ("message-ttl", json!(5), [yes, yes, no]),
        ("expires", json!(5), [yes, yes, no]),
        ("max-length", json!(5), [yes, yes, no]),
        ("max-length-bytes", json!(5), [yes, yes, yes]),
        ("max-in-memory-length", json!(5), [yes, yes, no]),
        ("queue-mode", json!("lazy"), [yes, no, no]),
        ("queue-version", json!(2), [yes, yes, yes]),
        ("overflow", json!("reject-publish"), [yes, yes, no]),
        ("delivery-limit", json!(5), [no, yes, no]),
        ("max-age", json!("5D"), [no, no, yes]),
        ("stream-max-segment-size-bytes", json!(500), [no, no, yes]),
        (
            "queue-leader-locator",
            json!("client-local"),
            [no, yes, yes],
        ),
        ("initial-cluster-size", json!(1), [no, no, yes]),
        ("ha-mode", json!("all"), [yes, no, no]),
        ("queue-master-locator", json!("min-masters"), [yes, no, no]),
    ] {
        let policy = policy("p", 0, "", json!({key: value, "queue-version": 2}));
        let found = [CLASSIC, QUORUM, STREAM].map(|target| policy.matches(target, "q"));
        assert_eq!(found, matches, "{key}");
        assert!(policy.matches(Target::Exchange, "x"), "{key}");
    }
}

#[test]
fn a_policy_for_classic_queues_alone_may_limit_deliveries() {
    let source =
        json!({"pattern": "", "definition": {"delivery-limit": 5}, "apply-to": "classic_queues"});
    let policy = parse(PolicyKind::User, source).unwrap();
    assert!(policy.matches(CLASSIC, "q") && !policy.matches(QUORUM, "q"));
}

#[test]
fn the_highest_priority_wins_as_a_whole() {
    let mut policies = Policies::default();
    for (name, priority, definition) in [
        ("low", 1, json!({"max-length": 1, "expires": 9})),
        ("high", 5, json!({"max-length": 2})),
        ("quorum", 9, json!({"delivery-limit": 3})),
    ] {
        policies.set(PolicyKind::User, policy(name, priority, "^q", definition));
    }
    let effective = |policies: &Policies, target| policies.applied(target, "q").effective();
    assert_eq!(
        json!(effective(&policies, CLASSIC).as_map()),
        json!({"max-length": 2})
    );
    assert_eq!(
        json!(effective(&policies, QUORUM).as_map()),
        json!({"delivery-limit": 3})
    );
    assert!(policies.remove(PolicyKind::User, "high"));
    assert!(!policies.remove(PolicyKind::User, "high"));
    let expected = json!({"max-length": 1, "expires": 9});
    assert_eq!(json!(effective(&policies, CLASSIC).as_map()), expected);
    assert!(policies.applied(CLASSIC, "other").policy.is_none());
}

#[test]
fn an_operator_policy_merges() {
    let mut policies = Policies::default();
    let users = json!({
        "max-length": 10, "message-ttl": 7, "overflow": "drop-head", "delivery-limit": -1, "expires": 3,
    });
    let operators = json!({
        "max-length": 4, "message-ttl": 9, "overflow": "reject-publish", "delivery-limit": 5, "max-length-bytes": 1,
    });
    policies.set(PolicyKind::User, policy("p", 0, "", users));
    policies.set(PolicyKind::Operator, policy("o", 0, "", operators));
    let expected = json!({
        "delivery-limit": 5, "expires": 3, "max-length": 4, "max-length-bytes": 1, "message-ttl": 7,
        "overflow": "reject-publish",
    });
    assert_eq!(
        json!(policies.applied(QUORUM, "q").effective().as_map()),
        expected
    );
}

proptest! {
    /// Whatever comes and goes in which order, the policy that holds is the first of those that match, by priority and
    /// then by name.
    #[test]
    fn the_policy_that_holds_depends_on_the_set_alone(
        changes in prop::collection::vec((0..6_usize, -2..3_i64, 0..4_usize, any::<bool>()), 0..40),
    ) {
        let patterns = ["", "^a", "b", "^ab$"];
        let mut policies = Policies::default();
        let mut model = std::collections::BTreeMap::new();
        for (name, priority, pattern, set) in changes {
            let name = format!("p{name}");
            if set {
                policies.set(PolicyKind::User, policy(&name, priority, patterns[pattern], json!({"expires": 1})));
                model.insert(name, (priority, patterns[pattern]));
            } else {
                prop_assert_eq!(policies.remove(PolicyKind::User, &name), model.remove(&name).is_some());
            }
        }
        for target in ["a", "ab", "c"] {
            let matches = |pattern: &str| match pattern {
                "^a" => target.starts_with('a'),
                "b" => target.contains('b'),
                "^ab$" => target == "ab",
                _ => true,
            };
            let best = model
                .iter()
                .filter(|(_, (_, pattern))| matches(pattern))
                .min_by_key(|(name, (priority, _))| (-priority, (*name).clone()));
            let found = policies.applied(CLASSIC, target).policy;
            prop_assert_eq!(found.map(|policy| policy.name.to_string()), best.map(|(name, _)| name.clone()));
        }
    }
}
