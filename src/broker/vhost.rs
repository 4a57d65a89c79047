//! A virtual host: its queues, exchanges and bindings, and the rules by which they come and go.
//!
//! Changes are made one at a time under the topology's lock; look-ups take only the lock of the map. Durable changes
//! are pushed to the store within the caller's visit, in the order in which they happen; what a client hears about them
//! waits for the ticket that each method answers.
//!
//! Lock order: gate (the visit) -> topology -> maps, bindings and policies -> queue. Nothing takes them the other
//! way round: a queue never calls the virtual host while it is locked.

mod administration;
mod arguments;
mod bindings;
mod events;
mod exchanges;
mod parameters;
mod policies;
pub mod publish;
mod queues;
mod route;
mod settings;
#[cfg(test)]
mod tests;
mod topology;

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};

pub use self::administration::{MoveTo, Moving};
pub use self::bindings::{ExchangeBind, QueueBind};
pub use self::exchanges::ExchangeDeclare;
pub use self::parameters::Parameter;
use self::parameters::Parameters;
pub(super) use self::parameters::{PARAMETER_BYTES_MAX, PARAMETER_NAME_BYTES_MAX, check_parameter};
pub use self::queues::{Declared, QueueDeclare};
pub use self::route::{Route, Router};
pub use self::settings::{VHostLimits, VHostSettings};
use self::topology::Topology;
use super::arguments::Arguments;
use super::binding::Binding;
use super::direct_reply::{ReplyConsumers, is_reply_name};
use super::error::Error;
use super::exchange::{
    EVENT_EXCHANGE, Exchange, ExchangeSpec, ExchangeType, LOG_EXCHANGE, PREDECLARED, TRACE_EXCHANGE,
};
use super::firehose::Firehose;
use super::names::{DEFAULT_EXCHANGE, Resource};
use super::policy::{Policies, PolicyKind};
use super::queue::{DeleteCondition, Queue};
use super::{ConnectionId, NOBODY, Services, state};
use crate::message::Ticket;
use crate::message::op::Op;
use crate::occupancy::Occupancy;
use crate::rate::Rates;
use crate::store::Visit;

/// At most this many queues are deleted in one visit when a connection or a virtual host goes.
const DELETED_QUEUES_MAX: usize = 256;

/// A virtual host.
pub struct VHost {
    /// Its name, up to 255 bytes.
    pub name: Arc<str>,
    /// For its queues, some of which end by themselves.
    me: Weak<Self>,
    pub(super) services: Services,
    queues: RwLock<HashMap<Arc<str>, Arc<Queue>>>,
    exchanges: RwLock<HashMap<Arc<str>, Arc<Exchange>>>,
    topology: Mutex<Topology>,
    /// Who waits for direct replies.
    pub reply_consumers: ReplyConsumers,
    /// Copies of messages for those who watch.
    pub firehose: Arc<Firehose>,
    settings: RwLock<VHostSettings>,
    /// By component and name.
    parameters: RwLock<Parameters>,
    /// Those that are in it.
    connections: Occupancy,
    rates: Rates,
    policies: RwLock<Policies>,
    /// Held while a change of the policies, or of the arguments of a queue, is made and applied.
    policy_changes: Mutex<()>,
}

impl VHost {
    /// A virtual host with the exchanges that each has from birth, safe with `ticket`. They are the same everywhere and
    /// always, so the store has no rows for them.
    pub(super) fn new(name: Arc<str>, services: &Services, ticket: Ticket) -> Arc<Self> {
        let exchanges = predeclared().map(|spec| {
            let exchange = Arc::new(Exchange::new(spec));
            (exchange.spec.name.clone(), exchange)
        });
        let exchanges = RwLock::new(exchanges.collect());
        let vhost = Arc::new_cyclic(|me| Self {
            me: me.clone(),
            name,
            services: services.clone(),
            queues: RwLock::default(),
            exchanges,
            topology: Mutex::new(Topology::new(ticket)),
            reply_consumers: ReplyConsumers::default(),
            firehose: Arc::default(),
            settings: RwLock::default(),
            parameters: RwLock::default(),
            connections: Occupancy::default(),
            rates: Rates::default(),
            policies: RwLock::default(),
            policy_changes: Mutex::default(),
        });
        services.census.add_vhost(&vhost);
        vhost
    }

