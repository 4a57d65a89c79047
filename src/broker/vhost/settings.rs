//! What is set for a virtual host as a whole: its limits and the type of queues that name none.

use serde::{Deserialize, Serialize};

use super::VHost;
use crate::broker::arguments::QueueType;
use crate::broker::error::Error;
use crate::broker::state;
use crate::message::Ticket;
use crate::occupancy::{Full, Place};
use crate::store::Visit;

/// Limits of a virtual host; `None` for no limit. One that is lowered closes and deletes nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct VHostLimits {
    /// Open connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u64>,
    /// Queues, transient and exclusive ones included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_queues: Option<u64>,
}

/// What is set for a virtual host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VHostSettings {
    /// RabbitMQ's `vhost-limits`.
    #[serde(default)]
    pub limits: VHostLimits,
    /// RabbitMQ's metadata `default_queue_type`; `None` for what the configuration says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_queue_type: Option<QueueType>,
}

impl VHost {
    /// What is set at the moment.
    pub fn settings(&self) -> VHostSettings {
        *self.settings.read()
    }

    /// Replaces the limits.
    ///
    /// # Errors
    /// The virtual host was deleted.
    pub fn set_limits(&self, visit: &Visit<'_>, limits: VHostLimits) -> Result<Ticket, Error> {
        self.change_settings(visit, |settings| settings.limits = limits)
    }

    /// Sets the type of durable queues that are declared without `x-queue-type`; `None` for what the configuration
    /// says. Queues that exist keep theirs.
    ///
    /// # Errors
    /// The virtual host was deleted.
    pub fn set_default_queue_type(
        &self,
        visit: &Visit<'_>,
        queue_type: Option<QueueType>,
    ) -> Result<Ticket, Error> {
        self.change_settings(visit, |settings| settings.default_queue_type = queue_type)
    }

    /// The type of durable queues that are declared without one.
    pub fn default_queue_type(&self) -> QueueType {
        let own = self.settings.read().default_queue_type;
        own.unwrap_or(self.services.default_queue_type)
    }

    /// How many connections are in it.
    pub fn connection_count(&self) -> u64 {
        self.connections.count()
    }

    /// A connection enters.
    pub(in crate::broker) fn enter(&self) -> Result<Place, Full> {
        let limit = self.settings.read().limits.max_connections;
        self.connections.enter(limit)
    }

    /// Refuses one more queue where there are as many as there may be.
    pub(super) fn check_queue_limit(&self, name: &str) -> Result<(), Error> {
        match self.settings.read().limits.max_queues {
            Some(limit) if self.queues.read().len() as u64 >= limit => Err(Error::QueueLimit {
                queue: name.into(),
                vhost: self.name.clone(),
                limit,
            }),
            _ => Ok(()),
        }
    }

    /// Puts the settings back as the store remembers them.
    pub(in crate::broker) fn recover_settings(&self, settings: VHostSettings) {
        *self.settings.write() = settings;
    }

    fn change_settings(
        &self,
        visit: &Visit<'_>,
        change: impl FnOnce(&mut VHostSettings),
    ) -> Result<Ticket, Error> {
        let mut topology = self.topology.lock();
        if topology.deleted {
            return Err(Error::VHostDeleted(self.name.clone()));
        }
        let mut settings = self.settings.write();
        let before = *settings;
        change(&mut settings);
        if *settings != before {
            let row = state::put_vhost(&self.name, self.firehose.is_on(), &settings);
            topology.latest = visit.push(row);
        }
        Ok(topology.latest)
    }
}
