//! Message interceptors: what the broker notes in messages as they arrive.

use std::fs;

use crate::support::broker::BrokerProcess;
use crate::support::content::Properties;
use crate::support::peer::Peer;
use crate::support::wire::{Value, field, table};

const TIMESTAMP: &str = "message_interceptors.incoming.set_header_timestamp.overwrite";
const ROUTING_NODE: &str = "message_interceptors.incoming.set_header_routing_node.overwrite";

/// 1 January 2020 in ms.
const LONG_AGO_MS: i64 = 1_577_836_800_000;

/// Publishes a message with a confirm that it arrived, and gets it.
#[track_caller]
fn carried(peer: &mut Peer, properties: &Properties) -> Properties {
    let publish = method!(basic.publish { routing_key: "q" });
    peer.publish_with(1, publish, properties, b"body");
    peer.send(1, method!(basic.get { queue: "q", no_ack: true }));
    let message = peer.expect_message(1, method!(basic.get_ok));
    assert_eq!(message.body, b"body");
    message.properties
}

fn connect(broker: &BrokerProcess) -> Peer {
    let mut peer = broker.connect();
    peer.open_channel(1);
    let declare = method!(queue.declare { queue: "q", exclusive: true });
    peer.call(1, declare, method!(queue.declare_ok));
    peer
}

fn claimed() -> Properties {
    Properties {
        headers: Some(table([
            ("timestamp_in_ms", 5.into()),
            ("x-routed-by", "elsewhere".into()),
            ("mine", 1.into()),
        ])),
        timestamp: Some(6),
        message_id: Some("id".to_owned()),
        ..Properties::default()
    }
}

/// Checks that the broker has noted the time and its name.
#[track_caller]
fn check_stamped(properties: &Properties) {
    let headers = properties.headers.as_ref().expect("there are headers");
    let Some(Value::I64(time_ms)) = field(headers, "timestamp_in_ms") else {
        panic!("{headers:?}");
    };
    assert!(*time_ms > LONG_AGO_MS, "{time_ms}");
    assert_eq!(properties.timestamp, Some((*time_ms / 1000) as u64));
    let host = fs::read_to_string("/proc/sys/kernel/hostname").expect("Linux says its name");
    let node = format!("leveret@{}", host.trim());
    assert_eq!(
        field(headers, "x-routed-by"),
        Some(&Value::from(node.as_str()))
    );
}

#[test]
fn messages_are_stamped_as_they_arrive() {
    let (time, node) = (
        format!("{TIMESTAMP} = true"),
        format!("{ROUTING_NODE} = true"),
    );
    let broker = BrokerProcess::start_with(&[&time, &node]);
    let mut peer = connect(&broker);
    for properties in [Properties::default(), claimed(), Properties::default()] {
        let stamped = carried(&mut peer, &properties);
        check_stamped(&stamped);
        assert_eq!(stamped.message_id, properties.message_id);
    }
    // What is noted can be routed by.
    let declare = method!(exchange.declare { exchange: "h", type: "headers" });
    peer.call(1, declare, method!(exchange.declare_ok));
    let arguments = table([("timestamp_in_ms", Value::Void)]);
    let bind = method!(queue.bind { queue: "q", exchange: "h", arguments: arguments });
    peer.call(1, bind, method!(queue.bind_ok));
    peer.publish(1, method!(basic.publish { exchange: "h" }), b"");
    peer.send(1, method!(basic.get { queue: "q", no_ack: true }));
    check_stamped(&peer.expect_message(1, method!(basic.get_ok)).properties);
}

#[test]
fn what_the_publisher_said_stays_without_overwrite() {
    let (time, node) = (
        format!("{TIMESTAMP} = false"),
        format!("{ROUTING_NODE} = false"),
    );
    let broker = BrokerProcess::start_with(&[&time, &node]);
    let mut peer = connect(&broker);
    assert_eq!(carried(&mut peer, &claimed()), claimed());
    check_stamped(&carried(&mut peer, &Properties::default()));
}
