//! Queues that drop messages which came before.

use crate::check::{
    await_ready, check_channel_error, check_channel_error_on, expect_empty, expect_get, peer,
    unique,
};
use crate::support::broker;
use crate::support::content::Properties;
use crate::support::method::Method;
use crate::support::peer::Peer;
use crate::support::wire::{Table, Value, table};

const ON: &str = "x-message-deduplication";

fn declare_method(name: &str, arguments: &[(&str, Value)]) -> Method {
    method!(queue.declare {
        queue: name,
        exclusive: true,
        arguments: arguments.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect::<Table>(),
    })
}

/// Declares a queue that deduplicates, with further arguments.
fn declare(peer: &mut Peer, more: &[(&str, Value)]) -> String {
    let name = unique("once");
    let mut arguments = vec![(ON, Value::Bool(true))];
    arguments.extend_from_slice(more);
    let declare = declare_method(&name, &arguments);
    peer.call(1, declare, method!(queue.declare_ok));
    name
}

fn id(value: impl Into<Value>) -> Table {
    table([("x-deduplication-header", value.into())])
}

fn publish(peer: &mut Peer, queue: &str, headers: Table, body: &str) {
    let publish = method!(basic.publish { routing_key: queue, mandatory: true });
    let properties = Properties {
        headers: Some(headers),
        ..Properties::default()
    };
    peer.publish_with(1, publish, &properties, body.as_bytes());
}

#[track_caller]
fn get(peer: &mut Peer, queue: &str, body: &str) -> u64 {
    expect_get(peer, queue, body).delivery_tag()
}

fn ack(peer: &mut Peer, tag: u64) {
    peer.send(1, method!(basic.ack { delivery_tag: tag }));
}

#[test]
fn an_id_is_taken_while_its_message_is_in_the_queue_and_free_when_it_leaves() {
    if broker::is_foreign() {
        return;
    }
    let mut peer = peer();
    let queue = declare(&mut peer, &[]);
    for (value, body) in [("a", "1"), ("a", "2"), ("b", "3"), ("a", "4")] {
        publish(&mut peer, &queue, id(value), body);
    }
    publish(&mut peer, &queue, Table::new(), "without an id");
    let first = get(&mut peer, &queue, "1");
    publish(&mut peer, &queue, id("a"), "unacknowledged is in the queue");
    ack(&mut peer, first);
    publish(&mut peer, &queue, id("a"), "again");
    for body in ["3", "without an id", "again"] {
        let last = get(&mut peer, &queue, body);
        ack(&mut peer, last);
    }
    expect_empty(&mut peer, &queue);
    publish(&mut peer, &queue, id("a"), "no-ack");
    let take = method!(basic.get { queue: &queue, no_ack: true });
    peer.send(1, take);
    peer.expect_message(1, method!(basic.get_ok));
    publish(&mut peer, &queue, id("a"), "free at once");
    get(&mut peer, &queue, "free at once");
    expect_empty(&mut peer, &queue);
}

#[test]
fn what_is_purged_dropped_expired_or_rejected_frees_its_id() {
    if broker::is_foreign() {
        return;
    }
    let mut peer = peer();
    let queue = declare(&mut peer, &[("x-max-length", 1.into())]);
    publish(&mut peer, &queue, id("a"), "dropped");
    publish(&mut peer, &queue, id("b"), "purged");
    publish(&mut peer, &queue, id("b"), "duplicate");
    let purge = method!(queue.purge { queue: &queue });
    peer.call(1, purge, method!(queue.purge_ok { message_count: 1 }));
    publish(&mut peer, &queue, id("a"), "a");
    let a = get(&mut peer, &queue, "a");
    publish(&mut peer, &queue, id("b"), "b");
    let b = get(&mut peer, &queue, "b");
    ack(&mut peer, a);
    peer.send(1, method!(basic.reject { delivery_tag: b, requeue: false }));
    let mut expiring = Properties {
        headers: Some(id("b")),
        ..Properties::default()
    };
    expiring.expiration = Some("1".into());
    let publish_to = method!(basic.publish { routing_key: &queue });
    peer.publish_with(1, publish_to, &expiring, b"expires");
    await_ready(&mut peer, &queue, 0);
    publish(&mut peer, &queue, id("b"), "after it expired");
    get(&mut peer, &queue, "after it expired");
}

#[test]
fn a_requeued_message_is_no_duplicate_of_itself() {
    if broker::is_foreign() {
        return;
    }
    let mut peer = peer();
    for more in [&[][..], &[("x-cache-size", 10.into())]] {
        let queue = declare(&mut peer, more);
        publish(&mut peer, &queue, id("a"), "m");
        for _ in 0..3 {
            let again = get(&mut peer, &queue, "m");
            let nack = method!(basic.nack { delivery_tag: again, requeue: true });
            peer.send(1, nack);
        }
        publish(&mut peer, &queue, id("a"), "duplicate");
        let last = get(&mut peer, &queue, "m");
        ack(&mut peer, last);
        expect_empty(&mut peer, &queue);
    }
}

