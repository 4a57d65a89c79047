//! x-message-delay: messages that become visible some time after they arrived.

use std::collections::BTreeSet;

use crate::check::{
    await_ready, check_channel_error, consume, expect_counts, expect_delivery, expect_empty,
    expect_get, peer, unique,
};
use crate::support::broker::{self, BrokerProcess};
use crate::support::content::Properties;
use crate::support::peer::Peer;
use crate::support::wire::{Table, Value, field, table};

const HOUR_MS: i32 = 3_600_000;

fn declare(peer: &mut Peer, delay_ms: i32, more: Table) -> String {
    let name = unique("delaying");
    let mut arguments = table([("x-message-delay", delay_ms.into())]);
    arguments.extend(more);
    let declare = method!(queue.declare { queue: &name, exclusive: true, arguments: arguments });
    peer.call(1, declare, method!(queue.declare_ok));
    name
}

fn own_delay(delay_ms: i32) -> Properties {
    Properties {
        headers: Some(table([("x-delay", delay_ms.into())])),
        ..Properties::default()
    }
}

fn publish(peer: &mut Peer, queue: &str, properties: &Properties, body: &str) {
    let publish = method!(basic.publish { routing_key: queue });
    peer.publish_with(1, publish, properties, body.as_bytes());
}

#[test]
fn messages_become_visible_after_the_delay_of_the_queue_in_their_order() {
    if broker::is_foreign() {
        return;
    }
    let mut peer = peer();
    let queue = declare(&mut peer, 1_500, Table::new());
    let bodies: Vec<_> = (0..50).map(|number| number.to_string()).collect();
    for body in &bodies {
        publish(&mut peer, &queue, &Properties::default(), body);
    }
    expect_empty(&mut peer, &queue);
    expect_counts(&mut peer, &queue, 0, 0);
    consume(&mut peer, &queue, "c");
    for body in &bodies {
        let message = expect_delivery(&mut peer, body);
        assert!(!message.redelivered());
        assert_eq!(message.properties.headers, None, "nothing is added");
    }
}

#[test]
fn the_header_of_a_message_comes_before_the_delay_of_the_queue() {
    if broker::is_foreign() {
        return;
    }
    let mut peer = peer();
    let queue = declare(&mut peer, HOUR_MS, Table::new());
    publish(&mut peer, &queue, &own_delay(1_000), "later");
    publish(&mut peer, &queue, &own_delay(0), "at once");
    publish(&mut peer, &queue, &own_delay(-5), "in an hour");
    publish(&mut peer, &queue, &Properties::default(), "in an hour, too");
    consume(&mut peer, &queue, "c");
    expect_delivery(&mut peer, "at once");
    let later = expect_delivery(&mut peer, "later");
    let headers = later.properties.headers.expect("headers");
    assert_eq!(field(&headers, "x-delay"), Some(&Value::from(-1_000)));
    expect_counts(&mut peer, &queue, 0, 1);
}

#[test]
fn a_queue_without_the_argument_does_not_look_at_the_header() {
    if broker::is_foreign() {
        return;
    }
    let mut peer = peer();
    let queue = crate::check::own_queue(&mut peer);
    publish(&mut peer, &queue, &own_delay(HOUR_MS), "at once");
    expect_get(&mut peer, &queue, "at once");
}

#[test]
fn a_purge_leaves_what_waits_and_a_queue_with_such_is_not_empty() {
    if broker::is_foreign() {
        return;
    }
    let mut peer = peer();
    let queue = declare(&mut peer, 1_500, Table::new());
    publish(&mut peer, &queue, &Properties::default(), "waits");
    publish(&mut peer, &queue, &own_delay(0), "ready");
    let purge = method!(queue.purge { queue: &queue });
    peer.call(1, purge, method!(queue.purge_ok { message_count: 1 }));
    let delete = method!(queue.delete { queue: &queue, if_empty: true });
    let text = format!("queue '{queue}' in vhost '/' not empty");
    crate::check::check_channel_error_on(&mut peer, delete, 406, &text);
    await_ready(&mut peer, &queue, 1);
    expect_get(&mut peer, &queue, "waits");
}

