//! Messages that wait, in a queue that delays or for a retry, through losses of power.

use std::collections::BTreeMap;

use crate::promises::{Powered, QUEUE, barrier};
use crate::support::content::{Message, Properties};
use crate::support::method::Method;
use crate::support::peer::{Peer, decode};
use crate::support::wire::{Table, Value, field, table};

const HOUR_MS: i32 = 3_600_000;

fn declare(peer: &mut Peer, queue: &str, arguments: Table) {
    let declare = method!(queue.declare { queue: queue, durable: true });
    let declare = declare.with("arguments", arguments);
    peer.call(1, declare, method!(queue.declare_ok));
}

fn publish(peer: &mut Peer, queue: &str, delay_ms: i32, body: &str) {
    let properties = Properties {
        headers: Some(table([("x-delay", delay_ms.into())])),
        ..Properties::persistent()
    };
    let publish = method!(basic.publish { routing_key: queue });
    peer.publish_with(1, publish, &properties, body.as_bytes());
}

fn get(peer: &mut Peer, get: Method) -> Option<Message> {
    peer.send(1, get);
    let frame = peer.recv();
    let method = decode(&frame).expect("a method");
    (method.name() == "basic.get_ok").then(|| peer.try_content(method).expect("its content"))
}

/// Asks until there is one.
fn await_one(peer: &mut Peer, queue: &str) -> Message {
    loop {
        if let Some(message) = get(peer, method!(basic.get { queue: queue, no_ack: true })) {
            return message;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn delayed_messages_are_neither_lost_nor_doubled_whenever_the_power_goes() {
    const EACH: u64 = 300;
    let mut powered = Powered::start();
    let arguments = table([("x-message-delay", 300.into())]);
    declare(&mut powered.peer(), QUEUE, arguments);
    let mut confirmed = Vec::new();
    for (round, wanted) in [0, 1, 150, EACH, EACH, EACH].into_iter().enumerate() {
        let mut peer = powered.peer();
        peer.call(1, method!(confirm.select), method!(confirm.select_ok));
        let first = round as u64 * EACH;
        for number in 0..EACH {
            let delay_ms = (number * 37 % 700) as i32;
            publish(&mut peer, QUEUE, delay_ms, &(first + number).to_string());
        }
        let mut last = 0;
        while last < wanted {
            last = peer.expect(1, method!(basic.ack)).number("delivery_tag");
        }
        confirmed.extend(first..first + last);
        // Some become visible meanwhile, more each time.
        std::thread::sleep(std::time::Duration::from_millis(100 * round as u64));
        powered.lose_power();
    }
    let mut peer = powered.peer();
    // Due behind all others.
    publish(&mut peer, QUEUE, 1_000, "last");
    let mut seen: BTreeMap<u64, u32> = BTreeMap::new();
    loop {
        let body = await_one(&mut peer, QUEUE).text();
        if body == "last" {
            break;
        }
        *seen.entry(body.parse().expect("a number")).or_default() += 1;
    }
    assert!(get(&mut peer, method!(basic.get { queue: QUEUE })).is_none());
    assert!(seen.values().all(|times| *times == 1), "doubled: {seen:?}");
    let lost: Vec<_> = confirmed
        .into_iter()
        .filter(|number| !seen.contains_key(number))
        .collect();
    assert_eq!(lost, [] as [u64; 0]);
}

#[test]
fn a_retry_goes_on_waiting_after_a_crash_and_comes_in_its_time() {
    let mut powered = Powered::start();
    let mut peer = powered.peer();
    for (queue, min_ms) in [("soon", 1_500), ("in an hour", HOUR_MS)] {
        let arguments = table([
            ("x-delayed-retry-type", "all".into()),
            ("x-delayed-retry-min", min_ms.into()),
        ]);
        declare(&mut peer, queue, arguments);
        for body in ["a", "b", "c"] {
            publish(&mut peer, queue, 0, body);
        }
        for _ in 0..2 {
            let taken = get(&mut peer, method!(basic.get { queue: queue })).expect("a message");
            let delivery_tag = taken.delivery_tag();
            peer.send(
                1,
                method!(basic.reject { delivery_tag: delivery_tag, requeue: true }),
            );
        }
    }
    barrier(&mut peer);
    for _ in 0..2 {
        powered.lose_power();
    }
    let mut peer = powered.peer();
    let third = await_one(&mut peer, "in an hour");
    assert_eq!(third.text(), "c", "what never waited is there");
    let passive = method!(queue.declare { queue: "in an hour", passive: true });
    let none = method!(queue.declare_ok { message_count: 0 });
    peer.call(1, passive, none);
    assert!(get(&mut peer, method!(basic.get { queue: "in an hour" })).is_none());
    let mut soon: Vec<_> = (0..3).map(|_| await_one(&mut peer, "soon")).collect();
    soon.sort_by_key(Message::text);
    for (message, (body, times)) in soon.iter().zip([("a", 1), ("b", 1), ("c", 0)]) {
        assert_eq!(message.text(), body);
        let headers = message.properties.headers.clone().unwrap_or_default();
        let count = field(&headers, "x-delivery-count");
        let expected = (times > 0).then_some(Value::I64(times));
        assert_eq!(count, expected.as_ref(), "{body}");
    }
    assert!(get(&mut peer, method!(basic.get { queue: "soon" })).is_none());
}
