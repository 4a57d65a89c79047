//! A publisher that repeats what it published before a loss of power: nothing is lost, nothing is doubled.

use crate::promises::{Powered, QUEUE, barrier, take_all};
use crate::support::content::Properties;
use crate::support::method::Method;
use crate::support::peer::Peer;
use crate::support::wire::{Value, table};

const EXCHANGE: &str = "once";

/// A queue that deduplicates itself.
const ONCE: &str = "once in the queue";

fn declare(powered: &Powered) -> Peer {
    let mut peer = powered.declared();
    let declare = method!(exchange.declare { exchange: EXCHANGE, type: "fanout", durable: true });
    let on = table([("x-message-deduplication", Value::Bool(true))]);
    let declare = declare.with("arguments", on);
    peer.call(1, declare, method!(exchange.declare_ok));
    let bind = method!(queue.bind { queue: QUEUE, exchange: EXCHANGE });
    peer.call(1, bind, method!(queue.bind_ok));
    peer
}

/// Publishes the messages 1 to `count`, each known by its number, and waits for the first `confirmed` confirms.
fn publish(peer: &mut Peer, count: u64, confirmed: u64) {
    let publish = method!(basic.publish { exchange: EXCHANGE });
    publish_by(peer, &publish, count, confirmed);
}

fn publish_by(peer: &mut Peer, publish: &Method, count: u64, confirmed: u64) {
    peer.call(1, method!(confirm.select), method!(confirm.select_ok));
    for number in 1..=count {
        let properties = Properties {
            headers: Some(table([(
                "x-deduplication-header",
                Value::I64(number as i64),
            )])),
            ..Properties::persistent()
        };
        peer.publish_with(
            1,
            publish.clone(),
            &properties,
            number.to_string().as_bytes(),
        );
    }
    let mut last = 0;
    while last < confirmed {
        last = peer.expect(1, method!(basic.ack)).number("delivery_tag");
    }
}

#[test]
fn a_publisher_that_repeats_everything_after_a_crash_doubles_nothing() {
    let mut powered = Powered::start();
    let mut peer = declare(&powered);
    // The crash finds the publisher at different places, once before any confirm.
    for confirmed in [0, 1, 400, 1000] {
        publish(&mut peer, 1000, confirmed);
        powered.lose_power();
        peer = powered.peer();
    }
    publish(&mut peer, 1000, 1000);
    powered.lose_power();
    let taken = take_all(&mut powered.peer());
    let bodies: Vec<_> = taken.into_iter().map(|(body, _)| body).collect();
    let expected: Vec<_> = (1..=1000).map(|number| number.to_string()).collect();
    assert_eq!(bodies, expected);
}

#[test]
fn what_was_consumed_before_the_crash_does_not_come_again() {
    let mut powered = Powered::start();
    let mut peer = declare(&powered);
    publish(&mut peer, 100, 100);
    assert_eq!(take_all(&mut peer).len(), 100);
    barrier(&mut peer);
    powered.lose_power();
    let mut peer = powered.peer();
    publish(&mut peer, 101, 101);
    let taken = take_all(&mut peer);
    assert_eq!(taken, [("101".to_owned(), false)]);
}

#[test]
fn a_deleted_exchange_is_forgotten_on_the_disk_too() {
    let mut powered = Powered::start();
    let mut peer = declare(&powered);
    publish(&mut peer, 10, 10);
    let delete = method!(exchange.delete { exchange: EXCHANGE });
    peer.call(1, delete, method!(exchange.delete_ok));
    assert_eq!(take_all(&mut peer).len(), 10);
    barrier(&mut peer);
    powered.lose_power();
    let mut peer = declare(&powered);
    publish(&mut peer, 10, 10);
    assert_eq!(take_all(&mut peer).len(), 10);
}

