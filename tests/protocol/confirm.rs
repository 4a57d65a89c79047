//! Publisher confirms.

use crate::check::{check_channel_error_on, expect_get, own_queue, peer, send_to, unique};
use crate::support::content::Properties;
use crate::support::peer::{Peer, decode};

fn confirming() -> Peer {
    let mut peer = peer();
    peer.call(1, method!(confirm.select), method!(confirm.select_ok));
    peer
}

/// Reads acks until the number `last` is confirmed; each number exactly once, in order.
#[track_caller]
fn expect_confirmed(peer: &mut Peer, mut next: u64, last: u64) {
    while next <= last {
        let ack = peer.expect(1, method!(basic.ack));
        let tag = ack.number("delivery_tag");
        if ack.bit("multiple") {
            assert!(tag >= next, "{tag} was confirmed before");
        } else {
            assert_eq!(tag, next);
        }
        next = tag + 1;
    }
    assert_eq!(next, last + 1, "confirmed what was not published");
}

#[test]
fn numbers_start_at_one_and_count_every_message() {
    let mut peer = confirming();
    let queue = own_queue(&mut peer);
    for _ in 0..3 {
        send_to(&mut peer, &queue, "counted");
    }
    peer.publish(
        1,
        method!(basic.publish { routing_key: "nowhere" }),
        b"unroutable",
    );
    send_to(&mut peer, &queue, "counted");
    // RabbitMQ may confirm the unroutable one before those that wait for a queue.
    let mut open: Vec<u64> = (1..=5).collect();
    while !open.is_empty() {
        let ack = peer.expect(1, method!(basic.ack));
        let (tag, multiple) = (ack.number("delivery_tag"), ack.bit("multiple"));
        let before = open.len();
        open.retain(|number| !(*number == tag || multiple && *number < tag));
        assert!(open.len() < before, "{tag} was confirmed before");
    }
}

#[test]
fn persistent_messages_to_durable_queues_are_confirmed() {
    let mut peer = confirming();
    let name = unique("durable");
    let declare = method!(queue.declare { queue: &name, durable: true });
    peer.call(1, declare, method!(queue.declare_ok));
    for _ in 0..100 {
        let publish = method!(basic.publish { routing_key: &name });
        peer.publish_with(1, publish, &Properties::persistent(), b"kept");
    }
    expect_confirmed(&mut peer, 1, 100);
    let delete = method!(queue.delete { queue: &name });
    peer.call(1, delete, method!(queue.delete_ok { message_count: 100 }));
}

#[test]
fn a_message_for_several_queues_is_confirmed_once() {
    let mut peer = confirming();
    let exchange = unique("fanout");
    let declare = method!(exchange.declare { exchange: &exchange, type: "fanout" });
    peer.call(1, declare, method!(exchange.declare_ok));
    for _ in 0..5 {
        let queue = own_queue(&mut peer);
        let bind = method!(queue.bind { queue: &queue, exchange: &exchange });
        peer.call(1, bind, method!(queue.bind_ok));
    }
    for _ in 0..20 {
        peer.publish(
            1,
            method!(basic.publish { exchange: &exchange }),
            b"to five",
        );
    }
    expect_confirmed(&mut peer, 1, 20);
    peer.expect_silence(1);
    peer.call(
        1,
        method!(exchange.delete { exchange: &exchange }),
        method!(exchange.delete_ok),
    );
}

#[test]
fn an_unroutable_mandatory_message_is_returned_and_then_confirmed() {
    let mut peer = confirming();
    let publish = method!(basic.publish { routing_key: "nowhere", mandatory: true });
    peer.publish(1, publish, b"back");
    peer.expect_message(1, method!(basic.return { reply_code: 312 }));
    peer.expect(1, method!(basic.ack { delivery_tag: 1, multiple: false }));
}

#[test]
fn select_twice_is_fine_and_keeps_the_numbers() {
    let mut peer = confirming();
    let queue = own_queue(&mut peer);
    send_to(&mut peer, &queue, "1");
    expect_confirmed(&mut peer, 1, 1);
    peer.call(1, method!(confirm.select), method!(confirm.select_ok));
    send_to(&mut peer, &queue, "2");
    expect_confirmed(&mut peer, 2, 2);
}

#[test]
fn select_without_wait_is_not_answered() {
    let mut peer = peer();
    peer.send(1, method!(confirm.select { nowait: true }));
    peer.publish(1, method!(basic.publish { routing_key: "nowhere" }), b"");
    peer.expect(1, method!(basic.ack { delivery_tag: 1 }));
}

#[test]
fn confirms_and_transactions_exclude_each_other() {
    let mut transactional = peer();
    transactional.call(1, method!(tx.select), method!(tx.select_ok));
    let text = "cannot switch from tx to confirm mode";
    check_channel_error_on(&mut transactional, method!(confirm.select), 406, text);
    let text = "cannot switch from confirm to tx mode";
    check_channel_error_on(&mut confirming(), method!(tx.select), 406, text);
}

#[test]
fn after_an_error_the_open_confirms_never_come() {
    let mut peer = confirming();
    peer.publish(1, method!(basic.publish { exchange: "missing" }), b"");
    peer.publish(1, method!(basic.publish { routing_key: "nowhere" }), b"");
    peer.expect_channel_close(
        1,
        "basic.publish",
        404,
        "no exchange 'missing' in vhost '/'",
    );
    peer.open_channel(1);
    peer.expect_silence(1);
}

#[test]
fn numbers_start_anew_on_a_new_channel() {
    let mut peer = confirming();
    let queue = own_queue(&mut peer);
    send_to(&mut peer, &queue, "a");
    expect_confirmed(&mut peer, 1, 1);
    peer.call(1, method!(channel.close), method!(channel.close_ok));
    peer.open_channel(1);
    peer.call(1, method!(confirm.select), method!(confirm.select_ok));
    send_to(&mut peer, &queue, "b");
    expect_confirmed(&mut peer, 1, 1);
}

#[test]
fn a_message_whose_queue_is_deleted_meanwhile_is_confirmed() {
    let mut peer = confirming();
    for _ in 0..20 {
        let name = unique("short-lived");
        let declare = method!(queue.declare { queue: &name, durable: true });
        peer.call(1, declare, method!(queue.declare_ok));
        let publish = method!(basic.publish { routing_key: &name });
        peer.publish_with(1, publish, &Properties::persistent(), b"doomed");
        peer.send(1, method!(queue.delete { queue: &name }));
        let mut names: Vec<_> = (0..2)
            .map(|_| decode(&peer.recv()).expect("a method").name())
            .collect();
        names.sort_unstable();
        assert_eq!(names, ["basic.ack", "queue.delete_ok"]);
    }
}

#[test]
fn a_consumer_on_the_publishers_channel_gets_both_kinds_of_tags() {
    let mut peer = confirming();
    let queue = own_queue(&mut peer);
    send_to(&mut peer, &queue, "published");
    expect_confirmed(&mut peer, 1, 1);
    let got = expect_get(&mut peer, &queue, "published");
    assert_eq!(
        got.delivery_tag(),
        1,
        "tags of deliveries and of publishes are two series"
    );
    peer.send(1, method!(basic.ack { delivery_tag: 1 }));
    peer.expect_silence(1);
}
