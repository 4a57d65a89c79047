use super::*;

fn alternate(name: &str, kind: &str, alternate: &str) -> ExchangeDeclare {
    ExchangeDeclare {
        arguments: table(&[("alternate-exchange", text(alternate))]),
        ..exchange(name, kind)
    }
}

#[test]
fn every_type_routes_by_its_rule() {
    let fixture = Fixture::new();
    for queue in ["q1", "q2", "q3"] {
        fixture.queue(queue);
    }
    fixture.bind("q1", "amq.direct", "a").unwrap();
    fixture.bind("q2", "amq.direct", "a").unwrap();
    fixture.bind("q3", "amq.direct", "b").unwrap();
    assert_eq!(fixture.routed("amq.direct", "a"), ["q1", "q2"]);
    assert!(fixture.routed("amq.direct", "c").is_empty());
    fixture.bind("q1", "amq.fanout", "ignored").unwrap();
    fixture.bind("q1", "amq.fanout", "too").unwrap();
    fixture.bind("q3", "amq.fanout", "").unwrap();
    assert_eq!(fixture.routed("amq.fanout", "x"), ["q1", "q3"]);
    fixture.bind("q1", "amq.topic", "a.*").unwrap();
    fixture.bind("q1", "amq.topic", "a.#").unwrap();
    fixture.bind("q2", "amq.topic", "#").unwrap();
    assert_eq!(fixture.routed("amq.topic", "a.b"), ["q1", "q2"]);
    assert_eq!(fixture.routed("", "q2"), ["q2"]);
    assert!(fixture.routed("", "nq").is_empty());
}

#[test]
fn a_message_passes_each_exchange_of_a_cycle_once() {
    let fixture = Fixture::new();
    for name in ["a", "b", "c"] {
        fixture.exchange(name, "fanout");
        fixture.queue(&format!("q{name}"));
        fixture.bind(&format!("q{name}"), name, "").unwrap();
    }
    for (destination, source) in [("b", "a"), ("c", "b"), ("a", "c"), ("a", "a")] {
        fixture.bind_exchange(destination, source, "").unwrap();
    }
    assert_eq!(fixture.routed("b", ""), ["qa", "qb", "qc"]);
}

#[test]
fn an_exchange_with_many_destinations_still_reports_each_once() {
    let fixture = Fixture::new();
    for number in 0..60 {
        let name = format!("q{number:02}");
        fixture.queue(&name);
        fixture.bind(&name, "amq.topic", "#").unwrap();
        fixture.bind(&name, "amq.topic", "k").unwrap();
    }
    assert_eq!(fixture.route("amq.topic", "k").queues.len(), 60);
}

#[test]
fn the_alternate_takes_what_nothing_matched() {
    let fixture = Fixture::new();
    fixture
        .declare_exchange(alternate("x", "direct", "a1"))
        .unwrap();
    fixture
        .declare_exchange(alternate("a1", "direct", "a2"))
        .unwrap();
    // A cycle of alternates ends.
    fixture
        .declare_exchange(alternate("a2", "direct", "x"))
        .unwrap();
    for (queue, exchange) in [("q", "x"), ("q1", "a1"), ("q2", "a2")] {
        fixture.queue(queue);
        fixture.bind(queue, exchange, queue).unwrap();
    }
    assert_eq!(fixture.routed("x", "q"), ["q"]);
    assert_eq!(fixture.routed("x", "q1"), ["q1"]);
    assert_eq!(fixture.routed("x", "q2"), ["q2"]);
    assert!(fixture.routed("x", "nothing").is_empty());
    // A binding to another exchange counts as a match, even if it leads nowhere.
    fixture.exchange("nowhere", "direct");
    fixture.bind_exchange("nowhere", "x", "q1").unwrap();
    assert!(fixture.routed("x", "q1").is_empty());
}

#[test]
fn the_default_exchange_as_alternate_finds_nothing() {
    let fixture = Fixture::new();
    fixture
        .declare_exchange(alternate("x", "direct", ""))
        .unwrap();
    fixture.queue("q");
    assert!(fixture.routed("x", "q").is_empty());
}

