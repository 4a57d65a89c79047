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
        let declare = queue::Declare {
            queue: name.into(),
            ..queue::Declare::default()
        };
        let declare = AMQPClass::Queue(queue::AMQPMethod::Declare(declare));
        self.call(declare).await;
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
    for name in ["q", "copies"] {
        client.queue(name).await;
    }
    let bind = queue::Bind {
        queue: "copies".into(),
        exchange: "amq.rabbitmq.trace".into(),
        routing_key: "#".into(),
        ..queue::Bind::default()
    };
    client
        .call(AMQPClass::Queue(queue::AMQPMethod::Bind(bind)))
        .await;
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
