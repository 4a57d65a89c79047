//! The conversations: a publisher, a consumer, and what they agree on.

use amq_protocol::protocol::{AMQPClass, basic, confirm, exchange, queue};
use amq_protocol::types::FieldTable;
use bytes::Bytes;
use leveret::amqp::frame::{self, DeliverHead};

use super::broker::{Broker, FRAME_BYTES_MAX};
use super::wire::Wire;

/// Messages that are published before the next wait.
const BATCH: usize = 1_000;

/// Deliveries that are acknowledged at once.
const ACKNOWLEDGED: usize = 200;

const CONSUMER_TAG: &str = "consumer";

/// Both sides of a load.
pub(crate) struct Conversation {
    pub(crate) name: &'static str,
    publisher: Wire,
    consumer: Wire,
    queues: usize,
    confirmed: bool,
    acknowledged: bool,
    /// What the publisher sends in a batch.
    batch: Bytes,
    /// Bytes of one delivery.
    delivery_bytes: usize,
    counts: Counts,
}

/// How far both sides have come.
#[derive(Default)]
struct Counts {
    published: std::cell::Cell<usize>,
    heard: std::cell::Cell<usize>,
}

impl Conversation {
    /// Transient, 16 bytes, from one publisher to one consumer that acknowledges nothing.
    pub(crate) fn transient_auto_ack(broker: &Broker) -> Self {
        let load = Load {
            name: "transient 16 B, auto-ack",
            exchange: "",
            queues: 1,
            body_bytes: 16,
            durable: false,
            acknowledged: false,
        };
        load.open(broker)
    }

    /// Persistent, 1 KiB, with confirms and acknowledgements.
    pub(crate) fn durable_confirmed(broker: &Broker) -> Self {
        let load = Load {
            name: "durable 1 KiB, confirms, acks",
            exchange: "",
            queues: 1,
            body_bytes: 1024,
            durable: true,
            acknowledged: true,
        };
        load.open(broker)
    }

    /// Transient, 256 bytes, to ten queues through a fanout exchange.
    pub(crate) fn fanout(broker: &Broker) -> Self {
        let load = Load {
            name: "fanout to 10, 256 B, auto-ack",
            exchange: "ten",
            queues: 10,
            body_bytes: 256,
            durable: false,
            acknowledged: false,
        };
        load.open(broker)
    }

    /// Deliveries that so many messages make.
    pub(crate) const fn deliveries(&self, messages: usize) -> usize {
        messages * self.queues
    }

    /// Publishes that many messages, a whole number of batches, and waits after each until all is delivered, and
    /// acknowledged and confirmed where the row says so.
    pub(crate) fn run(&self, broker: &Broker, messages: usize) {
        broker.runtime.block_on(async {
            for _ in 0..messages.div_ceil(BATCH) {
                self.publisher.say(self.batch.clone()).await;
                self.consume().await;
                let published = self.counts.published.get() + BATCH;
                self.counts.published.set(published);
                if self.confirmed {
                    let is_last = |frame: &[u8]| confirmed_tag(frame) == Some(published as u64);
                    self.publisher.hear_last(is_last).await;
                }
            }
        });
    }

    async fn consume(&self) {
        let heard = self.counts.heard.get();
        let before = self.deliveries(self.counts.published.get());
        let deliveries = self.deliveries(BATCH);
        let step = if self.acknowledged {
            ACKNOWLEDGED
        } else {
            deliveries
        };
        for done in (step..=deliveries).step_by(step) {
            self.consumer.hear(heard + done * self.delivery_bytes).await;
            if self.acknowledged {
                self.consumer
                    .say(acknowledgement((before + done) as u64))
                    .await;
            }
        }
        let heard = heard + deliveries * self.delivery_bytes;
        assert_eq!(self.consumer.heard_bytes(), heard, "{}", self.name);
        self.counts.heard.set(heard);
    }
}

/// What a conversation is about.
struct Load {
    name: &'static str,
    exchange: &'static str,
    queues: usize,
    body_bytes: usize,
    durable: bool,
    acknowledged: bool,
}

