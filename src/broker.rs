//! The broker: virtual hosts with their exchanges, queues and bindings.
//!
//! It knows no socket, no protocol frame, no RocksDB. All changes happen in visits; durable ones are pushed to the
//! store as operations, and what a client hears about them waits for their ticket.

pub mod admission;
pub mod alarms;
pub mod arguments;
pub mod binding;
pub mod census;
pub mod dead_letter;
pub mod deduplication;
pub mod definitions;
pub mod delays;
pub mod delivery;
pub mod direct_reply;
pub mod due;
pub mod error;
pub mod events;
pub mod exchange;
pub mod firehose;
pub mod keeper;
pub mod loader;
pub mod log_exchange;
pub mod memory;
pub mod names;
mod outlet;
pub mod parameters;
pub mod policy;
pub mod queue;
pub mod recovery;
#[cfg(test)]
mod simulation;
pub mod state;
#[cfg(test)]
pub(crate) mod testing;
pub mod timers;
pub mod vhost;

use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;
use std::sync::Arc;

use parking_lot::RwLock;
use serde_json::Value;

use self::alarms::Alarms;
use self::arguments::QueueType;
use self::census::Census;
use self::dead_letter::DeadLetters;
use self::error::Error;
use self::events::Events;
use self::exchange::{EVENT_EXCHANGE, LOG_EXCHANGE};
use self::loader::Loader;
use self::log_exchange::LogExchange;
use self::memory::QueueMemory;
use self::queue::Queue;
use self::timers::Timers;
use self::vhost::{VHost, VHostSettings};
use crate::auth::Auth;
use crate::clock::Clock;
use crate::message::Ticket;
use crate::random::Random;
use crate::store::{Store, Visit};

/// Number of a connection, never reused while the broker runs.
pub type ConnectionId = u64;

/// Stands for what no connection asks for: no connection has this number.
pub const NOBODY: ConnectionId = 0;

/// What everything in the broker needs. Cheap to clone, and small: every queue keeps it.
#[derive(Clone)]
pub struct Services(Arc<Parts>);

impl From<Parts> for Services {
    fn from(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Deref for Services {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// What [`Services`] leads to.
pub struct Parts {
    /// Where durable things go.
    pub store: Store,
    /// The budget of the queues.
    pub memory: Arc<QueueMemory>,
    /// Reads cold messages back.
    pub loader: Loader,
    /// Calls at a time.
    pub timers: Timers,
    /// Moves messages that died.
    pub dead_letters: DeadLetters,
    /// How much there is of what is limited.
    pub census: Arc<Census>,
    /// What happens, for those who want to know.
    pub events: Arc<Events>,
    /// What keeps publishers waiting.
    pub alarms: Arc<Alarms>,
    /// The time, for visits.
    pub clock: Arc<dyn Clock>,
    /// Chance, for exchanges that choose.
    pub random: Arc<dyn Random>,
    /// What this node is called.
    pub node: Arc<str>,
    /// The type of durable queues that are declared without one, in virtual hosts that say nothing else.
    pub default_queue_type: QueueType,
}

impl Services {
    /// Opens a visit: one batch of changes, without waiting for anything. Never open a second one meanwhile.
    pub fn visit(&self) -> Visit<'_> {
        self.store.visit(self.now_ms())
    }

    /// Milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }
}

/// A broker.
pub struct Broker {
    /// What it stands on.
    pub services: Services,
    /// Users and permissions.
    pub auth: Arc<Auth>,
    vhosts: RwLock<HashMap<Arc<str>, Arc<VHost>>>,
    global_parameters: RwLock<BTreeMap<Arc<str>, Value>>,
}

impl Broker {
    fn new(
        services: Services,
        auth: Arc<Auth>,
        vhosts: HashMap<Arc<str>, Arc<VHost>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            services,
            auth,
            vhosts: RwLock::new(vhosts),
            global_parameters: RwLock::default(),
        })
    }

