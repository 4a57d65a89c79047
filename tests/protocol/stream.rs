//! Streams: messages stay, consumers read from their own offsets.

use crate::check::{check_channel_error_on, expect_counts, expect_delivery, peer, since_4, unique};
use crate::support::broker::{self, BrokerProcess};
use crate::support::content::Properties;
use crate::support::method::Method;
use crate::support::peer::Peer;
use crate::support::wire::{Table, Value, field, table};

/// Declares a stream on channel 1 and opens channel 2 for publishing with confirms.
fn stream_on(peer: &mut Peer, name: &str, more: &[(&str, Value)]) {
    let mut arguments = table([("x-queue-type", "stream".into())]);
    for (key, value) in more {
        arguments.extend(table([(*key, value.clone())]));
    }
    let declare = method!(queue.declare { queue: name, durable: true, arguments: arguments });
    peer.call(1, declare, method!(queue.declare_ok));
    peer.open_channel(2);
    peer.call(2, method!(confirm.select), method!(confirm.select_ok));
}

fn stream(more: &[(&str, Value)]) -> (Peer, String) {
    let (mut peer, name) = (peer(), unique("stream"));
    stream_on(&mut peer, &name, more);
    (peer, name)
}

/// Publishes a body and waits until it is confirmed.
fn publish(peer: &mut Peer, name: &str, body: &str) {
    publish_with(peer, name, &Properties::default(), body);
}

fn publish_with(peer: &mut Peer, name: &str, properties: &Properties, body: &str) {
    let publish = method!(basic.publish { routing_key: name });
    peer.publish_with(2, publish, properties, body.as_bytes());
    peer.expect(2, method!(basic.ack));
}

/// The properties of a message with a filter value.
fn filtered(value: &str) -> Properties {
    Properties {
        headers: Some(table([("x-stream-filter-value", value.into())])),
        ..Properties::default()
    }
}

fn consume_method(name: &str, tag: &str, arguments: Table) -> Method {
    method!(basic.consume { queue: name, consumer_tag: tag, arguments: arguments })
}

fn consume(peer: &mut Peer, name: &str, tag: &str, prefetch: u16, arguments: Table) {
    let qos = method!(basic.qos { prefetch_count: prefetch });
    peer.call(1, qos, method!(basic.qos_ok));
    let consume = consume_method(name, tag, arguments);
    peer.call(1, consume, method!(basic.consume_ok { consumer_tag: tag }));
}

fn from(offset: impl Into<Value>) -> Table {
    table([("x-stream-offset", offset.into())])
}

/// The next delivery has this body and offset.
#[track_caller]
fn expect_offset(peer: &mut Peer, body: &str, offset: i64) -> u64 {
    let message = expect_delivery(peer, body);
    let headers = message
        .properties
        .headers
        .clone()
        .expect("there is the offset");
    let expected = Value::I64(offset);
    assert_eq!(field(&headers, "x-stream-offset"), Some(&expected));
    message.delivery_tag()
}

#[test]
fn messages_stay_for_every_consumer_and_acknowledgements_give_credit() {
    let (mut peer, name) = stream(&[]);
    for body in ["0", "1", "2", "3"] {
        publish(&mut peer, &name, body);
    }
    consume(&mut peer, &name, "a", 2, from("first"));
    expect_offset(&mut peer, "0", 0);
    let tag = expect_offset(&mut peer, "1", 1);
    peer.expect_silence(1);
    peer.send(1, method!(basic.ack { delivery_tag: tag, multiple: true }));
    expect_offset(&mut peer, "2", 2);
    expect_offset(&mut peer, "3", 3);
    let cancel = method!(basic.cancel { consumer_tag: "a" });
    peer.call(1, cancel, method!(basic.cancel_ok));
    consume(&mut peer, &name, "b", 10, from(2));
    expect_offset(&mut peer, "2", 2);
    expect_offset(&mut peer, "3", 3);
    if !broker::is_foreign() {
        expect_counts(&mut peer, &name, 4, 1);
    }
}

