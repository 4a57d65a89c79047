//! The exchange for events: what happens is told, in the words that RabbitMQ 3.10 was heard to use.

use crate::support::broker::BrokerProcess;
use crate::support::content::Message;
use crate::support::peer::{Login, Peer};
use crate::support::wire::{Value, field, table};

const SWITCH: &str = "event_exchange.vhost = /";

/// Listens to the events that `pattern` matches, on channel 1.
fn listen(broker: &BrokerProcess, pattern: &str) -> Peer {
    let mut peer = broker.connect();
    peer.open_channel(1);
    let declare = method!(queue.declare { queue: "events", exclusive: true });
    peer.call(1, declare, method!(queue.declare_ok));
    let bind = method!(queue.bind {
        queue: "events", exchange: "amq.rabbitmq.event", routing_key: pattern
    });
    peer.call(1, bind, method!(queue.bind_ok));
    let consume = method!(basic.consume { queue: "events", consumer_tag: "l", no_ack: true });
    peer.call(1, consume, method!(basic.consume_ok));
    peer
}

/// The next event, which has no body and the time in its headers and properties.
#[track_caller]
fn next(listener: &mut Peer) -> Message {
    let event = listener.expect_message(1, method!(basic.deliver { consumer_tag: "l" }));
    assert!(event.body.is_empty());
    assert_eq!(event.properties.delivery_mode, Some(2));
    let Some(Value::I64(time_ms)) = fact(&event, "timestamp_in_ms") else {
        panic!("{event:?}");
    };
    assert_eq!(event.properties.timestamp, Some(*time_ms as u64 / 1000));
    event
}

fn fact<'a>(event: &'a Message, name: &str) -> Option<&'a Value> {
    let headers = event.properties.headers.as_ref()?;
    field(headers, name)
}

/// The next event says this and has these facts.
#[track_caller]
fn expect<const N: usize>(listener: &mut Peer, key: &str, facts: [(&str, Value); N]) -> Message {
    let event = next(listener);
    assert_eq!(event.method.text("routing_key"), key, "{event:?}");
    for (name, value) in facts {
        assert_eq!(fact(&event, name), Some(&value), "{name} of {event:?}");
    }
    event
}

#[test]
fn the_topology_is_told_of_as_it_comes_and_goes() {
    let broker = BrokerProcess::start_with(&[SWITCH]);
    let mut listener = listen(&broker, "*.*");
    let consumer = [("queue", "events".into()), ("consumer_tag", "l".into())];
    expect(
        &mut listener,
        "binding.created",
        [("routing_key", "*.*".into())],
    );
    expect(&mut listener, "consumer.created", consumer);
    let mut peer = broker.connect();
    expect(
        &mut listener,
        "connection.created",
        [("user", "guest".into())],
    );
    peer.open_channel(1);
    expect(
        &mut listener,
        "channel.created",
        [("number", Value::I64(1))],
    );
    let user = || ("user_who_performed_action", Value::from("guest"));
    let nobody = || ("user_who_performed_action", Value::from("rmq-internal"));
    let vhost = || ("vhost", Value::from("/"));
    let arguments = table([("x-max-length", 5.into())]);
    let declare = method!(queue.declare { queue: "q", exclusive: true, arguments: arguments });
    peer.call(1, declare, method!(queue.declare_ok));
    let terms = Value::Array(vec!["{<<\"x-max-length\">>,signedint,5}".into()]);
    let properties = [("durable", false.into()), ("exclusive", true.into())];
    let created = expect(&mut listener, "queue.created", properties);
    assert_eq!(fact(&created, "arguments"), Some(&terms));
    let declare = method!(exchange.declare { exchange: "x", type: "topic", auto_delete: true });
    peer.call(1, declare, method!(exchange.declare_ok));
    let properties = [
        ("name", "x".into()),
        ("type", "topic".into()),
        user(),
        vhost(),
    ];
    expect(&mut listener, "exchange.created", properties);
    let bind = method!(queue.bind { queue: "q", exchange: "x", routing_key: "k" });
    peer.call(1, bind, method!(queue.bind_ok));
    let ends = || {
        [
            ("source_name", Value::from("x")),
            ("source_kind", "exchange".into()),
            ("destination_name", "q".into()),
            ("destination_kind", "queue".into()),
            ("routing_key", "k".into()),
        ]
    };
    expect(&mut listener, "binding.created", ends());
    // What goes along is nobody's doing.
    let delete = method!(queue.delete { queue: "q" });
    peer.call(1, delete, method!(queue.delete_ok));
    let unbound = expect(&mut listener, "binding.deleted", ends());
    assert_eq!(fact(&unbound, nobody().0), Some(&nobody().1));
    expect(
        &mut listener,
        "exchange.deleted",
        [("name", "x".into()), nobody()],
    );
    expect(
        &mut listener,
        "queue.deleted",
        [("name", "q".into()), user(), vhost()],
    );
    peer.close();
    expect(&mut listener, "channel.closed", [user()]);
    expect(&mut listener, "connection.closed", [("pid", pid(&created))]);
}

