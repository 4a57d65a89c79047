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

/// Routes that a [`Router`] keeps for those that are found again.
const KNOWN_MAX: usize = 16;

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
                delays.hold(visit, message, &waits.routing_keys, waits.delay_ms, true);
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
        let mut found = Found::default();
        let search = self.search(&mut found, exchange, routing_keys, message);
        found.take_route(search)
    }

    /// Adds to `found`, which is empty, where a message goes.
    fn search(
        &self,
        found: &mut Found,
        exchange: &Arc<Exchange>,
        routing_keys: &[&str],
        message: &NewMessage<'_>,
    ) -> Search {
        if exchange.is_default() {
            return self.search_by_name(found, routing_keys);
        }
        let mut message = Message::new(routing_keys, message, &*self.services.random);
        let waits = self.search_bindings(found, exchange, &mut message);
        Search {
            deduplication: exchange.deduplication.clone(),
            replies: Vec::new(),
            cacheable: message.keys_only(),
            waits,
        }
    }

    /// Every queue is bound to the default exchange under its name, and so is every consumer of direct replies.
    fn search_by_name(&self, found: &mut Found, routing_keys: &[&str]) -> Search {
        let mut named = 0;
        let queues = self.queues.read();
        for queue in routing_keys.iter().filter_map(|name| queues.get(*name)) {
            named += 1;
            found.add_queue(queue);
        }
        drop(queues);
        let mut reply_keys: Vec<&str> = routing_keys
            .iter()
            .copied()
            .filter(|key| is_reply_name(key))
            .collect();
        reply_keys.sort_unstable();
        reply_keys.dedup();
        let consumers = &self.reply_consumers;
        let replies: Vec<_> = reply_keys
            .iter()
            .filter_map(|key| consumers.find(key))
            .collect();
        Search {
            deduplication: None,
            cacheable: named + replies.len() == routing_keys.len(),
            replies,
            waits: None,
        }
    }

    fn search_bindings(
        &self,
        found: &mut Found,
        exchange: &Arc<Exchange>,
        message: &mut Message<'_>,
    ) -> Option<Waits> {
        let mut waits: Option<Waits> = None;
        found.add_exchange(exchange);
        let mut visited = 0;
        while let Some((next, version)) = found.exchanges.get_mut(visited) {
            // Read before the bindings: a change in between makes the route stale, not wrong.
            *version = next.version();
            visited += 1;
            // The first is the caller's: it need not be counted once more.
            let kept;
            let exchange = if visited == 1 {
                exchange
            } else {
                kept = next.clone();
                &kept
            };
            if exchange.delays().is_some()
                && let Some(delay_ms) = message.delay_ms()
            {
                let waits = waits.get_or_insert_with(|| Waits {
                    exchanges: Vec::new(),
                    delay_ms,
                    routing_keys: message.owned_routing_keys(),
                });
                waits.exchanges.push(exchange.clone());
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
        waits
    }
}

/// What was found beside queues and exchanges.
struct Search {
    deduplication: Option<Arc<Deduplication>>,
    replies: Vec<Arc<dyn ReplySink>>,
    cacheable: bool,
    waits: Option<Waits>,
}

impl Search {
    /// Whether queues and exchanges are all that there is to say.
    fn is_plain(&self) -> bool {
        self.replies.is_empty() && self.waits.is_none()
    }
}

/// Finds routes for a publisher, and makes those with the same destinations once: a publisher with very many routing
/// keys mostly has few of them.
#[derive(Default)]
pub struct Router {
    found: Found,
    known: Vec<Arc<Route>>,
    /// Which of the known is forgotten next.
    next: usize,
}

impl Router {
    /// As [`VHost::route`].
    pub fn route(
        &mut self,
        vhost: &VHost,
        exchange: &Arc<Exchange>,
        routing_keys: &[&str],
        message: &NewMessage<'_>,
    ) -> Arc<Route> {
        let search = vhost.search(&mut self.found, exchange, routing_keys, message);
        if !search.is_plain() {
            return Arc::new(self.found.take_route(search));
        }
        let is_same = |route: &&Arc<Route>| self.found.leads_like(route, &search);
        if let Some(known) = self.known.iter().find(is_same).cloned() {
            self.found.clear();
            return known;
        }
        let route = Arc::new(self.found.take_route(search));
        if self.known.len() < KNOWN_MAX {
            self.known.push(route.clone());
        } else {
            self.next = (self.next + 1) % KNOWN_MAX;
            self.known[self.next] = route.clone();
        }
        route
    }
}

/// What was found so far, each once.
#[derive(Default)]
struct Found {
    queues: Vec<Arc<Queue>>,
    /// In the order in which they are to be looked at, with their versions before.
    exchanges: Vec<(Arc<Exchange>, u64)>,
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
            self.exchanges.push((exchange.clone(), 0));
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
        let exchanges = self.exchanges.iter();
        queues.chain(exchanges.map(|(exchange, _)| Arc::as_ptr(exchange).addr()))
    }

    /// Whether `route` says what was found.
    fn leads_like(&self, route: &Route, search: &Search) -> bool {
        let mut queues = self.queues.iter().zip(&route.queues);
        let mut exchanges = self.exchanges.iter().zip(&route.visited);
        self.queues.len() == route.queues.len()
            && self.exchanges.len() == route.visited.len()
            && search.cacheable == route.cacheable
            && queues.all(|(left, right)| Arc::ptr_eq(left, right))
            && exchanges.all(|(left, right)| Arc::ptr_eq(&left.0, &right.0) && left.1 == right.1)
    }

    /// The route that was found; nothing is found then.
    fn take_route(&mut self, search: Search) -> Route {
        self.index.clear();
        Route {
            queues: std::mem::take(&mut self.queues),
            replies: search.replies,
            deduplication: search.deduplication,
            is_duplicate: false,
            cacheable: search.cacheable,
            waits: search.waits,
            visited: std::mem::take(&mut self.exchanges),
        }
    }

    fn clear(&mut self) {
        self.queues.clear();
        self.exchanges.clear();
        self.index.clear();
    }
}
