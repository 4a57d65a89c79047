//! A broker that is started again: what is there, and what is not.

use amq_protocol::types::{AMQPValue, FieldTable};

use super::*;
use crate::broker::NOBODY;
use crate::broker::delivery::ConsumerId;
use crate::broker::due::LIMITS;
use crate::broker::queue::{GetOutcome, Return};
use crate::broker::testing::TestBroker;
use crate::broker::vhost::{ExchangeBind, ExchangeDeclare, QueueBind, QueueDeclare};
use crate::message::record::{Body, NewMessage};

fn queue(name: &str, durable: bool) -> QueueDeclare {
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(5));
    QueueDeclare {
        name: name.into(),
        server_named: false,
        durable,
        exclusive: false,
        auto_delete: false,
        arguments,
        connection: 1,
    }
}

fn exchange(name: &str, durable: bool) -> ExchangeDeclare {
    let mut arguments = FieldTable::default();
    arguments.insert(
        "alternate-exchange".into(),
        AMQPValue::LongString("amq.fanout".into()),
    );
    ExchangeDeclare {
        name: name.into(),
        kind: "topic".into(),
        durable,
        auto_delete: false,
        internal: true,
        arguments,
        connection: NOBODY,
    }
}

fn bind(queue: &str, exchange: &str, routing_key: &str) -> QueueBind {
    QueueBind {
        queue: queue.into(),
        exchange: exchange.into(),
        routing_key: routing_key.into(),
        arguments: FieldTable::default(),
        connection: 1,
    }
}

/// Names of queues and exchanges, and bindings, all sorted.
fn inventory(vhost: &VHost) -> Vec<String> {
    let queues = vhost
        .queues()
        .into_iter()
        .map(|queue| format!("queue {}", queue.spec.name));
    let exchanges = vhost
        .exchanges()
        .into_iter()
        .map(|exchange| format!("exchange {}", exchange.spec.name));
    let bindings = vhost.bindings().into_iter().map(|binding| {
        format!(
            "{} -{}-> {}",
            binding.source,
            binding.routing_key,
            binding.destination.name()
        )
    });
    let all: Vec<_> = queues.chain(exchanges).chain(bindings).collect();
    let mut all: Vec<_> = all
        .into_iter()
        .filter(|line| !line.starts_with("exchange amq."))
        .collect();
    all.sort_unstable();
    all
}

#[test]
fn the_first_start_creates_the_default_vhost_and_later_ones_do_not() {
    let test = TestBroker::new();
    assert!(test.is_first_start);
    test.wait(test.ticket);
    let test = test.restart();
    assert!(!test.is_first_start);
    assert_eq!(test.ticket, Ticket::IMMEDIATE, "nothing was written");
    assert!(test.broker.vhost("/").is_some());
    let visit = test.broker.services.visit();
    test.broker.delete_vhost(&visit, "/").unwrap().unwrap();
    drop(visit);
    let test = test.restart();
    assert!(test.broker.vhosts().is_empty(), "deleted is deleted");
}

#[test]
fn durable_topology_survives_a_restart_and_transient_does_not() {
    let test = TestBroker::new();
    let vhost = test.broker.vhost("/").unwrap();
    {
        let visit = test.broker.services.visit();
        vhost.declare_queue(&visit, queue("durable", true)).unwrap();
        vhost
            .declare_queue(&visit, queue("transient", false))
            .unwrap();
        vhost.declare_exchange(&visit, exchange("x", true)).unwrap();
        vhost
            .declare_exchange(&visit, exchange("passing", false))
            .unwrap();
        for name in ["durable", "transient"] {
            vhost.bind_queue(&visit, bind(name, "x", "a.*")).unwrap();
            vhost
                .bind_queue(&visit, bind(name, "passing", "#"))
                .unwrap();
        }
        let mut arguments = FieldTable::default();
        arguments.insert("note".into(), AMQPValue::Void);
        vhost
            .bind_queue(
                &visit,
                QueueBind {
                    arguments,
                    ..bind("durable", "amq.headers", "")
                },
            )
            .unwrap();
        let to_exchange = ExchangeBind {
            destination: "x".into(),
            source: "amq.topic".into(),
            routing_key: "b".into(),
            arguments: FieldTable::default(),
            connection: NOBODY,
        };
        vhost.bind_exchange(&visit, to_exchange).unwrap();
    }
    let id = vhost.queue("durable").unwrap().spec.id;
    drop(vhost);
    let test = test.restart();
    let vhost = test.broker.vhost("/").unwrap();
    let expected = [
        "amq.headers --> durable",
        "amq.topic -b-> x",
        "exchange ",
        "exchange x",
        "queue durable",
        "x -a.*-> durable",
    ];
    assert_eq!(inventory(&vhost), expected);
    let queue = vhost.queue("durable").unwrap();
    assert_eq!(
        (queue.spec.id, queue.spec.arguments.get().max_length()),
        (id, Some(5))
    );
    let exchange = vhost.exchange("x").unwrap();
    assert_eq!(exchange.spec.alternate.as_deref(), Some("amq.fanout"));
    assert!(exchange.spec.internal && exchange.spec.durable);
    let message = crate::broker::testing::message("x", "a.b");
    assert_eq!(vhost.route(&exchange, &["a.b"], &message).queues.len(), 1);
}

