//! Frames that are wrong as frames (semantics of the connection, not of a method).

use crate::check::{expect_get, own_queue, peer, peer_with, send_to};
use crate::support::content::Properties;
use crate::support::peer::{BODY, HEADER, HEARTBEAT, Login, METHOD, Peer, frame, header_payload};

/// The connection ends with this code; class and method are those given, or 0 for "".
#[track_caller]
fn check_frame_error(peer: &mut Peer, cause: &str, code: u16, text_part: &str) {
    let came = peer.expect(0, method!(connection.close { reply_code: code }));
    let text = came.text("reply_text");
    // RabbitMQ breaks the lines of long Erlang terms; spaces are not compared.
    let dense = |text: &str| text.split_whitespace().collect::<String>();
    assert!(dense(&text).contains(&dense(text_part)), "{text}");
    let ids = match cause {
        "" => (0, 0),
        name => {
            let spec = crate::support::spec::by_name(name);
            (u64::from(spec.class_id), u64::from(spec.method_id))
        }
    };
    assert_eq!((came.number("class_id"), came.number("method_id")), ids);
    peer.send(0, method!(connection.close_ok));
    peer.expect_end();
}

#[test]
fn a_wrong_end_octet_is_a_frame_error() {
    let mut peer = peer();
    let mut bytes = frame(METHOD, 1, &method!(channel.close).encode());
    *bytes.last_mut().expect("a frame has bytes") = 0x42;
    peer.send_raw(&bytes);
    check_frame_error(&mut peer, "", 501, "{invalid_frame_end_marker,66}");
}

#[test]
fn a_wrong_end_octet_behind_a_large_body_is_a_frame_error() {
    let mut peer = peer();
    peer.send(1, method!(basic.publish { routing_key: "nowhere" }));
    peer.send_header(1, 100_000, &Properties::default());
    let mut bytes = frame(BODY, 1, &[b'a'; 100_000]);
    *bytes.last_mut().expect("a frame has bytes") = 0x42;
    let (most, end) = bytes.split_at(50_000);
    peer.send_raw(most);
    std::thread::sleep(std::time::Duration::from_millis(5));
    peer.send_raw(end);
    check_frame_error(&mut peer, "", 501, "{invalid_frame_end_marker,66}");
}

#[test]
fn the_text_of_a_frame_error_shows_the_octets() {
    let mut peer = peer();
    let mut bytes = frame(METHOD, 1, &[0, 20, 0, 41]);
    *bytes.last_mut().expect("a frame has bytes") = 0;
    peer.send_raw(&bytes);
    check_frame_error(&mut peer, "", 501, "type 1, all octets = <<0,20,0,41>>: ");
}

#[test]
fn a_frame_beyond_the_negotiated_limit_is_a_frame_error() {
    let mut peer = peer_with(&Login {
        frame_max: 4096,
        ..Login::default()
    });
    peer.open_channel(1);
    peer.send_raw(&frame(METHOD, 1, &vec![0; 4097]));
    // RabbitMQ lets eight more bytes pass than it says.
    check_frame_error(&mut peer, "", 501, "{frame_too_large,4097,4088}");
}

#[test]
fn a_frame_of_exactly_the_limit_is_accepted() {
    let mut peer = peer_with(&Login {
        frame_max: 4096,
        ..Login::default()
    });
    peer.open_channel(1);
    let queue = own_queue(&mut peer);
    peer.publish(
        1,
        method!(basic.publish { routing_key: &queue }),
        &vec![b'a'; 4088],
    );
    peer.send(1, method!(basic.get { queue: &queue }));
    assert_eq!(
        peer.expect_message(1, method!(basic.get_ok)).body.len(),
        4088
    );
}

#[test]
fn a_huge_frame_is_refused_from_its_header_alone() {
    let mut peer = peer();
    peer.send_raw(&[METHOD, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF]);
    check_frame_error(&mut peer, "", 501, "{frame_too_large,4294967295,131064}");
}

#[test]
fn an_unknown_frame_type_is_a_frame_error() {
    let mut peer = peer();
    peer.send_frame(7, 1, b"?");
    check_frame_error(
        &mut peer,
        "",
        501,
        "type 7, all octets = <<\"?\">>: unknown_frame",
    );
}

#[test]
fn content_on_channel_zero_is_unexpected() {
    let mut peer = peer();
    peer.send_frame(HEADER, 0, &header_payload(60, 0, 0, &Properties::default()));
    let text = "type 2, all octets = ";
    check_frame_error(&mut peer, "", 505, text);
}

#[test]
fn a_heartbeat_on_a_channel_is_unexpected() {
    let mut peer = peer();
    peer.send_frame(HEARTBEAT, 1, b"");
    check_frame_error(&mut peer, "", 505, "type 8");
}

#[test]
fn a_heartbeat_with_a_payload_is_a_frame_error() {
    let mut peer = peer();
    peer.send_frame(HEARTBEAT, 0, b"beat");
    check_frame_error(&mut peer, "", 501, "type 8, all octets = <<\"beat\">>: ");
}

#[test]
fn a_header_without_a_publish_is_unexpected() {
    let mut peer = peer();
    peer.send_header(1, 0, &Properties::default());
    check_frame_error(
        &mut peer,
        "",
        505,
        "expected method frame, got non method frame instead",
    );
}

