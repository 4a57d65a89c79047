//! The log in `amq.rabbitmq.log`: published as RabbitMQ 3.10 was heard to do it, with the lines of this broker.

use crate::check::await_ready;
use crate::support::broker::BrokerProcess;
use crate::support::content::Message;
use crate::support::peer::Peer;
use crate::support::wire::{Value, field};

const SWITCH: &str = "log.exchange = true";

/// Listens to the lines whose level `pattern` matches, on channel 1.
fn listen(broker: &BrokerProcess, pattern: &str) -> Peer {
    let mut peer = broker.connect();
    peer.open_channel(1);
    let declare = method!(queue.declare { queue: "log", exclusive: true });
    peer.call(1, declare, method!(queue.declare_ok));
    let bind = method!(queue.bind {
        queue: "log", exchange: "amq.rabbitmq.log", routing_key: pattern
    });
    peer.call(1, bind, method!(queue.bind_ok));
    let consume = method!(basic.consume { queue: "log", consumer_tag: "l", no_ack: true });
    peer.call(1, consume, method!(basic.consume_ok));
    peer
}

/// The next line, which has this level and contains this text.
#[track_caller]
fn expect(listener: &mut Peer, level: &str, text: &str) -> Message {
    let line = listener.expect_message(1, method!(basic.deliver { exchange: "amq.rabbitmq.log" }));
    assert_eq!(line.method.text("routing_key"), level, "{line:?}");
    assert!(line.text().contains(text), "{line:?}");
    line
}

/// A channel error, which is logged as such.
fn provoke(broker: &BrokerProcess, queue: &str) -> Peer {
    let mut peer = broker.connect();
    peer.open_channel(1);
    peer.send(1, method!(queue.declare { queue: queue, passive: true }));
    let text = format!("no queue '{queue}' in vhost '/'");
    peer.expect_channel_close(1, "queue.declare", 404, &text);
    peer
}

/// No line about a line: each comes once, and nothing else does.
#[test]
fn each_line_is_published_once_with_its_level() {
    let broker = BrokerProcess::start_with(&[SWITCH]);
    let mut listener = listen(&broker, "#");
    for queue in ["a", "b"] {
        let peer = provoke(&broker, queue);
        let line = expect(&mut listener, "info", "authenticated and granted access");
        assert_eq!(line.properties.content_type.as_deref(), Some("text/plain"));
        assert_eq!(line.properties.delivery_mode, None);
        assert!(line.properties.timestamp.is_some());
        let headers = line.properties.headers.as_ref();
        let node = headers.and_then(|headers| field(headers, "node"));
        let Some(Value::Text(node)) = node else {
            panic!("{line:?}");
        };
        assert!(node.starts_with(b"leveret@"), "{line:?}");
        let missing = format!("no queue '{queue}' in vhost '/'");
        let line = expect(&mut listener, "error", &missing);
        // As on the console, where the clock was read anew.
        let text = line.text();
        let (_, behind_time) = text.split_once(' ').expect("a time and more");
        assert!(broker.log().contains(behind_time), "{line:?}");
        assert!(text.ends_with('\n') && text.lines().count() == 1);
        peer.close();
        expect(&mut listener, "info", "closed connection");
    }
}

#[test]
fn only_what_is_important_enough_is_published() {
    let broker = BrokerProcess::start_with(&[SWITCH, "log.exchange.level = error"]);
    let mut listener = listen(&broker, "#");
    for queue in ["a", "b"] {
        provoke(&broker, queue).close();
        expect(&mut listener, "error", &format!("no queue '{queue}'"));
    }
    assert!(
        broker.log().contains("INFO"),
        "the console has its own level"
    );
}

#[test]
fn bindings_choose_the_level() {
    let broker = BrokerProcess::start_with(&[SWITCH, "log.console.level = none"]);
    let mut listener = listen(&broker, "error");
    for queue in ["a", "b"] {
        provoke(&broker, queue).close();
        expect(&mut listener, "error", &format!("no queue '{queue}'"));
    }
    assert_eq!(broker.log(), "");
}

#[test]
fn the_exchange_of_the_log_is_the_brokers_and_stays_when_it_is_switched_off() {
    let mut broker = BrokerProcess::start_with(&["log.exchange.level = debug"]);
    let mut peer = broker.connect();
    peer.open_channel(1);
    let passive = method!(exchange.declare { exchange: "amq.rabbitmq.log", passive: true });
    peer.send(1, passive);
    let text = "no exchange 'amq.rabbitmq.log' in vhost '/'";
    peer.expect_channel_close(1, "exchange.declare", 404, text);
    broker.reconfigure(&[SWITCH]);
    broker.reconfigure(&[]);
    let mut peer = broker.connect();
    peer.open_channel(1);
    let declare = method!(exchange.declare {
        exchange: "amq.rabbitmq.log", type: "topic", durable: true, internal: true
    });
    peer.call(1, declare, method!(exchange.declare_ok));
    peer.send(1, method!(exchange.delete { exchange: "amq.rabbitmq.log" }));
    let text = "deletion of system exchange 'amq.rabbitmq.log' in vhost '/' not allowed";
    peer.expect_channel_close(1, "exchange.delete", 403, text);
    peer.open_channel(1);
    peer.publish(
        1,
        method!(basic.publish { exchange: "amq.rabbitmq.log", routing_key: "info" }),
        b"forged",
    );
    let text = "cannot publish to internal exchange 'amq.rabbitmq.log' in vhost '/'";
    peer.expect_channel_close(1, "basic.publish", 403, text);
}

#[test]
fn without_its_virtual_host_the_log_stops_the_start() {
    let mut broker = BrokerProcess::prepare(&[SWITCH, "load_definitions = definitions.json"]);
    let definitions = broker.directory().join("definitions.json");
    std::fs::write(definitions, "{}").expect("our own directory is writable");
    broker.spawn();
    assert!(broker.await_ready_or_end().is_err());
    let reason = "log.exchange: virtual host '/' does not exist";
    assert!(broker.log().contains(reason), "{}", broker.log());
}

#[test]
fn definitions_can_bind_to_the_log_and_the_events_of_a_virtual_host_that_they_make() {
    let config = [
        SWITCH,
        "event_exchange.vhost = /",
        "load_definitions = definitions.json",
    ];
    let mut broker = BrokerProcess::prepare(&config);
    let definitions = r##"{
        "users": [{"name": "guest", "password": "guest", "tags": ""}],
        "vhosts": [{"name": "/"}],
        "permissions": [{"user": "guest", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}],
        "queues": [{"vhost": "/", "name": "q", "durable": true, "auto_delete": false, "arguments": {}}],
        "bindings": [
            {"vhost": "/", "source": "amq.rabbitmq.log", "destination": "q", "destination_type": "queue",
             "routing_key": "error", "arguments": {}},
            {"vhost": "/", "source": "amq.rabbitmq.event", "destination": "q", "destination_type": "queue",
             "routing_key": "exchange.created", "arguments": {}}
        ]
    }"##;
    let path = broker.directory().join("definitions.json");
    std::fs::write(path, definitions).expect("our own directory is writable");
    broker.boot();
    provoke(&broker, "a").close();
    let mut peer = broker.connect();
    peer.open_channel(1);
    await_ready(&mut peer, "q", 1);
    let declare = method!(exchange.declare { exchange: "x", type: "fanout" });
    peer.call(1, declare, method!(exchange.declare_ok));
    await_ready(&mut peer, "q", 2);
}
