use super::*;

#[test]
fn the_predeclared_exchanges_are_there() {
    let fixture = Fixture::new();
    let mut found: Vec<_> = fixture
        .vhost
        .exchanges()
        .iter()
        .map(|exchange| {
            (
                exchange.spec.name.to_string(),
                exchange.spec.kind.name,
                exchange.spec.internal,
            )
        })
        .collect();
    found.sort_unstable();
    let expected = [
        ("", "direct", false),
        ("amq.direct", "direct", false),
        ("amq.fanout", "fanout", false),
        ("amq.headers", "headers", false),
        ("amq.match", "headers", false),
        ("amq.rabbitmq.trace", "topic", true),
        ("amq.topic", "topic", false),
    ];
    assert_eq!(
        found,
        expected.map(|(name, kind, internal)| (name.to_owned(), kind, internal))
    );
}

#[test]
fn redeclaring_compares_type_properties_and_the_alternate() {
    let fixture = Fixture::new();
    fixture.declare_exchange(exchange("x", "direct")).unwrap();
    fixture.declare_exchange(exchange("x", "direct")).unwrap();
    let inequivalent = |declare, property: &str, rest: &str| {
        let text =
            format!("inequivalent arg '{property}' for exchange 'x' in vhost '/': received {rest}");
        refused(fixture.declare_exchange(declare), &text);
    };
    inequivalent(
        exchange("x", "fanout"),
        "type",
        "'fanout' but current is 'direct'",
    );
    let base = || exchange("x", "direct");
    inequivalent(
        ExchangeDeclare {
            durable: true,
            ..base()
        },
        "durable",
        "'true' but current is 'false'",
    );
    inequivalent(
        ExchangeDeclare {
            auto_delete: true,
            ..base()
        },
        "auto_delete",
        "'true' but current is 'false'",
    );
    inequivalent(
        ExchangeDeclare {
            internal: true,
            ..base()
        },
        "internal",
        "'true' but current is 'false'",
    );
    let alternate = |value| table(&[("alternate-exchange", value)]);
    inequivalent(
        ExchangeDeclare {
            arguments: alternate(text("a")),
            ..base()
        },
        "alternate-exchange",
        "the value 'a' of type 'longstr' but current is none",
    );
    fixture
        .declare_exchange(ExchangeDeclare {
            arguments: table(&[("other", text("a"))]),
            ..base()
        })
        .unwrap();
}

#[test]
fn declarations_are_refused_in_rabbitmqs_order() {
    let fixture = Fixture::new();
    refused(
        fixture.declare_exchange(exchange("", "nope")),
        "unknown exchange type 'nope'",
    );
    refused(
        fixture.declare_exchange(exchange("", "direct")),
        "operation not permitted on the default exchange",
    );
    refused(
        fixture.vhost.exchange_passive(""),
        "operation not permitted on the default exchange",
    );
    refused(
        fixture.vhost.exchange_passive("nx"),
        "no exchange 'nx' in vhost '/'",
    );
    fixture.vhost.exchange_passive("amq.direct").unwrap();
    fixture
        .declare_exchange(ExchangeDeclare {
            durable: true,
            ..exchange("amq.direct", "direct")
        })
        .unwrap();
    refused(
        fixture.declare_exchange(exchange("amq.new", "direct")),
        "exchange name 'amq.new' contains reserved prefix 'amq.*'",
    );
    let arguments = table(&[("alternate-exchange", AMQPValue::LongInt(5))]);
    refused(
        fixture.declare_exchange(ExchangeDeclare {
            arguments,
            ..exchange("x", "direct")
        }),
        "invalid type 'signedint' for arg 'alternate-exchange' in exchange 'x' in vhost '/'",
    );
    assert!(fixture.vhost.exchange("x").is_none());
}

