//! Limits of virtual hosts and users, and the type of queues that name none: set by definitions.

use std::fs;

use crate::support::broker::BrokerProcess;
use crate::support::method::Method;
use crate::support::peer::{Login, Peer};
use crate::support::wire::{Value, field, table};

const DEFINITIONS: &str = r#"{
    "users": [
        {"name": "guest", "password": "guest", "tags": "administrator", "limits": {"max-channels": -1}},
        {"name": "one", "password": "p", "tags": "", "limits": {"max-connections": 1, "max-channels": 2}}
    ],
    "vhosts": [{"name": "/"}, {"name": "small"}, {"name": "none"}, {"name": "quorum", "default_queue_type": "quorum"}],
    "permissions": [
        {"user": "guest", "vhost": "small", "configure": ".*", "write": ".*", "read": ".*"},
        {"user": "guest", "vhost": "none", "configure": ".*", "write": ".*", "read": ".*"},
        {"user": "guest", "vhost": "quorum", "configure": ".*", "write": ".*", "read": ".*"},
        {"user": "guest", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"},
        {"user": "one", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}
    ],
    "parameters": [
        {"vhost": "small", "component": "vhost-limits", "name": "limits",
         "value": {"max-connections": 1, "max-queues": 1}},
        {"vhost": "none", "component": "vhost-limits", "name": "limits", "value": {"max-connections": 0}},
        {"vhost": "/", "component": "vhost-limits", "name": "limits", "value": {"max-queues": -1}}
    ]
}"#;

fn start() -> BrokerProcess {
    let mut broker = BrokerProcess::prepare(&["load_definitions = definitions.json"]);
    let path = broker.directory().join("definitions.json");
    fs::write(path, DEFINITIONS).expect("our own directory is writable");
    broker.boot();
    broker
}

fn connect(broker: &BrokerProcess, user: &str, virtual_host: &str) -> Result<Peer, String> {
    let login = Login {
        user: user.to_owned(),
        password: if user == "guest" { "guest" } else { "p" }.to_owned(),
        virtual_host: virtual_host.to_owned(),
        ..Login::default()
    };
    Peer::try_connect(broker.address(), &login).map_err(|error| error.to_string())
}

#[track_caller]
fn check_refused(refused: Result<Peer, String>, text: &str) {
    let error = refused.err().expect("the limit is reached");
    assert!(error.contains("reply_code: 530"), "{error}");
    assert!(error.contains(&format!("NOT_ALLOWED - {text}")), "{error}");
}

fn close(peer: &mut Peer) {
    let close = method!(connection.close { reply_code: 200, reply_text: "bye" });
    peer.call(0, close, method!(connection.close_ok));
}

fn declare(name: &str) -> Method {
    method!(queue.declare { queue: name, durable: true })
}

#[test]
fn a_vhost_takes_as_many_connections_as_its_limit_says() {
    let broker = start();
    let refusal = |vhost, limit| {
        format!(
            "access to vhost '{vhost}' refused for user 'guest': connection limit ({limit}) is reached"
        )
    };
    check_refused(connect(&broker, "guest", "none"), &refusal("none", 0));
    for _ in 0..2 {
        let mut only = connect(&broker, "guest", "small").unwrap();
        check_refused(connect(&broker, "guest", "small"), &refusal("small", 1));
        connect(&broker, "guest", "/").unwrap();
        close(&mut only);
    }
    // Permissions come last: whoever may not enter takes no place there.
    check_refused(
        connect(&broker, "one", "small"),
        "access to vhost 'small' refused for user 'one'",
    );
    connect(&broker, "guest", "small").unwrap();
}

#[test]
fn a_user_opens_as_many_connections_and_channels_as_its_limits_say() {
    let broker = start();
    let mut peer = connect(&broker, "one", "/").unwrap();
    check_refused(
        connect(&broker, "one", "/"),
        "connection refused for user 'one': user connection limit (1) is reached",
    );
    for channel in [1, 2] {
        peer.open_channel(channel);
    }
    let close_channel = method!(channel.close { reply_code: 200, reply_text: "bye" });
    peer.call(2, close_channel, method!(channel.close_ok));
    peer.open_channel(3);
    peer.send(4, method!(channel.open));
    peer.expect_connection_close(
        "",
        530,
        "number of channels opened for user 'one' has reached the maximum allowed user limit of (2)",
    );
    peer.send(0, method!(connection.close_ok));
    peer.expect_end();
}

