//! Administration of queues: pauses, looks, removals and moves.

use std::sync::atomic::Ordering;

use super::*;
use crate::broker::queue::{
    ConsumerSpec, GetOutcome, Page, Progress, Removal, Return, Whereabouts,
};
use crate::broker::vhost::{MoveTo, Moving};
use crate::message::record::Body;

/// Publishes persistent messages with these bodies, and routing keys like them.
fn publish(fixture: &Fixture, queue: &Arc<Queue>, bodies: &[&str]) -> Ticket {
    let messages = bodies.iter().map(|body| NewMessage {
        body: Body::Inline(body.as_bytes()),
        persistent: true,
        properties: b"\x10\x00\x02",
        ..message("amq.topic", body)
    });
    let messages: Vec<_> = messages.collect();
    fixture.visit(|_, visit| {
        queue.publish(visit, messages.iter());
        visit.ticket()
    })
}

/// Gets a message and keeps it, or acknowledges it at once.
fn get(fixture: &Fixture, queue: &Arc<Queue>, no_ack: bool) -> Option<(String, bool, u64)> {
    loop {
        let got = fixture.visit(|_, visit| {
            queue.get(visit, no_ack, |delivery, _| {
                let body = String::from_utf8_lossy(delivery.body_bytes()).into_owned();
                (body, delivery.redelivered, delivery.seq)
            })
        });
        match got {
            GetOutcome::Message(message) => return Some(message),
            GetOutcome::Loading => std::thread::yield_now(),
            GetOutcome::Unsaved(ticket) => fixture.test.wait(ticket),
            GetOutcome::Empty | GetOutcome::Deleted => return None,
        }
    }
}

/// The bodies of all that is ready, which is gone then.
fn drain(fixture: &Fixture, queue: &Arc<Queue>) -> Vec<String> {
    let got = std::iter::from_fn(|| get(fixture, queue, true));
    got.map(|(body, ..)| body).collect()
}

/// All pages of so many messages.
fn browse(queue: &Arc<Queue>, count_max: usize) -> Vec<(String, Whereabouts)> {
    let mut found = Vec::new();
    let mut from = None;
    loop {
        let page: Page = queue.browse(from, count_max);
        assert!(page.messages.len() <= count_max);
        for message in &page.messages {
            let record = message.record().unwrap();
            let body = String::from_utf8_lossy(record.inline_body()).into_owned();
            found.push((body, message.whereabouts));
        }
        if page.is_loading {
            std::thread::yield_now();
        }
        from = match page.next {
            Some(next) => Some(next),
            None => return found,
        };
    }
}

fn move_all(fixture: &Fixture, from: &Arc<Queue>, to: &MoveTo, count: u64) -> (u64, Moving) {
    let mut moved = 0;
    loop {
        let left = count - moved;
        let (some, moving) =
            fixture.visit(|vhost, visit| vhost.move_messages(visit, from, to, left).unwrap());
        moved += some;
        match moving {
            Moving::Share => {}
            Moving::Loading => std::thread::yield_now(),
            Moving::Done | Moving::Unroutable => return (moved, moving),
        }
    }
}

