//! Retries with exponential back-off, done by the broker: the consumer rejects, and the message comes again later.
//!
//! `x-delayed-retry-type` has a queue hold back what failed, here for 100, 200 and 400 ms; `x-delivery-limit` says how
//! often it may fail before it is dead-lettered. No waiting queues, no publishing by the consumer, no moment in which a
//! crash doubles the message (compare retry_ladder). A job that kills its consumer counts as failed too.
//!
//! A job that can never succeed is rejected without requeue instead, and is dead-lettered at once.
//!
//! The demonstration: a job that fails twice is done at the third attempt; one that always fails and one that kills its
//! consumer are dead after four attempts; one that makes no sense is dead after one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures_lite::StreamExt;
use lapin::message::Delivery;
use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::AMQPUri;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};

const WORK: &str = "examples.delayed_retry.work";
const DEAD: &str = "examples.delayed_retry.dead";
const WAITS_MS: [u128; 3] = [100, 200, 400];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tokio::time::timeout(Duration::from_secs(20), run()).await?
}

async fn run() -> anyhow::Result<()> {
    let connection = connect().await?;
    let channel = connection.create_channel().await?;
    delete(&channel).await?; // the demonstration begins with nothing
    declare(&channel).await?;
    for job in ["flaky", "broken", "killer", "nonsense"] {
        publish(&channel, job).await?;
    }

    let mut attempts = Attempts::default();
    while count(&channel, DEAD).await? < 3 {
        work(&channel, &mut attempts).await?;
    }
    attempts.check()?;
    let mut dead = take_dead(&channel).await?;
    dead.sort();
    let expected = [
        "broken: delivery_limit",
        "killer: delivery_limit",
        "nonsense: rejected",
    ];
    ensure!(dead == expected, "dead are {dead:?}");
    println!("seen: dead are {}", dead.join(", "));

    delete(&channel).await?;
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
    let text = |text: &str| AMQPValue::LongString(text.into());
    let mut arguments = FieldTable::default();
    for (name, value) in [
        ("x-delayed-retry-type", text("failed")),
        ("x-delayed-retry-min", AMQPValue::LongInt(100)),
        ("x-delayed-retry-max", AMQPValue::LongInt(400)),
        ("x-delayed-retry-multiplier", AMQPValue::LongInt(2)),
        ("x-delivery-limit", AMQPValue::LongInt(3)),
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text(DEAD)),
    ] {
        arguments.insert(name.into(), value);
    }
    for (queue, arguments) in [(DEAD, FieldTable::default()), (WORK, arguments)] {
        let durable = QueueDeclareOptions::durable();
        channel
            .queue_declare(queue.into(), durable, arguments)
            .await?;
    }
    let confirms = ConfirmSelectOptions::default();
    channel.confirm_select(confirms).await?;
    Ok(())
}

async fn delete(channel: &Channel) -> anyhow::Result<()> {
    for queue in [WORK, DEAD] {
        let options = QueueDeleteOptions::default();
        channel.queue_delete(queue.into(), options).await?;
    }
    Ok(())
}

async fn publish(channel: &Channel, job: &str) -> anyhow::Result<()> {
    let persistent = BasicProperties::default().with_delivery_mode(2);
    let mandatory = BasicPublishOptions {
        mandatory: true,
        ..Default::default()
    };
    let confirm = channel
        .basic_publish(
            "".into(),
            WORK.into(),
            mandatory,
            job.as_bytes(),
            persistent,
        )
        .await?;
    ensure!(confirm.await?.is_ack(), "the broker has refused {job}");
    Ok(())
}

async fn count(channel: &Channel, queue: &str) -> anyhow::Result<u32> {
    let passive = QueueDeclareOptions::default().passive();
    let declared = channel
        .queue_declare(queue.into(), passive, FieldTable::default())
        .await?;
    Ok(declared.message_count())
}

/// Handles jobs until one kills this consumer, or three are dead.
async fn work(observer: &Channel, attempts: &mut Attempts) -> anyhow::Result<()> {
    let connection = connect().await?;
    let mut consumer = subscribe(&connection).await?;
    while count(observer, DEAD).await? < 3 {
        let next = tokio::time::timeout(Duration::from_millis(20), consumer.next());
        let Ok(delivery) = next.await else { continue };
        let delivery = delivery.context("the consumer was cancelled")??;
        let attempt = attempts.note(&delivery)?;
        match (delivery.data.as_slice(), attempt) {
            (b"flaky", 3) => delivery.ack(BasicAckOptions::default()).await?,
            (b"flaky" | b"broken", _) => {
                let later = BasicRejectOptions { requeue: true };
                delivery.reject(later).await?
            }
            (b"killer", _) => break,
            _ => {
                let never = BasicRejectOptions { requeue: false };
                delivery.reject(never).await?
            }
        };
    }
    connection.close(200, "done".into()).await?;
    Ok(())
}

async fn subscribe(connection: &Connection) -> anyhow::Result<Consumer> {
    let channel = connection.create_channel().await?;
    // With more than one job at a time, those beside a job that kills the consumer would count as failed as well.
    channel.basic_qos(1, BasicQosOptions::default()).await?;
    let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
    let consumer = channel
        .basic_consume(WORK.into(), "".into(), options, none)
        .await?;
    Ok(consumer)
}

/// Empties the queue of the dead: each job with the reason of its death.
async fn take_dead(channel: &Channel) -> anyhow::Result<Vec<String>> {
    let mut dead = Vec::new();
    let options = BasicGetOptions::default();
    while let Some(message) = channel.basic_get(DEAD.into(), options).await? {
        let job = String::from_utf8(message.data.clone())?;
        let reason = header(&message.delivery, "x-first-death-reason")
            .and_then(|reason| reason.as_long_string())
            .context("a dead letter without reason")?;
        dead.push(format!("{job}: {reason}"));
        message.ack(BasicAckOptions::default()).await?;
    }
    Ok(dead)
}

fn header<'a>(delivery: &'a Delivery, name: &str) -> Option<&'a AMQPValue> {
    let headers = delivery.properties.headers().as_ref()?;
    headers.inner().get(name)
}

/// When each job was tried.
#[derive(Default)]
struct Attempts(BTreeMap<String, Vec<Instant>>);

impl Attempts {
    /// Says which attempt this is, and that the broker counts the same.
    fn note(&mut self, delivery: &Delivery) -> anyhow::Result<usize> {
        let job = String::from_utf8(delivery.data.clone())?;
        let times = self.0.entry(job).or_default();
        times.push(Instant::now());
        let failed =
            header(delivery, "x-delivery-count").and_then(|count| count.as_long_long_int());
        ensure!(
            failed.unwrap_or(0) == times.len() as i64 - 1,
            "attempt {} came with x-delivery-count {failed:?}",
            times.len()
        );
        Ok(times.len())
    }

    fn check(&self) -> anyhow::Result<()> {
        for (job, expected) in [("flaky", 3), ("broken", 4), ("killer", 4), ("nonsense", 1)] {
            let times = self.0.get(job).context("a job is missing")?;
            ensure!(times.len() == expected, "{job}: {} attempts", times.len());
            let waits = times.windows(2).map(|pair| (pair[1] - pair[0]).as_millis());
            for (waited, least) in waits.zip(WAITS_MS) {
                // The broker counts in whole milliseconds.
                ensure!(waited + 1 >= least, "{job} came after {waited} ms already");
            }
            println!("seen: {job} was tried {expected} times");
        }
        println!("seen: each attempt has waited at least 100, 200 and 400 ms");
        Ok(())
    }
}
