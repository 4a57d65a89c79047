//! Policies, set by definitions that the broker imports when it starts.

use std::fs;

use crate::check::{expect_empty, expect_get, send_to};
use crate::support::broker::BrokerProcess;
use crate::support::method::Method;

const DEFINITIONS: &str = r#"{
    "users": [{"name": "guest", "password": "guest", "tags": "administrator"}],
    "vhosts": [{"name": "/"}],
    "permissions": [{"user": "guest", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}],
    "policies": [
        {"vhost": "/", "name": "short", "pattern": "^short", "definition": {"max-length": 2}},
        {"vhost": "/", "name": "alternate", "pattern": "^x$", "apply-to": "exchanges",
         "definition": {"alternate-exchange": "amq.fanout"}}
    ],
    "parameters": [
        {"vhost": "/", "component": "operator_policy", "name": "shorter", "value":
         {"pattern": "^shortest", "definition": {"max-length": 1}, "priority": 0, "apply-to": "queues"}}
    ],
    "queues": [{"vhost": "/", "name": "imported", "durable": true, "auto_delete": false, "arguments": {}}],
    "bindings": [{"vhost": "/", "source": "amq.fanout", "destination": "imported", "destination_type": "queue",
                  "routing_key": "", "arguments": {}}]
}"#;

fn prepare(definitions: &str) -> BrokerProcess {
    let broker = BrokerProcess::prepare(&["load_definitions = definitions.json"]);
    write(&broker, definitions);
    broker
}

fn write(broker: &BrokerProcess, definitions: &str) {
    let path = broker.directory().join("definitions.json");
    fs::write(path, definitions).expect("our own directory is writable");
}

fn declare(name: &str) -> Method {
    method!(queue.declare { queue: name, durable: true })
}

#[test]
fn policies_of_the_definitions_hold_and_can_be_changed_by_the_next_import() {
    let mut broker = prepare(DEFINITIONS);
    broker.boot();
    let mut peer = broker.connect();
    peer.open_channel(1);
    for queue in ["short", "shortest", "other"] {
        peer.call(1, declare(queue), method!(queue.declare_ok));
        for body in ["1", "2", "3"] {
            send_to(&mut peer, queue, body);
        }
    }
    for (queue, bodies) in [
        ("short", &["2", "3"][..]),
        ("shortest", &["3"]),
        ("other", &["1", "2", "3"]),
    ] {
        for body in bodies {
            expect_get(&mut peer, queue, body);
        }
        expect_empty(&mut peer, queue);
    }
    // The alternate exchange of the policy leads to the imported queue.
    peer.call(
        1,
        method!(exchange.declare { exchange: "x", type: "direct" }),
        method!(exchange.declare_ok),
    );
    peer.publish(
        1,
        method!(basic.publish { exchange: "x", routing_key: "nowhere" }),
        b"unrouted",
    );
    expect_get(&mut peer, "imported", "unrouted");
    drop(peer);

    write(
        &broker,
        &DEFINITIONS.replace("\"max-length\": 2", "\"max-length\": 0"),
    );
    broker.kill9();
    broker.boot();
    let mut peer = broker.connect();
    peer.open_channel(1);
    send_to(&mut peer, "short", "gone");
    expect_empty(&mut peer, "short");
}

#[test]
fn definitions_with_a_mistake_stop_the_start_and_name_it() {
    let mut broker = prepare(&DEFINITIONS.replace("\"max-length\": 2", "\"max-length\": \"2\""));
    broker.spawn();
    assert!(broker.await_ready_or_end().is_err());
    let expected = "definitions.json: policies[0] 'short' in vhost '/': <<\"2\">> is not a valid maximum length";
    assert!(broker.log().contains(expected), "{}", broker.log());
}
