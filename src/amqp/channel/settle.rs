//! basic.ack, basic.nack and basic.reject: deliveries come to an end.

use super::{Channel, Mode, Outcome, discard, requeue, settle};
use crate::amqp::error::AmqpError;
use crate::amqp::session::Session;
use crate::broker::queue::Return;

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
        settle(session, shares);
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
        match settlement {
            Settlement::Ack => settle(session, shares),
            Settlement::Discard => discard(session, shares),
            Settlement::Requeue(how) => requeue(session, shares, how),
        }
        session.resume(waiting);
        Ok(None)
    }
}
