//! Bytes that no client should send: each gets its answer, and nobody else is disturbed.

use std::io::Write;
use std::net::TcpStream;

use crate::check::{expect_get, own_queue, peer, send_to};
use crate::support::broker::{self, BrokerProcess};
use crate::support::content::Properties;
use crate::support::peer::{METHOD, PROTOCOL_HEADER, Peer, decode, frame, is_end};
use crate::support::random::Random;

/// The payload of a method frame ends the connection, with one of these codes where the broker
/// says why. RabbitMQ's reader crashes on some of them and drops the socket.
#[track_caller]
fn check_payload(payload: &[u8], codes: &[u64]) {
    let mut witness = peer();
    let mut peer = peer();
    peer.send_frame(METHOD, 1, payload);
    match peer.try_recv() {
        Ok(frame) => {
            let close = decode(&frame).expect("a method");
            assert_eq!(close.name(), "connection.close");
            assert!(codes.contains(&close.number("reply_code")), "{close:?}");
            peer.send(0, method!(connection.close_ok));
            peer.expect_end();
        }
        Err(error) => assert!(is_end(&error) && broker::is_foreign(), "{error}"),
    }
    witness.expect_silence(1);
}

#[test]
fn an_unknown_class_is_refused() {
    check_payload(&[0, 77, 0, 10], &[503, 540]);
}

#[test]
fn an_unknown_method_is_refused() {
    check_payload(&[0, 60, 0, 99], &[503, 540]);
}

#[test]
fn a_method_without_its_ids_is_refused() {
    check_payload(&[0, 60, 0], &[501, 502]);
    check_payload(&[], &[501, 502]);
}

#[test]
fn a_method_that_ends_too_early_is_refused() {
    let whole = method!(queue.declare { queue: "whole" }).encode();
    for length in 4..whole.len() {
        check_payload(&whole[..length], &[501, 502]);
    }
}

#[test]
fn a_short_string_longer_than_its_frame_is_refused() {
    check_payload(&[0, 20, 0, 10, 200, b'x'], &[501, 502]);
}

#[test]
fn malformed_tables_are_refused() {
    let declare = |table: &[u8]| {
        let mut payload = method!(queue.declare { queue: "table", exclusive: true }).encode();
        payload.truncate(payload.len() - 4);
        payload.extend(u32::try_from(table.len()).expect("short").to_be_bytes());
        payload.extend_from_slice(table);
        payload
    };
    check_payload(&declare(b"\x01k?"), &[501, 502]); // an unknown type letter
    check_payload(&declare(b"\x01kI\x00\x00"), &[501, 502]); // a number that ends too early
    check_payload(&declare(b"\x09k"), &[501, 502]); // a key that ends too early
    check_payload(&declare(b"\x01kS\xFF\xFF\xFF\xFFx"), &[501, 502]); // a string beyond the table
    check_payload(&declare(b"\x01kA\x00\x00\x00\x02I\x00"), &[501, 502]); // a short array
    check_payload(&declare(b"\x01kF\x00\x00\x00\x09x"), &[501, 502]); // a table beyond its table
}

#[test]
fn tables_nested_beyond_reason_are_refused_or_carried() {
    // Deeper than any recursion on a small stack survives, within one frame.
    let mut value = vec![b'V'];
    for _ in 0..20_000 {
        let mut outer = vec![b'A'];
        outer.extend(u32::try_from(value.len()).expect("short").to_be_bytes());
        outer.append(&mut value);
        value = outer;
        if value.len() > 100_000 {
            break;
        }
    }
    let mut table = b"\x01k".to_vec();
    table.append(&mut value);
    let mut payload = method!(queue.declare { queue: "deep", exclusive: true }).encode();
    payload.truncate(payload.len() - 4);
    payload.extend(u32::try_from(table.len()).expect("short").to_be_bytes());
    payload.append(&mut table);
    let mut witness = peer();
    let mut peer = peer();
    peer.send_frame(METHOD, 1, &payload);
    let answer = decode(&peer.recv()).expect("a method");
    assert!(
        ["connection.close", "queue.declare_ok"].contains(&answer.name()),
        "{answer:?}"
    );
    witness.expect_silence(1);
}

#[test]
fn a_name_that_is_no_utf_8_is_refused() {
    let name: &[u8] = b"bad\xFF\xFE";
    let mut peer = peer();
    peer.send(1, method!(queue.declare { queue: name, exclusive: true }));
    let answer = decode(&peer.recv()).expect("a method");
    if broker::is_foreign() {
        return; // 3.10 does not look at names of queues.
    }
    assert_eq!(answer.name(), "connection.close");
    assert!(
        [501, 502].contains(&answer.number("reply_code")),
        "{answer:?}"
    );
}

#[test]
fn a_client_that_vanishes_inside_a_frame_disturbs_nobody() {
    let mut witness = peer();
    let queue = own_queue(&mut witness);
    let mut bytes = frame(
        METHOD,
        1,
        &method!(basic.publish { routing_key: &queue }).encode(),
    );
    bytes.extend(frame(
        2,
        1,
        &crate::support::peer::header_payload(60, 0, 10, &Properties::default()),
    ));
    bytes.extend(frame(3, 1, b"half "));
    for length in 0..bytes.len() {
        let mut peer = peer();
        peer.send_raw(&bytes[..length]);
        peer.vanish();
    }
    send_to(&mut witness, &queue, "whole");
    expect_get(&mut witness, &queue, "whole");
}