#[test]
fn a_body_without_a_publish_is_unexpected() {
    let mut peer = peer();
    peer.send_frame(BODY, 1, b"body");
    check_frame_error(
        &mut peer,
        "",
        505,
        "expected method frame, got non method frame instead",
    );
}

#[test]
fn content_on_a_channel_that_is_not_open_is_unexpected() {
    let text = "expected method frame, got non method frame instead";
    for kind in [HEADER, BODY] {
        let mut peer = peer();
        let payload = header_payload(60, 0, 0, &Properties::default());
        peer.send_frame(kind, 9, &payload);
        check_frame_error(&mut peer, "", 505, text);
    }
}

#[test]
fn frames_that_are_cut_short_are_frame_errors() {
    let cases: [(u8, u16, &[u8], &str); 4] = [
        (METHOD, 1, &[0, 60, 0], "<<0,60,0>>"),
        (METHOD, 9, &[], "<<>>"),
        (
            HEADER,
            1,
            &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            "<<0,60,0,0,0,0,0,0,0,0,1>>",
        ),
        (HEADER, 9, &[], "<<>>"),
    ];
    for (kind, channel, payload, octets) in cases {
        let mut peer = peer();
        if kind == HEADER && channel == 1 {
            peer.send(1, method!(basic.publish { routing_key: "nowhere" }));
        }
        peer.send_frame(kind, channel, payload);
        let text = format!("type {kind}, all octets = {octets}: unknown_frame");
        check_frame_error(&mut peer, "", 501, &text);
    }
}

#[test]
fn a_method_in_place_of_a_header_is_unexpected() {
    let mut peer = peer();
    peer.send(1, method!(basic.publish));
    peer.send(1, method!(basic.qos));
    let text = "expected content header for class 60, got non content header frame instead";
    check_frame_error(&mut peer, "basic.publish", 505, text);
}

#[test]
fn a_body_in_place_of_a_header_is_unexpected() {
    let mut peer = peer();
    peer.send(1, method!(basic.publish));
    peer.send_frame(BODY, 1, b"body");
    let text = "expected content header for class 60, got non content header frame instead";
    check_frame_error(&mut peer, "basic.publish", 505, text);
}

#[test]
fn a_header_of_another_class_is_unexpected() {
    let mut peer = peer();
    peer.send(1, method!(basic.publish));
    peer.send_frame(HEADER, 1, &header_payload(50, 0, 0, &Properties::default()));
    let text = "expected content header for class 60, got one for class 50 instead";
    check_frame_error(&mut peer, "basic.publish", 505, text);
}

#[test]
fn a_method_in_place_of_a_body_is_unexpected() {
    let mut peer = peer();
    peer.send(1, method!(basic.publish));
    peer.send_header(1, 10, &Properties::default());
    peer.send(1, method!(basic.qos));
    let text = "expected content body, got non content body frame instead";
    check_frame_error(&mut peer, "basic.publish", 505, text);
}

#[test]
fn a_body_longer_than_announced_is_a_frame_error() {
    if crate::support::broker::is_foreign() {
        return; // 3.10 waits for more.
    }
    let mut peer = peer();
    peer.send(1, method!(basic.publish));
    peer.send_header(1, 3, &Properties::default());
    peer.send_frame(BODY, 1, b"four");
    check_frame_error(
        &mut peer,
        "basic.publish",
        501,
        "content body frame exceeds remaining content size",
    );
}

#[test]
fn frames_that_come_byte_by_byte_are_put_together() {
    let mut peer = peer();
    for byte in frame(
        METHOD,
        1,
        &method!(basic.qos { prefetch_count: 3 }).encode(),
    ) {
        peer.send_raw(&[byte]);
    }
    peer.expect(1, method!(basic.qos_ok));
}

#[test]
fn many_frames_in_one_segment_are_taken_apart() {
    let mut peer = peer();
    let mut bytes = Vec::new();
    for channel in 2..200 {
        bytes.extend(frame(METHOD, channel, &method!(channel.open).encode()));
    }
    peer.send_raw(&bytes);
    for channel in 2..200 {
        peer.expect(channel, method!(channel.open_ok));
    }
}

#[test]
fn frames_of_other_channels_may_come_between_those_of_a_message() {
    let mut peer = peer();
    peer.open_channel(2);
    let queue = own_queue(&mut peer);
    peer.send(1, method!(basic.publish { routing_key: &queue }));
    peer.send(2, method!(basic.publish { routing_key: &queue }));
    peer.send_header(2, 3, &Properties::default());
    peer.send_header(1, 3, &Properties::default());
    peer.send_frame(BODY, 1, b"o");
    peer.send_frame(BODY, 2, b"two");
    peer.call(2, method!(basic.qos), method!(basic.qos_ok));
    peer.send_frame(HEARTBEAT, 0, b"");
    peer.send_frame(BODY, 1, b"ne");
    peer.expect_silence(1);
    expect_get(&mut peer, &queue, "two");
    expect_get(&mut peer, &queue, "one");
}

#[test]
fn heartbeats_are_taken_at_any_time() {
    let mut peer = peer();
    peer.send_frame(HEARTBEAT, 0, b"");
    let queue = own_queue(&mut peer);
    peer.send_frame(HEARTBEAT, 0, b"");
    send_to(&mut peer, &queue, "after a heartbeat");
    expect_get(&mut peer, &queue, "after a heartbeat");
}
