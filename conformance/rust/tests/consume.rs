//! Consuming: acknowledgements, redelivery, prefetch, cancelling, and basic.get.
//!
//! lapin hides the server's properties, so that a broker which denies a shared
//! prefetch cannot be told from others: the other suites test it.

use futures_lite::StreamExt;
use lapin::message::Delivery;
use lapin::options::*;
use lapin::types::FieldTable;
use leveret_conformance::*;

const ONE: BasicAckOptions = BasicAckOptions { multiple: false };
const UP_TO: BasicAckOptions = BasicAckOptions { multiple: true };

#[tokio::test]
async fn acknowledged_messages_are_gone_and_the_others_come_back_in_order() {
    conversation(async |session| {
        let queue = session.queue("queue").await;
        session.fill(&queue, ["1", "2", "3", "4"]).await;
        let mut consumer = session.consume(&session.channel, &queue, false).await;
        let deliveries = expect_bodies(&mut consumer, ["1", "2", "3", "4"]).await;
        within(deliveries[1].ack(ONE)).await.unwrap();
        close_channel(&session.channel).await;
        let mut again = session.consume(&session.publisher, &queue, false).await;
        for delivery in expect_bodies(&mut again, ["1", "3", "4"]).await {
            assert!(delivery.redelivered);
        }
    })
    .await;
}

#[tokio::test]
async fn one_acknowledgement_covers_all_up_to_its_tag() {
    conversation(async |session| {
        let queue = session.queue("queue").await;
        session.fill(&queue, ["1", "2", "3"]).await;
        let mut consumer = session.consume(&session.channel, &queue, false).await;
        let deliveries = expect_bodies(&mut consumer, ["1", "2", "3"]).await;
        within(deliveries[1].ack(UP_TO)).await.unwrap();
        close_channel(&session.channel).await;
        let left = session
            .get(&session.publisher, &queue)
            .await
            .expect("one is left");
        assert_eq!((left.data.as_slice(), left.message_count), (&b"3"[..], 0));
    })
    .await;
}

async fn nack(delivery: &Delivery, requeue: bool) {
    let options = BasicNackOptions {
        requeue,
        ..Default::default()
    };
    within(delivery.nack(options)).await.unwrap();
}

async fn reject(delivery: &Delivery, requeue: bool) {
    within(delivery.reject(BasicRejectOptions { requeue }))
        .await
        .unwrap();
}

async fn requeued_message_comes_again(requeue: impl AsyncFnOnce(&Delivery)) {
    conversation(async |session| {
        let queue = session.queue("queue").await;
        session.fill(&queue, ["1"]).await;
        let mut consumer = session.consume(&session.channel, &queue, false).await;
        let first = take(&mut consumer).await;
        assert!(!first.redelivered);
        requeue(&first).await;
        let second = take(&mut consumer).await;
        assert!(second.redelivered && second.data == b"1");
    })
    .await;
}

#[tokio::test]
async fn a_nacked_message_comes_again_as_redelivered() {
    requeued_message_comes_again(async |delivery| nack(delivery, true).await).await;
}

#[tokio::test]
async fn a_rejected_message_comes_again_as_redelivered() {
    requeued_message_comes_again(async |delivery| reject(delivery, true).await).await;
}

async fn refused_message_is_gone(refuse: impl AsyncFnOnce(&Delivery)) {
    conversation(async |session| {
        let queue = session.queue("queue").await;
        session.fill(&queue, ["1", "2"]).await;
        let first = session
            .get(&session.channel, &queue)
            .await
            .expect("the first message");
        refuse(&first).await;
        close_channel(&session.channel).await;
        let second = session
            .get(&session.publisher, &queue)
            .await
            .expect("the second message");
        assert_eq!(second.data, b"2");
    })
    .await;
}

#[tokio::test]
async fn a_message_nacked_without_requeue_is_gone() {
    refused_message_is_gone(async |delivery| nack(delivery, false).await).await;
}

#[tokio::test]
async fn a_message_rejected_without_requeue_is_gone() {
    refused_message_is_gone(async |delivery| reject(delivery, false).await).await;
}

#[tokio::test]
async fn one_nack_requeues_all_up_to_its_tag_in_order() {
    conversation(async |session| {
        let queue = session.queue("queue").await;
        session.fill(&queue, ["1", "2", "3"]).await;
        session
            .get(&session.channel, &queue)
            .await
            .expect("the first message");
        let second = session
            .get(&session.channel, &queue)
            .await
            .expect("the second message");
        let options = BasicNackOptions {
            multiple: true,
            requeue: true,
        };
        within(second.nack(options)).await.unwrap();
        let mut consumer = session.consume(&session.channel, &queue, true).await;
        expect_bodies(&mut consumer, ["1", "2", "3"]).await;
    })
    .await;
}

