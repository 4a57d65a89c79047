use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::broker::delivery::{Cancellation, Delivery, DeliverySink};
use crate::broker::queue::ConsumerSpec;
use crate::message::record::{Body, NewMessage};

const LOCKED: &str = "cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be originally declared on \
                      another connection or the exclusive property value does not match that of the original \
                      declaration.";

/// Counts what happens to a consumer.
#[derive(Default)]
struct Sink {
    cancelled: AtomicUsize,
}

impl DeliverySink for Sink {
    fn room_bytes(&self) -> usize {
        usize::MAX
    }

    fn deliver(&self, deliveries: &[Delivery<'_>]) -> usize {
        deliveries.len()
    }

    fn stall(&self) -> bool {
        false
    }

    fn wake(&self) {}

    fn cancelled(&self, _: Cancellation) {
        self.cancelled.fetch_add(1, Ordering::Relaxed);
    }
}

fn consume(
    fixture: &Fixture,
    queue: &Arc<Queue>,
) -> (Arc<Sink>, crate::broker::delivery::ConsumerId) {
    let sink = Arc::<Sink>::default();
    let spec = ConsumerSpec {
        sink: sink.clone(),
        no_ack: false,
        exclusive: false,
        priority: 0,
        prefetch: 0,
        timeout_ms: None,
    };
    let (id, _) = fixture
        .visit(|_, visit| queue.subscribe(visit, spec))
        .unwrap();
    (sink, id)
}

fn publish(fixture: &Fixture, queue: &Arc<Queue>) {
    let message = NewMessage {
        exchange: b"",
        routing_key: b"q",
        properties: &[0, 0],
        annotations: &[],
        body: Body::Inline(b"body"),
        persistent: false,
        priority: 0,
        expiry_ms: 0,
    };
    fixture.visit(|_, visit| queue.publish(visit, std::iter::once(&message)));
}

#[test]
fn a_queue_is_declared_once_and_found_by_name() {
    let fixture = Fixture::new();
    let first = fixture.declare(transient("q")).unwrap();
    let second = fixture.declare(transient("q")).unwrap();
    assert!(first.created && !second.created);
    assert!(Arc::ptr_eq(&first.queue, &second.queue));
    assert!(Arc::ptr_eq(
        &fixture.vhost.queue_for("q", OTHER).unwrap(),
        &first.queue
    ));
    refused(
        fixture.vhost.queue_for("nq", OWN),
        "no queue 'nq' in vhost '/'",
    );
}

#[test]
fn redeclaring_compares_properties_and_known_arguments() {
    let fixture = Fixture::new();
    let with = |entries: &[_]| QueueDeclare {
        arguments: table(entries),
        ..transient("q")
    };
    let ttl = |number| ("x-message-ttl", AMQPValue::LongInt(number));
    fixture.declare(with(&[ttl(1000)])).unwrap();
    let inequivalent = |declare, rest: &str| {
        refused(
            fixture.declare(declare),
            &format!("inequivalent arg {rest}"),
        );
    };
    inequivalent(
        with(&[ttl(2)]),
        "'x-message-ttl' for queue 'q' in vhost '/': received the value '2' of type 'signedint' but current is the value \
         '1000' of type 'signedint'",
    );
    inequivalent(
        transient("q"),
        "'x-message-ttl' for queue 'q' in vhost '/': received none but current is the value '1000' of type 'signedint'",
    );
    inequivalent(
        QueueDeclare {
            durable: true,
            ..with(&[ttl(1000)])
        },
        "'durable' for queue 'q' in vhost '/': received 'true' but current is 'false'",
    );
    inequivalent(
        QueueDeclare {
            auto_delete: true,
            ..with(&[ttl(1000)])
        },
        "'auto_delete' for queue 'q' in vhost '/': received 'true' but current is 'false'",
    );
    inequivalent(
        with(&[ttl(1000), ("x-queue-type", text("bogus"))]),
        "'x-queue-type' for queue 'q' in vhost '/': received the value 'bogus' of type 'longstr' but current is none",
    );
    refused(
        fixture.declare(QueueDeclare {
            exclusive: true,
            ..with(&[ttl(1000)])
        }),
        LOCKED,
    );
    fixture
        .declare(with(&[ttl(1000), ("x-unknown", text("1"))]))
        .unwrap();
    fixture
        .declare(with(&[
            ("x-message-ttl", AMQPValue::LongLongInt(1000)),
            ("x-queue-type", text("classic")),
        ]))
        .unwrap();
}

#[test]
fn arguments_that_every_type_has_here_are_compared_like_rabbitmqs() {
    let fixture = Fixture::new();
    let with = |limit: i32, group| QueueDeclare {
        arguments: table(&[
            ("x-delivery-limit", AMQPValue::LongInt(limit)),
            ("x-message-group", text(group)),
        ]),
        ..transient("q")
    };
    fixture.declare(with(3, "g")).unwrap();
    fixture.declare(with(3, "g")).unwrap();
    refused(
        fixture.declare(with(4, "g")),
        "inequivalent arg 'x-delivery-limit' for queue 'q' in vhost '/': received the value '4' of type 'signedint' but \
         current is the value '3' of type 'signedint'",
    );
    refused(
        fixture.declare(with(3, "h")),
        "inequivalent arg 'x-message-group' for queue 'q' in vhost '/': received the value 'h' of type 'longstr' but \
         current is the value 'g' of type 'longstr'",
    );
    refused(
        fixture.declare(transient("q")),
        "inequivalent arg 'x-delivery-limit' for queue 'q' in vhost '/': received none but current is the value '3' of \
         type 'signedint'",
    );
}

#[test]
fn arguments_of_an_existing_queue_are_compared_not_validated() {
    let fixture = Fixture::new();
    fixture.queue("q");
    let declare = QueueDeclare {
        arguments: table(&[("x-message-ttl", text("5"))]),
        ..transient("q")
    };
    refused(
        fixture.declare(declare.clone()),
        "inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': received the value '5' of type 'longstr' but current \
         is none",
    );
    refused(
        fixture.declare(QueueDeclare {
            name: "new".into(),
            ..declare
        }),
        "invalid arg 'x-message-ttl' for queue 'new' in vhost '/': \"expected integer, got longstr\"",
    );
    assert!(fixture.vhost.queue("new").is_none());
}

#[test]
fn an_exclusive_queue_is_locked_for_others() {
    let fixture = Fixture::new();
    let exclusive = QueueDeclare {
        exclusive: true,
        durable: true,
        ..transient("q")
    };
    let queue = fixture.declare(exclusive.clone()).unwrap().queue;
    assert!(!queue.spec.durable, "exclusive queues are never durable");
    fixture.declare(exclusive.clone()).unwrap();
    fixture
        .declare(QueueDeclare {
            durable: false,
            ..exclusive.clone()
        })
        .unwrap();
    refused(fixture.declare(transient("q")), LOCKED);
    refused(
        fixture.declare(QueueDeclare {
            connection: OTHER,
            ..exclusive
        }),
        LOCKED,
    );
    refused(fixture.vhost.queue_for("q", OTHER), LOCKED);
    let delete = |vhost: &VHost, visit: &Visit<'_>| {
        vhost.delete_queue(visit, "q", DeleteCondition::default(), OTHER)
    };
    refused(fixture.visit(delete), LOCKED);
    let bind = QueueBind {
        connection: OTHER,
        ..queue_bind("q", "amq.direct", "k")
    };
    refused(
        fixture.visit(|vhost, visit| vhost.bind_queue(visit, bind.clone())),
        LOCKED,
    );
    // RabbitMQ looks at the lock only when there is something to undo.
    fixture
        .visit(|vhost, visit| vhost.unbind_queue(visit, &bind))
        .unwrap();
    fixture.bind("q", "amq.direct", "k").unwrap();
    refused(
        fixture.visit(|vhost, visit| vhost.unbind_queue(visit, &bind)),
        LOCKED,
    );
}

