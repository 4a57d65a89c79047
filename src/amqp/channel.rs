//! A channel: the state that its methods share, and which method goes where.
//!
//! One file per method group: [`exchange`], [`queue`], [`basic`] (qos, consume, cancel, get, recover), [`publish`],
//! [`mod@settle`] (ack, nack, reject), [`confirm`], [`tx`]; and [`direct_reply`]. Methods are synchronous. What has to
//! wait (for the disk, for a cold queue) is answered as a [`Wait`], and the connection reads nothing more until it is
//! over.
//!
//! ```text
//!  Open --channel error: channel.close sent--> Closing --close or close-ok--> gone
//!  Open --client's channel.close-----------------------------------------> gone
//! ```

mod basic;
mod confirm;
mod direct_reply;
mod exchange;
mod publish;
mod queue;
mod settle;
mod stream;
#[cfg(test)]
mod tests;
mod throttle;
mod tx;

use std::sync::Arc;

use amq_protocol::protocol::{
    AMQPClass, access, basic as basic_methods, channel as channel_methods,
};
use hashbrown::HashMap;

pub use self::publish::PublishBatch;
use super::confirms::Confirms;
use super::content::Assembly;
use super::error::AmqpError;
use super::events;
use super::outbox::Cancelled;
use super::outbox::deliveries::{Deliveries, Share};
use super::route_cache::RouteCache;
use super::session::Session;
use crate::auth::{Permission, Resource};
use crate::broker::delivery::Cancellation;
use crate::broker::delivery::ConsumerId;
use crate::broker::firehose::Tap;
use crate::broker::queue::{Queue, Return};
use crate::message::Ticket;
use crate::occupancy::Place;
use crate::rate::Throttle;

use self::direct_reply::ReplyConsumer;
use self::settle::Returning;
use self::tx::Transaction;

/// What a method has to wait for before the connection goes on.
#[derive(Debug)]
pub enum Wait {
    /// Send this reply (if any) once the ticket is durable.
    Durable {
        /// The work.
        ticket: Ticket,
        /// Its -ok, `None` for nowait.
        reply: Option<AMQPClass>,
    },
    /// A consumer may begin once the ticket is durable.
    Consume {
        /// The mark that its queue delivers.
        ticket: Ticket,
        /// The consumer.
        start: Start,
    },
    /// basic.get found a head that has to be read from the store: repeat the method then.
    Loading {
        /// The queue.
        queue: Arc<Queue>,
        /// Loads that had come when the wait began.
        loads_done: u64,
        /// The method.
        method: Box<AMQPClass>,
    },
    /// basic.get found the first message that its queue delivers: repeat the method once the ticket is durable.
    Mark {
        /// The mark that the queue delivers.
        ticket: Ticket,
        /// The method.
        method: Box<AMQPClass>,
    },
}

/// A registered consumer that has not begun.
#[derive(Debug)]
pub struct Start {
    queue: Arc<Queue>,
    id: ConsumerId,
    /// consume-ok, `None` for nowait.
    reply: Option<AMQPClass>,
}

/// What a method leads to.
pub type Outcome = Result<Option<Wait>, AmqpError>;

enum Mode {
    /// Publishes are not answered.
    Plain,
    /// confirm.select.
    Confirm(Confirms),
    /// tx.select.
    Tx(Box<Transaction>),
}

struct ConsumerEntry {
    queue: Arc<Queue>,
    id: ConsumerId,
    /// Number in the channel's deliveries.
    source: u32,
}

/// Whether the channel still answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Everything goes.
    Open,
    /// channel.close was sent: everything but close and close-ok is ignored.
    Closing,
}

/// An open channel.
pub struct Channel {
    number: u16,
    /// Whether it still answers.
    pub phase: Phase,
    /// A message on its way in.
    pub assembly: Assembly,
    mode: Mode,
    /// Name of the queue declared last on this channel: what an empty queue name means.
    last_queue: Option<Arc<str>>,
    /// basic.qos for consumers to come.
    prefetch: u32,
    consumers: HashMap<Arc<str>, ConsumerEntry>,
    /// Its consumer of direct replies.
    replies: Option<ReplyConsumer>,
    routes: RouteCache,
    /// The longest pause for the consumers of queues that it published to since the last
    /// [`Self::take_backlog_pause_ms`].
    backlog_pause_ms: u64,
    /// Rates that it exceeded since the last [`Self::take_owed`].
    owed: Vec<Arc<Throttle>>,
    /// It counts in its node and for its user.
    _places: (Place, Option<Place>),
}

