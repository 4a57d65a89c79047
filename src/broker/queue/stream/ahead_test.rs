//! What is read from the store for readers of a stream, load by load.

use std::sync::Arc;

use amq_protocol::types::{AMQPValue, FieldTable};
use parking_lot::Mutex;

use super::ahead::AHEAD_BYTES_MAX;
use super::filter::Filter;
use super::readers::ReaderSpec;
use super::start::StartAt;
use crate::broker::NOBODY;
use crate::broker::delivery::{Cancellation, ConsumerId, Delivery, DeliverySink};
use crate::broker::loader::LoaderByHand;
use crate::broker::queue::Queue;
use crate::broker::testing::{TestBroker, message};
use crate::broker::vhost::QueueDeclare;
use crate::message::record::{Body, NewMessage};
use crate::message::{Seq, field};

/// Messages of one commit, and the size of their bodies: about what one load brings.
const BATCH: usize = 33;
const BODY_BYTES: usize = 8 * 1024;

const BATCHES: usize = 64;

/// Notes what it is given, and has always room.
#[derive(Default)]
struct Sink(Mutex<Vec<Seq>>);

impl DeliverySink for Sink {
    fn room_bytes(&self) -> usize {
        1 << 20
    }
    fn deliver(&self, deliveries: &[Delivery<'_>]) -> usize {
        let seqs = deliveries.iter().map(|delivery| delivery.seq);
        self.0.lock().extend(seqs);
        deliveries.len()
    }
    fn stall(&self) -> bool {
        false
    }
    fn wake(&self) {}
    fn cancelled(&self, _: Cancellation) {}
}

/// A stream after a restart: what it holds is in the store only, and read when the test says so.
struct World {
    test: TestBroker,
    queue: Arc<Queue>,
    loads: LoaderByHand,
}

struct Consumer {
    id: ConsumerId,
    sink: Arc<Sink>,
}

fn declare(test: &TestBroker) -> Arc<Queue> {
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
    let vhost = test.broker.vhost("/").unwrap();
    let visit = test.broker.services.visit();
    vhost.declare_queue(&visit, declare).unwrap().queue
}

fn properties(value: &str) -> Vec<u8> {
    let mut entries = Vec::new();
    field::put_name(&mut entries, b"x-stream-filter-value");
    field::put_long_string(&mut entries, value.as_bytes());
    let mut properties = vec![0x20, 0];
    properties.extend_from_slice(&(entries.len() as u32).to_be_bytes());
    properties.extend_from_slice(&entries);
    properties
}

impl World {
    /// `value` has the filter value of each batch.
    fn new(value: impl Fn(usize) -> &'static str) -> Self {
        let test = TestBroker::new();
        let queue = declare(&test);
        let body = [7; BODY_BYTES];
        for batch in 0..BATCHES {
            let properties = properties(value(batch));
            let message = NewMessage {
                properties: &properties,
                body: Body::Inline(&body),
                ..message("", "s")
            };
            let visit = test.broker.services.visit();
            queue.publish(&visit, vec![&message; BATCH].into_iter());
            let ticket = visit.ticket();
            drop(visit);
            test.wait(ticket);
        }
        drop(queue);
        let (loader, loads) = LoaderByHand::new();
        let test = test.restart_with(loader);
        let queue = declare(&test);
        Self { test, queue, loads }
    }

    fn consumer(&self, filter: Option<Filter>) -> Consumer {
        let sink = Arc::new(Sink::default());
        let spec = ReaderSpec {
            sink: sink.clone(),
            prefetch: 100_000,
            start: StartAt::First,
            filter,
            track: None,
        };
        let visit = self.test.broker.services.visit();
        let id = self.queue.attach(&visit, spec).unwrap();
        self.queue.activate(&visit, id);
        drop(visit);
        Consumer { id, sink }
    }

    /// Everything that was asked for is read. How many loads is that?
    fn load(&self) -> usize {
        let services = &self.test.broker.services;
        let serve = || self.loads.serve_one(&services.store, &*services.clock);
        std::iter::from_fn(|| serve().then_some(())).count()
    }

    fn resume(&self, consumer: &Consumer) {
        let services = &self.test.broker.services;
        while self.queue.resume(&services.visit(), consumer.id) {}
    }

    /// The consumer reads what there is, and what it asks for is read, in turns. Loads of each turn.
    fn replay(&self, consumer: &Consumer) -> Vec<usize> {
        self.resume(consumer);
        let mut turns = Vec::new();
        loop {
            let loads = self.load();
            if loads == 0 {
                return turns;
            }
            turns.push(loads);
            self.resume(consumer);
        }
    }

    fn resident_bytes(&self) -> usize {
        self.test.broker.services.memory.resident_bytes()
    }
}

fn all() -> Vec<Seq> {
    (1..=(BATCHES * BATCH) as Seq).collect()
}

#[test]
fn the_longer_a_reader_reads_the_more_is_read_ahead_for_it_up_to_a_limit() {
    let world = World::new(|_| "a");
    let consumer = world.consumer(None);
    let turns = world.replay(&consumer);
    assert_eq!(turns[..3], [1, 1, 2], "{turns:?}");
    assert_eq!(turns.iter().max(), Some(&16), "{turns:?}");
    assert_eq!(*consumer.sink.0.lock(), all());
}

#[test]
fn what_one_reader_alone_has_read_takes_no_memory() {
    let world = World::new(|_| "a");
    let consumer = world.consumer(None);
    world.resume(&consumer);
    while world.load() > 0 {
        assert!(world.resident_bytes() < 2 * AHEAD_BYTES_MAX);
        world.resume(&consumer);
    }
    assert_eq!(consumer.sink.0.lock().len(), BATCHES * BATCH);
    assert!(world.resident_bytes() < AHEAD_BYTES_MAX);
}

#[test]
fn readers_at_the_same_place_share_what_is_read() {
    let world = World::new(|_| "a");
    let (ahead, behind) = (world.consumer(None), world.consumer(None));
    let loads: usize = world.replay(&ahead).iter().sum();
    assert!(loads >= BATCHES / 2, "{loads}");
    assert!(world.replay(&behind).is_empty(), "it is all in memory");
    assert_eq!(*behind.sink.0.lock(), all());
}

#[test]
fn what_a_filter_passes_over_is_not_read_ahead() {
    let value = |batch| if batch / 4 == 2 { "wanted" } else { "other" };
    let world = World::new(value);
    let filter = Filter::new([b"wanted".to_vec()], false);
    let consumer = world.consumer(Some(filter));
    let loads: usize = world.replay(&consumer).iter().sum();
    assert!(loads <= 6, "{loads} loads for four batches");
    let wanted = 8 * BATCH + 1..=12 * BATCH;
    let wanted: Vec<Seq> = wanted.map(|seq| seq as Seq).collect();
    assert_eq!(*consumer.sink.0.lock(), wanted);
}

#[test]
fn a_reader_that_is_gone_has_nothing_read_ahead() {
    let world = World::new(|_| "a");
    let consumer = world.consumer(None);
    for _ in 0..4 {
        world.resume(&consumer);
        world.load();
    }
    world.resume(&consumer);
    let services = &world.test.broker.services;
    let visit = services.visit();
    world.queue.cancel(&visit, consumer.id);
    drop(visit);
    assert_eq!(world.load(), 1, "only what was asked for before");
}
