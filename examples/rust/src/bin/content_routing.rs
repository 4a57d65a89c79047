//! Content-based routing: the publisher says what a message is, bindings say who wants it.
//!
//! A topic exchange matches words of the routing key: `*` is one word, `#` any number. What does not fit into a key
//! goes into headers: here gifts go on to a headers exchange, which is bound to the topic exchange. What nobody wants
//! goes to an alternate exchange instead of being dropped, so that a forgotten binding is found.
//!
//! The demonstration: six orders, and four queues of which each holds exactly what it asked for.

use std::time::Duration;

use anyhow::ensure;
use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::AMQPUri;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};

const ORDERS: &str = "examples.routing.orders";
const GIFTS: &str = "examples.routing.gifts";
const UNWANTED: &str = "examples.routing.unwanted";

const GERMANY: &str = "examples.routing.germany";
const RETURNS: &str = "examples.routing.returns";
const URGENT_GIFTS: &str = "examples.routing.urgent_gifts";
const NOBODYS: &str = "examples.routing.nobodys";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tokio::time::timeout(Duration::from_secs(20), run()).await?
}

async fn run() -> anyhow::Result<()> {
    let connection = connect().await?;
    let channel = connection.create_channel().await?;
    delete(&channel).await?; // the demonstration begins with nothing
    declare(&channel).await?;
    let confirms = ConfirmSelectOptions::default();
    channel.confirm_select(confirms).await?;

    publish(&channel, "order.de.new", &[], "bicycle").await?;
    publish(&channel, "order.de.return", &[], "helmet").await?;
    publish(&channel, "order.fr.return", &[], "lamp").await?;
    publish(&channel, "order.fr.gift", &["urgent", "wrapped"], "bell").await?;
    publish(&channel, "order.fr.gift", &["wrapped"], "card").await?;
    publish(&channel, "order.fr.new", &[], "tyre").await?;

    for (queue, expected) in [
        (GERMANY, ["bicycle", "helmet"].as_slice()),
        (RETURNS, &["helmet", "lamp"]),
        (URGENT_GIFTS, &["bell"]),
        (NOBODYS, &["card", "tyre"]),
    ] {
        let found = take_all(&channel, queue).await?;
        ensure!(found == expected, "{queue}: {found:?}, not {expected:?}");
        println!("seen: {queue} holds {}", found.join(" and "));
    }
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

fn table<const N: usize>(entries: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in entries {
        table.insert(key.into(), value);
    }
    table
}

async fn declare(channel: &Channel) -> anyhow::Result<()> {
    let text = |text: &str| AMQPValue::LongString(text.into());
    let yes = AMQPValue::Boolean(true);
    let none = FieldTable::default();
    let or_unwanted = table([("alternate-exchange", text(UNWANTED))]);
    for (exchange, kind, arguments) in [
        (UNWANTED, ExchangeKind::Fanout, &none),
        (ORDERS, ExchangeKind::Topic, &or_unwanted),
        (GIFTS, ExchangeKind::Headers, &or_unwanted),
    ] {
        let durable = ExchangeDeclareOptions {
            durable: true,
            ..Default::default()
        };
        channel
            .exchange_declare(exchange.into(), kind, durable, arguments.clone())
            .await?;
    }
    let urgent_and_wrapped = table([
        ("x-match", text("all")), // or "any"
        ("urgent", yes.clone()),
        ("wrapped", yes),
    ]);
    for (queue, exchange, key, arguments) in [
        (GERMANY, ORDERS, "order.de.#", &none),
        (RETURNS, ORDERS, "order.*.return", &none),
        (URGENT_GIFTS, GIFTS, "", &urgent_and_wrapped),
        (NOBODYS, UNWANTED, "", &none),
    ] {
        let durable = QueueDeclareOptions::durable();
        channel
            .queue_declare(queue.into(), durable, none.clone())
            .await?;
        let options = QueueBindOptions::default();
        channel
            .queue_bind(
                queue.into(),
                exchange.into(),
                key.into(),
                options,
                arguments.clone(),
            )
            .await?;
    }
    let options = ExchangeBindOptions::default();
    channel
        .exchange_bind(
            GIFTS.into(),
            ORDERS.into(),
            "order.*.gift".into(),
            options,
            none,
        )
        .await?;
    Ok(())
}

async fn delete(channel: &Channel) -> anyhow::Result<()> {
    for queue in [GERMANY, RETURNS, URGENT_GIFTS, NOBODYS] {
        let options = QueueDeleteOptions::default();
        channel.queue_delete(queue.into(), options).await?;
    }
    for exchange in [ORDERS, GIFTS, UNWANTED] {
        let options = ExchangeDeleteOptions::default();
        channel.exchange_delete(exchange.into(), options).await?;
    }
    Ok(())
}

/// Publishes an order and waits for its confirm.
async fn publish(channel: &Channel, key: &str, marks: &[&str], order: &str) -> anyhow::Result<()> {
    let mut headers = FieldTable::default();
    for mark in marks {
        headers.insert((*mark).into(), AMQPValue::Boolean(true));
    }
    let properties = BasicProperties::default()
        .with_headers(headers)
        .with_delivery_mode(2);
    let options = BasicPublishOptions::default();
    let confirm = channel
        .basic_publish(
            ORDERS.into(),
            key.into(),
            options,
            order.as_bytes(),
            properties,
        )
        .await?;
    ensure!(confirm.await?.is_ack(), "the broker has refused {order}");
    Ok(())
}

/// Empties a queue, which a service would do with a consumer.
async fn take_all(channel: &Channel, queue: &str) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    let options = BasicGetOptions::default();
    while let Some(message) = channel.basic_get(queue.into(), options).await? {
        found.push(String::from_utf8(message.data.clone())?);
        message.ack(BasicAckOptions::default()).await?;
    }
    Ok(found)
}
