//! Messages that passed their checks and are put into their queues together.

use std::sync::Arc;

use crate::amqp::content::{Incoming, PublishHead};
use crate::amqp::session::Session;
use crate::broker::queue::Queue;
use crate::broker::vhost::Route;
use crate::message::record::{Body, NewMessage};
use crate::message::run::Run;

/// So many of a batch's latest routes are compared with the next one.
const SCANNED_MAX: usize = 16;

/// What the checks found out about a message: all that it takes to put it into its queues.
pub(in crate::amqp::channel) struct Checked {
    pub(super) route: Arc<Route>,
    pub(super) persistent: bool,
    pub(super) priority: u8,
    pub(super) ttl_ms: Option<u64>,
    /// Its properties without BCC and with the address for direct replies, if these differ from what came.
    pub(super) stored: Option<Vec<u8>>,
}

/// A message that passed its checks, with those that repeat it.
pub(super) struct Routed<'a> {
    pub(super) head: PublishHead<'a>,
    pub(super) message: NewMessage<'a>,
    pub(super) repeated: &'a [&'a [u8]],
    /// Place of its route in [`Gathered::routes`].
    pub(super) route: usize,
    /// Place of the message among all; the repetitions follow.
    pub(super) place: u32,
}

impl Routed<'_> {
    pub(super) const fn run(&self) -> Run<'_> {
        Run {
            first: &self.message,
            repeated: self.repeated,
        }
    }

    /// Places of the message and its repetitions.
    pub(super) const fn places(&self) -> std::ops::Range<u32> {
        self.place..self.place + self.run().count() as u32
    }
}

/// Messages that are put into their queues together.
pub(super) struct Gathered<'a> {
    /// The routes of the messages, which mostly share them.
    pub(super) routes: Vec<Arc<Route>>,
    /// Changed properties, by position, for the few messages that have such.
    pub(super) stored: Vec<(usize, Vec<u8>)>,
    pub(super) routed: Vec<Routed<'a>>,
}

impl<'a> Gathered<'a> {
    pub(super) fn with_capacity(count: usize) -> Self {
        Self {
            routes: Vec::new(),
            stored: Vec::new(),
            routed: Vec::with_capacity(count),
        }
    }

    /// The place of the next message.
    fn next_place(&self) -> u32 {
        self.routed.last().map_or(0, |last| last.places().end)
    }

    /// The place of a route, which mostly is one of the latest.
    fn place_of(&mut self, route: Arc<Route>) -> usize {
        let from = self.routes.len().saturating_sub(SCANNED_MAX);
        let is_same = |before: &Arc<Route>| Arc::ptr_eq(before, &route);
        if let Some(after) = self.routes[from..].iter().rposition(is_same) {
            return from + after;
        }
        self.routes.push(route);
        self.routes.len() - 1
    }

    /// Adds a message, and `repeated` with it.
    pub(super) fn add(
        &mut self,
        session: &Session,
        message: &Incoming<'a>,
        repeated: &'a [&'a [u8]],
        checked: Checked,
        now_ms: u64,
    ) {
        let Checked {
            route,
            persistent,
            priority,
            ttl_ms,
            stored,
        } = checked;
        let place = self.next_place();
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
        let route = self.place_of(route);
        self.routed.push(Routed {
            head,
            message,
            repeated,
            route,
            place,
        });
    }
}

/// The messages of a batch that go to one queue.
pub(super) struct Share {
    pub(super) queue: Arc<Queue>,
    /// Positions in [`Gathered::routed`].
    pub(super) members: Vec<u32>,
}

impl Share {
    /// The places of messages that the queue counted among those of this share, in rising order.
    pub(super) fn places(&self, routed: &[Routed<'_>], counted: &[u32]) -> Vec<u32> {
        if counted.is_empty() {
            return Vec::new();
        }
        let members = self.members.iter().map(|at| &routed[*at as usize]);
        let places: Vec<u32> = members.flat_map(Routed::places).collect();
        counted.iter().map(|at| places[*at as usize]).collect()
    }
}

/// The messages by queue, in order. Most batches go to one queue, or all to the same.
pub(super) fn shares(routes: &[Arc<Route>], routed: &[Routed<'_>]) -> Vec<Share> {
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
