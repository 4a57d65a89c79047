//! Exchanges of a virtual host: declared, deleted, gone with their last binding.

use std::sync::Arc;

use amq_protocol::types::FieldTable;

use super::{Topology, VHost};
use crate::broker::arguments::{self, Arguments, equivalence};
use crate::broker::binding::Destination;
use crate::broker::deduplication::Settings;
use crate::broker::delays::{Delays, Target};
use crate::broker::error::Error;
use crate::broker::exchange::{Exchange, ExchangeSpec, ExchangeType};
use crate::broker::names::{Resource, is_reserved};
use crate::broker::state;
use crate::broker::{ConnectionId, NOBODY};
use crate::message::Ticket;
use crate::message::op::Op;
use crate::store::{RecoveredDue, Visit};

/// The only argument that exchanges of every type know.
const ALTERNATE_EXCHANGE: &str = "alternate-exchange";

/// What exchange.declare asks for, unless it is passive.
#[derive(Debug, Clone)]
pub struct ExchangeDeclare {
    /// Its name.
    pub name: Arc<str>,
    /// The name of its type.
    pub kind: Box<str>,
    /// Survives a restart.
    pub durable: bool,
    /// Goes with its last outgoing binding.
    pub auto_delete: bool,
    /// Clients cannot publish to it.
    pub internal: bool,
    /// Arguments as they came.
    pub arguments: FieldTable,
    /// Who declares.
    pub connection: ConnectionId,
}

impl ExchangeDeclare {
    /// The exchange that `alternate-exchange` names, if it is a name: its permissions are to be checked when the
    /// exchange is new.
    pub fn alternate_exchange(&self) -> Option<String> {
        let value = self.arguments.inner().get(ALTERNATE_EXCHANGE)?;
        value
            .as_long_string()
            .map(|name| String::from_utf8_lossy(name.as_bytes()).into_owned())
    }

    /// What a new exchange would be. Messages that wait in it have no id yet.
    ///
    /// # Errors
    /// An unknown type, or arguments that it refuses.
    pub(in crate::broker) fn spec(&self, resource: &Resource) -> Result<ExchangeSpec, Error> {
        let kind = ExchangeType::from_name(&self.kind)?;
        kind.validate(&self.arguments)?;
        Settings::from_arguments(kind.name, &self.arguments)?;
        Ok(ExchangeSpec {
            name: self.name.clone(),
            kind,
            durable: self.durable,
            auto_delete: self.auto_delete,
            internal: self.internal,
            arguments: Arguments::new(&self.arguments),
            delays_id: None,
            alternate: arguments::exchange_name(resource, &self.arguments, ALTERNATE_EXCHANGE)?,
        })
    }

    /// Compares with the exchange that exists.
    ///
    /// # Errors
    /// An unknown type, or the first difference.
    pub(in crate::broker) fn check_equivalence(
        &self,
        resource: &Resource,
        spec: &ExchangeSpec,
    ) -> Result<(), Error> {
        let kind = ExchangeType::from_name(&self.kind)?;
        equivalence::check_property(resource, "type", kind.name, spec.kind.name)?;
        equivalence::check_property(resource, "durable", self.durable, spec.durable)?;
        equivalence::check_property(resource, "auto_delete", self.auto_delete, spec.auto_delete)?;
        equivalence::check_property(resource, "internal", self.internal, spec.internal)?;
        equivalence::check_arguments(
            resource,
            [ALTERNATE_EXCHANGE],
            &self.arguments,
            &spec.arguments.table(),
        )
    }
}

impl VHost {
    /// A passive declaration: asks whether the exchange exists.
    ///
    /// # Errors
    /// It does not, or it is the default exchange.
    pub fn exchange_passive(&self, name: &str) -> Result<Arc<Exchange>, Error> {
        self.check_not_default(name)?;
        self.exchange_for(name)
    }

    /// Declares an exchange: creates it, or compares it with the one that exists.
    ///
    /// # Errors
    /// An unknown type, the default exchange, a reserved name, an alternate exchange that is no name, or a difference
    /// from the existing exchange.
    pub fn declare_exchange(
        &self,
        visit: &Visit<'_>,
        declare: ExchangeDeclare,
    ) -> Result<Ticket, Error> {
        let kind = ExchangeType::from_name(&declare.kind)?;
        self.check_not_default(&declare.name)?;
        let resource = self.exchange_resource(&declare.name);
        let mut topology = self.topology.lock();
        if topology.deleted {
            return Err(Error::VHostDeleted(self.name.clone()));
        }
        if let Some(exchange) = self.exchange(&declare.name) {
            declare.check_equivalence(&resource, &exchange.spec)?;
            return Ok(if declare.durable {
                topology.latest
            } else {
                Ticket::IMMEDIATE
            });
        }
        if is_reserved(&declare.name) {
            return Err(Error::ReservedName(resource));
        }
        let room = self.services.census.check_exchanges();
        room.map_err(|full| Error::NodeExchangeLimit {
            exchange: resource.clone(),
            limit: full.limit,
        })?;
        let mut spec = declare.spec(&resource)?;
        spec.delays_id = kind.delays().then(|| self.services.store.next_queue_id());
        let mut ticket = Ticket::IMMEDIATE;
        if spec.durable {
            ticket = visit.push(state::put_exchange(&self.name, &spec));
            topology.latest = ticket;
        }
        let exchange = self.add_exchange(&mut topology, spec, RecoveredDue::default());
        self.tell_exchange_created(&exchange, declare.connection);
        Ok(ticket)
    }

