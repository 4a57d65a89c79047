//! Channels: opening, closing, and what is said on the wrong one.

use crate::check::{
    check_channel_error, check_connection_error, consume, expect_delivery, expect_get, own_queue,
    peer, peer_with, send_to,
};
use crate::support::peer::Login;

#[test]
fn a_method_on_a_channel_that_is_not_open_is_an_error_of_the_connection() {
    let mut peer = peer();
    peer.send(2, method!(basic.qos));
    peer.expect_connection_close("basic.qos", 504, "expected 'channel.open'");
}

#[test]
fn a_second_open_is_an_error_of_the_connection() {
    check_connection_error(method!(channel.open), 504, "second 'channel.open' seen");
}

#[test]
fn a_number_beyond_the_negotiated_maximum_is_not_allowed() {
    let mut peer = peer_with(&Login {
        channel_max: 2,
        ..Login::default()
    });
    peer.open_channel(1);
    peer.open_channel(2);
    // RabbitMQ 3.10 counts channels and does not look at their numbers; here both are too many.
    peer.send(3, method!(channel.open));
    let close = peer.expect(0, method!(connection.close { reply_code: 530 }));
    let text = close.text("reply_text");
    let expected = "number of channels opened (2) has reached the negotiated channel_max (2)";
    assert_eq!(text, format!("NOT_ALLOWED - {expected}"));
}

#[test]
fn a_number_can_be_used_again_after_close_ok() {
    let mut peer = peer();
    for _ in 0..50 {
        peer.call(1, method!(channel.close), method!(channel.close_ok));
        peer.open_channel(1);
    }
}

#[test]
fn every_number_up_to_the_maximum_can_be_open_at_once() {
    let mut peer = peer_with(&Login::default());
    for channel in 1..=2047 {
        peer.send(channel, method!(channel.open));
    }
    for _ in 1..=2047 {
        let frame = peer.recv();
        let came = crate::support::peer::decode(&frame).expect("a method");
        assert_eq!(came.name(), "channel.open_ok");
    }
}

#[test]
fn after_the_server_closed_a_channel_everything_but_close_is_ignored() {
    let mut peer = peer();
    peer.open_channel(2);
    peer.send(
        1,
        method!(queue.declare { queue: "missing", passive: true }),
    );
    let close = peer.expect(1, method!(channel.close));
    assert_eq!(close.number("reply_code"), 404);
    peer.send(
        1,
        method!(queue.declare { queue: "missing too", passive: true }),
    );
    peer.publish(
        1,
        method!(basic.publish { exchange: "missing as well" }),
        b"ignored",
    );
    peer.send(1, method!(channel.close_ok));
    peer.expect_silence(2);
    peer.open_channel(1);
    peer.expect_silence(1);
}

#[test]
fn a_close_ok_that_nobody_waits_for_is_refused() {
    check_connection_error(method!(channel.close_ok), 503, "unimplemented method");
}

#[test]
fn when_both_sides_close_at_once_the_client_gets_its_close_ok() {
    let mut peer = peer();
    peer.send(
        1,
        method!(queue.declare { queue: "missing", passive: true }),
    );
    peer.send(1, method!(channel.close));
    peer.expect(1, method!(channel.close));
    peer.expect(1, method!(channel.close_ok));
    peer.send(1, method!(channel.close_ok));
    peer.open_channel(1);
    peer.expect_silence(1);
}

#[test]
fn close_requeues_what_is_unacknowledged_before_it_is_answered() {
    let mut peer = peer();
    peer.open_channel(2);
    let queue = own_queue(&mut peer);
    for body in ["a", "b", "c"] {
        send_to(&mut peer, &queue, body);
    }
    peer.expect_silence(1);
    peer.call(
        2,
        method!(basic.consume { queue: &queue, consumer_tag: "t" }),
        method!(basic.consume_ok),
    );
    for _ in 0..3 {
        peer.expect_message(2, method!(basic.deliver));
    }
    peer.call(2, method!(channel.close), method!(channel.close_ok));
    for body in ["a", "b", "c"] {
        assert!(expect_get(&mut peer, &queue, body).redelivered());
    }
}

#[test]
fn the_end_of_a_connection_requeues_in_order() {
    let mut owner = peer();
    let queue = crate::check::unique("requeue-order");
    owner.call(
        1,
        method!(queue.declare { queue: &queue, auto_delete: true }),
        method!(queue.declare_ok),
    );
    for body in ["a", "b", "c"] {
        send_to(&mut owner, &queue, body);
    }
    owner.expect_silence(1);
    let mut other = peer();
    for body in ["a", "b"] {
        assert!(!expect_get(&mut other, &queue, body).redelivered());
    }
    other.close();
    assert!(expect_get(&mut owner, &queue, "a").redelivered());
    assert!(expect_get(&mut owner, &queue, "b").redelivered());
    assert!(!expect_get(&mut owner, &queue, "c").redelivered());
    owner.call(
        1,
        method!(queue.delete { queue: &queue }),
        method!(queue.delete_ok),
    );
}

#[test]
fn flow_can_be_asked_for_but_not_stopped() {
    let mut peer = peer();
    peer.call(
        1,
        method!(channel.flow { active: true }),
        method!(channel.flow_ok { active: true }),
    );
    peer.send(1, method!(channel.flow { active: false }));
    peer.expect_connection_close("channel.flow", 540, "active=false");
}

#[test]
fn access_request_is_answered_with_a_ticket() {
    let mut peer = peer();
    let request = method!(access.request { realm: "/data", active: true });
    peer.call(1, request, method!(access.request_ok { ticket: 1 }));
}

#[test]
fn closing_a_channel_leaves_the_others_alone() {
    let mut peer = peer();
    peer.open_channel(2);
    let queue = own_queue(&mut peer);
    consume(&mut peer, &queue, "stays");
    peer.call(2, method!(channel.close), method!(channel.close_ok));
    send_to(&mut peer, &queue, "still here");
    expect_delivery(&mut peer, "still here");
}

#[test]
fn a_method_that_only_servers_send_is_not_understood() {
    check_connection_error(method!(queue.declare_ok), 503, "unimplemented method");
}

#[test]
fn an_error_names_the_method_that_caused_it() {
    check_channel_error(
        method!(queue.purge { queue: "missing" }),
        404,
        "no queue 'missing' in vhost '/'",
    );
}
