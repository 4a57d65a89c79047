//! A publisher that repeats what it published before a loss of power: nothing is lost, nothing is doubled.

use crate::promises::{Powered, QUEUE, barrier, take_all};
use crate::support::content::Properties;
use crate::support::peer::Peer;
use crate::support::wire::{Value, table};

const EXCHANGE: &str = "once";

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
    peer.call(1, method!(confirm.select), method!(confirm.select_ok));
    for number in 1..=count {
        let properties = Properties {
            headers: Some(table([(
                "x-deduplication-header",
                Value::I64(number as i64),
            )])),
            ..Properties::persistent()
        };
        let publish = method!(basic.publish { exchange: EXCHANGE });
        peer.publish_with(1, publish, &properties, number.to_string().as_bytes());
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
