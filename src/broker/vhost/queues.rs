//! Queues of a virtual host: declared, deleted, gone with their connection or their last consumer.

use std::sync::Arc;

use amq_protocol::types::{AMQPValue, FieldTable};

use super::{DELETED_QUEUES_MAX, Topology, VHost};
use crate::broker::arguments::{self, Arguments, QueueArguments, QueueType, equivalence};
use crate::broker::binding::Destination;
use crate::broker::error::Error;
use crate::broker::names::{Resource, is_reserved};
use crate::broker::queue::{DeleteCondition, DeleteRefused, Queue, QueueSpec, RecoveredLanes};
use crate::broker::state;
use crate::broker::{ConnectionId, NOBODY};
use crate::message::op::Op;
use crate::message::{QueueId, Ticket};
use crate::store::Visit;

/// What queue.declare asks for, unless it is passive (that is [`VHost::queue_for`]).
#[derive(Debug, Clone)]
pub struct QueueDeclare {
    /// The name; when the client left it empty, the one that was generated for it.
    pub name: Arc<str>,
    /// The name was generated.
    pub server_named: bool,
    /// Survives a restart. Means nothing for an exclusive queue.
    pub durable: bool,
    /// Only for `connection`, and goes with it.
    pub exclusive: bool,
    /// Goes with its last consumer.
    pub auto_delete: bool,
    /// Arguments as they came.
    pub arguments: FieldTable,
    /// Who declares.
    pub connection: ConnectionId,
}

impl QueueDeclare {
    /// The exchange that `x-dead-letter-exchange` names, if it is a name: its permissions are to be checked when the
    /// queue is new.
    pub fn dead_letter_exchange(&self) -> Option<String> {
        let value = self.arguments.inner().get("x-dead-letter-exchange")?;
        value
            .as_long_string()
            .map(|name| String::from_utf8_lossy(name.as_bytes()).into_owned())
    }

    /// Exclusive queues are never durable, whatever was asked for (semantics row 5).
    const fn is_durable(&self) -> bool {
        self.durable && !self.exclusive
    }

    fn owner(&self) -> Option<ConnectionId> {
        self.exclusive.then_some(self.connection)
    }

    /// Names the default type in a declaration that names none, if such a queue can be of that type
    /// (`rabbit_amqqueue:augment_declare_args`): quorum queues and streams are durable, shared, lasting and have names.
    pub(in crate::broker) fn add_default_type(&mut self, queue_type: QueueType) {
        let can_be = self.is_durable() && !self.auto_delete && !self.server_named;
        if can_be
            && queue_type != QueueType::Classic
            && !self.arguments.contains_key("x-queue-type")
        {
            let name = AMQPValue::LongString(queue_type.name().into());
            self.arguments.insert("x-queue-type".into(), name);
        }
    }

    /// What a new queue would be, with the id that `id` draws.
    ///
    /// # Errors
    /// Properties or arguments that such a queue cannot have.
    pub(in crate::broker) fn spec(
        &self,
        resource: &Resource,
        id: impl FnOnce() -> QueueId,
    ) -> Result<QueueSpec, Error> {
        let arguments = QueueArguments::new(resource, &self.arguments)?;
        check_properties(resource, self, arguments.queue_type())?;
        Ok(QueueSpec {
            id: id(),
            vhost: resource.vhost.clone(),
            name: self.name.clone(),
            durable: self.is_durable(),
            auto_delete: self.auto_delete,
            exclusive_owner: self.owner(),
            arguments: arguments.into(),
        })
    }

    /// Compares with the queue that exists.
    ///
    /// # Errors
    /// It is exclusive to another connection, or the first difference.
    pub(in crate::broker) fn check_equivalence(
        &self,
        resource: &Resource,
        spec: &QueueSpec,
    ) -> Result<(), Error> {
        if spec.exclusive_owner != self.owner() {
            return Err(Error::Locked(resource.clone()));
        }
        equivalence::check_property(resource, "durable", self.is_durable(), spec.durable)?;
        equivalence::check_property(resource, "auto_delete", self.auto_delete, spec.auto_delete)?;
        // Most redeclarations repeat what is there.
        let arguments = spec.arguments.get();
        if arguments.as_bytes() == Arguments::new(&self.arguments).as_bytes() {
            return Ok(());
        }
        let known = arguments.queue_type().arguments();
        equivalence::check_arguments(resource, known, &self.arguments, &arguments.table())
    }
}

