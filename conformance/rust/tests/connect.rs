//! Opening and closing connections, and being refused.

use lapin::options::*;
use lapin::uri::AMQPUri;
use leveret_conformance::*;

async fn expect_refusal(uri: AMQPUri, code: u16, text: &str) {
    match connect(uri).await {
        Ok(_) => panic!("connected"),
        Err(error) => expect_close(&error, code, text),
    }
}

#[tokio::test]
async fn a_wrong_password_is_refused() {
    let mut uri = address();
    uri.authority.userinfo.password = "wrong".to_owned();
    expect_refusal(uri, 403, "ACCESS_REFUSED - Login was refused").await;
}

#[tokio::test]
async fn a_missing_vhost_is_not_allowed() {
    let mut uri = address();
    uri.vhost = "no-such-vhost".to_owned();
    expect_refusal(uri, 530, "vhost no-such-vhost not found").await;
}

#[tokio::test]
async fn the_smallest_frame_size_is_accepted_and_used() {
    conversation(async |session| {
        let queue = session.queue("queue").await;
        let mut uri = address();
        uri.query.frame_max = Some(4096);
        let connection = connect(uri).await.unwrap();
        assert_eq!(connection.configuration().frame_max(), 4096);
        let channel = open_channel(&connection).await;
        let body = b"0123456789".repeat(2000);
        let options = BasicPublishOptions::default();
        let publishing = channel.basic_publish(
            "".into(),
            queue.as_str().into(),
            options,
            &body,
            Default::default(),
        );
        within(publishing).await.unwrap();
        let message = session
            .get(&channel, &queue)
            .await
            .expect("the message is there");
        assert_eq!(message.data, body);
        within(connection.close(200, "done".into())).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn one_connection_carries_many_channels() {
    conversation(async |session| {
        let mut channels = Vec::new();
        for _ in 0..50 {
            channels.push(open_channel(&session.connection).await);
        }
        let mut numbers: Vec<_> = channels.iter().map(|channel| channel.id()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 50);
        assert!(channels.iter().all(|channel| channel.status().connected()));
    })
    .await;
}

#[tokio::test]
async fn a_secret_can_be_updated() {
    conversation(async |session| {
        let secret = address().authority.userinfo.password;
        within(
            session
                .connection
                .update_secret(secret.into(), "rotation".into()),
        )
        .await
        .unwrap();
        session.queue("queue").await;
    })
    .await;
}

#[tokio::test]
async fn a_closed_connection_opens_no_channel() {
    let connection = connect(address()).await.unwrap();
    within(connection.close(200, "done".into())).await.unwrap();
    assert!(!connection.status().connected());
    assert!(within(connection.create_channel()).await.is_err());
}
