//! `x-message-group`: one message of a group at a time, in order; different groups side by side.

use crate::check::{consume, expect_delivery, peer};
use crate::support::content::Properties;
use crate::support::peer::Peer;
use crate::support::wire::table;

fn group_queue(peer: &mut Peer) -> String {
    let arguments = table([("x-message-group", "key".into())]);
    let declare = method!(queue.declare { exclusive: true, arguments: arguments });
    peer.call(1, declare, method!(queue.declare_ok))
        .text("queue")
}

/// Publishes to the group named by the first letter of the body; `-` is none.
fn send(peer: &mut Peer, queue: &str, body: &str) {
    let group = body.get(..1).filter(|group| *group != "-");
    let properties = Properties {
        headers: group.map(|group| table([("key", group.into())])),
        ..Properties::default()
    };
    peer.publish_with(
        1,
        method!(basic.publish { routing_key: queue }),
        &properties,
        body.as_bytes(),
    );
}

#[test]
fn a_group_waits_for_its_message_and_others_pass() {
    let mut peer = peer();
    let queue = group_queue(&mut peer);
    for body in ["a1", "a2", "b1", "-1", "a3", "b2"] {
        send(&mut peer, &queue, body);
    }
    consume(&mut peer, &queue, "c");
    for body in ["a1", "b1", "-1"] {
        expect_delivery(&mut peer, body);
    }
    peer.expect_silence(1);
    peer.send(1, method!(basic.ack { delivery_tag: 1 }));
    expect_delivery(&mut peer, "a2");
    peer.send(1, method!(basic.ack { delivery_tag: 2 }));
    expect_delivery(&mut peer, "b2");
    peer.send(1, method!(basic.ack { delivery_tag: 4 }));
    expect_delivery(&mut peer, "a3");
    peer.expect_silence(1);
}

#[test]
fn a_message_that_comes_back_keeps_its_place_in_its_group() {
    let mut peer = peer();
    let queue = group_queue(&mut peer);
    for body in ["a1", "a2", "b1"] {
        send(&mut peer, &queue, body);
    }
    consume(&mut peer, &queue, "c");
    expect_delivery(&mut peer, "a1");
    expect_delivery(&mut peer, "b1");
    peer.send(1, method!(basic.nack { delivery_tag: 1, requeue: true }));
    assert!(expect_delivery(&mut peer, "a1").redelivered());
    peer.expect_silence(1);
    peer.send(1, method!(basic.reject { delivery_tag: 3 }));
    expect_delivery(&mut peer, "a2");
}

#[test]
fn purge_takes_what_waits_for_its_group() {
    let mut peer = peer();
    let queue = group_queue(&mut peer);
    for body in ["a1", "a2", "a3"] {
        send(&mut peer, &queue, body);
    }
    consume(&mut peer, &queue, "c");
    expect_delivery(&mut peer, "a1");
    peer.call(
        1,
        method!(queue.purge { queue: &queue }),
        method!(queue.purge_ok { message_count: 2u32 }),
    );
    send(&mut peer, &queue, "a4");
    peer.expect_silence(1);
    peer.send(1, method!(basic.ack { delivery_tag: 1 }));
    expect_delivery(&mut peer, "a4");
}
