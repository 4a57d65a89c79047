//! basic.ack, basic.nack and basic.reject: deliveries come to an end.

use std::sync::Arc;

use super::{Channel, Mode, Outcome};
use crate::amqp::error::AmqpError;
use crate::amqp::outbox::deliveries::{Share, Source};
use crate::amqp::session::Session;
use crate::broker::firehose::Settled;
use crate::broker::queue::{Queue, Return, VISIT_MESSAGES_MAX};

/// What becomes of the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settlement {
    /// Done.
    Ack,
    /// Back to the queue.
    Requeue(Return),
    /// Rejected for good: gone, or on its way to the dead-letter exchange.
    Discard,
}

impl Channel {
    /// basic.ack.
    ///
    /// # Errors
    /// The tag is not outstanding: 406.
    pub fn ack(
        &mut self,
        session: &Session,
        delivery_tag: u64,
        multiple: bool,
    ) -> Result<(), AmqpError> {
        self.settle_tag(session, delivery_tag, multiple, Settlement::Ack)
            .map(|_| ())
    }

    /// Several basic.ack, in order, as delivery tag and `multiple`.
    ///
    /// # Errors
    /// A tag is not outstanding: 406. Those before it are settled.
    pub fn ack_each(
        &mut self,
        session: &Session,
        mut acks: impl Iterator<Item = (u64, bool)>,
    ) -> Result<(), AmqpError> {
        if let Mode::Tx(_) = self.mode {
            return acks.try_for_each(|(tag, multiple)| self.ack(session, tag, multiple));
        }
        let (shares, unknown, waiting) = match session.outbox.lock().split(self.number) {
            Some((_, deliveries)) => {
                let (shares, unknown) = deliveries.take_each(acks);
                (shares, unknown, deliveries.take_waiting())
            }
            None => return Ok(()),
        };
        self.end_deliveries(session, shares, Settlement::Ack);
        session.resume(waiting);
        unknown.map_or(Ok(()), |tag| Err(AmqpError::unknown_delivery_tag(tag)))
    }

    /// Settles a tag, or all up to it.
    pub(super) fn settle_tag(
        &mut self,
        session: &Session,
        delivery_tag: u64,
        multiple: bool,
        settlement: Settlement,
    ) -> Outcome {
        if let Mode::Tx(transaction) = &mut self.mode {
            return transaction.settle(session, self.number, delivery_tag, multiple, settlement);
        }
        let taken = match session.outbox.lock().split(self.number) {
            Some((_, deliveries)) => {
                let taken = deliveries.take(delivery_tag, multiple);
                let waiting = deliveries.take_waiting();
                taken.map(|shares| (shares, waiting))
            }
            None => return Ok(None),
        };
        let (shares, waiting) = taken.map_err(|_| AmqpError::unknown_delivery_tag(delivery_tag))?;
        self.end_deliveries(session, shares, settlement);
        session.resume(waiting);
        Ok(None)
    }

    /// Gives unacknowledged messages back to their queues.
    pub(super) fn requeue(&self, session: &Session, shares: Vec<Share>, how: Return) {
        self.end_deliveries(session, shares, Settlement::Requeue(how));
    }

    /// What was taken out of the deliveries comes to an end in its queues.
    pub(super) fn end_deliveries(
        &self,
        session: &Session,
        shares: Vec<Share>,
        settlement: Settlement,
    ) {
        if session.vhost.firehose.is_on() {
            self.trace_end(session, &shares, settlement);
        }
        let is_one_visit = match &shares[..] {
            [] => true,
            [share] => share.seqs.len() <= VISIT_MESSAGES_MAX,
            _ => false,
        };
        match settlement {
            Settlement::Requeue(_) if !is_one_visit => {
                let returning = Returning::begin(session, &shares);
                end_in_queues(session, shares, settlement);
                returning.end(session);
            }
            _ => end_in_queues(session, shares, settlement),
        }
    }

    /// Copies messages to the firehose while they are still in their queues.
    fn trace_end(&self, session: &Session, shares: &[Share], settlement: Settlement) {
        let tap = self.tap(session);
        let what = match settlement {
            Settlement::Ack => Settled::Ack,
            Settlement::Discard => Settled::Reject,
            Settlement::Requeue(_) => Settled::Requeue,
        };
        for Share { source, seqs } in shares {
            let queue = &source.queue;
            for part in seqs.chunks(VISIT_MESSAGES_MAX) {
                queue.look_at(part, |delivery| {
                    tap.settled(what, delivery, &queue.spec.name);
                });
            }
        }
    }
}

/// Queues that messages come back to in several visits: their consumers get nothing before the last one is there.
pub(super) struct Returning(Vec<Arc<Queue>>);

impl Returning {
    pub(super) fn begin(session: &Session, shares: &[Share]) -> Self {
        let queues = shares.iter().map(|share| share.source.queue.clone());
        let queues: Vec<_> = queues.collect();
        for queue in &queues {
            queue.begin_return(&session.broker.services.visit());
        }
        Self(queues)
    }

    pub(super) fn end(self, session: &Session) {
        let services = &session.broker.services;
        for queue in self.0 {
            let mut more = queue.end_return(&services.visit());
            while more {
                more = queue.pump(&services.visit());
            }
        }
    }
}

fn end_in_queues(session: &Session, shares: Vec<Share>, settlement: Settlement) {
    let services = &session.broker.services;
    for Share { source, seqs } in shares {
        let Source { queue, consumer } = source;
        let mut more = false;
        for part in seqs.chunks(VISIT_MESSAGES_MAX) {
            let visit = services.visit();
            more = match settlement {
                Settlement::Ack => queue.settle(&visit, consumer, part),
                Settlement::Discard => queue.discard(&visit, consumer, part),
                Settlement::Requeue(how) => queue.requeue(&visit, consumer, part, how),
            };
        }
        while more {
            more = queue.pump(&services.visit());
        }
    }
}