impl Load {
    fn open(&self, broker: &Broker) -> Conversation {
        let (publisher, consumer) = (broker.connect(), broker.connect());
        if !self.exchange.is_empty() {
            let declare = exchange::Declare {
                exchange: self.exchange.into(),
                kind: "fanout".into(),
                ..Default::default()
            };
            let declare = exchange::AMQPMethod::Declare(declare);
            broker.call(&consumer, AMQPClass::Exchange(declare));
        }
        for number in 0..self.queues {
            self.consume(broker, &consumer, number);
        }
        if self.acknowledged {
            let select = confirm::AMQPMethod::Select(confirm::Select { nowait: false });
            broker.call(&publisher, AMQPClass::Confirm(select));
        }
        let heard = consumer.heard_bytes();
        let conversation = Conversation {
            name: self.name,
            publisher,
            consumer,
            queues: self.queues,
            confirmed: self.acknowledged,
            acknowledged: self.acknowledged,
            batch: self.batch(),
            delivery_bytes: self.delivery_bytes(),
            counts: Counts::default(),
        };
        conversation.counts.heard.set(heard);
        conversation
    }

    fn queue(&self, number: usize) -> String {
        format!(
            "{}-{number}",
            if self.durable { "durable" } else { "transient" }
        )
    }

    fn consume(&self, broker: &Broker, consumer: &Wire, number: usize) {
        let queue_name = format!("{}{}", self.exchange, self.queue(number));
        let declare = queue::Declare {
            queue: queue_name.as_str().into(),
            durable: self.durable,
            ..Default::default()
        };
        broker.call(
            consumer,
            AMQPClass::Queue(queue::AMQPMethod::Declare(declare)),
        );
        if !self.exchange.is_empty() {
            let bind = queue::Bind {
                queue: queue_name.as_str().into(),
                exchange: self.exchange.into(),
                ..Default::default()
            };
            broker.call(consumer, AMQPClass::Queue(queue::AMQPMethod::Bind(bind)));
        }
        let consume = basic::Consume {
            queue: queue_name.as_str().into(),
            consumer_tag: self.consumer_tag(number).as_str().into(),
            no_ack: !self.acknowledged,
            arguments: FieldTable::default(),
            ..Default::default()
        };
        broker.call(
            consumer,
            AMQPClass::Basic(basic::AMQPMethod::Consume(consume)),
        );
    }

    fn consumer_tag(&self, number: usize) -> String {
        format!("{CONSUMER_TAG}-{number}")
    }

    const fn properties(&self) -> &'static [u8] {
        // delivery_mode
        if self.durable { &[0x10, 0, 2] } else { &[0, 0] }
    }

    /// The key that a publisher uses: the queue's name for the default exchange.
    fn routing_key(&self) -> String {
        match self.exchange {
            "" => self.queue(0),
            _ => String::new(),
        }
    }

    fn batch(&self) -> Bytes {
        let publish = basic::Publish {
            exchange: self.exchange.into(),
            routing_key: self.routing_key().as_str().into(),
            ..Default::default()
        };
        let publish = AMQPClass::Basic(basic::AMQPMethod::Publish(publish));
        let mut bytes = Vec::new();
        for _ in 0..BATCH {
            frame::put_method(&mut bytes, 1, &publish);
            self.put_content(&mut bytes);
        }
        bytes.into()
    }

    fn delivery_bytes(&self) -> usize {
        let mut bytes = Vec::new();
        let (consumer_tag, routing_key) = (self.consumer_tag(0), self.routing_key());
        let head = DeliverHead {
            channel: 1,
            consumer_tag: consumer_tag.as_bytes(),
            delivery_tag: 1,
            redelivered: false,
            exchange: self.exchange.as_bytes(),
            routing_key: routing_key.as_bytes(),
        };
        frame::put_deliver(&mut bytes, &head);
        self.put_content(&mut bytes);
        bytes.len()
    }

    fn put_content(&self, bytes: &mut Vec<u8>) {
        frame::put_content_header(bytes, 1, self.body_bytes as u64, self.properties());
        frame::put_body(
            bytes,
            1,
            &vec![7; self.body_bytes],
            FRAME_BYTES_MAX as usize,
        );
    }
}

/// basic.ack of everything up to `tag`.
fn acknowledgement(tag: u64) -> Bytes {
    let mut bytes = Vec::new();
    frame::put_confirm(&mut bytes, 1, true, tag, true);
    bytes.into()
}

/// The tag of a confirm at the end of what the broker wrote.
fn confirmed_tag(frame: &[u8]) -> Option<u64> {
    let payload = frame.get(7..20)?;
    let tag = payload.strip_prefix(&[0, 60, 0, 80])?.first_chunk::<8>()?;
    Some(u64::from_be_bytes(*tag))
}
