//! Queues that begin and cease to drop what comes again while they are in use.

use serde_json::json;

use super::*;
use crate::broker::policy::{Policy, PolicyKind};
use crate::broker::queue::GetOutcome;
use crate::broker::vhost::{MoveTo, Moving};

/// A persistent message with the id `a`.
fn with_id() -> NewMessage<'static> {
    NewMessage {
        properties: b"\x30\x00\0\0\0\x1d\x16x-deduplication-headerS\0\0\0\x01a\x02",
        persistent: true,
        ..message("", "q")
    }
}

impl Fixture {
    fn durable_queue(&self) -> Arc<Queue> {
        self.declare(durable("q", &[])).unwrap().queue
    }

    /// Publishes it, and answers how many messages are ready then.
    fn publish(&self, queue: &Arc<Queue>) -> u64 {
        self.visit(|_, visit| queue.publish(visit, std::iter::once(&with_id())));
        queue.counts().ready
    }

    fn consume_one(&self, queue: &Arc<Queue>) {
        let got = self.visit(|_, visit| queue.get(visit, true, |_, _| ()));
        assert!(matches!(got, GetOutcome::Message(())));
    }

    fn set(&self, definition: &serde_json::Value) {
        let source = json!({"pattern": "", "apply-to": "queues", "definition": definition});
        let policy = Policy::parse(PolicyKind::User, "p", source.as_object().unwrap()).unwrap();
        let ticket = self.vhost.set_policy(PolicyKind::User, policy).unwrap();
        self.test.wait(ticket);
    }

    fn clear(&self) {
        let cleared = self.vhost.delete_policy(PolicyKind::User, "p");
        self.test.wait(cleared.unwrap());
    }
}

#[test]
fn a_policy_deduplicates_from_now_on_and_forgets_when_it_goes() {
    let fixture = Fixture::new();
    let queue = fixture.durable_queue();
    assert_eq!((fixture.publish(&queue), queue.ids()), (1, None));
    fixture.set(&json!({"message-deduplication": true}));
    // Of what was there before nothing is known.
    assert_eq!((fixture.publish(&queue), queue.ids()), (2, Some(1)));
    assert_eq!(fixture.publish(&queue), 2);
    drop(queue);
    let fixture = fixture.restart();
    let queue = fixture.vhost.queue("q").unwrap();
    assert_eq!((fixture.publish(&queue), queue.ids()), (2, Some(1)));
    fixture.clear();
    assert_eq!((fixture.publish(&queue), queue.ids()), (3, None));
    drop(queue);
    let fixture = fixture.restart();
    fixture.set(&json!({"message-deduplication": true}));
    let queue = fixture.vhost.queue("q").unwrap();
    assert_eq!(queue.ids(), Some(0));
    drop(queue);
    let fixture = fixture.restart();
    let queue = fixture.vhost.queue("q").unwrap();
    assert_eq!(queue.ids(), Some(0), "the store has forgotten them too");
    assert_eq!(fixture.publish(&queue), 4);
}

#[test]
fn an_id_that_was_not_taken_is_not_written_with_its_message() {
    let fixture = Fixture::new();
    let queue = fixture.durable_queue();
    fixture.publish(&queue);
    // Before the epoch of the message is written, or after it.
    fixture.set(&json!({"message-deduplication": true}));
    fixture.consume_one(&queue);
    drop(queue);
    let fixture = fixture.restart();
    let queue = fixture.vhost.queue("q").unwrap();
    assert_eq!(queue.ids(), Some(0));
    assert_eq!(fixture.publish(&queue), 1);
}

#[test]
fn another_rule_begins_anew() {
    let fixture = Fixture::new();
    let queue = fixture.durable_queue();
    fixture.set(&json!({"message-deduplication": true, "cache-size": 5}));
    assert_eq!(fixture.publish(&queue), 1);
    fixture.consume_one(&queue);
    assert_eq!(fixture.publish(&queue), 0, "a cache outlives its messages");
    fixture.set(&json!({"message-deduplication": true, "cache-size": 6}));
    assert_eq!(fixture.publish(&queue), 1);
    fixture.set(&json!({"message-deduplication": true, "deduplication-header": "other"}));
    assert_eq!((fixture.publish(&queue), queue.ids()), (2, Some(0)));
}

#[test]
fn an_argument_comes_before_the_policy_and_can_come_later() {
    let fixture = Fixture::new();
    let off = ("x-message-deduplication", AMQPValue::Boolean(false));
    let on = ("x-message-deduplication", AMQPValue::Boolean(true));
    let declare = durable("q", std::slice::from_ref(&off));
    let queue = fixture.declare(declare).unwrap().queue;
    fixture.set(&json!({"message-deduplication": true, "cache-ttl": 60000}));
    assert_eq!(queue.ids(), None);
    let change = |argument| {
        fixture
            .vhost
            .change_queue_arguments("q", table(&[argument]))
    };
    change(on).unwrap();
    assert_eq!((fixture.publish(&queue), fixture.publish(&queue)), (1, 1));
    fixture.consume_one(&queue);
    assert_eq!(
        fixture.publish(&queue),
        1,
        "the argument says nothing of a time"
    );
    change(off).unwrap();
    assert_eq!((fixture.publish(&queue), queue.ids()), (2, None));
    fixture
        .vhost
        .change_queue_arguments("q", table(&[]))
        .unwrap();
    assert_eq!(queue.ids(), Some(0));
}

/// Moves one message, as soon as there is one that can be moved.
fn move_one(fixture: &Fixture, from: &Arc<Queue>, to: &MoveTo) {
    let moved = loop {
        fixture.test.wait(fixture.visit(|_, visit| visit.ticket()));
        let moved = fixture.visit(|vhost, visit| vhost.move_messages(visit, from, to, 1).unwrap());
        if moved.1 != Moving::Loading {
            break moved;
        }
    };
    assert_eq!(moved, (1, Moving::Done), "{to:?}");
}

#[test]
fn a_message_that_is_moved_frees_its_id_and_one_that_stays_keeps_it() {
    let fixture = Fixture::new();
    let on = ("x-message-deduplication", AMQPValue::Boolean(true));
    let queue = fixture.declare(durable("q", &[on])).unwrap().queue;
    fixture.declare(durable("other", &[])).unwrap();
    fixture.publish(&queue);
    let nowhere = MoveTo::Exchange {
        name: "amq.direct".into(),
        routing_key: None,
    };
    let moved = fixture.visit(|vhost, visit| vhost.move_messages(visit, &queue, &nowhere, 1));
    assert_eq!(moved.unwrap(), (0, Moving::Unroutable));
    assert_eq!((fixture.publish(&queue), queue.ids()), (1, Some(1)));
    drop(queue);
    let fixture = fixture.restart();
    let queue = fixture.vhost.queue("q").unwrap();
    assert_eq!((fixture.publish(&queue), queue.ids()), (1, Some(1)));
    let back = MoveTo::Exchange {
        name: "".into(),
        routing_key: Some("q".into()),
    };
    // As one that dies and comes back, it is no duplicate of itself.
    move_one(&fixture, &queue, &back);
    assert_eq!((fixture.publish(&queue), queue.ids()), (1, Some(1)));
    move_one(&fixture, &queue, &MoveTo::Queue("other".into()));
    assert_eq!((queue.counts().ready, queue.ids()), (0, Some(0)));
    drop(queue);
    let fixture = fixture.restart();
    let queue = fixture.vhost.queue("q").unwrap();
    assert_eq!((queue.counts().ready, queue.ids()), (0, Some(0)));
    assert_eq!(fixture.publish(&queue), 1);
}
