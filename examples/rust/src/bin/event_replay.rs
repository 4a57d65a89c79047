//! Event replay: events are kept in a stream, and read again whenever a view of them is to be built anew.
//!
//! A stream (`x-queue-type`: `stream`) keeps its messages when they are consumed, up to `x-max-age` or
//! `x-max-length-bytes`. Each has an offset, which never changes and comes as the header `x-stream-offset`; a consumer
//! says with the argument of that name where it begins: "first", "last", "next", an offset, or a time.
//!
//! A view stores the offset of the next event in the same transaction as what the event has changed: after a crash it
//! goes on exactly there. An acknowledgement deletes nothing, it only lets the broker send more.
//!
//! The demonstration: a view stops on the way and goes on where it was; a second view is built from the beginning; a
//! listener hears only what is new.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use futures_lite::StreamExt;
use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::AMQPUri;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};

const STREAM: &str = "examples.events";
const EVENTS: u64 = 1000;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tokio::time::timeout(Duration::from_secs(20), run()).await?
}

async fn run() -> anyhow::Result<()> {
    let connection = connect().await?;
    let channel = connection.create_channel().await?;
    let options = QueueDeleteOptions::default();
    channel.queue_delete(STREAM.into(), options).await?; // the demonstration begins with nothing
    declare(&channel).await?;
    publish(&channel, 0..EVENTS).await?;

    let mut balances = View::default();
    let deposit = |account: &mut u64, amount| *account += amount;
    balances.follow(&connection, EVENTS / 3, deposit).await?;
    ensure!(balances.next == EVENTS / 3, "stopped at {}", balances.next);
    balances.follow(&connection, EVENTS, deposit).await?;
    let expected = accounts((0..EVENTS).map(|number| (number, number)));
    ensure!(balances.accounts == expected, "{:?}", balances.accounts);
    println!("seen: a view that stopped has gone on with the next event");

    let mut counts = View::default();
    let count = |account: &mut u64, _| *account += 1;
    counts.follow(&connection, EVENTS, count).await?;
    let expected = accounts((0..EVENTS).map(|number| (number, 1)));
    ensure!(counts.accounts == expected, "{:?}", counts.accounts);
    println!("seen: a second view was built from the same events");

    let mut listener = consume(&connection, AMQPValue::LongString("next".into())).await?;
    publish(&channel, EVENTS..EVENTS + 3).await?;
    for expected in EVENTS..EVENTS + 3 {
        let event = next(&mut listener).await?;
        ensure!(event.offset == expected, "heard {event:?}");
    }
    println!("seen: a listener heard of new events only");

    channel.queue_delete(STREAM.into(), options).await?;
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
    arguments.insert("x-queue-type".into(), text("stream"));
    arguments.insert("x-max-age".into(), text("7D")); // older events may go, in large pieces
    let durable = QueueDeclareOptions::durable();
    channel
        .queue_declare(STREAM.into(), durable, arguments)
        .await?;
    let confirms = ConfirmSelectOptions::default();
    channel.confirm_select(confirms).await?;
    Ok(())
}

/// Publishes one event for each number: a deposit of that amount.
async fn publish(channel: &Channel, numbers: std::ops::Range<u64>) -> anyhow::Result<()> {
    let mut pending = Vec::new();
    for number in numbers {
        let event = format!("{} {number}", account(number));
        let persistent = BasicProperties::default().with_delivery_mode(2);
        let options = BasicPublishOptions::default();
        let sent = channel
            .basic_publish(
                "".into(),
                STREAM.into(),
                options,
                event.as_bytes(),
                persistent,
            )
            .await?;
        pending.push(sent);
    }
    for confirm in pending {
        ensure!(confirm.await?.is_ack(), "the broker has refused an event");
    }
    Ok(())
}

fn account(number: u64) -> &'static str {
    ["Ada", "Bob", "Cleo"][(number % 3) as usize]
}

/// The sums by account of what the event of each number counts for.
fn accounts(events: impl Iterator<Item = (u64, u64)>) -> BTreeMap<String, u64> {
    let mut accounts = BTreeMap::new();
    for (number, amount) in events {
        *accounts.entry(account(number).to_owned()).or_default() += amount;
    }
    accounts
}

async fn consume(connection: &Connection, offset: AMQPValue) -> anyhow::Result<Consumer> {
    let channel = connection.create_channel().await?;
    // A stream wants a prefetch, and acknowledgements.
    channel.basic_qos(100, BasicQosOptions::default()).await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-stream-offset".into(), offset);
    let options = BasicConsumeOptions::default();
    let consumer = channel
        .basic_consume(STREAM.into(), "".into(), options, arguments)
        .await?;
    Ok(consumer)
}

#[derive(Debug)]
struct Event {
    offset: u64,
    account: String,
    amount: u64,
}

async fn next(consumer: &mut Consumer) -> anyhow::Result<Event> {
    let delivery = consumer
        .next()
        .await
        .context("the consumer was cancelled")??;
    let headers = delivery.properties.headers().as_ref();
    let offset = headers
        .and_then(|headers| headers.inner().get("x-stream-offset")?.as_long_long_int())
        .context("an event without offset")?;
    let text = str::from_utf8(&delivery.data)?;
    let (account, amount) = text.split_once(' ').context("an event without amount")?;
    let event = Event {
        offset: offset.try_into()?,
        account: account.to_owned(),
        amount: amount.parse()?,
    };
    delivery.ack(BasicAckOptions::default()).await?;
    Ok(event)
}

/// What is derived from the events; both fields would be written in one transaction.
#[derive(Default)]
struct View {
    /// Offset of the next event.
    next: u64,
    accounts: BTreeMap<String, u64>,
}

impl View {
    /// Takes all events before the offset `end` into account that were not before.
    async fn follow(
        &mut self,
        connection: &Connection,
        end: u64,
        apply: impl Fn(&mut u64, u64),
    ) -> anyhow::Result<()> {
        let from = AMQPValue::LongLongInt(self.next.try_into()?);
        let mut consumer = consume(connection, from).await?;
        while self.next < end {
            let event = next(&mut consumer).await?;
            ensure!(
                event.offset == self.next,
                "{event:?} instead of {}",
                self.next
            );
            let account = self.accounts.entry(event.account).or_default();
            apply(account, event.amount);
            self.next = event.offset + 1;
        }
        Ok(())
    }
}
