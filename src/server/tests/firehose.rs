//! What a client publishes, gets and consumes comes out of the firehose.

use amq_protocol::protocol::{basic, channel, queue};

use super::*;
use crate::broker::queue::GetOutcome;
use crate::broker::vhost::VHost;

impl Client {
    async fn call(&mut self, method: AMQPClass) -> AMQPClass {
        self.send_on(1, method).await;
        self.receive_any().await
    }

    async fn queue(&mut self, name: &str) {
        self.queue_with(name, FieldTable::default()).await;
    }

    async fn queue_with(&mut self, name: &str, arguments: FieldTable) {
        let declare = queue::Declare {
            queue: name.into(),
            arguments,
            ..queue::Declare::default()
        };
        let declare = AMQPClass::Queue(queue::AMQPMethod::Declare(declare));
        self.call(declare).await;
    }

    async fn watch_everything(&mut self) {
        self.queue("copies").await;
        let bind = queue::Bind {
            queue: "copies".into(),
            exchange: "amq.rabbitmq.trace".into(),
            routing_key: "#".into(),
            ..queue::Bind::default()
        };
        self.call(AMQPClass::Queue(queue::AMQPMethod::Bind(bind)))
            .await;
    }

    /// Gets an empty message that waits for its acknowledgement.
    async fn get(&mut self, name: &str) -> u64 {
        let get = basic::Get {
            queue: name.into(),
            no_ack: false,
        };
        let got = self
            .call(AMQPClass::Basic(basic::AMQPMethod::Get(get)))
            .await;
        let AMQPClass::Basic(basic::AMQPMethod::GetOk(got)) = got else {
            panic!("{got:?}");
        };
        let mut head = [0; 7];
        self.stream.read_exact(&mut head).await.unwrap();
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
        let mut content_header = vec![0; size as usize + 1];
        self.stream.read_exact(&mut content_header).await.unwrap();
        got.delivery_tag
    }

    async fn tell(&mut self, method: basic::AMQPMethod) {
        self.send_on(1, AMQPClass::Basic(method)).await;
    }

    async fn publish(&mut self, routing_key: &str) {
        let publish = basic::Publish {
            routing_key: routing_key.into(),
            ..basic::Publish::default()
        };
        let mut bytes = Vec::new();
        let publish = AMQPClass::Basic(basic::AMQPMethod::Publish(publish));
        frame::put_method(&mut bytes, 1, &publish);
        frame::put_content_header(&mut bytes, 1, 0, &[0, 0]);
        self.stream.write_all(&bytes).await.unwrap();
    }
}

/// The routing key of the next copy, which another thread brings.
async fn next_copy(broker: &Broker, vhost: &VHost) -> String {
    let copies = vhost.queue("copies").unwrap();
    loop {
        let got = copies.get(&broker.services.visit(), true, |delivery, _| {
            String::from_utf8_lossy(delivery.record.routing_key()).into_owned()
        });
        match got {
            GetOutcome::Message(routing_key) => return routing_key,
            _ => tokio::task::yield_now().await,
        }
    }
}

#[tokio::test]
async fn publishes_and_deliveries_are_copied_while_tracing_is_on() {
    let data = tempfile::tempdir().unwrap();
    let running = Running::start(data.path()).await;
    let vhost = running.broker.vhost("/").unwrap();
    let mut client = running.connect().await.open("guest", "guest").await;
    let open = channel::AMQPMethod::Open(channel::Open {});
    client.call(AMQPClass::Channel(open)).await;
    client.queue("q").await;
    client.watch_everything().await;
    client.publish("q").await;
    // An answer: the publish before it went through while tracing was off.
    client.queue("q").await;
    vhost
        .set_tracing(&running.broker.services.visit(), true)
        .unwrap();
    client.publish("nowhere").await;
    let get = basic::Get {
        queue: "q".into(),
        no_ack: true,
    };
    client
        .call(AMQPClass::Basic(basic::AMQPMethod::Get(get)))
        .await;
    let consume = basic::Consume {
        queue: "q".into(),
        no_ack: true,
        ..basic::Consume::default()
    };
    let consume = AMQPClass::Basic(basic::AMQPMethod::Consume(consume));
    client.send_on(1, consume).await;
    client.publish("q").await;
    for expected in ["publish.", "deliver.q", "publish.", "deliver.q"] {
        assert_eq!(next_copy(&running.broker, &vhost).await, expected);
    }
    drop(vhost);
    running.stop().await;
}

#[tokio::test]
async fn the_ends_of_deliveries_are_copied_too() {
    let data = tempfile::tempdir().unwrap();
    let running = Running::start(data.path()).await;
    let vhost = running.broker.vhost("/").unwrap();
    let mut client = running.connect().await.open("guest", "guest").await;
    let open = channel::AMQPMethod::Open(channel::Open {});
    client.call(AMQPClass::Channel(open)).await;
    let mut arguments = FieldTable::default();
    let dead_letters = AMQPValue::LongString("".into());
    arguments.insert("x-dead-letter-exchange".into(), dead_letters);
    let to_copies = AMQPValue::LongString("dead".into());
    arguments.insert("x-dead-letter-routing-key".into(), to_copies);
    client.queue_with("q", arguments).await;
    client.watch_everything().await;
    vhost
        .set_tracing(&running.broker.services.visit(), true)
        .unwrap();
    client.publish("q").await;
    let delivery_tag = client.get("q").await;
    let nack = basic::AMQPMethod::Nack(basic::Nack {
        delivery_tag,
        multiple: false,
        requeue: true,
    });
    client.tell(nack).await;
    let delivery_tag = client.get("q").await;
    let reject = basic::AMQPMethod::Reject(basic::Reject {
        delivery_tag,
        requeue: false,
    });
    client.tell(reject).await;
    client.publish("q").await;
    let delivery_tag = client.get("q").await;
    let ack = basic::AMQPMethod::Ack(basic::Ack {
        delivery_tag,
        multiple: false,
    });
    client.tell(ack).await;
    client.publish("q").await;
    client.get("q").await;
    let close = channel::AMQPMethod::Close(channel::Close {
        reply_code: 200,
        reply_text: "".into(),
        class_id: 0,
        method_id: 0,
    });
    client.call(AMQPClass::Channel(close)).await;
    let mut keys = Vec::new();
    for _ in 0..12 {
        keys.push(next_copy(&running.broker, &vhost).await);
    }
    // Another thread moves dead letters, at its own time.
    let dead = keys.iter().position(|key| key == "dead_letter.q").unwrap();
    assert!(keys.iter().position(|key| key == "reject.q").unwrap() < dead);
    keys.remove(dead);
    let expected = [
        "publish.",
        "deliver.q",
        "requeue.q",
        "deliver.q",
        "reject.q",
        "publish.",
        "deliver.q",
        "ack.q",
        "publish.",
        "deliver.q",
        "requeue.q",
    ];
    assert_eq!(keys, expected);
    drop(vhost);
    running.stop().await;
}