impl Channel {
    /// Opens channel `number` of the connection.
    ///
    /// # Errors
    /// The node or the user has as many channels as it may have: 530.
    pub fn open(session: &Session, number: u16) -> Result<Self, AmqpError> {
        let user = session.user();
        let services = &session.broker.services;
        let of_node = services.census.count_channel();
        let of_node =
            of_node.map_err(|full| AmqpError::node_channel_limit(&services.node, full.limit))?;
        let of_user = session.broker.auth.count_channel(&user);
        let of_user =
            of_user.map_err(|full| AmqpError::user_channel_limit(user.name(), full.limit))?;
        session
            .outbox
            .lock()
            .channels
            .insert(number, Box::<Deliveries>::default());
        events::tell_channel_opened(session, number);
        Ok(Self {
            number,
            phase: Phase::Open,
            assembly: Assembly::Idle,
            mode: Mode::Plain,
            last_queue: None,
            prefetch: 0,
            consumers: HashMap::new(),
            replies: None,
            routes: RouteCache::default(),
            backlog_pause_ms: 0,
            owed: Vec::new(),
            _places: (of_node, of_user),
        })
    }

    /// Carries out a method other than basic.publish.
    ///
    /// # Errors
    /// The channel or the connection ends, with what the error says.
    pub fn method(&mut self, session: &Session, method: AMQPClass) -> Outcome {
        match method {
            AMQPClass::Exchange(method) => self.exchange_method(session, method),
            AMQPClass::Queue(method) => self.queue_method(session, method),
            AMQPClass::Basic(method) => self.basic_method(session, method),
            AMQPClass::Tx(method) => self.tx_method(session, method),
            AMQPClass::Confirm(method) => self.confirm_method(session, method),
            AMQPClass::Channel(channel_methods::AMQPMethod::Flow(flow)) => {
                self.flow(session, flow.active)
            }
            AMQPClass::Access(access::AMQPMethod::Request(_)) => self.reply(
                session,
                AMQPClass::Access(access::AMQPMethod::RequestOk(access::RequestOk {})),
            ),
            other => Err(AmqpError::unexpected_method(&other)),
        }
    }

    fn flow(&self, session: &Session, active: bool) -> Outcome {
        if !active {
            return Err(AmqpError::not_implemented("active=false"));
        }
        let ok = channel_methods::AMQPMethod::FlowOk(channel_methods::FlowOk { active: true });
        self.reply(session, AMQPClass::Channel(ok))
    }

    fn reply(&self, session: &Session, method: AMQPClass) -> Outcome {
        session.outbox.send(self.number, &method);
        Ok(None)
    }

    /// Sends `reply` at once, or when `ticket` is durable.
    fn reply_when_durable(
        &self,
        session: &Session,
        ticket: Ticket,
        reply: Option<AMQPClass>,
    ) -> Outcome {
        if session.broker.services.store.is_durable(ticket) {
            if let Some(reply) = reply {
                session.outbox.send(self.number, &reply);
            }
            return Ok(None);
        }
        // nowait does not wait for the disk either.
        Ok(reply.map(|reply| Wait::Durable {
            ticket,
            reply: Some(reply),
        }))
    }

    /// The broker cancelled one of the consumers: forget it and tell a client that wants to know.
    ///
    /// # Errors
    /// It took too long and its client cannot be told by basic.cancel: the channel ends with 406.
    pub fn consumer_cancelled(
        &mut self,
        session: &Session,
        cancelled: &Cancelled,
    ) -> Result<(), AmqpError> {
        let Some(entry) = self.take_consumer(&cancelled.consumer_tag) else {
            return Ok(());
        };
        let queue = &entry.queue.spec.name;
        events::tell_consumer_deleted(session, self.number, queue, &cancelled.consumer_tag);
        let late = match session.outbox.lock().split(self.number) {
            Some((_, deliveries)) => {
                let late = match cancelled.why {
                    Cancellation::TimedOut { .. } => deliveries.take_late(entry.source),
                    Cancellation::QueueDeleted => Vec::new(),
                };
                deliveries.end_source(entry.source);
                late
            }
            None => Vec::new(),
        };
        if session.capabilities.consumer_cancel_notify && self.phase == Phase::Open {
            let cancel = basic_methods::Cancel {
                consumer_tag: super::names::short_string(&cancelled.consumer_tag),
                nowait: true,
            };
            session.outbox.send(
                self.number,
                &AMQPClass::Basic(basic_methods::AMQPMethod::Cancel(cancel)),
            );
            // After the word of it: the same client may get the messages again.
            self.give_back_late(session, &entry, cancelled.why, late);
            return Ok(());
        }
        self.give_back_late(session, &entry, cancelled.why, late);
        match cancelled.why {
            Cancellation::TimedOut { timeout_ms } => {
                Err(AmqpError::consumer_timed_out(self.number, timeout_ms))
            }
            Cancellation::QueueDeleted => Ok(()),
        }
    }

