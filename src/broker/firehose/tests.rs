use std::thread;

use amq_protocol::types::{AMQPValue, FieldTable};
use bytes::Bytes;

use super::*;
use crate::broker::queue::{GetOutcome, Queue};
use crate::broker::testing::TestBroker;
use crate::broker::vhost::{QueueBind, QueueDeclare};
use crate::message::properties;

fn watcher(test: &TestBroker, pattern: &str) -> Arc<Queue> {
    let vhost = test.broker.vhost("/").unwrap();
    let visit = test.broker.services.visit();
    let declare = QueueDeclare {
        name: pattern.into(),
        server_named: false,
        durable: false,
        exclusive: false,
        auto_delete: false,
        arguments: FieldTable::default(),
        connection: 1,
    };
    let queue = vhost.declare_queue(&visit, declare).unwrap().queue;
    let bind = QueueBind {
        queue: pattern.into(),
        exchange: TRACE_EXCHANGE.into(),
        routing_key: pattern.into(),
        arguments: FieldTable::default(),
        connection: 1,
    };
    vhost.bind_queue(&visit, bind).unwrap();
    queue
}

/// The next copy: its routing key, headers and body. Waits for it, as another thread brings it.
fn next(test: &TestBroker, queue: &Arc<Queue>) -> (String, FieldTable, Vec<u8>) {
    loop {
        let visit = test.broker.services.visit();
        let got = queue.get(&visit, true, |delivery, _| {
            let record = delivery.record;
            let properties = properties::Properties::read(record.properties()).unwrap();
            (
                String::from_utf8(record.routing_key().to_vec()).unwrap(),
                properties.decode_headers().unwrap().unwrap(),
                delivery.body_bytes().to_vec(),
            )
        });
        drop(visit);
        match got {
            GetOutcome::Message(copy) => return copy,
            _ => thread::yield_now(),
        }
    }
}

fn traced<'a>(exchange: &'a str, body: &'a [u8]) -> Traced<'a> {
    Traced {
        exchange: exchange.as_bytes(),
        routing_key: b"key",
        properties: b"\x10\x00\x02",
        body: Bytes::copy_from_slice(body),
    }
}

fn turn(test: &TestBroker, on: bool) -> crate::message::Ticket {
    let vhost = test.broker.vhost("/").unwrap();
    let visit = test.broker.services.visit();
    vhost.set_tracing(&visit, on).unwrap()
}

fn tap(test: &TestBroker) -> Tap {
    Tap::new(&test.broker.vhost("/").unwrap(), "peer", 3, "guest")
}

#[test]
fn copies_say_what_rabbitmq_says() {
    let test = TestBroker::new();
    let queue = watcher(&test, "#");
    turn(&test, true);
    let tap = tap(&test);
    assert!(tap.is_on());
    tap.published(traced("amq.topic", b"body"), ["q1", "q2"].into_iter());
    tap.delivered(traced("amq.topic", b""), "q1", true);
    let (key, headers, body) = next(&test, &queue);
    assert_eq!(
        (key.as_str(), &body[..]),
        ("publish.amq.topic", &b"body"[..])
    );
    let text = |text: &str| AMQPValue::LongString(text.into());
    let get = |headers: &FieldTable, name: &str| headers.inner().get(name).cloned();
    assert_eq!(get(&headers, "exchange_name"), Some(text("amq.topic")));
    let list = |names: &[&str]| {
        let values: Vec<_> = names.iter().map(|name| text(name)).collect();
        Some(AMQPValue::FieldArray(values.into()))
    };
    assert_eq!(get(&headers, "routing_keys"), list(&["key"]));
    assert_eq!(get(&headers, "routed_queues"), list(&["q1", "q2"]));
    let mut properties = FieldTable::default();
    properties.insert("delivery_mode".into(), AMQPValue::LongInt(2));
    assert_eq!(
        get(&headers, "properties"),
        Some(AMQPValue::FieldTable(properties))
    );
    for (name, value) in [("vhost", "/"), ("connection", "peer"), ("user", "guest")] {
        assert_eq!(get(&headers, name), Some(text(value)));
    }
    assert_eq!(get(&headers, "channel"), Some(AMQPValue::LongInt(3)));
    assert!(get(&headers, "node").is_some());
    let (key, headers, _) = next(&test, &queue);
    assert_eq!(key, "deliver.q1");
    assert_eq!(get(&headers, "redelivered"), Some(AMQPValue::LongInt(1)));
}

#[test]
fn copies_are_not_copied_and_nothing_is_while_it_is_off() {
    let test = TestBroker::new();
    let queue = watcher(&test, "#");
    let tap = tap(&test);
    tap.delivered(traced("x", b"before"), "q", false);
    turn(&test, true);
    tap.delivered(traced(TRACE_EXCHANGE, b"a copy"), "q", false);
    tap.delivered(traced("x", b"while it is on"), "q", false);
    assert_eq!(next(&test, &queue).2, b"while it is on");
    turn(&test, false);
    assert!(!tap.is_on());
    tap.delivered(traced("x", b"after"), "q", false);
    turn(&test, true);
    tap.delivered(traced("x", b"on again"), "q", false);
    assert_eq!(next(&test, &queue).2, b"on again");
    assert_eq!(queue.counts().ready, 0);
}

#[test]
fn the_switch_survives_a_restart() {
    let test = TestBroker::new();
    test.wait(turn(&test, true));
    let test = test.restart();
    assert!(tap(&test).is_on());
    test.wait(turn(&test, false));
    let test = test.restart();
    assert!(!tap(&test).is_on());
}
