//! Class basic, but for publishing: qos, consume, cancel, get, ack and its kin, recover.

use std::sync::Arc;

use amq_protocol::protocol::{AMQPClass, basic};
use amq_protocol::types::{AMQPValue, FieldTable};

use super::settle::Settlement;
use super::{Channel, ConsumerEntry, Outcome, Start, Wait, cancel_consumer};
use crate::amqp::consumer::{ChannelConsumer, shown_properties, trace};
use crate::amqp::error::AmqpError;
use crate::amqp::events::{self, Consumed};
use crate::amqp::frame::{self, DeliverHead};
use crate::amqp::names::{generated, short_string};
use crate::amqp::outbox::OutboxGuard;
use crate::amqp::outbox::deliveries::Source;
use crate::amqp::session::Session;
use crate::auth::{Permission, Resource};
use crate::broker::arguments::term;
use crate::broker::delivery::{ConsumerId, Delivery};
use crate::broker::direct_reply::REPLY_TO;
use crate::broker::error::Error;
use crate::broker::names;
use crate::broker::queue::{ConsumeRefused, ConsumerSpec, GetOutcome, Queue, Return};
use crate::config::DeprecatedFeature;
use crate::message::Ticket;
use crate::store::SpaceState;

/// Arguments of consumers that mean something to streams alone.
const OF_STREAMS: &[&str] = &[
    "x-stream-offset",
    "x-stream-filter",
    "x-stream-match-unfiltered",
];

/// Arguments of consumers that mean something to all queues but streams.
const NOT_OF_STREAMS: &[&str] = &["x-priority", "x-consumer-timeout"];

impl Channel {
    pub(super) fn basic_method(&mut self, session: &Session, method: basic::AMQPMethod) -> Outcome {
        match method {
            basic::AMQPMethod::Qos(qos) => self.qos(session, &qos),
            basic::AMQPMethod::Consume(consume) => self.consume(session, consume),
            basic::AMQPMethod::Cancel(cancel) => self.cancel(session, &cancel),
            basic::AMQPMethod::Get(get) => self.get(session, get),
            basic::AMQPMethod::Ack(ack) => {
                self.settle_tag(session, ack.delivery_tag, ack.multiple, Settlement::Ack)
            }
            basic::AMQPMethod::Nack(nack) => self.settle_tag(
                session,
                nack.delivery_tag,
                nack.multiple,
                requeued_if(nack.requeue, Return::Released),
            ),
            basic::AMQPMethod::Reject(reject) => self.settle_tag(
                session,
                reject.delivery_tag,
                false,
                requeued_if(reject.requeue, Return::Failed),
            ),
            basic::AMQPMethod::Recover(recover) => {
                let ok = basic::AMQPMethod::RecoverOk(basic::RecoverOk {});
                self.recover(session, recover.requeue, Some(AMQPClass::Basic(ok)))
            }
            basic::AMQPMethod::RecoverAsync(recover) => {
                self.recover(session, recover.requeue, None)
            }
            other => Err(AmqpError::unexpected_method(&AMQPClass::Basic(other))),
        }
    }

    /// `global` false: the window of each consumer to come, and as in RabbitMQ the end of the channel's own. True: one
    /// window for all consumers of the channel, unless the configuration denies it.
    fn qos(&mut self, session: &Session, qos: &basic::Qos) -> Outcome {
        let prefetch = u32::from(qos.prefetch_count);
        let permitted = &session.config.deprecated_features;
        let window = if qos.global && permitted.permit(DeprecatedFeature::GlobalQos) {
            prefetch
        } else {
            self.prefetch = prefetch;
            0
        };
        let waiting = match session.outbox.lock().split(self.number) {
            Some((_, deliveries)) => deliveries.set_window(window),
            None => Vec::new(),
        };
        session.resume(waiting);
        self.reply(
            session,
            AMQPClass::Basic(basic::AMQPMethod::QosOk(basic::QosOk {})),
        )
    }