#[test]
fn a_paused_queue_gives_nothing_away_and_stays_so_over_a_restart() {
    let fixture = Fixture::new();
    let queue = fixture.declare(durable("q", &[])).unwrap().queue;
    let taker = Arc::<Taker>::default();
    let spec = ConsumerSpec {
        sink: taker.clone(),
        no_ack: true,
        exclusive: false,
        priority: 0,
        prefetch: 0,
        timeout_ms: None,
    };
    let subscribed = fixture.visit(|_, visit| queue.subscribe(visit, spec));
    let (id, _) = subscribed.unwrap();
    fixture.visit(|_, visit| queue.activate(visit, id));
    fixture.vhost.pause_queue("q", true).unwrap();
    publish(&fixture, &queue, &["a", "b"]);
    assert!(queue.is_paused());
    assert_eq!(taker.0.load(Ordering::Relaxed), 0);
    assert_eq!(get(&fixture, &queue, true), None);
    assert_eq!(queue.counts().ready, 2);
    fixture.vhost.pause_queue("q", false).unwrap();
    assert_eq!(taker.0.load(Ordering::Relaxed), 2);
    let ticket = fixture.vhost.pause_queue("q", true).unwrap();
    publish(&fixture, &queue, &["c"]);
    fixture.test.wait(ticket);
    refused(
        fixture.vhost.pause_queue("none", true),
        "no queue 'none' in vhost '/'",
    );
    drop(queue);
    let Fixture { test, vhost } = fixture;
    drop(vhost);
    let test = test.restart();
    let vhost = test.broker.vhost("/").unwrap();
    let fixture = Fixture { test, vhost };
    let queue = fixture.vhost.queue("q").unwrap();
    assert!(queue.is_paused());
    assert_eq!(get(&fixture, &queue, true), None);
    fixture.vhost.pause_queue("q", false).unwrap();
    assert_eq!(drain(&fixture, &queue), ["c"]);
}

#[test]
fn the_first_messages_are_purged_a_share_at_a_time() {
    let fixture = Fixture::new();
    let queue = fixture.declare(durable("q", &[])).unwrap().queue;
    let bodies: Vec<String> = (0..600).map(|number| number.to_string()).collect();
    let bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
    publish(&fixture, &queue, &bodies);
    let (held, ..) = get(&fixture, &queue, false).unwrap();
    assert_eq!(held, "0");
    let mut left = 590;
    loop {
        let purge = |_: &VHost, visit: &Visit<'_>| queue.purge_first(visit, left);
        let (purged, progress) = fixture.visit(purge);
        assert!(purged <= 256);
        left -= purged;
        if progress == Progress::Done {
            break;
        }
    }
    assert_eq!(left, 0);
    assert_eq!(drain(&fixture, &queue), bodies[591..]);
    assert_eq!(queue.counts().unacked, 1);
    let purge = |_: &VHost, visit: &Visit<'_>| queue.purge_first(visit, 5);
    assert_eq!(fixture.visit(purge), (0, Progress::Done));
}

#[test]
fn pages_show_what_is_ready_and_what_is_not_without_touching_it() {
    let fixture = Fixture::new();
    let arguments = [
        ("x-max-priority", AMQPValue::LongInt(3)),
        ("x-dead-letter-exchange", text("nowhere")),
    ];
    let queue = fixture.declare(durable("q", &arguments)).unwrap().queue;
    publish(&fixture, &queue, &["a", "b", "c", "d"]);
    let urgent = NewMessage {
        priority: 3,
        body: Body::Inline(b"urgent"),
        persistent: true,
        ..message("", "q")
    };
    fixture.visit(|_, visit| queue.publish(visit, std::iter::once(&urgent)));
    assert_eq!(get(&fixture, &queue, false).unwrap().0, "urgent");
    let (_, _, seq) = get(&fixture, &queue, false).unwrap();
    let consumer = crate::broker::delivery::ConsumerId::NONE;
    fixture.visit(|_, visit| queue.requeue(visit, consumer, &[seq], Return::Failed));
    use Whereabouts::{Ready, Unacknowledged};
    let expected = [
        ("urgent", Unacknowledged),
        ("a", Ready),
        ("b", Ready),
        ("c", Ready),
        ("d", Ready),
    ]
    .map(|(body, whereabouts)| (body.to_owned(), whereabouts));
    for count_max in [1, 2, 100] {
        assert_eq!(browse(&queue, count_max), expected, "pages of {count_max}");
    }
    let page = queue.browse(None, 10);
    let flags: Vec<bool> = page.messages.iter().map(|one| one.redelivered).collect();
    assert_eq!(flags, [false, true, false, false, false]);
    let counts = queue.counts();
    assert_eq!((counts.ready, counts.unacked), (4, 1));
    assert_eq!(drain(&fixture, &queue), ["a", "b", "c", "d"]);
}

