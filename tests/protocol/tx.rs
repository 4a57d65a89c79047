//! Transactions.

use crate::check::{
    check_channel_error, expect_counts, expect_empty, expect_get, own_queue, peer, send_to,
};
use crate::support::content::Properties;
use crate::support::peer::{HEADER, METHOD, Peer, frame, header_payload};

/// Channel 1 is transactional, channel 2 looks on.
fn transactional() -> (Peer, String) {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    peer.call(1, method!(tx.select), method!(tx.select_ok));
    (peer, queue)
}

fn commit(peer: &mut Peer) {
    peer.call(1, method!(tx.commit), method!(tx.commit_ok));
}

fn rollback(peer: &mut Peer) {
    peer.call(1, method!(tx.rollback), method!(tx.rollback_ok));
}

#[test]
fn published_messages_are_seen_after_commit() {
    let (mut peer, queue) = transactional();
    send_to(&mut peer, &queue, "a");
    send_to(&mut peer, &queue, "b");
    expect_counts(&mut peer, &queue, 0, 0);
    commit(&mut peer);
    expect_counts(&mut peer, &queue, 2, 0);
}

#[test]
fn rolled_back_messages_are_never_seen() {
    let (mut peer, queue) = transactional();
    send_to(&mut peer, &queue, "undone");
    rollback(&mut peer);
    send_to(&mut peer, &queue, "done");
    commit(&mut peer);
    expect_get(&mut peer, &queue, "done");
    expect_empty(&mut peer, &queue);
}

#[test]
fn acknowledgements_count_after_commit() {
    let (mut peer, queue) = transactional();
    send_to(&mut peer, &queue, "a");
    commit(&mut peer);
    let got = expect_get(&mut peer, &queue, "a");
    peer.send(1, method!(basic.ack { delivery_tag: got.delivery_tag() }));
    commit(&mut peer);
    peer.call(1, method!(channel.close), method!(channel.close_ok));
    peer.open_channel(1);
    expect_empty(&mut peer, &queue);
}

#[test]
fn rolled_back_acknowledgements_leave_the_messages_outstanding() {
    let (mut peer, queue) = transactional();
    send_to(&mut peer, &queue, "a");
    commit(&mut peer);
    let got = expect_get(&mut peer, &queue, "a");
    peer.send(1, method!(basic.ack { delivery_tag: got.delivery_tag() }));
    rollback(&mut peer);
    // Neither requeued nor forgotten: the same tag can be acknowledged again.
    expect_empty(&mut peer, &queue);
    peer.send(
        1,
        method!(basic.nack { delivery_tag: got.delivery_tag(), requeue: true }),
    );
    commit(&mut peer);
    assert!(expect_get(&mut peer, &queue, "a").redelivered());
}

#[test]
fn a_channel_that_is_closed_rolls_back() {
    let (mut peer, queue) = transactional();
    send_to(&mut peer, &queue, "undone");
    peer.call(1, method!(channel.close), method!(channel.close_ok));
    peer.open_channel(1);
    expect_empty(&mut peer, &queue);
}

#[test]
fn returns_of_a_transaction_come_before_commit_ok() {
    let (mut peer, _queue) = transactional();
    peer.publish(
        1,
        method!(basic.publish { routing_key: "nowhere", mandatory: true }),
        b"back",
    );
    peer.send(1, method!(tx.commit));
    peer.expect_message(1, method!(basic.return { reply_code: 312 }));
    peer.expect(1, method!(tx.commit_ok));
}

#[test]
fn commit_and_rollback_want_a_transactional_channel() {
    check_channel_error(method!(tx.commit), 406, "channel is not transactional");
    check_channel_error(method!(tx.rollback), 406, "channel is not transactional");
}

#[test]
fn an_empty_commit_and_a_second_select_are_fine() {
    let (mut peer, queue) = transactional();
    commit(&mut peer);
    rollback(&mut peer);
    send_to(&mut peer, &queue, "kept");
    peer.call(1, method!(tx.select), method!(tx.select_ok));
    commit(&mut peer);
    expect_get(&mut peer, &queue, "kept");
}

#[test]
fn an_error_in_a_transaction_undoes_it() {
    let (mut peer, queue) = transactional();
    send_to(&mut peer, &queue, "undone");
    peer.publish(1, method!(basic.publish { exchange: "missing" }), b"");
    peer.expect_channel_close(
        1,
        "basic.publish",
        404,
        "no exchange 'missing' in vhost '/'",
    );
    peer.open_channel(1);
    expect_empty(&mut peer, &queue);
}

#[test]
fn a_transaction_of_very_many_empty_messages_is_too_large() {
    let (mut peer, _) = transactional();
    let publish = method!(basic.publish { routing_key: "nowhere" });
    let header = header_payload(60, 0, 0, &Properties::default());
    let message = [
        frame(METHOD, 1, &publish.encode()),
        frame(HEADER, 1, &header),
    ]
    .concat();
    let many = message.repeat(10_000);
    for _ in 0..60 {
        peer.send_raw(&many);
    }
    let text = "transaction is too large";
    peer.expect_channel_close(1, "basic.publish", 406, text);
}