#[test]
fn a_vhost_takes_as_many_queues_as_its_limit_says() {
    let mut broker = start();
    let mut peer = connect(&broker, "guest", "small").unwrap();
    let refusal = "cannot declare queue 'b': queue limit in vhost 'small' (1) is reached";
    peer.open_channel(1);
    peer.call(1, declare("a"), method!(queue.declare_ok));
    peer.call(1, declare("a"), method!(queue.declare_ok));
    peer.send(1, declare("b"));
    peer.expect_channel_close(1, "queue.declare", 406, refusal);
    drop(peer);

    // The limit and the queue are there again, without another import.
    fs::write(broker.directory().join("definitions.json"), "{}")
        .expect("our own directory is writable");
    broker.kill9();
    broker.boot();
    let mut peer = connect(&broker, "guest", "small").unwrap();
    peer.open_channel(1);
    peer.send(1, declare("b"));
    peer.expect_channel_close(1, "queue.declare", 406, refusal);
    peer.open_channel(2);
    peer.call(
        2,
        method!(queue.delete { queue: "a" }),
        method!(queue.delete_ok),
    );
    peer.call(2, declare("b"), method!(queue.declare_ok));
}

#[test]
fn queues_that_name_no_type_have_the_default_one() {
    let broker = start();
    let mut peer = connect(&broker, "guest", "quorum").unwrap();
    peer.open_channel(1);
    let typed = |name: &str, queue_type: &str| {
        let arguments = table([("x-queue-type", queue_type.into())]);
        method!(queue.declare { queue: name, durable: true, arguments: arguments })
    };
    peer.call(1, declare("q"), method!(queue.declare_ok));
    peer.call(1, declare("q"), method!(queue.declare_ok));
    peer.call(1, typed("q", "quorum"), method!(queue.declare_ok));
    // Those that cannot be of that type are classic.
    peer.call(1, declare(""), method!(queue.declare_ok));
    let exclusive = method!(queue.declare { queue: "e", durable: true, exclusive: true });
    peer.call(1, exclusive, method!(queue.declare_ok));
    let auto_delete = method!(queue.declare { queue: "d", durable: true, auto_delete: true });
    peer.call(1, auto_delete, method!(queue.declare_ok));
    peer.call(1, typed("c", "classic"), method!(queue.declare_ok));
    peer.send(1, declare("c"));
    peer.expect_channel_close(
        1,
        "queue.declare",
        406,
        "inequivalent arg 'x-queue-type' for queue 'c' in vhost 'quorum': received the value 'quorum' of type 'longstr' \
         but current is the value 'classic' of type 'longstr'",
    );
    peer.open_channel(2);
    peer.send(2, typed("q", "classic"));
    peer.expect_channel_close(
        2,
        "queue.declare",
        406,
        "inequivalent arg 'x-queue-type' for queue 'q' in vhost 'quorum': received the value 'classic' of type 'longstr' \
         but current is the value 'quorum' of type 'longstr'",
    );
}

#[test]
fn a_virtual_host_keeps_the_type_of_its_birth() {
    let mut broker = BrokerProcess::start_with(&["default_queue_type = stream"]);
    broker.reconfigure(&["default_queue_type = quorum"]);
    let mut peer = broker.connect();
    peer.open_channel(1);
    peer.call(1, declare("s"), method!(queue.declare_ok));
    let arguments = table([("x-queue-type", "stream".into())]);
    let stream = method!(queue.declare { queue: "s", durable: true, arguments: arguments });
    peer.call(1, stream, method!(queue.declare_ok));
}

#[test]
fn the_parameter_cluster_name_is_what_clients_are_told() {
    let mut broker = BrokerProcess::prepare(&["load_definitions = definitions.json"]);
    let path = broker.directory().join("definitions.json");
    let definitions =
        r#"{"global_parameters": [{"name": "cluster_name", "value": "by parameter"}]}"#;
    fs::write(path, definitions).expect("our own directory is writable");
    broker.boot();
    assert_eq!(cluster_name(&broker), "by parameter");
    broker.reconfigure(&[]);
    assert_eq!(cluster_name(&broker), "by parameter");
    broker.reconfigure(&["cluster_name = by configuration"]);
    assert_eq!(cluster_name(&broker), "by configuration");
}

/// What connection.start says.
fn cluster_name(broker: &BrokerProcess) -> String {
    let mut peer = Peer::dial(broker.address()).expect("the broker listens");
    peer.send_raw(b"AMQP\x00\x00\x09\x01");
    let start = peer.expect(0, method!(connection.start));
    match field(start.table("server_properties"), "cluster_name") {
        Some(Value::Text(name)) => String::from_utf8_lossy(name).into_owned(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_configuration_says_the_type_for_all_virtual_hosts() {
    let broker = BrokerProcess::start_with(&["default_queue_type = stream"]);
    let mut peer = broker.connect();
    peer.open_channel(1);
    peer.call(1, declare("s"), method!(queue.declare_ok));
    let arguments = table([("x-queue-type", "stream".into())]);
    let stream = method!(queue.declare { queue: "s", durable: true, arguments: arguments });
    peer.call(1, stream, method!(queue.declare_ok));
}