#[test]
fn what_was_deleted_stays_deleted() {
    let test = TestBroker::new();
    let vhost = test.broker.vhost("/").unwrap();
    {
        let visit = test.broker.services.visit();
        for name in ["q1", "q2", "q3"] {
            vhost.declare_queue(&visit, queue(name, true)).unwrap();
            vhost
                .bind_queue(&visit, bind(name, "amq.topic", name))
                .unwrap();
        }
        vhost.declare_exchange(&visit, exchange("x", true)).unwrap();
        vhost.bind_queue(&visit, bind("q1", "x", "k")).unwrap();
    }
    {
        let visit = test.broker.services.visit();
        vhost
            .delete_queue(&visit, "q2", Default::default(), 1)
            .unwrap();
        vhost
            .unbind_queue(&visit, &bind("q3", "amq.topic", "q3"))
            .unwrap();
        vhost.delete_exchange(&visit, "x", false, NOBODY).unwrap();
    }
    drop(vhost);
    let test = test.restart();
    let vhost = test.broker.vhost("/").unwrap();
    assert_eq!(
        inventory(&vhost),
        ["amq.topic -q1-> q1", "exchange ", "queue q1", "queue q3"]
    );
}

#[test]
fn a_vhost_of_the_same_name_begins_empty() {
    let test = TestBroker::new();
    let old = test.broker.vhost("/").unwrap();
    let visit = test.broker.services.visit();
    old.declare_queue(&visit, queue("q", true)).unwrap();
    old.bind_queue(&visit, bind("q", "amq.topic", "k")).unwrap();
    test.broker.delete_vhost(&visit, "/").unwrap().unwrap();
    let (new, _) = test.broker.create_vhost(&visit, "/").unwrap();
    new.declare_queue(&visit, queue("q", true)).unwrap();
    assert!(!test.broker.clear_vhost(&visit, &old));
    let late = old.declare_queue(&visit, queue("late", true)).unwrap_err();
    assert_eq!(late.to_string(), "vhost '/' is deleted");
    drop((visit, old, new));
    let test = test.restart();
    assert_eq!(
        inventory(&test.broker.vhost("/").unwrap()),
        ["exchange ", "queue q"]
    );
}

#[test]
fn rows_without_their_ends_are_deleted_and_newer_rows_stop_the_start() {
    let test = TestBroker::new();
    let visit = test.broker.services.visit();
    visit.push(Op::PutState {
        key: state::queue_key("gone", "q"),
        value: vec![1, 0, 0, 0, 0, 0, 0, 0, 0, 9],
    });
    drop(visit);
    let test = test.restart();
    assert_ne!(test.ticket, Ticket::IMMEDIATE, "the row was deleted");
    let test = test.restart();
    assert_eq!(test.ticket, Ticket::IMMEDIATE);
    let visit = test.broker.services.visit();
    visit.push(Op::PutState {
        key: state::vhost_key("new"),
        value: vec![2],
    });
    drop(visit);
    let error = test.try_restart().err().map(|error| error.to_string());
    let expected = "the row \"v/\\u{3}new\" has version 2, and this broker reads up to 1";
    assert_eq!(error.as_deref(), Some(expected));
}

/// Waits for something that other threads bring about.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1_000 {
        if holds() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("{what}: not within ten seconds");
}

