//! The rules of a virtual host. Texts, codes and orders of checks were read from a running RabbitMQ.

mod administration;
mod arguments;
mod bindings;
mod deduplication;
mod exchanges;
mod moves;
mod policies;
mod queues;
mod returns;
mod routes;
mod types;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use amq_protocol::types::{AMQPValue, FieldTable};

use super::*;
use crate::broker::delivery::{Cancellation, Delivery, DeliverySink};
use crate::broker::testing::{TestBroker, message};
use crate::message::Ticket;
use crate::message::record::NewMessage;

/// The connection that most tests are.
const OWN: ConnectionId = 1;
/// Somebody else.
const OTHER: ConnectionId = 2;

/// A virtual host to declare things in.
struct Fixture {
    test: TestBroker,
    vhost: Arc<VHost>,
}

impl Fixture {
    fn new() -> Self {
        let test = TestBroker::new();
        let vhost = test.broker.vhost("/").unwrap();
        Self { test, vhost }
    }

    /// The broker after a restart.
    fn restart(self) -> Self {
        let Self { test, vhost } = self;
        drop(vhost);
        let test = test.restart();
        let vhost = test.broker.vhost("/").unwrap();
        Self { test, vhost }
    }

    fn visit<T>(&self, act: impl FnOnce(&VHost, &Visit<'_>) -> T) -> T {
        act(&self.vhost, &self.test.broker.services.visit())
    }

    fn declare(&self, declare: QueueDeclare) -> Result<Declared, Error> {
        self.visit(|vhost, visit| vhost.declare_queue(visit, declare))
    }

    fn queue(&self, name: &str) -> Arc<Queue> {
        self.declare(transient(name)).unwrap().queue
    }

    fn exchange(&self, name: &str, kind: &str) -> Arc<Exchange> {
        self.declare_exchange(exchange(name, kind)).unwrap();
        self.vhost.exchange(name).unwrap()
    }

    fn declare_exchange(&self, declare: ExchangeDeclare) -> Result<Ticket, Error> {
        self.visit(|vhost, visit| vhost.declare_exchange(visit, declare))
    }

    fn bind(&self, queue: &str, exchange: &str, routing_key: &str) -> Result<Ticket, Error> {
        self.visit(|vhost, visit| vhost.bind_queue(visit, queue_bind(queue, exchange, routing_key)))
    }

    fn unbind(&self, queue: &str, exchange: &str, routing_key: &str) -> Result<Ticket, Error> {
        self.visit(|vhost, visit| {
            vhost.unbind_queue(visit, &queue_bind(queue, exchange, routing_key))
        })
    }

    fn bind_exchange(
        &self,
        destination: &str,
        source: &str,
        routing_key: &str,
    ) -> Result<Ticket, Error> {
        self.visit(|vhost, visit| {
            vhost.bind_exchange(visit, exchange_bind(destination, source, routing_key))
        })
    }

    fn delete_queue(&self, name: &str) -> Result<(u64, Ticket), Error> {
        self.visit(|vhost, visit| vhost.delete_queue(visit, name, DeleteCondition::default(), OWN))
    }

    fn delete_exchange(&self, name: &str) -> Result<Ticket, Error> {
        self.visit(|vhost, visit| vhost.delete_exchange(visit, name, false, NOBODY))
    }

    fn route(&self, exchange: &str, routing_key: &str) -> Route {
        self.route_with(exchange, &[routing_key], &[0, 0])
    }

    fn route_with(&self, exchange: &str, routing_keys: &[&str], properties: &[u8]) -> Route {
        let exchange = self.vhost.exchange(exchange).unwrap();
        let message = NewMessage {
            properties,
            ..message(&exchange.spec.name, routing_keys[0])
        };
        self.vhost.route(&exchange, routing_keys, &message)
    }

    /// Names of the queues that a message goes to, sorted.
    fn routed(&self, exchange: &str, routing_key: &str) -> Vec<String> {
        names(&self.route(exchange, routing_key))
    }
}

/// Takes everything and counts it.
#[derive(Default)]
struct Taker(AtomicUsize);

impl DeliverySink for Taker {
    fn room_bytes(&self) -> usize {
        usize::MAX
    }

    fn deliver(&self, deliveries: &[Delivery<'_>]) -> usize {
        self.0.fetch_add(deliveries.len(), Ordering::Relaxed);
        deliveries.len()
    }

    fn stall(&self) -> bool {
        false
    }

    fn wake(&self) {}

    fn cancelled(&self, _: Cancellation) {}
}

fn names(route: &Route) -> Vec<String> {
    let mut names: Vec<_> = route
        .queues
        .iter()
        .map(|queue| queue.spec.name.to_string())
        .collect();
    names.sort_unstable();
    names
}

fn transient(name: &str) -> QueueDeclare {
    QueueDeclare {
        name: name.into(),
        server_named: false,
        durable: false,
        exclusive: false,
        auto_delete: false,
        arguments: FieldTable::default(),
        connection: OWN,
    }
}

fn durable(name: &str, arguments: &[(&str, AMQPValue)]) -> QueueDeclare {
    QueueDeclare {
        durable: true,
        arguments: table(arguments),
        ..transient(name)
    }
}

fn exchange(name: &str, kind: &str) -> ExchangeDeclare {
    ExchangeDeclare {
        name: name.into(),
        kind: kind.into(),
        durable: false,
        auto_delete: false,
        internal: false,
        arguments: FieldTable::default(),
        connection: OWN,
    }
}

fn queue_bind(queue: &str, exchange: &str, routing_key: &str) -> QueueBind {
    QueueBind {
        queue: queue.into(),
        exchange: exchange.into(),
        routing_key: routing_key.into(),
        arguments: FieldTable::default(),
        connection: OWN,
    }
}

fn exchange_bind(destination: &str, source: &str, routing_key: &str) -> ExchangeBind {
    ExchangeBind {
        destination: destination.into(),
        source: source.into(),
        routing_key: routing_key.into(),
        arguments: FieldTable::default(),
        connection: OWN,
    }
}

fn table(entries: &[(&str, AMQPValue)]) -> FieldTable {
    entries
        .iter()
        .map(|(key, value)| ((*key).into(), value.clone()))
        .collect::<BTreeMap<_, _>>()
        .into()
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Error>, expected: &str) {
    assert_eq!(result.unwrap_err().to_string(), expected);
}
