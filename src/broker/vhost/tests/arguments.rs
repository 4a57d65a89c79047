//! Arguments of queues that are there, replaced.

use std::sync::atomic::Ordering;

use serde_json::json;

use super::*;
use crate::broker::arguments::QueueType;
use crate::broker::delivery::ConsumerId;
use crate::broker::policy::{Policy, PolicyKind};
use crate::broker::queue::{ConsumerSpec, GetOutcome};
use crate::message::record::Body;

fn number(number: i32) -> AMQPValue {
    AMQPValue::LongInt(number)
}

impl Fixture {
    fn change(&self, name: &str, arguments: &[(&str, AMQPValue)]) -> Result<Ticket, Error> {
        self.vhost.change_queue_arguments(name, table(arguments))
    }

    fn put(&self, queue: &Arc<Queue>, body: &str, priority: u8) {
        let message = NewMessage {
            body: Body::Inline(body.as_bytes()),
            priority,
            ..message("", body)
        };
        self.visit(|_, visit| queue.publish(visit, std::iter::once(&message)));
    }

    /// The next message and where it stands: it is gone then, or stays unacknowledged.
    fn take(&self, queue: &Arc<Queue>, no_ack: bool) -> Option<(String, u64)> {
        let got = self.visit(|_, visit| {
            queue.get(visit, no_ack, |delivery, _| {
                let body = String::from_utf8_lossy(delivery.body_bytes()).into_owned();
                (body, delivery.seq)
            })
        });
        match got {
            GetOutcome::Message(message) => Some(message),
            _ => None,
        }
    }

    fn drain(&self, queue: &Arc<Queue>) -> Vec<String> {
        let taken = std::iter::from_fn(|| self.take(queue, true));
        taken.map(|(body, _)| body).collect()
    }

    fn consume(&self, queue: &Arc<Queue>) -> Arc<Taker> {
        let taker = Arc::<Taker>::default();
        let spec = ConsumerSpec {
            sink: taker.clone(),
            no_ack: true,
            exclusive: false,
            priority: 0,
            prefetch: 0,
            timeout_ms: None,
        };
        let (id, _) = self.visit(|_, visit| queue.subscribe(visit, spec)).unwrap();
        self.visit(|_, visit| queue.activate(visit, id));
        taker
    }
}

#[test]
fn other_arguments_hold_at_once_for_declarations_and_after_a_restart() {
    let fixture = Fixture::new();
    let former = [("x-max-length", number(9))];
    let queue = fixture.declare(durable("q", &former)).unwrap().queue;
    for body in ["a", "b", "c", "d"] {
        fixture.put(&queue, body, 0);
    }
    fixture.vhost.pause_queue("q", true).unwrap();
    let arguments = [("x-max-length", number(2)), ("x-expires", number(60_000))];
    let ticket = fixture.change("q", &arguments).unwrap();
    assert_eq!(queue.counts().ready, 2);
    let is_equivalent = |fixture: &Fixture| {
        assert!(!fixture.declare(durable("q", &arguments)).unwrap().created);
        refused(
            fixture.declare(durable("q", &former)),
            "inequivalent arg 'x-expires' for queue 'q' in vhost '/': received none but current is the value '60000' \
             of type 'signedint'",
        );
    };
    is_equivalent(&fixture);
    fixture.test.wait(ticket);
    drop(queue);
    let fixture = fixture.restart();
    is_equivalent(&fixture);
    let queue = fixture.vhost.queue("q").unwrap();
    assert!(queue.is_paused());
    let settings = queue.settings();
    assert_eq!(
        (settings.max_length, settings.expires_ms),
        (Some(2), Some(60_000))
    );
    fixture.change("q", &[]).unwrap();
    assert_eq!(queue.settings().max_length, None);
}

#[test]
fn policies_still_hold_beside_other_arguments() {
    let fixture = Fixture::new();
    let queue = fixture.queue("q");
    let source = json!({"pattern": "", "definition": {"max-length": 5, "message-ttl": 1000}});
    let policy = Policy::parse(PolicyKind::User, "p", source.as_object().unwrap()).unwrap();
    fixture.vhost.set_policy(PolicyKind::User, policy).unwrap();
    let lengths = [(3, 3), (9, 5)];
    for (argument, expected) in lengths {
        let arguments = [("x-max-length", number(argument))];
        fixture.change("q", &arguments).unwrap();
        assert_eq!(queue.settings().max_length, Some(expected));
        assert_eq!(queue.settings().message_ttl_ms, Some(1000));
    }
}

