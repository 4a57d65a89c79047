//! Bindings of a virtual host: made, undone, and gone with one of their ends.

use std::sync::Arc;

use amq_protocol::types::FieldTable;

use super::{Topology, VHost, is_reply_name};
use crate::broker::arguments::Arguments;
use crate::broker::binding::{Binding, Destination};
use crate::broker::error::Error;
use crate::broker::exchange::{Exchange, KeptMessage};
use crate::broker::queue::Published;
use crate::broker::state;
use crate::broker::{ConnectionId, NOBODY};
use crate::message::Ticket;
use crate::message::op::Op;
use crate::store::Visit;

/// What queue.bind and queue.unbind name.
#[derive(Debug, Clone)]
pub struct QueueBind {
    /// The destination.
    pub queue: Arc<str>,
    /// The source.
    pub exchange: Arc<str>,
    /// Binding key.
    pub routing_key: Arc<str>,
    /// Arguments as they came.
    pub arguments: FieldTable,
    /// Who binds.
    pub connection: ConnectionId,
}

/// What exchange.bind and exchange.unbind name.
#[derive(Debug, Clone)]
pub struct ExchangeBind {
    /// The destination.
    pub destination: Arc<str>,
    /// The source.
    pub source: Arc<str>,
    /// Binding key.
    pub routing_key: Arc<str>,
    /// Arguments as they came.
    pub arguments: FieldTable,
    /// Who binds.
    pub connection: ConnectionId,
}

impl VHost {
    /// Binds a queue to an exchange. A binding that exists is left as it is.
    ///
    /// # Errors
    /// One of them does not exist or is the default exchange, the exchange's type refuses key or arguments, or the
    /// queue is exclusive to another connection; in this order.
    pub fn bind_queue(&self, visit: &Visit<'_>, bind: QueueBind) -> Result<Ticket, Error> {
        self.check_not_default(&bind.exchange)?;
        if is_reply_name(&bind.queue) {
            // Since RabbitMQ 4.3; before, there was no such queue.
            return Err(Error::ReplyQueue(self.queue_resource(&bind.queue)));
        }
        let mut topology = self.topology.lock();
        let source = self.exchange_for(&bind.exchange)?;
        let queue = self
            .queue(&bind.queue)
            .ok_or_else(|| Error::NotFound(self.queue_resource(&bind.queue)))?;
        let destination = Destination::Queue(queue.clone());
        let leads_to = destination.leads_to();
        source
            .spec
            .validate_binding(&bind.routing_key, &bind.arguments, leads_to)?;
        self.check_access(&queue, bind.connection)?;
        let binding = binding(&source, destination, &bind.routing_key, &bind.arguments);
        self.bind(visit, &mut topology, &source, binding, bind.connection)
    }

    /// Undoes a binding of a queue. What does not exist counts as undone.
    ///
    /// # Errors
    /// The default exchange, or the queue is exclusive to another connection.
    pub fn unbind_queue(&self, visit: &Visit<'_>, bind: &QueueBind) -> Result<Ticket, Error> {
        self.check_not_default(&bind.exchange)?;
        let mut topology = self.topology.lock();
        let (Some(source), Some(queue)) = (self.exchange(&bind.exchange), self.queue(&bind.queue))
        else {
            return Ok(topology.latest);
        };
        let binding = binding(
            &source,
            Destination::Queue(queue.clone()),
            &bind.routing_key,
            &bind.arguments,
        );
        if source.contains(&binding) {
            self.check_access(&queue, bind.connection)?;
        }
        Ok(self.unbind(visit, &mut topology, &source, &binding, bind.connection))
    }

    /// Binds an exchange to an exchange. Cycles are allowed: a message passes each exchange once.
    ///
    /// # Errors
    /// One of them does not exist or is the default exchange, or the source's type refuses key or arguments.
    pub fn bind_exchange(&self, visit: &Visit<'_>, bind: ExchangeBind) -> Result<Ticket, Error> {
        self.check_not_default(&bind.destination)?;
        self.check_not_default(&bind.source)?;
        let mut topology = self.topology.lock();
        let source = self.exchange_for(&bind.source)?;
        let destination = Destination::Exchange(self.exchange_for(&bind.destination)?);
        let leads_to = destination.leads_to();
        source
            .spec
            .validate_binding(&bind.routing_key, &bind.arguments, leads_to)?;
        let binding = binding(&source, destination, &bind.routing_key, &bind.arguments);
        self.bind(visit, &mut topology, &source, binding, bind.connection)
    }

    /// Undoes a binding between exchanges. What does not exist counts as undone.
    ///
    /// # Errors
    /// The default exchange.
    pub fn unbind_exchange(&self, visit: &Visit<'_>, bind: &ExchangeBind) -> Result<Ticket, Error> {
        self.check_not_default(&bind.destination)?;
        self.check_not_default(&bind.source)?;
        let mut topology = self.topology.lock();
        let (Some(source), Some(destination)) = (
            self.exchange(&bind.source),
            self.exchange(&bind.destination),
        ) else {
            return Ok(topology.latest);
        };
        let binding = binding(
            &source,
            Destination::Exchange(destination),
            &bind.routing_key,
            &bind.arguments,
        );
        Ok(self.unbind(visit, &mut topology, &source, &binding, bind.connection))
    }

