//! Transactions: publishes and acknowledgements take effect together.

use lapin::Channel;
use lapin::options::*;
use leveret_conformance::*;

async fn select(session: &Session) -> Channel {
    let channel = open_channel(&session.connection).await;
    within(channel.tx_select()).await.unwrap();
    channel
}

async fn publish(channel: &Channel, queue: &str, body: &[u8]) {
    let options = BasicPublishOptions::default();
    let publishing =
        channel.basic_publish("".into(), queue.into(), options, body, Default::default());
    within(publishing).await.unwrap();
}

#[tokio::test]
async fn what_is_published_arrives_with_the_commit() {
    conversation(async |session| {
        let queue = session.queue("queue").await;
        let channel = select(session).await;
        publish(&channel, &queue, b"1").await;
        publish(&channel, &queue, b"2").await;
        assert!(session.get(&channel, &queue).await.is_none());
        within(channel.tx_commit()).await.unwrap();
        assert_eq!(session.ready(&queue).await, 2);
    })
    .await;
}

#[tokio::test]
async fn a_rollback_forgets_publishes_and_acknowledgements() {
    conversation(async |session| {
        let queue = session.queue("queue").await;
        session.fill(&queue, ["1"]).await;
        let channel = select(session).await;
        let message = session.get(&channel, &queue).await.expect("the message");
        within(message.ack(BasicAckOptions::default()))
            .await
            .unwrap();
        publish(&channel, &queue, b"2").await;
        within(channel.tx_rollback()).await.unwrap();
        close_channel(&channel).await;
        let left = session
            .get(&session.publisher, &queue)
            .await
            .expect("the message is back");
        assert_eq!((left.data.as_slice(), left.message_count), (&b"1"[..], 0));
    })
    .await;
}

#[tokio::test]
async fn acknowledgements_take_effect_with_the_commit() {
    conversation(async |session| {
        let queue = session.queue("queue").await;
        session.fill(&queue, ["1"]).await;
        let channel = select(session).await;
        let message = session.get(&channel, &queue).await.expect("the message");
        within(message.ack(BasicAckOptions::default()))
            .await
            .unwrap();
        within(channel.tx_commit()).await.unwrap();
        close_channel(&channel).await;
        assert_eq!(session.ready(&queue).await, 0);
    })
    .await;
}

#[tokio::test]
async fn transactions_and_confirms_exclude_each_other() {
    conversation(async |session| {
        let channel = select(session).await;
        let confirming = channel.confirm_select(ConfirmSelectOptions::default());
        refused(confirming, 406, "cannot switch from tx to confirm mode").await;
        let channel = open_channel(&session.connection).await;
        within(channel.confirm_select(ConfirmSelectOptions::default()))
            .await
            .unwrap();
        refused(
            channel.tx_select(),
            406,
            "cannot switch from confirm to tx mode",
        )
        .await;
        let channel = open_channel(&session.connection).await;
        refused(channel.tx_commit(), 406, "channel is not transactional").await;
    })
    .await;
}
