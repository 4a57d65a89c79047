//! Administration of queues as far as the virtual host has a part in it: pauses, and moves from one queue to another.

use std::sync::Arc;

use super::VHost;
use super::publish::Outgoing;
use crate::broker::arguments::expiration;
use crate::broker::error::Error;
use crate::broker::exchange::Exchange;
use crate::broker::names::NAME_BYTES_MAX;
use crate::broker::queue::{Leaving, Progress, Queue};
use crate::broker::state;
use crate::message::Ticket;
use crate::message::properties::Properties;
use crate::message::record::{Body, NewMessage};
use crate::store::Visit;

/// Where messages are moved to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MoveTo {
    /// Into a queue, with the exchange and routing key that they have.
    Queue(Arc<str>),
    /// To an exchange, as if they were published to it.
    Exchange {
        /// Its name.
        name: Arc<str>,
        /// The routing key; `None`: their own.
        routing_key: Option<Arc<str>>,
    },
}

/// How far a move came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moving {
    /// As far as it was asked to, or the queue has nothing more.
    Done,
    /// A visit moves no more at once: ask again in a further one.
    Share,
    /// What comes next is only in the store: wait with [`Queue::when_loaded`] and ask again.
    Loading,
    /// Some of this share went nowhere, and stay: no queue is bound that would take them, or all are too full.
    Unroutable,
}

impl VHost {
    /// Keeps the consumers of a queue from getting anything, or no more; a durable queue stays so over a restart. Opens
    /// visits: the caller must have none open.
    ///
    /// # Errors
    /// There is no such queue.
    pub fn pause_queue(&self, name: &str, paused: bool) -> Result<Ticket, Error> {
        let missing = || Error::NotFound(self.queue_resource(name));
        let queue = self.queue(name).ok_or_else(missing)?;
        let (ticket, mut more) = {
            let visit = self.services.visit();
            let mut topology = self.topology.lock();
            if queue.is_deleted() {
                return Err(missing());
            }
            if queue.spec.durable {
                topology.latest = visit.push(state::put_queue(&queue.spec, paused));
            }
            (topology.latest, queue.set_paused(&visit, paused))
        };
        while more {
            more = queue.pump(&self.services.visit());
        }
        Ok(ticket)
    }

    /// Moves up to `count` ready messages, in the order in which they would be delivered, and answers how many. They
    /// leave and arrive in one commit: a crash neither loses nor doubles them. What goes nowhere stays where it is. One
    /// visit's share.
    ///
    /// # Errors
    /// A queue or exchange does not exist, the target is the queue itself, the queue is a stream, or the routing key is
    /// too long.
    pub fn move_messages(
        &self,
        visit: &Visit<'_>,
        from: &Arc<Queue>,
        to: &MoveTo,
        count: u64,
    ) -> Result<(u64, Moving), Error> {
        let target = self.target(from, to)?;
        let (leaving, progress) = from.take_out(visit, count);
        let mut outgoing = Vec::new();
        // Places of those that are on their way, and whether an exchange holds them until they are due.
        let mut places = Vec::new();
        for (place, message) in leaving.iter().enumerate() {
            if let Some((message, is_held)) = self.outgoing(visit, message, &target) {
                outgoing.push(message);
                places.push((place, is_held));
            }
        }
        let delivered = self.deliver(visit, outgoing, false);
        let mut has_left = vec![false; leaving.len()];
        for ((place, is_held), taken) in places.into_iter().zip(delivered.taken) {
            has_left[place] = is_held || taken;
        }
        let mut has_left = has_left.into_iter();
        let (left, staying): (Vec<_>, Vec<_>) = leaving
            .into_iter()
            .partition(|_| has_left.next().unwrap_or_default());
        from.have_left(visit, &left);
        from.stay(visit, &staying);
        for queue in delivered.crowded {
            queue.pump_soon(visit);
        }
        let moving = match progress {
            _ if !staying.is_empty() => Moving::Unroutable,
            Progress::Done => Moving::Done,
            Progress::Share => Moving::Share,
            Progress::Loading => Moving::Loading,
        };
        Ok((left.len() as u64, moving))
    }

    fn target(&self, from: &Arc<Queue>, to: &MoveTo) -> Result<Target, Error> {
        if from.is_stream() {
            return Err(Error::CannotMove(self.queue_resource(&from.spec.name)));
        }
        match to {
            MoveTo::Queue(name) => {
                let queue = self.queue(name);
                let queue = queue.ok_or_else(|| Error::NotFound(self.queue_resource(name)))?;
                if Arc::ptr_eq(&queue, from) {
                    return Err(Error::CannotMove(self.queue_resource(name)));
                }
                Ok(Target::Queue(queue))
            }
            MoveTo::Exchange {
                routing_key: Some(key),
                ..
            } if key.len() > NAME_BYTES_MAX => Err(Error::RoutingKeyTooLong),
            MoveTo::Exchange { name, routing_key } => Ok(Target::Exchange {
                exchange: self.exchange_for(name)?,
                routing_key: routing_key.clone(),
            }),
        }
    }

    /// A message as it arrives, and whether an exchange holds it back. `None`: it goes nowhere.
    fn outgoing<'a>(
        &self,
        visit: &Visit<'_>,
        leaving: &'a Leaving,
        target: &'a Target,
    ) -> Option<(Outgoing<'a>, bool)> {
        let record = leaving.record()?;
        let expiration = Properties::read(record.properties()).ok()?.expiration;
        // As if it were published now.
        let ttl_ms = expiration.and_then(|text| {
            let text = std::str::from_utf8(text).ok()?;
            expiration::parse(text).ok()
        });
        let mut message = NewMessage {
            exchange: record.exchange(),
            routing_key: record.routing_key(),
            properties: record.properties(),
            annotations: record.annotations(),
            body: match leaving.body() {
                Some(body) => Body::Shared(body.clone()),
                None => Body::Inline(record.inline_body()),
            },
            persistent: record.is_persistent(),
            priority: record.priority(),
            expiry_ms: ttl_ms.map_or(0, |ttl_ms| visit.now_ms().saturating_add(ttl_ms)),
        };
        let Target::Exchange {
            exchange,
            routing_key,
        } = target
        else {
            let targets = target.queue().into_iter().collect();
            return Some((Outgoing { message, targets }, false));
        };
        message.exchange = exchange.spec.name.as_bytes();
        if let Some(routing_key) = routing_key {
            message.routing_key = routing_key.as_bytes();
        }
        let key = String::from_utf8_lossy(message.routing_key);
        let route = self.route(exchange, &[&*key], &message);
        route.hold(visit, &message);
        let is_held = route.is_delayed();
        let targets = route.queues;
        (is_held || !targets.is_empty()).then_some((Outgoing { message, targets }, is_held))
    }
}

enum Target {
    Queue(Arc<Queue>),
    Exchange {
        exchange: Arc<Exchange>,
        routing_key: Option<Arc<str>>,
    },
}

impl Target {
    fn queue(&self) -> Option<Arc<Queue>> {
        match self {
            Self::Queue(queue) => Some(queue.clone()),
            Self::Exchange { .. } => None,
        }
    }
}
