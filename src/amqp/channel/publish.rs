//! basic.publish: a batch of whole messages is checked, routed, and put into each queue in one visit.
//!
//! The order of checks is RabbitMQ's (semantics row 49): write permission, exchange exists, internal, properties,
//! expiration, user-id. A cached route stands for the first three.

use std::sync::Arc;

use super::{Channel, Mode, Phase};
use crate::amqp::confirms::Verdict;
use crate::amqp::content::{Incoming, Owned, PublishHead};
use crate::amqp::error::{AmqpError, copy_keys, parse_expiration};
use crate::amqp::frame;
use crate::amqp::properties::{self, Properties};
use crate::amqp::session::Session;
use crate::auth::{Permission, Resource, User};
use crate::broker::queue::{Published, Queue, VISIT_BYTES_MAX, VISIT_MESSAGES_MAX};
use crate::broker::vhost::Route;
use crate::message::Ticket;
use crate::message::record::{Body, NewMessage};

/// Messages of one channel that were received whole and not handled yet.
#[derive(Default)]
pub struct PublishBatch<'a> {
    channel: u16,
    messages: Vec<Incoming<'a>>,
    bytes: usize,
}

impl<'a> PublishBatch<'a> {
    /// Nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Channel of its messages.
    pub const fn channel(&self) -> u16 {
        self.channel
    }

    /// Whether it must be handled before a message of `channel` is added.
    pub fn is_full_for(&self, channel: u16) -> bool {
        !self.messages.is_empty()
            && (self.channel != channel || self.messages.len() >= VISIT_MESSAGES_MAX || self.bytes >= VISIT_BYTES_MAX)
    }

    /// Adds a message.
    pub fn push(&mut self, channel: u16, message: Incoming<'a>) {
        self.channel = channel;
        self.bytes += message.properties.len() + message.body.len() + 64;
        self.messages.push(message);
    }

    /// Takes the messages out, keeping nothing.
    pub fn take(&mut self) -> Vec<Incoming<'a>> {
        self.bytes = 0;
        std::mem::take(&mut self.messages)
    }
}

/// A message that passed its checks.
struct Routed<'a> {
    head: PublishHead<'a>,
    message: NewMessage<'a>,
    route: Arc<Route>,
}

/// The messages of a batch that go to one queue.
struct Share {
    queue: Arc<Queue>,
    members: Vec<u32>,
}

