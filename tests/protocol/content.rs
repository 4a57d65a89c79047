//! What is carried: properties, headers, bodies of every shape.

use crate::check::{expect_get, own_queue, peer, since_4};
use crate::handshake::every_type;
use crate::support::content::Properties;
use crate::support::peer::{BODY, HEADER, METHOD, Peer, frame, header_payload};
use crate::support::wire::{Value, table};

/// A message comes out as it went in.
#[track_caller]
fn check_carried(properties: &Properties, body: &[u8]) {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    peer.publish_with(
        1,
        method!(basic.publish { routing_key: &queue }),
        properties,
        body,
    );
    peer.send(1, method!(basic.get { queue: &queue }));
    let message = peer.expect_message(1, method!(basic.get_ok));
    assert_eq!(message.properties, *properties);
    assert!(
        message.body == body,
        "the body of {} bytes differs",
        body.len()
    );
}

#[test]
fn a_message_without_properties_or_body_is_carried() {
    check_carried(&Properties::default(), b"");
}

#[test]
fn every_property_is_carried() {
    let text = |text: &str| Some(text.to_owned());
    let properties = Properties {
        content_type: text("text/plain"),
        content_encoding: text("gzip"),
        headers: Some(table([("h", 1.into())])),
        delivery_mode: Some(2),
        priority: Some(9),
        correlation_id: text("correlation"),
        reply_to: text("reply"),
        expiration: text("60000"),
        message_id: text("id"),
        timestamp: Some(1_700_000_000),
        kind: text("type"),
        user_id: text("guest"),
        app_id: text("app"),
        cluster_id: text("cluster"),
    };
    check_carried(&properties, b"all of them");
}

#[test]
fn headers_keep_their_types_and_their_order() {
    check_carried(
        &Properties {
            headers: Some(every_type()),
            ..Properties::default()
        },
        b"typed",
    );
}

#[test]
fn nested_headers_are_carried() {
    let mut value = Value::Void;
    for depth in 0..20 {
        value = match depth % 2 {
            0 => Value::Array(vec![value, 1.into()]),
            _ => Value::Table(table([("inner", value)])),
        };
    }
    let headers = table([("outer", value)]);
    check_carried(
        &Properties {
            headers: Some(headers),
            ..Properties::default()
        },
        b"deep",
    );
}

#[test]
fn an_empty_header_table_is_not_an_absent_one() {
    check_carried(
        &Properties {
            headers: Some(vec![]),
            ..Properties::default()
        },
        b"",
    );
}

#[test]
fn bodies_of_awkward_lengths_are_carried() {
    for length in [
        1, 255, 4095, 16_383, 16_384, 131_063, 131_064, 131_065, 262_128, 1_000_003,
    ] {
        let body: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
        check_carried(&Properties::persistent(), &body);
    }
}

/// What publishes `body` to `queue` in frames of at most `frame_bytes`, as it goes over the wire.
fn published(queue: &str, body: &[u8], frame_bytes: usize) -> Vec<u8> {
    let publish = method!(basic.publish { routing_key: queue });
    let header = header_payload(60, 0, body.len() as u64, &Properties::default());
    let mut bytes = frame(METHOD, 1, &publish.encode());
    bytes.extend(frame(HEADER, 1, &header));
    for part in body.chunks(frame_bytes) {
        bytes.extend(frame(BODY, 1, part));
    }
    bytes
}