    fn consume(&mut self, session: &Session, consume: basic::Consume) -> Outcome {
        let name = self.queue_name(&consume.queue)?;
        if &*name == REPLY_TO {
            return self.consume_replies(session, &consume);
        }
        let consumer_tag: Arc<str> = match consume.consumer_tag.as_str() {
            "" => generated("amq.ctag-"),
            tag => tag.into(),
        };
        if self.has_consumer(&consumer_tag) {
            return Err(AmqpError::consumer_tag_in_use(&consumer_tag));
        }
        let census = &session.broker.services.census;
        let room = census.check_consumers(self.consumers.len());
        room.map_err(|full| AmqpError::too_many_consumers(full.limit))?;
        session.check(Permission::Read, Resource::Queue(&name))?;
        let queue = session.vhost.queue_for(&name, session.id)?;
        check_consumer_arguments(&consume.arguments, &queue)?;
        let priority = consumer_priority(&consume.arguments, &queue)?;
        let timeout_ms = consumer_timeout(&consume.arguments, &queue)?;
        let reading = match queue.is_stream() {
            true => Some(self.check_stream_consumer(session, &consume, &queue)?),
            false => None,
        };
        let sink = self.sink(session, &queue, &consumer_tag, consume.no_ack);
        sink.watch(self.tap(session));
        let source = sink.source();
        let prefetch = self.prefetch;
        let visit = session.broker.services.visit();
        let registered = if let Some(reading) = reading {
            let spec = reading.spec(sink.clone(), prefetch, &consumer_tag);
            let attached = queue.attach(&visit, spec);
            attached.map(|id| (id, Ticket::IMMEDIATE))
        } else {
            let spec = ConsumerSpec {
                sink: sink.clone(),
                no_ack: consume.no_ack,
                exclusive: consume.exclusive,
                priority,
                prefetch,
                timeout_ms,
            };
            queue.subscribe(&visit, spec)
        };
        drop(visit);
        let (id, ticket) = match registered {
            Ok(registered) => registered,
            Err(refused) => {
                if let Some((_, deliveries)) = session.outbox.lock().split(self.number) {
                    deliveries.end_source(source);
                }
                return Err(consume_refused(session, &queue, refused));
            }
        };
        sink.registered(id);
        if let Some((_, deliveries)) = session.outbox.lock().split(self.number) {
            deliveries.set_consumer(source, id);
        }
        self.consumers.insert(
            consumer_tag.clone(),
            ConsumerEntry {
                queue: queue.clone(),
                id,
                source,
            },
        );
        let consumed = Consumed {
            consumer_tag: &consumer_tag,
            queue: &queue.spec.name,
            ack_required: !consume.no_ack,
            exclusive: consume.exclusive,
            prefetch_count: prefetch,
            arguments: &consume.arguments,
        };
        events::tell_consumer_created(session, self.number, &consumed);
        let reply = (!consume.nowait).then(|| {
            let ok = basic::ConsumeOk {
                consumer_tag: short_string(&consumer_tag),
            };
            AMQPClass::Basic(basic::AMQPMethod::ConsumeOk(ok))
        });
        let start = Start { queue, id, reply };
        let store = &session.broker.services.store;
        // A full disk must not keep messages from those who make room.
        if store.is_durable(ticket) || store.space() == SpaceState::Full {
            self.start_consumer(session, start);
            return Ok(None);
        }
        Ok(Some(Wait::Consume { ticket, start }))
    }

    /// consume-ok, then deliveries.
    pub fn start_consumer(&self, session: &Session, start: Start) {
        let Start { queue, id, reply } = start;
        if let Some(reply) = reply {
            session.outbox.send(self.number, &reply);
        }
        let services = &session.broker.services;
        let mut more = queue.activate(&services.visit(), id);
        while more {
            more = queue.pump(&services.visit());
        }
    }

