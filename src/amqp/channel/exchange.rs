//! Class exchange: declare, delete, bind, unbind.

use amq_protocol::protocol::{AMQPClass, exchange};

use super::{Channel, Outcome};
use crate::amqp::error::AmqpError;
use crate::amqp::names::stripped;
use crate::amqp::session::Session;
use crate::auth::{Permission, Resource};
use crate::broker::vhost::{ExchangeBind, ExchangeDeclare};

impl Channel {
    pub(super) fn exchange_method(
        &self,
        session: &Session,
        method: exchange::AMQPMethod,
    ) -> Outcome {
        match method {
            exchange::AMQPMethod::Declare(declare) => self.exchange_declare(session, declare),
            exchange::AMQPMethod::Delete(delete) => self.exchange_delete(session, &delete),
            exchange::AMQPMethod::Bind(bind) => {
                let binding = ExchangeBind {
                    destination: stripped(bind.destination.as_str()),
                    source: stripped(bind.source.as_str()),
                    routing_key: bind.routing_key.as_str().into(),
                    arguments: bind.arguments,
                    connection: session.id,
                };
                check_binding(session, &binding)?;
                let ticket = session
                    .vhost
                    .bind_exchange(&session.broker.services.visit(), binding)?;
                let ok = AMQPClass::Exchange(exchange::AMQPMethod::BindOk(exchange::BindOk {}));
                self.reply_when_durable(session, ticket, (!bind.nowait).then_some(ok))
            }
            exchange::AMQPMethod::Unbind(unbind) => {
                let binding = ExchangeBind {
                    destination: stripped(unbind.destination.as_str()),
                    source: stripped(unbind.source.as_str()),
                    routing_key: unbind.routing_key.as_str().into(),
                    arguments: unbind.arguments,
                    connection: session.id,
                };
                check_binding(session, &binding)?;
                let ticket = session
                    .vhost
                    .unbind_exchange(&session.broker.services.visit(), &binding)?;
                let ok = AMQPClass::Exchange(exchange::AMQPMethod::UnbindOk(exchange::UnbindOk {}));
                self.reply_when_durable(session, ticket, (!unbind.nowait).then_some(ok))
            }
            other => Err(AmqpError::unexpected_method(&AMQPClass::Exchange(other))),
        }
    }

    fn exchange_declare(&self, session: &Session, declare: exchange::Declare) -> Outcome {
        let name = stripped(declare.exchange.as_str());
        let ok = AMQPClass::Exchange(exchange::AMQPMethod::DeclareOk(exchange::DeclareOk {}));
        let reply = (!declare.nowait).then_some(ok);
        if declare.passive {
            session.vhost.exchange_passive(&name)?;
            return self.reply_when_durable(session, crate::message::Ticket::IMMEDIATE, reply);
        }
        session.check(Permission::Configure, Resource::Exchange(&name))?;
        let request = ExchangeDeclare {
            name,
            kind: declare.kind.as_str().into(),
            durable: declare.durable,
            auto_delete: declare.auto_delete,
            internal: declare.internal,
            arguments: declare.arguments,
            connection: session.id,
        };
        // An alternate exchange receives what this one cannot route: the declarer must be allowed to write there.
        if let Some(alternate) = request.alternate_exchange()
            && session.vhost.exchange(&request.name).is_none()
        {
            session.check(Permission::Read, Resource::Exchange(&request.name))?;
            session.check(Permission::Write, Resource::Exchange(&alternate))?;
        }
        let ticket = session
            .vhost
            .declare_exchange(&session.broker.services.visit(), request)?;
        self.reply_when_durable(session, ticket, reply)
    }

    fn exchange_delete(&self, session: &Session, delete: &exchange::Delete) -> Outcome {
        let name = stripped(delete.exchange.as_str());
        session.vhost.check_not_default(&name)?;
        session.check(Permission::Configure, Resource::Exchange(&name))?;
        let ticket = session.vhost.delete_exchange(
            &session.broker.services.visit(),
            &name,
            delete.if_unused,
            session.id,
        )?;
        let ok = AMQPClass::Exchange(exchange::AMQPMethod::DeleteOk(exchange::DeleteOk {}));
        self.reply_when_durable(session, ticket, (!delete.nowait).then_some(ok))
    }
}

fn check_binding(session: &Session, binding: &ExchangeBind) -> Result<(), AmqpError> {
    session.vhost.check_not_default(&binding.destination)?;
    session.vhost.check_not_default(&binding.source)?;
    session.check(Permission::Write, Resource::Exchange(&binding.destination))?;
    session.check(Permission::Read, Resource::Exchange(&binding.source))
}
