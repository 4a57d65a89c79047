//! queue.bind and queue.unbind.

use crate::check::{
    check_channel_error, check_channel_error_on, expect_empty, expect_get, own_queue, peer, unique,
};
use crate::support::wire::table;

#[test]
fn binding_what_is_missing_is_not_found() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    let no_exchange = method!(queue.bind { queue: &queue, exchange: "missing" });
    check_channel_error_on(
        &mut peer,
        no_exchange,
        404,
        "no exchange 'missing' in vhost '/'",
    );
    let no_queue = method!(queue.bind { queue: "missing", exchange: "amq.fanout" });
    check_channel_error(no_queue, 404, "no queue 'missing' in vhost '/'");
}

#[test]
fn unbinding_what_is_not_bound_succeeds() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    let unbind = method!(queue.unbind { queue: &queue, exchange: "amq.direct", routing_key: "k" });
    peer.call(1, unbind, method!(queue.unbind_ok));
}

#[test]
fn unbinding_missing_queues_and_exchanges_succeeds() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    let no_exchange = method!(queue.unbind { queue: &queue, exchange: "missing" });
    peer.call(1, no_exchange, method!(queue.unbind_ok));
    let no_queue = method!(queue.unbind { queue: "missing", exchange: "amq.fanout" });
    peer.call(1, no_queue, method!(queue.unbind_ok));
}

#[test]
fn the_same_binding_twice_is_one() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    let key = unique("key");
    let bind = method!(queue.bind { queue: &queue, exchange: "amq.direct", routing_key: &key });
    peer.call(1, bind.clone(), method!(queue.bind_ok));
    peer.call(1, bind, method!(queue.bind_ok));
    let unbind = method!(queue.unbind { queue: &queue, exchange: "amq.direct", routing_key: &key });
    peer.call(1, unbind, method!(queue.unbind_ok));
    let publish = method!(basic.publish { exchange: "amq.direct", routing_key: &key });
    peer.publish(1, publish, b"unrouted");
    expect_empty(&mut peer, &queue);
}

#[test]
fn the_arguments_belong_to_the_identity_of_a_binding() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    let key = unique("key");
    let bind = method!(queue.bind { queue: &queue, exchange: "amq.direct", routing_key: &key });
    let arguments = table([("x", 1.into())]);
    peer.call(1, bind.clone(), method!(queue.bind_ok));
    peer.call(1, bind.with("arguments", arguments), method!(queue.bind_ok));
    let unbind = method!(queue.unbind { queue: &queue, exchange: "amq.direct", routing_key: &key });
    peer.call(1, unbind, method!(queue.unbind_ok));
    let publish = method!(basic.publish { exchange: "amq.direct", routing_key: &key });
    peer.publish(1, publish, b"by the other binding");
    expect_get(&mut peer, &queue, "by the other binding");
}

#[test]
fn a_message_reaches_a_queue_once_however_many_bindings_match() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    let key = unique("key");
    for pattern in ["#", &key, &key.replace('.', ".#."), "*.*.*"] {
        let bind =
            method!(queue.bind { queue: &queue, exchange: "amq.topic", routing_key: pattern });
        peer.call(1, bind, method!(queue.bind_ok));
    }
    peer.publish(
        1,
        method!(basic.publish { exchange: "amq.topic", routing_key: &key }),
        b"once",
    );
    // Other tests publish to amq.topic too; "#" hears them all.
    let mut count = 0;
    loop {
        peer.send(1, method!(basic.get { queue: &queue, no_ack: true }));
        let frame = peer.recv();
        let method = crate::support::peer::decode(&frame).expect("a method");
        if method.name() == "basic.get_empty" {
            break;
        }
        let message = peer.try_content(method).expect("its content");
        count += u32::from(message.text() == "once");
    }
    assert_eq!(count, 1);
}

#[test]
fn with_neither_queue_nor_key_both_are_the_last_declared_queue() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    peer.call(
        1,
        method!(queue.bind { exchange: "amq.direct" }),
        method!(queue.bind_ok),
    );
    peer.publish(
        1,
        method!(basic.publish { exchange: "amq.direct", routing_key: &queue }),
        b"named",
    );
    expect_get(&mut peer, &queue, "named");
    peer.call(
        1,
        method!(queue.unbind { exchange: "amq.direct" }),
        method!(queue.unbind_ok),
    );
    peer.publish(
        1,
        method!(basic.publish { exchange: "amq.direct", routing_key: &queue }),
        b"no more",
    );
    expect_empty(&mut peer, &queue);
}

#[test]
fn a_deleted_queue_takes_its_bindings_along() {
    let mut peer = peer();
    let (name, key) = (unique("bound"), unique("key"));
    for round in ["first", "second"] {
        let declare = method!(queue.declare { queue: &name, exclusive: true });
        peer.call(1, declare, method!(queue.declare_ok));
        if round == "first" {
            let bind =
                method!(queue.bind { queue: &name, exchange: "amq.direct", routing_key: &key });
            peer.call(1, bind, method!(queue.bind_ok));
            peer.call(
                1,
                method!(queue.delete { queue: &name }),
                method!(queue.delete_ok),
            );
        }
    }
    let publish =
        method!(basic.publish { exchange: "amq.direct", routing_key: &key, mandatory: true });
    peer.publish(1, publish, b"unbound");
    peer.expect_message(1, method!(basic.return { reply_code: 312 }));
}
