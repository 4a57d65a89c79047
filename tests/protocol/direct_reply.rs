//! Direct reply-to: requests that name `amq.rabbitmq.reply-to`, and replies that go through no queue.

use crate::check::{check_channel_error_on, own_queue, peer, since_4};
use crate::support::content::{Message, Properties};
use crate::support::peer::Peer;
use crate::support::wire::{Value, table};

const REPLY_TO: &str = "amq.rabbitmq.reply-to";

fn consume_replies(peer: &mut Peer, channel: u16) {
    let consume = method!(basic.consume { queue: REPLY_TO, consumer_tag: "replies", no_ack: true });
    let ok = method!(basic.consume_ok { consumer_tag: "replies" });
    peer.call(channel, consume, ok);
}

fn asking() -> Properties {
    Properties {
        reply_to: Some(REPLY_TO.to_owned()),
        ..Properties::default()
    }
}

/// Publishes a request on channel 1 and answers the reply-to that a server finds in it.
fn request(peer: &mut Peer, queue: &str) -> String {
    let publish = method!(basic.publish { routing_key: queue });
    peer.publish_with(1, publish, &asking(), b"request");
    peer.send(1, method!(basic.get { queue: queue, no_ack: true }));
    let request = peer.expect_message(1, method!(basic.get_ok));
    request.properties.reply_to.expect("a reply-to")
}

/// The next frames on the channel have to be a reply.
fn expect_reply(peer: &mut Peer, channel: u16, body: &str) -> Message {
    let reply = peer.expect_message(channel, method!(basic.deliver { consumer_tag: "replies" }));
    assert_eq!(reply.text(), body);
    reply
}

fn answer(peer: &mut Peer, address: &str, body: &str) {
    let publish = method!(basic.publish { routing_key: address, mandatory: true });
    peer.publish(1, publish, body.as_bytes());
}

#[test]
fn a_reply_goes_to_the_channel_of_its_request() {
    let mut client = peer();
    client.open_channel(2);
    let queue = own_queue(&mut client);
    consume_replies(&mut client, 1);
    consume_replies(&mut client, 2);
    let address = request(&mut client, &queue);
    assert!(address.starts_with("amq.rabbitmq.reply-to."), "{address}");
    assert!(address.len() <= 255);
    let mut server = peer();
    let properties = Properties {
        correlation_id: Some("c-1".to_owned()),
        reply_to: Some("kept".to_owned()),
        ..Properties::persistent()
    };
    let publish = method!(basic.publish { routing_key: address.as_str() });
    server.publish_with(1, publish, &properties, b"reply");
    let reply = expect_reply(&mut client, 1, "reply");
    assert_eq!(reply.properties, properties);
    assert!(!reply.redelivered());
    assert_eq!(reply.method.text("exchange"), "");
    assert_eq!(reply.method.text("routing_key"), address);
    client.expect_silence(2);
}

#[test]
fn a_reply_of_any_size_is_delivered_whole() {
    let mut client = peer();
    let queue = own_queue(&mut client);
    consume_replies(&mut client, 1);
    let address = request(&mut client, &queue);
    let mut server = peer();
    for size in [0, 1, 20_000, 300_000] {
        let body = "x".repeat(size);
        answer(&mut server, &address, &body);
        expect_reply(&mut client, 1, &body);
    }
}

#[test]
fn every_request_of_a_batch_carries_the_address() {
    let mut client = peer();
    let queue = own_queue(&mut client);
    consume_replies(&mut client, 1);
    for _ in 0..3 {
        let publish = method!(basic.publish { routing_key: &queue });
        client.publish_with(1, publish, &asking(), b"request");
    }
    for _ in 0..3 {
        client.send(1, method!(basic.get { queue: &queue, no_ack: true }));
        let got = client.expect_message(1, method!(basic.get_ok));
        let reply_to = got.properties.reply_to.expect("a reply-to");
        assert!(reply_to.starts_with("amq.rabbitmq.reply-to."), "{reply_to}");
    }
}