#[test]
fn exclusive_queues_go_with_their_connection_in_bounded_visits() {
    let fixture = Fixture::new();
    let declare = |name: &str, connection| {
        fixture
            .declare(QueueDeclare {
                exclusive: true,
                connection,
                ..transient(name)
            })
            .unwrap();
    };
    for number in 0..DELETED_QUEUES_MAX + 10 {
        declare(&format!("q{number}"), OWN);
    }
    declare("other", OTHER);
    fixture.queue("shared");
    assert!(
        fixture.visit(|vhost, visit| vhost.delete_exclusive_queues(visit, OWN)),
        "more are left"
    );
    assert_eq!(fixture.vhost.queues().len(), 12);
    assert!(!fixture.visit(|vhost, visit| vhost.delete_exclusive_queues(visit, OWN)));
    assert_eq!(fixture.vhost.queues().len(), 2);
}

#[test]
fn reserved_names_are_refused_even_for_queues_that_the_broker_named() {
    let fixture = Fixture::new();
    refused(
        fixture.declare(transient("amq.x")),
        "queue name 'amq.x' contains reserved prefix 'amq.*'",
    );
    let generated = QueueDeclare {
        server_named: true,
        ..transient("amq.gen-1")
    };
    fixture.declare(generated).unwrap();
    refused(
        fixture.declare(transient("amq.gen-1")),
        "queue name 'amq.gen-1' contains reserved prefix 'amq.*'",
    );
    fixture.vhost.queue_for("amq.gen-1", OWN).unwrap();
}

