//! What the conversations share: openings, endings, and one check per feature.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::broker;
use crate::support::content::Message;
use crate::support::method::Method;
use crate::support::peer::{Login, Peer};

/// A peer that is logged in as guest, with channel 1 open.
pub(crate) fn peer() -> Peer {
    let mut peer = Peer::connect(broker::shared());
    peer.open_channel(1);
    peer
}

/// A peer that logged in with something other than the defaults; no channel is open.
pub(crate) fn peer_with(login: &Login) -> Peer {
    Peer::try_connect(broker::shared(), login).expect("the login is accepted")
}

/// A name that no other test and no earlier run uses.
pub(crate) fn unique(stem: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{stem}.{}.{number}", std::process::id())
}

/// What RabbitMQ 4 says, or what 3.10 says where the tests run against that.
pub(crate) fn since_4<T>(now: T, before: T) -> T {
    if broker::is_foreign() { before } else { now }
}

/// Declares an exclusive queue with a name from the server, on channel 1.
pub(crate) fn own_queue(peer: &mut Peer) -> String {
    let declare = method!(queue.declare { exclusive: true });
    peer.call(1, declare, method!(queue.declare_ok))
        .text("queue")
}

/// Publishes through the default exchange on channel 1.
pub(crate) fn send_to(peer: &mut Peer, queue: &str, body: &str) {
    peer.publish(
        1,
        method!(basic.publish { routing_key: queue }),
        body.as_bytes(),
    );
}

/// Starts a consumer on channel 1 and waits for its consume-ok.
pub(crate) fn consume(peer: &mut Peer, queue: &str, tag: &str) {
    let consume = method!(basic.consume { queue: queue, consumer_tag: tag });
    peer.call(1, consume, method!(basic.consume_ok { consumer_tag: tag }));
}

/// The next frames have to be a delivery of this body on channel 1.
#[track_caller]
pub(crate) fn expect_delivery(peer: &mut Peer, body: &str) -> Message {
    let message = peer.expect_message(1, method!(basic.deliver));
    assert_eq!(message.text(), body);
    message
}

/// basic.get with acknowledgement on channel 1 has to find this body.
#[track_caller]
pub(crate) fn expect_get(peer: &mut Peer, queue: &str, body: &str) -> Message {
    peer.send(1, method!(basic.get { queue: queue }));
    let message = peer.expect_message(1, method!(basic.get_ok));
    assert_eq!(message.text(), body);
    message
}

#[track_caller]
pub(crate) fn expect_empty(peer: &mut Peer, queue: &str) {
    let get = method!(basic.get { queue: queue });
    peer.call(1, get, method!(basic.get_empty));
}

/// The counts that a passive declare reports: ready messages, consumers.
///
/// Ours are exact as soon as a method is handled. RabbitMQ answers the question before the
/// publishes that came earlier, so that it is asked until it has caught up.
#[track_caller]
pub(crate) fn expect_counts(peer: &mut Peer, queue: &str, messages: u32, consumers: u32) {
    let declare = method!(queue.declare { queue: queue, passive: true });
    let counts = method!(queue.declare_ok {
        queue: queue,
        message_count: messages,
        consumer_count: consumers,
    });
    for _ in 0..100 {
        let came = peer.call(1, declare.clone(), method!(queue.declare_ok));
        if came.matches(&counts) {
            return;
        }
        assert!(broker::is_foreign(), "expected {counts:?}, got {came:?}");
    }
    peer.call(1, declare, counts);
}

/// Waits until so many messages are ready: dead letters take their way after the answer.
#[track_caller]
pub(crate) fn await_ready(peer: &mut Peer, queue: &str, messages: u64) {
    let declare = method!(queue.declare { queue: queue, passive: true });
    for _ in 0..1000 {
        let counts = peer.call(1, declare.clone(), method!(queue.declare_ok));
        if counts.number("message_count") == messages {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("{queue} never had {messages} messages");
}

/// Waits until the queue or exchange is there or gone, for effects that the protocol does not
/// announce. Each question takes a channel of its own, for a miss closes it.
#[track_caller]
pub(crate) fn await_existence(peer: &mut Peer, passive: &Method, exists: bool) {
    for _ in 0..1000 {
        peer.open_channel(900);
        peer.send(900, passive.clone());
        let answer = crate::support::peer::decode(&peer.recv()).expect("a method answers");
        let close = answer.name() == "channel.close";
        if close {
            peer.send(900, method!(channel.close_ok));
        } else {
            peer.call(900, method!(channel.close), method!(channel.close_ok));
        }
        if close != exists {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("{passive:?} never came to the expected answer");
}

/// One method on a fresh channel closes that channel, and nothing more: the same connection goes
/// on with the same channel number.
#[track_caller]
pub(crate) fn check_channel_error(method: Method, code: u16, text: &str) {
    check_channel_error_on(&mut peer(), method, code, text);
}

/// The same on channel 1 of a peer that has prepared something; channel 1 is open again after.
#[track_caller]
pub(crate) fn check_channel_error_on(peer: &mut Peer, method: Method, code: u16, text: &str) {
    let cause = method.name();
    peer.send(1, method);
    peer.expect_channel_close(1, cause, code, text);
    peer.open_channel(1);
    peer.expect_silence(1);
}

/// One method on a fresh channel ends the connection.
#[track_caller]
pub(crate) fn check_connection_error(method: Method, code: u16, text: &str) {
    let cause = method.name();
    let mut peer = peer();
    peer.send(1, method);
    peer.expect_connection_close(cause, code, text);
}
