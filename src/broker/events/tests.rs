use amq_protocol::types::{AMQPValue, FieldTable};
use serde_json::json;

use super::*;
use crate::broker::definitions::Selection;
use crate::broker::queue::{GetOutcome, Queue};
use crate::broker::testing::TestBroker;
use crate::broker::vhost::{QueueBind, QueueDeclare};
use crate::message::properties::Properties;

/// A queue that gets all events of a broker, which are on.
fn listen(test: &TestBroker) -> Arc<Queue> {
    test.broker.switch_events_on("/").unwrap().unwrap();
    let vhost = test.broker.vhost("/").unwrap();
    let visit = test.broker.services.visit();
    let declare = QueueDeclare {
        name: "events".into(),
        server_named: false,
        durable: false,
        exclusive: false,
        auto_delete: false,
        arguments: FieldTable::default(),
        connection: 1,
    };
    let queue = vhost.declare_queue(&visit, declare).unwrap().queue;
    let bind = QueueBind {
        queue: "events".into(),
        exchange: EVENT_EXCHANGE.into(),
        routing_key: "#".into(),
        arguments: FieldTable::default(),
        connection: 1,
    };
    vhost.bind_queue(&visit, bind).unwrap();
    queue
}

/// The next event: its routing key and headers. Waits for it, as another thread brings it.
fn next(test: &TestBroker, queue: &Arc<Queue>) -> (String, FieldTable) {
    loop {
        let visit = test.broker.services.visit();
        let got = queue.get(&visit, true, |delivery, _| {
            let record = delivery.record;
            assert!(record.is_persistent() && record.body_len() == 0);
            let properties = Properties::read(record.properties()).unwrap();
            (
                String::from_utf8(record.routing_key().to_vec()).unwrap(),
                properties.decode_headers().unwrap().unwrap(),
            )
        });
        drop(visit);
        match got {
            GetOutcome::Message(event) => return event,
            _ => std::thread::yield_now(),
        }
    }
}

#[test]
fn administration_is_told_of() {
    let test = TestBroker::new();
    let queue = listen(&test);
    assert_eq!(next(&test, &queue).0, "binding.created");
    let definitions = json!({
        "users": [{"name": "u", "password_hash": "", "tags": ["management"], "limits": {"max-channels": 4}}],
        "vhosts": [{"name": "v"}],
        "permissions": [{"user": "u", "vhost": "v", "configure": "c", "write": "w", "read": "r"}],
        "policies": [{"vhost": "v", "name": "p", "pattern": "^q", "definition": {"max-length": 5}}],
        "parameters": [
            {"vhost": "v", "component": "vhost-limits", "name": "limits", "value": {"max-queues": 9}},
        ],
    });
    let text = definitions.to_string();
    let everything = Selection::default();
    test.broker
        .import_definitions(text.as_bytes(), &everything)
        .unwrap();
    let text = |text: &str| AMQPValue::LongString(text.into());
    let number = AMQPValue::LongLongInt;
    let expected = [
        ("user.created", "name", text("u")),
        (
            "user.tags.set",
            "tags",
            AMQPValue::FieldArray(vec![text("management")].into()),
        ),
        ("user.limits.set", "max-channels", number(4)),
    ];
    let check = |(key, name, value): (&str, &str, AMQPValue)| {
        let (found, headers) = next(&test, &queue);
        assert_eq!(found, key, "{headers:?}");
        assert_eq!(headers.inner().get(name), Some(&value), "{key}");
        let user = headers.inner().get("user_who_performed_action");
        assert_eq!(user, Some(&text(INTERNAL_USER)));
    };
    expected.into_iter().for_each(check);
    for _ in test.broker.vhost("v").unwrap().exchanges() {
        check(("exchange.created", "vhost", text("v")));
    }
    check(("vhost.created", "default_queue_type", text("classic")));
    check(("permission.created", "write", text("w")));
    check(("policy.set", "pattern", text("^q")));
    check(("parameter.set", "component", text("vhost-limits")));
    check(("vhost.limits.set", "max-queues", number(9)));
    let visit = test.broker.services.visit();
    let mut push = |op| {
        visit.push(op);
    };
    let auth = &test.broker.auth;
    auth.clear_permissions(&mut push, "u", "v").unwrap();
    auth.delete_user(&mut push, "u").unwrap();
    test.broker.delete_vhost(&visit, "v").unwrap().unwrap();
    drop(visit);
    check(("permission.deleted", "user", text("u")));
    check(("user.deleted", "name", text("u")));
    check(("vhost.deleted", "name", text("v")));
}

#[test]
fn nothing_is_said_while_nobody_listens() {
    let test = TestBroker::new();
    let services = &test.broker.services;
    services.tell("queue.created", |_| panic!("events are off"));
    test.broker.switch_events_on("/").unwrap().unwrap();
    services.tell("queue.created", |_| panic!("nobody listens"));
    assert!(test.broker.switch_events_on("nowhere").unwrap().is_none());
}

#[test]
fn what_a_connection_does_is_done_by_its_user() {
    let test = TestBroker::new();
    let queue = listen(&test);
    next(&test, &queue);
    let events = &test.broker.services.events;
    events.connected(3, &"somebody".into());
    assert_eq!(&*events.user_of(3), "somebody");
    events.disconnected(3);
    assert_eq!(&*events.user_of(3), INTERNAL_USER);
}
