//! basic.publish: a batch of whole messages is checked, routed, and put into each queue in one visit.
//!
//! The order of checks is RabbitMQ's (semantics row 49): write permission, exchange exists, internal, properties,
//! expiration, user-id. A cached route stands for the first three.

mod batch;
mod duplicates;

use std::sync::Arc;

use bytes::Bytes;

pub use self::batch::PublishBatch;
use self::duplicates::Duplicates;
use super::{Channel, Mode, Phase};
use crate::amqp::confirms::Verdict;
use crate::amqp::content::{Incoming, Owned, PublishHead};
use crate::amqp::error::{AmqpError, copy_keys, parse_expiration};
use crate::amqp::frame;
use crate::amqp::session::Session;
use crate::auth::{Permission, Resource, User};
use crate::broker::firehose::Traced;
use crate::broker::queue::{Published, Queue};
use crate::broker::vhost::Route;
use crate::message::Ticket;
use crate::message::properties::{self, Properties};
use crate::message::record::{Body, NewMessage};
use crate::store::Visit;

/// What the checks found out about a message: all that it takes to put it into its queues.
pub(super) struct Checked {
    route: Arc<Route>,
    persistent: bool,
    priority: u8,
    ttl_ms: Option<u64>,
    /// Its properties without BCC and with the address for direct replies, if these differ from what came.
    stored: Option<Vec<u8>>,
}

/// A message that passed its checks.
struct Routed<'a> {
    head: PublishHead<'a>,
    message: NewMessage<'a>,
    /// Place of its route in [`Gathered::routes`].
    route: usize,
}

/// Messages that are put into their queues together.
struct Gathered<'a> {
    /// The routes of the messages; neighbours share theirs.
    routes: Vec<Arc<Route>>,
    /// Changed properties, by position, for the few messages that have such.
    stored: Vec<(usize, Vec<u8>)>,
    routed: Vec<Routed<'a>>,
}

impl<'a> Gathered<'a> {
    fn with_capacity(count: usize) -> Self {
        Self {
            routes: Vec::new(),
            stored: Vec::new(),
            routed: Vec::with_capacity(count),
        }
    }

    /// Adds a message if it differs from the one before in its body only: whatever the checks found out about that one
    /// holds for this one too. This is what a busy publisher sends.
    fn add_repetition(&mut self, message: &Incoming<'a>) -> bool {
        let Body::Inline(body) = message.body else {
            return false;
        };
        let Some(before) = self.routed.last() else {
            return false;
        };
        if self
            .stored
            .last()
            .is_some_and(|(index, _)| *index + 1 == self.routed.len())
        {
            // Its properties were changed: so must be those of this one.
            return false;
        }
        let repeats = !message.head.raw.is_empty()
            && same(before.head.raw, message.head.raw)
            && same(before.message.properties, message.properties)
            && self.routes[before.route].cacheable;
        if repeats {
            let message = NewMessage {
                body: Body::Inline(body),
                ..before.message.clone()
            };
            self.routed.push(Routed {
                head: before.head,
                message,
                route: before.route,
            });
        }
        repeats
    }

