//! Publishing: confirms, returns, properties and bodies of every size.

use lapin::BasicProperties;
use lapin::options::*;
use lapin::types::{AMQPValue, DecimalValue, FieldArray, FieldTable};
use leveret_conformance::*;

const PLAIN: BasicPublishOptions = BasicPublishOptions {
    mandatory: false,
    immediate: false,
};

#[tokio::test]
async fn a_confirm_means_that_the_message_is_in_the_queue() {
    conversation(async |session| {
        let queue = session.queue("queue").await;
        let persistent = BasicProperties::default().with_delivery_mode(2);
        session
            .publish_with("", &queue, PLAIN, b"1", persistent)
            .await;
        assert_eq!(session.ready(&queue).await, 1);
    })
    .await;
}

#[tokio::test]
async fn every_one_of_many_is_confirmed_and_their_order_kept() {
    conversation(async |session| {
        let queue = session.queue("queue").await;
        let persistent = BasicProperties::default().with_delivery_mode(2);
        let mut confirms = Vec::new();
        for number in 0..1000_u32 {
            let (body, properties) = (number.to_be_bytes(), persistent.clone());
            let publishing = session.publisher.basic_publish(
                "".into(),
                queue.as_str().into(),
                PLAIN,
                &body,
                properties,
            );
            confirms.push(within(publishing).await.unwrap());
        }
        for confirm in confirms {
            assert!(within(confirm).await.unwrap().is_ack());
        }
        assert_eq!(session.ready(&queue).await, 1000);
        let mut consumer = session.consume(&session.channel, &queue, true).await;
        for number in 0..1000_u32 {
            assert_eq!(take(&mut consumer).await.data, number.to_be_bytes());
        }
    })
    .await;
}

#[tokio::test]
async fn a_mandatory_message_that_is_unroutable_comes_back_before_its_confirm() {
    conversation(async |session| {
        let mandatory = BasicPublishOptions {
            mandatory: true,
            ..PLAIN
        };
        let properties = BasicProperties::default().with_message_id("m".into());
        let key = session.name("nowhere");
        // lapin joins a return with the confirm that follows it.
        let confirmation = session
            .publish_with("amq.direct", &key, mandatory, b"body", properties)
            .await;
        let returned = confirmation.take_message().expect("the message came back");
        assert_eq!(
            (returned.reply_code, returned.reply_text.as_str()),
            (312, "NO_ROUTE")
        );
        assert_eq!(returned.exchange.as_str(), "amq.direct");
        assert_eq!(returned.routing_key.as_str(), key);
        assert_eq!(
            returned
                .properties
                .message_id()
                .as_ref()
                .map(|id| id.as_str()),
            Some("m")
        );
        assert_eq!(returned.data, b"body");
        let confirmation = session
            .publish_with("amq.direct", &key, PLAIN, b"", Default::default())
            .await;
        assert_eq!(confirmation.take_message(), None);
    })
    .await;
}

#[tokio::test]
async fn a_body_of_any_size_arrives_unchanged() {
    conversation(async |session| {
        let queue = session.queue("queue").await;
        let mut consumer = session.consume(&session.channel, &queue, true).await;
        let payload = session.connection.configuration().frame_max() as usize - 8;
        for size in [0, 1, payload, payload + 1, 1 << 20] {
            let body: Vec<u8> = (0..size).map(|position| (position % 251) as u8).collect();
            session
                .publish_with("", &queue, PLAIN, &body, Default::default())
                .await;
            assert!(take(&mut consumer).await.data == body, "{size} octets");
        }
    })
    .await;
}

#[tokio::test]
async fn all_properties_arrive_unchanged() {
    conversation(async |session| {
        let queue = session.queue("queue").await;
        let sent = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_content_encoding("identity".into())
            .with_headers(table([("flag", AMQPValue::Boolean(true))]))
            .with_delivery_mode(2)
            .with_priority(7)
            .with_correlation_id("correlation".into())
            .with_reply_to("reply.queue".into())
            .with_expiration("3600000".into())
            .with_message_id("message-1".into())
            .with_timestamp(1_700_000_000)
            .with_type("order.created".into())
            .with_user_id(address().authority.userinfo.username.into())
            .with_app_id("conformance".into());
        session
            .publish_with("", &queue, PLAIN, b"", sent.clone())
            .await;
        let mut consumer = session.consume(&session.channel, &queue, true).await;
        assert_eq!(take(&mut consumer).await.properties, sent);
    })
    .await;
}

#[tokio::test]
async fn headers_of_every_type_arrive_unchanged() {
    conversation(async |session| {
        let queue = session.queue("queue").await;
        let mut array = FieldArray::default();
        for value in [AMQPValue::LongInt(1), text("two"), AMQPValue::Void] {
            array.push(value);
        }
        array.push(AMQPValue::FieldArray(FieldArray::default()));
        array.push(AMQPValue::FieldTable(table([(
            "three",
            AMQPValue::ShortInt(3),
        )])));
        let decimal = DecimalValue {
            scale: 2,
            value: 314,
        };
        let deep = table([("deeper", AMQPValue::FieldTable(FieldTable::default()))]);
        let sent = table([
            ("true", AMQPValue::Boolean(true)),
            ("false", AMQPValue::Boolean(false)),
            ("i8", AMQPValue::ShortShortInt(i8::MIN)),
            ("u8", AMQPValue::ShortShortUInt(u8::MAX)),
            ("i16", AMQPValue::ShortInt(i16::MIN)),
            ("u16", AMQPValue::ShortUInt(u16::MAX)),
            ("i32", AMQPValue::LongInt(i32::MIN)),
            ("u32", AMQPValue::LongUInt(u32::MAX)),
            ("i64", AMQPValue::LongLongInt(i64::MIN)),
            ("f32", AMQPValue::Float(-1.5)),
            ("f64", AMQPValue::Double(std::f64::consts::PI)),
            ("decimal", AMQPValue::DecimalValue(decimal)),
            ("string", text("sch\u{f6}n \u{2603}")),
            ("empty string", text("")),
            ("bytes", AMQPValue::ByteArray(vec![0, 255, 0].into())),
            ("timestamp", AMQPValue::Timestamp(1_700_000_000)),
            ("void", AMQPValue::Void),
            ("array", AMQPValue::FieldArray(array)),
            ("table", AMQPValue::FieldTable(deep)),
        ]);
        let properties = BasicProperties::default().with_headers(sent.clone());
        session
            .publish_with("", &queue, PLAIN, b"", properties)
            .await;
        let mut consumer = session.consume(&session.channel, &queue, true).await;
        let received = take(&mut consumer).await.properties;
        assert_eq!(received.headers().as_ref(), Some(&sent));
    })
    .await;
}

#[tokio::test]
async fn a_delivery_names_its_origin() {
    conversation(async |session| {
        let exchange = session
            .exchange("x", lapin::ExchangeKind::Topic, FieldTable::default())
            .await;
        let queue = session.bound_queue("queue", &exchange, "#").await;
        session.publish(&exchange, "some.key", "1").await;
        let mut consumer = session.consume(&session.channel, &queue, true).await;
        let delivery = take(&mut consumer).await;
        assert_eq!(delivery.exchange.as_str(), exchange);
        assert_eq!(delivery.routing_key.as_str(), "some.key");
        assert_eq!((delivery.delivery_tag, delivery.redelivered), (1, false));
    })
    .await;
}
