//! Rates: who is too fast waits, and nothing is refused. A rate of 0 makes it wait for ever, so that no test depends on
//! time.

use std::fs;

use crate::check::{consume, expect_counts, expect_delivery, expect_get, peer, send_to, unique};
use crate::support::broker::{self, BrokerProcess};
use crate::support::method::Method;
use crate::support::peer::{HEARTBEAT, Login, Peer};
use crate::support::wire::{Table, Value, field, table};

const DEFINITIONS: &str = r#"{
    "users": [
        {"name": "guest", "password": "guest", "tags": "administrator"},
        {"name": "mute", "password": "guest", "tags": "", "limits": {"max-publish-rate": 0}},
        {"name": "deaf", "password": "guest", "tags": "", "limits": {"max-consume-rate": 0}},
        {"name": "slow", "password": "guest", "tags": "", "limits": {"max-consume-rate": 40, "max-publish-rate": 40}}
    ],
    "vhosts": [{"name": "/"}, {"name": "mute"}, {"name": "deaf"}],
    "permissions": [
        {"user": "guest", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"},
        {"user": "guest", "vhost": "mute", "configure": ".*", "write": ".*", "read": ".*"},
        {"user": "guest", "vhost": "deaf", "configure": ".*", "write": ".*", "read": ".*"},
        {"user": "mute", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"},
        {"user": "deaf", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"},
        {"user": "slow", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}
    ],
    "policies": [
        {"vhost": "/", "name": "mute", "pattern": "^mute", "apply-to": "queues",
         "definition": {"max-publish-bytes-rate": 0}}
    ],
    "parameters": [
        {"vhost": "mute", "component": "vhost-limits", "name": "limits", "value": {"max-publish-rate": 0}},
        {"vhost": "deaf", "component": "vhost-limits", "name": "limits", "value": {"max-consume-rate": 0}}
    ]
}"#;

fn start() -> BrokerProcess {
    let mut broker = BrokerProcess::prepare(&["load_definitions = definitions.json"]);
    let path = broker.directory().join("definitions.json");
    fs::write(path, DEFINITIONS).expect("our own directory is writable");
    broker.boot();
    broker
}

/// More beats than the server gives to a silent client that it listens to.
const BEATS: usize = 6;

/// Channel 1 is open, and heartbeats come twice a second.
fn connect(address: std::net::SocketAddr, user: &str, virtual_host: &str) -> Peer {
    let login = Login {
        user: user.to_owned(),
        virtual_host: virtual_host.to_owned(),
        heartbeat: 1,
        ..Login::default()
    };
    let mut peer = Peer::try_connect(address, &login).expect("it may log in");
    peer.open_channel(1);
    peer
}

fn declare(peer: &mut Peer, name: &str, arguments: Table) {
    let declare = method!(queue.declare { queue: name, arguments: arguments });
    peer.call(1, declare, method!(queue.declare_ok));
}

fn rate(argument: &str, per_second: i32) -> Table {
    table([(argument, Value::I32(per_second))])
}

fn passive(name: &str) -> Method {
    method!(queue.declare { queue: name, passive: true })
}

/// Nothing comes but heartbeats, so often.
#[track_caller]
fn expect_only_heartbeats(peer: &mut Peer, count: usize) {
    for _ in 0..count {
        assert_eq!(peer.recv_any().expect("a heartbeat").kind, HEARTBEAT);
    }
}

#[test]
fn a_publisher_waits_for_its_queue_until_the_queue_is_gone() {
    if broker::is_foreign() {
        return;
    }
    for argument in ["x-max-publish-rate", "x-max-publish-bytes-rate"] {
        let name = unique("held");
        let mut publisher = connect(broker::shared(), "guest", "/");
        declare(&mut publisher, &name, rate(argument, 0));
        send_to(&mut publisher, &name, "taken");
        publisher.send(1, passive(&name));
        expect_only_heartbeats(&mut publisher, BEATS);
        let mut other = peer();
        expect_counts(&mut other, &name, 1, 0);
        expect_get(&mut other, &name, "taken");
        // What waits for nobody's rate is not held up.
        send_to(&mut other, "nowhere", "a");
        expect_counts(&mut other, &name, 0, 0);
        let delete = method!(queue.delete { queue: &name });
        other.call(1, delete, method!(queue.delete_ok));
        publisher.expect_channel_close(
            1,
            "queue.declare",
            404,
            &format!("no queue '{name}' in vhost '/'"),
        );
    }
}

#[test]
fn a_publisher_waits_for_its_user_its_virtual_host_and_a_policy() {
    if broker::is_foreign() {
        return;
    }
    let broker = start();
    for (user, virtual_host, name) in [
        ("mute", "/", "q"),
        ("guest", "mute", "q"),
        ("guest", "/", "mute"),
    ] {
        let mut publisher = connect(broker.address(), user, virtual_host);
        declare(&mut publisher, name, Table::new());
        send_to(&mut publisher, name, "taken");
        publisher.send(1, passive(name));
        expect_only_heartbeats(&mut publisher, BEATS);
        let mut other = connect(broker.address(), "guest", virtual_host);
        expect_counts(&mut other, name, 1, 0);
    }
}

#[test]
fn a_consumer_gets_nothing_that_the_rate_does_not_allow() {
    if broker::is_foreign() {
        return;
    }
    let broker = start();
    for (user, virtual_host, arguments) in [
        ("guest", "/", rate("x-max-consume-rate", 0)),
        ("deaf", "/", Table::new()),
        ("guest", "deaf", Table::new()),
    ] {
        let name = unique("q");
        let mut peer = connect(broker.address(), user, virtual_host);
        declare(&mut peer, &name, arguments);
        for body in ["a", "b"] {
            send_to(&mut peer, &name, body);
        }
        consume(&mut peer, &name, "c");
        expect_only_heartbeats(&mut peer, 2);
        expect_counts(&mut peer, &name, 2, 1);
        let cancel = method!(basic.cancel { consumer_tag: "c" });
        peer.call(1, cancel, method!(basic.cancel_ok));
        // It is there, and said to be: what comes next has to wait.
        expect_get(&mut peer, &name, "a");
        peer.send(1, passive(&name));
        expect_only_heartbeats(&mut peer, BEATS);
    }
}

/// More than may go at once: the rest comes by itself, in order.
#[test]
fn what_waited_for_a_rate_comes_in_its_time() {
    if broker::is_foreign() {
        return;
    }
    let broker = start();
    let stream = || {
        let mut arguments = rate("x-max-consume-rate", 40);
        arguments.extend(table([("x-queue-type", "stream".into())]));
        arguments
    };
    for (user, arguments) in [
        ("guest", rate("x-max-consume-rate", 40)),
        ("guest", rate("x-max-publish-rate", 40)),
        ("guest", stream()),
        ("slow", Table::new()),
    ] {
        let name = unique("q");
        let mut peer = connect(broker.address(), user, "/");
        // Only a stream has offsets; other queues refuse the argument.
        let from_the_start = match field(&arguments, "x-queue-type") {
            Some(_) => table([("x-stream-offset", "first".into())]),
            None => Table::new(),
        };
        let declare = method!(queue.declare { queue: &name, durable: true, arguments: arguments });
        peer.call(1, declare, method!(queue.declare_ok));
        let bodies: Vec<String> = (0..70).map(|number| number.to_string()).collect();
        for body in &bodies {
            send_to(&mut peer, &name, body);
        }
        let qos = method!(basic.qos { prefetch_count: 1000 });
        peer.call(1, qos, method!(basic.qos_ok));
        let consume = method!(basic.consume { queue: &name, arguments: from_the_start });
        peer.call(1, consume, method!(basic.consume_ok));
        for body in &bodies {
            expect_delivery(&mut peer, body);
        }
    }
}
