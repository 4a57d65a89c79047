//! Messages that expire in no order, more than there are marks of in memory.

use crate::check::{own_queue, peer};
use crate::support::broker::{self, BrokerProcess};
use crate::support::content::Properties;
use crate::support::peer::Peer;
use crate::support::wire::{Table, table};

const COUNT: u64 = 12_000;

fn dead_letters_to(queue: &str) -> Table {
    table([
        ("x-dead-letter-exchange", "".into()),
        ("x-dead-letter-routing-key", queue.into()),
    ])
}

/// Publishes so many messages, every other one persistent, that expire within `span_ms` from `from_ms` on in no order,
/// and waits until all are confirmed.
fn publish(peer: &mut Peer, queue: &str, from_ms: u64, span_ms: u64) {
    peer.call(1, method!(confirm.select), method!(confirm.select_ok));
    for number in 0..COUNT {
        let properties = Properties {
            delivery_mode: Some(1 + (number % 2) as u8),
            expiration: Some((from_ms + number * 7919 % span_ms).to_string()),
            ..Properties::default()
        };
        let publish = method!(basic.publish { routing_key: queue });
        peer.publish_with(1, publish, &properties, number.to_string().as_bytes());
    }
    let mut confirmed = 0;
    while confirmed < COUNT {
        confirmed = peer.expect(1, method!(basic.ack)).number("delivery_tag");
    }
}

/// Waits until so many messages are ready.
#[track_caller]
fn await_ready(peer: &mut Peer, queue: &str, messages: u64) {
    let declare = method!(queue.declare { queue: queue, passive: true });
    let mut found = 0;
    for _ in 0..6_000 {
        let counts = peer.call(1, declare.clone(), method!(queue.declare_ok));
        found = counts.number("message_count");
        if found == messages {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("{queue} has {found} messages instead of {messages}");
}

#[test]
fn all_expire_wherever_they_stand() {
    if broker::is_foreign() {
        return;
    }
    let mut peer = peer();
    let dead = own_queue(&mut peer);
    let arguments = dead_letters_to(&dead);
    let declare = method!(queue.declare { exclusive: true, arguments: arguments });
    let queue = peer
        .call(1, declare, method!(queue.declare_ok))
        .text("queue");
    publish(&mut peer, &queue, 1, 4_001);
    await_ready(&mut peer, &dead, COUNT);
    await_ready(&mut peer, &queue, 0);
}

#[test]
fn what_is_consumed_does_not_expire_and_the_rest_does() {
    if broker::is_foreign() {
        return;
    }
    let mut peer = peer();
    let dead = own_queue(&mut peer);
    let arguments = dead_letters_to(&dead);
    let declare = method!(queue.declare { exclusive: true, arguments: arguments });
    let queue = peer
        .call(1, declare, method!(queue.declare_ok))
        .text("queue");
    publish(&mut peer, &queue, 20_000, 3_600_000);
    // A third is consumed, a third comes back.
    let mut last = 0;
    for _ in 0..COUNT * 2 / 3 {
        peer.send(1, method!(basic.get { queue: &queue }));
        last = peer.expect_message(1, method!(basic.get_ok)).delivery_tag();
        if last == COUNT / 3 {
            peer.send(1, method!(basic.ack { delivery_tag: last, multiple: true }));
        }
    }
    peer.send(
        1,
        method!(basic.nack { delivery_tag: last, multiple: true, requeue: true }),
    );
    await_ready(&mut peer, &queue, COUNT - COUNT / 3);
    let purge = method!(queue.purge { queue: &queue });
    let purged = method!(queue.purge_ok { message_count: (COUNT - COUNT / 3) as u32 });
    peer.call(1, purge, purged);
    publish_more(&mut peer, &queue);
    await_ready(&mut peer, &dead, 5_000);
}

/// Marks of a queue that was purged begin anew.
fn publish_more(peer: &mut Peer, queue: &str) {
    for number in 0..5_000u64 {
        let properties = Properties {
            expiration: Some((1 + number * 7919 % 1_501).to_string()),
            ..Properties::default()
        };
        let publish = method!(basic.publish { routing_key: queue });
        peer.publish_with(1, publish, &properties, b"short");
    }
    let mut confirmed = 0;
    while confirmed < COUNT + 5_000 {
        confirmed = peer.expect(1, method!(basic.ack)).number("delivery_tag");
    }
}

#[test]
fn after_a_kill_all_that_was_left_expires() {
    if broker::is_foreign() {
        return;
    }
    let mut broker = BrokerProcess::start();
    let mut peer = broker.connect();
    peer.open_channel(1);
    let declare = method!(queue.declare { queue: "dead", durable: true });
    peer.call(1, declare, method!(queue.declare_ok));
    let arguments = dead_letters_to("dead");
    let declare = method!(queue.declare { queue: "q", durable: true, arguments: arguments });
    peer.call(1, declare, method!(queue.declare_ok));
    publish(&mut peer, "q", 4_000, 4_001);
    broker.kill9();
    broker.restart();
    let mut peer = broker.connect();
    peer.open_channel(1);
    // The persistent half.
    await_ready(&mut peer, "dead", COUNT / 2);
    await_ready(&mut peer, "q", 0);
}
