//! Exchange types that choose, and those that remember.

use std::collections::BTreeMap;

use super::*;

#[test]
fn random_exchanges_choose_one_binding_each_time() {
    for kind in ["x-random", "x-local-random"] {
        let fixture = Fixture::new();
        fixture.exchange("x", kind);
        assert!(fixture.routed("x", "").is_empty());
        for queue in ["q1", "q2", "q3"] {
            fixture.queue(queue);
            fixture.bind(queue, "x", "").unwrap();
        }
        let mut counts = BTreeMap::new();
        for _ in 0..300 {
            let route = fixture.route("x", "k");
            assert!(!route.cacheable, "the next message chooses anew");
            let [name] = &names(&route)[..] else {
                panic!("not one queue: {route:?}")
            };
            *counts.entry(name.clone()).or_insert(0) += 1;
        }
        assert!(
            counts.len() == 3 && counts.values().all(|count| *count > 60),
            "{counts:?}"
        );
        fixture.unbind("q1", "x", "").unwrap();
        fixture.delete_queue("q2").unwrap();
        for _ in 0..20 {
            assert_eq!(fixture.routed("x", "k"), ["q3"]);
        }
    }
}

#[test]
fn local_random_takes_classic_queues_without_a_key() {
    let fixture = Fixture::new();
    fixture.exchange("x", "x-local-random");
    fixture.queue("q");
    let quorum = QueueDeclare {
        durable: true,
        arguments: table(&[("x-queue-type", text("quorum"))]),
        ..transient("quorum")
    };
    fixture.declare(quorum).unwrap();
    let refused = |result: Result<Ticket, Error>| result.unwrap_err().to_string();
    assert_eq!(
        refused(fixture.bind("q", "x", "key")),
        "Non empty binding 'key' key not permitted"
    );
    assert_eq!(
        refused(fixture.bind("quorum", "x", "")),
        "Queue type rabbit_quorum_queue not valid for this exchange type"
    );
    assert_eq!(
        refused(fixture.bind_exchange("amq.fanout", "x", "")),
        "Destination not found"
    );
}

#[test]
fn a_modulus_hash_sends_a_key_to_one_queue() {
    let fixture = Fixture::new();
    fixture.exchange("x", "x-modulus-hash");
    for queue in ["q1", "q2", "q3"] {
        fixture.queue(queue);
        fixture.bind(queue, "x", "ignored").unwrap();
    }
    let ways: Vec<_> = (0..300)
        .map(|number| fixture.routed("x", &format!("key-{number}")))
        .collect();
    assert!(ways.iter().all(|way| way.len() == 1));
    for queue in ["q1", "q2", "q3"] {
        let count = ways.iter().filter(|way| way[0] == queue).count();
        assert!(count > 60, "{queue} got {count}");
    }
    let route = fixture.route("x", "key-1");
    assert!(route.cacheable, "the key alone decides");
    // Its place in the list of names, not the time of its binding.
    fixture.unbind("q1", "x", "ignored").unwrap();
    assert!(!route.is_current());
    fixture.bind("q1", "x", "ignored").unwrap();
    let again: Vec<_> = (0..300)
        .map(|number| fixture.routed("x", &format!("key-{number}")))
        .collect();
    assert_eq!(ways, again);
}

#[test]
fn a_consistent_hash_by_the_key_is_remembered_and_by_a_header_it_is_not() {
    let fixture = Fixture::new();
    fixture.exchange("by-key", "x-consistent-hash");
    let by_header = ExchangeDeclare {
        arguments: table(&[("hash-header", text("h"))]),
        ..exchange("by-header", "x-consistent-hash")
    };
    fixture.declare_exchange(by_header).unwrap();
    fixture.queue("q");
    for exchange in ["by-key", "by-header"] {
        fixture.bind("q", exchange, "3").unwrap();
    }
    let (by_key, by_header) = (
        fixture.route("by-key", "k"),
        fixture.route("by-header", "k"),
    );
    assert_eq!(
        (names(&by_key), names(&by_header)),
        (vec!["q".into()], vec!["q".into()])
    );
    assert_eq!((by_key.cacheable, by_header.cacheable), (true, false));
    let refused = fixture.bind("q", "by-key", "zero").unwrap_err().to_string();
    assert_eq!(refused, "The binding key must be an integer: <<\"zero\">>");
}

#[test]
fn arguments_of_a_type_are_checked_when_the_exchange_is_new() {
    let fixture = Fixture::new();
    let declare = |length| ExchangeDeclare {
        arguments: table(&[("x-recent-history-length", AMQPValue::LongInt(length))]),
        ..exchange("x", "x-recent-history")
    };
    assert_eq!(
        fixture
            .declare_exchange(declare(0))
            .unwrap_err()
            .to_string(),
        "Invalid argument 0, 'x-recent-history-length' must be a positive integer"
    );
    fixture.declare_exchange(declare(3)).unwrap();
    // Then only the alternate exchange is compared.
    fixture.declare_exchange(declare(0)).unwrap();
}

#[test]
fn a_new_binding_gets_the_recent_history() {
    let fixture = Fixture::new();
    fixture.exchange("x", "x-recent-history");
    fixture.exchange("behind", "direct");
    for queue in ["q1", "q2"] {
        fixture.queue(queue);
    }
    fixture.bind("q2", "behind", "b").unwrap();
    for key in ["a", "b", "c"] {
        let route = fixture.route("x", key);
        assert!(route.queues.is_empty() && !route.cacheable);
    }
    let ready = |name: &str| fixture.vhost.queue(name).unwrap().counts().ready;
    fixture.bind("q1", "x", "").unwrap();
    assert_eq!(ready("q1"), 3);
    fixture.bind("q1", "x", "").unwrap();
    assert_eq!(ready("q1"), 3, "an existing binding is not new");
    fixture.bind("q1", "x", "another").unwrap();
    assert_eq!(ready("q1"), 6);
    fixture.bind_exchange("behind", "x", "").unwrap();
    assert_eq!(ready("q2"), 1, "routed on by its own key");
    assert_eq!(fixture.routed("x", "b"), ["q1", "q2"]);
}
