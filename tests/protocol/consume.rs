//! basic.consume, cancel and deliver.

use crate::check::{
    check_channel_error, check_channel_error_on, consume, expect_counts, expect_delivery,
    expect_empty, expect_get, own_queue, peer, send_to,
};
use crate::support::broker::BrokerProcess;
use crate::support::peer::Peer;
use crate::support::wire::{Value, table};

#[test]
fn consuming_from_a_missing_queue_is_not_found() {
    let consume = method!(basic.consume { queue: "missing" });
    check_channel_error(consume, 404, "no queue 'missing' in vhost '/'");
}

#[test]
fn a_consumer_without_a_tag_gets_one() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    let consume = method!(basic.consume { queue: &queue });
    let tag = peer
        .call(1, consume, method!(basic.consume_ok))
        .text("consumer_tag");
    assert!(tag.starts_with("amq.ctag-"), "{tag}");
    assert_eq!(tag.len(), "amq.ctag-".len() + 22, "16 bytes as base64url");
}

#[test]
fn consume_ok_comes_before_the_first_delivery() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    for body in ["a", "b"] {
        send_to(&mut peer, &queue, body);
    }
    consume(&mut peer, &queue, "c");
    expect_delivery(&mut peer, "a");
    expect_delivery(&mut peer, "b");
}

#[test]
fn a_delivery_names_consumer_tag_exchange_and_key() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    let bind = method!(queue.bind { queue: &queue, exchange: "amq.direct", routing_key: &queue });
    peer.call(1, bind, method!(queue.bind_ok));
    consume(&mut peer, &queue, "named");
    let publish = method!(basic.publish { exchange: "amq.direct", routing_key: &queue });
    peer.publish(1, publish, b"x");
    peer.expect_message(
        1,
        method!(basic.deliver {
            consumer_tag: "named",
            delivery_tag: 1,
            redelivered: false,
            exchange: "amq.direct",
            routing_key: &queue,
        }),
    );
}

#[test]
fn a_tag_in_use_ends_the_connection() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    consume(&mut peer, &queue, "twice");
    peer.send(
        1,
        method!(basic.consume { queue: &queue, consumer_tag: "twice" }),
    );
    peer.expect_connection_close(
        "basic.consume",
        530,
        "attempt to reuse consumer tag 'twice'",
    );
}

#[test]
fn a_tag_can_be_used_on_another_channel_and_again_after_cancel() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    peer.open_channel(2);
    consume(&mut peer, &queue, "t");
    let consume_t = method!(basic.consume { queue: &queue, consumer_tag: "t" });
    peer.call(
        2,
        consume_t,
        method!(basic.consume_ok { consumer_tag: "t" }),
    );
    peer.call(
        1,
        method!(basic.cancel { consumer_tag: "t" }),
        method!(basic.cancel_ok),
    );
    consume(&mut peer, &queue, "t");
}

#[test]
fn cancelling_an_unknown_tag_succeeds() {
    let cancel = method!(basic.cancel { consumer_tag: "unknown" });
    peer().call(
        1,
        cancel,
        method!(basic.cancel_ok { consumer_tag: "unknown" }),
    );
}

#[test]
fn after_cancel_ok_nothing_more_is_delivered() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    consume(&mut peer, &queue, "c");
    peer.call(
        1,
        method!(basic.cancel { consumer_tag: "c" }),
        method!(basic.cancel_ok),
    );
    send_to(&mut peer, &queue, "stays");
    peer.expect_silence(1);
    expect_get(&mut peer, &queue, "stays");
}

#[test]
fn what_was_delivered_before_cancel_can_be_acknowledged_after() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    send_to(&mut peer, &queue, "a");
    send_to(&mut peer, &queue, "b");
    consume(&mut peer, &queue, "c");
    let first = expect_delivery(&mut peer, "a");
    expect_delivery(&mut peer, "b");
    peer.call(
        1,
        method!(basic.cancel { consumer_tag: "c" }),
        method!(basic.cancel_ok),
    );
    peer.send(1, method!(basic.ack { delivery_tag: first.delivery_tag() }));
    expect_counts(&mut peer, &queue, 0, 0);
    peer.open_channel(2);
    peer.call(1, method!(channel.close), method!(channel.close_ok));
    peer.open_channel(1);
    expect_get(&mut peer, &queue, "b");
    expect_empty(&mut peer, &queue);
}

