//! How many there are of everything that a node limits, over all virtual hosts.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::vhost::VHost;
use crate::config::NodeLimits;
use crate::occupancy::{Full, Occupancy, Place};

/// Counts and their limits.
#[derive(Default)]
pub struct Census {
    limits: NodeLimits,
    connections: Occupancy,
    channels: Occupancy,
    vhosts: Mutex<Vec<Weak<VHost>>>,
}

impl Census {
    /// Counts nothing yet.
    pub fn new(limits: NodeLimits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// What the counts may come to.
    pub const fn limits(&self) -> &NodeLimits {
        &self.limits
    }

    /// One more connection, until the place is dropped.
    ///
    /// # Errors
    /// There are as many as there may be.
    pub fn count_connection(&self) -> Result<Place, Full> {
        self.connections.enter(self.limits.connections)
    }

    /// One more channel, until the place is dropped.
    ///
    /// # Errors
    /// There are as many as there may be.
    pub fn count_channel(&self) -> Result<Place, Full> {
        self.channels.enter(self.limits.channels)
    }

    /// Whether a channel with `count` consumers may have one more.
    ///
    /// # Errors
    /// It has as many as it may have.
    pub fn check_consumers(&self, count: usize) -> Result<(), Full> {
        check(self.limits.consumers_per_channel, || count)
    }

    /// Whether there may be one more virtual host.
    pub(super) fn check_vhosts(&self, count: usize) -> Result<(), Full> {
        check(self.limits.vhosts, || count)
    }

    /// Whether there may be one more queue. Of two that are declared at once in different virtual hosts one may be too
    /// many.
    pub(super) fn check_queues(&self) -> Result<(), Full> {
        check(self.limits.queues, || self.sum(VHost::queue_count))
    }

    /// Whether there may be one more exchange, likewise.
    pub(super) fn check_exchanges(&self) -> Result<(), Full> {
        check(self.limits.exchanges, || self.sum(VHost::exchange_count))
    }

    /// What is in this virtual host counts, until it is gone.
    pub(super) fn add_vhost(&self, vhost: &Arc<VHost>) {
        let mut vhosts = self.vhosts.lock();
        vhosts.retain(|vhost| vhost.strong_count() > 0);
        vhosts.push(Arc::downgrade(vhost));
    }

    fn sum(&self, count: fn(&VHost) -> usize) -> usize {
        let vhosts = self.vhosts.lock();
        let vhosts = vhosts.iter().filter_map(Weak::upgrade);
        vhosts.map(|vhost| count(&vhost)).sum()
    }
}

fn check(limit: Option<u64>, count: impl FnOnce() -> usize) -> Result<(), Full> {
    match limit {
        Some(limit) if count() as u64 >= limit => Err(Full { limit }),
        _ => Ok(()),
    }
}
