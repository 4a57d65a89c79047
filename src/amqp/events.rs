//! Events of connections, channels and consumers (`connection.created` and so on), see [`crate::broker::events`].

use std::net::SocketAddr;

use amq_protocol::types::FieldTable;

use super::connection::Limits;
use super::session::Session;
use crate::auth::{LoginError, Mechanism, User};
use crate::broker::Services;
use crate::broker::events::Facts;

/// AMQP 0-9-1 as an Erlang term.
const PROTOCOL: &str = "{0,9,1}";

/// A connection as events show it.
#[derive(Debug, Clone, Copy)]
pub struct Ends {
    /// The client's end.
    pub peer: SocketAddr,
    /// The broker's.
    pub local: SocketAddr,
}

impl Ends {
    fn say(self, facts: &mut Facts) {
        facts
            .text("protocol", PROTOCOL)
            .flag("ssl", false)
            .address("peer_host", self.peer.ip())
            .number("peer_port", self.peer.port().into())
            .address("host", self.local.ip());
    }
}

/// Somebody has tried to log in.
pub fn tell_login(
    services: &Services,
    ends: Ends,
    mechanism: Mechanism,
    login: &Result<User, LoginError>,
) {
    let event = match login {
        Ok(_) => "user.authentication.success",
        Err(_) => "user.authentication.failure",
    };
    services.tell(event, |facts| {
        let name = match login {
            Ok(user) => user.name(),
            Err(error) => error.user().unwrap_or_default(),
        };
        facts
            .text("name", name)
            .text("auth_mechanism", &mechanism.to_string())
            .text(
                "connection_name",
                &format!("{} -> {}", ends.peer, ends.local),
            )
            .text("connection_type", "network");
        ends.say(facts);
        if let Err(error) = login {
            facts.text("error", &error.to_string());
        }
    });
}

/// What the events of one open connection have in common. Made only where events are switched on.
pub struct Told {
    ends: Ends,
    name: String,
    mechanism: Mechanism,
    limits: Limits,
    client_properties: FieldTable,
}

impl Told {
    /// What is known of a connection after its handshake.
    pub fn new(
        ends: Ends,
        name: String,
        mechanism: Mechanism,
        limits: Limits,
        client_properties: FieldTable,
    ) -> Self {
        Self {
            ends,
            name,
            mechanism,
            limits,
            client_properties,
        }
    }

    /// It is open.
    pub fn opened(&self, session: &Session) {
        let services = &session.broker.services;
        let user = session.user();
        services.events.connected(session.id, user.name());
        services.tell("connection.created", |facts| {
            let now_ms = i64::try_from(services.now_ms()).unwrap_or(i64::MAX);
            facts
                .text("user_who_performed_action", user.name())
                .text("node", &services.node)
                .number("connected_at", now_ms)
                .arguments("client_properties", &self.client_properties)
                .number("channel_max", self.limits.channel_max.into())
                .number("frame_max", self.limits.frame_max_bytes.into())
                .number("timeout", self.limits.heartbeat_seconds.into())
                .text("vhost", &session.vhost.name)
                .text("user", user.name())
                .text("auth_mechanism", &self.mechanism.to_string())
                .number("port", self.ends.local.port().into())
                .text("name", &self.name)
                .text("pid", &services.connection_pid(session.id))
                .text("type", "network");
            self.ends.say(facts);
        });
    }

    /// It is gone.
    pub fn closed(&self, session: &Session) {
        let services = &session.broker.services;
        services.tell("connection.closed", |facts| {
            facts
                .text("user_who_performed_action", session.user().name())
                .arguments("client_properties", &self.client_properties)
                .text("node", &services.node)
                .text("name", &self.name)
                .text("pid", &services.connection_pid(session.id));
        });
        services.events.disconnected(session.id);
    }
}

/// A consumer as its client asked for it.
pub struct Consumed<'a> {
    /// Its tag.
    pub consumer_tag: &'a str,
    /// Its queue.
    pub queue: &'a str,
    /// It acknowledges.
    pub ack_required: bool,
    /// It wants the queue for itself.
    pub exclusive: bool,
    /// basic.qos for it.
    pub prefetch_count: u32,
    /// As they came.
    pub arguments: &'a FieldTable,
}

/// A channel was opened.
pub fn tell_channel_opened(session: &Session, number: u16) {
    session.broker.services.tell("channel.created", |facts| {
        let user = session.user();
        facts
            .text("user_who_performed_action", user.name())
            .text("user", user.name())
            .text("vhost", &session.vhost.name)
            .text("connection", &connection_pid(session))
            .text("name", &format!("{} ({number})", session.name))
            .number("number", number.into())
            .text("pid", &channel_pid(session, number));
    });
}

/// A channel is gone.
pub fn tell_channel_closed(session: &Session, number: u16) {
    session.broker.services.tell("channel.closed", |facts| {
        facts
            .text("user_who_performed_action", session.user().name())
            .text("pid", &channel_pid(session, number));
    });
}

/// A consumer came.
pub fn tell_consumer_created(session: &Session, channel: u16, consumed: &Consumed<'_>) {
    session.broker.services.tell("consumer.created", |facts| {
        say_consumer(
            facts,
            session,
            channel,
            consumed.queue,
            consumed.consumer_tag,
        );
        facts
            .arguments("arguments", consumed.arguments)
            .number("prefetch_count", consumed.prefetch_count.into())
            .flag("ack_required", consumed.ack_required)
            .flag("exclusive", consumed.exclusive);
    });
}

/// A consumer is gone.
pub fn tell_consumer_deleted(session: &Session, channel: u16, queue: &str, consumer_tag: &str) {
    session.broker.services.tell("consumer.deleted", |facts| {
        say_consumer(facts, session, channel, queue, consumer_tag);
    });
}

fn say_consumer(
    facts: &mut Facts,
    session: &Session,
    channel: u16,
    queue: &str,
    consumer_tag: &str,
) {
    facts
        .text("user_who_performed_action", session.user().name())
        .text("vhost", &session.vhost.name)
        .text("queue", queue)
        .text("channel", &channel_pid(session, channel))
        .text("consumer_tag", consumer_tag);
}

fn connection_pid(session: &Session) -> String {
    session.broker.services.connection_pid(session.id)
}

/// RabbitMQ has a process for each channel as well.
fn channel_pid(session: &Session, number: u16) -> String {
    let services = &session.broker.services;
    format!("<{}.{}.{number}>", services.node, session.id)
}
