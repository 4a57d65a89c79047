//! What a virtual host knows beside its maps: who leads where, and what must happen when something goes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::broker::ConnectionId;
use crate::broker::binding::{Binding, Destination};
use crate::message::Ticket;

/// Indexes over the bindings and queues of a virtual host. All changes are made under its lock.
#[derive(Default)]
pub(super) struct Topology {
    /// Bindings by the address of their destination.
    incoming: HashMap<usize, HashSet<Arc<Binding>>>,
    /// Names of exchanges by the alternate exchange that they name, existing or not.
    alternates: HashMap<Box<str>, BTreeSet<Arc<str>>>,
    /// Names of exclusive queues by their owner.
    exclusive: BTreeMap<ConnectionId, BTreeSet<Arc<str>>>,
    /// The latest durable change: what repeats it waits for the same ticket.
    pub(super) latest: Ticket,
    /// Nothing can be declared or bound any more.
    pub(super) deleted: bool,
}

impl Topology {
    /// Of a virtual host whose creation is safe with `ticket`.
    pub(super) fn new(ticket: Ticket) -> Self {
        Self {
            latest: ticket,
            ..Self::default()
        }
    }

    pub(super) fn add_binding(&mut self, binding: Arc<Binding>) {
        self.incoming
            .entry(binding.destination.address())
            .or_default()
            .insert(binding);
    }

    pub(super) fn remove_binding(&mut self, binding: &Binding) {
        let address = binding.destination.address();
        if let Some(bindings) = self.incoming.get_mut(&address) {
            bindings.remove(binding);
            if bindings.is_empty() {
                self.incoming.remove(&address);
            }
        }
    }

    /// All bindings that lead to `destination`, which goes.
    pub(super) fn take_incoming(&mut self, destination: &Destination) -> Vec<Arc<Binding>> {
        self.incoming
            .remove(&destination.address())
            .into_iter()
            .flatten()
            .collect()
    }

    pub(super) fn add_alternate(&mut self, alternate: &str, exchange: &Arc<str>) {
        self.alternates
            .entry(alternate.into())
            .or_default()
            .insert(exchange.clone());
    }

    pub(super) fn remove_alternate(&mut self, alternate: &str, exchange: &str) {
        if let Some(exchanges) = self.alternates.get_mut(alternate) {
            exchanges.remove(exchange);
            if exchanges.is_empty() {
                self.alternates.remove(alternate);
            }
        }
    }

    /// The exchanges that name `alternate` as theirs.
    pub(super) fn with_alternate(&self, alternate: &str) -> impl Iterator<Item = &Arc<str>> {
        self.alternates.get(alternate).into_iter().flatten()
    }

    pub(super) fn add_exclusive(&mut self, owner: ConnectionId, queue: &Arc<str>) {
        self.exclusive
            .entry(owner)
            .or_default()
            .insert(queue.clone());
    }

    pub(super) fn remove_exclusive(&mut self, owner: ConnectionId, queue: &str) {
        if let Some(queues) = self.exclusive.get_mut(&owner) {
            queues.remove(queue);
            if queues.is_empty() {
                self.exclusive.remove(&owner);
            }
        }
    }

    /// The first `limit` exclusive queues of a connection, by name.
    pub(super) fn exclusive_queues(&self, owner: ConnectionId, limit: usize) -> Vec<Arc<str>> {
        self.exclusive
            .get(&owner)
            .into_iter()
            .flatten()
            .take(limit)
            .cloned()
            .collect()
    }

    pub(super) fn clear(&mut self) {
        self.incoming.clear();
        self.alternates.clear();
        self.exclusive.clear();
    }
}
