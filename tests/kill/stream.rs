//! A stream that loses power again and again: what was confirmed is there, in order, under the same offsets.

use crate::promises::Powered;
use crate::support::content::Properties;
use crate::support::peer::Peer;
use crate::support::wire::{Value, field, table};

const STREAM: &str = "events";

fn declare(peer: &mut Peer) -> u64 {
    let kind = table([("x-queue-type", "stream".into())]);
    let declare = method!(queue.declare { queue: STREAM, durable: true });
    let declare = declare.with("arguments", kind);
    peer.call(1, declare, method!(queue.declare_ok))
        .number("message_count")
}

/// Publishes bodies of growing size, some beyond what travels by reference, and waits for `confirmed` confirms.
fn publish(peer: &mut Peer, round: usize, count: u64, confirmed: u64) {
    peer.call(1, method!(confirm.select), method!(confirm.select_ok));
    for number in 0..count {
        let mut body = format!("{round}.{number} ");
        body.push_str(&"x".repeat((number as usize % 20) * 1000));
        let publish = method!(basic.publish { routing_key: STREAM });
        // Transient: a stream keeps them all the same.
        peer.publish_with(1, publish, &Properties::default(), body.as_bytes());
    }
    let mut last = 0;
    while last < confirmed {
        last = peer.expect(1, method!(basic.ack)).number("delivery_tag");
    }
}

/// The beginnings of all bodies. Their offsets count from 0.
fn read_all(peer: &mut Peer, count: u64) -> Vec<String> {
    let qos = method!(basic.qos { prefetch_count: 60_000 });
    peer.call(1, qos, method!(basic.qos_ok));
    let consume = method!(basic.consume { queue: STREAM, consumer_tag: "reader" });
    let consume = consume.with("arguments", table([("x-stream-offset", "first".into())]));
    peer.call(1, consume, method!(basic.consume_ok));
    let mut read = Vec::new();
    for offset in 0..count {
        let message = peer.expect_message(1, method!(basic.deliver));
        let headers = message
            .properties
            .headers
            .as_ref()
            .expect("there is the offset");
        let expected = Value::I64(offset as i64);
        assert_eq!(field(headers, "x-stream-offset"), Some(&expected));
        let text = message.text();
        let (name, rest) = text.split_once(' ').expect("a name and its padding");
        assert!(rest.bytes().all(|byte| byte == b'x'), "the body is whole");
        read.push(name.to_owned());
    }
    read
}

#[test]
fn confirmed_messages_keep_their_offsets_over_losses_of_power() {
    let mut powered = Powered::start();
    let mut before: Vec<String> = Vec::new();
    for (round, confirmed) in [0, 1, 150, 300, 299, 0, 300].into_iter().enumerate() {
        let mut peer = powered.peer();
        declare(&mut peer);
        publish(&mut peer, round, 300, confirmed);
        powered.lose_power();
        let mut peer = powered.peer();
        let count = declare(&mut peer);
        let read = read_all(&mut peer, count);
        assert_eq!(read[..before.len()], before, "what was there is there");
        let new = &read[before.len()..];
        assert!(
            new.len() as u64 >= confirmed,
            "{} of {confirmed}",
            new.len()
        );
        let expected: Vec<_> = (0..new.len())
            .map(|number| format!("{round}.{number}"))
            .collect();
        assert_eq!(new, expected);
        before = read;
    }
}
