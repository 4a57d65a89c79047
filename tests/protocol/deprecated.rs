//! Deprecated features that the configuration denies. By default they are permitted: the other conversations use them.

use crate::check::{consume, expect_counts, expect_delivery, own_queue, send_to, unique};
use crate::support::broker::BrokerProcess;

/// RabbitMQ's words, as far as they fit in a short string.
const EXPLANATION: &str = "Feature `transient_nonexcl_queues` is deprecated.\nBy default, this feature is not permitted \
                           anymore.\nThe feature will be removed from a future major RabbitMQ version, regardless of \
                           the configuration; actual version to be determined.\nTo...";

fn denying(feature: &str) -> BrokerProcess {
    let line = format!("deprecated_features.permit.{feature} = false");
    BrokerProcess::start_with(&[&line])
}

#[test]
fn a_denied_transient_queue_is_refused_with_541() {
    let broker = denying("transient_nonexcl_queues");
    let name = unique("transient");
    let mut peer = broker.connect();
    peer.open_channel(1);
    // Queues that are durable or exclusive are not meant.
    own_queue(&mut peer);
    let durable = method!(queue.declare { queue: &name, durable: true });
    peer.call(1, durable, method!(queue.declare_ok));
    for auto_delete in [false, true] {
        let mut peer = broker.connect();
        peer.open_channel(1);
        let declare =
            method!(queue.declare { queue: unique("transient"), auto_delete: auto_delete });
        peer.send(1, declare);
        peer.expect_connection_close("queue.declare", 541, EXPLANATION);
    }
    // What exists is compared as ever.
    peer.send(1, method!(queue.declare { queue: &name }));
    let text = format!(
        "inequivalent arg 'durable' for queue '{name}' in vhost '/': received 'false' but current is 'true'"
    );
    peer.expect_channel_close(1, "queue.declare", 406, &text);
}

#[test]
fn a_denied_global_limit_is_one_per_consumer() {
    let broker = denying("global_qos");
    let mut peer = broker.connect();
    peer.open_channel(1);
    let queue = own_queue(&mut peer);
    for number in 1..=5 {
        send_to(&mut peer, &queue, &number.to_string());
    }
    let qos = method!(basic.qos { prefetch_count: 2, global: true });
    peer.call(1, qos, method!(basic.qos_ok));
    for (tag, bodies) in [("one", ["1", "2"]), ("two", ["3", "4"])] {
        consume(&mut peer, &queue, tag);
        for body in bodies {
            expect_delivery(&mut peer, body);
        }
    }
    expect_counts(&mut peer, &queue, 1, 2);
}
