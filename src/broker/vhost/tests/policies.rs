use serde_json::{Value, json};

use super::*;
use crate::broker::policy::Policy;

fn policy(name: &str, priority: i64, pattern: &str, definition: &Value) -> Policy {
    let source = json!({"pattern": pattern, "definition": definition, "priority": priority});
    Policy::parse(PolicyKind::User, name, source.as_object().unwrap()).unwrap()
}

fn publish(fixture: &Fixture, queue: &Arc<Queue>, count: usize) {
    let one = message("", &queue.spec.name);
    for batch in vec![one; count].chunks(256) {
        fixture.visit(|_, visit| drop(queue.publish(visit, batch.iter())));
    }
}

#[test]
fn a_policy_holds_for_what_is_there_and_for_what_comes() {
    let fixture = Fixture::new();
    let before = fixture.queue("q1");
    let other = fixture.queue("other");
    let set = |name, priority, definition: Value| {
        let policy = policy(name, priority, "^q", &definition);
        fixture.vhost.set_policy(PolicyKind::User, policy).unwrap();
    };
    set("p", 0, json!({"max-length": 5}));
    let after = fixture.queue("q2");
    for queue in [&before, &after] {
        assert_eq!(queue.settings().max_length, Some(5));
        let applied = fixture.vhost.policies_of_queue(queue);
        assert_eq!(&*applied.policy.unwrap().name, "p");
    }
    assert_eq!(other.settings().max_length, None);
    set("p2", 1, json!({"message-ttl": 7}));
    assert_eq!(before.settings().max_length, None, "they are not merged");
    assert_eq!(before.settings().message_ttl_ms, Some(7));
    fixture.vhost.delete_policy(PolicyKind::User, "p2").unwrap();
    assert_eq!(before.settings().max_length, Some(5));
    refused(
        fixture.vhost.delete_policy(PolicyKind::User, "p2"),
        "policy 'p2' in vhost '/' does not exist",
    );
    refused(
        fixture.vhost.delete_policy(PolicyKind::Operator, "p"),
        "operator policy 'p' in vhost '/' does not exist",
    );
}

/// Semantics row 83; more messages than one visit handles.
#[test]
fn shrinking_the_length_drops_at_once() {
    let fixture = Fixture::new();
    let queue = fixture.queue("q");
    publish(&fixture, &queue, 2000);
    let shrunk = policy("p", 0, "", &json!({"max-length": 3}));
    fixture.vhost.set_policy(PolicyKind::User, shrunk).unwrap();
    assert_eq!(queue.counts().ready, 3);
}

#[test]
fn a_policy_removes_segments_of_a_stream_at_once() {
    let fixture = Fixture::new();
    let mut stream = QueueDeclare {
        durable: true,
        ..transient("s")
    };
    stream.arguments = table(&[
        ("x-queue-type", text("stream")),
        ("x-stream-max-segment-size-bytes", AMQPValue::LongInt(1)),
    ]);
    fixture.declare(stream).unwrap();
    let queue = fixture.vhost.queue("s").unwrap();
    publish(&fixture, &queue, 20);
    assert_eq!(queue.counts().ready, 20);
    let limited = policy("p", 0, "", &json!({"max-length-bytes": 0}));
    fixture.vhost.set_policy(PolicyKind::User, limited).unwrap();
    assert_eq!(queue.counts().ready, 1, "never the latest segment");
}

#[test]
fn an_alternate_exchange_by_policy_takes_what_nothing_matched() {
    let fixture = Fixture::new();
    fixture.queue("q");
    fixture.bind("q", "amq.fanout", "").unwrap();
    let exchange = fixture.exchange("x", "direct");
    let route = fixture.route("x", "k");
    assert!(route.queues.is_empty() && route.is_current());
    let definition = json!({"alternate-exchange": "amq.fanout"});
    let with_alternate = policy("p", 0, "^(x|)", &definition);
    fixture
        .vhost
        .set_policy(PolicyKind::User, with_alternate)
        .unwrap();
    assert!(!route.is_current(), "remembered routes are stale");
    assert_eq!(fixture.routed("x", "k"), ["q"]);
    // Predeclared ones too, but never the default exchange.
    assert_eq!(fixture.routed("amq.direct", "k"), ["q"]);
    assert!(fixture.routed("", "k").is_empty());
    // An argument goes before the policy.
    let mut declare = super::exchange("x2", "direct");
    declare.arguments = table(&[("alternate-exchange", text("nowhere"))]);
    fixture.declare_exchange(declare).unwrap();
    assert!(fixture.routed("x2", "k").is_empty());
    let route = fixture.route("x", "k");
    fixture.vhost.delete_policy(PolicyKind::User, "p").unwrap();
    assert!(!route.is_current() && fixture.routed("x", "k").is_empty());
    assert_eq!(exchange.alternate(), None);
}

#[test]
fn policies_survive_a_restart_and_go_with_their_vhost() {
    let fixture = Fixture::new();
    let durable = QueueDeclare {
        durable: true,
        ..transient("q")
    };
    fixture.declare(durable).unwrap();
    let definition = json!({"max-length": 5, "alternate-exchange": "amq.fanout"});
    let set = |kind, name, definition: &Value| {
        let policy = policy(name, 3, "^(q|amq.direct)$", definition);
        fixture.vhost.set_policy(kind, policy).unwrap();
    };
    set(PolicyKind::User, "p", &definition);
    set(PolicyKind::User, "gone", &definition);
    set(PolicyKind::Operator, "o", &json!({"max-length": 4}));
    fixture
        .vhost
        .delete_policy(PolicyKind::User, "gone")
        .unwrap();
    let Fixture { test, vhost } = fixture;
    drop(vhost);
    let test = test.restart();
    let vhost = test.broker.vhost("/").unwrap();
    let [policy] = &vhost.policies(PolicyKind::User)[..] else {
        panic!("one policy")
    };
    assert_eq!(json!(policy.definition.as_map()), definition);
    assert_eq!((&*policy.name, policy.pattern()), ("p", "^(q|amq.direct)$"));
    assert_eq!(vhost.policies(PolicyKind::Operator).len(), 1);
    let queue = vhost.queue("q").unwrap();
    assert_eq!(queue.settings().max_length, Some(4));
    let exchange = vhost.exchange("amq.direct").unwrap();
    assert_eq!(exchange.alternate().as_deref(), Some("amq.fanout"));
    {
        let visit = test.broker.services.visit();
        test.broker.delete_vhost(&visit, "/").unwrap().unwrap();
        test.broker.create_vhost(&visit, "/").unwrap();
    }
    drop((vhost, queue, exchange));
    let test = test.restart();
    let vhost = test.broker.vhost("/").unwrap();
    assert!(vhost.policies(PolicyKind::User).is_empty());
    assert!(vhost.policies(PolicyKind::Operator).is_empty());
}

#[test]
fn a_deleted_vhost_takes_no_policy() {
    let fixture = Fixture::new();
    fixture.visit(|_, visit| drop(fixture.test.broker.delete_vhost(visit, "/")));
    let late = policy("p", 0, "", &json!({"max-length": 5}));
    refused(
        fixture.vhost.set_policy(PolicyKind::User, late),
        "vhost '/' is deleted",
    );
}
