//! Events: what happens in the broker, as messages to the topic exchange `amq.rabbitmq.event` of one virtual host, as
//! RabbitMQ's plugin `rabbitmq_event_exchange` publishes them.
//!
//! The routing key says what happened (`queue.created`), the headers say all about it, the body is empty. Nothing is
//! made up before a binding asks for it. Events are rare: they are told where they happen, under whatever lock that is,
//! and published by the thread of an [`Outlet`].

mod administration;
mod facts;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;
use parking_lot::RwLock;

pub use self::facts::Facts;
use super::exchange::{EVENT_EXCHANGE, Exchange};
use super::outlet::{Notice, Outlet};
use super::vhost::VHost;
use super::{ConnectionId, Services};

/// Who does what no client asked for.
const INTERNAL_USER: &str = "rmq-internal";

/// The events of a broker.
pub struct Events {
    outlet: Arc<Outlet>,
    /// Where they go, once they are switched on.
    exchange: OnceLock<Weak<Exchange>>,
    /// Who is behind each connection.
    users: RwLock<HashMap<ConnectionId, Arc<str>>>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            outlet: Arc::new(Outlet::new(EVENT_EXCHANGE)),
            exchange: OnceLock::new(),
            users: RwLock::default(),
        }
    }
}

impl Events {
    /// Whether events are switched on, so that [`Self::connected`] is worth the while.
    pub fn are_on(&self) -> bool {
        self.exchange.get().is_some()
    }

    /// Events that were lost because they came faster than they could be published.
    pub fn lost(&self) -> u64 {
        self.outlet.lost()
    }

    /// A connection of `user` is open: what it does is done by that user.
    pub fn connected(&self, connection: ConnectionId, user: &Arc<str>) {
        if self.are_on() {
            self.users.write().insert(connection, user.clone());
        }
    }

    /// It is gone.
    pub fn disconnected(&self, connection: ConnectionId) {
        if self.are_on() {
            self.users.write().remove(&connection);
        }
    }

    /// The user behind a connection; RabbitMQ's internal one for what no connection asked for.
    pub fn user_of(&self, connection: ConnectionId) -> Arc<str> {
        let user = self.users.read().get(&connection).cloned();
        user.unwrap_or_else(|| INTERNAL_USER.into())
    }

    /// Switches events on, for good. They go to this exchange of `vhost`.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub(super) fn switch_on(
        &self,
        vhost: &Weak<VHost>,
        exchange: &Arc<Exchange>,
    ) -> std::io::Result<()> {
        self.outlet.open("events", vhost)?;
        // Once per broker.
        let _ = self.exchange.set(Arc::downgrade(exchange));
        Ok(())
    }

    fn has_listeners(&self) -> bool {
        let exchange = self.exchange.get().and_then(Weak::upgrade);
        exchange.is_some_and(|exchange| exchange.binding_count() > 0)
    }
}

impl Services {
    /// Tells whoever listens that `event` happened; `say` says the facts, and is not called when nobody listens.
    pub fn tell(&self, event: &str, say: impl FnOnce(&mut Facts)) {
        if !self.events.has_listeners() {
            return;
        }
        let mut facts = Facts::default();
        say(&mut facts);
        self.events.outlet.put(Notice {
            routing_key: event.to_owned(),
            properties: facts.into_properties(self.now_ms()),
            body: Bytes::new(),
            persistent: true,
        });
    }

    /// What events call a connection: RabbitMQ has an Erlang process here.
    pub fn connection_pid(&self, connection: ConnectionId) -> String {
        format!("<{}.{connection}>", self.node)
    }
}