#[test]
fn what_waits_counts_for_a_limit_that_refuses_and_not_for_one_that_drops() {
    if broker::is_foreign() {
        return;
    }
    let mut peer = peer();
    let limits = table([
        ("x-max-length", 2.into()),
        ("x-overflow", "reject-publish".into()),
    ]);
    let refusing = declare(&mut peer, 200, limits);
    let dropping = declare(&mut peer, 200, table([("x-max-length", 2.into())]));
    peer.call(1, method!(confirm.select), method!(confirm.select_ok));
    for number in 1..=3 {
        publish(
            &mut peer,
            &refusing,
            &Properties::default(),
            &number.to_string(),
        );
        let answer = if number < 3 {
            "basic.ack"
        } else {
            "basic.nack"
        };
        let frame = peer.recv();
        let method = crate::support::peer::decode(&frame).expect("a method");
        assert_eq!(method.name(), answer, "message {number}");
    }
    await_ready(&mut peer, &refusing, 2);
    for number in 1..=3 {
        publish(
            &mut peer,
            &dropping,
            &Properties::default(),
            &number.to_string(),
        );
        peer.expect(1, method!(basic.ack));
    }
    await_ready(&mut peer, &dropping, 2);
    for body in ["2", "3"] {
        expect_get(&mut peer, &dropping, body);
    }
}

#[test]
fn the_time_to_live_begins_when_a_message_becomes_visible() {
    if broker::is_foreign() {
        return;
    }
    let mut peer = peer();
    let dead = crate::check::own_queue(&mut peer);
    let more = table([
        ("x-message-ttl", 60_000.into()),
        ("x-dead-letter-exchange", "".into()),
        ("x-dead-letter-routing-key", dead.as_str().into()),
    ]);
    let queue = declare(&mut peer, 300, more);
    let short = Properties {
        expiration: Some("100".to_owned()),
        ..Properties::default()
    };
    publish(&mut peer, &queue, &short, "lives short");
    publish(&mut peer, &queue, &own_delay(600), "lives");
    await_ready(&mut peer, &dead, 1);
    let message = expect_get(&mut peer, &dead, "lives short");
    let headers = message.properties.headers.expect("headers");
    let reason = field(&headers, "x-first-death-reason");
    assert_eq!(reason, Some(&Value::from("expired")));
    await_ready(&mut peer, &queue, 1);
}

/// A dead-letter exchange and a delay: the classic retry, without consumers that wait.
#[test]
fn dead_letters_wait_too_and_come_back_again_and_again() {
    if broker::is_foreign() {
        return;
    }
    let mut peer = peer();
    let work = unique("work");
    let back = table([
        ("x-dead-letter-exchange", "".into()),
        ("x-dead-letter-routing-key", work.as_str().into()),
        ("x-message-ttl", 0.into()),
    ]);
    let retry = declare(&mut peer, 100, back);
    let arguments = table([
        ("x-dead-letter-exchange", "".into()),
        ("x-dead-letter-routing-key", retry.as_str().into()),
    ]);
    let declare = method!(queue.declare { queue: &work, exclusive: true, arguments: arguments });
    peer.call(1, declare, method!(queue.declare_ok));
    publish(&mut peer, &work, &own_delay(-7), "m");
    consume(&mut peer, &work, "c");
    for _ in 0..3 {
        let message = expect_delivery(&mut peer, "m");
        let tag = message.delivery_tag();
        peer.send(
            1,
            method!(basic.reject { delivery_tag: tag, requeue: false }),
        );
    }
    expect_delivery(&mut peer, "m");
}

#[test]
fn priorities_groups_and_deduplication_hold_for_what_waited() {
    if broker::is_foreign() {
        return;
    }
    let mut peer = peer();
    let more = table([
        ("x-max-priority", 5.into()),
        ("x-message-deduplication", Value::Bool(true)),
    ]);
    let queue = declare(&mut peer, 300, more);
    let known = |priority, id: &str| Properties {
        priority: Some(priority),
        headers: Some(table([("x-deduplication-header", id.into())])),
        ..Properties::default()
    };
    publish(&mut peer, &queue, &known(1, "a"), "low");
    publish(&mut peer, &queue, &known(4, "b"), "high");
    publish(&mut peer, &queue, &known(5, "a"), "duplicate of what waits");
    await_ready(&mut peer, &queue, 2);
    publish(
        &mut peer,
        &queue,
        &known(5, "b"),
        "duplicate of what is visible",
    );
    expect_get(&mut peer, &queue, "high");
    let low = expect_get(&mut peer, &queue, "low");
    let ack = method!(basic.ack { delivery_tag: low.delivery_tag(), multiple: true });
    peer.send(1, ack);
    publish(&mut peer, &queue, &known(1, "a"), "again");
    await_ready(&mut peer, &queue, 1);
    expect_get(&mut peer, &queue, "again");
}

