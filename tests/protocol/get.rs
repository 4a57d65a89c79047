//! basic.get.

use crate::check::{
    check_channel_error, check_channel_error_on, consume, expect_delivery, expect_empty,
    expect_get, own_queue, peer, send_to,
};

#[test]
fn an_empty_queue_says_so() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    let get = method!(basic.get { queue: &queue });
    peer.call(1, get, method!(basic.get_empty { cluster_id: "" }));
}

#[test]
fn get_ok_counts_what_is_left() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    for body in ["a", "b", "c"] {
        send_to(&mut peer, &queue, body);
    }
    for (tag, left) in [(1, 2), (2, 1), (3, 0)] {
        peer.send(1, method!(basic.get { queue: &queue }));
        peer.expect_message(
            1,
            method!(basic.get_ok {
                delivery_tag: tag,
                redelivered: false,
                exchange: "",
                routing_key: &queue,
                message_count: left,
            }),
        );
    }
}

#[test]
fn getting_from_a_missing_queue_is_not_found() {
    let get = method!(basic.get { queue: "missing" });
    check_channel_error(get, 404, "no queue 'missing' in vhost '/'");
}

#[test]
fn get_and_consume_share_one_space_of_tags() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    send_to(&mut peer, &queue, "by get");
    assert_eq!(expect_get(&mut peer, &queue, "by get").delivery_tag(), 1);
    consume(&mut peer, &queue, "c");
    send_to(&mut peer, &queue, "by consumer");
    assert_eq!(expect_delivery(&mut peer, "by consumer").delivery_tag(), 2);
    peer.send(1, method!(basic.ack { delivery_tag: 2, multiple: true }));
    peer.expect_silence(1);
}

#[test]
fn get_without_acknowledgement_takes_a_tag_that_cannot_be_acknowledged() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    send_to(&mut peer, &queue, "a");
    peer.send(1, method!(basic.get { queue: &queue, no_ack: true }));
    peer.expect_message(1, method!(basic.get_ok { delivery_tag: 1 }));
    let ack = method!(basic.ack { delivery_tag: 1 });
    check_channel_error_on(&mut peer, ack, 406, "unknown delivery tag 1");
    expect_empty(&mut peer, &queue);
}

#[test]
fn get_works_beside_an_exclusive_consumer() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    let exclusive = method!(basic.consume { queue: &queue, exclusive: true });
    peer.call(1, exclusive, method!(basic.consume_ok));
    expect_empty(&mut peer, &queue);
}

#[test]
fn get_does_not_count_to_the_prefetch() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    for body in ["got", "delivered"] {
        send_to(&mut peer, &queue, body);
    }
    peer.call(
        1,
        method!(basic.qos { prefetch_count: 1 }),
        method!(basic.qos_ok),
    );
    expect_get(&mut peer, &queue, "got");
    consume(&mut peer, &queue, "c");
    expect_delivery(&mut peer, "delivered");
}