    /// Makes a binding that the store remembers. False: one of its ends does not exist.
    pub(in crate::broker) fn recover_binding(&self, stored: &state::BindingRow<'_>) -> bool {
        let destination = match stored.destination {
            state::DestinationName::Queue(name) => self.queue(name).map(Destination::Queue),
            state::DestinationName::Exchange(name) => {
                self.exchange(name).map(Destination::Exchange)
            }
        };
        let (Some(source), Some(destination)) = (self.exchange(stored.source), destination) else {
            return false;
        };
        let binding = Arc::new(Binding {
            source: source.spec.name.clone(),
            destination,
            routing_key: stored.routing_key.into(),
            arguments: stored.arguments.clone(),
        });
        let mut topology = self.topology.lock();
        if source.bind(&binding).is_some() {
            topology.add_binding(binding);
        }
        true
    }

    fn bind(
        &self,
        visit: &Visit<'_>,
        topology: &mut Topology,
        source: &Arc<Exchange>,
        binding: Binding,
        by: ConnectionId,
    ) -> Result<Ticket, Error> {
        if topology.deleted {
            return Err(Error::VHostDeleted(self.name.clone()));
        }
        let binding = Arc::new(binding);
        let durable = is_durable(source, &binding);
        if let Some(kept) = source.bind(&binding) {
            if durable {
                topology.latest = visit.push(state::put_binding(&self.name, &binding));
            }
            topology.add_binding(binding.clone());
            self.tell_binding_created(&binding, by);
            for message in kept {
                self.deliver_kept(visit, &binding.destination, &message);
            }
        }
        Ok(if durable {
            topology.latest
        } else {
            Ticket::IMMEDIATE
        })
    }

    /// A new binding gets a message that its source has kept.
    fn deliver_kept(&self, visit: &Visit<'_>, destination: &Destination, kept: &KeptMessage) {
        let message = kept.message(visit.now_ms(), self.services.store.next_body_id());
        let queues = match destination {
            Destination::Queue(queue) => vec![queue.clone()],
            Destination::Exchange(exchange) => {
                let route = self.route(exchange, &kept.routing_keys(), &message);
                route.hold(visit, &message);
                route.queues
            }
        };
        for queue in queues {
            if let Published::Accepted { more: true, .. } =
                queue.publish(visit, std::iter::once(&message))
            {
                // Ends with the room of the consumers' outboxes, if not before.
                while queue.pump(visit) {}
            }
        }
    }

    fn unbind(
        &self,
        visit: &Visit<'_>,
        topology: &mut Topology,
        source: &Arc<Exchange>,
        binding: &Binding,
        by: ConnectionId,
    ) -> Ticket {
        let durable = is_durable(source, binding);
        if source.unbind(binding) {
            topology.remove_binding(binding);
            self.forget_binding(visit, topology, source, binding, by);
            self.remove_if_unbound(visit, topology, source);
        }
        if durable {
            topology.latest
        } else {
            Ticket::IMMEDIATE
        }
    }

    /// `destination` is gone: so are the bindings that lead to it, and auto-delete exchanges that led nowhere else, and
    /// so on (semantics row 77).
    pub(super) fn remove_bindings_to(
        &self,
        visit: &Visit<'_>,
        topology: &mut Topology,
        destination: &Destination,
    ) {
        let mut gone = vec![destination.clone()];
        while let Some(destination) = gone.pop() {
            for binding in topology.take_incoming(&destination) {
                let Some(source) = self.exchange(&binding.source) else {
                    continue;
                };
                if !source.unbind(&binding) {
                    continue;
                }
                self.forget_binding(visit, topology, &source, &binding, NOBODY);
                if source.spec.auto_delete && source.binding_count() == 0 {
                    self.remove_exchange_alone(visit, topology, &source, NOBODY);
                    gone.push(Destination::Exchange(source));
                }
            }
        }
    }

    /// An auto-delete exchange goes with its last outgoing binding.
    fn remove_if_unbound(
        &self,
        visit: &Visit<'_>,
        topology: &mut Topology,
        exchange: &Arc<Exchange>,
    ) {
        if exchange.spec.auto_delete && exchange.binding_count() == 0 {
            self.remove_exchange(visit, topology, exchange, NOBODY);
        }
    }

    /// A binding is gone: removes what the store has of it.
    pub(super) fn forget_binding(
        &self,
        visit: &Visit<'_>,
        topology: &mut Topology,
        source: &Exchange,
        binding: &Binding,
        by: ConnectionId,
    ) {
        self.tell_binding_deleted(binding, by);
        if is_durable(source, binding) {
            topology.latest = visit.push(Op::DeleteState {
                key: state::binding_key(&self.name, binding),
            });
        }
    }
}

/// A binding survives a restart when both of its ends do.
fn is_durable(source: &Exchange, binding: &Binding) -> bool {
    source.spec.durable && binding.destination.is_durable()
}

fn binding(
    source: &Exchange,
    destination: Destination,
    routing_key: &str,
    arguments: &FieldTable,
) -> Binding {
    Binding {
        source: source.spec.name.clone(),
        destination,
        routing_key: routing_key.into(),
        arguments: Arguments::new(arguments),
    }
}
