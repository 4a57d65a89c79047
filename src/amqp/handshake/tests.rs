//! Handshakes as conversations: what a peer sends at once, and all that it gets back until its
//! connection is open or gone. The expected answers to the rules that RabbitMQ has not changed were taken
//! from a running one.

mod peer;

use std::collections::HashSet;
use std::time::Duration;

use amq_protocol::protocol::{AMQPClass, channel};
use amq_protocol::types::{AMQPValue, FieldTable, LongString};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use self::peer::*;
use super::*;
use crate::amqp::frame;
use crate::amqp::server_properties::server_properties;

#[tokio::test(start_paused = true)]
async fn a_peer_that_knows_the_password_gets_in() {
    let mut properties = with_capability("connection.blocked");
    let name = AMQPValue::LongString(LongString::from("orders"));
    properties.insert("connection_name".into(), name);
    let start_ok = start_ok("PLAIN", b"\0guest\0guest", properties.clone());
    let bytes = [
        HEADER,
        &start_ok,
        &tune_ok(10, 8192, 7),
        &open("/"),
        b"\x01\x00\x01",
    ];
    let (transcript, outcome) = broker().meet(&bytes.concat()).await;
    assert_eq!(transcript, format!("{TUNED}, open-ok, end after 0 s"));
    let negotiated = outcome.unwrap();
    assert_eq!(&**negotiated.user.name(), "guest");
    assert_eq!(&*negotiated.vhost, "/");
    assert_eq!(negotiated.limits.frame_max_bytes, 8192);
    assert_eq!(negotiated.limits.channel_max, 10);
    assert_eq!(negotiated.limits.heartbeat_seconds, 7);
    assert_eq!(negotiated.name, "127.0.0.1:50000 -> 127.0.0.1:5672");
    assert_eq!(negotiated.client_properties, properties);
    assert_eq!(&negotiated.leftover[..], b"\x01\x00\x01");
    let expected = Capabilities {
        connection_blocked: true,
        ..Capabilities::default()
    };
    assert_eq!(negotiated.capabilities, expected);
}

#[tokio::test(start_paused = true)]
async fn bytes_may_come_one_by_one() {
    let broker = broker();
    let (mut server, mut client) = duplex(1);
    let properties = server_properties(&broker.config);
    let context = HandshakeContext {
        config: &broker.config,
        auth: &broker.auth,
        server_properties: &properties,
        logged_in: &|_, _| (),
        admit: &|_, _| Ok(Admission::default()),
        peer: broker.peer,
        local: broker.peer,
    };
    let bytes = [before_open(), open("/")].concat();
    let serve = async {
        let negotiated = handshake(&mut server, &context).await;
        drop(server);
        negotiated.unwrap()
    };
    let (mut reader, mut writer) = tokio::io::split(&mut client);
    let mut answers = Vec::new();
    let read = reader.read_to_end(&mut answers);
    let (negotiated, written, read) = tokio::join!(serve, writer.write_all(&bytes), read);
    written.unwrap();
    read.unwrap();
    assert!(negotiated.leftover.is_empty());
    assert_eq!(
        negotiated.leftover.capacity(),
        0,
        "an idle connection keeps no buffer"
    );
}

