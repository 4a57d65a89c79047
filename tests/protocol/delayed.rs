//! x-delayed-message: messages that reach their queues when their time has come. RabbitMQ needs a plugin for this, which
//! a foreign broker is not expected to have.

use std::collections::BTreeSet;

use crate::check::{consume, expect_counts, expect_delivery, own_queue, peer, unique};
use crate::support::broker::{self, BrokerProcess};
use crate::support::content::Properties;
use crate::support::method::Method;
use crate::support::peer::Peer;
use crate::support::wire::{Table, Value, field, table};

const HOUR_MS: i32 = 3_600_000;

fn delayed(exchange: &str, kind: &str) -> Method {
    let declare = method!(exchange.declare { exchange: exchange, type: "x-delayed-message" });
    declare.with("arguments", table([("x-delayed-type", kind.into())]))
}

fn delay(delay_ms: i32) -> Properties {
    Properties {
        headers: Some(table([("x-delay", delay_ms.into())])),
        ..Properties::default()
    }
}

/// Declares an exchange that goes with its queue, and that queue bound to it with key `k`.
fn declare(peer: &mut Peer, kind: &str) -> (String, String) {
    let exchange = unique("delayed");
    let declare = delayed(&exchange, kind).with("auto_delete", true);
    peer.call(1, declare, method!(exchange.declare_ok));
    let queue = own_queue(peer);
    bind(peer, &queue, &exchange, "k");
    (exchange, queue)
}

fn bind(peer: &mut Peer, queue: &str, exchange: &str, key: &str) {
    let bind = method!(queue.bind { queue: queue, exchange: exchange, routing_key: key });
    peer.call(1, bind, method!(queue.bind_ok));
}

fn publish(peer: &mut Peer, exchange: &str, properties: &Properties, body: &str) {
    let publish = method!(basic.publish { exchange: exchange, routing_key: "k" });
    peer.publish_with(1, publish, properties, body.as_bytes());
}

#[test]
fn messages_arrive_in_order_of_their_times_with_the_delay_negated() {
    if broker::is_foreign() {
        return;
    }
    let mut peer = peer();
    let (exchange, queue) = declare(&mut peer, "direct");
    consume(&mut peer, &queue, "c");
    publish(&mut peer, &exchange, &delay(HOUR_MS), "in an hour");
    publish(&mut peer, &exchange, &delay(500), "last");
    publish(&mut peer, &exchange, &delay(250), "second");
    publish(&mut peer, &exchange, &delay(0), "at once");
    publish(&mut peer, &exchange, &Properties::default(), "at once, too");
    publish(&mut peer, &exchange, &delay(-5), "no delay");
    publish(&mut peer, &exchange, &delay(1), "first");
    for body in ["at once", "at once, too", "no delay", "first"] {
        expect_delivery(&mut peer, body);
    }
    for (body, delay_ms) in [("second", -250), ("last", -500)] {
        let message = expect_delivery(&mut peer, body);
        let headers = message.properties.headers.expect("headers");
        assert_eq!(field(&headers, "x-delay"), Some(&Value::from(delay_ms)));
    }
    expect_counts(&mut peer, &queue, 0, 1);
}

#[test]
fn the_inner_type_routes_when_the_time_has_come() {
    if broker::is_foreign() {
        return;
    }
    let mut peer = peer();
    let (exchange, queue) = declare(&mut peer, "topic");
    consume(&mut peer, &queue, "c");
    let keyed = |key: &str| method!(basic.publish { exchange: &exchange, routing_key: key });
    peer.publish_with(1, keyed("a.b"), &delay(100), b"bound later");
    peer.publish_with(1, keyed("a.c"), &delay(100), b"not bound");
    bind(&mut peer, &queue, &exchange, "*.b");
    let copied = Properties {
        headers: Some(table([
            ("x-delay", 150.into()),
            ("BCC", Value::Array(vec!["x.b".into()])),
        ])),
        ..Properties::default()
    };
    peer.publish_with(1, keyed("a.d"), &copied, b"blind copy");
    expect_delivery(&mut peer, "bound later");
    let copy = expect_delivery(&mut peer, "blind copy");
    let headers = copy.properties.headers.expect("headers");
    assert_eq!(field(&headers, "BCC"), None);
    expect_counts(&mut peer, &queue, 0, 1);
}

#[test]
fn the_inner_type_has_to_be_named_and_to_exist() {
    if broker::is_foreign() {
        return;
    }
    let mut peer = peer();
    let exchange = unique("refused");
    let plain = || method!(exchange.declare { exchange: &exchange, type: "x-delayed-message" });
    let missing = "Invalid argument, 'x-delayed-type' must be an existing exchange type";
    let itself = "Invalid argument, 'x-delayed-message' can't be used for 'x-delayed-type'";
    let unknown = "unknown exchange type 'x-none'";
    let number = plain().with("arguments", table([("x-delayed-type", 3.into())]));
    for (declare, text) in [
        (plain().with("arguments", Table::new()), missing),
        (number, missing),
        (delayed(&exchange, "x-delayed-message"), itself),
        (delayed(&exchange, "x-none"), unknown),
    ] {
        peer.send(1, declare);
        peer.expect_channel_close(1, "exchange.declare", 406, text);
        peer.open_channel(1);
    }
}