#[test]
fn with_a_size_ids_are_remembered_whatever_becomes_of_their_messages() {
    if broker::is_foreign() {
        return;
    }
    let mut peer = peer();
    let queue = declare(&mut peer, &[("x-cache-size", 2.into())]);
    for (value, body) in [(1, "1"), (1, "2"), (2, "3")] {
        publish(&mut peer, &queue, id(value), body);
    }
    for body in ["1", "3"] {
        let last = get(&mut peer, &queue, body);
        ack(&mut peer, last);
    }
    // The third takes the place of the first.
    for (value, body) in [(2, "4"), (3, "5"), (2, "6"), (1, "7")] {
        publish(&mut peer, &queue, id(value), body);
    }
    for body in ["5", "7"] {
        get(&mut peer, &queue, body);
    }
    expect_empty(&mut peer, &queue);
}

#[test]
fn with_a_time_ids_are_remembered_that_long() {
    if broker::is_foreign() {
        return;
    }
    let mut peer = peer();
    let queue = declare(&mut peer, &[("x-cache-ttl", 3_600_000.into())]);
    let mut short = id("short");
    short.extend(table([("x-cache-ttl", 1.into())]));
    publish(&mut peer, &queue, id("long"), "1");
    // The broker's clock decides, so ask until a millisecond has passed.
    let mut copies = 0;
    while copies < 2 {
        publish(&mut peer, &queue, short.clone(), "2");
        peer.send(1, method!(queue.purge { queue: &queue }));
        let purged = peer.expect(1, method!(queue.purge_ok));
        copies += purged.number("message_count").min(1);
    }
    publish(&mut peer, &queue, id("long"), "3");
    expect_empty(&mut peer, &queue);
}

#[test]
fn a_duplicate_is_confirmed_and_not_returned() {
    if broker::is_foreign() {
        return;
    }
    let mut peer = peer();
    let queue = declare(&mut peer, &[]);
    peer.call(1, method!(confirm.select), method!(confirm.select_ok));
    for number in 1..=2 {
        publish(&mut peer, &queue, id("a"), "m");
        let ack = method!(basic.ack { delivery_tag: number, multiple: false });
        peer.expect(1, ack);
    }
    get(&mut peer, &queue, "m");
    expect_empty(&mut peer, &queue);
}

#[test]
fn what_the_queue_refused_can_be_published_again() {
    if broker::is_foreign() {
        return;
    }
    for overflow in ["reject-publish", "reject-publish-dlx"] {
        for cache in [None, Some(("x-cache-size", Value::from(10)))] {
            let mut peer = peer();
            let mut more = vec![
                ("x-max-length", 1.into()),
                ("x-overflow", overflow.into()),
                ("x-dead-letter-exchange", "amq.fanout".into()),
            ];
            more.extend(cache);
            let queue = declare(&mut peer, &more);
            peer.call(1, method!(confirm.select), method!(confirm.select_ok));
            publish(&mut peer, &queue, Table::new(), "in the way");
            peer.expect(1, method!(basic.ack { delivery_tag: 1 }));
            publish(&mut peer, &queue, id("a"), "refused");
            peer.expect(1, method!(basic.nack { delivery_tag: 2 }));
            let first = get(&mut peer, &queue, "in the way");
            ack(&mut peer, first);
            publish(&mut peer, &queue, id("a"), "again");
            peer.expect(1, method!(basic.ack { delivery_tag: 3 }));
            publish(&mut peer, &queue, id("a"), "duplicate");
            peer.expect(1, method!(basic.ack { delivery_tag: 4 }));
            get(&mut peer, &queue, "again");
            expect_empty(&mut peer, &queue);
        }
    }
}

/// Two queues: what dies in the first comes to the second, and from there back.
fn round_trip(peer: &mut Peer, more: &[(&str, Value)]) -> (String, String) {
    let waiting = unique("waiting");
    let mut arguments = vec![
        ("x-dead-letter-exchange", "".into()),
        ("x-dead-letter-routing-key", waiting.as_str().into()),
    ];
    arguments.extend_from_slice(more);
    let work = declare(peer, &arguments);
    let back = [
        ("x-dead-letter-exchange", "".into()),
        ("x-dead-letter-routing-key", work.as_str().into()),
        (ON, Value::Bool(true)),
    ];
    let declare = declare_method(&waiting, &back);
    peer.call(1, declare, method!(queue.declare_ok));
    (work, waiting)
}

fn reject(peer: &mut Peer, tag: u64) {
    peer.send(
        1,
        method!(basic.reject { delivery_tag: tag, requeue: false }),
    );
}

