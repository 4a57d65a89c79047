//! Class confirm: publishers are told when their messages are safe.

use amq_protocol::protocol::{AMQPClass, confirm};

use super::{Channel, Mode, Outcome};
use crate::amqp::confirms::{Confirms, Verdict};
use crate::amqp::error::AmqpError;
use crate::amqp::frame;
use crate::amqp::session::Session;

impl Channel {
    pub(super) fn confirm_method(
        &mut self,
        session: &Session,
        method: confirm::AMQPMethod,
    ) -> Outcome {
        let confirm::AMQPMethod::Select(select) = method else {
            return Err(AmqpError::unexpected_method(&AMQPClass::Confirm(method)));
        };
        match self.mode {
            Mode::Tx(_) => {
                return Err(AmqpError::precondition_failed(
                    "cannot switch from tx to confirm mode",
                ));
            }
            Mode::Confirm(_) => {}
            Mode::Plain => self.mode = Mode::Confirm(Confirms::default()),
        }
        if select.nowait {
            return Ok(None);
        }
        self.reply(
            session,
            AMQPClass::Confirm(confirm::AMQPMethod::SelectOk(confirm::SelectOk {})),
        )
    }

    /// Sends the confirms whose messages are safe now.
    pub fn release_confirms(&mut self, session: &Session) {
        let Mode::Confirm(confirms) = &mut self.mode else {
            return;
        };
        if confirms.is_empty() {
            return;
        }
        let store = &session.broker.services.store;
        let mut outbox = None;
        confirms.release(
            |ticket| store.is_durable(ticket),
            |confirm| {
                let outbox = outbox.get_or_insert_with(|| session.outbox.lock());
                let ack = confirm.verdict == Verdict::Ack;
                let bytes = outbox.buffer.bytes_mut();
                frame::put_confirm(
                    bytes,
                    self.number,
                    ack,
                    confirm.delivery_tag,
                    confirm.multiple,
                );
            },
        );
    }
}
