//! `x-consumer-timeout`: only the consumer that is too slow is cancelled, and told.

use crate::check::{
    check_channel_error_on, consume, expect_counts, expect_delivery, expect_get, peer, peer_with,
    send_to, unique,
};
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

/// A transient message asks for no mark on the disk that it was delivered, and yet its consumer is to be watched.
#[test]
fn what_was_there_before_the_consumer_times_out_too() {
    let mut peer = peer();
    let queue = slow_queue(&mut peer);
    send_to(&mut peer, &queue, "a");
    expect_counts(&mut peer, &queue, 1, 0);
    consume(&mut peer, &queue, "slow");
    expect_delivery(&mut peer, "a");
    peer.expect(1, method!(basic.cancel { consumer_tag: "slow" }));
    expect_counts(&mut peer, &queue, 1, 0);
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

/// The next one in line begins when what the late one held is back, and so with that.
#[test]
fn a_late_single_active_consumer_hands_over_in_order() {
    let mut peer = peer();
    let arguments = table([
        ("x-consumer-timeout", Value::I32(TIMEOUT_MS)),
        ("x-single-active-consumer", Value::Bool(true)),
    ]);
    let declare = method!(queue.declare { exclusive: true, arguments: arguments });
    let declared = peer.call(1, declare, method!(queue.declare_ok));
    let queue = declared.text("queue");
    qos(&mut peer, 2);
    consume(&mut peer, &queue, "slow");
    let bodies = ["a", "b", "c", "d"];
    for body in bodies {
        send_to(&mut peer, &queue, body);
    }
    expect_delivery(&mut peer, "a");
    expect_delivery(&mut peer, "b");
    peer.open_channel(2);
    let patient = table([("x-consumer-timeout", Value::I32(0))]);
    let consume = method!(basic.consume {
        queue: &queue,
        consumer_tag: "next",
        arguments: patient,
    });
    peer.call(2, consume, method!(basic.consume_ok));
    peer.expect(1, method!(basic.cancel { consumer_tag: "slow" }));
    for body in bodies {
        let message = peer.expect_message(2, method!(basic.deliver { consumer_tag: "next" }));
        assert_eq!(message.text(), body);
    }
    expect_counts(&mut peer, &queue, 0, 1);
}

#[test]
fn an_auto_delete_queue_goes_with_its_last_consumer_that_is_late() {
    let mut peer = peer();
    let queue = unique("late");
    let arguments = table([("x-consumer-timeout", Value::I32(TIMEOUT_MS))]);
    let declare = method!(queue.declare {
        queue: &queue,
        auto_delete: true,
        arguments: arguments,
    });
    peer.call(1, declare, method!(queue.declare_ok));
    consume(&mut peer, &queue, "slow");
    send_to(&mut peer, &queue, "a");
    expect_delivery(&mut peer, "a");
    peer.expect(1, method!(basic.cancel { consumer_tag: "slow" }));
    let text = format!("no queue '{queue}' in vhost '/'");
    let declare = method!(queue.declare { queue: &queue, passive: true });
    check_channel_error_on(&mut peer, declare, 404, &text);
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
