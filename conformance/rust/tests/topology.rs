//! Exchanges, queues and bindings: declaring, redeclaring, routing, deleting.

use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, ExchangeKind};
use leveret_conformance::*;

#[tokio::test]
async fn the_default_exchange_routes_by_queue_name() {
    conversation(async |session| {
        let queue = session.queue("queue").await;
        session.fill(&queue, ["1"]).await;
        assert_eq!(session.ready(&queue).await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_direct_exchange_routes_by_equal_key() {
    conversation(async |session| {
        let exchange = session
            .exchange("x", ExchangeKind::Direct, FieldTable::default())
            .await;
        let red = session.bound_queue("red", &exchange, "red").await;
        let both = session.bound_queue("both", &exchange, "red").await;
        session
            .bind(&both, &exchange, "blue", FieldTable::default())
            .await;
        for key in ["red", "blue", "RED"] {
            session.publish(&exchange, key, key).await;
        }
        assert_eq!(session.ready(&red).await, 1);
        assert_eq!(session.ready(&both).await, 2);
    })
    .await;
}

#[tokio::test]
async fn a_fanout_exchange_routes_to_every_queue() {
    conversation(async |session| {
        let exchange = session
            .exchange("x", ExchangeKind::Fanout, FieldTable::default())
            .await;
        let one = session.bound_queue("one", &exchange, "ignored").await;
        let two = session.bound_queue("two", &exchange, "").await;
        session.publish(&exchange, "another", "1").await;
        assert_eq!(session.ready(&one).await, 1);
        assert_eq!(session.ready(&two).await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_topic_exchange_matches_words() {
    conversation(async |session| {
        let exchange = session
            .exchange("x", ExchangeKind::Topic, FieldTable::default())
            .await;
        let rows: [(&str, u32); 6] = [
            ("a.*", 2),
            ("a.#", 4),
            ("#.c", 2),
            ("*.b.*", 1),
            ("#", 6),
            ("a.#.c", 1),
        ];
        for (pattern, _) in rows {
            session.bound_queue(pattern, &exchange, pattern).await;
        }
        for key in ["a", "a.b", "a.b.c", "a.", "c", "aa"] {
            session.publish(&exchange, key, key).await;
        }
        for (pattern, count) in rows {
            assert_eq!(
                session.ready(&session.name(pattern)).await,
                count,
                "{pattern}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn a_headers_exchange_matches_arguments() {
    conversation(async |session| {
        let exchange = session
            .exchange("x", ExchangeKind::Headers, FieldTable::default())
            .await;
        for matching in ["all", "any"] {
            let queue = session.queue(matching).await;
            let arguments = table([
                ("x-match", text(matching)),
                ("a", AMQPValue::LongInt(1)),
                ("b", text("two")),
            ]);
            session.bind(&queue, &exchange, "", arguments).await;
        }
        for (a, b) in [(1, "two"), (1, "three"), (2, "three")] {
            let headers = table([("a", AMQPValue::LongInt(a)), ("b", text(b))]);
            let properties = BasicProperties::default().with_headers(headers);
            session
                .publish_with(
                    &exchange,
                    "",
                    BasicPublishOptions::default(),
                    b"",
                    properties,
                )
                .await;
        }
        assert_eq!(session.ready(&session.name("all")).await, 1);
        assert_eq!(session.ready(&session.name("any")).await, 2);
    })
    .await;
}

#[tokio::test]
async fn exchanges_bind_to_exchanges() {
    conversation(async |session| {
        let source = session
            .exchange("source", ExchangeKind::Topic, FieldTable::default())
            .await;
        let destination = session
            .exchange("destination", ExchangeKind::Fanout, FieldTable::default())
            .await;
        let queue = session.bound_queue("queue", &destination, "").await;
        let ends = || {
            (
                destination.as_str().into(),
                source.as_str().into(),
                "log.#".into(),
            )
        };
        let (to, from, key) = ends();
        let binding =
            session
                .channel
                .exchange_bind(to, from, key, Default::default(), FieldTable::default());
        within(binding).await.unwrap();
        session.publish(&source, "log.info", "1").await;
        session.publish(&source, "other", "2").await;
        assert_eq!(session.ready(&queue).await, 1);
        let (to, from, key) = ends();
        let unbinding = session.channel.exchange_unbind(
            to,
            from,
            key,
            Default::default(),
            FieldTable::default(),
        );
        within(unbinding).await.unwrap();
        session.publish(&source, "log.info", "3").await;
        assert_eq!(session.ready(&queue).await, 1);
    })
    .await;
}

#[tokio::test]
async fn the_alternate_exchange_takes_what_is_unroutable() {
    conversation(async |session| {
        let alternate = session
            .exchange("alternate", ExchangeKind::Fanout, FieldTable::default())
            .await;
        let arguments = table([("alternate-exchange", text(&alternate))]);
        let exchange = session.exchange("x", ExchangeKind::Direct, arguments).await;
        let rest = session.bound_queue("rest", &alternate, "").await;
        session.publish(&exchange, "unknown", "1").await;
        assert_eq!(session.ready(&rest).await, 1);
    })
    .await;
}

#[tokio::test]
async fn unbinding_stops_the_flow() {
    conversation(async |session| {
        let exchange = session
            .exchange("x", ExchangeKind::Direct, FieldTable::default())
            .await;
        let queue = session.bound_queue("queue", &exchange, "key").await;
        session.publish(&exchange, "key", "1").await;
        let (from, to) = (exchange.as_str().into(), queue.as_str().into());
        within(
            session
                .channel
                .queue_unbind(to, from, "key".into(), FieldTable::default()),
        )
        .await
        .unwrap();
        session.publish(&exchange, "key", "2").await;
        assert_eq!(session.ready(&queue).await, 1);
    })
    .await;
}

#[tokio::test]
async fn redeclaring_an_equal_queue_counts() {
    conversation(async |session| {
        let queue = session.queue("queue").await;
        session.fill(&queue, ["1", "2"]).await;
        within(session.channel.basic_qos(1, BasicQosOptions::default()))
            .await
            .unwrap();
        let mut consumer = session.consume(&session.channel, &queue, false).await;
        take(&mut consumer).await;
        let options = QueueDeclareOptions::durable();
        let declaring =
            session
                .channel
                .queue_declare(queue.as_str().into(), options, FieldTable::default());
        let declared = within(declaring).await.unwrap();
        assert_eq!(
            (declared.message_count(), declared.consumer_count()),
            (1, 1)
        );
    })
    .await;
}

#[tokio::test]
async fn redeclaring_an_unequal_queue_is_406() {
    conversation(async |session| {
        let queue = session.queue("queue").await;
        let options = QueueDeclareOptions::durable().auto_delete();
        refused(
            session
                .channel
                .queue_declare(queue.as_str().into(), options, FieldTable::default()),
            406,
            &format!(
                "PRECONDITION_FAILED - inequivalent arg 'auto_delete' for queue '{queue}' \
                 in vhost '/': received 'true' but current is 'false'"
            ),
        )
        .await;
        let channel = open_channel(&session.connection).await;
        let arguments = table([("x-message-ttl", AMQPValue::LongInt(1))]);
        let options = QueueDeclareOptions::durable();
        refused(
            channel.queue_declare(queue.as_str().into(), options, arguments),
            406,
            &format!("inequivalent arg 'x-message-ttl' for queue '{queue}'"),
        )
        .await;
    })
    .await;
}

#[tokio::test]
async fn redeclaring_an_unequal_exchange_is_406() {
    conversation(async |session| {
        let exchange = session
            .exchange("x", ExchangeKind::Direct, FieldTable::default())
            .await;
        let options = ExchangeDeclareOptions {
            durable: true,
            ..Default::default()
        };
        let (name, kind) = (exchange.as_str().into(), ExchangeKind::Fanout);
        refused(
            session
                .channel
                .exchange_declare(name, kind, options, FieldTable::default()),
            406,
            &format!(
                "inequivalent arg 'type' for exchange '{exchange}' in vhost '/': \
                 received 'fanout' but current is 'direct'"
            ),
        )
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_passive_declare_of_something_missing_is_404() {
    conversation(async |session| {
        let options = QueueDeclareOptions::default().passive();
        refused(
            session.channel.queue_declare(
                "conformance.missing".into(),
                options,
                Default::default(),
            ),
            404,
            "NOT_FOUND - no queue 'conformance.missing' in vhost '/'",
        )
        .await;
        let channel = open_channel(&session.connection).await;
        let options = ExchangeDeclareOptions {
            passive: true,
            ..Default::default()
        };
        let (name, kind) = ("conformance.missing".into(), ExchangeKind::Direct);
        refused(
            channel.exchange_declare(name, kind, options, Default::default()),
            404,
            "NOT_FOUND - no exchange 'conformance.missing' in vhost '/'",
        )
        .await;
    })
    .await;
}

#[tokio::test]
async fn deleting_counts_and_takes_conditions() {
    conversation(async |session| {
        let queue = session.queue("queue").await;
        session.fill(&queue, ["1", "2", "3"]).await;
        let channel = open_channel(&session.connection).await;
        let if_empty = QueueDeleteOptions {
            if_empty: true,
            ..Default::default()
        };
        refused(
            channel.queue_delete(queue.as_str().into(), if_empty),
            406,
            &format!("queue '{queue}' in vhost '/' not empty"),
        )
        .await;
        let purging = session
            .channel
            .queue_purge(queue.as_str().into(), Default::default());
        assert_eq!(within(purging).await.unwrap(), 3);
        session.fill(&queue, ["4"]).await;
        for count in [1, 0] {
            let deleting = session
                .channel
                .queue_delete(queue.as_str().into(), Default::default());
            assert_eq!(within(deleting).await.unwrap(), count);
        }
    })
    .await;
}

#[tokio::test]
async fn a_reserved_name_is_403() {
    conversation(async |session| {
        let options = QueueDeclareOptions::durable();
        refused(
            session
                .channel
                .queue_declare("amq.conformance".into(), options, Default::default()),
            403,
            "queue name 'amq.conformance' contains reserved prefix 'amq.*'",
        )
        .await;
    })
    .await;
}
