//! Class queue: declare, bind, unbind, purge, delete.

use std::sync::Arc;

use amq_protocol::protocol::{AMQPClass, queue};
use amq_protocol::types::{FieldTable, ShortString};

use super::{Channel, Outcome};
use crate::amqp::error::AmqpError;
use crate::amqp::names::{generated, short_string, stripped};
use crate::amqp::session::Session;
use crate::auth::{Permission, Resource};
use crate::broker::direct_reply::is_reply_name;
use crate::broker::queue::DeleteCondition;
use crate::broker::vhost::{QueueBind, QueueDeclare};
use crate::config::DeprecatedFeature;
use crate::message::Ticket;

impl Channel {
    pub(super) fn queue_method(&mut self, session: &Session, method: queue::AMQPMethod) -> Outcome {
        match method {
            queue::AMQPMethod::Declare(declare) => self.queue_declare(session, declare),
            queue::AMQPMethod::Bind(bind) => {
                let binding = self.binding(
                    session,
                    &bind.queue,
                    &bind.exchange,
                    &bind.routing_key,
                    bind.arguments,
                )?;
                let ticket = session
                    .vhost
                    .bind_queue(&session.broker.services.visit(), binding)?;
                let ok = AMQPClass::Queue(queue::AMQPMethod::BindOk(queue::BindOk {}));
                self.reply_when_durable(session, ticket, (!bind.nowait).then_some(ok))
            }
            queue::AMQPMethod::Unbind(unbind) => {
                let arguments = unbind.arguments;
                let binding = self.binding(
                    session,
                    &unbind.queue,
                    &unbind.exchange,
                    &unbind.routing_key,
                    arguments,
                )?;
                let ticket = session
                    .vhost
                    .unbind_queue(&session.broker.services.visit(), &binding)?;
                let ok = AMQPClass::Queue(queue::AMQPMethod::UnbindOk(queue::UnbindOk {}));
                self.reply_when_durable(session, ticket, Some(ok))
            }
            queue::AMQPMethod::Purge(purge) => {
                let name = self.queue_name(&purge.queue)?;
                session.check(Permission::Read, Resource::Queue(&name))?;
                let queue = session.vhost.queue_for(&name, session.id)?;
                if queue.is_stream() {
                    return Err(AmqpError::not_supported_by_stream("queue.purge", &queue));
                }
                let message_count = count(queue.purge(&session.broker.services.visit()));
                let ok =
                    AMQPClass::Queue(queue::AMQPMethod::PurgeOk(queue::PurgeOk { message_count }));
                self.reply_when_durable(session, Ticket::IMMEDIATE, (!purge.nowait).then_some(ok))
            }
            queue::AMQPMethod::Delete(delete) => {
                let name = self.queue_name(&delete.queue)?;
                session.check(Permission::Configure, Resource::Queue(&name))?;
                let condition = DeleteCondition {
                    if_unused: delete.if_unused,
                    if_empty: delete.if_empty,
                };
                let visit = session.broker.services.visit();
                let (ready, ticket) = session
                    .vhost
                    .delete_queue(&visit, &name, condition, session.id)?;
                drop(visit);
                let ok = queue::AMQPMethod::DeleteOk(queue::DeleteOk {
                    message_count: count(ready),
                });
                self.reply_when_durable(
                    session,
                    ticket,
                    (!delete.nowait).then_some(AMQPClass::Queue(ok)),
                )
            }
            other => Err(AmqpError::unexpected_method(&AMQPClass::Queue(other))),
        }
    }