#[test]
fn what_a_declaration_refuses_and_what_is_decided_at_birth_changes_nothing() {
    let fixture = Fixture::new();
    let queue = fixture.declare(durable("q", &[])).unwrap().queue;
    let kept = ("x-max-length", number(7));
    fixture.change("q", std::slice::from_ref(&kept)).unwrap();
    let cases = [
        (
            ("x-message-ttl", number(-1)),
            "invalid arg 'x-message-ttl' for queue 'q' in vhost '/': {value_negative,-1}",
        ),
        (
            ("x-max-age", text("1D")),
            "invalid arg 'x-max-age' for queue 'q' in vhost '/' of queue type rabbit_classic_queue",
        ),
        (
            ("x-queue-type", text("quorum")),
            "arg 'x-queue-type' of queue 'q' in vhost '/' cannot be changed: the type decides how messages are kept",
        ),
    ];
    for (argument, expected) in cases {
        refused(fixture.change("q", &[argument]), expected);
        assert_eq!(queue.settings().max_length, Some(7));
        fixture
            .declare(durable("q", std::slice::from_ref(&kept)))
            .unwrap();
    }
    refused(fixture.change("none", &[]), "no queue 'none' in vhost '/'");
}

#[test]
fn the_default_type_is_said_for_who_says_none() {
    let fixture = Fixture::new();
    let quorum = ("x-queue-type", text("quorum"));
    let declare = durable("q", std::slice::from_ref(&quorum));
    fixture.declare(declare).unwrap();
    let limit = ("x-delivery-limit", number(3));
    refused(
        fixture.change("q", std::slice::from_ref(&limit)),
        "arg 'x-queue-type' of queue 'q' in vhost '/' cannot be changed: the type decides how messages are kept",
    );
    let set = |vhost: &VHost, visit: &Visit<'_>| {
        vhost.set_default_queue_type(visit, Some(QueueType::Quorum))
    };
    fixture.visit(set).unwrap();
    fixture.change("q", std::slice::from_ref(&limit)).unwrap();
    fixture
        .declare(durable("q", &[limit.clone(), quorum]))
        .unwrap();
    let declared = fixture.declare(durable("q", &[limit])).unwrap();
    assert_eq!(declared.queue.settings().delivery_limit, Some(3));
}

#[test]
fn priorities_begin_and_end_with_the_messages_that_come_next() {
    let fixture = Fixture::new();
    let queue = fixture.queue("q");
    fixture.put(&queue, "before", 9);
    fixture
        .change("q", &[("x-max-priority", number(5))])
        .unwrap();
    fixture.put(&queue, "low", 1);
    fixture.put(&queue, "high", 9);
    assert_eq!(fixture.take(&queue, true).unwrap().0, "high");
    fixture.change("q", &[]).unwrap();
    fixture.put(&queue, "after", 9);
    assert_eq!(fixture.drain(&queue), ["low", "before", "after"]);
}

#[test]
fn one_consumer_is_the_active_one_as_long_as_the_arguments_say_so() {
    let fixture = Fixture::new();
    let queue = fixture.queue("q");
    let takers = [fixture.consume(&queue), fixture.consume(&queue)];
    let put = |count: usize| {
        let before = takers
            .each_ref()
            .map(|taker| taker.0.load(Ordering::Relaxed));
        for _ in 0..count {
            fixture.put(&queue, "m", 0);
        }
        let counts = [0, 1].map(|at| takers[at].0.load(Ordering::Relaxed) - before[at]);
        assert_eq!(queue.counts().ready, 0);
        counts
    };
    assert_eq!(put(4), [2, 2]);
    let single = [("x-single-active-consumer", AMQPValue::Boolean(true))];
    fixture.change("q", &single).unwrap();
    assert_eq!(put(4), [4, 0]);
    fixture.change("q", &[]).unwrap();
    assert_eq!(put(4), [2, 2]);
}

#[test]
fn groups_begin_while_nothing_is_with_a_consumer_and_end_at_any_time() {
    let fixture = Fixture::new();
    let queue = fixture.queue("q");
    let grouped = [("x-message-group", text("customer"))];
    let one_group = NewMessage {
        properties: b"\x20\x00\0\0\0\x0f\x08customerS\0\0\0\x01a",
        ..message("", "q")
    };
    let put = || fixture.visit(|_, visit| queue.publish(visit, [&one_group; 2].into_iter()));
    let settle = |seqs: &[u64]| {
        fixture.visit(|_, visit| queue.settle(visit, ConsumerId::NONE, seqs));
    };
    put();
    let (_, first) = fixture.take(&queue, false).unwrap();
    let (_, second) = fixture.take(&queue, false).unwrap();
    let busy = "arg 'x-message-group' of queue 'q' in vhost '/' cannot be changed: messages are with consumers or wait \
                for a retry";
    refused(fixture.change("q", &grouped), busy);
    assert_eq!(queue.settings().message_group, None);
    settle(&[first, second]);
    fixture.change("q", &grouped).unwrap();
    put();
    put();
    let (_, first) = fixture.take(&queue, false).unwrap();
    assert_eq!(fixture.take(&queue, false), None, "its group is busy");
    let other = [("x-message-group", text("order"))];
    refused(fixture.change("q", &other), busy);
    settle(&[first]);
    fixture.change("q", &[]).unwrap();
    let rest = std::iter::from_fn(|| fixture.take(&queue, false));
    assert_eq!(rest.count(), 3, "nothing waits for a group any more");
}
