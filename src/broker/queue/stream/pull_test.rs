//! A reader of a stream whose messages are only in the store, while memory is short.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use amq_protocol::types::{AMQPValue, FieldTable};

use super::readers::ReaderSpec;
use super::start::StartAt;
use crate::broker::NOBODY;
use crate::broker::delivery::{Cancellation, Delivery, DeliverySink};
use crate::broker::queue::Queue;
use crate::broker::testing::{TestBroker, message};
use crate::broker::vhost::QueueDeclare;

/// Counts what it is given, and how often it is woken.
#[derive(Default)]
struct Sink {
    taken: AtomicUsize,
    woken: AtomicUsize,
}

impl DeliverySink for Sink {
    fn room_bytes(&self) -> usize {
        1 << 20
    }
    fn deliver(&self, deliveries: &[Delivery<'_>]) -> usize {
        self.taken.fetch_add(deliveries.len(), Ordering::AcqRel);
        deliveries.len()
    }
    fn stall(&self) -> bool {
        false
    }
    fn wake(&self) {
        self.woken.fetch_add(1, Ordering::AcqRel);
    }
    fn cancelled(&self, _: Cancellation) {}
}

fn publish(test: &TestBroker, queue: &Arc<Queue>, count: usize) {
    let visit = test.broker.services.visit();
    queue.publish(&visit, vec![&message("", "s"); count].into_iter());
    let ticket = visit.ticket();
    drop(visit);
    test.wait(ticket);
}

#[test]
fn what_was_read_back_for_a_reader_is_there_when_it_comes() {
    // Every piece is too much.
    let test = TestBroker::with_memory(1);
    let vhost = test.broker.vhost("/").unwrap();
    let services = &test.broker.services;
    let mut arguments = FieldTable::default();
    let kind = AMQPValue::LongString("stream".into());
    arguments.insert("x-queue-type".into(), kind);
    let declare = QueueDeclare {
        name: "s".into(),
        server_named: false,
        durable: true,
        exclusive: false,
        auto_delete: false,
        arguments,
        connection: NOBODY,
    };
    let queue = vhost
        .declare_queue(&services.visit(), declare)
        .unwrap()
        .queue;
    for count in [3, 1] {
        publish(&test, &queue, count);
    }
    let sink = Arc::new(Sink::default());
    let spec = ReaderSpec {
        sink: sink.clone(),
        prefetch: 100,
        start: StartAt::First,
        filter: None,
        track: None,
    };
    let id = queue.attach(&services.visit(), spec).unwrap();
    queue.activate(&services.visit(), id);
    let mut taken = 0;
    let start = Instant::now();
    for wakes in 1.. {
        while sink.woken.load(Ordering::Acquire) < wakes {
            assert!(start.elapsed() < Duration::from_secs(30), "{taken} came");
            std::thread::yield_now();
        }
        queue.resume(&services.visit(), id);
        let now = sink.taken.load(Ordering::Acquire);
        assert!(now > taken, "it was woken for nothing");
        taken = now;
        if taken == 4 {
            break;
        }
    }
}
