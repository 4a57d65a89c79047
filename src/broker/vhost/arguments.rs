//! Arguments of a queue that is there, replaced by administration: a declaration cannot do that.

use amq_protocol::types::FieldTable;

use super::{QueueDeclare, VHost};
use crate::broker::NOBODY;
use crate::broker::arguments::QueueArguments;
use crate::broker::error::Error;
use crate::broker::names::{Resource, is_reserved};
use crate::broker::queue::{Queue, Unchangeable};
use crate::broker::state;
use crate::message::Ticket;

impl VHost {
    /// Replaces all arguments of a queue, as if it had been declared with these, and applies them to what is in it.
    /// Opens visits: the caller must have none open. A declaration with these arguments, and none with the former
    /// ones, is one of this queue from now on; with the ticket also after a restart.
    ///
    /// # Errors
    /// There is no such queue, a declaration would be refused with these arguments, or one of them cannot become
    /// another one: the type, what is dropped because it came before, and a new group while messages are with
    /// consumers.
    /// Nothing is changed then.
    pub fn change_queue_arguments(
        &self,
        name: &str,
        arguments: FieldTable,
    ) -> Result<Ticket, Error> {
        let resource = self.queue_resource(name);
        let _changing = self.policy_changes.lock();
        let (queue, ticket, mut more) = {
            let visit = self.services.visit();
            let mut topology = self.topology.lock();
            if topology.deleted {
                return Err(Error::VHostDeleted(self.name.clone()));
            }
            let queue = self.queue(name);
            let queue = queue.ok_or_else(|| Error::NotFound(resource.clone()))?;
            let mut declare = declaration(&queue, arguments);
            declare.add_default_type(self.default_queue_type());
            let arguments = QueueArguments::new(&resource, &declare.arguments)?;
            let cannot = |refused| cannot_change(&resource, refused);
            check_fixed(&queue.spec.arguments.get(), &arguments).map_err(cannot)?;
            let settings = self.settings_with(&queue.spec, &arguments);
            let changed = queue.change_settings(&visit, settings.shared());
            let more = changed.map_err(cannot)?;
            queue.spec.arguments.replace(arguments);
            if queue.spec.durable {
                topology.latest = visit.push(state::put_queue(&queue.spec, queue.is_paused()));
            }
            (queue, topology.latest, more)
        };
        while more {
            more = queue.pump(&self.services.visit());
        }
        Ok(ticket)
    }
}

/// What declares this queue with other arguments.
fn declaration(queue: &Queue, arguments: FieldTable) -> QueueDeclare {
    let spec = &queue.spec;
    QueueDeclare {
        name: spec.name.clone(),
        server_named: is_reserved(&spec.name),
        durable: spec.durable,
        exclusive: spec.exclusive_owner.is_some(),
        auto_delete: spec.auto_delete,
        arguments,
        connection: spec.exclusive_owner.unwrap_or(NOBODY),
    }
}

/// What is decided when a queue is created.
fn check_fixed(before: &QueueArguments, after: &QueueArguments) -> Result<(), Unchangeable> {
    if after.queue_type() != before.queue_type() {
        return Err(Unchangeable {
            argument: "x-queue-type",
            reason: "the type decides how messages are kept",
        });
    }
    Ok(())
}

fn cannot_change(resource: &Resource, refused: Unchangeable) -> Error {
    Error::CannotChange {
        argument: refused.argument,
        resource: resource.clone(),
        reason: refused.reason,
    }
}
