//! Alarms: whoever publishes is blocked and told so, whoever does not never hears of it.
//!
//! Limits that cannot be met keep the alarms on for as long as these brokers run.

use std::net::SocketAddr;
use std::sync::OnceLock;

use crate::check::{expect_empty, own_queue};
use crate::support::broker::{self, BrokerProcess};
use crate::support::peer::{HEARTBEAT, Login, Peer};

const NO_DISK: &str = "disk_free_limit.absolute = 1000000GB";
const NO_MEMORY: &str = "vm_memory_high_watermark.absolute = 1MB";

/// A broker that is short of disk; there is none where the tests run against another broker.
fn short_of_disk() -> Option<SocketAddr> {
    static SHARED: OnceLock<BrokerProcess> = OnceLock::new();
    if broker::is_foreign() {
        return None;
    }
    let shared = SHARED.get_or_init(|| BrokerProcess::start_with(&[NO_DISK]));
    Some(shared.address())
}

#[track_caller]
fn check_reason(config: &[&str], reasons: &[&str]) {
    if broker::is_foreign() {
        return;
    }
    let broker = BrokerProcess::start_with(config);
    let mut peer = broker.connect();
    peer.open_channel(1);
    peer.publish(1, method!(basic.publish { routing_key: "nowhere" }), b"");
    let reason = peer.expect(0, method!(connection.blocked)).text("reason");
    assert!(reasons.contains(&reason.as_str()), "{reason}");
}

#[test]
fn a_publisher_is_told_what_is_missing() {
    check_reason(&[NO_DISK], &["low on disk"]);
    check_reason(&[NO_MEMORY], &["low on memory"]);
    // RabbitMQ names a set in no particular order.
    let both = ["low on memory & disk", "low on disk & memory"];
    check_reason(&[NO_MEMORY, NO_DISK], &both);
}

#[test]
fn who_does_not_publish_never_hears_of_it() {
    let Some(address) = short_of_disk() else {
        return;
    };
    let mut peer = Peer::connect(address);
    peer.open_channel(1);
    let queue = own_queue(&mut peer);
    expect_empty(&mut peer, &queue);
    peer.call(
        1,
        method!(basic.consume { queue: &queue }),
        method!(basic.consume_ok),
    );
    peer.expect_silence(1);
    peer.close();
}

#[test]
fn a_publisher_is_told_once() {
    let Some(address) = short_of_disk() else {
        return;
    };
    let mut peer = Peer::connect(address);
    peer.open_channel(1);
    for _ in 0..10 {
        peer.publish(1, method!(basic.publish { routing_key: "nowhere" }), b"");
    }
    peer.expect(0, method!(connection.blocked { reason: "low on disk" }));
    let another = {
        let mut other = Peer::connect(address);
        other.open_channel(1);
        other.expect_silence(1);
        other
    };
    another.close();
}

#[test]
fn a_blocked_connection_is_not_dropped_for_its_silence() {
    let Some(address) = short_of_disk() else {
        return;
    };
    let login = Login {
        heartbeat: 1,
        ..Login::default()
    };
    let mut peer = Peer::try_connect(address, &login).expect("guest may log in");
    peer.open_channel(1);
    peer.publish(1, method!(basic.publish { routing_key: "nowhere" }), b"");
    peer.expect(0, method!(connection.blocked));
    // More beats of the server than it gives to a silent client that it still listens to.
    for _ in 0..8 {
        assert_eq!(peer.recv_any().expect("a heartbeat").kind, HEARTBEAT);
    }
}