#[test]
fn a_route_is_stale_once_anything_on_its_way_changes() {
    let fixture = Fixture::new();
    fixture
        .declare_exchange(alternate("x", "direct", "later"))
        .unwrap();
    fixture.exchange("y", "direct");
    fixture.queue("q");
    fixture.queue("other");
    let route = || fixture.route("x", "k");
    let check = |change: &str, act: &dyn Fn()| {
        let before = route();
        assert!(before.cacheable && before.is_current(), "before {change}");
        act();
        assert!(!before.is_current(), "{change}");
    };
    check("the alternate is declared", &|| {
        drop(fixture.exchange("later", "direct"))
    });
    check("the alternate gets a binding", &|| {
        drop(fixture.bind("q", "later", "k"))
    });
    check("the exchange gets a binding to another", &|| {
        drop(fixture.bind_exchange("y", "x", "k"))
    });
    check("the other gets a binding", &|| {
        drop(fixture.bind("q", "y", "k"))
    });
    assert_eq!(names(&route()), ["q"]);
    check("a binding goes", &|| drop(fixture.unbind("q", "y", "k")));
    check("a binding comes", &|| drop(fixture.bind("other", "y", "k")));
    check("a queue goes", &|| drop(fixture.delete_queue("other")));
    check("an exchange on the way goes", &|| {
        drop(fixture.delete_exchange("y"))
    });
    check("the alternate goes", &|| {
        drop(fixture.delete_exchange("later"))
    });
    check("the alternate is declared again", &|| {
        drop(fixture.exchange("later", "direct"))
    });
    check("the exchange goes", &|| {
        drop(fixture.delete_exchange("x"));
        fixture
            .declare_exchange(alternate("x", "direct", "later"))
            .unwrap();
    });
}

#[test]
fn changes_elsewhere_leave_a_route_alone() {
    let fixture = Fixture::new();
    fixture.queue("q");
    fixture.bind("q", "amq.direct", "k").unwrap();
    let route = fixture.route("amq.direct", "k");
    fixture.queue("other");
    fixture.bind("other", "amq.topic", "#").unwrap();
    fixture.exchange("new", "direct");
    // Idempotent calls change nothing.
    fixture.bind("q", "amq.direct", "k").unwrap();
    fixture.unbind("q", "amq.direct", "never bound").unwrap();
    assert!(route.is_current());
}

#[test]
fn a_route_by_name_lasts_as_long_as_its_queue() {
    let fixture = Fixture::new();
    let nothing = fixture.route("", "q");
    assert!(!nothing.cacheable, "the queue may come at any time");
    fixture.queue("q");
    let route = fixture.route("", "q");
    assert!(route.cacheable && route.is_current());
    fixture.delete_queue("q").unwrap();
    assert!(!route.is_current());
    fixture.queue("q");
    assert!(!route.is_current(), "the namesake is another queue");
}

#[test]
fn routes_by_headers_are_not_remembered() {
    let fixture = Fixture::new();
    fixture.queue("q");
    let bind = QueueBind {
        arguments: table(&[("a", text("1"))]),
        ..queue_bind("q", "amq.headers", "")
    };
    fixture
        .visit(|vhost, visit| vhost.bind_queue(visit, bind))
        .unwrap();
    fixture.exchange("front", "fanout");
    fixture.bind_exchange("amq.headers", "front", "").unwrap();
    let with_headers = [
        &[0x20, 0][..],
        Arguments::new(&table(&[("a", text("1"))])).as_bytes(),
    ]
    .concat();
    let matching = fixture.route_with("front", &[""], &with_headers);
    assert_eq!(
        (names(&matching), matching.cacheable),
        (vec!["q".to_owned()], false)
    );
    assert!(names(&fixture.route("front", "")).is_empty());
    let elsewhere = fixture.route_with("amq.direct", &["k"], &with_headers);
    assert!(elsewhere.cacheable, "nobody asked for the headers");
}

#[test]
fn all_keys_of_a_message_are_routed_together() {
    let fixture = Fixture::new();
    for queue in ["q1", "q2", "q3"] {
        fixture.queue(queue);
        fixture.bind(queue, "amq.topic", queue).unwrap();
    }
    for exchange in ["", "amq.topic"] {
        let route = fixture.route_with(exchange, &["q1", "q3", "q1", "nope"], &[0, 0]);
        assert_eq!(names(&route), ["q1", "q3"]);
    }
}
