//! What an error closes, and what stays open.

use futures_lite::StreamExt;
use lapin::options::*;
use lapin::{Event, types::FieldTable};
use leveret_conformance::*;

#[tokio::test]
async fn publishing_to_a_missing_exchange_closes_only_that_channel() {
    conversation(async |session| {
        let queue = session.queue("queue").await;
        let failing = open_channel(&session.connection).await;
        within(failing.confirm_select(ConfirmSelectOptions::default()))
            .await
            .unwrap();
        let (exchange, key) = ("conformance.missing".into(), "key".into());
        let publishing =
            failing.basic_publish(exchange, key, Default::default(), b"", Default::default());
        let confirm = within(publishing).await.unwrap();
        let missing = "NOT_FOUND - no exchange 'conformance.missing' in vhost '/'";
        refused(confirm, 404, missing).await;
        session.fill(&queue, ["1"]).await;
        assert_eq!(session.ready(&queue).await, 1);
    })
    .await;
}

#[tokio::test]
async fn many_channels_may_fail_on_one_connection() {
    conversation(async |session| {
        for _ in 0..20 {
            assert!(!session.exists("conformance.missing").await);
        }
        session.queue("queue").await;
    })
    .await;
}

/// Waits until the broker closes the connection.
async fn expect_connection_close(
    session: &Session,
    code: u16,
    text: &str,
    provoke: impl Future<Output = ()>,
) {
    let mut events = Box::pin(session.connection.events_listener());
    provoke.await;
    loop {
        match within(events.next()).await {
            Some(Event::Error(error)) => return expect_close(&error, code, text),
            Some(_) => {}
            None => panic!("the connection ended without an error"),
        }
    }
}

#[tokio::test]
async fn an_immediate_publish_is_not_implemented() {
    conversation(async |session| {
        let immediate = BasicPublishOptions {
            immediate: true,
            ..Default::default()
        };
        expect_connection_close(session, 540, "NOT_IMPLEMENTED - immediate=true", async {
            let (exchange, key) = ("".into(), "key".into());
            let publishing =
                session
                    .channel
                    .basic_publish(exchange, key, immediate, b"", Default::default());
            within(publishing).await.unwrap();
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_reused_consumer_tag_closes_the_connection() {
    conversation(async |session| {
        let queue = session.queue("queue").await;
        let consume = async || {
            let (name, tag) = (queue.as_str().into(), "tag".into());
            let options = BasicConsumeOptions::default();
            session
                .channel
                .basic_consume(name, tag, options, FieldTable::default())
                .await
        };
        let _consumer = within(consume()).await.unwrap();
        let reused = "NOT_ALLOWED - attempt to reuse consumer tag 'tag'";
        expect_connection_close(session, 530, reused, async {
            assert!(within(consume()).await.is_err());
        })
        .await;
    })
    .await;
}