/// More than are held in memory, transient and persistent ones, in no order.
#[test]
fn many_waiting_messages_arrive_once_each() {
    if broker::is_foreign() {
        return;
    }
    let mut peer = peer();
    let queue = declare(&mut peer, HOUR_MS, Table::new());
    peer.call(1, method!(confirm.select), method!(confirm.select_ok));
    const COUNT: u64 = 12_000;
    for number in 0..COUNT {
        let properties = Properties {
            delivery_mode: Some(1 + (number % 2) as u8),
            ..own_delay((1 + number * 7919 % 3001) as i32)
        };
        publish(&mut peer, &queue, &properties, &number.to_string());
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
    for kind in ["classic", "quorum"] {
        let mut broker = BrokerProcess::start();
        let mut peer = broker.connect();
        peer.open_channel(1);
        let arguments = table([
            ("x-message-delay", 2_500.into()),
            ("x-queue-type", kind.into()),
        ]);
        let declare = method!(queue.declare { queue: "q", durable: true, arguments: arguments });
        peer.call(1, declare, method!(queue.declare_ok));
        peer.call(1, method!(confirm.select), method!(confirm.select_ok));
        let persistent = |properties: Properties| Properties {
            delivery_mode: Some(2),
            ..properties
        };
        let large = "x".repeat(50_000);
        publish(&mut peer, "q", &own_delay(2_000), "transient");
        publish(&mut peer, "q", &Properties::persistent(), "second");
        publish(&mut peer, "q", &persistent(own_delay(2_000)), "first");
        publish(&mut peer, "q", &persistent(own_delay(3_000)), &large);
        publish(
            &mut peer,
            "q",
            &persistent(own_delay(HOUR_MS)),
            "in an hour",
        );
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
        for body in ["first", "second", large.as_str()] {
            expect_delivery(&mut peer, body);
        }
        expect_counts(&mut peer, "q", 0, 1);
    }
}

#[test]
fn what_waits_in_a_deleted_queue_is_gone() {
    if broker::is_foreign() {
        return;
    }
    let mut peer = peer();
    let queue = declare(&mut peer, 1_500, Table::new());
    for properties in [Properties::default(), Properties::persistent()] {
        publish(&mut peer, &queue, &properties, "dies");
    }
    let delete = method!(queue.delete { queue: &queue });
    peer.call(1, delete, method!(queue.delete_ok { message_count: 0 }));
    let again = method!(queue.declare {
        queue: &queue,
        exclusive: true,
        arguments: table([("x-message-delay", 2_000.into())]),
    });
    peer.call(1, again, method!(queue.declare_ok));
    publish(&mut peer, &queue, &Properties::default(), "lives");
    await_ready(&mut peer, &queue, 1);
    expect_get(&mut peer, &queue, "lives");
}

#[test]
fn streams_do_not_delay_and_wrong_values_are_refused() {
    if broker::is_foreign() {
        return;
    }
    let name = unique("refused");
    let refused = |value: Value| {
        let arguments = table([("x-message-delay", value)]);
        method!(queue.declare { queue: &name, exclusive: true, arguments: arguments })
    };
    for (value, reason) in [
        (Value::from(-1), "{value_negative,-1}"),
        (
            Value::I64(315_360_000_001),
            "{value_too_large,315360000001}",
        ),
        ("1".into(), "\"expected integer, got longstr\""),
    ] {
        let text =
            format!("invalid arg 'x-message-delay' for queue '{name}' in vhost '/': {reason}");
        check_channel_error(refused(value), 406, &text);
    }
    let arguments = table([
        ("x-message-delay", 5.into()),
        ("x-queue-type", "stream".into()),
    ]);
    let declare = method!(queue.declare { queue: &name, durable: true, arguments: arguments });
    let text = format!(
        "invalid arg 'x-message-delay' for queue '{name}' in vhost '/' of queue type rabbit_stream_queue"
    );
    check_channel_error(declare, 406, &text);
}