    fn sink(
        &self,
        session: &Session,
        queue: &Arc<Queue>,
        tag: &Arc<str>,
        no_ack: bool,
    ) -> Arc<ChannelConsumer> {
        let source = match session.outbox.lock().split(self.number) {
            Some((_, deliveries)) => deliveries.add_source(Source {
                queue: queue.clone(),
                consumer: ConsumerId::NONE,
            }),
            None => 0,
        };
        ChannelConsumer::new(
            &session.outbox,
            self.number,
            tag.clone(),
            no_ack,
            source,
            queue,
        )
    }

    /// An unknown tag is no error; outstanding deliveries stay acknowledgeable (semantics row 20).
    fn cancel(&mut self, session: &Session, cancel: &basic::Cancel) -> Outcome {
        self.end_replies(session, Some(cancel.consumer_tag.as_str()));
        if let Some(entry) = self.consumers.remove(cancel.consumer_tag.as_str()) {
            cancel_consumer(session, &entry);
            let (queue, tag) = (&entry.queue.spec.name, cancel.consumer_tag.as_str());
            events::tell_consumer_deleted(session, self.number, queue, tag);
            if let Some((_, deliveries)) = session.outbox.lock().split(self.number) {
                deliveries.end_source(entry.source);
            }
        }
        if cancel.nowait {
            return Ok(None);
        }
        let ok = basic::CancelOk {
            consumer_tag: cancel.consumer_tag.clone(),
        };
        self.reply(session, AMQPClass::Basic(basic::AMQPMethod::CancelOk(ok)))
    }

    fn get(&mut self, session: &Session, get: basic::Get) -> Outcome {
        let name = self.queue_name(&get.queue)?;
        session.check(Permission::Read, Resource::Queue(&name))?;
        let queue = session.vhost.queue_for(&name, session.id)?;
        if queue.is_stream() {
            return Err(AmqpError::not_supported_by_stream("basic.get", &queue));
        }
        let got = queue.get(
            &session.broker.services.visit(),
            get.no_ack,
            |delivery, remaining| {
                if session.vhost.firehose.is_on() {
                    trace(&self.tap(session), &name, &delivery);
                }
                self.put_get_ok(
                    &mut session.outbox.lock(),
                    session,
                    &queue,
                    get.no_ack,
                    &delivery,
                    remaining,
                );
            },
        );
        match got {
            GetOutcome::Message(()) => {
                self.spend_got(session, &queue);
                Ok(None)
            }
            GetOutcome::Loading => {
                let method = Box::new(AMQPClass::Basic(basic::AMQPMethod::Get(get)));
                Ok(Some(Wait::Loading {
                    loads_done: queue.loads_done(),
                    queue,
                    method,
                }))
            }
            GetOutcome::Unsaved(ticket) => {
                let method = Box::new(AMQPClass::Basic(basic::AMQPMethod::Get(get)));
                Ok(Some(Wait::Mark { ticket, method }))
            }
            GetOutcome::Empty => self.reply(
                session,
                AMQPClass::Basic(basic::AMQPMethod::GetEmpty(basic::GetEmpty {})),
            ),
            GetOutcome::Deleted => Err(AmqpError::queue_not_found(&name, &session.vhost.name)),
        }
    }

    fn put_get_ok(
        &self,
        outbox: &mut OutboxGuard<'_>,
        session: &Session,
        queue: &Arc<Queue>,
        no_ack: bool,
        delivery: &Delivery<'_>,
        remaining: u64,
    ) {
        let Some((buffer, deliveries)) = outbox.split(self.number) else {
            return;
        };
        let delivery_tag = if no_ack {
            deliveries.next_tag_no_ack()
        } else {
            let source = deliveries.get_source(queue);
            deliveries.next_tag(source, delivery.seq)
        };
        let head = DeliverHead {
            channel: self.number,
            consumer_tag: &[],
            delivery_tag,
            redelivered: delivery.redelivered,
            exchange: delivery.record.exchange(),
            routing_key: delivery.record.routing_key(),
        };
        let bytes = buffer.bytes_mut();
        frame::put_get_ok(bytes, &head, u32::try_from(remaining).unwrap_or(u32::MAX));
        frame::put_content_header(
            bytes,
            self.number,
            delivery.record.body_len() as u64,
            &shown_properties(delivery),
        );
        let payload_max = session.outbox.payload_max();
        match delivery.body {
            Some(body) => buffer.put_shared_body(self.number, &body.bytes, payload_max),
            None => buffer.put_body(self.number, delivery.record.inline_body(), payload_max),
        }
    }