#[tokio::test]
async fn recover_redelivers_everything_outstanding() {
    conversation(async |session| {
        let queue = session.queue("queue").await;
        session.fill(&queue, ["1", "2"]).await;
        let mut consumer = session.consume(&session.channel, &queue, false).await;
        expect_bodies(&mut consumer, ["1", "2"]).await;
        within(
            session
                .channel
                .basic_recover(BasicRecoverOptions { requeue: true }),
        )
        .await
        .unwrap();
        for delivery in expect_bodies(&mut consumer, ["1", "2"]).await {
            assert!(delivery.redelivered);
        }
    })
    .await;
}

#[tokio::test]
async fn an_unknown_delivery_tag_is_406() {
    conversation(async |session| {
        let queue = session.queue("queue").await;
        let mut consumer = session.consume(&session.channel, &queue, false).await;
        within(session.channel.basic_ack(99, ONE)).await.unwrap();
        let error = within(consumer.next())
            .await
            .expect("the close is reported");
        expect_close(
            &error.expect_err("no delivery"),
            406,
            "PRECONDITION_FAILED - unknown delivery tag 99",
        );
    })
    .await;
}

#[tokio::test]
async fn prefetch_limits_what_is_outstanding_for_each_consumer() {
    conversation(async |session| {
        let queue = session.queue("queue").await;
        session.fill(&queue, ["1", "2", "3", "4", "5"]).await;
        within(session.channel.basic_qos(1, BasicQosOptions::default()))
            .await
            .unwrap();
        let mut one = session.consume(&session.channel, &queue, false).await;
        within(session.channel.basic_qos(2, BasicQosOptions::default()))
            .await
            .unwrap();
        let mut two = session.consume(&session.channel, &queue, false).await;
        let first = take(&mut one).await;
        expect_bodies(&mut two, ["2", "3"]).await;
        assert_eq!(session.ready(&queue).await, 2);
        within(first.ack(ONE)).await.unwrap();
        expect_bodies(&mut one, ["4"]).await;
        assert_eq!(session.ready(&queue).await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_cancelled_consumer_keeps_what_it_has() {
    conversation(async |session| {
        let queue = session.queue("queue").await;
        session.fill(&queue, ["1"]).await;
        let mut consumer = session.consume(&session.channel, &queue, false).await;
        let first = take(&mut consumer).await;
        within(
            session
                .channel
                .basic_cancel(consumer.tag(), BasicCancelOptions::default()),
        )
        .await
        .unwrap();
        session.fill(&queue, ["2"]).await;
        assert_eq!(session.ready(&queue).await, 1);
        within(first.ack(ONE)).await.unwrap();
        close_channel(&session.channel).await;
        assert_eq!(session.ready(&queue).await, 1);
    })
    .await;
}

#[tokio::test]
async fn an_exclusive_consumer_keeps_others_out() {
    conversation(async |session| {
        let queue = session.queue("queue").await;
        let exclusive = BasicConsumeOptions {
            exclusive: true,
            ..Default::default()
        };
        let consume = |options| {
            let (queue, tag) = (queue.as_str().into(), "".into());
            (queue, tag, options, FieldTable::default())
        };
        let (name, tag, options, arguments) = consume(exclusive);
        let _consumer = within(session.channel.basic_consume(name, tag, options, arguments))
            .await
            .unwrap();
        let other = open_channel(&session.connection).await;
        let (name, tag, options, arguments) = consume(BasicConsumeOptions::default());
        refused(
            other.basic_consume(name, tag, options, arguments),
            403,
            &format!("ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use"),
        )
        .await;
    })
    .await;
}

#[tokio::test]
async fn deleting_the_queue_cancels_its_consumers() {
    conversation(async |session| {
        let queue = session.queue("queue").await;
        let mut consumer = session.consume(&session.channel, &queue, false).await;
        let deleting = session
            .publisher
            .queue_delete(queue.as_str().into(), Default::default());
        within(deleting).await.unwrap();
        assert!(within(consumer.next()).await.is_none());
        assert!(session.channel.status().connected());
    })
    .await;
}

#[tokio::test]
async fn get_counts_what_is_left_and_tells_an_empty_queue() {
    conversation(async |session| {
        let queue = session.queue("queue").await;
        session.fill(&queue, ["1", "2"]).await;
        for left in [1, 0] {
            let message = session
                .get(&session.channel, &queue)
                .await
                .expect("a message");
            assert_eq!(message.message_count, left);
            within(message.ack(ONE)).await.unwrap();
        }
        assert!(session.get(&session.channel, &queue).await.is_none());
    })
    .await;
}