#[test]
fn large_bodies_may_arrive_in_any_pieces() {
    let large: Vec<u8> = (0..100_000).map(|index| (index % 251) as u8).collect();
    for frame_bytes in [100_000, 40_000, 16_384] {
        let whole = published("", &large, frame_bytes).len();
        for piece in [1_000, 16_385, whole - 1, whole, whole + 1] {
            let mut peer = peer();
            let queue = own_queue(&mut peer);
            let mut bytes = Vec::new();
            for body in [&large[..], &large[1..], b"small"] {
                bytes.extend(published(&queue, body, frame_bytes));
            }
            for part in bytes.chunks(piece) {
                peer.send_raw(part);
                // So that pieces are mostly read as they were written.
                std::thread::sleep(std::time::Duration::from_micros(300));
            }
            for body in [&large[..], &large[1..], b"small"] {
                peer.send(1, method!(basic.get { queue: &queue, no_ack: true }));
                let got = peer.expect_message(1, method!(basic.get_ok));
                assert!(got.body == body, "{} bytes in {piece}", body.len());
            }
        }
    }
}

#[test]
fn an_empty_body_has_no_frame() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    peer.send(1, method!(basic.publish { routing_key: &queue }));
    peer.send_header(1, 0, &Properties::default());
    // The message is complete: a method may follow at once.
    peer.send(1, method!(basic.get { queue: &queue }));
    peer.expect(1, method!(basic.get_ok));
    assert_eq!(peer.recv().kind, HEADER);
    peer.expect_silence(1);
}

#[test]
fn a_body_may_be_cut_anywhere_and_into_empty_frames() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    peer.send(1, method!(basic.publish { routing_key: &queue }));
    peer.send_header(1, 5, &Properties::default());
    for part in ["", "h", "", "el", "lo"] {
        peer.send_frame(BODY, 1, part.as_bytes());
    }
    expect_get(&mut peer, &queue, "hello");
}

/// A header frame that announces `size` closes the channel or the connection.
fn announced(size: u64) -> Peer {
    let mut peer = peer();
    peer.send(1, method!(basic.publish { routing_key: "nowhere" }));
    peer.send_header(1, size, &Properties::default());
    peer
}

#[test]
fn a_message_beyond_the_configured_size_closes_the_channel() {
    let limit = since_4(16_777_216_u64, 134_217_728);
    let size = limit + 1;
    let mut peer = announced(size);
    let text = format!("message size {size} is larger than configured max size {limit}");
    if !crate::support::broker::is_foreign() {
        peer.expect_channel_close(1, "basic.publish", 406, &text);
        return;
    }
    for _ in 0..size / 131_064 {
        peer.send_frame(BODY, 1, &[0; 131_064]);
    }
    peer.send_frame(
        BODY,
        1,
        &vec![0; usize::try_from(size % 131_064).expect("small")],
    );
    peer.expect_channel_close(1, "basic.publish", 406, &text);
}

#[test]
fn a_message_beyond_any_size_is_refused_from_its_header() {
    if crate::support::broker::is_foreign() {
        return; // 3.10 waits for the body.
    }
    let mut peer = announced((1 << 29) + 1);
    let close = crate::support::peer::decode(&peer.recv()).expect("a method");
    assert!(close.name().ends_with(".close"), "{close:?}");
}

#[test]
fn the_weight_of_a_header_has_to_be_zero() {
    let mut peer = peer();
    peer.send(1, method!(basic.publish { routing_key: "nowhere" }));
    peer.send_frame(HEADER, 1, &header_payload(60, 1, 0, &Properties::default()));
    let close = peer.expect(0, method!(connection.close));
    assert!(
        [501, 502, 505].contains(&close.number("reply_code")),
        "{close:?}"
    );
}

#[test]
fn a_header_whose_properties_end_too_early_is_an_error_of_the_connection() {
    let mut peer = peer();
    peer.send(1, method!(basic.publish { routing_key: "nowhere" }));
    let mut payload = header_payload(60, 0, 0, &Properties::default());
    let flags = payload.len() - 2;
    payload[flags] = 0x80;
    peer.send_frame(HEADER, 1, &payload);
    let came = peer.try_recv();
    let closed = came.is_ok_and(|frame| {
        crate::support::peer::decode(&frame).is_some_and(|m| m.name() == "connection.close")
    });
    assert!(closed || crate::support::broker::is_foreign());
}