#[test]
fn pages_tell_what_waits_for_its_retry_from_what_waits_for_its_group() {
    let fixture = Fixture::new();
    let arguments = [
        ("x-message-group", text("g")),
        ("x-delayed-retry-type", text("all")),
        ("x-delayed-retry-min", AMQPValue::LongInt(600_000)),
    ];
    let queue = fixture.declare(durable("q", &arguments)).unwrap().queue;
    for (body, group) in [("a", 1), ("b", 1), ("c", 2), ("d", 3)] {
        let properties = [&b"\x20\0\0\0\0\x04\x01gb"[..], &[group]].concat();
        let message = NewMessage {
            body: Body::Inline(body.as_bytes()),
            properties: &properties,
            persistent: true,
            ..message("", "q")
        };
        fixture.visit(|_, visit| queue.publish(visit, std::iter::once(&message)));
    }
    // Two of three groups are busy, and what the one is busy with waits for its retry.
    let (body, _, first) = get(&fixture, &queue, false).unwrap();
    assert_eq!(body, "a");
    assert_eq!(get(&fixture, &queue, false).unwrap().0, "c");
    let consumer = crate::broker::delivery::ConsumerId::NONE;
    fixture.visit(|_, visit| queue.requeue(visit, consumer, &[first], Return::Failed));
    use Whereabouts::{Ready, Retry, Unacknowledged};
    let expected = [
        ("a", Retry),
        ("b", Ready),
        ("c", Unacknowledged),
        ("d", Ready),
    ];
    let expected = expected.map(|(body, whereabouts)| (body.to_owned(), whereabouts));
    assert_eq!(browse(&queue, 10), expected);
}

#[test]
fn what_is_only_in_the_store_is_shown_purged_and_moved_too() {
    let fixture = Fixture::new();
    let queue = fixture.declare(durable("q", &[])).unwrap().queue;
    fixture.declare(durable("other", &[])).unwrap();
    let bodies: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    let bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
    let ticket = publish(&fixture, &queue, &bodies);
    fixture.test.wait(ticket);
    drop(queue);
    let Fixture { test, vhost } = fixture;
    drop(vhost);
    let test = test.restart();
    let vhost = test.broker.vhost("/").unwrap();
    let fixture = Fixture { test, vhost };
    let queue = fixture.vhost.queue("q").unwrap();
    let seen: Vec<String> = browse(&queue, 7)
        .into_iter()
        .map(|(body, _)| body)
        .collect();
    assert_eq!(seen, bodies);
    assert_eq!(queue.counts().ready, 20);
    let to = MoveTo::Queue("other".into());
    assert_eq!(move_all(&fixture, &queue, &to, 5), (5, Moving::Done));
    assert_eq!(drain(&fixture, &queue), bodies[5..]);
    let other = fixture.vhost.queue("other").unwrap();
    assert_eq!(drain(&fixture, &other), bodies[..5]);
}

#[test]
fn one_message_is_removed_wherever_it_stands() {
    let fixture = Fixture::new();
    let queue = fixture.declare(durable("q", &[])).unwrap().queue;
    publish(&fixture, &queue, &["a", "b", "c"]);
    let page = queue.browse(None, 10);
    let seqs: Vec<u64> = page.messages.iter().map(|message| message.seq).collect();
    let remove = |seq| fixture.visit(|_, visit| queue.remove(visit, seq));
    assert_eq!(remove(seqs[1]), Removal::Removed);
    assert_eq!(remove(seqs[1]), Removal::Missing);
    assert_eq!(remove(5 << 48), Removal::Missing);
    get(&fixture, &queue, false).unwrap();
    assert_eq!(remove(seqs[0]), Removal::NotReady);
    assert_eq!(drain(&fixture, &queue), ["c"]);
}