#[test]
fn transient_messages_are_confirmed_when_they_are_stored_and_survive_a_kill() {
    let mut broker = BrokerProcess::start();
    let mut peer = broker.connect();
    peer.open_channel(1);
    stream_on(&mut peer, "s", &[]);
    for number in 0..50 {
        publish(&mut peer, "s", &format!("before {number}"));
    }
    broker.kill9();
    broker.boot();
    let mut peer = broker.connect();
    peer.open_channel(1);
    stream_on(&mut peer, "s", &[]);
    expect_counts(&mut peer, "s", 50, 0);
    publish(&mut peer, "s", "after");
    consume(&mut peer, "s", "c", 100, from("first"));
    for number in 0..50 {
        expect_offset(&mut peer, &format!("before {number}"), number);
    }
    expect_offset(&mut peer, "after", 50);
}

#[test]
fn large_streams_come_back_with_their_sizes_and_times() {
    let mut broker = BrokerProcess::start();
    let mut peer = broker.connect();
    peer.open_channel(1);
    stream_on(&mut peer, "s", &[]);
    // Bodies of 30,000 bytes travel by reference; a chunk holds nine of them.
    let body = |number: usize| format!("{number:05}").repeat(6000);
    for number in 0..60 {
        publish_with(
            &mut peer,
            "s",
            &filtered(&format!("f{}", number / 20)),
            &body(number),
        );
    }
    broker.restart();
    let mut peer = broker.connect();
    peer.open_channel(1);
    stream_on(&mut peer, "s", &[]);
    expect_counts(&mut peer, "s", 60, 0);
    let mut arguments = from("first");
    arguments.extend(table([("x-stream-filter", "f1".into())]));
    consume(&mut peer, "s", "c", 100, arguments);
    for number in 20..40 {
        expect_offset(&mut peer, &body(number), number as i64);
    }
    peer.expect_silence(1);
    consume(&mut peer, "s", "d", 100, from(Value::Timestamp(1)));
    for number in 0..60 {
        expect_offset(&mut peer, &body(number), number as i64);
    }
}

#[test]
fn consumers_at_the_end_hear_of_what_comes() {
    let (mut publisher, name) = stream(&[]);
    let mut peer = peer();
    publish(&mut publisher, &name, "old");
    consume(&mut peer, &name, "next", 10, Table::default());
    consume(&mut peer, &name, "future", 10, from(2));
    publish(&mut publisher, &name, "one");
    expect_offset(&mut peer, "one", 1);
    publish(&mut publisher, &name, "two");
    for _ in 0..2 {
        expect_offset(&mut peer, "two", 2);
    }
}

#[test]
fn filters_are_exact() {
    if broker::is_foreign() {
        return;
    }
    let (mut peer, name) = stream(&[("x-stream-filter-size-bytes", 64.into())]);
    for (value, body) in [("red", "0"), ("green", "1"), ("blue", "2"), ("red", "3")] {
        publish_with(&mut peer, &name, &filtered(value), body);
    }
    publish(&mut peer, &name, "4");
    let filter = |values: Value, unfiltered: bool| {
        let mut arguments = from("first");
        arguments.extend(table([
            ("x-stream-filter", values),
            ("x-stream-match-unfiltered", unfiltered.into()),
        ]));
        arguments
    };
    consume(&mut peer, &name, "one", 10, filter("red".into(), false));
    expect_offset(&mut peer, "0", 0);
    expect_offset(&mut peer, "3", 3);
    peer.expect_silence(1);
    let two = Value::Array(vec!["blue".into(), "green".into()]);
    consume(&mut peer, &name, "two", 10, filter(two, true));
    for (body, offset) in [("1", 1), ("2", 2), ("4", 4)] {
        expect_offset(&mut peer, body, offset);
    }
    peer.expect_silence(1);
}

#[test]
fn retention_removes_the_oldest_segments_and_offsets_stay() {
    if broker::is_foreign() {
        // It looks at sizes less often.
        return;
    }
    let limits = [
        ("x-max-length-bytes", 60_000.into()),
        ("x-stream-max-segment-size-bytes", 10_000.into()),
    ];
    let (mut peer, name) = stream(&limits);
    for number in 0..100 {
        publish(&mut peer, &name, &format!("{number:04}").repeat(250));
    }
    consume(&mut peer, &name, "c", 200, from("first"));
    let first = peer.expect_message(1, method!(basic.deliver));
    let start: i64 = first.text()[..4].parse().expect("a number");
    assert!((40..60).contains(&start), "{start}");
    let headers = first.properties.headers.expect("there is the offset");
    assert_eq!(field(&headers, "x-stream-offset"), Some(&Value::I64(start)));
    for number in start + 1..100 {
        expect_offset(&mut peer, &format!("{number:04}").repeat(250), number);
    }
}