    /// The exchange for what the broker itself tells, made if there is none. It stays when that is switched off.
    pub(in crate::broker) fn own_exchange(
        &self,
        visit: &Visit<'_>,
        name: &'static str,
    ) -> (Arc<Exchange>, Ticket) {
        let mut topology = self.topology.lock();
        if let Some(exchange) = self.exchange(name) {
            return (exchange, topology.latest);
        }
        let spec = super::builtin(name, "topic");
        topology.latest = visit.push(state::put_exchange(&self.name, &spec));
        let exchange = self.add_exchange(&mut topology, spec, RecoveredDue::default());
        (exchange, topology.latest)
    }

    /// Deletes an exchange with the bindings from and to it. One that does not exist counts as deleted.
    ///
    /// # Errors
    /// The default exchange, a reserved name, or bindings lead from it and it was to be deleted only if unused.
    pub fn delete_exchange(
        &self,
        visit: &Visit<'_>,
        name: &str,
        if_unused: bool,
        connection: ConnectionId,
    ) -> Result<Ticket, Error> {
        self.check_not_default(name)?;
        if is_reserved(name) {
            return Err(Error::SystemExchange(self.exchange_resource(name)));
        }
        let mut topology = self.topology.lock();
        let Some(exchange) = self.exchange(name) else {
            return Ok(topology.latest);
        };
        if if_unused && exchange.binding_count() > 0 {
            return Err(Error::InUse(self.exchange_resource(name)));
        }
        self.remove_exchange(visit, &mut topology, &exchange, connection);
        Ok(if exchange.spec.durable {
            topology.latest
        } else {
            Ticket::IMMEDIATE
        })
    }

    /// Puts an exchange into the virtual host as the store remembers it, with what waits in it.
    pub(in crate::broker) fn recover_exchange(&self, spec: ExchangeSpec, due: RecoveredDue) {
        drop(self.add_exchange(&mut self.topology.lock(), spec, due));
    }

    fn add_exchange(
        &self,
        topology: &mut Topology,
        spec: ExchangeSpec,
        due: RecoveredDue,
    ) -> Arc<Exchange> {
        let delays = spec.delays_id.map(|id| {
            let target = Target::Exchange {
                name: spec.name.clone(),
                vhost: self.me.clone(),
            };
            Delays::new(id, target, &self.services, due)
        });
        let mut exchange = Exchange::new(spec).deduplicating(&self.name);
        if let Some(delays) = delays {
            exchange = exchange.with_delays(delays);
        }
        let exchange = Arc::new(exchange);
        let name = &exchange.spec.name;
        if let Some(alternate) = self.alternate_for(&exchange) {
            topology.add_alternate(&alternate, name);
            exchange.set_alternate(Some(alternate));
        }
        self.exchanges
            .write()
            .insert(name.clone(), exchange.clone());
        // Those that did without their alternate exchange have one now.
        for waiting in topology.with_alternate(name) {
            if let Some(waiting) = self.exchange(waiting) {
                waiting.changed();
            }
        }
        exchange
    }

    /// Takes an exchange out with all its bindings. Auto-delete exchanges that only led here go too.
    pub(super) fn remove_exchange(
        &self,
        visit: &Visit<'_>,
        topology: &mut Topology,
        exchange: &Arc<Exchange>,
        by: ConnectionId,
    ) {
        self.remove_exchange_alone(visit, topology, exchange, by);
        self.remove_bindings_to(visit, topology, &Destination::Exchange(exchange.clone()));
    }

    /// The exchange and its outgoing bindings, without those that lead to it.
    pub(super) fn remove_exchange_alone(
        &self,
        visit: &Visit<'_>,
        topology: &mut Topology,
        exchange: &Arc<Exchange>,
        by: ConnectionId,
    ) {
        let name = &exchange.spec.name;
        self.exchanges.write().remove(name);
        exchange.mark_deleted();
        if let Some(alternate) = exchange.alternate() {
            topology.remove_alternate(&alternate, name);
        }
        if let Some(delays) = exchange.delays() {
            delays.delete(visit);
        }
        if exchange.spec.durable {
            topology.latest = visit.push(Op::DeleteState {
                key: state::exchange_key(&self.name, name),
            });
        }
        if let Some(memory) = &exchange.deduplication {
            memory.retire(visit);
        }
        for binding in exchange.unbind_all() {
            topology.remove_binding(&binding);
            self.forget_binding(visit, topology, exchange, &binding, NOBODY);
        }
        self.tell_exchange_deleted(exchange, by);
    }
}
