//! The routes that a channel remembers.
//!
//! Alternating keys are the normal case, so there are sixteen. An entry holds while its route is current and the
//! permissions are those under which it was made: a hit stands for every check that a publish passes. Publishers with
//! more keys than that miss all the time: then the exchange and its permission are still remembered, and nothing is
//! allocated.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::DefaultHashBuilder;

use crate::broker::exchange::Exchange;
use crate::broker::vhost::{Route, Router};

/// Routes that a channel remembers.
const ROUTES_MAX: usize = 16;

/// Exchange and routing key of a message.
#[derive(Clone, Copy)]
pub(super) struct RouteKey<'a> {
    exchange: &'a [u8],
    routing_key: &'a [u8],
    /// The version of the permissions that hold.
    permissions: u64,
    hash: u64,
}

struct Entry {
    /// Exchange, then routing key. The buffer is used again for the next entry.
    octets: Vec<u8>,
    exchange_octets: usize,
    permissions: u64,
    route: Arc<Route>,
}

/// The exchange that was published to last, by somebody who may.
struct Target {
    permissions: u64,
    exchange: Arc<Exchange>,
}

/// Most recently found routes.
#[derive(Default)]
pub(super) struct RouteCache {
    /// The hashes of the entries' keys: to look through them is most of a miss.
    hashes: Vec<u64>,
    entries: Vec<Entry>,
    /// Where the next entry goes when all places are taken.
    next: usize,
    target: Option<Target>,
    seed: DefaultHashBuilder,
    /// Finds the routes that are not remembered.
    pub(super) router: Router,
}

impl RouteCache {
    /// What a route is looked up by.
    pub(super) fn key<'a>(
        &self,
        exchange: &'a [u8],
        routing_key: &'a [u8],
        permissions: u64,
    ) -> RouteKey<'a> {
        RouteKey {
            exchange,
            routing_key,
            permissions,
            hash: self.seed.hash_one((exchange, routing_key)),
        }
    }

    /// The route for this exchange and key, if it is known and still right.
    pub(super) fn get(&self, key: &RouteKey<'_>) -> Option<&Arc<Route>> {
        let entry = &self.entries[self.position(key)?];
        let holds = entry.permissions == key.permissions && entry.route.is_current();
        holds.then_some(&entry.route)
    }

    /// Remembers a route.
    pub(super) fn insert(&mut self, key: &RouteKey<'_>, route: Arc<Route>) {
        let at = match self.position(key) {
            Some(stale) => stale,
            None if self.entries.len() < ROUTES_MAX => {
                self.hashes.push(key.hash);
                self.entries.push(Entry {
                    octets: Vec::new(),
                    exchange_octets: 0,
                    permissions: 0,
                    route: route.clone(),
                });
                self.entries.len() - 1
            }
            None => {
                self.next = (self.next + 1) % ROUTES_MAX;
                self.next
            }
        };
        self.hashes[at] = key.hash;
        let entry = &mut self.entries[at];
        entry.octets.clear();
        entry.octets.extend_from_slice(key.exchange);
        entry.octets.extend_from_slice(key.routing_key);
        entry.exchange_octets = key.exchange.len();
        entry.permissions = key.permissions;
        entry.route = route;
    }

    fn position(&self, key: &RouteKey<'_>) -> Option<usize> {
        let mut from = 0;
        loop {
            let at = from
                + self.hashes[from..]
                    .iter()
                    .position(|hash| *hash == key.hash)?;
            let entry = &self.entries[at];
            if entry.octets.split_at(entry.exchange_octets) == (key.exchange, key.routing_key) {
                return Some(at);
            }
            from = at + 1;
        }
    }

    /// The exchange of `key`, if it is the one of the latest [`Self::remember_target`] and the user may still publish
    /// to it.
    pub(super) fn target(&self, key: &RouteKey<'_>) -> Option<Arc<Exchange>> {
        let target = self.target.as_ref()?;
        let exchange = &target.exchange;
        let holds = exchange.spec.name.as_bytes() == key.exchange
            && target.permissions == key.permissions
            && !exchange.is_deleted();
        holds.then(|| exchange.clone())
    }

    /// The user may publish to `exchange`, which `key` names.
    pub(super) fn remember_target(&mut self, key: &RouteKey<'_>, exchange: &Arc<Exchange>) {
        self.target = Some(Target {
            permissions: key.permissions,
            exchange: exchange.clone(),
        });
    }

    /// Forgets everything: the user changed.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
