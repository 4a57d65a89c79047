//! Direct reply-to of a channel: its one reply consumer, and the requests that name it (semantics row 74).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use amq_protocol::protocol::{AMQPClass, basic};

use super::{Channel, Outcome};
use crate::amqp::error::AmqpError;
use crate::amqp::frame::{self, DeliverHead};
use crate::amqp::names::{generated, short_string};
use crate::amqp::outbox::{OUTBOX_HARD_BYTES_MAX, Outbox};
use crate::amqp::session::Session;
use crate::broker::direct_reply::{REPLY_TO, ReplySink};
use crate::message::properties::{Properties, Rewrite};
use crate::message::record::{Body, NewMessage};

/// The reply consumer of a channel.
pub(super) struct ReplyConsumer {
    /// What reply-to of its requests becomes.
    address: Arc<str>,
    sink: Arc<Replies>,
}

/// Encodes replies into the outbox of the connection.
struct Replies {
    outbox: Arc<Outbox>,
    channel: u16,
    consumer_tag: Arc<str>,
    /// Changed under the lock of the outbox: the number of the channel may have a new owner afterwards.
    ended: AtomicBool,
}

impl std::fmt::Debug for Replies {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.consumer_tag)
    }
}

impl ReplySink for Replies {
    /// Above the hard limit of an outbox replies are lost, as RabbitMQ loses those for which a consumer has no credit.
    fn reply(&self, message: &NewMessage<'_>) {
        let mut outbox = self.outbox.lock();
        if outbox.is_closed()
            || self.is_ended()
            || self.outbox.queued_bytes() >= OUTBOX_HARD_BYTES_MAX
        {
            return;
        }
        let payload_max = self.outbox.payload_max();
        let Some((buffer, deliveries)) = outbox.split(self.channel) else {
            return;
        };
        let head = DeliverHead {
            channel: self.channel,
            consumer_tag: self.consumer_tag.as_bytes(),
            delivery_tag: deliveries.next_tag_no_ack(),
            redelivered: false,
            exchange: message.exchange,
            routing_key: message.routing_key,
        };
        let bytes = buffer.bytes_mut();
        frame::put_deliver(bytes, &head);
        let body_len = message.body.len() as u64;
        frame::put_content_header(bytes, self.channel, body_len, message.properties);
        match &message.body {
            Body::Inline(body) => buffer.put_body(self.channel, body, payload_max),
            Body::Shared(body) => buffer.put_shared_body(self.channel, &body.bytes, payload_max),
        }
    }

    fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

impl Channel {
    /// basic.consume from the pseudo-queue. No permission is asked, as in RabbitMQ.
    pub(super) fn consume_replies(
        &mut self,
        session: &Session,
        consume: &basic::Consume,
    ) -> Outcome {
        let tag = consume.consumer_tag.as_str();
        if self.has_consumer(tag) {
            return Err(AmqpError::consumer_tag_in_use(tag));
        }
        if !consume.no_ack {
            return Err(AmqpError::precondition_failed(
                "reply consumer cannot acknowledge",
            ));
        }
        if self.replies.is_some() {
            return Err(AmqpError::precondition_failed("reply consumer already set"));
        }
        let consumer_tag = match tag {
            "" => generated("amq.ctag-"),
            tag => tag.into(),
        };
        let sink = Arc::new(Replies {
            outbox: session.outbox.clone(),
            channel: self.number,
            consumer_tag: consumer_tag.clone(),
            ended: AtomicBool::new(false),
        });
        let registered: Arc<dyn ReplySink> = sink.clone();
        let address = session
            .vhost
            .reply_consumers
            .add(&generated(""), &registered);
        self.replies = Some(ReplyConsumer { address, sink });
        if consume.nowait {
            return Ok(None);
        }
        let ok = basic::ConsumeOk {
            consumer_tag: short_string(&consumer_tag),
        };
        self.reply(session, AMQPClass::Basic(basic::AMQPMethod::ConsumeOk(ok)))
    }

    /// Whether a consumer of this channel has that tag.
    pub(super) fn has_consumer(&self, tag: &str) -> bool {
        let replies = self.replies.as_ref();
        self.consumers.contains_key(tag)
            || replies.is_some_and(|replies| &*replies.sink.consumer_tag == tag)
    }

    /// Ends the reply consumer if it has that tag; `None`: whatever its tag.
    pub(super) fn end_replies(&mut self, session: &Session, tag: Option<&str>) {
        let ends =
            |replies: &mut ReplyConsumer| tag.is_none_or(|tag| &*replies.sink.consumer_tag == tag);
        if let Some(ReplyConsumer { address, sink }) = self.replies.take_if(ends) {
            session.vhost.reply_consumers.remove(&address);
            let _outbox = session.outbox.lock();
            sink.ended.store(true, Ordering::Release);
        }
    }

    /// The properties of a request, with the address of this channel's reply consumer in place of the pseudo-queue.
    /// `None`: it asks for no direct reply.
    ///
    /// # Errors
    /// It does, and the channel has no reply consumer.
    pub(super) fn with_reply_address(
        &self,
        properties: &Properties<'_>,
        encoded: &[u8],
    ) -> Result<Option<Vec<u8>>, AmqpError> {
        if properties.reply_to != Some(REPLY_TO.as_bytes()) {
            return Ok(None);
        }
        let Some(replies) = &self.replies else {
            return Err(AmqpError::reply_consumer_missing());
        };
        let rewrite = Rewrite {
            reply_to: Some(replies.address.as_bytes()),
            ..Rewrite::default()
        };
        rewrite
            .apply(encoded)
            .map(Some)
            .map_err(|_| AmqpError::undecodable_properties(encoded))
    }
}