#[test]
fn a_mandatory_message_that_waits_is_returned_and_confirmed_and_comes_all_the_same() {
    if broker::is_foreign() {
        return;
    }
    let mut peer = peer();
    let (exchange, queue) = declare(&mut peer, "fanout");
    peer.call(1, method!(confirm.select), method!(confirm.select_ok));
    let publish = method!(basic.publish { exchange: &exchange, routing_key: "k", mandatory: true });
    peer.publish_with(1, publish, &delay(200), b"returned");
    let returned = peer.expect_message(1, method!(basic.return { reply_code: 312 }));
    assert_eq!(returned.text(), "returned");
    peer.expect(1, method!(basic.ack { delivery_tag: 1 }));
    consume(&mut peer, &queue, "c");
    expect_delivery(&mut peer, "returned");
}

#[test]
fn what_waits_in_a_deleted_exchange_is_gone() {
    if broker::is_foreign() {
        return;
    }
    let mut peer = peer();
    let (exchange, queue) = declare(&mut peer, "fanout");
    consume(&mut peer, &queue, "c");
    for properties in [
        delay(100),
        Properties {
            delivery_mode: Some(2),
            ..delay(100)
        },
    ] {
        publish(&mut peer, &exchange, &properties, "dies");
    }
    let delete = method!(exchange.delete { exchange: &exchange });
    peer.call(1, delete, method!(exchange.delete_ok));
    let again = delayed(&exchange, "fanout").with("auto_delete", true);
    peer.call(1, again, method!(exchange.declare_ok));
    bind(&mut peer, &queue, &exchange, "k");
    publish(&mut peer, &exchange, &delay(300), "lives");
    expect_delivery(&mut peer, "lives");
}

/// More than are held in memory, so that most are read back from the store.
#[test]
fn many_delayed_messages_arrive_once_each() {
    if broker::is_foreign() {
        return;
    }
    let mut peer = peer();
    let (exchange, queue) = declare(&mut peer, "fanout");
    peer.call(1, method!(confirm.select), method!(confirm.select_ok));
    const COUNT: u64 = 12_000;
    for number in 0..COUNT {
        let properties = Properties {
            delivery_mode: Some(2),
            ..delay((1 + number * 7919 % 3001) as i32)
        };
        publish(&mut peer, &exchange, &properties, &number.to_string());
    }
    let mut confirmed = 0;
    while confirmed < COUNT {
        confirmed = peer.expect(1, method!(basic.ack)).number("delivery_tag");
    }
    let consume = method!(basic.consume { queue: &queue, consumer_tag: "c", no_ack: true });
    peer.call(1, consume, method!(basic.consume_ok));
    let mut seen = BTreeSet::new();
    for _ in 0..COUNT {
        let message = peer.expect_message(1, method!(basic.deliver));
        assert!(seen.insert(message.text()), "{} came twice", message.text());
    }
    expect_counts(&mut peer, &queue, 0, 1);
}

#[test]
fn confirmed_persistent_messages_wait_through_a_kill() {
    if broker::is_foreign() {
        return;
    }
    let mut broker = BrokerProcess::start();
    let mut peer = broker.connect();
    peer.open_channel(1);
    let declare = delayed("d", "direct").with("durable", true);
    peer.call(1, declare, method!(exchange.declare_ok));
    let declare = method!(queue.declare { queue: "q", durable: true });
    peer.call(1, declare, method!(queue.declare_ok));
    bind(&mut peer, "q", "d", "k");
    peer.call(1, method!(confirm.select), method!(confirm.select_ok));
    publish(&mut peer, "d", &delay(2_000), "transient");
    let large = "x".repeat(50_000);
    for (delay_ms, body) in [
        (3_000, "third"),
        (2_000, "first"),
        (2_500, large.as_str()),
        (HOUR_MS, "later"),
    ] {
        let properties = Properties {
            delivery_mode: Some(2),
            ..delay(delay_ms)
        };
        publish(&mut peer, "d", &properties, body);
    }
    let mut confirmed = 0;
    while confirmed < 5 {
        confirmed = peer.expect(1, method!(basic.ack)).number("delivery_tag");
    }
    for _ in 0..2 {
        broker.kill9();
        broker.restart();
    }
    let mut peer = broker.connect();
    peer.open_channel(1);
    consume(&mut peer, "q", "c");
    for body in ["first", large.as_str(), "third"] {
        expect_delivery(&mut peer, body);
    }
    expect_counts(&mut peer, "q", 0, 1);
}
