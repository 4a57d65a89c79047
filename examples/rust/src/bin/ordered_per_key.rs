//! Ordered processing per key: events of one customer are handled in order and one at a time, those of different
//! customers in parallel, by any number of consumers.
//!
//! The queue argument `x-message-group` names a header; messages with the same value of it are a group. While a message
//! of a group is with a consumer the others of that group wait; the next one goes to whichever consumer is free. There
//! are no partitions: consumers come and go as with any queue, and a slow customer holds up no other.
//!
//! RabbitMQ does not know the argument and ignores it: there, order per key needs an x-consistent-hash exchange, and one
//! consumer for each of its queues.
//!
//! The demonstration: six customers with ten events each, three consumers of which one dies on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, ensure};
use futures_lite::StreamExt;
use lapin::message::Delivery;
use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::AMQPUri;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use tokio::sync::watch;
use tokio::task::JoinSet;

const QUEUE: &str = "examples.ordered";
const HEADER: &str = "customer";
const CUSTOMERS: usize = 6;
const EVENTS: usize = 10;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tokio::time::timeout(Duration::from_secs(20), run()).await?
}

async fn run() -> anyhow::Result<()> {
    let connection = connect().await?;
    let channel = connection.create_channel().await?;
    let options = QueueDeleteOptions::default();
    channel.queue_delete(QUEUE.into(), options).await?; // the demonstration begins with nothing
    declare(&channel).await?;

    let journal = Arc::new(Mutex::new(Journal::default()));
    let handled = watch::Sender::new(0);
    let mut workers = JoinSet::new();
    for name in ["dying", "first", "second"] {
        let (connection, consumer) = subscribe().await?;
        let worker = Worker {
            name,
            connection,
            journal: Arc::clone(&journal),
            handled: handled.clone(),
        };
        workers.spawn(worker.run(consumer));
    }
    publish(&channel).await?;
    while let Some(result) = workers.join_next().await {
        result??;
    }
    journal.lock().expect("no worker has panicked").check()?;

    channel.queue_delete(QUEUE.into(), options).await?;
    connection.close(200, "done".into()).await?;
    Ok(())
}

async fn connect() -> anyhow::Result<Connection> {
    let url = std::env::var("AMQP_URL")
        .unwrap_or_else(|_| "amqp://guest:guest@127.0.0.1:5672/".to_owned());
    let mut uri: AMQPUri = url.parse().map_err(anyhow::Error::msg)?;
    if uri.vhost.is_empty() {
        uri.vhost = "/".to_owned(); // what other clients read in a path of "/"
    }
    let properties = ConnectionProperties::default();
    Ok(Connection::connect_uri(uri, properties).await?)
}

async fn declare(channel: &Channel) -> anyhow::Result<()> {
    let mut arguments = FieldTable::default();
    arguments.insert(
        "x-message-group".into(),
        AMQPValue::LongString(HEADER.into()),
    );
    let options = QueueDeclareOptions::durable();
    channel
        .queue_declare(QUEUE.into(), options, arguments)
        .await?;
    Ok(())
}

/// Publishes all events of a customer, then those of the next, and waits for the confirms of all.
async fn publish(channel: &Channel) -> anyhow::Result<()> {
    let confirms = ConfirmSelectOptions::default();
    channel.confirm_select(confirms).await?;
    let mut pending = Vec::new();
    for customer in 0..CUSTOMERS {
        for event in 0..EVENTS {
            let mut headers = FieldTable::default();
            let name = AMQPValue::LongString(format!("customer {customer}").into());
            headers.insert(HEADER.into(), name);
            let properties = BasicProperties::default()
                .with_headers(headers)
                .with_delivery_mode(2);
            let mandatory = BasicPublishOptions {
                mandatory: true,
                ..Default::default()
            };
            let body = event.to_string();
            let sent = channel
                .basic_publish(
                    "".into(),
                    QUEUE.into(),
                    mandatory,
                    body.as_bytes(),
                    properties,
                )
                .await?;
            pending.push(sent);
        }
    }
    for confirm in pending {
        ensure!(confirm.await?.is_ack(), "the broker has refused an event");
    }
    Ok(())
}

/// A consumer with a connection of its own, as another process would have.
async fn subscribe() -> anyhow::Result<(Connection, Consumer)> {
    let connection = connect().await?;
    let channel = connection.create_channel().await?;
    // With a larger prefetch a consumer gets messages of so many groups at a time.
    channel.basic_qos(1, BasicQosOptions::default()).await?;
    let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
    let consumer = channel
        .basic_consume(QUEUE.into(), "".into(), options, none)
        .await?;
    Ok((connection, consumer))
}

struct Worker {
    name: &'static str,
    connection: Connection,
    journal: Arc<Mutex<Journal>>,
    /// How many events all workers have handled.
    handled: watch::Sender<usize>,
}

impl Worker {
    /// Handles events until all are handled. The worker named "dying" goes with its third one unacknowledged.
    async fn run(self, mut consumer: Consumer) -> anyhow::Result<()> {
        let mut handled = self.handled.subscribe();
        let mut own = 0;
        loop {
            let delivery = tokio::select! {
                delivery = consumer.next() => delivery.context("the consumer was cancelled")??,
                _ = handled.wait_for(|handled| *handled == CUSTOMERS * EVENTS) => break,
            };
            if self.name == "dying" && own == 2 {
                break;
            }
            self.handle(&delivery).await?;
            delivery.ack(BasicAckOptions::default()).await?;
            own += 1;
        }
        self.connection.close(200, "done".into()).await?;
        Ok(())
    }

    async fn handle(&self, delivery: &Delivery) -> anyhow::Result<()> {
        let headers = delivery.properties.headers().as_ref();
        let customer = headers
            .and_then(|headers| headers.inner().get(HEADER)?.as_long_string())
            .context("an event without customer")?
            .to_string();
        let event: usize = str::from_utf8(&delivery.data)?.parse()?;
        let locked = || self.journal.lock().expect("no worker has panicked");
        locked().begin(&customer)?;
        tokio::time::sleep(Duration::from_millis(3)).await; // the work
        locked().end(&customer, event, self.name);
        self.handled.send_modify(|handled| *handled += 1);
        Ok(())
    }
}

/// What was handled by whom.
#[derive(Default)]
struct Journal {
    busy: BTreeSet<String>,
    busy_max: usize,
    events: BTreeMap<String, Vec<usize>>,
    workers: BTreeSet<&'static str>,
}

impl Journal {
    fn begin(&mut self, customer: &str) -> anyhow::Result<()> {
        let idle = self.busy.insert(customer.to_owned());
        ensure!(idle, "two events of {customer} at the same time");
        self.busy_max = self.busy_max.max(self.busy.len());
        Ok(())
    }

    fn end(&mut self, customer: &str, event: usize, worker: &'static str) {
        self.busy.remove(customer);
        let events = self.events.entry(customer.to_owned()).or_default();
        events.push(event);
        self.workers.insert(worker);
    }

    fn check(&self) -> anyhow::Result<()> {
        ensure!(self.events.len() == CUSTOMERS, "customers are missing");
        for (customer, events) in &self.events {
            let in_order = events.iter().copied().eq(0..EVENTS);
            ensure!(in_order, "the events of {customer} came as {events:?}");
        }
        println!("seen: each customer's events in order, one at a time");
        ensure!(self.busy_max > 1, "never two customers at the same time");
        println!("seen: {} customers at the same time", self.busy_max);
        ensure!(self.workers.len() == 3, "worked: {:?}", self.workers);
        println!("seen: the order held when a worker died with an event");
        Ok(())
    }
}
