//! connection.update-secret after the permissions of the user changed.

use amq_protocol::protocol::connection::UpdateSecret;
use amq_protocol::protocol::{basic, channel, queue};

use super::*;
use crate::auth::Permissions;

const QUEUE: &str = "read";

/// guest may configure and write everything, and read what matches `read`.
fn permit_reading(broker: &Broker, read: &str) {
    let permissions = Permissions {
        configure: ".*".into(),
        write: ".*".into(),
        read: read.into(),
    };
    let visit = broker.services.visit();
    let mut push = |op| {
        visit.push(op);
    };
    let auth = &broker.auth;
    let changed = auth.set_permissions(&mut push, "guest", "/", &permissions);
    changed.unwrap();
}

impl Client {
    /// Opens channel 1 and consumes from an exclusive queue as `c`.
    async fn with_consumer(mut self) -> Self {
        let open = channel::AMQPMethod::Open(channel::Open {});
        self.send_on(1, AMQPClass::Channel(open)).await;
        self.receive_any().await;
        let declare = queue::Declare {
            queue: QUEUE.into(),
            exclusive: true,
            ..queue::Declare::default()
        };
        let declare = AMQPClass::Queue(queue::AMQPMethod::Declare(declare));
        self.send_on(1, declare).await;
        self.receive_any().await;
        self.consume().await;
        self
    }

    async fn consume(&mut self) {
        let consume = basic::Consume {
            queue: QUEUE.into(),
            consumer_tag: "c".into(),
            ..basic::Consume::default()
        };
        let consume = AMQPClass::Basic(basic::AMQPMethod::Consume(consume));
        self.send_on(1, consume).await;
        let answer = self.receive_any().await;
        let AMQPClass::Basic(basic::AMQPMethod::ConsumeOk(_)) = answer else {
            panic!("{answer:?}")
        };
    }

    async fn update_secret(&mut self) {
        let update = UpdateSecret {
            new_secret: "another".into(),
            reason: "rotation".into(),
        };
        self.send(AMQPMethod::UpdateSecret(update)).await;
    }

    async fn expect_update_secret_ok(&mut self) {
        let answer = self.receive().await;
        let AMQPMethod::UpdateSecretOk(_) = answer else {
            panic!("{answer:?}")
        };
    }

    async fn expect_no_access(&mut self) {
        let answer = self.receive().await;
        let AMQPMethod::Close(close) = answer else {
            panic!("{answer:?}")
        };
        assert_eq!(close.reply_code, 530);
        let expected = "NOT_ALLOWED - access to vhost '/' refused for user 'guest'";
        assert_eq!(close.reply_text.as_str(), expected);
        assert_eq!((close.class_id, close.method_id), (10, 70));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_end_whose_queue_may_not_be_read_any_more() {
    let data = tempfile::tempdir().unwrap();
    let broker = Running::start(data.path()).await;
    let client = broker.connect().await.open("guest", "guest").await;
    let mut client = client.with_consumer().await;

    permit_reading(&broker.broker, "other");
    client.update_secret().await;
    let answer = client.receive_any().await;
    let AMQPClass::Basic(basic::AMQPMethod::Cancel(cancel)) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(cancel.consumer_tag.as_str(), "c");
    client.expect_update_secret_ok().await;

    // The consumer has left the queue, and its tag is free.
    permit_reading(&broker.broker, QUEUE);
    client.consume().await;
    let vhost = broker.broker.vhost("/").unwrap();
    assert_eq!(vhost.queue(QUEUE).unwrap().counts().consumers, 1);
    drop((client, vhost));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_of_readable_queues_go_on() {
    let data = tempfile::tempdir().unwrap();
    let broker = Running::start(data.path()).await;
    let client = broker.connect().await.open("guest", "guest").await;
    let mut client = client.with_consumer().await;
    permit_reading(&broker.broker, QUEUE);
    client.update_secret().await;
    client.expect_update_secret_ok().await;
    drop(client);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_without_permissions_in_the_vhost_loses_the_connection() {
    let data = tempfile::tempdir().unwrap();
    let broker = Running::start(data.path()).await;
    let mut client = broker.connect().await.open("guest", "guest").await;
    {
        let visit = broker.broker.services.visit();
        let mut push = |op| {
            visit.push(op);
        };
        let cleared = broker
            .broker
            .auth
            .clear_permissions(&mut push, "guest", "/");
        cleared.unwrap();
    }
    client.update_secret().await;
    client.expect_no_access().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_that_was_deleted_loses_the_connection() {
    let data = tempfile::tempdir().unwrap();
    let broker = Running::start(data.path()).await;
    let mut client = broker.connect().await.open("guest", "guest").await;
    {
        let visit = broker.broker.services.visit();
        let mut push = |op| {
            visit.push(op);
        };
        broker.broker.auth.delete_user(&mut push, "guest").unwrap();
    }
    client.update_secret().await;
    client.expect_no_access().await;
    broker.stop().await;
}
