//! One accepted connection, from its handshake to its end.

use std::net::SocketAddr;
use std::sync::Arc;

use amq_protocol::types::FieldTable;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::accept::Slot;
use super::socket;
use crate::amqp::connection;
use crate::amqp::events::{Ends, Told, tell_login};
use crate::amqp::handshake::{HandshakeContext, Negotiated, handshake};
use crate::amqp::outbox::{Outbox, Pace};
use crate::amqp::server_properties::{put_cluster_name, server_properties};
use crate::amqp::session::{Connections, Session};
use crate::broker::Broker;
use crate::broker::parameters::CLUSTER_NAME;
use crate::config::Config;

/// What all connections have in common.
pub(super) struct Shared {
    config: Arc<Config>,
    pub(super) broker: Arc<Broker>,
    server_properties: FieldTable,
    pub(super) connections: Connections,
}

impl Shared {
    pub(super) fn new(config: Arc<Config>, broker: Arc<Broker>) -> Self {
        let server_properties = server_properties(&config);
        Self {
            config,
            broker,
            server_properties,
            connections: Connections::default(),
        }
    }

    /// Serves a connection until it ends. A handshake that is not over when the broker stops is broken off.
    pub(super) async fn serve(
        self: Arc<Self>,
        mut stream: TcpStream,
        peer: SocketAddr,
        slot: Slot,
        mut stopping: watch::Receiver<bool>,
    ) {
        let negotiated = {
            // On the heap, so that an open connection does not carry the memory of its handshake along.
            let handshake = Box::pin(self.handshake(&mut stream, peer));
            tokio::select! {
                negotiated = handshake => negotiated,
                _ = stopping.wait_for(|stopping| *stopping) => None,
            }
        };
        drop(slot.handshake);
        drop(stopping);
        if let Some(negotiated) = negotiated {
            self.run(stream, peer, negotiated).await;
        }
        drop(slot.connection);
    }

    /// What is told of a connection, if anything is told at all.
    fn told(
        &self,
        stream: &TcpStream,
        peer: SocketAddr,
        negotiated: &Negotiated,
    ) -> Option<Box<Told>> {
        if !self.broker.services.events.are_on() {
            return None;
        }
        // Without its own end the peer has gone: there is little to tell.
        let local = stream.local_addr().ok()?;
        Some(Box::new(Told::new(
            Ends { peer, local },
            negotiated.name.clone(),
            negotiated.mechanism,
            negotiated.limits,
            negotiated.client_properties.clone(),
        )))
    }

    /// `None` after a failure, which is in the log already.
    async fn handshake(&self, stream: &mut TcpStream, peer: SocketAddr) -> Option<Negotiated> {
        let local = match socket::accepted(stream) {
            Ok(local) => local,
            // The peer has gone before anything was said.
            Err(error) => {
                tracing::debug!(%peer, %error, "connection ended before its handshake");
                return None;
            }
        };
        let mut server_properties = self.server_properties.clone();
        if let Some(Value::String(name)) = self.broker.global_parameter(CLUSTER_NAME) {
            put_cluster_name(&mut server_properties, &name);
        }
        let context = HandshakeContext {
            config: &self.config,
            auth: &self.broker.auth,
            server_properties: &server_properties,
            logged_in: &|mechanism, login| {
                let ends = Ends { peer, local };
                tell_login(&self.broker.services, ends, mechanism, login);
            },
            admit: &|user, vhost| self.broker.admit(user, vhost),
            peer,
            local,
        };
        handshake(stream, &context).await.ok()
    }

    async fn run(&self, stream: TcpStream, peer: SocketAddr, negotiated: Negotiated) {
        let Some(vhost) = self.broker.vhost(&negotiated.vhost) else {
            return tracing::warn!(%peer, vhost = %negotiated.vhost, "vhost was deleted while a connection opened it");
        };
        socket::logged_in(&stream, negotiated.quickest_answer, &self.config);
        let told = self.told(&stream, peer, &negotiated);
        let throttles = [
            self.broker.auth.rates(&negotiated.user),
            vhost.rates().clone(),
        ];
        let outbox = Outbox::new(negotiated.limits.frame_max_bytes);
        outbox.pace(Pace {
            throttles: throttles.each_ref().map(|rates| rates.consume.clone()),
            clock: self.broker.services.clock.clone(),
        });
        let session = Arc::new(Session {
            id: self.connections.next_id(),
            peer: peer.to_string(),
            name: negotiated.name,
            broker: Arc::clone(&self.broker),
            vhost,
            admission: Mutex::new(Some(negotiated.admission)),
            user: Mutex::new(Arc::new(negotiated.user)),
            throttles,
            outbox,
            config: Arc::clone(&self.config),
            capabilities: negotiated.capabilities,
        });
        if let Some(told) = &told {
            told.opened(&session);
        }
        let (limits, leftover) = (negotiated.limits, negotiated.leftover);
        connection::serve(
            stream,
            Arc::clone(&session),
            limits,
            &leftover,
            &self.connections,
        )
        .await;
        if let Some(told) = &told {
            told.closed(&session);
        }
    }
}
