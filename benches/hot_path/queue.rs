//! A visit to a queue: records are appended, delivered into an outbox, and settled.

use std::sync::Arc;

use divan::Bencher;
use divan::counter::ItemsCount;
use leveret::amqp::consumer::ChannelConsumer;
use leveret::amqp::outbox::Outbox;
use leveret::amqp::outbox::deliveries::Source;
use leveret::broker::delivery::ConsumerId;
use leveret::broker::queue::{ConsumerSpec, Queue};
use leveret::message::record::NewMessage;

use super::fixture::{BATCH, Fixture, message, outbox};

/// A queue with consumers on one channel.
struct Consumed {
    fixture: Fixture,
    queue: Arc<Queue>,
    outbox: Arc<Outbox>,
}

impl Consumed {
    fn new(durable: bool, no_ack: bool, consumers: usize) -> Self {
        let fixture = Fixture::new();
        let queue = fixture.queue("queue", durable);
        let outbox = outbox();
        for _ in 0..consumers {
            consume(&fixture, &queue, &outbox, no_ack);
        }
        Self {
            fixture,
            queue,
            outbox,
        }
    }

    /// Publishes a batch, which goes to the consumers at once, and writes what the outbox got to nowhere.
    fn publish(&self, messages: &[NewMessage<'_>]) {
        let visit = self.fixture.services.visit();
        self.queue.publish(&visit, messages.iter());
        drop(visit);
        let written = self.outbox.take_buffer();
        self.outbox.written(written.len());
    }

    /// Acknowledges all that was delivered.
    fn acknowledge(&self) {
        let shares = match self.outbox.lock().split(1) {
            Some((_, deliveries)) => deliveries.take_all(),
            None => Vec::new(),
        };
        for share in shares {
            let visit = self.fixture.services.visit();
            self.queue
                .settle(&visit, share.source.consumer, &share.seqs);
        }
    }
}

fn consume(fixture: &Fixture, queue: &Arc<Queue>, outbox: &Arc<Outbox>, no_ack: bool) {
    let source = match outbox.lock().split(1) {
        Some((_, deliveries)) => deliveries.add_source(Source {
            queue: queue.clone(),
            consumer: ConsumerId::NONE,
        }),
        None => 0,
    };
    let sink = ChannelConsumer::new(outbox, 1, "consumer".into(), no_ack, source, queue);
    let spec = ConsumerSpec {
        sink: sink.clone(),
        no_ack,
        exclusive: false,
        priority: 0,
        prefetch: 0,
        timeout_ms: None,
    };
    let visit = fixture.services.visit();
    let (id, _) = queue
        .subscribe(&visit, spec)
        .expect("a queue without consumers");
    sink.registered(id);
    if let Some((_, deliveries)) = outbox.lock().split(1) {
        deliveries.set_consumer(source, id);
    }
    queue.activate(&visit, id);
}

/// Without acknowledgements, to this number of consumers.
#[divan::bench(args = [1, 10])]
fn transient_auto_ack(bencher: Bencher<'_, '_>, consumers: usize) {
    let consumed = Consumed::new(false, true, consumers);
    let messages = vec![message(&[7; 16], false); BATCH];
    bencher
        .counter(ItemsCount::new(BATCH))
        .bench_local(|| consumed.publish(&messages));
}

/// With bodies of this size, each batch acknowledged before the next.
#[divan::bench(args = [16, 1024])]
fn transient_acknowledged(bencher: Bencher<'_, '_>, body_bytes: usize) {
    let consumed = Consumed::new(false, false, 1);
    let body = vec![7; body_bytes];
    let messages = vec![message(&body, false); BATCH];
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        consumed.publish(&messages);
        consumed.acknowledge();
    });
}

/// The same in a durable queue: the store thread gathers meanwhile, on another core.
#[divan::bench(args = [16, 1024])]
fn durable_acknowledged(bencher: Bencher<'_, '_>, body_bytes: usize) {
    let consumed = Consumed::new(true, false, 1);
    let body = vec![7; body_bytes];
    let messages = vec![message(&body, true); BATCH];
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        consumed.publish(&messages);
        consumed.acknowledge();
    });
}

/// Nobody consumes: what a batch costs to keep. The queue is emptied in between.
#[divan::bench(args = [16, 1024])]
fn transient_publish_only(bencher: Bencher<'_, '_>, body_bytes: usize) {
    let fixture = Fixture::new();
    let queue = fixture.queue("queue", false);
    let body = vec![7; body_bytes];
    let messages = vec![message(&body, false); BATCH];
    bencher
        .counter(ItemsCount::new(BATCH))
        .with_inputs(|| queue.purge(&fixture.services.visit()))
        .bench_local_values(|_| {
            queue.publish(&fixture.services.visit(), messages.iter());
        });
}
