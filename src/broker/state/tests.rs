use amq_protocol::types::{AMQPValue, FieldTable};

use super::*;

fn row(op: &Op) -> (&[u8], &[u8]) {
    match op {
        Op::PutState { key, value } => (key, value),
        other => panic!("no row: {other:?}"),
    }
}

fn arguments() -> Arguments {
    let mut table = FieldTable::default();
    table.insert(
        "alternate-exchange".into(),
        AMQPValue::LongString("other".into()),
    );
    Arguments::new(&table)
}

#[test]
fn rows_read_back_as_they_were_written() {
    let set_up = put_set_up();
    let (key, value) = row(&set_up);
    assert_eq!(read(key, value), Ok(Row::SetUp));

    let mut settings = VHostSettings::default();
    for (is_traced, max_queues) in [(false, None), (true, None), (false, Some(7))] {
        settings.limits.max_queues = max_queues;
        settings.protected_from_deletion = max_queues.is_some();
        settings.description = max_queues.map_or_else(String::new, |_| "d".into());
        let vhost = put_vhost("/", is_traced, &settings);
        let (key, value) = row(&vhost);
        assert_eq!(
            read(key, value),
            Ok(Row::VHost(VHostRow {
                name: "/",
                is_traced,
                settings: settings.clone()
            }))
        );
    }

    let value = serde_json::json!({"uri": "amqp://", "n": [1]});
    let parameter = put_parameter("v", "federation-upstream", "f", &value);
    let (key, bytes) = row(&parameter);
    let expected = ParameterRow {
        vhost: "v",
        component: "federation-upstream",
        name: "f",
        value: value.clone(),
    };
    assert_eq!(read(key, bytes), Ok(Row::Parameter(expected)));
    let global = put_global_parameter("cluster_name", &value);
    let (key, bytes) = row(&global);
    assert_eq!(
        read(key, bytes),
        Ok(Row::GlobalParameter("cluster_name", value))
    );

    let spec = ExchangeSpec {
        name: "x".into(),
        kind: ExchangeType::from_name("topic").unwrap(),
        durable: true,
        auto_delete: false,
        internal: true,
        arguments: arguments(),
        alternate: Some("other".into()),
        delays_id: Some(1 << 40),
    };
    let exchange = put_exchange("v", &spec);
    let (key, value) = row(&exchange);
    let Ok(Row::Exchange(read)) = read(key, value) else {
        panic!("no exchange")
    };
    assert_eq!((read.vhost, read.name, read.kind), ("v", "x", "topic"));
    let read = read.spec().unwrap();
    assert!(read.internal && !read.auto_delete && read.durable);
    assert_eq!(read.delays_id, spec.delays_id);
    assert_eq!(
        (read.alternate, read.arguments),
        (spec.alternate, spec.arguments)
    );
}

#[test]
fn a_queue_keeps_its_id() {
    let spec = QueueSpec {
        id: 77,
        vhost: "v".into(),
        name: "q".into(),
        durable: true,
        auto_delete: true,
        exclusive_owner: None,
        arguments: QueueArguments::recovered(&arguments()).into(),
    };
    for is_paused in [false, true] {
        let queue = put_queue(&spec, is_paused);
        let (key, value) = row(&queue);
        let expected = QueueRow {
            vhost: "v",
            name: "q",
            id: 77,
            auto_delete: true,
            is_paused,
            arguments: arguments(),
        };
        assert_eq!(read(key, value), Ok(Row::Queue(expected)));
    }
}

#[test]
fn names_cannot_run_into_each_other() {
    assert_ne!(queue_key("ab", "c"), queue_key("a", "bc"));
    assert_ne!(queue_key("a", "b"), exchange_key("a", "b"));
}

#[test]
fn other_rows_are_left_alone_and_newer_ones_stop_the_reader() {
    assert_eq!(read(b"u/guest", b"\x09"), Ok(Row::Foreign));
    let key = vhost_key("/");
    assert_eq!(
        read(&key, &[VERSION + 1]),
        Err(RowError::TooNew {
            key: "v/\u{1}/".into(),
            version: VERSION + 1
        })
    );
    assert_eq!(read(&key, &[]), Err(RowError::Damaged("v/\u{1}/".into())));
    assert!(matches!(
        read(b"q/\x01v\x05abc", &[VERSION]),
        Err(RowError::Damaged(_))
    ));
}

#[test]
fn an_id_of_a_queue_reads_back_and_lies_in_the_span_of_its_queue_alone() {
    let id = IdRow {
        hash: [7; 16],
        inserted_ms: 5,
        expires_ms: u64::MAX,
        seq: 1 << 50,
    };
    let op = put_queue_id(77, &id);
    let (key, value) = row(&op);
    assert_eq!(read(key, value), Ok(Row::QueueId(77, id)));
    let within = |queue| match delete_queue_ids(queue) {
        Op::DeleteStateSpan { from, to } => (from.as_slice()..to.as_slice()).contains(&key),
        other => panic!("no span: {other:?}"),
    };
    assert_eq!([76, 77, 78].map(within), [false, true, false]);
}
