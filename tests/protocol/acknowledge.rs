//! basic.ack, nack, reject and recover.

use crate::check::{
    check_channel_error, check_channel_error_on, check_connection_error, consume, expect_counts,
    expect_delivery, expect_empty, expect_get, own_queue, peer, send_to,
};
use crate::support::peer::{METHOD, Peer, frame};

/// A queue with the messages "1" to "5", all delivered to this channel with tags 1 to 5.
fn five_unacknowledged() -> (Peer, String) {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    for body in ["1", "2", "3", "4", "5"] {
        send_to(&mut peer, &queue, body);
    }
    for body in ["1", "2", "3", "4", "5"] {
        expect_get(&mut peer, &queue, body);
    }
    (peer, queue)
}

/// Closes channel 1, which requeues what is outstanding, and opens it again.
fn reopen(peer: &mut Peer) {
    peer.call(1, method!(channel.close), method!(channel.close_ok));
    peer.open_channel(1);
}

#[track_caller]
fn check_left(peer: &mut Peer, queue: &str, bodies: &[&str]) {
    reopen(peer);
    for body in bodies {
        assert!(expect_get(peer, queue, body).redelivered(), "{body}");
    }
    expect_empty(peer, queue);
}

#[test]
fn an_acknowledged_message_is_gone() {
    let (mut peer, queue) = five_unacknowledged();
    peer.send(1, method!(basic.ack { delivery_tag: 3 }));
    check_left(&mut peer, &queue, &["1", "2", "4", "5"]);
}

/// Sends several basic.ack, as tag and `multiple`, in one piece.
fn ack_at_once(peer: &mut Peer, acks: &[(u64, bool)]) {
    let mut bytes = Vec::new();
    for &(tag, multiple) in acks {
        let ack = method!(basic.ack { delivery_tag: tag, multiple: multiple });
        bytes.extend(frame(METHOD, 1, &ack.encode()));
    }
    peer.send_raw(&bytes);
}

#[test]
fn acknowledgements_that_come_together_count_as_if_they_came_one_by_one() {
    for (acks, left) in [
        (&[(4, false), (2, false), (1, false)][..], &["3", "5"][..]),
        (&[(4, false), (2, true), (5, false)], &["3"]),
        (&[(5, false), (0, true)], &[]),
        (&[(3, false), (4, true), (5, true)], &[]),
    ] {
        let (mut peer, queue) = five_unacknowledged();
        ack_at_once(&mut peer, acks);
        check_left(&mut peer, &queue, left);
    }
}

#[test]
fn of_acknowledgements_that_come_together_those_before_a_wrong_one_count() {
    let (mut peer, queue) = five_unacknowledged();
    ack_at_once(&mut peer, &[(2, false), (4, false), (2, false), (5, false)]);
    peer.expect_channel_close(1, "basic.ack", 406, "unknown delivery tag 2");
    peer.open_channel(1);
    for body in ["1", "3", "5"] {
        assert!(expect_get(&mut peer, &queue, body).redelivered(), "{body}");
    }
    expect_empty(&mut peer, &queue);
}

#[test]
fn multiple_acknowledges_all_up_to_the_tag() {
    let (mut peer, queue) = five_unacknowledged();
    peer.send(1, method!(basic.ack { delivery_tag: 3, multiple: true }));
    check_left(&mut peer, &queue, &["4", "5"]);
}

#[test]
fn tag_zero_with_multiple_acknowledges_everything() {
    let (mut peer, queue) = five_unacknowledged();
    peer.send(1, method!(basic.ack { delivery_tag: 0, multiple: true }));
    check_left(&mut peer, &queue, &[]);
}

#[test]
fn tag_zero_with_multiple_may_find_nothing() {
    let mut peer = peer();
    peer.send(1, method!(basic.ack { delivery_tag: 0, multiple: true }));
    peer.send(1, method!(basic.nack { delivery_tag: 0, multiple: true }));
    peer.expect_silence(1);
}

#[test]
fn an_unknown_tag_closes_the_channel() {
    for tag in [0, 1, 17] {
        let text = format!("unknown delivery tag {tag}");
        check_channel_error(method!(basic.ack { delivery_tag: tag }), 406, &text);
        check_channel_error(method!(basic.nack { delivery_tag: tag }), 406, &text);
        check_channel_error(method!(basic.reject { delivery_tag: tag }), 406, &text);
    }
}

#[test]
fn a_tag_cannot_be_acknowledged_twice() {
    let (mut peer, _queue) = five_unacknowledged();
    peer.send(1, method!(basic.ack { delivery_tag: 2 }));
    let again = method!(basic.ack { delivery_tag: 2 });
    check_channel_error_on(&mut peer, again, 406, "unknown delivery tag 2");
}