    /// Turns the firehose on or off. It stays so over a restart.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn set_tracing(&self, visit: &Visit<'_>, on: bool) -> std::io::Result<Ticket> {
        let mut topology = self.topology.lock();
        self.trace(on)?;
        if !topology.deleted {
            topology.latest = visit.push(state::put_vhost(&self.name, on, &self.settings()));
        }
        Ok(topology.latest)
    }

    /// The same without a word to the store.
    pub(super) fn trace(&self, on: bool) -> std::io::Result<()> {
        if on {
            self.firehose.turn_on(&self.me)
        } else {
            self.firehose.turn_off();
            Ok(())
        }
    }

    /// The queue called `name`, whoever owns it.
    pub fn queue(&self, name: &str) -> Option<Arc<Queue>> {
        self.queues.read().get(name).cloned()
    }

    /// The exchange called `name`; the default exchange has the empty name.
    pub fn exchange(&self, name: &str) -> Option<Arc<Exchange>> {
        self.exchanges.read().get(name).cloned()
    }

    /// How many queues there are.
    pub fn queue_count(&self) -> usize {
        self.queues.read().len()
    }

    /// How many exchanges there are, the predeclared ones included.
    pub fn exchange_count(&self) -> usize {
        self.exchanges.read().len()
    }

    /// All queues, in no particular order.
    pub fn queues(&self) -> Vec<Arc<Queue>> {
        self.queues.read().values().cloned().collect()
    }

    /// All exchanges, the default one among them, in no particular order.
    pub fn exchanges(&self) -> Vec<Arc<Exchange>> {
        self.exchanges.read().values().cloned().collect()
    }

    /// All bindings but those that every queue has to the default exchange, in no particular order.
    pub fn bindings(&self) -> Vec<Arc<Binding>> {
        self.exchanges()
            .iter()
            .flat_map(|exchange| exchange.bindings())
            .collect()
    }

    /// The queue called `name`, for `connection` to use.
    ///
    /// # Errors
    /// It does not exist, or it is exclusive to another connection.
    pub fn queue_for(&self, name: &str, connection: ConnectionId) -> Result<Arc<Queue>, Error> {
        let queue = self
            .queue(name)
            .ok_or_else(|| Error::NotFound(self.queue_resource(name)))?;
        self.check_access(&queue, connection)?;
        Ok(queue)
    }

    /// The exchange called `name`, to publish to.
    ///
    /// # Errors
    /// It does not exist.
    pub fn exchange_for(&self, name: &str) -> Result<Arc<Exchange>, Error> {
        self.exchange(name)
            .ok_or_else(|| Error::NotFound(self.exchange_resource(name)))
    }

    /// Refuses the default exchange, which clients can only publish to.
    ///
    /// # Errors
    /// `name` is the empty name.
    pub fn check_not_default(&self, name: &str) -> Result<(), Error> {
        if name == DEFAULT_EXCHANGE {
            Err(Error::DefaultExchange)
        } else {
            Ok(())
        }
    }

    /// When everything that was declared here is safe.
    pub fn ticket(&self) -> Ticket {
        self.topology.lock().latest
    }

    /// The virtual host is deleted: removes its rows, all at once, so that a new one of its name begins with none.
    /// Nothing can be declared or bound any more.
    pub(super) fn retire(&self, visit: &Visit<'_>) -> Ticket {
        self.topology.lock().deleted = true;
        let forget = |key| visit.push(Op::DeleteState { key });
        for exchange in self.exchanges() {
            for binding in exchange.bindings() {
                if exchange.spec.durable && binding.destination.is_durable() {
                    forget(state::binding_key(&self.name, &binding));
                }
            }
            if let Some(memory) = &exchange.deduplication {
                memory.retire(visit);
            }
            if exchange.spec.durable && !is_predeclared(&exchange.spec.name) {
                forget(state::exchange_key(&self.name, &exchange.spec.name));
            }
            if let Some(delays) = exchange.delays() {
                delays.delete(visit);
            }
        }
        for queue in self.queues().iter().filter(|queue| queue.spec.durable) {
            forget(state::queue_key(&self.name, &queue.spec.name));
        }
        for kind in [PolicyKind::User, PolicyKind::Operator] {
            for policy in self.policies(kind) {
                forget(state::policy_key(&self.name, kind, &policy.name));
            }
        }
        for (component, name) in self.parameters.read().keys() {
            forget(state::parameter_key(&self.name, component, name));
        }
        forget(state::vhost_key(&self.name))
    }

    /// The virtual host was deleted: takes everything out of it that keeps memory or store busy. True: not all queues
    /// are deleted yet, call again in a further visit.
    pub(super) fn clear(&self, visit: &Visit<'_>) -> bool {
        self.firehose.turn_off();
        let mut topology = self.topology.lock();
        for exchange in self.exchanges() {
            exchange.unbind_all();
        }
        topology.clear();
        let some: Vec<_> = self
            .queues
            .read()
            .values()
            .take(DELETED_QUEUES_MAX)
            .cloned()
            .collect();
        for queue in &some {
            self.queues.write().remove(&queue.spec.name);
            self.tell_queue_deleted(queue, NOBODY);
            // Without a condition nothing is refused.
            let _ = queue.delete(visit, DeleteCondition::default());
        }
        some.len() == DELETED_QUEUES_MAX
    }

    fn queue_resource(&self, name: &str) -> Resource {
        Resource::queue(&self.name, name)
    }

    fn exchange_resource(&self, name: &str) -> Resource {
        Resource::exchange(&self.name, name)
    }

    fn check_access(&self, queue: &Queue, connection: ConnectionId) -> Result<(), Error> {
        match queue.spec.exclusive_owner {
            Some(owner) if owner != connection => {
                Err(Error::Locked(self.queue_resource(&queue.spec.name)))
            }
            _ => Ok(()),
        }
    }
}

/// The exchanges that each virtual host has from birth.
pub(super) fn predeclared() -> impl Iterator<Item = ExchangeSpec> {
    let names = PREDECLARED.iter().chain(&[(DEFAULT_EXCHANGE, "direct")]);
    names.map(|(name, kind)| builtin(name, kind))
}

fn is_predeclared(name: &str) -> bool {
    name == DEFAULT_EXCHANGE || PREDECLARED.iter().any(|(known, _)| *known == name)
}

/// An exchange that the broker itself declares.
pub(super) fn builtin(name: &str, kind: &str) -> ExchangeSpec {
    ExchangeSpec {
        name: name.into(),
        kind: ExchangeType::from_name(kind)
            .expect("a test checks that predeclared exchanges have types"),
        durable: true,
        auto_delete: false,
        internal: [TRACE_EXCHANGE, EVENT_EXCHANGE, LOG_EXCHANGE].contains(&name),
        arguments: Arguments::default(),
        alternate: None,
        delays_id: None,
    }
}
