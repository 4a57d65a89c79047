//! Connections, names and waiting, shared by all lapin conformance tests.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Mutex;
use std::time::Duration;

use futures_lite::{FutureExt, StreamExt};
use lapin::message::{BasicGetMessage, Delivery};
use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::AMQPUri;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer, Error,
    ErrorKind, ExchangeKind,
};

/// Bounds everything that a test waits for.
pub const WAIT: Duration = Duration::from_secs(10);

/// The broker's address, from `AMQP_URL`.
pub fn address() -> AMQPUri {
    let url = std::env::var("AMQP_URL")
        .unwrap_or_else(|_| "amqp://guest:guest@127.0.0.1:5672/".to_owned());
    let mut uri: AMQPUri = url.parse().expect("AMQP_URL is an AMQP address");
    if uri.vhost.is_empty() {
        uri.vhost = "/".to_owned(); // lapin reads a path of "/" as a vhost with an empty name
    }
    uri
}

/// Waits for what the broker must answer.
pub async fn within<T>(waiting: impl Future<Output = T>) -> T {
    match tokio::time::timeout(WAIT, waiting).await {
        Ok(value) => value,
        Err(_) => panic!("waited {WAIT:?} in vain"),
    }
}

/// Polls what the broker does on its own, for which it sends no reply.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + WAIT;
    while !condition().await {
        assert!(
            tokio::time::Instant::now() < deadline,
            "waited {WAIT:?} in vain: {what}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub async fn connect(uri: AMQPUri) -> lapin::Result<Connection> {
    within(Connection::connect_uri(
        uri,
        ConnectionProperties::default(),
    ))
    .await
}

/// A field table with these entries.
pub fn table<const N: usize>(entries: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in entries {
        table.insert(key.into(), value);
    }
    table
}

/// A long string, the usual type of text in a table.
pub fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

/// A connection with two channels, and unique names that are deleted after the test.
pub struct Session {
    pub connection: Connection,
    pub channel: Channel,
    /// A confirming channel: what it has published is in the queues.
    pub publisher: Channel,
    prefix: String,
    queues: Mutex<Vec<String>>,
    exchanges: Mutex<Vec<String>>,
}

/// Runs a test with a session, and cleans up also when it fails.
pub async fn conversation(test: impl AsyncFnOnce(&Session)) {
    let session = Session::open().await;
    let outcome = AssertUnwindSafe(test(&session)).catch_unwind().await;
    session.close().await;
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
}

impl Session {
    async fn open() -> Self {
        let connection = connect(address()).await.expect("the broker answers");
        let channel = open_channel(&connection).await;
        let publisher = open_channel(&connection).await;
        within(publisher.confirm_select(ConfirmSelectOptions::default()))
            .await
            .expect("confirm.select-ok");
        let mut octets = [0; 6];
        getrandom::fill(&mut octets).expect("the system gives random numbers");
        Self {
            connection,
            channel,
            publisher,
            prefix: format!("conformance.rust.{octets:02x?}").replace(['[', ']', ',', ' '], ""),
            queues: Mutex::default(),
            exchanges: Mutex::default(),
        }
    }

    pub fn name(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.prefix)
    }

    /// Has a queue deleted after the test.
    pub fn delete_queue_afterwards(&self, queue: &str) {
        self.queues.lock().unwrap().push(queue.to_owned());
    }

    /// Has an exchange deleted after the test.
    pub fn delete_exchange_afterwards(&self, exchange: &str) {
        self.exchanges.lock().unwrap().push(exchange.to_owned());
    }

    /// Declares a durable queue.
    pub async fn queue_with(&self, suffix: &str, arguments: FieldTable) -> String {
        let queue = self.name(suffix);
        self.delete_queue_afterwards(&queue);
        let options = QueueDeclareOptions::durable();
        within(
            self.channel
                .queue_declare(queue.as_str().into(), options, arguments),
        )
        .await
        .expect("queue.declare-ok");
        queue
    }

    pub async fn queue(&self, suffix: &str) -> String {
        self.queue_with(suffix, FieldTable::default()).await
    }

    /// Declares a durable exchange.
    pub async fn exchange(
        &self,
        suffix: &str,
        kind: ExchangeKind,
        arguments: FieldTable,
    ) -> String {
        let exchange = self.name(suffix);
        self.delete_exchange_afterwards(&exchange);
        let options = ExchangeDeclareOptions {
            durable: true,
            ..Default::default()
        };
        within(
            self.channel
                .exchange_declare(exchange.as_str().into(), kind, options, arguments),
        )
        .await
        .expect("exchange.declare-ok");
        exchange
    }

    pub async fn bind(&self, queue: &str, exchange: &str, key: &str, arguments: FieldTable) {
        let options = QueueBindOptions::default();
        within(self.channel.queue_bind(
            queue.into(),
            exchange.into(),
            key.into(),
            options,
            arguments,
        ))
        .await
        .expect("queue.bind-ok");
    }

    pub async fn bound_queue(&self, suffix: &str, exchange: &str, key: &str) -> String {
        let queue = self.queue(suffix).await;
        self.bind(&queue, exchange, key, FieldTable::default())
            .await;
        queue
    }

    /// Publishes and waits for the confirm.
    pub async fn publish_with(
        &self,
        exchange: &str,
        key: &str,
        options: BasicPublishOptions,
        body: &[u8],
        properties: BasicProperties,
    ) -> Confirmation {
        let publishing =
            self.publisher
                .basic_publish(exchange.into(), key.into(), options, body, properties);
        let confirm = within(publishing).await.expect("the message is sent");
        let confirmation = within(confirm).await.expect("a confirm");
        assert!(confirmation.is_ack(), "{confirmation:?}");
        confirmation
    }

    pub async fn publish(&self, exchange: &str, key: &str, body: &str) {
        let options = BasicPublishOptions::default();
        self.publish_with(
            exchange,
            key,
            options,
            body.as_bytes(),
            BasicProperties::default(),
        )
        .await;
    }

    pub async fn fill<const N: usize>(&self, queue: &str, bodies: [&str; N]) {
        for body in bodies {
            self.publish("", queue, body).await;
        }
    }

    /// The number of messages that wait for a consumer.
    pub async fn ready(&self, queue: &str) -> u32 {
        let options = QueueDeclareOptions::default().passive();
        let asking = self
            .publisher
            .queue_declare(queue.into(), options, FieldTable::default());
        within(asking)
            .await
            .expect("queue.declare-ok")
            .message_count()
    }

    pub async fn get(&self, channel: &Channel, queue: &str) -> Option<BasicGetMessage> {
        within(channel.basic_get(queue.into(), BasicGetOptions::default()))
            .await
            .expect("basic.get-ok or basic.get-empty")
    }

    pub async fn consume(&self, channel: &Channel, queue: &str, no_ack: bool) -> Consumer {
        let options = BasicConsumeOptions {
            no_ack,
            ..Default::default()
        };
        let arguments = FieldTable::default();
        within(channel.basic_consume(queue.into(), "".into(), options, arguments))
            .await
            .expect("basic.consume-ok")
    }

    /// Whether a queue exists, asked on a channel of its own, which a 404 closes.
    pub async fn exists(&self, queue: &str) -> bool {
        let channel = open_channel(&self.connection).await;
        let options = QueueDeclareOptions::default().passive();
        let asking = channel.queue_declare(queue.into(), options, FieldTable::default());
        match within(asking).await {
            Ok(_) => {
                close_channel(&channel).await;
                true
            }
            Err(error) => {
                expect_close(&error, 404, "no queue");
                false
            }
        }
    }

    async fn close(self) {
        // Some tests have the connection closed by the broker. A channel that a test has
        // dropped closes itself; as long as it does, lapin refuses to close the connection.
        eventually("the connection closes", async || {
            !self.connection.status().connected()
                || within(self.connection.close(200, "done".into()))
                    .await
                    .is_ok()
        })
        .await;
        let cleaning = connect(address()).await.expect("the broker answers");
        let channel = open_channel(&cleaning).await;
        for queue in self
            .queues
            .into_inner()
            .expect("no test panics while it names a queue")
        {
            let deleting = channel.queue_delete(queue.into(), QueueDeleteOptions::default());
            within(deleting).await.expect("queue.delete-ok");
        }
        for exchange in self
            .exchanges
            .into_inner()
            .expect("nor while it names an exchange")
        {
            let deleting =
                channel.exchange_delete(exchange.into(), ExchangeDeleteOptions::default());
            within(deleting).await.expect("exchange.delete-ok");
        }
        within(cleaning.close(200, "done".into()))
            .await
            .expect("connection.close-ok");
    }
}

