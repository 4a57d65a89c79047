//! What goes away by itself: exclusive, auto-delete and server-named queues.

use lapin::ExchangeKind;
use lapin::options::*;
use lapin::types::FieldTable;
use leveret_conformance::*;

#[tokio::test]
async fn an_exclusive_queue_is_locked_and_goes_with_its_connection() {
    conversation(async |session| {
        let owner = connect(address()).await.unwrap();
        let channel = open_channel(&owner).await;
        let queue = session.name("exclusive");
        let options = QueueDeclareOptions::exclusive();
        within(channel.queue_declare(queue.as_str().into(), options, FieldTable::default()))
            .await
            .unwrap();
        let options = QueueDeclareOptions::default().passive();
        refused(
            session.channel.queue_declare(queue.as_str().into(), options, FieldTable::default()),
            405,
            &format!(
                "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{queue}' in vhost '/'"
            ),
        )
        .await;
        within(owner.close(200, "done".into())).await.unwrap();
        assert!(!session.exists(&queue).await);
    })
    .await;
}

#[tokio::test]
async fn an_auto_delete_queue_goes_with_its_last_consumer() {
    conversation(async |session| {
        let queue = session.name("queue");
        session.delete_queue_afterwards(&queue);
        let options = QueueDeclareOptions::durable().auto_delete();
        within(session.channel.queue_declare(
            queue.as_str().into(),
            options,
            FieldTable::default(),
        ))
        .await
        .unwrap();
        let one = session.consume(&session.channel, &queue, false).await;
        let two = session.consume(&session.channel, &queue, false).await;
        let options = BasicCancelOptions::default();
        within(session.channel.basic_cancel(one.tag(), options))
            .await
            .unwrap();
        assert!(session.exists(&queue).await);
        within(session.channel.basic_cancel(two.tag(), options))
            .await
            .unwrap();
        eventually("the queue goes", async || !session.exists(&queue).await).await;
    })
    .await;
}

#[tokio::test]
async fn an_auto_delete_exchange_goes_with_its_last_binding() {
    conversation(async |session| {
        let queue = session.queue("queue").await;
        let exchange = session.name("exchange");
        session.delete_exchange_afterwards(&exchange);
        let declare = async |passive| {
            let options = ExchangeDeclareOptions {
                passive,
                durable: true,
                auto_delete: true,
                ..Default::default()
            };
            let (name, kind) = (exchange.as_str().into(), ExchangeKind::Fanout);
            session
                .channel
                .exchange_declare(name, kind, options, FieldTable::default())
                .await
        };
        within(declare(false)).await.unwrap();
        session
            .bind(&queue, &exchange, "", FieldTable::default())
            .await;
        let (to, from) = (queue.as_str().into(), exchange.as_str().into());
        within(
            session
                .channel
                .queue_unbind(to, from, "".into(), FieldTable::default()),
        )
        .await
        .unwrap();
        refused(declare(true), 404, &format!("no exchange '{exchange}'")).await;
    })
    .await;
}

#[tokio::test]
async fn the_server_names_a_queue_that_has_no_name() {
    conversation(async |session| {
        let declare = async || {
            let options = QueueDeclareOptions::exclusive();
            let declaring =
                session
                    .channel
                    .queue_declare("".into(), options, FieldTable::default());
            within(declaring).await.unwrap().name().as_str().to_owned()
        };
        let (first, second) = (declare().await, declare().await);
        assert!(first.starts_with("amq.gen-") && second.starts_with("amq.gen-"));
        assert_ne!(first, second);
        // An empty name stands for the queue declared last on the channel.
        let key = session.name("key");
        session
            .bind("", "amq.direct", &key, FieldTable::default())
            .await;
        session.publish("amq.direct", &key, "1").await;
        assert_eq!(session.ready(&first).await, 0);
        assert_eq!(session.ready(&second).await, 1);
    })
    .await;
}