/// The owner of an exclusive queue.
fn pid(created: &Message) -> Value {
    fact(created, "owner_pid")
        .cloned()
        .expect("it has an owner")
}

#[test]
fn logins_consumers_and_connections_are_told_of() {
    let broker = BrokerProcess::start_with(&[SWITCH]);
    let mut listener = listen(&broker, "#");
    for key in ["binding.created", "consumer.created"] {
        expect(&mut listener, key, []);
    }
    let login = Login {
        password: "wrong".to_owned(),
        ..Login::default()
    };
    Peer::try_connect(broker.address(), &login)
        .err()
        .expect("the password is wrong");
    let refused = expect(
        &mut listener,
        "user.authentication.failure",
        [
            ("name", "guest".into()),
            ("auth_mechanism", "PLAIN".into()),
            ("error", "user 'guest' - invalid credentials".into()),
            ("peer_host", "{127,0,0,1}".into()),
            ("protocol", "{0,9,1}".into()),
        ],
    );
    assert!(matches!(fact(&refused, "peer_port"), Some(Value::I64(_))));
    let mut peer = broker.connect();
    expect(
        &mut listener,
        "user.authentication.success",
        [("name", "guest".into())],
    );
    let created = expect(
        &mut listener,
        "connection.created",
        [
            ("channel_max", Value::I64(2047)),
            ("frame_max", Value::I64(131_072)),
            ("type", "network".into()),
            ("vhost", "/".into()),
        ],
    );
    peer.open_channel(7);
    expect(
        &mut listener,
        "channel.created",
        [(
            "connection",
            fact(&created, "pid").cloned().expect("it has one"),
        )],
    );
    let declare = method!(queue.declare { queue: "q", exclusive: true });
    peer.call(7, declare, method!(queue.declare_ok));
    expect(&mut listener, "queue.created", []);
    peer.call(
        7,
        method!(basic.qos { prefetch_count: 3 }),
        method!(basic.qos_ok),
    );
    for tag in ["a", "b"] {
        let consume = method!(basic.consume { queue: "q", consumer_tag: tag });
        peer.call(7, consume, method!(basic.consume_ok));
        let facts = [
            ("consumer_tag", tag.into()),
            ("prefetch_count", Value::I64(3)),
        ];
        expect(&mut listener, "consumer.created", facts);
    }
    let cancel = method!(basic.cancel { consumer_tag: "a" });
    peer.call(7, cancel, method!(basic.cancel_ok));
    expect(
        &mut listener,
        "consumer.deleted",
        [("consumer_tag", "a".into())],
    );
    let close = method!(channel.close { reply_code: 200, reply_text: "bye" });
    peer.call(7, close, method!(channel.close_ok));
    expect(
        &mut listener,
        "consumer.deleted",
        [("consumer_tag", "b".into())],
    );
    expect(&mut listener, "channel.closed", []);
}

#[test]
fn the_exchange_stays_with_its_bindings_and_nobody_can_delete_it() {
    let mut broker = BrokerProcess::start_with(&[SWITCH]);
    let mut peer = broker.connect();
    peer.open_channel(1);
    let declare = method!(queue.declare { queue: "kept", durable: true });
    peer.call(1, declare, method!(queue.declare_ok));
    let bind = method!(queue.bind {
        queue: "kept", exchange: "amq.rabbitmq.event", routing_key: "exchange.*"
    });
    peer.call(1, bind, method!(queue.bind_ok));
    peer.send(
        1,
        method!(exchange.delete { exchange: "amq.rabbitmq.event" }),
    );
    peer.expect_channel_close(
        1,
        "exchange.delete",
        403,
        "deletion of system exchange 'amq.rabbitmq.event' in vhost '/' not allowed",
    );
    broker.kill9();
    broker.boot();
    let mut peer = broker.connect();
    peer.open_channel(1);
    let declare = method!(exchange.declare { exchange: "x", type: "fanout" });
    peer.call(1, declare, method!(exchange.declare_ok));
    loop {
        peer.send(1, method!(basic.get { queue: "kept", no_ack: true }));
        let Ok(event) = peer.await_method(1, "basic.get_ok") else {
            continue;
        };
        let event = peer.try_content(event).expect("a message has content");
        assert_eq!(event.method.text("routing_key"), "exchange.created");
        break;
    }
}

#[test]
fn a_virtual_host_that_does_not_exist_stops_the_start() {
    let mut broker = BrokerProcess::prepare(&["event_exchange.vhost = nowhere"]);
    broker.spawn();
    assert!(broker.await_ready_or_end().is_err());
    let text = "event_exchange.vhost: virtual host 'nowhere' does not exist";
    assert!(broker.log().contains(text), "{}", broker.log());
}