pub async fn open_channel(connection: &Connection) -> Channel {
    within(connection.create_channel())
        .await
        .expect("channel.open-ok")
}

pub async fn close_channel(channel: &Channel) {
    within(channel.close(200, "done".into()))
        .await
        .expect("channel.close-ok");
}

/// The next delivery of a consumer.
pub async fn take(consumer: &mut Consumer) -> Delivery {
    within(consumer.next())
        .await
        .expect("the consumer goes on")
        .expect("a delivery")
}

/// Takes one delivery for each of `bodies`.
pub async fn expect_bodies<const N: usize>(
    consumer: &mut Consumer,
    bodies: [&str; N],
) -> Vec<Delivery> {
    let mut received = Vec::new();
    for body in bodies {
        let delivery = take(consumer).await;
        assert_eq!(String::from_utf8_lossy(&delivery.data), body);
        received.push(delivery);
    }
    received
}

/// Checks the code and the text with which the broker closed a channel or connection.
pub fn expect_close(error: &Error, code: u16, text: &str) {
    let ErrorKind::ProtocolError(close) = error.kind() else {
        panic!("not closed by the broker: {error:?}");
    };
    assert_eq!(close.get_id(), code, "{close:?}");
    assert!(close.get_message().as_str().contains(text), "{close:?}");
}

/// Expects that the broker closes something because of this operation.
pub async fn refused<T>(operation: impl Future<Output = lapin::Result<T>>, code: u16, text: &str) {
    match within(operation).await {
        Ok(_) => panic!("succeeded, expected a close with code {code}"),
        Err(error) => expect_close(&error, code, text),
    }
}
