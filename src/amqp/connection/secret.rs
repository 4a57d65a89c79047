//! connection.update-secret: the client has new credentials, so what its user may do is looked at again.
//!
//! The secret itself is for backends whose credentials expire (tokens). A password does not: RabbitMQ's internal
//! backend takes any secret, and so does this broker.

use std::sync::Arc;

use amq_protocol::protocol::{AMQPClass, connection};
use tokio::io::{AsyncRead, AsyncWrite};

use super::Connection;
use crate::amqp::error::AmqpError;

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Renews the user, and with it every permission that was found before. A user that has lost its vhost loses the
    /// connection (530); consumers of queues that it may not read any more end. Both as in RabbitMQ 4.3.
    pub(super) fn update_secret(&mut self, update: &connection::UpdateSecret, ids: (u16, u16)) {
        let session = Arc::clone(&self.session);
        let auth = &session.broker.auth;
        let user = auth.refreshed(&session.user());
        if let Err(refused) = auth.check_vhost(&user, &session.vhost.name) {
            return self.close_with(0, &AmqpError::from(refused), ids);
        }
        tracing::info!(
            peer = %session.peer, connection = session.id, user = %user.name(), reason = %update.reason,
            "user updated its secret"
        );
        *session.user.lock() = Arc::new(user);
        for channel in self.channels.values_mut() {
            channel.user_changed(&session);
        }
        let ok = connection::AMQPMethod::UpdateSecretOk(connection::UpdateSecretOk {});
        session.outbox.send(0, &AMQPClass::Connection(ok));
    }
}