#[test]
fn messages_are_moved_in_order_and_survive_a_restart_once() {
    let fixture = Fixture::new();
    let queue = fixture.declare(durable("q", &[])).unwrap().queue;
    let other = fixture.declare(durable("other", &[])).unwrap().queue;
    publish(&fixture, &queue, &["a", "b", "c", "d"]);
    let to = MoveTo::Queue("other".into());
    assert_eq!(move_all(&fixture, &queue, &to, 3), (3, Moving::Done));
    assert_eq!((queue.counts().ready, other.counts().ready), (1, 3));
    let page = other.browse(None, 1);
    let record = page.messages[0].record().unwrap();
    let kept = (record.exchange(), record.routing_key());
    assert_eq!(kept, (&b"amq.topic"[..], &b"a"[..]));
    for (target, text) in [
        (
            "q",
            "messages of queue 'q' in vhost '/' cannot be moved there",
        ),
        ("none", "no queue 'none' in vhost '/'"),
    ] {
        let to = MoveTo::Queue(target.into());
        let moved = fixture.visit(|vhost, visit| vhost.move_messages(visit, &queue, &to, 1));
        refused(moved, text);
    }
    let ticket = fixture.visit(|_, visit| visit.ticket());
    fixture.test.wait(ticket);
    drop((queue, other));
    let Fixture { test, vhost } = fixture;
    drop(vhost);
    let test = test.restart();
    let vhost = test.broker.vhost("/").unwrap();
    let fixture = Fixture { test, vhost };
    let queue = |name| fixture.vhost.queue(name).unwrap();
    assert_eq!(drain(&fixture, &queue("q")), ["d"]);
    assert_eq!(drain(&fixture, &queue("other")), ["a", "b", "c"]);
}

#[test]
fn what_goes_nowhere_stays_where_it_is() {
    let fixture = Fixture::new();
    let queue = fixture.declare(durable("q", &[])).unwrap().queue;
    let limits = [
        ("x-max-length", AMQPValue::LongInt(1)),
        ("x-overflow", text("reject-publish")),
    ];
    fixture.declare(durable("small", &limits)).unwrap();
    fixture.bind("small", "amq.direct", "b").unwrap();
    publish(&fixture, &queue, &["a", "b", "c", "b"]);
    let by_own_key = MoveTo::Exchange {
        name: "amq.direct".into(),
        routing_key: None,
    };
    let moved = move_all(&fixture, &queue, &by_own_key, 4);
    assert_eq!(moved, (1, Moving::Unroutable));
    let (body, redelivered, _) = get(&fixture, &queue, true).unwrap();
    assert_eq!((body.as_str(), redelivered), ("a", false));
    assert_eq!(drain(&fixture, &queue), ["c", "b"]);
    let small = fixture.vhost.queue("small").unwrap();
    let page = small.browse(None, 1);
    let record = page.messages[0].record().unwrap();
    assert_eq!(record.exchange(), b"amq.direct");
    assert_eq!(drain(&fixture, &small), ["b"]);
    publish(&fixture, &queue, &["x"]);
    let by_other_key = MoveTo::Exchange {
        name: "amq.direct".into(),
        routing_key: Some("b".into()),
    };
    assert_eq!(
        move_all(&fixture, &queue, &by_other_key, 9),
        (1, Moving::Done)
    );
    assert_eq!(drain(&fixture, &small), ["x"]);
}

#[test]
fn what_a_full_queue_does_not_take_does_not_die_there_either() {
    let fixture = Fixture::new();
    let queue = fixture.declare(durable("q", &[])).unwrap().queue;
    let limits = [
        ("x-max-length", AMQPValue::LongInt(1)),
        ("x-overflow", text("reject-publish-dlx")),
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text("graves")),
    ];
    let full = fixture.declare(durable("full", &limits)).unwrap().queue;
    let graves = fixture.declare(durable("graves", &[])).unwrap().queue;
    publish(&fixture, &queue, &["a", "b"]);
    let to = MoveTo::Queue("full".into());
    assert_eq!(move_all(&fixture, &queue, &to, 2), (1, Moving::Unroutable));
    assert_eq!(browse(&full, 5).len(), 1);
    assert_eq!(graves.counts().ready, 0);
    assert_eq!(drain(&fixture, &queue), ["b"]);
}