#[test]
fn random_bytes_after_the_handshake_end_the_connection_and_nothing_else() {
    let seed = Random::seed_from("LEVERET_TEST_SEED");
    eprintln!("LEVERET_TEST_SEED={seed}");
    let mut random = Random::new(seed);
    let mut witness = peer();
    for _ in 0..50 {
        let mut peer = peer();
        let bytes: Vec<u8> = (0..random.between(8, 400))
            .map(|_| random.next() as u8)
            .collect();
        drop(peer.try_send_raw(&bytes));
        peer.vanish();
    }
    witness.expect_silence(1);
}

#[test]
fn changed_bytes_in_good_frames_never_disturb_another_connection() {
    let seed = Random::seed_from("LEVERET_TEST_SEED");
    eprintln!("LEVERET_TEST_SEED={seed}");
    let mut random = Random::new(seed);
    let mut witness = peer();
    let mut good = frame(
        METHOD,
        1,
        &method!(queue.declare { exclusive: true }).encode(),
    );
    good.extend(frame(
        METHOD,
        1,
        &method!(basic.publish { routing_key: "k" }).encode(),
    ));
    let properties = Properties {
        headers: Some(crate::handshake::every_type()),
        ..Properties::persistent()
    };
    good.extend(frame(
        2,
        1,
        &crate::support::peer::header_payload(60, 0, 5, &properties),
    ));
    good.extend(frame(3, 1, b"hello"));
    for _ in 0..300 {
        let mut bytes = good.clone();
        for _ in 0..random.between(1, 4) {
            let index = usize::try_from(random.next() % bytes.len() as u64).expect("small");
            bytes[index] = random.next() as u8;
        }
        let mut peer = peer();
        drop(peer.try_send_raw(&bytes));
        peer.vanish();
    }
    witness.expect_silence(1);
    witness.close();
}

#[test]
fn a_consumer_that_stops_reading_does_not_hold_up_others() {
    let name = crate::check::unique("stalled");
    let mut owner = peer();
    let declare = method!(queue.declare { queue: &name, exclusive: false, auto_delete: true });
    owner.call(1, declare, method!(queue.declare_ok));
    let mut stalled = peer();
    stalled.send(1, method!(basic.consume { queue: &name, no_ack: true }));
    stalled.expect(1, method!(basic.consume_ok));
    owner.call(1, method!(confirm.select), method!(confirm.select_ok));
    // Far more than the buffers between the broker and a client hold.
    let body = vec![b'x'; 100_000];
    for number in 1..=400_u64 {
        owner.publish(1, method!(basic.publish { routing_key: &name }), &body);
        if number % 50 == 0 {
            while owner.expect(1, method!(basic.ack)).number("delivery_tag") < number {}
        }
    }
    let other = own_queue(&mut owner);
    owner.publish(1, method!(basic.publish { routing_key: &other }), b"quick");
    owner.expect(1, method!(basic.ack { delivery_tag: 401 }));
    expect_get(&mut owner, &other, "quick");
    // Whoever reads again gets everything.
    for _ in 0..400 {
        assert_eq!(
            stalled.expect_message(1, method!(basic.deliver)).body.len(),
            body.len()
        );
    }
}

#[test]
fn a_publisher_that_never_reads_its_returns_does_not_hold_up_others() {
    let mut witness = peer();
    let mut stalled = peer();
    let timeout = std::time::Duration::from_millis(500);
    stalled
        .stream()
        .set_write_timeout(Some(timeout))
        .expect("a timeout can be set");
    let publish = method!(basic.publish { routing_key: "nowhere", mandatory: true });
    for _ in 0..400 {
        let sent = stalled.try_publish(1, publish.clone(), &Properties::default(), &[0; 100_000]);
        if sent.is_err() {
            break; // The broker has stopped reading, which is its right.
        }
    }
    let queue = own_queue(&mut witness);
    send_to(&mut witness, &queue, "quick");
    expect_get(&mut witness, &queue, "quick");
}

#[test]
fn a_client_that_reads_nothing_of_what_waits_for_it_is_dropped() {
    let config = ["tcp_listen_options.send_timeout = 300"];
    let broker = BrokerProcess::start_with(&config);
    let mut stalled = broker.connect();
    stalled.open_channel(1);
    let mut witness = broker.connect();
    witness.open_channel(1);
    let address = stalled.stream().local_addr().expect("it is connected");
    let publish = method!(basic.publish { routing_key: "nowhere", mandatory: true });
    let error = loop {
        let sent = stalled.try_publish(1, publish.clone(), &Properties::default(), &[0; 100_000]);
        if let Err(error) = sent {
            break error;
        }
    };
    assert!(is_end(&error), "the broker never dropped it: {error}");
    let queue = own_queue(&mut witness);
    send_to(&mut witness, &queue, "quick");
    expect_get(&mut witness, &queue, "quick");
    let log = broker.log();
    let mut lines = log.lines().filter(|line| line.contains("reads nothing"));
    let line = lines.next().expect("a line in the log");
    assert!(
        line.contains("WARN") && line.contains(&address.to_string()),
        "{line}"
    );
    assert_eq!(lines.next(), None);
}

#[test]
fn many_connections_that_do_nothing_disturb_nobody() {
    let silent: Vec<TcpStream> = (0..200)
        .map(|number| {
            let mut stream = TcpStream::connect(broker::shared()).expect("the broker listens");
            if number % 2 == 0 {
                stream
                    .write_all(PROTOCOL_HEADER)
                    .expect("eight bytes can be sent");
            }
            stream
        })
        .collect();
    let mut peer = Peer::connect(broker::shared());
    peer.open_channel(1);
    peer.expect_silence(1);
    drop(silent);
}