#[test]
fn an_exclusive_consumer_keeps_others_out() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    let exclusive = method!(basic.consume { queue: &queue, consumer_tag: "only", exclusive: true });
    peer.call(1, exclusive, method!(basic.consume_ok));
    peer.open_channel(2);
    peer.send(2, method!(basic.consume { queue: &queue }));
    let text = format!("queue '{queue}' in vhost '/' in exclusive use");
    peer.expect_channel_close(2, "basic.consume", 403, &text);
    peer.call(
        1,
        method!(basic.cancel { consumer_tag: "only" }),
        method!(basic.cancel_ok),
    );
    consume(&mut peer, &queue, "free again");
}

#[test]
fn exclusive_is_refused_where_others_consume() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    peer.open_channel(2);
    peer.call(
        2,
        method!(basic.consume { queue: &queue }),
        method!(basic.consume_ok),
    );
    let exclusive = method!(basic.consume { queue: &queue, exclusive: true });
    let text = format!("queue '{queue}' in vhost '/' in exclusive use");
    check_channel_error_on(&mut peer, exclusive, 403, &text);
}

#[test]
fn consumers_take_turns() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    for tag in ["a", "b", "c"] {
        consume(&mut peer, &queue, tag);
    }
    let mut turns = Vec::new();
    for _ in 0..9 {
        send_to(&mut peer, &queue, "turn");
        turns.push(
            expect_delivery(&mut peer, "turn")
                .method
                .text("consumer_tag"),
        );
    }
    assert_eq!(turns[..3], turns[3..6], "{turns:?}");
    assert_eq!(turns[..3], turns[6..], "{turns:?}");
    let mut once: Vec<_> = turns[..3].to_vec();
    once.sort();
    assert_eq!(once, ["a", "b", "c"]);
}

/// The second of two consumers acknowledges at once, the first one never: who gets the last of six messages, each sent
/// when the one before was dealt with?
fn takers(peer: &mut Peer, queue: &str) -> Vec<String> {
    for tag in ["slow", "fast"] {
        consume(peer, queue, tag);
    }
    let turn = |peer: &mut Peer| {
        send_to(peer, queue, "turn");
        let delivery = expect_delivery(peer, "turn");
        let tag = delivery.method.text("consumer_tag");
        if tag == "fast" {
            let ack = delivery.method.number("delivery_tag");
            peer.send(1, method!(basic.ack { delivery_tag: ack }));
        }
        tag
    };
    (0..6).map(|_| turn(peer)).collect()
}

#[test]
fn the_consumer_that_holds_least_is_next_by_argument_or_policy() {
    let policy = r#"{"users": [{"name": "guest", "password": "guest", "tags": ""}], "vhosts": [{"name": "/"}],
        "permissions": [{"user": "guest", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}],
        "policies": [{"vhost": "/", "name": "p", "pattern": "^policy$", "apply-to": "queues",
                      "definition": {"consumer-choice": "least-loaded"}}]}"#;
    let mut broker = BrokerProcess::prepare(&["load_definitions = definitions.json"]);
    let path = broker.directory().join("definitions.json");
    std::fs::write(path, policy).expect("our own directory is writable");
    broker.boot();
    let declared = [
        ("turns", None, false),
        ("policy", None, true),
        ("argument", Some("least-loaded"), true),
        ("both", Some("round-robin"), false),
    ];
    for (queue, choice, by_load) in declared {
        let mut peer = broker.connect();
        peer.open_channel(1);
        let arguments = match choice {
            Some(choice) => table([("x-consumer-choice", Value::from(choice))]),
            None => table([]),
        };
        let declare =
            method!(queue.declare { queue: queue, exclusive: true, arguments: arguments });
        peer.call(1, declare, method!(queue.declare_ok));
        let slow = takers(&mut peer, queue);
        let slow = slow.iter().filter(|tag| *tag == "slow").count();
        assert_eq!(slow, if by_load { 1 } else { 3 }, "{queue}");
    }
}

#[test]
fn a_consumer_of_higher_priority_is_served_first() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    for (tag, priority) in [("low", -1), ("high", 10), ("none", 0)] {
        let arguments = table([("x-priority", Value::I32(priority))]);
        let consume = method!(basic.consume {
            queue: &queue,
            consumer_tag: tag,
            arguments: arguments,
        });
        peer.call(1, consume, method!(basic.consume_ok));
    }
    for _ in 0..5 {
        send_to(&mut peer, &queue, "first");
        let delivery = expect_delivery(&mut peer, "first");
        assert_eq!(delivery.method.text("consumer_tag"), "high");
    }
}

