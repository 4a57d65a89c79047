//! The routes that a channel remembers.
//!
//! Alternating keys are the normal case, so there are sixteen. An entry holds while its route is current and the
//! permissions are those under which it was made: a hit stands for every check that a publish passes.

use std::sync::Arc;

use crate::broker::vhost::Route;

/// Routes that a channel remembers.
const ROUTES_MAX: usize = 16;

struct Entry {
    exchange: Box<[u8]>,
    routing_key: Box<[u8]>,
    permissions: u64,
    route: Arc<Route>,
}

/// Most recently found routes.
#[derive(Default)]
pub(super) struct RouteCache {
    entries: Vec<Entry>,
    /// Where the next entry goes when all places are taken.
    next: usize,
    latest: usize,
}

impl RouteCache {
    /// The route for this exchange and key, if it is known and still right.
    pub(super) fn get(
        &mut self,
        exchange: &[u8],
        routing_key: &[u8],
        permissions: u64,
    ) -> Option<&Arc<Route>> {
        let is_match =
            |entry: &Entry| *entry.routing_key == *routing_key && *entry.exchange == *exchange;
        let at = match self.entries.get(self.latest) {
            Some(entry) if is_match(entry) => self.latest,
            _ => self.entries.iter().position(is_match)?,
        };
        let entry = &self.entries[at];
        if entry.permissions != permissions || !entry.route.is_current() {
            self.entries.swap_remove(at);
            self.latest = 0;
            return None;
        }
        self.latest = at;
        Some(&self.entries[at].route)
    }

    /// Remembers a route.
    pub(super) fn insert(
        &mut self,
        exchange: &[u8],
        routing_key: &[u8],
        permissions: u64,
        route: Arc<Route>,
    ) {
        let entry = Entry {
            exchange: exchange.into(),
            routing_key: routing_key.into(),
            permissions,
            route,
        };
        if self.entries.len() < ROUTES_MAX {
            self.entries.push(entry);
            self.latest = self.entries.len() - 1;
        } else {
            self.next = (self.next + 1) % ROUTES_MAX;
            self.entries[self.next] = entry;
            self.latest = self.next;
        }
    }

    /// Forgets everything: the user changed.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