#[tokio::test(start_paused = true)]
async fn other_protocols_are_answered_and_dropped() {
    let own = "header [0, 0, 9, 1], end after 0 s";
    let sasl = "header [3, 1, 0, 0], end after 0 s";
    for (header, expected) in [
        (&b"AMQP\x00\x00\x09\x00"[..], own),
        (b"AMQP\x00\x00\x0a\x00", own),
        (b"AMQP\x03\x01\x00\x00", own),
        (b"AMQP\x01\x01\x08\x00", sasl),
        (b"GET / HTTP/1.1\r\n\r\n", sasl),
        (b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03", sasl),
        (b"abcdefgh", sasl),
    ] {
        broker().check(&[header], expected).await;
    }
}

#[tokio::test(start_paused = true)]
async fn zero_nine_is_taken_for_zero_nine_one() {
    let bytes = [b"AMQP\x01\x01\x00\x09", &login()[..], &tuned(), &open("/")];
    let expected = format!("{TUNED}, open-ok, end after 0 s");
    broker().check(&bytes, &expected).await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_goes_on_waiting_is_dropped() {
    for (bytes, expected) in [
        (vec![], "end after 10 s".to_owned()),
        (b"AMQ".to_vec(), "end after 10 s".into()),
        (HEADER.to_vec(), "start 0.9, end after 10 s".into()),
        (
            [HEADER, &login()].concat(),
            format!("{TUNED}, end after 10 s"),
        ),
        (before_open(), format!("{TUNED}, end after 10 s")),
    ] {
        let (transcript, outcome) = broker().meet(&bytes).await;
        assert_eq!(transcript, expected);
        assert!(matches!(outcome, Err(HandshakeError::Timeout)));
    }
    let config = Config {
        handshake_timeout: Duration::from_millis(1500),
        ..Config::default()
    };
    Broker::new(config).check(&[b"A"], "end after 1 s").await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_leaves_is_told_from_one_that_never_spoke() {
    for (bytes, is_probe) in [(&b""[..], true), (b"AMQP", false), (HEADER, false)] {
        let broker = broker();
        let (mut server, mut client) = duplex(4096);
        client.write_all(bytes).await.unwrap();
        drop(client);
        let properties = FieldTable::default();
        let context = HandshakeContext {
            config: &broker.config,
            auth: &broker.auth,
            server_properties: &properties,
            logged_in: &|_, _| (),
            admit: &|_, _| Ok(Admission::default()),
            peer: broker.peer,
            local: broker.peer,
        };
        let error = handshake(&mut server, &context).await.unwrap_err();
        assert_eq!(matches!(error, HandshakeError::NoData), is_probe, "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_login_is_told_to_those_who_ask_for_it() {
    let capability = || with_capability("authentication_failure_close");
    for response in [&b"\0guest\0wrong"[..], b"\0guest\0", b"\0nobody\0guest"] {
        let told = start_ok("PLAIN", response, capability());
        let expected = format!("start 0.9, {LOGIN_REFUSED}, end after 3 s");
        broker().check(&[HEADER, &told], &expected).await;
        let expected = format!("start 0.9, {LOGIN_REFUSED}, end after 0 s");
        broker()
            .check(&[HEADER, &told, &close_ok()], &expected)
            .await;
        let untold = start_ok("PLAIN", response, FieldTable::default());
        broker()
            .check(&[HEADER, &untold], "start 0.9, end after 3 s")
            .await;
    }
    let (_, outcome) = broker()
        .meet(&[HEADER, &start_ok("PLAIN", b"\0u\0x", capability())].concat())
        .await;
    let reason = outcome.unwrap_err().to_string();
    assert_eq!(
        reason,
        "PLAIN login refused: user 'u' - invalid credentials"
    );
}

#[tokio::test(start_paused = true)]
async fn a_loopback_user_from_elsewhere_is_refused() {
    let properties = with_capability("authentication_failure_close");
    let bytes = [
        HEADER,
        &start_ok("PLAIN", b"\0guest\0guest", properties),
        &close_ok(),
    ];
    for (peer, gets_in) in [
        ("192.0.2.1:50000", false),
        ("[2001:db8::1]:50000", false),
        ("[::ffff:192.0.2.1]:50000", false),
        ("127.0.0.1:50000", true),
        ("127.8.9.1:50000", true),
        ("[::1]:50000", true),
        ("[::ffff:127.0.0.1]:50000", true),
    ] {
        let mut broker = broker();
        broker.peer = peer.parse().unwrap();
        let (transcript, _) = broker.meet(&bytes.concat()).await;
        assert_eq!(transcript.contains("tune"), gets_in, "{peer}: {transcript}");
        assert_eq!(
            transcript.contains(LOGIN_REFUSED),
            !gets_in,
            "{peer}: {transcript}"
        );
    }
    let config = Config {
        loopback_users: HashSet::new(),
        ..Config::default()
    };
    let mut broker = Broker::new(config);
    broker.peer = "192.0.2.1:50000".parse().unwrap();
    let (transcript, _) = broker.meet(&bytes[..2].concat()).await;
    assert!(transcript.contains("tune"), "{transcript}");
}

#[tokio::test(start_paused = true)]
async fn mechanisms_are_those_that_were_offered() {
    let properties = || with_capability("authentication_failure_close");
    let amqplain = b"\x05LOGINS\0\0\0\x05guest\x08PASSWORDS\0\0\0\x05guest";
    let bytes = [
        HEADER,
        &start_ok("AMQPLAIN", amqplain, properties()),
        &tuned(),
        &open("/"),
    ];
    let expected = format!("{TUNED}, open-ok, end after 0 s");
    broker().check(&bytes, &expected).await;

    for start_ok in [
        start_ok("FOO", b"", properties()),
        start_ok("plain", b"\0guest\0guest", properties()),
        start_ok("ANONYMOUS", b"", properties()),
        start_ok("PLAIN", b"guest", properties()),
        start_ok("AMQPLAIN", b"\x05LOGINS\0\0\0\x05guest", properties()),
    ] {
        broker()
            .check(&[HEADER, &start_ok], "start 0.9, end after 3 s")
            .await;
    }

    let config = Config {
        anonymous_login_user: Some("guest".into()),
        ..Config::default()
    };
    let bytes = [
        HEADER,
        &start_ok("ANONYMOUS", b"", properties()),
        &tuned(),
        &open("/"),
    ];
    Broker::new(config).check(&bytes, &expected).await;
}

#[tokio::test(start_paused = true)]
async fn limits_are_accepted_or_lowered() {
    for (channel_max, frame_max, heartbeat) in [
        (2047, 131_072, 60),
        (1, 4096, 0),
        (2047, 4096, u16::MAX),
        (2046, 131_071, 1),
    ] {
        let tune_ok = tune_ok(channel_max, frame_max, heartbeat);
        let bytes = [HEADER, &login(), &tune_ok, &open("/")].concat();
        let (_, outcome) = broker().meet(&bytes).await;
        let negotiated = outcome.unwrap();
        assert_eq!(negotiated.limits.channel_max, channel_max);
        assert_eq!(negotiated.limits.frame_max_bytes, frame_max);
        assert_eq!(negotiated.limits.heartbeat_seconds, heartbeat);
    }
}

#[tokio::test(start_paused = true)]
async fn limits_out_of_bounds_are_refused() {
    for (tune_ok, reason) in [
        (
            tune_ok(2047, 4095, 60),
            "frame_max = 4095 is lower than the minimum allowed value (4096)",
        ),
        (
            tune_ok(2047, 131_073, 60),
            "frame_max = 131073 is higher than the maximum allowed value (131072)",
        ),
        (
            tune_ok(2047, 0, 60),
            "frame_max = 0 is higher than the maximum allowed value (131072)",
        ),
        (
            tune_ok(0, 131_072, 60),
            "channel_max = 0 (no limit) is higher than the maximum allowed value (2047)",
        ),
        (
            tune_ok(2048, 131_072, 60),
            "channel_max = 2048 is higher than the maximum allowed value (2047)",
        ),
    ] {
        let close = format!("close 530 'NOT_ALLOWED - negotiated {reason}' by 10.30");
        let expected = format!("{TUNED}, {close}, end after 0 s");
        broker()
            .check(&[HEADER, &login(), &tune_ok, &close_ok()], &expected)
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_without_limits_takes_what_the_client_wants() {
    let config = Config {
        frame_max_bytes: 0,
        channel_max: 0,
        heartbeat_seconds: 0,
        ..Config::default()
    };
    let message_bytes_max = u32::try_from(config.max_message_size_bytes).unwrap();
    let broker = Broker::new(config);
    for (tune_ok, frame_max_bytes, channel_max) in [
        (tune_ok(0, 0, 0), message_bytes_max + 8, u16::MAX),
        (tune_ok(u16::MAX, 1 << 30, 0), 1 << 30, u16::MAX),
        (tune_ok(5, 4096, 0), 4096, 5),
    ] {
        let (transcript, outcome) = broker
            .meet(&[HEADER, &login(), &tune_ok, &open("/")].concat())
            .await;
        assert_eq!(transcript, "start 0.9, tune 0 0 0, open-ok, end after 0 s");
        let negotiated = outcome.unwrap();
        assert_eq!(negotiated.limits.frame_max_bytes, frame_max_bytes);
        assert_eq!(negotiated.limits.channel_max, channel_max);
    }
}

#[tokio::test(start_paused = true)]
async fn vhosts_are_entered_with_permissions_only() {
    for (vhost, reason) in [
        ("nope", "vhost nope not found"),
        ("", "vhost  not found"),
        (
            "closed",
            "access to vhost 'closed' refused for user 'guest'",
        ),
    ] {
        let close = format!("close 530 'NOT_ALLOWED - {reason}' by 10.40");
        let expected = format!("{TUNED}, {close}, end after 0 s");
        broker()
            .check(&[&before_open(), &open(vhost), &close_ok()], &expected)
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_follows_a_refusal_is_ignored_up_to_close_ok() {
    let close = "close 530 'NOT_ALLOWED - vhost nope not found' by 10.40";
    let expected = format!("{TUNED}, {close}, end after 0 s");
    let heartbeat = frame(frame::HEARTBEAT, 0, b"");
    let bytes = [
        before_open(),
        open("nope"),
        open("/"),
        heartbeat.clone(),
        close_ok(),
    ];
    broker().check(&[&bytes.concat()], &expected).await;

    // A peer that talks on for ever is not listened to for ever.
    let expected = format!("{TUNED}, {close}, end after 3 s");
    let bytes = [before_open(), open("nope"), heartbeat.repeat(1000)];
    broker().check(&[&bytes.concat()], &expected).await;
}

#[tokio::test(start_paused = true)]
async fn methods_out_of_order_are_dropped_before_the_tuning() {
    let starting = "start 0.9, end after 3 s".to_owned();
    let tuning = format!("{TUNED}, end after 3 s");
    for (bytes, expected) in [
        ([HEADER.to_vec(), open("/")], &starting),
        ([HEADER.to_vec(), tuned()], &starting),
        ([HEADER.to_vec(), close()], &starting),
        ([[HEADER, &login()].concat(), login()], &tuning),
        ([[HEADER, &login()].concat(), open("/")], &tuning),
        ([[HEADER, &login()].concat(), close()], &tuning),
    ] {
        broker().check(&[&bytes.concat()], expected).await;
    }
}

#[tokio::test(start_paused = true)]
async fn mistakes_after_the_tuning_are_answered() {
    let unexpected = "CHANNEL_ERROR - unexpected method in connection state opening";
    let mut channel_open = Vec::new();
    let open_method = AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {}));
    frame::put_method(&mut channel_open, 0, &open_method);
    let method = |ids: [u8; 4], arguments: &[u8]| frame(1, 0, &[&ids[..], arguments].concat());
    for (bytes, expected) in [
        (tuned(), format!("close 504 '{unexpected}' by 10.31")),
        (login(), format!("close 504 '{unexpected}' by 10.11")),
        (close(), format!("close 504 '{unexpected}' by 10.50")),
        (channel_open, format!("close 504 '{unexpected}' by 20.10")),
        (
            frame(1, 1, b"\0\x14\0\x0a\0"),
            "close 505 'UNEXPECTED_FRAME - type 1, all octets = <<0,20,0,10,0>>' by 0.0".into(),
        ),
        (
            frame(frame::HEARTBEAT, 0, b"x"),
            "close 501 'FRAME_ERROR - type 8, all octets = <<\"x\">>: unknown_frame' by 0.0".into(),
        ),
        (
            frame(frame::HEARTBEAT, 1, b""),
            "close 505 'UNEXPECTED_FRAME - type 8, all octets = <<>>' by 0.0".into(),
        ),
        (
            frame(frame::HEADER, 0, &[0; 14]),
            "close 505 'UNEXPECTED_FRAME - type 2, all octets = <<0,0,0,0,0,0,0,0,0,0,0,0,0,0>>' by 0.0".into(),
        ),
        (
            frame(frame::BODY, 0, &[b'x'; 20]),
            "close 505 'UNEXPECTED_FRAME - type 3, first 16 octets = <<\"xxxxxxxxxxxxxxxx\">>' by 0.0".into(),
        ),
        (
            frame(9, 0, b"abc"),
            "close 501 'FRAME_ERROR - type 9, all octets = <<\"abc\">>: unknown_frame' by 0.0".into(),
        ),
        (
            frame(1, 0, b"\0"),
            "close 501 'FRAME_ERROR - type 1, all octets = <<0>>: unknown_frame' by 0.0".into(),
        ),
        (
            method([0, 10, 0, 99], b""),
            "close 503 'COMMAND_INVALID - unknown method 10.99' by 10.99".into(),
        ),
        (
            method([0, 99, 0, 10], b""),
            "close 503 'COMMAND_INVALID - unknown method 99.10' by 99.10".into(),
        ),
        (
            method([0, 10, 0, 40], b"\x05a"),
            "close 501 'FRAME_ERROR - cannot decode <<5,97>>' by 10.40".into(),
        ),
        (
            method([0, 10, 0, 40], b"\x01/\0\0junk"),
            "close 501 'FRAME_ERROR - cannot decode <<1,47,0,0,106,117,110,107>>' by 10.40".into(),
        ),
        (
            method([0, 10, 0, 40], b"\x02\xff\xfe\0\0"),
            "close 501 'FRAME_ERROR - Malformed UTF-8 in shortstr' by 10.40".into(),
        ),
    ] {
        let expected = format!("{TUNED}, {expected}, end after 0 s");
        broker().check(&[&before_open(), &bytes, &close_ok()], &expected).await;
    }
}

#[tokio::test(start_paused = true)]
async fn frames_that_cannot_be_told_apart_end_the_conversation() {
    let oversized = |bytes: u32| [&[1, 0, 0][..], &bytes.to_be_bytes()].concat();
    let bad_end = |mut frame: Vec<u8>| {
        *frame.last_mut().unwrap() = 0;
        frame
    };
    let silent = "start 0.9, end after 3 s";
    broker().check(&[HEADER, &bad_end(login())], silent).await;
    broker().check(&[HEADER, &oversized(8193)], silent).await;
    broker()
        .check(&[HEADER, &oversized(8192)], "start 0.9, end after 10 s")
        .await;

    for (bytes, reason) in [
        (
            bad_end(open("/")),
            "type 1, all octets = <<0,10,0,40,1,47,0,0>>: {invalid_frame_end_marker,0}",
        ),
        (
            oversized(1 << 20),
            "type 1, all octets = <<>>: {frame_too_large,1048576,131064}",
        ),
    ] {
        let expected = format!("{TUNED}, close 501 'FRAME_ERROR - {reason}' by 0.0, end after 3 s");
        broker()
            .check(&[&before_open(), &bytes, &close_ok()], &expected)
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn heartbeats_may_come_at_any_time() {
    let heartbeat = frame(frame::HEARTBEAT, 0, b"");
    let frames = [login(), tuned(), open("/")].map(|frame| [&heartbeat[..], &frame].concat());
    let expected = format!("{TUNED}, open-ok, end after 0 s");
    broker().check(&[HEADER, &frames.concat()], &expected).await;
}

#[tokio::test(start_paused = true)]
async fn deeply_nested_client_properties_do_no_harm() {
    let mut value = Vec::new();
    while value.len() < 8000 {
        let size = u32::try_from(value.len()).unwrap().to_be_bytes();
        value = [b"A", &size[..], &value].concat();
    }
    let entries = [&b"\x01a"[..], &value].concat();
    let size = u32::try_from(entries.len()).unwrap().to_be_bytes();
    let rest = b"\x05PLAIN\0\0\0\x0c\0guest\0guest\x05en_US";
    let payload = [&[0, 10, 0, 11][..], &size, &entries, rest].concat();
    broker()
        .check(
            &[HEADER, &frame(1, 0, &payload)],
            "start 0.9, end after 3 s",
        )
        .await;
}

#[test]
fn a_peer_cannot_forge_lines_of_the_log() {
    let forged = Printable("a\nb\u{1b}[0m\u{85}ü").to_string();
    assert_eq!(forged, "a\\nb\\u{1b}[0m\\u{85}ü");
}