impl Channel {
    /// Handles messages in order.
    ///
    /// # Errors
    /// The first message that fails a check ends the channel or the connection; those before it are published.
    pub fn publish(&mut self, session: &Session, messages: &[Incoming<'_>]) -> Result<(), AmqpError> {
        if self.phase == Phase::Closing {
            return Ok(());
        }
        if let Mode::Tx(transaction) = &mut self.mode {
            for message in messages {
                check_head(message)?;
                transaction.publish(Owned::copy(message))?;
            }
            return Ok(());
        }
        self.publish_now(session, messages).map(|_| ())
    }

    /// Publishes at once and answers when all of it is safe.
    pub(super) fn publish_now(
        &mut self,
        session: &Session,
        messages: &[Incoming<'_>],
    ) -> Result<Ticket, AmqpError> {
        let user = session.user();
        let visit = session.broker.services.visit();
        let now_ms = visit.now_ms();
        // Properties without BCC, for the few messages that have it.
        let mut stripped: Vec<(usize, Vec<u8>)> = Vec::new();
        let mut routed = Vec::with_capacity(messages.len());
        let mut failed = None;
        for message in messages {
            match self.check(session, &user, message, now_ms) {
                Ok((message, without_bcc)) => {
                    stripped.extend(without_bcc.map(|properties| (routed.len(), properties)));
                    routed.push(message);
                }
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        for (index, properties) in &stripped {
            routed[*index].message.properties = properties;
        }
        let mut crowded = Vec::new();
        for Share { queue, members } in shares(&routed) {
            let members = members.iter().map(|index| &routed[*index as usize].message);
            if let Published::Accepted { more: true, .. } = queue.publish(&visit, members) {
                crowded.push(queue);
            }
        }
        let ticket = self.answer(session, &routed, visit.ticket());
        drop(visit);
        while !crowded.is_empty() {
            crowded.retain(|queue| queue.pump(&session.broker.services.visit()));
        }
        failed.map_or(Ok(ticket), Err)
    }

    /// The checks that a publish passes, and where it goes; with its properties without BCC if it has that header.
    fn check<'a>(
        &mut self,
        session: &Session,
        user: &User,
        message: &Incoming<'a>,
        now_ms: u64,
    ) -> Result<(Routed<'a>, Option<Vec<u8>>), AmqpError> {
        check_head(message)?;
        let head = message.head;
        let properties = Properties::read(message.properties).map_err(|_| AmqpError::malformed_frame())?;
        let mut stripped = None;
        let copies = properties.headers.is_some_and(|headers| properties::has_any_key(headers, &[b"CC", b"BCC"]));
        let route = if copies {
            stripped = properties
                .headers
                .and_then(|headers| properties::without_header(message.properties, headers, b"BCC"));
            self.route_copies(session, &head, &properties)?
        } else {
            self.route(session, &head, &properties)?
        };
        check_user_id(&properties, user)?;
        let expiry_ms = match properties.expiration {
            Some(text) => now_ms.saturating_add(parse_expiration(self::text(text)?)?),
            None => 0,
        };
        let message = NewMessage {
            exchange: head.exchange,
            routing_key: head.routing_key,
            properties: message.properties,
            annotations: &[],
            body: self.identified(session, &message.body, &route, properties.persistent),
            persistent: properties.persistent,
            priority: properties.priority,
            expiry_ms,
        };
        Ok((Routed { head, message, route }, stripped))
    }

    /// A large body that several durable queues hold is stored once, under an id.
    fn identified<'a>(&self, session: &Session, body: &Body<'a>, route: &Route, persistent: bool) -> Body<'a> {
        let mut body = body.clone();
        if let Body::Shared(shared) = &mut body
            && persistent
            && route.queues.iter().filter(|queue| queue.spec.durable).nth(1).is_some()
        {
            shared.id = session.broker.services.store.next_body_id();
        }
        body
    }

    fn route(
        &mut self,
        session: &Session,
        head: &PublishHead<'_>,
        properties: &Properties<'_>,
    ) -> Result<Arc<Route>, AmqpError> {
        let permissions = session.broker.auth.version();
        if let Some(route) = self.routes.get(head.exchange, head.routing_key, permissions) {
            return Ok(route.clone());
        }
        let (exchange, routing_key) = (text(head.exchange)?, text(head.routing_key)?);
        let exchange = publish_target(session, exchange)?;
        // A table that cannot be decoded was refused when the properties were read.
        let headers = || properties.decode_headers().ok().flatten();
        let route = Arc::new(session.vhost.route(&exchange, routing_key, headers));
        if route.cacheable {
            self.routes.insert(head.exchange, head.routing_key, permissions, route.clone());
        }
        Ok(route)
    }

    /// Sender-selected distribution: the CC and BCC headers name further routing keys.
    fn route_copies(
        &self,
        session: &Session,
        head: &PublishHead<'_>,
        properties: &Properties<'_>,
    ) -> Result<Arc<Route>, AmqpError> {
        let exchange = publish_target(session, text(head.exchange)?)?;
        let headers = properties.decode_headers().map_err(|_| AmqpError::malformed_frame())?.unwrap_or_default();
        let mut keys = vec![text(head.routing_key)?.to_owned()];
        for name in ["CC", "BCC"] {
            keys.extend(copy_keys(&headers, name)?);
        }
        let keys = keys.iter().map(String::as_str);
        Ok(Arc::new(session.vhost.route_all(&exchange, keys, || Some(headers.clone()))))
    }

    /// Returns what reached no queue and books the confirms. Answers when everything is safe.
    fn answer(&mut self, session: &Session, routed: &[Routed<'_>], durable: Ticket) -> Ticket {
        let mut latest = Ticket::IMMEDIATE;
        for Routed { head, message, route, .. } in routed {
            if route.queues.is_empty() && head.mandatory {
                self.put_return(session, message);
            }
            let waits = message.persistent && route.queues.iter().any(|queue| queue.spec.durable);
            let ticket = if waits { durable } else { Ticket::IMMEDIATE };
            latest = latest.max(ticket);
            if let Mode::Confirm(confirms) = &mut self.mode {
                confirms.published(Verdict::Ack, ticket);
            }
        }
        latest
    }

    fn put_return(&self, session: &Session, message: &NewMessage<'_>) {
        let mut outbox = session.outbox.lock();
        let bytes = outbox.buffer.bytes_mut();
        frame::put_return(bytes, self.number, 312, "NO_ROUTE", message.exchange, message.routing_key);
        frame::put_content_header(bytes, self.number, message.body.len() as u64, message.properties);
        let payload_max = session.outbox.payload_max();
        match &message.body {
            Body::Inline(body) => outbox.buffer.put_body(self.number, body, payload_max),
            Body::Shared(body) => outbox.buffer.put_shared_body(self.number, &body.bytes, payload_max),
        }
    }
}

/// The messages by queue, in order. Most batches go to one queue, or all to the same.
fn shares(routed: &[Routed<'_>]) -> Vec<Share> {
    let mut shares: Vec<Share> = Vec::new();
    let mut previous: Option<(&Arc<Route>, usize)> = None;
    for (index, message) in routed.iter().enumerate() {
        // A run of messages with one route of one queue needs no search.
        if let Some((route, at)) = previous
            && Arc::ptr_eq(route, &message.route)
        {
            shares[at].members.push(index as u32);
            continue;
        }
        previous = None;
        for queue in message.route.queues.iter() {
            let at = match shares.iter().position(|share| Arc::ptr_eq(&share.queue, queue)) {
                Some(at) => at,
                None => {
                    shares.push(Share { queue: queue.clone(), members: Vec::new() });
                    shares.len() - 1
                }
            };
            shares[at].members.push(index as u32);
            if message.route.queues.len() == 1 {
                previous = Some((&message.route, at));
            }
        }
    }
    shares
}

fn check_head(message: &Incoming<'_>) -> Result<(), AmqpError> {
    if message.head.immediate { Err(AmqpError::not_implemented("immediate=true")) } else { Ok(()) }
}

fn publish_target(
    session: &Session,
    name: &str,
) -> Result<Arc<crate::broker::exchange::Exchange>, AmqpError> {
    let name = crate::amqp::names::stripped(name);
    session.check(Permission::Write, Resource::Exchange(&name))?;
    let exchange = session.vhost.exchange_for(&name)?;
    if exchange.spec.internal {
        return Err(AmqpError::internal_exchange(&name, &session.vhost.name));
    }
    Ok(exchange)
}

fn check_user_id(properties: &Properties<'_>, user: &User) -> Result<(), AmqpError> {
    match properties.user_id {
        Some(claimed) if claimed != user.name().as_bytes() && !user.has_tag("impersonator") => {
            Err(AmqpError::user_id_mismatch(&String::from_utf8_lossy(claimed), user.name()))
        }
        _ => Ok(()),
    }
}

fn text(bytes: &[u8]) -> Result<&str, AmqpError> {
    std::str::from_utf8(bytes).map_err(|_| AmqpError::malformed_frame())
}
