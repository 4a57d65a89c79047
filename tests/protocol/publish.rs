//! basic.publish and basic.return.

use crate::check::{
    check_channel_error, check_channel_error_on, expect_empty, expect_get, own_queue, peer,
    send_to, unique,
};
use crate::support::content::Properties;
use crate::support::method::Method;
use crate::support::peer::Peer;
use crate::support::wire::{Value, table};

/// A message with these properties closes the channel.
#[track_caller]
fn check_publish_refused(publish: Method, properties: &Properties, code: u16, text: &str) {
    let mut peer = peer();
    peer.publish_with(1, publish, properties, b"");
    peer.expect_channel_close(1, "basic.publish", code, text);
    peer.open_channel(1);
}

fn to_nowhere() -> Method {
    method!(basic.publish { routing_key: "nowhere at all" })
}

#[test]
fn publishing_to_a_missing_exchange_closes_the_channel() {
    let publish = method!(basic.publish { exchange: "missing" });
    let text = "no exchange 'missing' in vhost '/'";
    check_publish_refused(publish, &Properties::default(), 404, text);
}

#[test]
fn a_message_without_a_queue_vanishes_silently() {
    let mut peer = peer();
    peer.publish(1, to_nowhere(), b"lost");
    peer.expect_silence(1);
}

#[test]
fn a_mandatory_message_without_a_queue_is_returned_whole() {
    let mut peer = peer();
    let properties = Properties {
        headers: Some(table([("h", 1.into())])),
        message_id: Some("m-1".to_owned()),
        ..Properties::persistent()
    };
    let publish = to_nowhere().with("mandatory", true);
    peer.publish_with(1, publish, &properties, b"returned");
    let returned = peer.expect_message(
        1,
        method!(basic.return {
            reply_code: 312,
            reply_text: "NO_ROUTE",
            exchange: "",
            routing_key: "nowhere at all",
        }),
    );
    assert_eq!(returned.text(), "returned");
    assert_eq!(returned.properties, properties);
}

#[test]
fn a_mandatory_message_with_a_queue_is_not_returned() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    peer.publish(
        1,
        method!(basic.publish { routing_key: &queue, mandatory: true }),
        b"kept",
    );
    expect_get(&mut peer, &queue, "kept");
}

#[test]
fn immediate_is_not_implemented() {
    let mut peer = peer();
    peer.publish(1, to_nowhere().with("immediate", true), b"now");
    peer.expect_connection_close("basic.publish", 540, "immediate=true");
}

#[test]
fn the_user_id_has_to_be_the_users_own() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    let own = Properties {
        user_id: Some("guest".to_owned()),
        ..Properties::default()
    };
    peer.publish_with(
        1,
        method!(basic.publish { routing_key: &queue }),
        &own,
        b"mine",
    );
    assert_eq!(expect_get(&mut peer, &queue, "mine").properties, own);
    let other = Properties {
        user_id: Some("other".to_owned()),
        ..Properties::default()
    };
    let text = "user_id property set to 'other' but authenticated user was 'guest'";
    check_publish_refused(to_nowhere(), &other, 406, text);
}

#[test]
fn an_expiration_has_to_be_a_number() {
    for (expiration, reason) in [
        ("abc", "no_integer"),
        ("10ms", "{leftover_string,\"ms\"}"),
        ("-1", "{value_negative,-1}"),
        ("315360000001", "{value_too_large,315360000001}"),
        ("", "no_integer"),
    ] {
        let properties = Properties {
            expiration: Some(expiration.to_owned()),
            ..Properties::default()
        };
        let text = format!("invalid expiration '{expiration}': {reason}");
        check_publish_refused(to_nowhere(), &properties, 406, &text);
    }
}

#[test]
fn cc_routes_to_more_queues_and_to_each_once() {
    let mut peer = peer();
    let (first, second) = (own_queue(&mut peer), own_queue(&mut peer));
    let copies = Value::Array(vec![second.as_str().into(), first.as_str().into()]);
    let properties = Properties {
        headers: Some(table([("CC", copies)])),
        ..Properties::default()
    };
    peer.publish_with(
        1,
        method!(basic.publish { routing_key: &first }),
        &properties,
        b"both",
    );
    for queue in [&first, &second] {
        assert_eq!(expect_get(&mut peer, queue, "both").properties, properties);
        expect_empty(&mut peer, queue);
    }
}