#[test]
fn a_dead_letter_is_looked_at_where_it_arrives_and_may_come_back() {
    if broker::is_foreign() {
        return;
    }
    for more in [&[][..], &[("x-cache-size", 10.into())]] {
        let mut peer = peer();
        let (work, waiting) = round_trip(&mut peer, more);
        publish(&mut peer, &work, id("a"), "m");
        for _ in 0..2 {
            let tag = get(&mut peer, &work, "m");
            reject(&mut peer, tag);
            await_ready(&mut peer, &waiting, 1);
            publish(&mut peer, &waiting, id("a"), "is there already");
            let tag = get(&mut peer, &waiting, "m");
            reject(&mut peer, tag);
            await_ready(&mut peer, &work, 1);
        }
        publish(&mut peer, &waiting, id("b"), "in the way");
        publish(&mut peer, &work, id("b"), "arrives as a duplicate");
        let tag = get(&mut peer, &work, "m");
        ack(&mut peer, tag);
        let tag = get(&mut peer, &work, "arrives as a duplicate");
        reject(&mut peer, tag);
        // Behind it in the order of deaths.
        publish(&mut peer, &work, id("c"), "last");
        let tag = get(&mut peer, &work, "last");
        reject(&mut peer, tag);
        await_ready(&mut peer, &waiting, 2);
        get(&mut peer, &waiting, "in the way");
        get(&mut peer, &waiting, "last");
    }
}

#[test]
fn a_message_that_dies_into_its_own_queue_arrives_there() {
    if broker::is_foreign() {
        return;
    }
    let mut peer = peer();
    let name = unique("own grave");
    let arguments = [
        (ON, Value::Bool(true)),
        ("x-dead-letter-exchange", "".into()),
    ];
    let declare = declare_method(&name, &arguments);
    peer.call(1, declare, method!(queue.declare_ok));
    publish(&mut peer, &name, id("a"), "m");
    for _ in 0..3 {
        let tag = get(&mut peer, &name, "m");
        reject(&mut peer, tag);
        await_ready(&mut peer, &name, 1);
    }
    publish(&mut peer, &name, id("a"), "duplicate");
    get(&mut peer, &name, "m");
    expect_empty(&mut peer, &name);
}

#[test]
fn queues_of_every_type_deduplicate_but_streams_refuse_to() {
    if broker::is_foreign() {
        return;
    }
    let mut peer = peer();
    let name = unique("quorum");
    let arguments = table([(ON, Value::Bool(true)), ("x-queue-type", "quorum".into())]);
    let declare = method!(queue.declare { queue: &name, durable: true, arguments: arguments });
    peer.call(1, declare, method!(queue.declare_ok));
    for (priority, body) in [(0, "1"), (9, "2"), (0, "3")] {
        let publish = method!(basic.publish { routing_key: &name });
        let properties = Properties {
            headers: Some(id(7)),
            priority: Some(priority),
            ..Properties::persistent()
        };
        peer.publish_with(1, publish, &properties, body.as_bytes());
    }
    get(&mut peer, &name, "1");
    expect_empty(&mut peer, &name);
    let delete = method!(queue.delete { queue: &name });
    peer.call(1, delete, method!(queue.delete_ok));
    let stream = unique("stream");
    let arguments = table([(ON, Value::Bool(true)), ("x-queue-type", "stream".into())]);
    let declare = method!(queue.declare { queue: &stream, durable: true, arguments: arguments });
    let text = format!(
        "invalid arg '{ON}' for queue '{stream}' in vhost '/' of queue type rabbit_stream_queue"
    );
    check_channel_error(declare, 406, &text);
}

#[test]
fn arguments_that_do_not_fit_are_refused_and_compared() {
    if broker::is_foreign() {
        return;
    }
    for (argument, value, reason) in [
        (ON, "true".into(), "{unacceptable_type,longstr}"),
        ("x-cache-size", 0.into(), "{value_zero,0}"),
        ("x-cache-ttl", Value::from(-1), "{value_negative,-1}"),
        (
            "x-cache-persistence",
            "tape".into(),
            "invalid_cache_persistence",
        ),
        (
            "x-deduplication-header",
            5.into(),
            "{unacceptable_type,signedint}",
        ),
    ] {
        let name = unique("refused");
        let text = format!("invalid arg '{argument}' for queue '{name}' in vhost '/': {reason}");
        check_channel_error(declare_method(&name, &[(argument, value)]), 406, &text);
    }
    let mut peer = peer();
    let queue = declare(&mut peer, &[("x-cache-size", 5.into())]);
    let same = [(ON, Value::Bool(true)), ("x-cache-size", Value::I64(5))];
    let again = declare_method(&queue, &same);
    peer.call(1, again, method!(queue.declare_ok));
    let text = format!(
        "inequivalent arg 'x-cache-size' for queue '{queue}' in vhost '/': received the value '6' of type \
         'signedint' but current is the value '5' of type 'signedint'"
    );
    let other = [(ON, Value::Bool(true)), ("x-cache-size", 6.into())];
    check_channel_error_on(&mut peer, declare_method(&queue, &other), 406, &text);
}