#[test]
fn what_was_to_expire_expires_after_a_restart_and_dies_as_it_should() {
    let test = TestBroker::new();
    let vhost = test.broker.vhost("/").unwrap();
    let mut arguments = FieldTable::default();
    arguments.insert(
        "x-dead-letter-exchange".into(),
        AMQPValue::LongString("".into()),
    );
    arguments.insert(
        "x-dead-letter-routing-key".into(),
        AMQPValue::LongString("dead".into()),
    );
    let visit = test.broker.services.visit();
    let source = QueueDeclare {
        arguments,
        ..queue("source", true)
    };
    let source = vhost.declare_queue(&visit, source).unwrap().queue;
    let dead = QueueDeclare {
        arguments: FieldTable::default(),
        ..queue("dead", true)
    };
    vhost.declare_queue(&visit, dead).unwrap();
    let message = |lives_ms: u64| NewMessage {
        exchange: b"",
        routing_key: b"source",
        properties: &[0x10, 0, 2],
        annotations: &[],
        body: Body::Inline(b"body"),
        persistent: true,
        priority: 0,
        expiry_ms: if lives_ms == 0 {
            0
        } else {
            visit.now_ms() + lives_ms
        },
    };
    // In no order, and with one that stays at the head.
    let messages = [0, 700, 400, 600, 0, 500].map(message);
    source.publish(&visit, messages.iter());
    let ticket = visit.ticket();
    drop((visit, source, vhost));
    test.wait(ticket);
    let test = test.restart();
    let vhost = test.broker.vhost("/").unwrap();
    let ready = |name: &str| vhost.queue(name).unwrap().counts().ready;
    eventually("four messages expire", || ready("dead") == 4);
    assert_eq!(ready("source"), 2);
}

#[test]
fn a_queue_that_comes_back_over_its_limit_drops_what_is_too_much_by_itself() {
    let test = TestBroker::new();
    let vhost = test.broker.vhost("/").unwrap();
    let visit = test.broker.services.visit();
    let limited = vhost.declare_queue(&visit, queue("limited", true));
    let limited = limited.unwrap().queue;
    drop(visit);
    let message = NewMessage {
        persistent: true,
        ..crate::broker::testing::message("", "limited")
    };
    let publish = || {
        let visit = test.broker.services.visit();
        limited.publish(&visit, std::iter::repeat_n(&message, 5));
        let ticket = visit.ticket();
        drop(visit);
        test.wait(ticket);
    };
    publish();
    while limited.counts().unacked < 5 {
        let visit = test.broker.services.visit();
        let got = limited.get(&visit, false, |_, _| ());
        drop(visit);
        if let GetOutcome::Unsaved(ticket) = got {
            test.wait(ticket);
        }
    }
    publish();
    drop((vhost, limited));
    let test = test.restart();
    let limited = test.broker.vhost("/").unwrap().queue("limited").unwrap();
    eventually("five are dropped", || limited.counts().ready == 5);
}

/// A durable queue in which `count` persistent messages wait for an hour.
fn fill_with_retries(test: &TestBroker, count: usize) {
    let vhost = test.broker.vhost("/").unwrap();
    let mut arguments = FieldTable::default();
    let text = |text: &str| AMQPValue::LongString(text.into());
    arguments.insert("x-delayed-retry-type".into(), text("all"));
    let hour_ms = AMQPValue::LongInt(3_600_000);
    arguments.insert("x-delayed-retry-min".into(), hour_ms);
    let declare = QueueDeclare {
        arguments,
        ..queue("retried", true)
    };
    let declared = {
        let visit = test.broker.services.visit();
        vhost.declare_queue(&visit, declare).unwrap().queue
    };
    let message = NewMessage {
        persistent: true,
        ..crate::broker::testing::message("", "retried")
    };
    for _ in 0..count / 100 {
        let visit = test.broker.services.visit();
        declared.publish(&visit, std::iter::repeat_n(&message, 100));
        drop(visit);
        let mut seqs = Vec::new();
        while seqs.len() < 100 {
            let visit = test.broker.services.visit();
            let got = declared.get(&visit, false, |delivery, _| seqs.push(delivery.seq));
            drop(visit);
            if let GetOutcome::Unsaved(ticket) = got {
                test.wait(ticket);
            }
        }
        let visit = test.broker.services.visit();
        let _ = declared.requeue(&visit, ConsumerId::NONE, &seqs, Return::Failed);
    }
    let ticket = test.broker.services.visit().ticket();
    test.wait(ticket);
}

#[test]
fn retries_wait_in_the_store_before_and_after_a_restart() {
    const COUNT: usize = 10_000;
    let mut test = TestBroker::new();
    fill_with_retries(&test, COUNT);
    for _ in 0..2 {
        let vhost = test.broker.vhost("/").unwrap();
        let retried = vhost.queue("retried").unwrap();
        let counts = retried.counts();
        assert_eq!((counts.ready, counts.delayed), (0, COUNT as u64));
        let resident = retried.retries_in_memory();
        assert!(resident <= LIMITS.near_max + 256, "{resident} in memory");
        drop((vhost, retried));
        test = test.restart();
    }
}
