//! From the first byte to connection.open-ok, and connection.close.

use crate::check::{expect_delivery, own_queue, peer, peer_with, send_to};
use crate::support::broker::{self, BrokerProcess};
use crate::support::method::Method;
use crate::support::peer::{Login, PROTOCOL_HEADER, Peer};
use crate::support::wire::{Table, Value, field, put_longstr, put_shortstr, table};

fn dial() -> Peer {
    Peer::dial(broker::shared()).expect("the broker listens")
}

/// Goes on to where connection.start-ok is due.
fn greeted() -> (Peer, Method) {
    let mut peer = dial();
    peer.send_raw(PROTOCOL_HEADER);
    let start = peer.expect(0, method!(connection.start));
    (peer, start)
}

fn start_ok(login: &Login, mechanism: &str, response: &[u8]) -> Method {
    method!(connection.start_ok {
        client_properties: login.client_properties(),
        mechanism: mechanism,
        response: response,
        locale: "en_US",
    })
}

/// Goes on to where connection.tune-ok is due.
fn authenticated() -> (Peer, Method) {
    let (mut peer, _) = greeted();
    let login = Login::default();
    peer.send(0, start_ok(&login, "PLAIN", &login.plain_response()));
    let tune = peer.expect(0, method!(connection.tune));
    (peer, tune)
}

#[track_caller]
fn check_tune_refused(channel_max: u16, frame_max: u32, text: &str) {
    let (mut peer, _) = authenticated();
    peer.send(
        0,
        method!(connection.tune_ok { channel_max: channel_max, frame_max: frame_max }),
    );
    if broker::is_foreign() {
        peer.expect_end(); // 3.10 says it to its log only.
        return;
    }
    peer.expect_connection_close("connection.tune", 530, text);
}

#[track_caller]
fn check_header_refused(header: &[u8]) {
    let mut peer = dial();
    peer.send_raw(header);
    let answer = peer.read_exact(8).expect("a protocol header");
    assert_eq!(&answer[..4], b"AMQP");
    peer.expect_end();
}

#[test]
fn a_newer_amqp_0_header_is_answered_with_the_one_that_is_spoken() {
    let mut peer = dial();
    peer.send_raw(b"AMQP\x00\x00\x0A\x00");
    assert_eq!(
        peer.read_exact(8).expect("a protocol header"),
        PROTOCOL_HEADER
    );
    peer.expect_end();
}

#[test]
fn the_header_of_amqp_0_10_is_refused() {
    check_header_refused(b"AMQP\x01\x01\x00\x0A");
}

#[test]
fn garbage_instead_of_a_header_is_refused() {
    check_header_refused(b"\x00\x01\x02\x03\x04\x05\x06\x07");
}

