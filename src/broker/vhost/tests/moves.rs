//! When consumers get what the broker itself moves into a queue.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::*;
use crate::broker::queue::{ConsumerSpec, GetOutcome};

impl Taker {
    fn taken(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn await_all(&self, count: usize) {
        let start = Instant::now();
        while self.taken() < count {
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "{}",
                self.taken()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn durable(fixture: &Fixture, arguments: &[(&str, AMQPValue)]) -> Arc<Queue> {
    let declare = QueueDeclare {
        durable: true,
        arguments: table(arguments),
        ..transient("q")
    };
    fixture.declare(declare).unwrap().queue
}

/// A consumer of the queue whose marks of deliveries are on disk.
fn consume(fixture: &Fixture, queue: &Arc<Queue>) -> Arc<Taker> {
    let taker = Arc::<Taker>::default();
    let spec = ConsumerSpec {
        sink: taker.clone(),
        no_ack: false,
        exclusive: false,
        priority: 0,
        prefetch: 0,
        timeout_ms: None,
    };
    let (id, ticket) = fixture
        .visit(|_, visit| queue.subscribe(visit, spec))
        .unwrap();
    fixture.test.wait(ticket);
    fixture.visit(|_, visit| queue.activate(visit, id));
    taker
}

fn moved(visit: &Visit<'_>, queue: &Arc<Queue>, change: impl Fn(NewMessage<'_>) -> NewMessage<'_>) {
    let message = change(NewMessage {
        persistent: true,
        properties: b"\x10\x00\x02",
        ..message("", "q")
    });
    queue.take_over(visit, std::iter::once(&message), true);
}

/// A visit that lasts keeps its epoch from ending.
#[test]
fn nobody_gets_a_message_whose_move_is_not_on_disk() {
    let fixture = Fixture::new();
    let queue = durable(&fixture, &[]);
    let taker = consume(&fixture, &queue);
    let visit = fixture.test.broker.services.visit();
    moved(&visit, &queue, |message| message);
    moved(&visit, &queue, |message| message);
    assert_eq!(taker.taken(), 0);
    assert_eq!(queue.counts().ready, 2);
    // What comes after it keeps its place.
    let message = message("", "q");
    queue.publish(&visit, std::iter::once(&message));
    assert_eq!(taker.taken(), 0);
    let got = queue.get(&visit, true, |_, _| ());
    assert!(matches!(got, GetOutcome::Unsaved(_)), "{got:?}");
    drop(visit);
    taker.await_all(3);
    let got = fixture.visit(|_, visit| queue.get(visit, true, |_, _| ()));
    assert!(matches!(got, GetOutcome::Empty), "{got:?}");
}

#[test]
fn a_move_does_not_keep_other_priorities_waiting() {
    let fixture = Fixture::new();
    let queue = durable(&fixture, &[("x-max-priority", AMQPValue::LongInt(5))]);
    let taker = consume(&fixture, &queue);
    let visit = fixture.test.broker.services.visit();
    moved(&visit, &queue, |message| NewMessage {
        priority: 4,
        ..message
    });
    let message = message("", "q");
    queue.publish(&visit, std::iter::once(&message));
    assert_eq!(taker.taken(), 1);
    drop(visit);
    taker.await_all(2);
}

#[test]
fn what_no_crash_brings_back_goes_at_once() {
    let fixture = Fixture::new();
    let queue = durable(&fixture, &[]);
    let taker = consume(&fixture, &queue);
    let visit = fixture.test.broker.services.visit();
    moved(&visit, &queue, |message| NewMessage {
        persistent: false,
        ..message
    });
    assert_eq!(taker.taken(), 1);
    // Its time ends with the visit: now or never.
    moved(&visit, &queue, |message| NewMessage {
        expiry_ms: visit.now_ms(),
        ..message
    });
    assert_eq!(taker.taken(), 2);
}