    /// Switches events on: they go to `amq.rabbitmq.event` of this virtual host. `None`: it does not exist.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn switch_events_on(&self, name: &str) -> std::io::Result<Option<Ticket>> {
        let Some(vhost) = self.vhost(name) else {
            return Ok(None);
        };
        let services = self.services.clone();
        let (exchange, ticket) = vhost.own_exchange(&services.visit(), EVENT_EXCHANGE);
        services
            .events
            .switch_on(&Arc::downgrade(&vhost), &exchange)?;
        self.auth
            .observe(Box::new(move |change| services.tell_auth(change)));
        Ok(Some(ticket))
    }

    /// Takes the log: from now on its lines go to `amq.rabbitmq.log` of this virtual host. `None`: it does not exist.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn switch_log_on(&self, name: &str, log: &LogExchange) -> std::io::Result<Option<Ticket>> {
        let Some(vhost) = self.vhost(name) else {
            return Ok(None);
        };
        let (exchange, ticket) = vhost.own_exchange(&self.services.visit(), LOG_EXCHANGE);
        log.switch_on(&vhost, &exchange)?;
        Ok(Some(ticket))
    }

    /// The virtual host called `name`.
    pub fn vhost(&self, name: &str) -> Option<Arc<VHost>> {
        self.vhosts.read().get(name).cloned()
    }

    /// All virtual hosts, in no particular order.
    pub fn vhosts(&self) -> Vec<Arc<VHost>> {
        self.vhosts.read().values().cloned().collect()
    }

    /// Calls `act` for every queue that there is now. No lock is held meanwhile.
    pub fn for_each_queue(&self, mut act: impl FnMut(&Arc<Queue>)) {
        for vhost in self.vhosts() {
            for queue in vhost.queues() {
                act(&queue);
            }
        }
    }

    /// Creates a virtual host with its predeclared exchanges. One that exists is left as it is.
    ///
    /// # Errors
    /// There are as many as the node may have.
    pub fn create_vhost(
        &self,
        visit: &Visit<'_>,
        name: &str,
    ) -> Result<(Arc<VHost>, Ticket), Error> {
        let mut vhosts = self.vhosts.write();
        if let Some(vhost) = vhosts.get(name) {
            return Ok((vhost.clone(), vhost.ticket()));
        }
        let room = self.services.census.check_vhosts(vhosts.len());
        room.map_err(|full| Error::VHostLimit {
            vhost: name.into(),
            limit: full.limit,
        })?;
        let settings = VHostSettings::of_new(self.services.default_queue_type);
        let ticket = visit.push(state::put_vhost(name, false, &settings));
        let vhost = VHost::new(name.into(), &self.services, ticket);
        vhost.recover_settings(settings);
        vhosts.insert(vhost.name.clone(), vhost.clone());
        drop(vhosts);
        vhost.tell_created();
        Ok((vhost, ticket))
    }

    /// Takes a virtual host out and forgets it with all that was declared in it; `None` if there is none. Its
    /// connections and the permissions in it are the caller's to end. Afterwards its queues are to be deleted with
    /// [`Self::clear_vhost`].
    ///
    /// # Errors
    /// It is protected from deletion.
    pub fn delete_vhost(
        &self,
        visit: &Visit<'_>,
        name: &str,
    ) -> Result<Option<(Arc<VHost>, Ticket)>, Error> {
        let mut vhosts = self.vhosts.write();
        let Some(vhost) = vhosts.get(name).cloned() else {
            return Ok(None);
        };
        if vhost.settings().protected_from_deletion {
            return Err(Error::ProtectedVHost(vhost.name.clone()));
        }
        vhosts.remove(name);
        // Before the name is free: the rows of a new virtual host of this name must come after.
        let ticket = vhost.retire(visit);
        self.services.tell_vhost_deleted(name);
        Ok(Some((vhost, ticket)))
    }

    /// Deletes the queues of a virtual host that was taken out, a bounded number in one visit. True: call again in a
    /// further visit.
    pub fn clear_vhost(&self, visit: &Visit<'_>, vhost: &VHost) -> bool {
        vhost.clear(visit)
    }
}
