//! How much there may be in a node: set by the configuration, over all users and virtual hosts.

use std::fs;

use crate::support::broker::BrokerProcess;
use crate::support::method::Method;
use crate::support::peer::{Login, Peer};

fn declare(name: &str) -> Method {
    method!(queue.declare { queue: name, exclusive: true })
}

#[test]
fn a_node_takes_as_many_connections_and_channels_as_configured() {
    let broker = BrokerProcess::start_with(&["connection_max = 2", "channel_max_per_node = 2"]);
    let mut first = broker.connect();
    let mut second = broker.connect();
    let refused = Peer::try_connect(broker.address(), &Login::default());
    let error = refused.err().expect("the limit is reached").to_string();
    let text = "NOT_ALLOWED - connection refused: node connection limit (2) is reached";
    assert!(error.contains(text), "{error}");
    first.open_channel(1);
    second.open_channel(1);
    second.send(2, method!(channel.open));
    let host = fs::read_to_string("/proc/sys/kernel/hostname").expect("Linux says its name");
    let host = host.trim();
    let text = format!(
        "number of channels opened on node 'leveret@{host}' has reached the maximum allowed limit of (2)"
    );
    second.expect_connection_close("", 530, &text);
    // The end of a connection makes room for another and its channels.
    let mut third = broker.connect();
    third.open_channel(1);
}

#[test]
fn a_channel_has_as_many_consumers_as_configured() {
    let broker = BrokerProcess::start_with(&["consumer_max_per_channel = 1"]);
    let mut peer = broker.connect();
    let consume = |tag: &str| method!(basic.consume { queue: "q", consumer_tag: tag });
    peer.open_channel(1);
    peer.open_channel(2);
    peer.call(1, declare("q"), method!(queue.declare_ok));
    for channel in [1, 2] {
        peer.call(channel, consume("a"), method!(basic.consume_ok));
    }
    let cancel = method!(basic.cancel { consumer_tag: "a" });
    peer.call(1, cancel, method!(basic.cancel_ok));
    peer.call(1, consume("b"), method!(basic.consume_ok));
    peer.send(1, consume("c"));
    peer.expect_connection_close(
        "basic.consume",
        530,
        "reached maximum (1) of consumers per channel",
    );
}

#[test]
fn a_node_has_as_many_queues_and_exchanges_as_configured() {
    let limits = ["cluster_queue_limit = 1", "cluster_exchange_limit = 8"];
    let broker = BrokerProcess::start_with(&limits);
    let mut peer = broker.connect();
    peer.open_channel(1);
    peer.call(1, declare("a"), method!(queue.declare_ok));
    peer.call(1, declare("a"), method!(queue.declare_ok));
    peer.send(1, declare("b"));
    peer.expect_channel_close(
        1,
        "queue.declare",
        406,
        "cannot declare queue 'b': queue limit in cluster (1) is reached",
    );
    let exchange = |name: &str| method!(exchange.declare { exchange: name, type: "direct" });
    peer.open_channel(2);
    peer.call(2, exchange("x"), method!(exchange.declare_ok));
    peer.call(2, exchange("x"), method!(exchange.declare_ok));
    peer.send(2, exchange("y"));
    peer.expect_channel_close(
        2,
        "exchange.declare",
        406,
        "cannot declare exchange 'y' in vhost '/': exchange limit of 8 is reached",
    );
    peer.open_channel(3);
    let delete = method!(queue.delete { queue: "a" });
    peer.call(3, delete, method!(queue.delete_ok));
    peer.call(3, declare("b"), method!(queue.declare_ok));
}