#[test]
fn an_http_request_is_refused() {
    check_header_refused(b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n");
}

#[test]
fn a_tls_client_hello_is_refused() {
    check_header_refused(b"\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03");
}

#[test]
fn the_header_of_amqp_0_9_is_accepted() {
    let mut peer = dial();
    peer.send_raw(b"AMQP\x01\x01\x00\x09");
    peer.expect(
        0,
        method!(connection.start { version_major: 0, version_minor: 9 }),
    );
}

#[test]
fn a_header_that_comes_byte_by_byte_is_accepted() {
    let mut peer = dial();
    for byte in PROTOCOL_HEADER {
        peer.send_raw(&[*byte]);
    }
    peer.expect(0, method!(connection.start));
}

#[test]
fn start_names_the_version_the_mechanisms_and_the_locale() {
    let (_peer, start) = greeted();
    assert_eq!(
        (start.number("version_major"), start.number("version_minor")),
        (0, 9)
    );
    let mechanisms = start.text("mechanisms");
    let mechanisms: Vec<&str> = mechanisms.split(' ').collect();
    assert!(mechanisms.contains(&"PLAIN"), "{mechanisms:?}");
    assert!(mechanisms.contains(&"AMQPLAIN"), "{mechanisms:?}");
    assert_eq!(start.text("locales"), "en_US");
}

#[test]
fn start_announces_the_server_and_its_nine_capabilities() {
    let (_peer, start) = greeted();
    let server = start.table("server_properties");
    for key in [
        "product",
        "version",
        "platform",
        "copyright",
        "information",
        "cluster_name",
    ] {
        assert!(
            matches!(field(server, key), Some(Value::Text(_))),
            "{key} in {server:?}"
        );
    }
    let Some(Value::Table(capabilities)) = field(server, "capabilities") else {
        panic!("no capabilities in {server:?}");
    };
    for name in [
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "consumer_priorities",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    ] {
        assert_eq!(
            field(capabilities, name),
            Some(&Value::Bool(true)),
            "{name}"
        );
    }
    assert_eq!(capabilities.len(), 9);
}

#[test]
fn tune_proposes_the_defaults_of_rabbitmq() {
    let (_peer, tune) = authenticated();
    assert_eq!(tune.number("channel_max"), 2047);
    assert_eq!(tune.number("frame_max"), 131_072);
    assert_eq!(tune.number("heartbeat"), 60);
}

#[test]
fn amqplain_logs_in() {
    let (mut peer, _) = greeted();
    let mut response = Vec::new();
    for (key, value) in [("LOGIN", "guest"), ("PASSWORD", "guest")] {
        put_shortstr(&mut response, key.as_bytes());
        response.push(b'S');
        put_longstr(&mut response, value.as_bytes());
    }
    peer.send(0, start_ok(&Login::default(), "AMQPLAIN", &response));
    peer.expect(0, method!(connection.tune));
}

#[test]
fn a_wrong_password_is_told_to_a_client_that_can_hear_it() {
    let (mut peer, _) = greeted();
    peer.send(0, start_ok(&Login::default(), "PLAIN", b"\0guest\0wrong"));
    let text = "Login was refused using authentication mechanism PLAIN. \
                For details see the broker logfile.";
    peer.expect_connection_close("", 403, text);
}

#[test]
fn an_unknown_user_gets_the_same_answer_as_a_wrong_password() {
    let (mut peer, _) = greeted();
    peer.send(0, start_ok(&Login::default(), "PLAIN", b"\0nobody\0guest"));
    let text = "Login was refused using authentication mechanism PLAIN. \
                For details see the broker logfile.";
    peer.expect_connection_close("", 403, text);
}

#[test]
fn a_wrong_password_is_a_silent_end_for_other_clients() {
    let (mut peer, _) = greeted();
    let login = Login {
        capabilities: vec![],
        ..Login::default()
    };
    peer.send(0, start_ok(&login, "PLAIN", b"\0guest\0wrong"));
    peer.expect_end();
}

#[test]
fn an_unknown_mechanism_ends_the_connection() {
    let (mut peer, _) = greeted();
    peer.send(0, start_ok(&Login::default(), "TELEPATHY", b""));
    peer.expect_end();
}

#[test]
fn a_malformed_plain_response_does_not_log_in() {
    let (mut peer, _) = greeted();
    peer.send(0, start_ok(&Login::default(), "PLAIN", b"guest"));
    peer.expect_refusal(&[403, 501, 502]);
}

#[test]
fn a_missing_virtual_host_is_refused() {
    let login = Login {
        virtual_host: "no such".to_owned(),
        ..Login::default()
    };
    let error = Peer::try_connect(broker::shared(), &login)
        .err()
        .expect("no such vhost");
    let text = error.to_string();
    assert!(text.contains("reply_code: 530"), "{text}");
    assert!(
        text.contains("NOT_ALLOWED - vhost no such not found"),
        "{text}"
    );
    assert!(text.contains("class_id: 10 method_id: 40"), "{text}");
}

#[test]
fn a_frame_max_above_the_servers_is_refused() {
    check_tune_refused(
        0,
        131_073,
        "negotiated frame_max = 131073 is higher than the maximum allowed value (131072)",
    );
}

#[test]
fn no_limit_on_frames_is_refused_while_the_server_has_one() {
    check_tune_refused(
        0,
        0,
        "negotiated frame_max = 0 is higher than the maximum allowed value (131072)",
    );
}

#[test]
fn a_frame_max_below_the_minimum_is_refused() {
    check_tune_refused(
        0,
        4095,
        "negotiated frame_max = 4095 is lower than the minimum allowed value (4096)",
    );
}

#[test]
fn the_smallest_frame_max_of_the_specification_is_accepted() {
    let mut peer = peer_with(&Login {
        frame_max: 4096,
        ..Login::default()
    });
    peer.open_channel(1);
    let queue = own_queue(&mut peer);
    let body = vec![b'x'; 10_000];
    peer.publish(1, method!(basic.publish { routing_key: &queue }), &body);
    peer.send(1, method!(basic.get { queue: &queue }));
    peer.expect(1, method!(basic.get_ok));
    peer.recv();
    assert_eq!(
        peer.recv().payload.len(),
        4088,
        "a frame is header, payload and end octet"
    );
}

#[test]
fn a_channel_max_above_the_servers_is_refused() {
    check_tune_refused(
        2048,
        131_072,
        "negotiated channel_max = 2048 is higher than the maximum allowed value (2047)",
    );
}

#[test]
fn a_method_before_its_time_is_an_error_of_the_connection() {
    let (mut peer, _) = greeted();
    peer.send(0, method!(connection.open { virtual_host: "/" }));
    peer.expect_refusal(&[504]);
}

#[test]
fn a_second_connection_open_is_an_error_of_the_connection() {
    let mut peer = peer();
    peer.send(0, method!(connection.open { virtual_host: "/" }));
    let came = peer.expect(0, method!(connection.close { reply_code: 504 }));
    let text = came.text("reply_text");
    assert!(
        text.contains("unexpected method in connection state running"),
        "{text}"
    );
    assert_eq!(
        (came.number("class_id"), came.number("method_id")),
        (10, 40)
    );
}

#[test]
fn a_channel_cannot_be_opened_before_the_connection() {
    let (mut peer, _) = authenticated();
    peer.send(1, method!(channel.open));
    peer.expect_refusal(&[504]);
}

#[test]
fn close_is_answered() {
    peer().close();
}

#[test]
fn close_is_answered_after_everything_that_was_asked_before() {
    let mut peer = peer();
    peer.send(1, method!(queue.declare { exclusive: true }));
    peer.send(0, method!(connection.close { reply_code: 200 }));
    peer.expect(1, method!(queue.declare_ok));
    peer.expect(0, method!(connection.close_ok));
}

/// Passwords do not expire, so the secret is not looked at: RabbitMQ's internal backend takes any.
#[test]
fn update_secret_takes_any_secret_and_disturbs_nothing() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    let consume = method!(basic.consume { queue: &queue, no_ack: true });
    peer.call(1, consume, method!(basic.consume_ok));
    for secret in ["guest", "another", ""] {
        let update = method!(connection.update_secret { new_secret: secret, reason: "renewal" });
        peer.call(0, update, method!(connection.update_secret_ok));
        send_to(&mut peer, &queue, secret);
        expect_delivery(&mut peer, secret);
    }
    peer.expect_silence(1);
}