#[test]
fn a_mandatory_reply_counts_as_routed_until_the_consumer_goes() {
    let mut client = peer();
    let queue = own_queue(&mut client);
    consume_replies(&mut client, 1);
    let address = request(&mut client, &queue);
    let mut server = peer();
    server.call(1, method!(confirm.select), method!(confirm.select_ok));
    let unroutable = method!(basic.return { reply_code: 312, reply_text: "NO_ROUTE" });
    answer(&mut server, &address, "in time");
    if since_4(false, true) {
        server.expect_message(1, unroutable.clone());
    }
    server.expect(1, method!(basic.ack));
    expect_reply(&mut client, 1, "in time");
    let cancel = method!(basic.cancel { consumer_tag: "replies" });
    client.call(1, cancel, method!(basic.cancel_ok));
    answer(&mut server, &address, "too late");
    server.expect_message(1, unroutable.clone());
    server.expect(1, method!(basic.ack));
    client.expect_silence(1);
    // The channel can wait for replies anew, under another address.
    consume_replies(&mut client, 1);
    let again = request(&mut client, &queue);
    assert!(since_4(again != address, true));
    client.vanish();
    let passive = method!(queue.declare { queue: again.as_str(), passive: true });
    loop {
        server.send(1, passive.clone());
        let gone = server.recv();
        if crate::support::peer::decode(&gone)
            .is_some_and(|method| method.name() == "channel.close")
        {
            break;
        }
    }
    server.send(1, method!(channel.close_ok));
    server.open_channel(1);
    answer(&mut server, &again, "nobody is there");
    server.expect_message(1, unroutable);
}

#[test]
fn cc_leads_to_a_consumer_too() {
    let mut client = peer();
    let queue = own_queue(&mut client);
    consume_replies(&mut client, 1);
    let address = request(&mut client, &queue);
    let properties = Properties {
        headers: Some(table([("CC", Value::Array(vec![address.as_str().into()]))])),
        ..Properties::default()
    };
    let mut server = peer();
    let publish = method!(basic.publish { routing_key: &queue });
    server.publish_with(1, publish, &properties, b"both");
    expect_reply(&mut client, 1, "both");
}

#[test]
fn the_pseudo_queue_is_declared_without_a_queue() {
    let mut peer = peer();
    let ok = method!(queue.declare_ok { queue: REPLY_TO, message_count: 0, consumer_count: 1 });
    for passive in [true, false] {
        let declare = method!(queue.declare { queue: REPLY_TO, passive: passive });
        peer.call(1, declare, ok.clone());
    }
    let unknown = method!(queue.declare { queue: "amq.rabbitmq.reply-to.x", passive: true });
    let text = "no queue 'amq.rabbitmq.reply-to.x' in vhost '/'";
    check_channel_error_on(&mut peer, unknown, 404, text);
    let get = method!(basic.get { queue: REPLY_TO });
    check_channel_error_on(
        &mut peer,
        get,
        404,
        "no queue 'amq.rabbitmq.reply-to' in vhost '/'",
    );
    let bind = method!(queue.bind { queue: REPLY_TO, exchange: "amq.direct", routing_key: "k" });
    let (code, text) = since_4(
        (
            403,
            "queue 'amq.rabbitmq.reply-to' in vhost '/' cannot be bound",
        ),
        (404, "no queue 'amq.rabbitmq.reply-to' in vhost '/'"),
    );
    check_channel_error_on(&mut peer, bind, code, text);
}

#[test]
fn a_channel_has_one_reply_consumer_that_does_not_acknowledge() {
    let mut peer = peer();
    let acknowledging = method!(basic.consume { queue: REPLY_TO });
    let text = "reply consumer cannot acknowledge";
    check_channel_error_on(&mut peer, acknowledging.clone(), 406, text);
    consume_replies(&mut peer, 1);
    let second = method!(basic.consume { queue: REPLY_TO, consumer_tag: "two", no_ack: true });
    check_channel_error_on(&mut peer, second, 406, "reply consumer already set");
    consume_replies(&mut peer, 1);
    check_channel_error_on(&mut peer, acknowledging, 406, text);
}

#[test]
fn a_request_without_a_reply_consumer_closes_the_channel() {
    let mut peer = peer();
    let publish = method!(basic.publish { routing_key: "any" });
    peer.publish_with(1, publish, &asking(), b"request");
    peer.expect_channel_close(
        1,
        "basic.publish",
        406,
        "fast reply consumer does not exist",
    );
    peer.open_channel(1);
    let publish = method!(basic.publish { exchange: "missing", routing_key: "any" });
    peer.publish_with(1, publish, &asking(), b"request");
    let text = "no exchange 'missing' in vhost '/'";
    peer.expect_channel_close(1, "basic.publish", 404, text);
}
