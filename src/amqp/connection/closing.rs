//! The ways a connection or one of its channels ends.

use amq_protocol::protocol::{AMQPClass, channel, connection, parse_class};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::{CLOSE_OK_TIMEOUT, Connection, Phase};
use crate::amqp::channel::Phase as ChannelPhase;
use crate::amqp::error::AmqpError;
use crate::amqp::frame::{self, Frame};
use crate::amqp::names::short_string;

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// A channel error: channel.close, after everything unacknowledged went back.
    pub(super) fn close_channel(&mut self, number: u16, error: &AmqpError, ids: (u16, u16)) {
        tracing::error!(
            peer = %self.session.peer, connection = self.session.id, channel = number, code = error.code(),
            text = error.text(), "channel error"
        );
        let ids = error.ids(ids);
        let Some(channel) = self.channels.get_mut(&number) else {
            return;
        };
        channel.release_confirms(&self.session);
        channel.end(&self.session);
        channel.phase = ChannelPhase::Closing;
        let close = channel::Close {
            reply_code: error.code(),
            reply_text: short_string(error.text()),
            class_id: ids.0,
            method_id: ids.1,
        };
        self.session.outbox.send(
            number,
            &AMQPClass::Channel(channel::AMQPMethod::Close(close)),
        );
    }

    /// The client closed a channel.
    pub(super) fn end_channel(&mut self, number: u16) {
        if let Some(mut channel) = self.channels.remove(&number) {
            channel.release_confirms(&self.session);
            channel.end(&self.session);
        }
    }

    /// A connection error: connection.close, after all channels ended.
    pub(super) fn close_with(&mut self, number: u16, error: &AmqpError, ids: (u16, u16)) {
        if self.phase != Phase::Open {
            return;
        }
        tracing::error!(
            peer = %self.session.peer, connection = self.session.id, channel = number, code = error.code(),
            text = error.text(), "connection error"
        );
        self.close(error, error.ids(ids));
    }

    /// The broker wants the connection to go: 320.
    pub(super) fn close_forced(&mut self, explanation: &str) {
        if self.phase == Phase::Open {
            self.close(&AmqpError::connection_forced(explanation), (0, 0));
        }
    }

    fn close(&mut self, error: &AmqpError, ids: (u16, u16)) {
        self.end_channels();
        self.pause = None;
        let close = connection::Close {
            reply_code: error.code(),
            reply_text: short_string(error.text()),
            class_id: ids.0,
            method_id: ids.1,
        };
        self.session.outbox.send(
            0,
            &AMQPClass::Connection(connection::AMQPMethod::Close(close)),
        );
        self.phase = Phase::Closing {
            deadline: Instant::now() + CLOSE_OK_TIMEOUT,
        };
    }

    /// The client closes: its channels end and its exclusive queues go before it hears close-ok (semantics row 73).
    pub(super) fn client_close(&mut self) {
        self.end_channels();
        self.delete_exclusive_queues();
        self.session.leave();
        self.session.outbox.send(0, &close_ok());
        self.flush_and_end();
    }

    /// Only close and close-ok count any more.
    pub(super) fn frame_while_closing(&mut self, frame: &Frame<'_>) {
        if frame.kind != frame::METHOD || frame.channel != 0 {
            return;
        }
        match parse_class(frame.payload) {
            Ok((_, AMQPClass::Connection(connection::AMQPMethod::CloseOk(_)))) => {
                self.flush_and_end()
            }
            Ok((_, AMQPClass::Connection(connection::AMQPMethod::Close(_)))) => {
                self.session.outbox.send(0, &close_ok());
            }
            _ => {}
        }
    }

    fn flush_and_end(&mut self) {
        self.phase = Phase::Flushing {
            deadline: Instant::now() + CLOSE_OK_TIMEOUT,
        };
    }

    fn end_channels(&mut self) {
        for (_, mut channel) in std::mem::take(&mut self.channels) {
            channel.release_confirms(&self.session);
            channel.end(&self.session);
        }
    }

    fn delete_exclusive_queues(&self) {
        let services = &self.session.broker.services;
        while self
            .session
            .vhost
            .delete_exclusive_queues(&services.visit(), self.session.id)
        {}
    }

    /// Whatever way it ended: nothing of the connection stays in the broker.
    pub(super) fn terminate(&mut self) {
        // Consumers go first, so that nothing is delivered into a closed outbox; then what they held goes back.
        self.end_channels();
        self.session.outbox.close();
        self.delete_exclusive_queues();
        self.session.leave();
    }
}

fn close_ok() -> AMQPClass {
    AMQPClass::Connection(connection::AMQPMethod::CloseOk(connection::CloseOk {}))
}