#[test]
fn multiple_wants_the_exact_tag_to_be_outstanding() {
    let (mut peer, _queue) = five_unacknowledged();
    peer.send(1, method!(basic.ack { delivery_tag: 3 }));
    let multiple = method!(basic.ack { delivery_tag: 3, multiple: true });
    check_channel_error_on(&mut peer, multiple, 406, "unknown delivery tag 3");
}

#[test]
fn a_tag_beyond_the_last_closes_the_channel() {
    let (mut peer, _queue) = five_unacknowledged();
    let beyond = method!(basic.ack { delivery_tag: 6, multiple: true });
    check_channel_error_on(&mut peer, beyond, 406, "unknown delivery tag 6");
}

#[test]
fn tags_belong_to_their_channel() {
    let (mut peer, _queue) = five_unacknowledged();
    peer.open_channel(2);
    peer.send(2, method!(basic.ack { delivery_tag: 1 }));
    peer.expect_channel_close(2, "basic.ack", 406, "unknown delivery tag 1");
}

#[test]
fn a_requeued_message_returns_to_its_place() {
    let (mut peer, queue) = five_unacknowledged();
    for tag in [4, 2] {
        peer.send(1, method!(basic.nack { delivery_tag: tag, requeue: true }));
    }
    send_to(&mut peer, &queue, "6");
    assert!(expect_get(&mut peer, &queue, "2").redelivered());
    assert!(expect_get(&mut peer, &queue, "4").redelivered());
    assert!(!expect_get(&mut peer, &queue, "6").redelivered());
}

#[test]
fn a_rejected_message_returns_if_asked() {
    let (mut peer, queue) = five_unacknowledged();
    peer.send(1, method!(basic.reject { delivery_tag: 5, requeue: true }));
    assert!(expect_get(&mut peer, &queue, "5").redelivered());
}

#[test]
fn without_requeue_a_refused_message_is_gone() {
    let (mut peer, queue) = five_unacknowledged();
    peer.send(1, method!(basic.reject { delivery_tag: 1 }));
    peer.send(1, method!(basic.nack { delivery_tag: 3, multiple: true }));
    check_left(&mut peer, &queue, &["4", "5"]);
}

#[test]
fn nack_multiple_requeues_in_order() {
    let (mut peer, queue) = five_unacknowledged();
    peer.send(
        1,
        method!(basic.nack { delivery_tag: 4, multiple: true, requeue: true }),
    );
    for body in ["1", "2", "3", "4"] {
        expect_get(&mut peer, &queue, body);
    }
}

#[test]
fn recover_requeues_everything() {
    let (mut peer, queue) = five_unacknowledged();
    peer.call(
        1,
        method!(basic.recover { requeue: true }),
        method!(basic.recover_ok),
    );
    for body in ["1", "2", "3", "4", "5"] {
        assert!(expect_get(&mut peer, &queue, body).redelivered());
    }
}

#[test]
fn recover_async_requeues_without_an_answer() {
    let (mut peer, queue) = five_unacknowledged();
    peer.send(1, method!(basic.recover_async { requeue: true }));
    peer.expect_silence(1);
    expect_counts(&mut peer, &queue, 5, 0);
}

#[test]
fn recover_without_requeue_is_not_implemented() {
    check_connection_error(method!(basic.recover), 540, "requeue=false");
}

#[test]
fn a_requeued_message_goes_to_a_waiting_consumer_again() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    consume(&mut peer, &queue, "c");
    send_to(&mut peer, &queue, "again");
    let first = expect_delivery(&mut peer, "again");
    assert!(!first.redelivered());
    peer.send(
        1,
        method!(basic.reject { delivery_tag: first.delivery_tag(), requeue: true }),
    );
    let second = expect_delivery(&mut peer, "again");
    assert!(second.redelivered());
    assert_eq!(second.delivery_tag(), 2);
}

#[test]
fn messages_from_a_lost_connection_are_redelivered_though_nobody_saw_them() {
    let mut owner = peer();
    let name = crate::check::unique("lost");
    let declare = method!(queue.declare { queue: &name, durable: true });
    owner.call(1, declare, method!(queue.declare_ok));
    let mut other = peer();
    consume(&mut other, &name, "c");
    send_to(&mut owner, &name, "seen");
    owner.expect_silence(1);
    // The frames of the delivery are on their way, or in the socket: they are never read.
    expect_delivery(&mut other, "seen");
    other.vanish();
    let ready = loop {
        let declare = method!(queue.declare { queue: &name, passive: true });
        let counts = owner.call(1, declare, method!(queue.declare_ok));
        if counts.number("message_count") == 1 {
            break expect_get(&mut owner, &name, "seen");
        }
    };
    assert!(ready.redelivered());
    owner.call(
        1,
        method!(queue.delete { queue: &name }),
        method!(queue.delete_ok),
    );
}
