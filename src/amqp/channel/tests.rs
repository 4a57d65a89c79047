//! A channel without a socket: what depends on when the broker's word of a consumer comes.

use amq_protocol::types::FieldTable;
use parking_lot::Mutex;

use super::*;
use crate::amqp::outbox::Outbox;
use crate::amqp::session::Capabilities;
use crate::auth::Mechanism;
use crate::broker::testing::TestBroker;
use crate::config::Config;
use crate::rate::Rates;
use amq_protocol::protocol::{basic, queue};

fn session(test: &TestBroker) -> Session {
    let config = Config::default();
    let auth = &test.broker.auth;
    auth.add_default_user(&mut |_| {}, &config).unwrap();
    let login = auth.authenticate(Mechanism::Plain, b"\0guest\0guest", true);
    Session {
        id: 1,
        peer: String::new(),
        name: String::new(),
        broker: test.broker.clone(),
        vhost: test.broker.vhost("/").unwrap(),
        admission: Mutex::default(),
        user: Mutex::new(Arc::new(login.unwrap())),
        throttles: [Rates::default(), Rates::default()],
        outbox: Outbox::new(4096),
        config: Arc::new(config),
        capabilities: Capabilities::default(),
    }
}

fn declare(channel: &mut Channel, session: &Session, name: &str) {
    let declare = queue::Declare {
        queue: name.into(),
        passive: false,
        durable: false,
        exclusive: false,
        auto_delete: false,
        nowait: true,
        arguments: FieldTable::default(),
    };
    let declare = AMQPClass::Queue(queue::AMQPMethod::Declare(declare));
    assert!(matches!(channel.method(session, declare), Ok(None)));
}

fn delete(channel: &mut Channel, session: &Session, name: &str) {
    let delete = queue::Delete {
        queue: name.into(),
        if_unused: false,
        if_empty: false,
        nowait: true,
    };
    let delete = AMQPClass::Queue(queue::AMQPMethod::Delete(delete));
    assert!(matches!(channel.method(session, delete), Ok(None)));
}

fn consume(channel: &mut Channel, session: &Session, name: &str) {
    let consume = basic::Consume {
        queue: name.into(),
        consumer_tag: "tag".into(),
        no_local: false,
        no_ack: false,
        exclusive: false,
        nowait: true,
        arguments: FieldTable::default(),
    };
    let consume = AMQPClass::Basic(basic::AMQPMethod::Consume(consume));
    assert!(matches!(channel.method(session, consume), Ok(None)));
}

fn cancel(channel: &mut Channel, session: &Session) {
    let cancel = basic::Cancel {
        consumer_tag: "tag".into(),
        nowait: true,
    };
    let cancel = AMQPClass::Basic(basic::AMQPMethod::Cancel(cancel));
    assert!(matches!(channel.method(session, cancel), Ok(None)));
}

/// The connection hears what the broker cancelled: so many consumers.
fn hear(channel: &mut Channel, session: &Session) -> usize {
    let cancelled = session.outbox.take_cancelled();
    for cancelled in &cancelled {
        channel.consumer_cancelled(session, cancelled).unwrap();
    }
    cancelled.len()
}

#[test]
fn the_end_of_a_consumer_does_not_end_one_that_came_later_with_its_tag() {
    let test = TestBroker::new();
    let session = session(&test);
    let mut channel = Channel::open(&session, 1).unwrap();
    for name in ["first", "second"] {
        declare(&mut channel, &session, name);
    }
    consume(&mut channel, &session, "first");
    delete(&mut channel, &session, "first");
    // The client does not know that yet, and neither does the channel.
    cancel(&mut channel, &session);
    consume(&mut channel, &session, "second");
    assert_eq!(hear(&mut channel, &session), 1);
    assert!(channel.has_consumers());

    delete(&mut channel, &session, "second");
    assert_eq!(hear(&mut channel, &session), 1);
    assert!(!channel.has_consumers());
}