#[test]
fn large_client_properties_fit_before_tune() {
    if broker::is_foreign() {
        return; // 3.10 takes 4096 bytes before tune, 4.3 takes 8192.
    }
    let (mut peer, _) = greeted();
    let login = Login::default();
    let mut properties = login.client_properties();
    properties.push(("information".to_owned(), "x".repeat(6000).as_str().into()));
    let response = login.plain_response();
    peer.send(
        0,
        start_ok(&login, "PLAIN", &response).with_replaced("client_properties", properties),
    );
    peer.expect(0, method!(connection.tune));
}

#[test]
fn every_field_type_is_read_in_client_properties() {
    let (mut peer, _) = greeted();
    let login = Login::default();
    let response = login.plain_response();
    let properties = every_type();
    peer.send(
        0,
        start_ok(&login, "PLAIN", &response).with_replaced("client_properties", properties),
    );
    peer.expect(0, method!(connection.tune));
}

pub(crate) fn every_type() -> Table {
    table([
        ("bool", Value::Bool(true)),
        ("i8", Value::I8(-8)),
        ("u8", Value::U8(200)),
        ("i16", Value::I16(-16)),
        ("u16", Value::U16(60_000)),
        ("i32", Value::I32(-32)),
        ("u32", Value::U32(4_000_000_000)),
        ("i64", Value::I64(-64)),
        ("f32", Value::F32(1.5)),
        ("f64", Value::F64(-2.25)),
        ("decimal", Value::Decimal(2, 12_345)),
        ("text", "text".into()),
        ("bytes", Value::Bytes(vec![0, 255, 1])),
        (
            "array",
            Value::Array(vec![1.into(), "two".into(), Value::Void]),
        ),
        ("timestamp", Value::Timestamp(1_700_000_000)),
        (
            "table",
            Value::Table(table([("z", 1.into()), ("a", 2.into())])),
        ),
        ("void", Value::Void),
    ])
}

#[test]
fn whoever_never_finishes_the_handshake_is_dropped() {
    if broker::is_foreign() {
        return;
    }
    let broker = BrokerProcess::start_with(&["handshake_timeout = 300"]);
    let mut silent = Peer::dial(broker.address()).expect("the broker listens");
    silent.expect_end();
    let mut half = Peer::dial(broker.address()).expect("the broker listens");
    half.send_raw(PROTOCOL_HEADER);
    half.expect(0, method!(connection.start));
    half.expect_end();
    broker.connect().close();
}

#[test]
fn locales_other_than_the_offered_do_not_matter() {
    let (mut peer, _) = greeted();
    let login = Login::default();
    let response = login.plain_response();
    peer.send(
        0,
        start_ok(&login, "PLAIN", &response).with_replaced("locale", "de_DE"),
    );
    peer.expect(0, method!(connection.tune));
}
