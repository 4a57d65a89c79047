//! `x-consumer-timeout`: only the consumer that is too slow is cancelled, and told.

use crate::check::{consume, expect_counts, expect_delivery, expect_get, peer, peer_with, send_to};
use crate::support::method::Method;
use crate::support::peer::{Login, Peer};
use crate::support::wire::{Value, table};

/// Short enough not to be noticed, and long enough that nobody is late by chance who acknowledges at once.
const TIMEOUT_MS: i32 = 300;

fn slow_queue(peer: &mut Peer) -> String {
    let arguments = table([("x-consumer-timeout", Value::I32(TIMEOUT_MS))]);
    let declare = method!(queue.declare { exclusive: true, arguments: arguments });
    peer.call(1, declare, method!(queue.declare_ok))
        .text("queue")
}

fn qos(peer: &mut Peer, prefetch: u16) {
    let qos = method!(basic.qos { prefetch_count: prefetch });
    peer.call(1, qos, method!(basic.qos_ok));
}

#[test]
fn a_consumer_that_holds_a_message_for_too_long_is_cancelled_and_loses_it() {
    let mut peer = peer();
    let queue = slow_queue(&mut peer);
    qos(&mut peer, 1);
    consume(&mut peer, &queue, "slow");
    send_to(&mut peer, &queue, "a");
    expect_delivery(&mut peer, "a");
    peer.expect(
        1,
        method!(basic.cancel { consumer_tag: "slow", nowait: true }),
    );
    expect_counts(&mut peer, &queue, 1, 0);
    // The channel lives, and a late acknowledgement is no error.
    peer.send(1, method!(basic.ack { delivery_tag: 1 }));
    let message = expect_get(&mut peer, &queue, "a");
    assert!(message.redelivered());
}

#[test]
fn others_go_on() {
    let mut peer = peer();
    let queue = slow_queue(&mut peer);
    peer.open_channel(2);
    qos(&mut peer, 1);
    consume(&mut peer, &queue, "slow");
    send_to(&mut peer, &queue, "a");
    expect_delivery(&mut peer, "a");
    let consume = method!(basic.consume { queue: &queue, consumer_tag: "quick" });
    peer.call(2, consume, method!(basic.consume_ok));
    peer.expect(1, method!(basic.cancel { consumer_tag: "slow" }));
    let message = peer.expect_message(2, method!(basic.deliver { consumer_tag: "quick" }));
    assert_eq!(message.text(), "a");
    peer.send(2, method!(basic.ack { delivery_tag: 1 }));
    expect_counts(&mut peer, &queue, 0, 1);
}

#[test]
fn a_client_that_cannot_be_told_loses_the_channel() {
    let mut peer = peer_with(&Login {
        capabilities: Vec::new(),
        ..Login::default()
    });
    peer.open_channel(1);
    let queue = slow_queue(&mut peer);
    consume(&mut peer, &queue, "slow");
    send_to(&mut peer, &queue, "a");
    expect_delivery(&mut peer, "a");
    let text = format!(
        "delivery acknowledgement on channel 1 timed out. Timeout value used: {TIMEOUT_MS} ms. \
         This timeout value can be configured, see consumers doc guide to learn more"
    );
    peer.expect_channel_close(1, "", 406, &text);
}

#[test]
fn the_argument_of_a_consumer_takes_the_place_of_the_queues() {
    let mut peer = peer();
    let declare = method!(queue.declare { exclusive: true });
    let queue = peer
        .call(1, declare, method!(queue.declare_ok))
        .text("queue");
    let arguments = table([("x-consumer-timeout", Value::I32(TIMEOUT_MS))]);
    let consume: Method = method!(basic.consume {
        queue: &queue,
        consumer_tag: "slow",
        arguments: arguments,
    });
    peer.call(1, consume, method!(basic.consume_ok));
    send_to(&mut peer, &queue, "a");
    expect_delivery(&mut peer, "a");
    peer.expect(1, method!(basic.cancel { consumer_tag: "slow" }));
}

#[test]
fn a_timeout_that_is_no_number_is_refused() {
    let mut peer = peer();
    let queue = slow_queue(&mut peer);
    let arguments = table([("x-consumer-timeout", Value::I32(-1))]);
    peer.send(
        1,
        method!(basic.consume { queue: &queue, arguments: arguments }),
    );
    let text = format!(
        "invalid arg 'x-consumer-timeout' for queue '{queue}' in vhost '/': \
         expected a non-negative integer"
    );
    peer.expect_channel_close(1, "basic.consume", 406, &text);
}