    fn add(&mut self, session: &Session, message: &Incoming<'a>, checked: Checked, now_ms: u64) {
        let Checked {
            route,
            persistent,
            priority,
            ttl_ms,
            stored,
        } = checked;
        self.stored
            .extend(stored.map(|properties| (self.routed.len(), properties)));
        let head = message.head;
        let message = NewMessage {
            exchange: head.exchange,
            routing_key: head.routing_key,
            properties: message.properties,
            annotations: &[],
            body: identified(session, &message.body, &route, persistent),
            persistent,
            priority,
            expiry_ms: ttl_ms.map_or(0, |ttl_ms| now_ms.saturating_add(ttl_ms)),
        };
        if !self
            .routes
            .last()
            .is_some_and(|before| Arc::ptr_eq(before, &route))
        {
            self.routes.push(route);
        }
        self.routed.push(Routed {
            head,
            message,
            route: self.routes.len() - 1,
        });
    }
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
    pub fn publish(
        &mut self,
        session: &Session,
        messages: &[Incoming<'_>],
    ) -> Result<(), AmqpError> {
        if self.phase == Phase::Closing {
            return Ok(());
        }
        let user = session.user();
        if matches!(self.mode, Mode::Tx(_)) {
            return self.publish_at_commit(session, &user, messages);
        }
        let visit = session.broker.services.visit();
        let mut gathered = Gathered::with_capacity(messages.len());
        let mut failed = None;
        for message in messages {
            if gathered.add_repetition(message) {
                continue;
            }
            match self.check(session, &user, message) {
                Ok(checked) => gathered.add(session, message, checked, visit.now_ms()),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        self.deliver(session, visit, gathered);
        failed.map_or(Ok(()), Err)
    }

    /// As in RabbitMQ a message of a transaction is checked and routed at once and put into its queues at the commit.
    fn publish_at_commit(
        &mut self,
        session: &Session,
        user: &User,
        messages: &[Incoming<'_>],
    ) -> Result<(), AmqpError> {
        for message in messages {
            let checked = self.check(session, user, message)?;
            if let Mode::Tx(transaction) = &mut self.mode {
                transaction.publish(Owned::copy(message), checked)?;
            }
        }
        Ok(())
    }

    /// Publishes messages that passed their checks before. Answers when all of it is safe, and whether a queue refused
    /// one of them.
    pub(super) fn publish_checked(
        &mut self,
        session: &Session,
        messages: Vec<(Owned, Checked)>,
    ) -> (Ticket, bool) {
        let visit = session.broker.services.visit();
        let (messages, checked): (Vec<_>, Vec<_>) = messages.into_iter().unzip();
        let mut gathered = Gathered::with_capacity(messages.len());
        for (message, checked) in messages.iter().zip(checked) {
            gathered.add(session, &message.borrow(), checked, visit.now_ms());
        }
        self.deliver(session, visit, gathered)
    }

    /// Puts messages into their queues. Answers when all of it is safe, and whether a queue refused one of them.
    fn deliver(
        &mut self,
        session: &Session,
        visit: Visit<'_>,
        gathered: Gathered<'_>,
    ) -> (Ticket, bool) {
        let Gathered {
            mut routes,
            stored,
            mut routed,
        } = gathered;
        for (index, properties) in &stored {
            routed[*index].message.properties = properties;
        }
        let memories: Vec<_> = routes
            .iter()
            .filter_map(|route| route.deduplication.clone())
            .collect();
        let duplicates = (!memories.is_empty())
            .then(|| Duplicates::set_aside(&memories, &mut routes, &mut routed, visit.now_ms()));
        if session.vhost.firehose.is_on() {
            self.trace_publishes(session, &routes, &routed);
        }
        for Routed { message, route, .. } in &routed {
            let replies = routes[*route].replies.iter();
            replies.for_each(|sink| sink.reply(message));
            routes[*route].hold(&visit, message);
        }
        let mut crowded = Vec::new();
        // Places of the messages that a queue was too full for.
        let mut refused: Vec<u32> = Vec::new();
        for Share { queue, members } in shares(&routes, &routed) {
            let messages = members.iter().map(|index| &routed[*index as usize].message);
            if let Published::Accepted {
                more,
                backlog,
                refused: not_taken,
                ..
            } = queue.publish(&visit, messages)
            {
                refused.extend(not_taken.iter().map(|place| members[*place as usize]));
                self.outruns_consumers |= backlog;
                if more {
                    crowded.push(queue);
                }
            }
        }
        if let Some(duplicates) = duplicates {
            duplicates.finish(&visit, &routes, &routed, &mut refused);
        }
        refused.sort_unstable();
        let ticket = self.answer(session, &routes, &routed, &refused, visit.ticket());
        drop(visit);
        while !crowded.is_empty() {
            crowded.retain(|queue| queue.pump(&session.broker.services.visit()));
        }
        (ticket, !refused.is_empty())
    }

    /// Copies messages to the firehose.
    fn trace_publishes(&self, session: &Session, routes: &[Arc<Route>], routed: &[Routed<'_>]) {
        let tap = self.tap(session);
        for Routed { message, route, .. } in routed {
            let traced = Traced {
                exchange: message.exchange,
                routing_key: message.routing_key,
                properties: message.properties,
                body: match &message.body {
                    Body::Inline(body) => Bytes::copy_from_slice(body),
                    Body::Shared(body) => body.bytes.clone(),
                },
            };
            let queues = routes[*route].queues.iter();
            tap.published(traced, queues.map(|queue| &*queue.spec.name));
        }
    }

    /// The checks that a publish passes, and where it goes.
    fn check(
        &mut self,
        session: &Session,
        user: &User,
        message: &Incoming<'_>,
    ) -> Result<Checked, AmqpError> {
        check_head(message)?;
        let undecodable = |_| AmqpError::undecodable_properties(message.properties);
        let properties = Properties::read(message.properties).map_err(undecodable)?;
        let mut stored = None;
        let copies = properties
            .headers
            .is_some_and(|headers| properties::has_any_key(headers, &[b"CC", b"BCC"]));
        if copies && let Some(headers) = properties.headers {
            stored = properties::without_header(message.properties, headers, b"BCC");
        }
        let encoded = stored.as_deref().unwrap_or(message.properties);
        // What is wrong with the exchange is said before what is wrong with the properties.
        let mut refused = None;
        match self.with_reply_address(&properties, encoded) {
            Ok(Some(changed)) => stored = Some(changed),
            Ok(None) => {}
            Err(error) => refused = Some(error),
        }
        let encoded = stored.as_deref().unwrap_or(message.properties);
        let route = if copies {
            self.route_copies(session, message, &properties, encoded)?
        } else {
            self.route(session, message, &properties, encoded)?
        };
        if let Some(refused) = refused {
            return Err(refused);
        }
        let ttl_ms = match properties.expiration {
            Some(text) => Some(parse_expiration(self::text(text)?)?),
            None => None,
        };
        check_user_id(&properties, user)?;
        let Properties {
            persistent,
            priority,
            ..
        } = properties;
        Ok(Checked {
            route,
            persistent,
            priority,
            ttl_ms,
            stored,
        })
    }

    fn route(
        &mut self,
        session: &Session,
        message: &Incoming<'_>,
        properties: &Properties<'_>,
        stored: &[u8],
    ) -> Result<Arc<Route>, AmqpError> {
        let head = &message.head;
        let permissions = session.broker.auth.version();
        if let Some(route) = self
            .routes
            .get(head.exchange, head.routing_key, permissions)
        {
            return Ok(route.clone());
        }
        let (exchange, routing_key) = (text(head.exchange)?, text(head.routing_key)?);
        let exchange = publish_target(session, exchange)?;
        let message = unrouted(message, properties, stored);
        let route = Arc::new(session.vhost.route(&exchange, &[routing_key], &message));
        if route.cacheable {
            self.routes
                .insert(head.exchange, head.routing_key, permissions, route.clone());
        }
        Ok(route)
    }

    /// Sender-selected distribution: the CC and BCC headers name further routing keys. What exchanges see is `stored`,
    /// without BCC.
    fn route_copies(
        &self,
        session: &Session,
        message: &Incoming<'_>,
        properties: &Properties<'_>,
        stored: &[u8],
    ) -> Result<Arc<Route>, AmqpError> {
        let head = &message.head;
        let exchange = publish_target(session, text(head.exchange)?)?;
        let headers = properties
            .decode_headers()
            .map_err(|_| AmqpError::malformed_frame())?
            .unwrap_or_default();
        let mut keys = vec![text(head.routing_key)?.to_owned()];
        for name in ["CC", "BCC"] {
            keys.extend(copy_keys(&headers, name)?);
        }
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let message = unrouted(message, properties, stored);
        Ok(Arc::new(session.vhost.route(&exchange, &keys, &message)))
    }

    /// Returns what reached no queue and books the confirms. Answers when everything is safe.
    fn answer(
        &mut self,
        session: &Session,
        routes: &[Arc<Route>],
        routed: &[Routed<'_>],
        refused: &[u32],
        durable: Ticket,
    ) -> Ticket {
        let writes = |route: &Arc<Route>, persistent| {
            // A duplicate is as safe as the first when this epoch is, at the latest.
            let elsewhere = persistent && (route.is_duplicate || route.is_delayed());
            elsewhere || route.queues.iter().any(|queue| queue.writes(persistent))
        };
        // Of transient and of persistent messages.
        let to_disk: Vec<[bool; 2]> = routes
            .iter()
            .map(|route| [writes(route, false), writes(route, true)])
            .collect();
        let mut latest = Ticket::IMMEDIATE;
        for (index, routed) in routed.iter().enumerate() {
            let Routed {
                head,
                message,
                route,
            } = routed;
            if head.mandatory && routes[*route].is_empty() {
                self.put_return(session, message);
            }
            let ticket = if to_disk[*route][usize::from(message.persistent)] {
                durable
            } else {
                Ticket::IMMEDIATE
            };
            latest = latest.max(ticket);
            if let Mode::Confirm(confirms) = &mut self.mode {
                // One queue that refuses it is enough (semantics row 44).
                let is_refused =
                    !refused.is_empty() && refused.binary_search(&(index as u32)).is_ok();
                let verdict = if is_refused {
                    Verdict::Nack
                } else {
                    Verdict::Ack
                };
                confirms.published(verdict, ticket);
            }
        }
        latest
    }

    fn put_return(&self, session: &Session, message: &NewMessage<'_>) {
        let mut outbox = session.outbox.lock();
        let bytes = outbox.buffer.bytes_mut();
        frame::put_return(
            bytes,
            self.number,
            312,
            "NO_ROUTE",
            message.exchange,
            message.routing_key,
        );
        frame::put_content_header(
            bytes,
            self.number,
            message.body.len() as u64,
            message.properties,
        );
        let payload_max = session.outbox.payload_max();
        match &message.body {
            Body::Inline(body) => outbox.buffer.put_body(self.number, body, payload_max),
            Body::Shared(body) => {
                outbox
                    .buffer
                    .put_shared_body(self.number, &body.bytes, payload_max)
            }
        }
    }
}

/// The messages by queue, in order. Most batches go to one queue, or all to the same.
fn shares(routes: &[Arc<Route>], routed: &[Routed<'_>]) -> Vec<Share> {
    let mut shares: Vec<Share> = Vec::new();
    let mut start = 0;
    for run in routed.chunk_by(|before, after| before.route == after.route) {
        let indexes = start..start + run.len() as u32;
        start = indexes.end;
        for queue in &routes[run[0].route].queues {
            let at = match shares
                .iter()
                .position(|share| Arc::ptr_eq(&share.queue, queue))
            {
                Some(at) => at,
                None => {
                    shares.push(Share {
                        queue: queue.clone(),
                        members: Vec::new(),
                    });
                    shares.len() - 1
                }
            };
            shares[at].members.extend(indexes.clone());
        }
    }
    shares
}

/// A large body that several durable queues hold is stored once, under an id.
fn identified<'a>(session: &Session, body: &Body<'a>, route: &Route, persistent: bool) -> Body<'a> {
    let mut body = body.clone();
    if let Body::Shared(shared) = &mut body
        && persistent
        && route
            .queues
            .iter()
            .filter(|queue| queue.spec.durable)
            .nth(1)
            .is_some()
    {
        shared.id = session.broker.services.store.next_body_id();
    }
    body
}

/// The message as exchanges see it.
fn unrouted<'a>(
    message: &Incoming<'a>,
    properties: &Properties<'_>,
    stored: &'a [u8],
) -> NewMessage<'a> {
    NewMessage {
        exchange: message.head.exchange,
        routing_key: message.head.routing_key,
        properties: stored,
        annotations: &[],
        body: message.body.clone(),
        persistent: properties.persistent,
        priority: properties.priority,
        expiry_ms: 0,
    }
}

fn check_head(message: &Incoming<'_>) -> Result<(), AmqpError> {
    if message.head.immediate {
        Err(AmqpError::not_implemented("immediate=true"))
    } else {
        Ok(())
    }
}

fn publish_target(
    session: &Session,
    name: &str,
) -> Result<Arc<crate::broker::exchange::Exchange>, AmqpError> {
    // Other than in declarations and bindings, RabbitMQ leaves CR and LF in the name.
    session.check(Permission::Write, Resource::Exchange(name))?;
    let exchange = session.vhost.exchange_for(name)?;
    if exchange.spec.internal {
        return Err(AmqpError::internal_exchange(name, &session.vhost.name));
    }
    Ok(exchange)
}

fn check_user_id(properties: &Properties<'_>, user: &User) -> Result<(), AmqpError> {
    match properties.user_id {
        Some(claimed) if claimed != user.name().as_bytes() && !user.has_tag("impersonator") => Err(
            AmqpError::user_id_mismatch(&String::from_utf8_lossy(claimed), user.name()),
        ),
        _ => Ok(()),
    }
}

fn text(bytes: &[u8]) -> Result<&str, AmqpError> {
    std::str::from_utf8(bytes).map_err(|_| AmqpError::malformed_utf8())
}

/// Whether two strings of octets are equal. Those of a message that was recognized in the batch are the same place.
fn same(left: &[u8], right: &[u8]) -> bool {
    std::ptr::eq(left, right) || left == right
}
