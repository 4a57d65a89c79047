//! basic.publish: a batch of whole messages is checked, routed, and put into each queue in one visit.
//!
//! - [`batch`]: what was read, not handled yet. [`gathered`]: what passed its checks. [`duplicates`]: what is dropped.
//!
//! The order of checks is RabbitMQ's (semantics row 49): write permission, exchange exists, internal, properties,
//! expiration, user-id. A cached route stands for the first three.

mod batch;
mod duplicates;
mod gathered;
mod intercept;

use std::sync::Arc;

use bytes::Bytes;

pub use self::batch::PublishBatch;
use self::duplicates::Duplicates;
pub(super) use self::gathered::Checked;
use self::gathered::{Gathered, Routed, shares};
use super::{Channel, Mode, Phase};
use crate::amqp::confirms::Verdict;
use crate::amqp::content::{Incoming, Owned};
use crate::amqp::error::{AmqpError, copy_keys, parse_expiration};
use crate::amqp::frame;
use crate::amqp::session::Session;
use crate::auth::{Permission, Resource, User};
use crate::broker::firehose::Traced;
use crate::broker::queue::Published;
use crate::broker::vhost::Route;
use crate::message::Ticket;
use crate::message::properties::{self, Properties};
use crate::message::record::{Body, NewMessage};
use crate::store::Visit;

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
        let now_ms = visit.now_ms();
        let gathering = messages
            .iter()
            .try_for_each(|message| self.gather(session, &user, message, now_ms, &mut gathered));
        self.deliver(session, visit, gathered);
        gathering
    }

    /// Checks a message and those that repeat it: once for all of them, if nothing on their way looks at each.
    fn gather<'a>(
        &mut self,
        session: &Session,
        user: &User,
        message: &'a Incoming<'a>,
        now_ms: u64,
        gathered: &mut Gathered<'a>,
    ) -> Result<(), AmqpError> {
        let checked = self.check(session, user, message)?;
        if checked.route.takes_runs() {
            gathered.add(session, message, &message.repeated, checked, now_ms);
            return Ok(());
        }
        gathered.add(session, message, &[], checked, now_ms);
        for body in &message.repeated {
            let message = message.with_body(body);
            let checked = self.check(session, user, &message)?;
            gathered.add(session, &message, &[], checked, now_ms);
        }
        Ok(())
    }

    /// As in RabbitMQ a message of a transaction is checked and routed at once and put into its queues at the commit.
    fn publish_at_commit(
        &mut self,
        session: &Session,
        user: &User,
        messages: &[Incoming<'_>],
    ) -> Result<(), AmqpError> {
        for first in messages {
            let others = first.repeated.iter().map(|body| first.with_body(body));
            for message in std::iter::once(first.clone()).chain(others) {
                let checked = self.check(session, user, &message)?;
                if let Mode::Tx(transaction) = &mut self.mode {
                    transaction.publish(Owned::copy(&message), checked)?;
                }
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
            gathered.add(session, &message.borrow(), &[], checked, visit.now_ms());
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
        for share in shares(&routes, &routed) {
            let runs = share.members.iter().map(|at| routed[*at as usize].run());
            if let Published::Accepted {
                more,
                backlog_pause_ms,
                refused: not_taken,
                ..
            } = share.queue.publish_runs(&visit, runs)
            {
                refused.extend(share.places(&routed, &not_taken));
                self.backlog_pause_ms = self.backlog_pause_ms.max(backlog_pause_ms);
                let throttle = share.queue.publish_throttle();
                if let Some(throttle) = throttle {
                    let runs = share.members.iter().map(|at| routed[*at as usize].run());
                    self.spend(throttle, visit.now_ms(), runs);
                }
                if more {
                    crowded.push(share.queue);
                }
            }
        }
        for rates in &session.throttles {
            if rates.publish.is_on() {
                let runs = routed.iter().map(Routed::run);
                self.spend(&rates.publish, visit.now_ms(), runs);
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
        for routed in routed {
            for message in routed.run().messages() {
                let traced = Traced {
                    exchange: message.exchange,
                    routing_key: message.routing_key,
                    properties: message.properties,
                    body: match &message.body {
                        Body::Inline(body) => Bytes::copy_from_slice(body),
                        Body::Shared(body) => body.bytes.clone(),
                    },
                };
                let queues = routes[routed.route].queues.iter();
                tap.published(traced, queues.map(|queue| &*queue.spec.name));
            }
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
        if let Some(changed) = intercept::stamped(session, encoded) {
            stored = Some(changed);
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
        let key = self
            .routes
            .key(head.exchange, head.routing_key, permissions);
        if let Some(route) = self.routes.get(&key) {
            return Ok(route.clone());
        }
        let routing_key = text(head.routing_key)?;
        let exchange = match self.routes.target(&key) {
            Some(exchange) => exchange,
            None => {
                let exchange = publish_target(session, text(head.exchange)?)?;
                self.routes.remember_target(&key, &exchange);
                exchange
            }
        };
        let message = unrouted(message, properties, stored);
        let router = &mut self.routes.router;
        let route = router.route(&session.vhost, &exchange, &[routing_key], &message);
        if route.cacheable {
            self.routes.insert(&key, route.clone());
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
        for routed in routed {
            let route = &routes[routed.route];
            if routed.head.mandatory && route.is_empty() {
                for message in routed.run().messages() {
                    self.put_return(session, &message);
                }
            }
            let ticket = if to_disk[routed.route][usize::from(routed.message.persistent)] {
                durable
            } else {
                Ticket::IMMEDIATE
            };
            latest = latest.max(ticket);
            let Mode::Confirm(confirms) = &mut self.mode else {
                continue;
            };
            if refused.is_empty() {
                confirms.accepted(routed.run().count() as u64, ticket);
                continue;
            }
            for place in routed.places() {
                // One queue that refuses it is enough (semantics row 44).
                let verdict = match refused.binary_search(&place) {
                    Ok(_) => Verdict::Nack,
                    Err(_) => Verdict::Ack,
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