/// The queue that was asked for.
#[derive(Debug)]
pub struct Declared {
    /// It, old or new.
    pub queue: Arc<Queue>,
    /// When its declaration is safe.
    pub ticket: Ticket,
    /// It did not exist before.
    pub created: bool,
}

impl VHost {
    /// Declares a queue: creates it, or compares it with the one that exists.
    ///
    /// # Errors
    /// A reserved name, an exclusive queue of somebody else, properties or arguments that differ from those of the
    /// existing queue or that RabbitMQ refuses for a new one.
    pub fn declare_queue(
        &self,
        visit: &Visit<'_>,
        mut declare: QueueDeclare,
    ) -> Result<Declared, Error> {
        let resource = self.queue_resource(&declare.name);
        if declare.server_named {
            check_server_named(&declare.arguments)?;
        } else if is_reserved(&declare.name) {
            // RabbitMQ refuses to redeclare even the queue that it named itself.
            return Err(Error::ReservedName(resource));
        }
        declare.add_default_type(self.default_queue_type());
        let mut topology = self.topology.lock();
        if topology.deleted {
            return Err(Error::VHostDeleted(self.name.clone()));
        }
        if let Some(queue) = self.queue(&declare.name) {
            declare.check_equivalence(&resource, &queue.spec)?;
            queue.declared_again(visit.now_ms());
            let ticket = if queue.spec.durable {
                topology.latest
            } else {
                Ticket::IMMEDIATE
            };
            return Ok(Declared {
                queue,
                ticket,
                created: false,
            });
        }
        self.check_queue_limit(&declare.name)?;
        let spec = declare.spec(&resource, || self.services.store.next_queue_id())?;
        let queue = self.add_queue(&mut topology, spec, RecoveredLanes::default());
        let mut ticket = Ticket::IMMEDIATE;
        if queue.spec.durable {
            ticket = visit.push(state::put_queue(&queue.spec, false));
            topology.latest = ticket;
        }
        self.tell_queue_created(&queue, declare.connection);
        Ok(Declared {
            queue,
            ticket,
            created: true,
        })
    }

    /// Deletes a queue with its messages and bindings and answers how many messages were ready. A queue that does not
    /// exist counts as deleted.
    ///
    /// # Errors
    /// It is exclusive to another connection, or the condition does not hold.
    pub fn delete_queue(
        &self,
        visit: &Visit<'_>,
        name: &str,
        condition: DeleteCondition,
        connection: ConnectionId,
    ) -> Result<(u64, Ticket), Error> {
        let mut topology = self.topology.lock();
        let Some(queue) = self.queue(name) else {
            return Ok((0, topology.latest));
        };
        self.check_access(&queue, connection)?;
        let resource = || self.queue_resource(name);
        if queue.spec.arguments.get().queue_type() == QueueType::Quorum
            && let Some(flag) = first_flag(condition)
        {
            return Err(Error::ConditionNotSupported {
                resource: resource(),
                flag,
            });
        }
        let ready = self
            .remove_queue(visit, &mut topology, &queue, condition, connection)
            .map_err(|refused| match refused {
                DeleteRefused::InUse => Error::InUse(resource()),
                DeleteRefused::NotEmpty => Error::NotEmpty(resource()),
            })?;
        Ok((
            ready,
            if queue.spec.durable {
                topology.latest
            } else {
                Ticket::IMMEDIATE
            },
        ))
    }

    /// The last consumer of an auto-delete queue went: so does the queue, unless another consumer came meanwhile.
    pub fn queue_became_unused(&self, visit: &Visit<'_>, queue: &Arc<Queue>) {
        if !queue.spec.auto_delete || queue.is_deleted() {
            return;
        }
        let mut topology = self.topology.lock();
        let condition = DeleteCondition {
            if_unused: true,
            if_empty: false,
        };
        // Refused: a new consumer keeps it.
        let _ = self.remove_queue(visit, &mut topology, queue, condition, NOBODY);
    }

    /// A queue was not used for as long as `x-expires` says: it goes, unless a consumer came meanwhile.
    pub(in crate::broker) fn queue_expired(&self, visit: &Visit<'_>, queue: &Arc<Queue>) {
        let mut topology = self.topology.lock();
        let condition = DeleteCondition {
            if_unused: true,
            if_empty: false,
        };
        // Refused: it is used again.
        let _ = self.remove_queue(visit, &mut topology, queue, condition, NOBODY);
    }

