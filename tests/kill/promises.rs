//! Single promises, each held to a crash of its own.

use crate::support::broker::BrokerProcess;
use crate::support::content::Properties;
use crate::support::durable_image::{DurableImage, Names};
use crate::support::peer::Peer;

pub(crate) const QUEUE: &str = "promised";

/// A broker whose data is its durable image after every crash.
pub(crate) struct Powered {
    broker: BrokerProcess,
    image: DurableImage,
}

impl Powered {
    pub(crate) fn start() -> Self {
        let mut broker = BrokerProcess::prepare(&[]);
        let image = DurableImage::new(&broker.data_dir(), broker.directory(), Names::Late);
        for (name, value) in image.environment() {
            broker.set_env(&name, &value);
        }
        image.begin();
        broker.boot();
        Self { broker, image }
    }

    pub(crate) fn lose_power(&mut self) {
        self.broker.kill9();
        self.image.restore();
        self.image.begin();
        self.broker.boot();
    }

    /// A peer with channel 1 open.
    pub(crate) fn peer(&self) -> Peer {
        let mut peer = self.broker.connect();
        peer.open_channel(1);
        peer
    }

    /// A peer that has declared the durable queue.
    pub(crate) fn declared(&self) -> Peer {
        let mut peer = self.peer();
        let declare = method!(queue.declare { queue: QUEUE, durable: true });
        peer.call(1, declare, method!(queue.declare_ok));
        peer
    }
}

/// Publishes the persistent messages "1" to `count`, and waits until all are confirmed.
fn publish_confirmed(peer: &mut Peer, count: u64) {
    peer.call(1, method!(confirm.select), method!(confirm.select_ok));
    for number in 1..=count {
        let publish = method!(basic.publish { routing_key: QUEUE });
        let body = number.to_string();
        peer.publish_with(1, publish, &Properties::persistent(), body.as_bytes());
    }
    while peer.expect(1, method!(basic.ack)).number("delivery_tag") < count {}
}

/// A new durable thing: its declare-ok waits for the disk, and so for all that came before it.
pub(crate) fn barrier(peer: &mut Peer) {
    let declare = method!(queue.declare { queue: "barrier", durable: true });
    peer.call(1, declare, method!(queue.declare_ok));
    let delete = method!(queue.delete { queue: "barrier" });
    peer.call(1, delete, method!(queue.delete_ok));
}

/// Takes everything out of the queue: bodies with their redelivered flags.
pub(crate) fn take_all(peer: &mut Peer) -> Vec<(String, bool)> {
    let mut taken = Vec::new();
    loop {
        peer.send(1, method!(basic.get { queue: QUEUE, no_ack: true }));
        let frame = peer.recv();
        let method = crate::support::peer::decode(&frame).expect("a method");
        match method.name() {
            "basic.get_ok" => {}
            "basic.get_empty" => return taken,
            _ => panic!("{method:?}"),
        }
        let message = peer.try_content(method).expect("its content");
        taken.push((message.text(), message.redelivered()));
    }
}

#[test]
fn confirmed_messages_survive_in_order() {
    let mut powered = Powered::start();
    publish_confirmed(&mut powered.declared(), 1000);
    powered.lose_power();
    let taken = take_all(&mut powered.peer());
    let bodies: Vec<_> = taken.into_iter().map(|(body, _)| body).collect();
    let expected: Vec<_> = (1..=1000).map(|number| number.to_string()).collect();
    assert_eq!(bodies, expected);
}

/// Small commits wait at the intent log, whose two regions have room for some 500 each.
#[test]
fn what_was_confirmed_one_by_one_survives_in_order() {
    let mut powered = Powered::start();
    let mut peer = powered.declared();
    let mut expected = Vec::new();
    for round in 0..3 {
        peer.call(1, method!(confirm.select), method!(confirm.select_ok));
        for number in 0..600 {
            let publish = method!(basic.publish { routing_key: QUEUE });
            let body = format!("{round} {number}");
            peer.publish_with(1, publish, &Properties::persistent(), body.as_bytes());
            peer.expect(1, method!(basic.ack));
            expected.push(body);
        }
        powered.lose_power();
        peer = powered.peer();
    }
    let taken = take_all(&mut peer).into_iter().map(|(body, _)| body);
    assert_eq!(taken.collect::<Vec<_>>(), expected);
}

#[test]
fn acknowledgements_before_a_durable_answer_stay() {
    let mut powered = Powered::start();
    let mut peer = powered.declared();
    publish_confirmed(&mut peer, 100);
    for number in 1..=100 {
        peer.send(1, method!(basic.get { queue: QUEUE }));
        peer.expect_message(1, method!(basic.get_ok));
        if number % 3 == 0 {
            peer.send(1, method!(basic.ack { delivery_tag: number }));
        }
    }
    barrier(&mut peer);
    powered.lose_power();
    let taken = take_all(&mut powered.peer());
    let expected = (1..=100).filter(|number| number % 3 != 0);
    let expected: Vec<_> = expected.map(|number| (number.to_string(), true)).collect();
    assert_eq!(taken, expected);
}

#[test]
fn what_was_got_before_the_crash_comes_back_as_redelivered() {
    let mut powered = Powered::start();
    let mut peer = powered.peer();
    let queues: Vec<String> = (0..20).map(|number| format!("got-{number}")).collect();
    peer.call(1, method!(confirm.select), method!(confirm.select_ok));
    for queue in &queues {
        let declare = method!(queue.declare { queue: queue.as_str(), durable: true });
        peer.call(1, declare, method!(queue.declare_ok));
        let publish = method!(basic.publish { routing_key: queue.as_str() });
        peer.publish_with(1, publish, &Properties::persistent(), b"m");
        peer.expect(1, method!(basic.ack));
    }
    for queue in &queues {
        peer.send(1, method!(basic.get { queue: queue.as_str() }));
    }
    for _ in &queues {
        peer.expect_message(1, method!(basic.get_ok { redelivered: false }));
    }
    powered.lose_power();
    let mut peer = powered.peer();
    for queue in &queues {
        peer.send(1, method!(basic.get { queue: queue.as_str() }));
        peer.expect_message(1, method!(basic.get_ok { redelivered: true }));
    }
}

