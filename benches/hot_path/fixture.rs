//! A broker in a temporary directory, without connections.

use std::sync::Arc;

use leveret::amqp::outbox::Outbox;
use leveret::broker::Services;
use leveret::broker::queue::Queue;
use leveret::broker::vhost::{ExchangeDeclare, QueueBind, QueueDeclare, VHost};
use leveret::config::Config;
use leveret::message::record::{Body, NewMessage};
use tempfile::TempDir;

use super::support;

/// Messages of a batch: the share of one visit.
pub(crate) const BATCH: usize = 256;

/// Who declares.
const CONNECTION: u64 = 1;

/// A broker with the virtual host `/`.
pub(crate) struct Fixture {
    pub(crate) services: Services,
    pub(crate) vhost: Arc<VHost>,
    _dir: TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let broker = support::open(&dir, &Config::default());
        Self {
            services: broker.services.clone(),
            vhost: broker.vhost("/").unwrap(),
            _dir: dir,
        }
    }

    pub(crate) fn queue(&self, name: &str, durable: bool) -> Arc<Queue> {
        let declare = QueueDeclare {
            name: name.into(),
            server_named: false,
            durable,
            exclusive: false,
            auto_delete: false,
            arguments: Default::default(),
            connection: CONNECTION,
        };
        let visit = self.services.visit();
        self.vhost.declare_queue(&visit, declare).unwrap().queue
    }

    pub(crate) fn exchange(&self, name: &str, kind: &str) {
        let declare = ExchangeDeclare {
            name: name.into(),
            kind: kind.into(),
            durable: false,
            auto_delete: false,
            internal: false,
            arguments: Default::default(),
            connection: CONNECTION,
        };
        self.vhost
            .declare_exchange(&self.services.visit(), declare)
            .unwrap();
    }

    /// Binds `queue` to `exchange`, with arguments that make headers exchanges take `n = number`.
    pub(crate) fn bind(&self, exchange: &str, queue: &str, routing_key: &str, number: i32) {
        let mut arguments = amq_protocol::types::FieldTable::default();
        if exchange == "headers" {
            arguments.insert("n".into(), number.into());
        }
        let bind = QueueBind {
            queue: queue.into(),
            exchange: exchange.into(),
            routing_key: routing_key.into(),
            arguments,
            connection: CONNECTION,
        };
        self.vhost.bind_queue(&self.services.visit(), bind).unwrap();
    }
}

impl Drop for Fixture {
    /// RocksDB must be closed before the process ends, and the loader's threads hold the store a little longer.
    fn drop(&mut self) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(self.services.store.close());
    }
}

/// An outbox with one open channel, 1.
pub(crate) fn outbox() -> Arc<Outbox> {
    let outbox = Outbox::new(131_072);
    outbox.lock().channels.insert(1, Box::default());
    outbox
}

/// A message as publishers send most.
pub(crate) const fn message(body: &[u8], persistent: bool) -> NewMessage<'_> {
    NewMessage {
        exchange: b"",
        routing_key: b"queue",
        properties: if persistent { &[0x10, 0, 2] } else { &[0, 0] },
        annotations: b"",
        body: Body::Inline(body),
        persistent,
        priority: 0,
        expiry_ms: 0,
    }
}

/// Numbers below `bound` that follow no pattern, the same in every run.
pub(crate) fn random_below(bound: usize) -> impl FnMut() -> usize {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % bound as u64) as usize
    }
}
