//! What all channels of a connection share: who it is, what was negotiated, and where things are.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::outbox::{Outbox, Stalled};
use crate::auth::{Permission, Resource, User};
use crate::broker::admission::Admission;
use crate::broker::vhost::VHost;
use crate::broker::{Broker, ConnectionId};
use crate::config::Config;
use crate::rate::Rates;

use super::error::AmqpError;

/// Optional behaviours that the client announced in its client-properties.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Wants basic.cancel when the broker cancels a consumer.
    pub consumer_cancel_notify: bool,
    /// Wants connection.blocked and connection.unblocked.
    pub connection_blocked: bool,
    /// Wants connection.close instead of a dropped socket when the login fails.
    pub authentication_failure_close: bool,
}

/// An open connection, as its channels see it.
pub struct Session {
    /// Number of the connection, unique within the process.
    pub id: ConnectionId,
    /// Client address, for the log.
    pub peer: String,
    /// `127.0.0.1:50000 -> 127.0.0.1:5672`, as RabbitMQ names connections.
    pub name: String,
    /// The broker.
    pub broker: Arc<Broker>,
    /// The virtual host that the connection opened.
    pub vhost: Arc<VHost>,
    /// The right to be there, until [`Self::leave`].
    pub admission: Mutex<Option<Admission>>,
    /// Who logged in. Replaced by connection.update-secret.
    pub user: Mutex<Arc<User>>,
    /// What holds its user and its virtual host to their rates.
    pub throttles: [Rates; 2],
    /// What is written to the client.
    pub outbox: Arc<Outbox>,
    /// Settings.
    pub config: Arc<Config>,
    /// What the client announced.
    pub capabilities: Capabilities,
}

impl Session {
    /// The user at this moment.
    pub fn user(&self) -> Arc<User> {
        self.user.lock().clone()
    }

    /// The connection ends: it counts no more in its virtual host and for its user.
    pub fn leave(&self) {
        self.admission.lock().take();
    }

    /// Lets consumers go on that waited for room in the outbox or in their channel's window: a visit each, round robin.
    pub fn resume(&self, stalled: Vec<Stalled>) {
        let services = &self.broker.services;
        let mut again = Vec::new();
        let mut readers = stalled;
        while !readers.is_empty() {
            readers.retain(|Stalled { queue, consumer }| {
                let more = queue.resume(&services.visit(), *consumer);
                if more && !queue.is_stream() {
                    again.push(queue.clone());
                }
                more && queue.is_stream()
            });
        }
        while !again.is_empty() {
            again.retain(|queue| queue.pump(&services.visit()));
        }
    }

    /// Checks a permission in the connection's vhost.
    ///
    /// # Errors
    /// 403 with RabbitMQ's text (semantics row 66).
    pub fn check(&self, permission: Permission, resource: Resource<'_>) -> Result<(), AmqpError> {
        let user = self.user();
        self.broker
            .auth
            .check(&user, &self.vhost.name, permission, resource)?;
        Ok(())
    }
}

/// All open connections of a broker: to close them when it stops.
#[derive(Default)]
pub struct Connections {
    next: AtomicU64,
    open: Mutex<HashMap<ConnectionId, Arc<Outbox>>>,
}

impl Connections {
    /// Number for a new connection.
    pub fn next_id(&self) -> ConnectionId {
        self.next.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A connection is open.
    pub fn opened(&self, id: ConnectionId, outbox: &Arc<Outbox>) {
        self.open.lock().insert(id, outbox.clone());
    }

    /// It is gone.
    pub fn closed(&self, id: ConnectionId) {
        self.open.lock().remove(&id);
    }

    /// Open connections.
    pub fn count(&self) -> usize {
        self.open.lock().len()
    }

    /// Asks every connection to close with 320 CONNECTION_FORCED and this explanation.
    pub fn close_all(&self, explanation: &str) {
        let open: Vec<_> = self.open.lock().values().cloned().collect();
        for outbox in open {
            outbox.request_close(explanation);
        }
    }
}