    fn recover(&self, session: &Session, requeue_all: bool, reply: Option<AMQPClass>) -> Outcome {
        if !requeue_all {
            return Err(AmqpError::not_implemented("requeue=false"));
        }
        // As in RabbitMQ the answer goes first: clients drop what they hold until it comes.
        if let Some(reply) = reply {
            session.outbox.send(self.number, &reply);
        }
        let (shares, waiting) = match session.outbox.lock().split(self.number) {
            Some((_, deliveries)) => (deliveries.take_all(), deliveries.take_waiting()),
            None => return Ok(None),
        };
        self.requeue(session, shares, Return::Released);
        session.resume(waiting);
        Ok(None)
    }
}

/// basic.reject says that the consumer failed on the message, basic.nack only that it gives it back (RabbitMQ 4.3).
const fn requeued_if(requeue: bool, how: Return) -> Settlement {
    if requeue {
        Settlement::Requeue(how)
    } else {
        Settlement::Discard
    }
}

/// Refuses what consumers of other types of queues say. What nobody knows means nothing, as in RabbitMQ.
fn check_consumer_arguments(arguments: &FieldTable, queue: &Queue) -> Result<(), AmqpError> {
    let foreign = match queue.is_stream() {
        true => NOT_OF_STREAMS,
        false => OF_STREAMS,
    };
    match foreign.iter().find(|name| arguments.contains_key(name)) {
        None => Ok(()),
        Some(argument) => Err(Error::UnsupportedArgument {
            argument,
            resource: names::Resource::queue(&queue.spec.vhost, &queue.spec.name),
            queue_type: queue.spec.arguments.get().queue_type(),
        }
        .into()),
    }
}

/// `x-priority` of a consumer: any integer.
fn consumer_priority(arguments: &FieldTable, queue: &Queue) -> Result<i32, AmqpError> {
    let Some(value) = arguments.inner().get("x-priority") else {
        return Ok(0);
    };
    let priority = match value {
        AMQPValue::ShortShortInt(value) => i64::from(*value),
        AMQPValue::ShortShortUInt(value) => i64::from(*value),
        AMQPValue::ShortInt(value) => i64::from(*value),
        AMQPValue::ShortUInt(value) => i64::from(*value),
        AMQPValue::LongInt(value) => i64::from(*value),
        AMQPValue::LongUInt(value) => i64::from(*value),
        AMQPValue::LongLongInt(value) => *value,
        other => {
            let queue = names::Resource::queue(&queue.spec.vhost, &queue.spec.name);
            return Err(AmqpError::invalid_consumer_priority(other, queue));
        }
    };
    Ok(i32::try_from(priority).unwrap_or(if priority < 0 { i32::MIN } else { i32::MAX }))
}

/// `x-consumer-timeout` of a consumer in ms.
fn consumer_timeout(arguments: &FieldTable, queue: &Queue) -> Result<Option<u64>, AmqpError> {
    let Some(value) = arguments.inner().get("x-consumer-timeout") else {
        return Ok(None);
    };
    let timeout_ms = term::integer(value).and_then(|number| u64::try_from(number).ok());
    timeout_ms.map(Some).ok_or_else(|| {
        let queue = names::Resource::queue(&queue.spec.vhost, &queue.spec.name);
        AmqpError::invalid_consumer_timeout(&queue)
    })
}

fn consume_refused(session: &Session, queue: &Queue, refused: ConsumeRefused) -> AmqpError {
    match refused {
        ConsumeRefused::ExclusiveInUse => {
            AmqpError::exclusive_use(&queue.spec.name, &session.vhost.name)
        }
        ConsumeRefused::Deleted => {
            AmqpError::queue_not_found(&queue.spec.name, &session.vhost.name)
        }
    }
}