#[test]
fn a_priority_that_is_no_number_is_refused() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    let consume = method!(basic.consume {
        queue: &queue,
        arguments: table([("x-priority", "high".into())]),
    });
    let text = format!(
        "invalid arg 'x-priority' for queue '{queue}' in vhost '/': \"expected integer, got longstr\""
    );
    check_channel_error_on(&mut peer, consume, 406, &text);
}

#[test]
fn no_ack_deliveries_take_tags_but_cannot_be_acknowledged() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    let consume = method!(basic.consume { queue: &queue, consumer_tag: "n", no_ack: true });
    peer.call(1, consume, method!(basic.consume_ok));
    for tag in 1..=3 {
        send_to(&mut peer, &queue, "m");
        assert_eq!(expect_delivery(&mut peer, "m").delivery_tag(), tag);
    }
    let ack = method!(basic.ack { delivery_tag: 2 });
    check_channel_error_on(&mut peer, ack, 406, "unknown delivery tag 2");
}

#[test]
fn consume_without_wait_is_not_answered() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    peer.send(
        1,
        method!(basic.consume { queue: &queue, consumer_tag: "quiet", nowait: true }),
    );
    send_to(&mut peer, &queue, "a");
    expect_delivery(&mut peer, "a");
    peer.send(
        1,
        method!(basic.cancel { consumer_tag: "quiet", nowait: true }),
    );
    peer.expect_silence(1);
    expect_counts(&mut peer, &queue, 0, 0);
}

#[test]
fn no_local_is_accepted_and_ignored() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    peer.call(
        1,
        method!(basic.consume { queue: &queue, no_local: true }),
        method!(basic.consume_ok),
    );
    send_to(&mut peer, &queue, "my own");
    expect_delivery(&mut peer, "my own");
}

/// Each of two consumers of a channel holds every other message: what the one held does not overtake what the other did.
#[test]
fn what_several_consumers_of_a_channel_held_comes_back_in_order() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    peer.open_channel(2);
    for tag in ["x", "y"] {
        let consume = method!(basic.consume { queue: &queue, consumer_tag: tag });
        peer.call(2, consume, method!(basic.consume_ok));
    }
    let bodies = ["a", "b", "c", "d"];
    for (body, tag) in bodies.into_iter().zip(["x", "y", "x", "y"]) {
        send_to(&mut peer, &queue, body);
        let deliver = method!(basic.deliver { consumer_tag: tag });
        assert_eq!(peer.expect_message(2, deliver).text(), body);
    }
    consume(&mut peer, &queue, "next");
    let close = method!(channel.close { reply_code: 200, reply_text: "bye" });
    peer.send(2, close);
    for body in bodies {
        assert!(expect_delivery(&mut peer, body).redelivered());
    }
    peer.expect(2, method!(channel.close_ok));
}

#[test]
fn the_next_single_active_consumer_begins_with_what_an_ended_channel_held() {
    let mut peer = peer();
    let arguments = table([("x-single-active-consumer", Value::Bool(true))]);
    let declare = method!(queue.declare { exclusive: true, arguments: arguments });
    let declared = peer.call(1, declare, method!(queue.declare_ok));
    let queue = declared.text("queue");
    peer.open_channel(2);
    let qos = method!(basic.qos { prefetch_count: 2 });
    peer.call(2, qos, method!(basic.qos_ok));
    let active = method!(basic.consume { queue: &queue, consumer_tag: "active" });
    peer.call(2, active, method!(basic.consume_ok));
    consume(&mut peer, &queue, "next");
    let bodies = ["a", "b", "c", "d"];
    for body in bodies {
        send_to(&mut peer, &queue, body);
    }
    for body in &bodies[..2] {
        assert_eq!(peer.expect_message(2, method!(basic.deliver)).text(), *body);
    }
    let close = method!(channel.close { reply_code: 200, reply_text: "bye" });
    peer.send(2, close);
    for body in bodies {
        expect_delivery(&mut peer, body);
    }
    peer.expect(2, method!(channel.close_ok));
}