#[test]
fn bcc_routes_too_and_is_not_shown() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    let copies = Value::Array(vec![queue.as_str().into()]);
    let headers = table([("BCC", copies), ("h", "kept".into())]);
    let properties = Properties {
        headers: Some(headers),
        ..Properties::default()
    };
    peer.publish_with(1, to_nowhere(), &properties, b"blind");
    let message = expect_get(&mut peer, &queue, "blind");
    assert_eq!(
        message.properties.headers,
        Some(table([("h", "kept".into())]))
    );
}

#[test]
fn cc_has_to_be_an_array() {
    let properties = Properties {
        headers: Some(table([("CC", "a queue".into())])),
        ..Properties::default()
    };
    check_publish_refused(
        to_nowhere(),
        &properties,
        406,
        "invalid message: {unacceptable_type_in_header,\"CC\",longstr}",
    );
}

#[test]
fn a_key_of_255_bytes_is_carried() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    let key = "k".repeat(255);
    let bind = method!(queue.bind { queue: &queue, exchange: "amq.direct", routing_key: &key });
    peer.call(1, bind, method!(queue.bind_ok));
    peer.publish(
        1,
        method!(basic.publish { exchange: "amq.direct", routing_key: &key }),
        b"long",
    );
    assert_eq!(
        expect_get(&mut peer, &queue, "long")
            .method
            .text("routing_key"),
        key
    );
}

#[test]
fn the_exchange_is_looked_for_before_the_expiration() {
    let properties = Properties {
        expiration: Some("x".to_owned()),
        ..Properties::default()
    };
    let publish = method!(basic.publish { exchange: "missing" });
    check_publish_refused(
        publish,
        &properties,
        404,
        "no exchange 'missing' in vhost '/'",
    );
}

#[test]
fn messages_of_one_publisher_stay_in_order() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    for number in 0..500 {
        send_to(&mut peer, &queue, &number.to_string());
    }
    let consume = method!(basic.consume { queue: &queue, no_ack: true });
    peer.call(1, consume, method!(basic.consume_ok));
    for number in 0..500 {
        crate::check::expect_delivery(&mut peer, &number.to_string());
    }
}

#[test]
fn a_queue_that_is_deleted_gets_nothing_more() {
    let mut peer = peer();
    let name = unique("deleted");
    let declare = method!(queue.declare { queue: &name, exclusive: true });
    peer.call(1, declare, method!(queue.declare_ok));
    send_to(&mut peer, &name, "routed once");
    peer.call(
        1,
        method!(queue.delete { queue: &name }),
        method!(queue.delete_ok),
    );
    let publish = method!(basic.publish { routing_key: &name, mandatory: true });
    peer.publish(1, publish, b"too late");
    peer.expect_message(1, method!(basic.return { reply_code: 312 }));
}

#[test]
fn an_error_of_a_publish_spares_what_was_published_before() {
    let mut peer: Peer = peer();
    let queue = own_queue(&mut peer);
    send_to(&mut peer, &queue, "before");
    peer.publish(1, method!(basic.publish { exchange: "missing" }), b"");
    send_to(&mut peer, &queue, "after");
    peer.expect_channel_close(
        1,
        "basic.publish",
        404,
        "no exchange 'missing' in vhost '/'",
    );
    peer.open_channel(1);
    expect_get(&mut peer, &queue, "before");
    expect_empty(&mut peer, &queue);
}

#[test]
fn get_of_a_missing_queue_after_publish_is_still_an_error() {
    check_channel_error(
        method!(basic.get { queue: "nowhere at all" }),
        404,
        "no queue 'nowhere at all' in vhost '/'",
    );
    let mut peer = peer();
    peer.publish(1, to_nowhere(), b"");
    let get = method!(basic.get { queue: "nowhere at all" });
    check_channel_error_on(
        &mut peer,
        get,
        404,
        "no queue 'nowhere at all' in vhost '/'",
    );
}

#[test]
fn bcc_is_stripped_from_every_message_of_a_batch() {
    let mut peer = peer();
    let queue = own_queue(&mut peer);
    let copy = own_queue(&mut peer);
    let properties = Properties {
        headers: Some(table([
            ("BCC", Value::Array(vec![copy.as_str().into()])),
            ("kept", 1.into()),
        ])),
        ..Properties::default()
    };
    // Alike, so that all could be handled as the first.
    for _ in 0..3 {
        let publish = method!(basic.publish { routing_key: &queue });
        peer.publish_with(1, publish, &properties, b"m");
    }
    for queue in [&queue, &copy] {
        for _ in 0..3 {
            let message = expect_get(&mut peer, queue, "m");
            let headers = message.properties.headers.expect("headers");
            assert_eq!(headers, table([("kept", 1.into())]));
        }
        expect_empty(&mut peer, queue);
    }
}