#[test]
fn what_came_back_and_is_acknowledged_then_stays_gone() {
    let mut powered = Powered::start();
    publish_confirmed(&mut powered.declared(), 50);
    for left in [50, 30, 10] {
        powered.lose_power();
        let mut peer = powered.peer();
        let passive = method!(queue.declare { queue: QUEUE, passive: true });
        peer.call(
            1,
            passive,
            method!(queue.declare_ok { message_count: left }),
        );
        for tag in 1..=20.min(left) {
            peer.send(1, method!(basic.get { queue: QUEUE }));
            peer.expect_message(1, method!(basic.get_ok { delivery_tag: tag }));
        }
        peer.send(1, method!(basic.ack { delivery_tag: 0, multiple: true }));
        barrier(&mut peer);
    }
    powered.lose_power();
    assert_eq!(take_all(&mut powered.peer()), []);
}

#[test]
fn a_purge_before_a_durable_answer_stays() {
    let mut powered = Powered::start();
    let mut peer = powered.declared();
    publish_confirmed(&mut peer, 100);
    peer.send(1, method!(basic.get { queue: QUEUE }));
    peer.expect_message(1, method!(basic.get_ok));
    let purge = method!(queue.purge { queue: QUEUE });
    peer.call(1, purge, method!(queue.purge_ok { message_count: 99 }));
    barrier(&mut peer);
    powered.lose_power();
    assert_eq!(take_all(&mut powered.peer()), [("1".to_owned(), true)]);
}

#[test]
fn a_queue_that_is_deleted_and_declared_anew_is_empty_after_the_crash() {
    let mut powered = Powered::start();
    let mut peer = powered.declared();
    publish_confirmed(&mut peer, 100);
    peer.call(
        1,
        method!(queue.delete { queue: QUEUE }),
        method!(queue.delete_ok),
    );
    drop(powered.declared());
    powered.lose_power();
    assert_eq!(take_all(&mut powered.peer()), []);
}

#[test]
fn a_committed_transaction_survives_and_an_open_one_does_not() {
    let mut powered = Powered::start();
    let mut peer = powered.declared();
    peer.call(1, method!(tx.select), method!(tx.select_ok));
    let publish = |peer: &mut Peer, body: &str| {
        let publish = method!(basic.publish { routing_key: QUEUE });
        peer.publish_with(1, publish, &Properties::persistent(), body.as_bytes());
    };
    publish(&mut peer, "committed");
    peer.call(1, method!(tx.commit), method!(tx.commit_ok));
    publish(&mut peer, "open");
    peer.expect_silence(1);
    powered.lose_power();
    let taken = take_all(&mut powered.peer());
    assert_eq!(taken.len(), 1, "{taken:?}");
    assert_eq!(taken[0].0, "committed");
}

#[test]
fn properties_and_large_bodies_survive_whole() {
    let mut powered = Powered::start();
    let mut peer = powered.declared();
    peer.call(1, method!(confirm.select), method!(confirm.select_ok));
    let properties = Properties {
        content_type: Some("application/octet-stream".to_owned()),
        message_id: Some("large".to_owned()),
        timestamp: Some(1_700_000_000),
        ..Properties::persistent()
    };
    let lengths = [0, 1, 15_000, 16_384, 300_000, 3_000_000];
    for length in lengths {
        let body = vec![b'z'; length];
        peer.publish_with(
            1,
            method!(basic.publish { routing_key: QUEUE }),
            &properties,
            &body,
        );
    }
    while peer.expect(1, method!(basic.ack)).number("delivery_tag") < 6 {}
    powered.lose_power();
    let mut peer = powered.peer();
    for length in lengths {
        peer.send(1, method!(basic.get { queue: QUEUE }));
        let message = peer.expect_message(1, method!(basic.get_ok));
        assert_eq!(message.properties, properties);
        assert!(message.body == vec![b'z'; length], "{length} bytes");
    }
}

#[test]
fn a_clean_stop_keeps_the_messages_and_exits_with_zero() {
    let mut broker = BrokerProcess::start();
    let mut peer = broker.connect();
    peer.open_channel(1);
    let declare = method!(queue.declare { queue: QUEUE, durable: true });
    peer.call(1, declare, method!(queue.declare_ok));
    publish_confirmed(&mut peer, 100);
    broker.ask_to_stop();
    let close = peer.expect(0, method!(connection.close { reply_code: 320 }));
    let text = close.text("reply_text");
    assert!(text.starts_with("CONNECTION_FORCED - "), "{text}");
    peer.send(0, method!(connection.close_ok));
    let status = broker.await_end();
    assert!(status.success(), "{status}");
    broker.boot();
    let mut peer = broker.connect();
    peer.open_channel(1);
    assert_eq!(take_all(&mut peer).len(), 100);
}

#[test]
fn two_brokers_do_not_share_a_data_directory() {
    let broker = BrokerProcess::start();
    let second = std::process::Command::new(env!("CARGO_BIN_EXE_leveret"))
        .arg("--config")
        .arg(broker.directory().join("leveret.conf"))
        .arg("--data-dir")
        .arg(broker.data_dir())
        .output()
        .expect("cargo has built the broker");
    assert!(!second.status.success());
    broker.connect().close();
}
