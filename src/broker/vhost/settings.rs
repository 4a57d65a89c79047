//! What is set for a virtual host as a whole: its limits and the type of queues that name none.

use serde::{Deserialize, Serialize};

use super::VHost;
use crate::broker::arguments::QueueType;
use crate::broker::error::Error;
use crate::broker::state;
use crate::message::Ticket;
use crate::occupancy::{Full, Place};
use crate::rate::{RateLimits, Rates};
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
    /// What is published in it and delivered from it, over all its connections.
    #[serde(flatten)]
    pub rates: RateLimits,
}

/// What is set for a virtual host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VHostSettings {
    /// What it is for, in words; means nothing to the broker.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Likewise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// It cannot be deleted.
    #[serde(default, skip_serializing_if = "is_false")]
    pub protected_from_deletion: bool,
    /// RabbitMQ's `vhost-limits`.
    #[serde(default)]
    pub limits: VHostLimits,
    /// RabbitMQ's metadata `default_queue_type`; `None` for what the configuration says, in virtual hosts that were
    /// created before they kept it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_queue_type: Option<QueueType>,
}

impl VHostSettings {
    /// Those of a new virtual host: as in RabbitMQ it keeps the type that the configuration says now.
    pub(in crate::broker) fn of_new(default_queue_type: QueueType) -> Self {
        Self {
            default_queue_type: Some(default_queue_type),
            ..Self::default()
        }
    }
}

/// For serde.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

impl VHost {
    /// What is set at the moment.
    pub fn settings(&self) -> VHostSettings {
        self.settings.read().clone()
    }

    /// Replaces description and tags.
    ///
    /// # Errors
    /// The virtual host was deleted.
    pub fn describe(
        &self,
        visit: &Visit<'_>,
        description: String,
        tags: Vec<String>,
    ) -> Result<Ticket, Error> {
        self.change_settings(visit, |settings| {
            settings.description = description;
            settings.tags = tags;
        })
    }

    /// Protects the virtual host from deletion, or no more.
    ///
    /// # Errors
    /// The virtual host was deleted.
    pub fn set_deletion_protection(
        &self,
        visit: &Visit<'_>,
        protected: bool,
    ) -> Result<Ticket, Error> {
        self.change_settings(visit, |settings| {
            settings.protected_from_deletion = protected
        })
    }

    /// Replaces the limits.
    ///
    /// # Errors
    /// The virtual host was deleted.
    pub fn set_limits(&self, visit: &Visit<'_>, limits: VHostLimits) -> Result<Ticket, Error> {
        let ticket = self.change_settings(visit, |settings| settings.limits = limits)?;
        self.tell_limits(limits);
        Ok(ticket)
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

    /// What holds it to its rates, whatever they are.
    pub const fn rates(&self) -> &Rates {
        &self.rates
    }

    /// A connection enters.
    pub(in crate::broker) fn enter(&self) -> Result<Place, Full> {
        let limit = self.settings.read().limits.max_connections;
        self.connections.enter(limit)
    }

    /// Refuses one more queue where there are as many as there may be, here or in the node.
    pub(super) fn check_queue_limit(&self, name: &str) -> Result<(), Error> {
        let limit = self.settings.read().limits.max_queues;
        if let Some(limit) = limit
            && self.queue_count() as u64 >= limit
        {
            return Err(Error::QueueLimit {
                queue: name.into(),
                vhost: self.name.clone(),
                limit,
            });
        }
        let room = self.services.census.check_queues();
        room.map_err(|full| Error::NodeQueueLimit {
            queue: name.into(),
            limit: full.limit,
        })
    }

    /// Puts the settings back as the store remembers them.
    pub(in crate::broker) fn recover_settings(&self, settings: VHostSettings) {
        self.rates.set(&settings.limits.rates);
        *self.settings.write() = settings;
    }

    /// Changes what is set, at once.
    pub(in crate::broker) fn change_settings(
        &self,
        visit: &Visit<'_>,
        change: impl FnOnce(&mut VHostSettings),
    ) -> Result<Ticket, Error> {
        let mut topology = self.topology.lock();
        if topology.deleted {
            return Err(Error::VHostDeleted(self.name.clone()));
        }
        let mut settings = self.settings.write();
        let before = settings.clone();
        change(&mut settings);
        self.rates.set(&settings.limits.rates);
        if *settings != before {
            let row = state::put_vhost(&self.name, self.firehose.is_on(), &settings);
            topology.latest = visit.push(row);
        }
        Ok(topology.latest)
    }
}