#[test]
fn deleting_takes_missing_exchanges_and_no_system_ones() {
    let fixture = Fixture::new();
    fixture.delete_exchange("nope").unwrap();
    refused(
        fixture.delete_exchange(""),
        "operation not permitted on the default exchange",
    );
    for name in ["amq.direct", "amq.nope"] {
        let text = format!("deletion of system exchange '{name}' in vhost '/' not allowed");
        refused(fixture.delete_exchange(name), &text);
    }
}

#[test]
fn an_exchange_is_in_use_while_bindings_lead_from_it() {
    let fixture = Fixture::new();
    fixture.exchange("x", "fanout");
    fixture.exchange("upstream", "fanout");
    fixture.queue("q");
    fixture.bind("q", "x", "").unwrap();
    fixture.bind_exchange("x", "upstream", "").unwrap();
    let delete = || fixture.visit(|vhost, visit| vhost.delete_exchange(visit, "x", true, NOBODY));
    refused(delete(), "exchange 'x' in vhost '/' in use");
    fixture.delete_queue("q").unwrap();
    delete().unwrap();
    assert_eq!(
        fixture.vhost.exchange("upstream").unwrap().binding_count(),
        0
    );
}

#[test]
fn an_auto_delete_exchange_goes_with_its_last_outgoing_binding() {
    let fixture = Fixture::new();
    let auto_delete = |name: &str| {
        fixture
            .declare_exchange(ExchangeDeclare {
                auto_delete: true,
                ..exchange(name, "fanout")
            })
            .unwrap();
    };
    auto_delete("x");
    fixture.exchange("upstream", "fanout");
    fixture.bind_exchange("x", "upstream", "").unwrap();
    fixture.unbind("q", "x", "").unwrap();
    assert!(
        fixture.vhost.exchange("x").is_some(),
        "it never had an outgoing binding"
    );
    fixture.queue("q");
    fixture.bind("q", "x", "a").unwrap();
    fixture.bind("q", "x", "b").unwrap();
    fixture.unbind("q", "x", "a").unwrap();
    assert!(fixture.vhost.exchange("x").is_some());
    fixture.unbind("q", "x", "b").unwrap();
    assert!(fixture.vhost.exchange("x").is_none());
    assert!(
        fixture.vhost.exchange("upstream").is_some(),
        "not auto-delete"
    );
}

#[test]
fn auto_deletion_cascades_up_and_around_cycles() {
    let fixture = Fixture::new();
    for name in ["a", "b", "c"] {
        fixture
            .declare_exchange(ExchangeDeclare {
                auto_delete: true,
                ..exchange(name, "fanout")
            })
            .unwrap();
    }
    fixture.exchange("kept", "fanout");
    fixture.queue("q");
    // kept -> a -> b -> c -> q
    fixture.bind_exchange("a", "kept", "").unwrap();
    fixture.bind_exchange("b", "a", "").unwrap();
    fixture.bind_exchange("c", "b", "").unwrap();
    fixture.bind("q", "c", "").unwrap();
    assert_eq!(fixture.routed("kept", ""), ["q"]);
    fixture.delete_queue("q").unwrap();
    for name in ["a", "b", "c"] {
        assert!(fixture.vhost.exchange(name).is_none(), "{name}");
    }
    assert_eq!(fixture.vhost.exchange("kept").unwrap().binding_count(), 0);
    // d -> d -> e -> d: a cycle that nothing but deletion ends.
    fixture
        .declare_exchange(ExchangeDeclare {
            auto_delete: true,
            ..exchange("d", "fanout")
        })
        .unwrap();
    fixture
        .declare_exchange(ExchangeDeclare {
            auto_delete: true,
            ..exchange("e", "fanout")
        })
        .unwrap();
    fixture.bind_exchange("d", "d", "").unwrap();
    fixture.bind_exchange("e", "d", "").unwrap();
    fixture.bind_exchange("d", "e", "").unwrap();
    fixture.delete_exchange("d").unwrap();
    assert!(
        fixture.vhost.exchange("e").is_none(),
        "its only binding led to d"
    );
    assert!(fixture.vhost.bindings().is_empty());
}