    fn queue_declare(&mut self, session: &Session, declare: queue::Declare) -> Outcome {
        let named = stripped(declare.queue.as_str());
        if is_reply_name(&named) {
            return self.reply_queue_declare(session, named, declare.nowait);
        }
        if declare.passive {
            // An empty name is looked up like any other: it does not mean the queue declared last here.
            let name = named;
            check_any(session, &name)?;
            let queue = session.vhost.queue_for(&name, session.id)?;
            queue.declared_again(session.broker.services.now_ms());
            let counts = queue.counts();
            self.last_queue = Some(name.clone());
            let ok = declare_ok(&name, counts.ready, counts.consumers);
            return self.reply_when_durable(
                session,
                Ticket::IMMEDIATE,
                (!declare.nowait).then_some(ok),
            );
        }
        let server_named = named.is_empty();
        let name = if server_named {
            generated("amq.gen-")
        } else {
            named
        };
        session.check(Permission::Configure, Resource::Queue(&name))?;
        let request = QueueDeclare {
            name: name.clone(),
            server_named,
            durable: declare.durable,
            exclusive: declare.exclusive,
            auto_delete: declare.auto_delete,
            arguments: declare.arguments,
            connection: session.id,
        };
        let permitted = &session.config.deprecated_features;
        if !request.durable
            && !request.exclusive
            && !permitted.permit(DeprecatedFeature::TransientNonexclusiveQueues)
            && session.vhost.queue(&name).is_none()
        {
            let feature = DeprecatedFeature::TransientNonexclusiveQueues;
            return Err(AmqpError::denied_feature(feature));
        }
        // Dead letters leave a new queue for that exchange on the declarer's authority.
        if let Some(dead_letter_exchange) = request.dead_letter_exchange()
            && session.vhost.queue(&name).is_none()
        {
            session.check(Permission::Read, Resource::Queue(&name))?;
            session.check(Permission::Write, Resource::Exchange(&dead_letter_exchange))?;
        }
        let declared = session
            .vhost
            .declare_queue(&session.broker.services.visit(), request)?;
        self.last_queue = Some(name.clone());
        let counts = declared.queue.counts();
        let ok = declare_ok(&name, counts.ready, counts.consumers);
        self.reply_when_durable(session, declared.ticket, (!declare.nowait).then_some(ok))
    }

    /// The pseudo-queue of direct reply-to, and each of its consumers, looks like an empty queue with one consumer,
    /// whatever was asked for. No permission is needed.
    fn reply_queue_declare(&mut self, session: &Session, name: Arc<str>, nowait: bool) -> Outcome {
        if !session.vhost.reply_consumers.exists(&name) {
            return Err(AmqpError::queue_not_found(&name, &session.vhost.name));
        }
        let ok = declare_ok(&name, 0, 1);
        self.last_queue = Some(name);
        self.reply_when_durable(session, Ticket::IMMEDIATE, (!nowait).then_some(ok))
    }

    /// A queue name as given, or the queue declared last on this channel for an empty one (semantics row 8).
    pub(super) fn queue_name(&self, name: &ShortString) -> Result<Arc<str>, AmqpError> {
        let name = stripped(name.as_str());
        if !name.is_empty() {
            return Ok(name);
        }
        self.last_queue
            .clone()
            .ok_or_else(|| AmqpError::not_found("no previously declared queue"))
    }

    fn binding(
        &self,
        session: &Session,
        queue: &ShortString,
        exchange: &ShortString,
        routing_key: &ShortString,
        arguments: FieldTable,
    ) -> Result<QueueBind, AmqpError> {
        let name = self.queue_name(queue)?;
        // Empty queue and empty key: the key, too, is the name of the queue declared last (semantics row 9).
        let routing_key: Arc<str> = if queue.as_str().is_empty() && routing_key.as_str().is_empty()
        {
            name.clone()
        } else {
            routing_key.as_str().into()
        };
        let exchange = stripped(exchange.as_str());
        session.vhost.check_not_default(&exchange)?;
        session.check(Permission::Write, Resource::Queue(&name))?;
        session.check(Permission::Read, Resource::Exchange(&exchange))?;
        Ok(QueueBind {
            queue: name,
            exchange,
            routing_key,
            arguments,
            connection: session.id,
        })
    }
}

/// Passive declare needs any one of the permissions (since RabbitMQ 4.3.1, semantics row 7).
fn check_any(session: &Session, name: &str) -> Result<(), AmqpError> {
    let refused = match session.check(Permission::Configure, Resource::Queue(name)) {
        Ok(()) => return Ok(()),
        Err(refused) => refused,
    };
    [Permission::Write, Permission::Read]
        .into_iter()
        .find_map(|permission| session.check(permission, Resource::Queue(name)).ok())
        .ok_or(refused)
}

fn declare_ok(name: &str, ready: u64, consumers: u32) -> AMQPClass {
    AMQPClass::Queue(queue::AMQPMethod::DeclareOk(queue::DeclareOk {
        queue: short_string(name),
        message_count: count(ready),
        consumer_count: consumers,
    }))
}

/// Message counts are 32 bits on the wire.
fn count(messages: u64) -> u32 {
    u32::try_from(messages).unwrap_or(u32::MAX)
}