    /// Forgets the consumer that was given this very tag. One that came later, under a tag that reads the same, stays.
    fn take_consumer(&mut self, tag: &Arc<str>) -> Option<ConsumerEntry> {
        let (known, _) = self.consumers.get_key_value(tag)?;
        if Arc::ptr_eq(known, tag) {
            self.consumers.remove(tag)
        } else {
            None
        }
    }

    /// What a consumer held for too long goes back to its queue, and only then does the consumer leave it.
    fn give_back_late(
        &self,
        session: &Session,
        entry: &ConsumerEntry,
        why: Cancellation,
        late: Vec<Share>,
    ) {
        self.requeue(session, late, Return::Failed);
        if let Cancellation::TimedOut { .. } = why {
            cancel_consumer(session, entry);
        }
    }

    /// Where the firehose copies messages of this channel from.
    fn tap(&self, session: &Session) -> Tap {
        let user = session.user();
        Tap::new(&session.vhost, &session.name, self.number, user.name())
    }

    /// How much time it should give the consumers of its queues, in ms, if it has published since the last call.
    pub fn take_backlog_pause_ms(&mut self) -> u64 {
        std::mem::take(&mut self.backlog_pause_ms)
    }

    /// It consumes.
    pub fn has_consumers(&self) -> bool {
        !self.consumers.is_empty()
    }

    /// Confirms that wait for the disk.
    pub fn owed_ticket(&self) -> Option<Ticket> {
        match &self.mode {
            Mode::Confirm(confirms) => confirms.next_ticket(),
            _ => None,
        }
    }

    /// The user changed: permissions are asked anew, and consumers end whose queue it may not read any more.
    pub fn user_changed(&mut self, session: &Session) {
        self.routes.clear();
        let may_read = |entry: &ConsumerEntry| {
            let queue = Resource::Queue(&entry.queue.spec.name);
            session.check(Permission::Read, queue).is_ok()
        };
        let refused = self.consumers.iter().filter(|(_, entry)| !may_read(entry));
        let refused: Vec<_> = refused.map(|(tag, _)| tag.clone()).collect();
        for consumer_tag in refused {
            if let Some(entry) = self.consumers.get(&consumer_tag) {
                cancel_consumer(session, entry);
            }
            let channel = self.number;
            let cancelled = Cancelled {
                channel,
                consumer_tag,
                why: Cancellation::QueueDeleted,
            };
            // Only a timeout is an error of its channel.
            let _ = self.consumer_cancelled(session, &cancelled);
        }
    }

    /// Removes the consumers and requeues what is unacknowledged, in order: the channel ends.
    ///
    /// Who takes the place of a single active or exclusive consumer gets nothing before that.
    pub fn end(&mut self, session: &Session) {
        self.end_replies(session, None);
        let shares = {
            let mut outbox = session.outbox.lock();
            outbox
                .channels
                .remove(&self.number)
                .map(|mut deliveries| deliveries.take_all())
        };
        let shares = shares.unwrap_or_default();
        let returning = Returning::begin(session, &shares);
        for (consumer_tag, entry) in std::mem::take(&mut self.consumers) {
            cancel_consumer(session, &entry);
            let queue = &entry.queue.spec.name;
            events::tell_consumer_deleted(session, self.number, queue, &consumer_tag);
        }
        self.requeue(session, shares, Return::Failed);
        returning.end(session);
        self.mode = Mode::Plain;
        self.assembly = Assembly::Idle;
        // One that was closed for an error ended before.
        if self.phase == Phase::Open {
            events::tell_channel_closed(session, self.number);
        }
    }
}

/// Takes a consumer off its queue; an auto-delete queue may go with it.
fn cancel_consumer(session: &Session, entry: &ConsumerEntry) {
    let visit = session.broker.services.visit();
    if entry.queue.cancel(&visit, entry.id) {
        session.vhost.queue_became_unused(&visit, &entry.queue);
    }
}