    /// A connection closed: its exclusive queues go, a bounded number in one visit. True: call again in a further
    /// visit.
    #[must_use = "queues may be left"]
    pub fn delete_exclusive_queues(&self, visit: &Visit<'_>, connection: ConnectionId) -> bool {
        let mut topology = self.topology.lock();
        let names = topology.exclusive_queues(connection, DELETED_QUEUES_MAX);
        for name in &names {
            topology.remove_exclusive(connection, name);
            if let Some(queue) = self.queue(name) {
                // Without a condition nothing is refused.
                let condition = DeleteCondition::default();
                let _ = self.remove_queue(visit, &mut topology, &queue, condition, NOBODY);
            }
        }
        names.len() == DELETED_QUEUES_MAX
    }

    /// Puts a queue into the virtual host as the store remembers it.
    pub(in crate::broker) fn recover_queue(
        &self,
        spec: QueueSpec,
        recovered: RecoveredLanes,
    ) -> Arc<Queue> {
        self.add_queue(&mut self.topology.lock(), spec, recovered)
    }

    fn add_queue(
        &self,
        topology: &mut Topology,
        spec: QueueSpec,
        recovered: RecoveredLanes,
    ) -> Arc<Queue> {
        let settings = self.settings_for(&spec);
        let queue = Queue::new(spec, settings, &self.services, self.me.clone(), recovered);
        if let Some(owner) = queue.spec.exclusive_owner {
            topology.add_exclusive(owner, &queue.spec.name);
        }
        self.queues
            .write()
            .insert(queue.spec.name.clone(), queue.clone());
        queue.started(self.services.now_ms());
        queue
    }

    fn remove_queue(
        &self,
        visit: &Visit<'_>,
        topology: &mut Topology,
        queue: &Arc<Queue>,
        condition: DeleteCondition,
        by: ConnectionId,
    ) -> Result<u64, DeleteRefused> {
        let ready = queue.delete(visit, condition)?;
        let name = &queue.spec.name;
        {
            let mut queues = self.queues.write();
            // The name may belong to a new queue by now.
            if queues
                .get(name)
                .is_some_and(|current| Arc::ptr_eq(current, queue))
            {
                queues.remove(name);
            } else {
                return Ok(ready);
            }
        }
        if let Some(owner) = queue.spec.exclusive_owner {
            topology.remove_exclusive(owner, name);
        }
        if queue.spec.durable {
            topology.latest = visit.push(Op::DeleteState {
                key: state::queue_key(&self.name, name),
            });
        }
        self.remove_bindings_to(visit, topology, &Destination::Queue(queue.clone()));
        self.tell_queue_deleted(queue, by);
        Ok(ready)
    }
}

fn check_server_named(table: &FieldTable) -> Result<(), Error> {
    match arguments::queue_type(table) {
        Some(queue_type @ (QueueType::Quorum | QueueType::Stream)) => {
            Err(Error::ServerNamedQueue(queue_type))
        }
        // A type that does not exist is refused as an argument.
        Some(QueueType::Classic) | None => Ok(()),
    }
}

/// What quorum queues and streams refuse (semantics row 81).
fn check_properties(
    resource: &Resource,
    declare: &QueueDeclare,
    queue_type: QueueType,
) -> Result<(), Error> {
    let property = match queue_type {
        QueueType::Classic => return Ok(()),
        QueueType::Quorum | QueueType::Stream if declare.auto_delete => "auto-delete",
        QueueType::Quorum | QueueType::Stream if declare.exclusive => "exclusive-owner",
        QueueType::Quorum | QueueType::Stream if !declare.durable => "non-durable",
        QueueType::Quorum | QueueType::Stream => return Ok(()),
    };
    Err(Error::InvalidProperty {
        property,
        resource: resource.clone(),
    })
}

/// The flag that RabbitMQ names in its refusal.
const fn first_flag(condition: DeleteCondition) -> Option<&'static str> {
    match condition {
        DeleteCondition {
            if_unused: true, ..
        } => Some("if-unused"),
        DeleteCondition { if_empty: true, .. } => Some("if-empty"),
        _ => None,
    }
}