#[test]
fn quorum_queues_and_streams_refuse_what_cannot_be_replicated() {
    let fixture = Fixture::new();
    for name in ["quorum", "stream"] {
        let declare = QueueDeclare {
            durable: true,
            arguments: table(&[("x-queue-type", text(name))]),
            ..transient("q")
        };
        let property = |declare, property: &str| {
            refused(
                fixture.declare(declare),
                &format!("invalid property '{property}' for queue 'q' in vhost '/'"),
            );
        };
        property(
            QueueDeclare {
                exclusive: true,
                ..declare.clone()
            },
            "exclusive-owner",
        );
        property(
            QueueDeclare {
                auto_delete: true,
                exclusive: true,
                durable: false,
                ..declare.clone()
            },
            "auto-delete",
        );
        property(
            QueueDeclare {
                durable: false,
                ..declare.clone()
            },
            "non-durable",
        );
        let server_named = QueueDeclare {
            server_named: true,
            name: "amq.gen-1".into(),
            ..declare.clone()
        };
        let text = format!("Cannot declare a server-named queue for type rabbit_{name}_queue");
        refused(fixture.declare(server_named), &text);
        fixture.declare(declare).unwrap();
        fixture.delete_queue("q").unwrap();
    }
}

#[test]
fn deleting_answers_the_ready_messages_and_asks_for_conditions() {
    let fixture = Fixture::new();
    let queue = fixture.queue("q");
    publish(&fixture, &queue);
    let delete = |if_unused, if_empty| {
        fixture.visit(|vhost, visit| {
            vhost.delete_queue(
                visit,
                "q",
                DeleteCondition {
                    if_unused,
                    if_empty,
                },
                OWN,
            )
        })
    };
    refused(delete(false, true), "queue 'q' in vhost '/' not empty");
    let (sink, _) = consume(&fixture, &queue);
    refused(delete(true, false), "queue 'q' in vhost '/' in use");
    assert!(fixture.vhost.queue("q").is_some());
    assert_eq!(delete(false, false).unwrap().0, 1);
    assert_eq!(sink.cancelled.load(Ordering::Relaxed), 1);
    assert!(queue.is_deleted() && fixture.vhost.queue("q").is_none());
    assert_eq!(
        delete(true, true).unwrap(),
        (0, Ticket::IMMEDIATE.max(fixture.vhost.ticket())),
        "missing is deleted"
    );
}

#[test]
fn quorum_queues_are_not_deleted_on_conditions() {
    let fixture = Fixture::new();
    let quorum = table(&[("x-queue-type", text("quorum"))]);
    fixture
        .declare(QueueDeclare {
            durable: true,
            arguments: quorum,
            ..transient("q")
        })
        .unwrap();
    let condition = DeleteCondition {
        if_unused: false,
        if_empty: true,
    };
    refused(
        fixture.visit(|vhost, visit| vhost.delete_queue(visit, "q", condition, OWN)),
        "cannot delete queue 'q' in vhost '/'. queue.delete operations with if-empty flag set are not supported by quorum \
         queues",
    );
    fixture.delete_queue("q").unwrap();
}

#[test]
fn an_auto_delete_queue_goes_with_its_last_consumer_only() {
    let fixture = Fixture::new();
    let queue = fixture
        .declare(QueueDeclare {
            auto_delete: true,
            ..transient("q")
        })
        .unwrap()
        .queue;
    let (_, first) = consume(&fixture, &queue);
    let (_, second) = consume(&fixture, &queue);
    assert!(!fixture.visit(|_, visit| queue.cancel(visit, first)));
    assert!(fixture.visit(|_, visit| queue.cancel(visit, second)));
    let (_, third) = consume(&fixture, &queue);
    fixture.visit(|vhost, visit| vhost.queue_became_unused(visit, &queue));
    assert!(
        fixture.vhost.queue("q").is_some(),
        "a consumer came meanwhile"
    );
    assert!(fixture.visit(|_, visit| queue.cancel(visit, third)));
    fixture.visit(|vhost, visit| vhost.queue_became_unused(visit, &queue));
    assert!(queue.is_deleted() && fixture.vhost.queue("q").is_none());
}

#[test]
fn an_idle_queue_takes_at_most_two_kibibytes() {
    let arguments = table(&[
        ("x-queue-type", text("classic")),
        ("x-message-ttl", AMQPValue::LongInt(60_000)),
    ]);
    let kept = crate::broker::arguments::QueueArguments::new(
        &Resource::queue(&"/".into(), "q"),
        &arguments,
    )
    .unwrap();
    let map_entry = size_of::<(Arc<str>, Arc<Queue>)>() * 2;
    let names = 2 * 255;
    assert!(
        size_of::<Queue>() + kept.as_bytes().len() + map_entry + names <= 2048,
        "{}",
        size_of::<Queue>()
    );
}