/// Declares the queue that deduplicates, as a cache with `size`.
fn declare_once(powered: &Powered, size: Option<i32>) -> Peer {
    let mut peer = powered.peer();
    let mut arguments = table([("x-message-deduplication", Value::Bool(true))]);
    if let Some(size) = size {
        arguments.extend(table([("x-cache-size", size.into())]));
    }
    let declare = method!(queue.declare { queue: ONCE, durable: true });
    let declare = declare.with("arguments", arguments);
    peer.call(1, declare, method!(queue.declare_ok));
    peer
}

fn publish_once(peer: &mut Peer, count: u64, confirmed: u64) {
    let publish = method!(basic.publish { routing_key: ONCE });
    publish_by(peer, &publish, count, confirmed);
}

/// Takes one message and acknowledges it.
fn consume_one(peer: &mut Peer) -> String {
    peer.send(1, method!(basic.get { queue: ONCE }));
    let message = peer.expect_message(1, method!(basic.get_ok));
    let ack = method!(basic.ack { delivery_tag: message.delivery_tag() });
    peer.send(1, ack);
    message.text()
}

#[test]
fn a_publisher_that_repeats_everything_into_a_queue_doubles_nothing() {
    for size in [None, Some(5_000)] {
        let mut powered = Powered::start();
        let mut peer = declare_once(&powered, size);
        for confirmed in [0, 1, 400, 1000] {
            publish_once(&mut peer, 1000, confirmed);
            powered.lose_power();
            peer = powered.peer();
        }
        publish_once(&mut peer, 1000, 1000);
        powered.lose_power();
        let mut peer = powered.peer();
        let bodies: Vec<_> = (0..1000).map(|_| consume_one(&mut peer)).collect();
        let expected: Vec<_> = (1..=1000).map(|number| number.to_string()).collect();
        assert_eq!(bodies, expected, "size {size:?}");
        let empty = method!(basic.get { queue: ONCE });
        peer.call(1, empty, method!(basic.get_empty));
    }
}

/// Messages come, are confirmed, and go, over and over: whatever the crash finds, an id is taken exactly as long as its
/// message is there. What is in the queue cannot be published again, and all else can.
#[test]
fn an_id_is_taken_after_a_crash_exactly_while_its_message_is_in_the_queue() {
    let mut powered = Powered::start();
    let mut peer = declare_once(&powered, None);
    for round in 0..6 {
        publish_once(&mut peer, 300, 300);
        // Some are gone for sure, some perhaps, and some are unacknowledged.
        for _ in 0..40 * round {
            consume_one(&mut peer);
        }
        if round % 2 == 0 {
            barrier(&mut peer);
        }
        peer.send(1, method!(basic.get { queue: ONCE }));
        peer.recv();
        powered.lose_power();
        peer = powered.peer();
        // Everything that is missing comes anew, and nothing twice.
        publish_once(&mut peer, 300, 300);
        let mut bodies: Vec<u64> = (0..300)
            .map(|_| consume_one(&mut peer).parse().expect("a number"))
            .collect();
        let empty = method!(basic.get { queue: ONCE });
        peer.call(1, empty, method!(basic.get_empty));
        // A new channel counts its publishes from 1.
        peer = powered.peer();
        bodies.sort_unstable();
        assert_eq!(bodies, (1..=300).collect::<Vec<_>>(), "round {round}");
    }
}

#[test]
fn a_cache_of_a_queue_remembers_what_was_consumed_before_the_crash() {
    let mut powered = Powered::start();
    let mut peer = declare_once(&powered, Some(1_000));
    publish_once(&mut peer, 100, 100);
    for _ in 0..100 {
        consume_one(&mut peer);
    }
    barrier(&mut peer);
    powered.lose_power();
    let mut peer = powered.peer();
    publish_once(&mut peer, 101, 101);
    assert_eq!(consume_one(&mut peer), "101");
    let empty = method!(basic.get { queue: ONCE });
    peer.call(1, empty, method!(basic.get_empty));
}
