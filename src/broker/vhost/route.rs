//! Where a message goes: from its exchange over the bindings to queues, each reached once.

use std::collections::HashSet;
use std::sync::Arc;

use super::VHost;
use crate::broker::binding::Destination;
use crate::broker::deduplication::Deduplication;
use crate::broker::direct_reply::{ReplySink, is_reply_name};
use crate::broker::exchange::{Exchange, Message};
use crate::broker::queue::Queue;
use crate::message::record::NewMessage;
use crate::store::Visit;

/// Up to this many a scan is faster than a hash.
const SCANNED_MAX: usize = 16;

/// The queues that a message goes to, for as long as [`Route::is_current`].
#[derive(Debug, Default)]
pub struct Route {
    /// Each once, in the order in which they were found.
    pub queues: Vec<Arc<Queue>>,
    /// Consumers that get the message without a queue.
    pub replies: Vec<Arc<dyn ReplySink>>,
    /// What the exchange remembers of the messages published to it.
    pub deduplication: Option<Arc<Deduplication>>,
    /// The message has been published before, and goes nowhere.
    pub is_duplicate: bool,
    /// May be remembered for the next message with the same exchange and key. Not so when more than the key decided
    /// (headers, chance), when an exchange must see every message, or when a queue that may be declared at any time was
    /// missing.
    pub cacheable: bool,
    /// Exchanges that the message has to wait in before it goes on from there.
    waits: Option<Waits>,
    /// Every exchange that was looked at, with its version before.
    visited: Vec<(Arc<Exchange>, u64)>,
}

#[derive(Debug)]
struct Waits {
    exchanges: Vec<Arc<Exchange>>,
    delay_ms: u64,
    routing_keys: Vec<Box<str>>,
}

impl Route {
    /// Whether nothing on the way has changed since. For a route through the default exchange it asks the queues, which
    /// are found by their names there.
    pub fn is_current(&self) -> bool {
        if self.visited.is_empty() {
            return !self.queues.iter().any(|queue| queue.is_deleted())
                && !self.replies.iter().any(|sink| sink.is_ended());
        }
        self.visited
            .iter()
            .all(|(exchange, version)| exchange.version() == *version)
    }

    /// Whether messages that differ in their bodies only can take it together: nothing on the way looks at each.
    pub fn takes_runs(&self) -> bool {
        self.cacheable
            && self.deduplication.is_none()
            && self.replies.is_empty()
            && !self.is_delayed()
    }

    /// Whether a message waits in an exchange before it goes on.
    pub const fn is_delayed(&self) -> bool {
        self.waits.is_some()
    }

    /// Lets `message` wait where it has to. Its copies in the route's queues are the caller's to deliver.
    pub fn hold(&self, visit: &Visit<'_>, message: &NewMessage<'_>) {
        let Some(waits) = &self.waits else { return };
        for exchange in &waits.exchanges {
            if let Some(delays) = exchange.delays() {
                delays.hold(visit, message, &waits.routing_keys, waits.delay_ms);
            }
        }
    }

    /// Whether a message that takes it reaches nobody. A duplicate has reached somebody before.
    pub const fn is_empty(&self) -> bool {
        self.queues.is_empty() && self.replies.is_empty() && !self.is_duplicate
    }

    /// What becomes of a duplicate.
    pub fn of_duplicate() -> Self {
        Self {
            is_duplicate: true,
            ..Self::default()
        }
    }
}

impl VHost {
    /// Where a message with these routing keys goes: its own, and those of its CC and BCC headers. The rest of
    /// `message` is read only if some exchange on the way asks for it.
    pub fn route(
        &self,
        exchange: &Arc<Exchange>,
        routing_keys: &[&str],
        message: &NewMessage<'_>,
    ) -> Route {
        if exchange.is_default() {
            return self.route_by_name(routing_keys);
        }
        let mut message = Message::new(routing_keys, message, &*self.services.random);
        Route {
            deduplication: exchange.deduplication.clone(),
            ..self.route_by_bindings(exchange, &mut message)
        }
    }

