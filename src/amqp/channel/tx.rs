//! Class tx: publishes and acknowledgements take effect together at commit, queue by queue (semantics: not atomic over
//! queues, as in RabbitMQ). commit-ok waits until all of it is durable.

use amq_protocol::protocol::{AMQPClass, tx};

use super::publish::Checked;
use super::settle::Settlement;
use super::{Channel, Mode, Outcome};
use crate::amqp::content::Owned;
use crate::amqp::error::AmqpError;
use crate::amqp::session::Session;
use crate::broker::queue::VISIT_MESSAGES_MAX;
use crate::message::Ticket;

/// Bytes that a transaction may hold before commit, those of keeping its messages included.
pub(super) const TRANSACTION_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What waits for tx.commit.
#[derive(Default)]
pub(super) struct Transaction {
    messages: Vec<(Owned, Checked)>,
    bytes: usize,
    /// Delivery tags, held in the channel's deliveries.
    settled: Vec<(Vec<u64>, Settlement)>,
}

impl Transaction {
    /// Keeps a message until commit.
    ///
    /// # Errors
    /// 406 when the transaction grows beyond its limit.
    pub(super) fn publish(&mut self, message: Owned, checked: Checked) -> Result<(), AmqpError> {
        self.bytes += message.held_bytes() + size_of::<(Owned, Checked)>();
        if self.bytes > TRANSACTION_BYTES_MAX {
            return Err(AmqpError::precondition_failed("transaction is too large"));
        }
        self.messages.push((message, checked));
        Ok(())
    }

    /// Keeps an ack, nack or reject until commit. The tags are not outstanding for further acks meanwhile.
    pub(super) fn settle(
        &mut self,
        session: &Session,
        channel: u16,
        delivery_tag: u64,
        multiple: bool,
        settlement: Settlement,
    ) -> Outcome {
        if let Some((_, deliveries)) = session.outbox.lock().split(channel) {
            let held = deliveries
                .hold(delivery_tag, multiple)
                .map_err(|_| AmqpError::unknown_delivery_tag(delivery_tag))?;
            // Tag 0 may stand for nothing, any number of times.
            if !held.is_empty() {
                self.settled.push((held, settlement));
            }
        }
        Ok(None)
    }
}

impl Channel {
    pub(super) fn tx_method(&mut self, session: &Session, method: tx::AMQPMethod) -> Outcome {
        match method {
            tx::AMQPMethod::Select(_) => {
                match self.mode {
                    Mode::Confirm(_) => {
                        return Err(AmqpError::precondition_failed(
                            "cannot switch from confirm to tx mode",
                        ));
                    }
                    Mode::Tx(_) => {}
                    Mode::Plain => self.mode = Mode::Tx(Box::default()),
                }
                self.reply(
                    session,
                    AMQPClass::Tx(tx::AMQPMethod::SelectOk(tx::SelectOk {})),
                )
            }
            tx::AMQPMethod::Commit(_) => {
                let ticket = self.commit(session)?;
                let ok = AMQPClass::Tx(tx::AMQPMethod::CommitOk(tx::CommitOk {}));
                self.reply_when_durable(session, ticket, Some(ok))
            }
            tx::AMQPMethod::Rollback(_) => {
                let transaction = self.transaction()?;
                if let Some((_, deliveries)) = session.outbox.lock().split(self.number) {
                    for (held, _) in &transaction.settled {
                        deliveries.release_held(held);
                    }
                }
                self.reply(
                    session,
                    AMQPClass::Tx(tx::AMQPMethod::RollbackOk(tx::RollbackOk {})),
                )
            }
            other => Err(AmqpError::unexpected_method(&AMQPClass::Tx(other))),
        }
    }

    /// The transaction so far, leaving an empty one.
    fn transaction(&mut self) -> Result<Transaction, AmqpError> {
        match &mut self.mode {
            Mode::Tx(transaction) => Ok(std::mem::take(&mut **transaction)),
            _ => Err(AmqpError::precondition_failed(
                "channel is not transactional",
            )),
        }
    }

    fn commit(&mut self, session: &Session) -> Result<Ticket, AmqpError> {
        let transaction = self.transaction()?;
        let mut ticket = Ticket::IMMEDIATE;
        let mut any_refused = false;
        let mut messages = transaction.messages.into_iter();
        while messages.len() > 0 {
            let part = messages.by_ref().take(VISIT_MESSAGES_MAX).collect();
            let (safe, refused) = self.publish_checked(session, part);
            ticket = ticket.max(safe);
            any_refused |= refused;
        }
        for (held, settlement) in transaction.settled {
            let (shares, waiting) = match session.outbox.lock().split(self.number) {
                Some((_, deliveries)) => (deliveries.take_held(&held), deliveries.take_waiting()),
                None => continue,
            };
            self.end_deliveries(session, shares, settlement);
            session.resume(waiting);
        }
        if any_refused {
            return Err(AmqpError::precondition_failed("partial tx completion"));
        }
        // Acknowledgements of persistent messages are durable with the epoch that is open now.
        Ok(ticket.max(session.broker.services.visit().ticket()))
    }
}
