//! `x-delayed-retry-type`: messages that come back wait before they are delivered again.

use crate::check::{
    check_channel_error_on, consume, expect_counts, expect_delivery, expect_empty, expect_get,
    own_queue, peer, send_to,
};
use crate::support::peer::Peer;
use crate::support::wire::{Value, field, table};

/// Long enough that a message which should wait is seen to wait.
const MIN_MS: i32 = 400;

fn retry_queue(peer: &mut Peer, kind: &str, limit: i32) -> String {
    let arguments = table([
        ("x-delayed-retry-type", kind.into()),
        ("x-delayed-retry-min", Value::I32(MIN_MS)),
        ("x-delivery-limit", Value::I32(limit)),
    ]);
    let declare = method!(queue.declare { exclusive: true, arguments: arguments });
    peer.call(1, declare, method!(queue.declare_ok))
        .text("queue")
}

#[test]
fn a_rejected_message_waits_and_comes_back_redelivered() {
    let mut peer = peer();
    let queue = retry_queue(&mut peer, "all", 5);
    send_to(&mut peer, &queue, "a");
    expect_get(&mut peer, &queue, "a");
    peer.send(1, method!(basic.reject { delivery_tag: 1, requeue: true }));
    expect_empty(&mut peer, &queue);
    expect_counts(&mut peer, &queue, 0, 0);
    consume(&mut peer, &queue, "c");
    let message = expect_delivery(&mut peer, "a");
    assert!(message.redelivered());
    let headers = message.properties.headers.expect("the counts are headers");
    let headers: std::collections::HashMap<_, _> = headers.into_iter().collect();
    assert_eq!(headers.get("x-delivery-count"), Some(&Value::I64(1)));
    assert_eq!(headers.get("x-acquired-count"), Some(&Value::I64(1)));
}

#[test]
fn others_overtake_a_message_that_waits() {
    let mut peer = peer();
    let queue = retry_queue(&mut peer, "all", 5);
    for body in ["a", "b"] {
        send_to(&mut peer, &queue, body);
    }
    expect_get(&mut peer, &queue, "a");
    peer.send(1, method!(basic.nack { delivery_tag: 1, requeue: true }));
    consume(&mut peer, &queue, "c");
    expect_delivery(&mut peer, "b");
    expect_delivery(&mut peer, "a");
}

#[test]
fn only_the_kind_that_was_asked_for_waits() {
    let mut peer = peer();
    let queue = retry_queue(&mut peer, "failed", 5);
    send_to(&mut peer, &queue, "a");
    expect_get(&mut peer, &queue, "a");
    peer.send(1, method!(basic.nack { delivery_tag: 1, requeue: true }));
    expect_get(&mut peer, &queue, "a");
    peer.send(1, method!(basic.reject { delivery_tag: 2, requeue: true }));
    expect_empty(&mut peer, &queue);
}

#[test]
fn retries_end_with_the_delivery_limit() {
    let mut peer = peer();
    let queue = retry_queue(&mut peer, "all", 1);
    send_to(&mut peer, &queue, "a");
    consume(&mut peer, &queue, "c");
    for tag in 1..=2 {
        expect_delivery(&mut peer, "a");
        peer.send(
            1,
            method!(basic.reject { delivery_tag: tag, requeue: true }),
        );
    }
    send_to(&mut peer, &queue, "b");
    expect_delivery(&mut peer, "b");
}

#[test]
fn the_longest_wait_holds_for_the_first_one_too() {
    let mut peer = peer();
    let arguments = table([
        ("x-delayed-retry-type", Value::from("all")),
        ("x-delayed-retry-min", Value::I32(600_000)),
        ("x-delayed-retry-max", Value::I32(1)),
    ]);
    let declare = method!(queue.declare { exclusive: true, arguments: arguments });
    let declared = peer.call(1, declare, method!(queue.declare_ok));
    let queue = declared.text("queue");
    send_to(&mut peer, &queue, "a");
    consume(&mut peer, &queue, "c");
    expect_delivery(&mut peer, "a");
    peer.send(1, method!(basic.reject { delivery_tag: 1, requeue: true }));
    expect_delivery(&mut peer, "a");
}

#[test]
fn a_queue_in_which_a_retry_waits_is_not_empty() {
    let mut peer = peer();
    let queue = retry_queue(&mut peer, "all", 5);
    send_to(&mut peer, &queue, "a");
    expect_get(&mut peer, &queue, "a");
    peer.send(1, method!(basic.reject { delivery_tag: 1, requeue: true }));
    let delete = method!(queue.delete { queue: &queue, if_empty: true });
    let text = format!("queue '{queue}' in vhost '/' not empty");
    check_channel_error_on(&mut peer, delete, 406, &text);
}

/// Neither the wait nor what stands before it hides that its time is up.
#[test]
fn a_message_expires_while_it_waits() {
    let mut peer = peer();
    let dead = own_queue(&mut peer);
    let arguments = table([
        ("x-delayed-retry-type", Value::from("all")),
        ("x-delayed-retry-min", Value::I32(600_000)),
        ("x-message-ttl", Value::I32(300)),
        ("x-dead-letter-exchange", Value::from("")),
        ("x-dead-letter-routing-key", Value::from(dead.as_str())),
    ]);
    let declare = method!(queue.declare { exclusive: true, arguments: arguments });
    let declared = peer.call(1, declare, method!(queue.declare_ok));
    let queue = declared.text("queue");
    consume(&mut peer, &queue, "c");
    send_to(&mut peer, &queue, "a");
    expect_delivery(&mut peer, "a");
    peer.send(1, method!(basic.reject { delivery_tag: 1, requeue: true }));
    consume(&mut peer, &dead, "d");
    let letter = expect_delivery(&mut peer, "a");
    let headers = letter.properties.headers.expect("a letter has headers");
    let reason = field(&headers, "x-first-death-reason");
    assert_eq!(reason, Some(&Value::from("expired")));
}