#[test]
fn a_named_consumer_goes_on_after_its_last_acknowledged_message() {
    if broker::is_foreign() {
        return;
    }
    let mut broker = BrokerProcess::start();
    let mut peer = broker.connect();
    peer.open_channel(1);
    let mut publisher = broker.connect();
    publisher.open_channel(1);
    stream_on(&mut publisher, "s", &[]);
    consume(&mut peer, "s", "worker", 3, Table::default());
    for body in ["0", "1", "2", "3"] {
        publish(&mut publisher, "s", body);
    }
    expect_offset(&mut peer, "0", 0);
    let tag = expect_offset(&mut peer, "1", 1);
    expect_offset(&mut peer, "2", 2);
    peer.send(1, method!(basic.ack { delivery_tag: tag, multiple: true }));
    expect_offset(&mut peer, "3", 3);
    let cancel = method!(basic.cancel { consumer_tag: "worker" });
    peer.call(1, cancel, method!(basic.cancel_ok));
    // What is confirmed later is on disk no sooner.
    publish(&mut publisher, "s", "4");
    broker.restart();
    let mut peer = broker.connect();
    peer.open_channel(1);
    stream_on(&mut peer, "s", &[]);
    consume(&mut peer, "s", "worker", 3, Table::default());
    expect_offset(&mut peer, "2", 2);
    expect_offset(&mut peer, "3", 3);
    expect_offset(&mut peer, "4", 4);
    consume(&mut peer, "s", "worker2", 3, from("first"));
    expect_offset(&mut peer, "0", 0);
}

/// Also when it settled nothing at all: the broker remembers where it began.
#[test]
fn a_named_consumer_gets_again_what_it_never_settled() {
    if broker::is_foreign() {
        return;
    }
    let (mut peer, name) = stream(&[]);
    let cancel = |peer: &mut Peer| {
        let cancel = method!(basic.cancel { consumer_tag: "worker" });
        peer.call(1, cancel, method!(basic.cancel_ok));
    };
    publish(&mut peer, &name, "before");
    consume(&mut peer, &name, "worker", 3, Table::default());
    cancel(&mut peer);
    publish(&mut peer, &name, "while it was away");
    for _ in 0..2 {
        consume(&mut peer, &name, "worker", 3, Table::default());
        expect_offset(&mut peer, "while it was away", 1);
        cancel(&mut peer);
    }
}

#[test]
fn a_tracked_consumer_that_began_with_an_interval_gets_again_what_it_never_settled() {
    if broker::is_foreign() {
        return;
    }
    let (mut peer, name) = stream(&[]);
    publish(&mut peer, &name, "0");
    for offset in ["1h", "next"] {
        let mut arguments = from(offset);
        arguments.extend(table([(
            "x-stream-automatic-offset-tracking",
            Value::Bool(true),
        )]));
        consume(&mut peer, &name, "worker", 3, arguments);
        expect_offset(&mut peer, "0", 0);
        let cancel = method!(basic.cancel { consumer_tag: "worker" });
        peer.call(1, cancel, method!(basic.cancel_ok));
    }
}

#[test]
fn a_deleted_stream_is_gone_with_its_messages() {
    let (mut peer, name) = stream(&[]);
    publish(&mut peer, &name, "old");
    consume(&mut peer, &name, "c", 10, from("first"));
    expect_offset(&mut peer, "old", 0);
    let delete = method!(queue.delete { queue: &name, if_unused: true, if_empty: true });
    let mut other = self::peer();
    other.call(1, delete, method!(queue.delete_ok { message_count: 0 }));
    peer.expect(1, method!(basic.cancel { consumer_tag: "c", nowait: true }));
    stream_on(&mut other, &name, &[]);
    publish(&mut other, &name, "new");
    consume(&mut other, &name, "c", 10, from("first"));
    expect_offset(&mut other, "new", 0);
}

#[test]
fn a_consumer_needs_a_prefetch() {
    let (mut peer, name) = stream(&[]);
    let now = format!("consumer prefetch count is not set for stream queue '{name}' in vhost '/'");
    let before = format!("consumer prefetch count is not set for 'queue '{name}' in vhost '/''");
    let consume = consume_method(&name, "c", Table::default());
    check_channel_error_on(&mut peer, consume, 406, &since_4(now, before));
}