    /// Every queue is bound to the default exchange under its name, and so is every consumer of direct replies.
    fn route_by_name(&self, routing_keys: &[&str]) -> Route {
        let mut found = Found::default();
        let queues = self.queues.read();
        let named: Vec<_> = routing_keys
            .iter()
            .filter_map(|name| queues.get(*name))
            .cloned()
            .collect();
        drop(queues);
        let consumers = &self.reply_consumers;
        let mut reply_keys: Vec<&str> = routing_keys
            .iter()
            .copied()
            .filter(|key| is_reply_name(key))
            .collect();
        reply_keys.sort_unstable();
        reply_keys.dedup();
        let replies: Vec<_> = reply_keys
            .iter()
            .filter_map(|key| consumers.find(key))
            .collect();
        let cacheable = named.len() + replies.len() == routing_keys.len();
        for queue in named {
            found.add_queue(&queue);
        }
        Route {
            queues: found.queues,
            replies,
            cacheable,
            ..Route::default()
        }
    }

    fn route_by_bindings(&self, exchange: &Arc<Exchange>, message: &mut Message<'_>) -> Route {
        let mut found = Found::default();
        let mut waits: Option<Waits> = None;
        let mut visited: Vec<(Arc<Exchange>, u64)> = Vec::with_capacity(1);
        found.add_exchange(exchange);
        while let Some(exchange) = found.exchanges.get(visited.len()).cloned() {
            // Read before the bindings: a change in between makes the route stale, not wrong.
            visited.push((exchange.clone(), exchange.version()));
            if exchange.delays().is_some()
                && let Some(delay_ms) = message.delay_ms()
            {
                let waits = waits.get_or_insert_with(|| Waits {
                    exchanges: Vec::new(),
                    delay_ms,
                    routing_keys: message.owned_routing_keys(),
                });
                waits.exchanges.push(exchange);
                continue;
            }
            let mut matched = false;
            exchange.route(message, &mut |destination| {
                matched = true;
                found.add(destination);
            });
            if !matched
                && let Some(alternate) = exchange.alternate()
                && let Some(alternate) = self.exchange(&alternate)
            {
                // The default exchange finds nothing here, as in RabbitMQ: it has no bindings of its own.
                found.add_exchange(&alternate);
            }
        }
        Route {
            queues: found.queues,
            cacheable: message.keys_only(),
            waits,
            visited,
            ..Route::default()
        }
    }
}

/// What was found so far, each once.
#[derive(Default)]
struct Found {
    queues: Vec<Arc<Queue>>,
    /// In the order in which they are to be looked at.
    exchanges: Vec<Arc<Exchange>>,
    /// Addresses of both, once they are many.
    index: HashSet<usize>,
}

impl Found {
    fn add(&mut self, destination: &Destination) {
        match destination {
            Destination::Queue(queue) => self.add_queue(queue),
            Destination::Exchange(exchange) => self.add_exchange(exchange),
        }
    }

    fn add_queue(&mut self, queue: &Arc<Queue>) {
        if self.is_new(Arc::as_ptr(queue).addr()) {
            self.queues.push(queue.clone());
        }
    }

    fn add_exchange(&mut self, exchange: &Arc<Exchange>) {
        if self.is_new(Arc::as_ptr(exchange).addr()) {
            self.exchanges.push(exchange.clone());
        }
    }

    fn is_new(&mut self, address: usize) -> bool {
        if self.queues.len() + self.exchanges.len() < SCANNED_MAX {
            return !self.addresses().any(|known| known == address);
        }
        if self.index.is_empty() {
            self.index = self.addresses().collect();
        }
        self.index.insert(address)
    }

    fn addresses(&self) -> impl Iterator<Item = usize> {
        let queues = self.queues.iter().map(|queue| Arc::as_ptr(queue).addr());
        queues.chain(
            self.exchanges
                .iter()
                .map(|exchange| Arc::as_ptr(exchange).addr()),
        )
    }
}
