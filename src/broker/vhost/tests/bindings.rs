use super::*;

#[test]
fn ends_must_exist_and_the_source_is_looked_for_first() {
    let fixture = Fixture::new();
    fixture.queue("q");
    refused(
        fixture.bind("nq", "amq.direct", "k"),
        "no queue 'nq' in vhost '/'",
    );
    refused(
        fixture.bind("q", "nx", "k"),
        "no exchange 'nx' in vhost '/'",
    );
    refused(
        fixture.bind("nq", "nx", "k"),
        "no exchange 'nx' in vhost '/'",
    );
    refused(
        fixture.bind_exchange("nx", "amq.direct", "k"),
        "no exchange 'nx' in vhost '/'",
    );
    refused(
        fixture.bind_exchange("nx1", "nx2", "k"),
        "no exchange 'nx2' in vhost '/'",
    );
}

#[test]
fn the_default_exchange_cannot_be_bound() {
    let fixture = Fixture::new();
    fixture.queue("q");
    let text = "operation not permitted on the default exchange";
    refused(fixture.bind("q", "", "k"), text);
    refused(fixture.unbind("q", "", "k"), text);
    refused(fixture.bind_exchange("", "amq.direct", "k"), text);
    refused(fixture.bind_exchange("amq.direct", "", "k"), text);
    let unbind = |destination, source| {
        fixture.visit(|vhost, visit| {
            vhost.unbind_exchange(visit, &exchange_bind(destination, source, "k"))
        })
    };
    refused(unbind("", "amq.direct"), text);
    unbind("nx", "ny").unwrap();
}

#[test]
fn unbinding_what_is_not_there_succeeds() {
    let fixture = Fixture::new();
    fixture.queue("q");
    for (queue, exchange) in [
        ("nq", "amq.direct"),
        ("q", "nx"),
        ("nq", "nx"),
        ("q", "amq.direct"),
    ] {
        fixture.unbind(queue, exchange, "k").unwrap();
    }
}

#[test]
fn the_type_of_the_source_checks_the_arguments_before_the_lock() {
    let fixture = Fixture::new();
    fixture
        .declare(QueueDeclare {
            exclusive: true,
            ..transient("q")
        })
        .unwrap();
    let bind = QueueBind {
        arguments: table(&[("x-match", text("bad"))]),
        connection: OTHER,
        ..queue_bind("q", "amq.headers", "")
    };
    let text =
        "Invalid x-match field value <<\"bad\">>; expected all, any, all-with-x, or any-with-x";
    refused(
        fixture.visit(|vhost, visit| vhost.bind_queue(visit, bind.clone())),
        text,
    );
    fixture
        .visit(|vhost, visit| {
            vhost.bind_queue(
                visit,
                QueueBind {
                    exchange: "amq.direct".into(),
                    connection: OWN,
                    ..bind.clone()
                },
            )
        })
        .unwrap();
    refused(
        fixture.visit(|vhost, visit| {
            vhost.bind_queue(
                visit,
                QueueBind {
                    queue: "nq".into(),
                    ..bind
                },
            )
        }),
        "no queue 'nq' in vhost '/'",
    );
}

#[test]
fn a_binding_is_its_ends_its_key_and_its_arguments() {
    let fixture = Fixture::new();
    fixture.queue("q");
    let with = |value| QueueBind {
        arguments: table(&[("a", value)]),
        ..queue_bind("q", "amq.direct", "k")
    };
    let bind = |bind| {
        fixture
            .visit(|vhost, visit| vhost.bind_queue(visit, bind))
            .unwrap()
    };
    for _ in 0..2 {
        bind(queue_bind("q", "amq.direct", "k"));
        bind(with(AMQPValue::LongInt(1)));
        bind(with(AMQPValue::LongLongInt(1)));
    }
    let count = || {
        fixture
            .vhost
            .exchange("amq.direct")
            .unwrap()
            .binding_count()
    };
    assert_eq!(count(), 3, "types make a difference");
    assert_eq!(
        fixture.routed("amq.direct", "k"),
        ["q"],
        "once, however many bindings match"
    );
    fixture.unbind("q", "amq.direct", "k").unwrap();
    assert_eq!(count(), 2);
    assert_eq!(fixture.routed("amq.direct", "k"), ["q"]);
    for value in [AMQPValue::LongInt(1), AMQPValue::LongLongInt(1)] {
        fixture
            .visit(|vhost, visit| vhost.unbind_queue(visit, &with(value)))
            .unwrap();
    }
    assert_eq!(count(), 0);
    assert!(fixture.routed("amq.direct", "k").is_empty());
}

#[test]
fn bindings_go_with_the_queue_and_are_not_there_for_its_namesake() {
    let fixture = Fixture::new();
    fixture.queue("q");
    fixture.bind("q", "amq.topic", "a.#").unwrap();
    fixture.bind("q", "amq.fanout", "").unwrap();
    fixture.delete_queue("q").unwrap();
    assert!(fixture.vhost.bindings().is_empty());
    fixture.queue("q");
    assert!(
        fixture.routed("amq.topic", "a.b").is_empty()
            && fixture.routed("amq.fanout", "").is_empty()
    );
}
