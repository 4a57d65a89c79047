//! Frames in: publishes are gathered into batches, everything else goes to its channel one by one.

use std::sync::Arc;

use amq_protocol::protocol::{AMQPClass, channel, connection, parse_class};
use hashbrown::hash_map::Entry;
use tokio::io::{AsyncRead, AsyncWrite};

use super::events::BODY_HEAD_READ_BYTES;
use super::{Connection, Phase};
use crate::amqp::channel::{Channel, Phase as ChannelPhase, PublishBatch};
use crate::amqp::content::{self, Assembly, Incoming, OwnedHead};
use crate::amqp::error::{AmqpError, Scope};
use crate::amqp::frame::{self, Frame};
use crate::amqp::names::short_string;
use crate::amqp::nesting;
use crate::amqp::outbox::woken_by_this_thread;
use crate::amqp::read_buffer::ReadBuffer;
use crate::amqp::short_strings;
use crate::message::record::Body;

/// Class and method id of basic.publish.
const BASIC_PUBLISH: [u8; 4] = [0, 60, 0, 40];

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Handles the frames that are there, until a pause.
    pub(super) fn input(&mut self) {
        let mut read = std::mem::take(&mut self.read);
        if matches!(self.phase, Phase::Lingering { .. }) {
            read.consume(read.bytes().len());
        }
        let is_much = read.bytes().len() >= BODY_HEAD_READ_BYTES;
        if self.may_commit && !is_much {
            self.frames_and_commit(&mut read);
        } else {
            self.frames(&mut read);
        }
        self.expects_bodies &= !is_much || self.body.is_some();
        self.read = read;
        self.release_confirms();
    }

    /// What a confirm waits for is made durable here, unless there is more than publishes, which may take the store
    /// long, or others wait for their turn on this thread: consumers of what was published.
    fn frames_and_commit(&mut self, read: &mut ReadBuffer) {
        let session = Arc::clone(&self.session);
        let woken = woken_by_this_thread();
        let held = session.broker.services.store.hold_wakes();
        self.has_only_published = true;
        self.frames(read);
        if self.has_only_published && self.owes_confirms() && woken_by_this_thread() == woken {
            held.commit();
            session.outbox.expect_look();
        }
    }

    fn frames(&mut self, read: &mut ReadBuffer) {
        // RabbitMQ forgives clients that forget the overhead of a frame (`FRAME_SIZE_FUDGE`).
        let payload_max = self.limits.frame_max_bytes;
        let bytes = read.bytes();
        let Some(mut at) = self.end_body(bytes) else {
            return;
        };
        let message_bytes_max = self.session.config.max_message_size_bytes;
        let mut batch = PublishBatch::new(payload_max, message_bytes_max);
        while self.pause.is_none() && !matches!(self.phase, Phase::Flushing { .. }) {
            if let Some(length) = batch.push_repetition(&bytes[at..]) {
                at += length;
                continue;
            }
            let frame = match frame::cut(&bytes[at..], payload_max) {
                Ok(Some(frame)) => frame,
                Ok(None) => {
                    at += self.begin_body(&bytes[at..]);
                    break;
                }
                Err(error) => {
                    self.publish(&mut batch);
                    at = bytes.len();
                    if self.phase == Phase::Open {
                        self.close_with(0, &AmqpError::from_frame(&error), (0, 0));
                    }
                    break;
                }
            };
            let next = at + frame.wire_len();
            if frame.kind == frame::METHOD
                && frame.payload.starts_with(&BASIC_PUBLISH)
                && self.phase == Phase::Open
            {
                if batch.is_full_for(frame.channel) {
                    self.publish(&mut batch);
                    if self.pause.is_some() {
                        break;
                    }
                }
                if let Some(length) =
                    self.whole_publish(&frame, &bytes[at..], payload_max, &mut batch)
                {
                    at += length;
                    continue;
                }
            }
            self.publish(&mut batch);
            if self.pause.is_some() {
                break;
            }
            self.has_only_published &= is_of_a_publish(&frame);
            let acks = content::ack_run(&bytes[at..]);
            if acks.len() > 1 && self.acks(frame.channel, &acks) {
                at += acks.wire_len();
                continue;
            }
            at = next;
            self.frame(&frame);
        }
        self.publish(&mut batch);
        read.consume(at);
    }

    /// The hot case: method, header and body are in the buffer, which begins with the method. Answers their octets.
    fn whole_publish<'a>(
        &self,
        method: &Frame<'a>,
        bytes: &'a [u8],
        payload_max: u32,
        batch: &mut PublishBatch<'a>,
    ) -> Option<usize> {
        let channel = self.channels.get(&method.channel)?;
        if channel.phase == ChannelPhase::Closing || !matches!(channel.assembly, Assembly::Idle) {
            return None;
        }
        let (method_bytes, rest) = bytes.split_at_checked(method.wire_len())?;
        let (properties, body, length) = content::contiguous(rest, method.channel, payload_max)?;
        let length = method_bytes.len() + length;
        if body.len() as u64 > self.session.config.max_message_size_bytes {
            return None;
        }
        let head = content::parse_publish(&method.payload[4..])?;
        batch.push(
            method.channel,
            Incoming {
                head,
                properties,
                body: Body::Inline(body),
                repeated: Vec::new(),
            },
            bytes.get(..length)?,
        );
        Some(length)
    }

    /// Handles the messages gathered so far.
    fn publish(&mut self, batch: &mut PublishBatch<'_>) {
        if batch.is_empty() {
            return;
        }
        let (number, messages) = (batch.channel(), batch.take());
        self.publish_messages(number, &messages);
    }

    pub(super) fn publish_messages(&mut self, number: u16, messages: &[Incoming<'_>]) {
        let Some(channel) = self.channels.get_mut(&number) else {
            return;
        };
        if let Err(error) = channel.publish(&self.session, messages) {
            self.fail(number, &error, (60, 40));
        }
        self.after_publish();
        self.hold_to_rates(number);
    }

    /// A connection that publishes waits while an alarm is on, or while memory or the disk lags behind.
    fn after_publish(&mut self) {
        if self.pause.is_some() {
            return;
        }
        let services = &self.session.broker.services;
        if services.alarms.is_raised() {
            if self.session.capabilities.connection_blocked && !self.told_blocked {
                let reason = short_string(services.alarms.reason());
                let blocked = connection::AMQPMethod::Blocked(connection::Blocked { reason });
                self.session.outbox.send(0, &AMQPClass::Connection(blocked));
                self.told_blocked = true;
            }
            self.wait_for_alarm();
        } else if !services.store.has_room() {
            self.wait_for_store_room();
        } else if services.memory.is_far_over() {
            self.wait_for_memory();
        }
    }

    /// Acknowledgements that came together are settled together. `false`: they do not go that way.
    fn acks(&mut self, number: u16, acks: &content::AckRun<'_>) -> bool {
        let channel = self.channels.get_mut(&number);
        let Some(channel) = channel.filter(|channel| {
            self.phase == Phase::Open
                && channel.phase == ChannelPhase::Open
                && matches!(channel.assembly, Assembly::Idle)
        }) else {
            return false;
        };
        if let Err(error) = channel.ack_each(&self.session, acks.iter()) {
            self.fail(number, &error, (60, 80));
        }
        true
    }

    fn frame(&mut self, frame: &Frame<'_>) {
        if matches!(self.phase, Phase::Closing { .. }) {
            return self.frame_while_closing(frame);
        }
        if frame.is_cut_short() {
            return self.close_with(0, &AmqpError::unknown_frame(frame), (0, 0));
        }
        match (frame.kind, frame.channel) {
            (frame::HEARTBEAT, 0) if frame.payload.is_empty() => {}
            (frame::HEARTBEAT, 0) => self.close_with(0, &AmqpError::unknown_frame(frame), (0, 0)),
            (frame::METHOD, 0) => self.connection_method(frame),
            (frame::HEARTBEAT, _) | (frame::HEADER | frame::BODY, 0) => {
                self.close_with(0, &AmqpError::unexpected_frame(frame), (0, 0));
            }
            (frame::METHOD | frame::HEADER | frame::BODY, _) => self.channel_frame(frame),
            _ => self.close_with(0, &AmqpError::unknown_frame(frame), (0, 0)),
        }
    }

    fn parse(frame: &Frame<'_>) -> Result<AMQPClass, AmqpError> {
        if frame.is_cut_short() {
            return Err(AmqpError::unknown_frame(frame));
        }
        if !nesting::method_is_bounded(frame.payload) {
            return Err(AmqpError::unparsable_method(frame.payload));
        }
        match parse_class(frame.payload) {
            Ok(([], class)) => Ok(class),
            _ if short_strings::has_malformed_utf8(frame.payload) => {
                Err(AmqpError::malformed_utf8())
            }
            _ => Err(AmqpError::unparsable_method(frame.payload)),
        }
    }

    fn connection_method(&mut self, frame: &Frame<'_>) {
        let ids = method_ids(frame.payload);
        match Self::parse(frame) {
            Ok(AMQPClass::Connection(connection::AMQPMethod::Close(_))) => self.client_close(),
            Ok(AMQPClass::Connection(connection::AMQPMethod::UpdateSecret(update))) => {
                self.update_secret(&update, ids);
            }
            Ok(other) => self.close_with(
                0,
                &AmqpError::unexpected_method_in_state(&other, "running"),
                ids,
            ),
            Err(error) => self.close_with(0, &error, (0, 0)),
        }
    }

    /// The frame belongs to a channel: it opens it, or the channel gets it.
    fn channel_frame(&mut self, frame: &Frame<'_>) {
        let number = frame.channel;
        let opens = frame.kind == frame::METHOD && frame.payload.starts_with(&[0, 20, 0, 10]);
        let Entry::Occupied(mut entry) = self.channels.entry(number) else {
            return self.unopened_channel(frame, opens);
        };
        let channel = entry.get_mut();
        if channel.phase == ChannelPhase::Closing {
            if frame.kind == frame::METHOD {
                match Self::parse(frame) {
                    Ok(AMQPClass::Channel(channel::AMQPMethod::CloseOk(_))) => {
                        entry.remove();
                    }
                    Ok(AMQPClass::Channel(channel::AMQPMethod::Close(_))) => {
                        let ok =
                            AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {}));
                        self.session.outbox.send(number, &ok);
                    }
                    Ok(AMQPClass::Channel(channel::AMQPMethod::Open(_))) => {
                        let ids = method_ids(frame.payload);
                        self.close_with(number, &AmqpError::second_channel_open(), ids);
                    }
                    _ => {}
                }
            }
            return;
        }
        if matches!(channel.assembly, Assembly::Idle) && frame.kind == frame::METHOD {
            return self.channel_method(frame);
        }
        match channel
            .assembly
            .frame(frame, self.session.config.max_message_size_bytes)
        {
            Ok(None) => {}
            Ok(Some(message)) => self.publish_messages(number, &[message.borrow()]),
            Err(error) => self.fail(number, &error, (60, 40)),
        }
    }

    fn unopened_channel(&mut self, frame: &Frame<'_>, opens: bool) {
        let number = frame.channel;
        let (count, channel_max) = (self.channels.len() as u16, self.limits.channel_max);
        if channel_max != 0 && (number > channel_max || count >= channel_max) {
            return self.close_with(
                number,
                &AmqpError::too_many_channels(count, channel_max),
                (0, 0),
            );
        }
        if frame.kind != frame::METHOD {
            return self.close_with(number, &AmqpError::expected_method_frame(), (0, 0));
        }
        if !opens {
            let ids = method_ids(frame.payload);
            return self.close_with(number, &AmqpError::channel_not_open(), ids);
        }
        let channel = match Channel::open(&self.session, number) {
            Ok(channel) => channel,
            Err(error) => return self.close_with(number, &error, (0, 0)),
        };
        self.channels.insert(number, channel);
        let ok = AMQPClass::Channel(channel::AMQPMethod::OpenOk(channel::OpenOk {}));
        self.session.outbox.send(number, &ok);
    }

    fn channel_method(&mut self, frame: &Frame<'_>) {
        let number = frame.channel;
        let ids = method_ids(frame.payload);
        if frame.payload.starts_with(&BASIC_PUBLISH) {
            return match content::parse_publish(&frame.payload[4..]) {
                Some(head) => {
                    if let Some(channel) = self.channels.get_mut(&number) {
                        channel.assembly = Assembly::Header(OwnedHead::new(&head));
                    }
                }
                None => {
                    self.close_with(number, &AmqpError::unparsable_method(frame.payload), (0, 0))
                }
            };
        }
        if let Some((delivery_tag, multiple)) = content::parse_ack(frame.payload) {
            let Some(channel) = self.channels.get_mut(&number) else {
                return;
            };
            if let Err(error) = channel.ack(&self.session, delivery_tag, multiple) {
                self.fail(number, &error, ids);
            }
            return;
        }
        if let Some(size) = content::parse_prefetch_size(frame.payload)
            && size != 0
        {
            let error = AmqpError::not_implemented(format_args!("prefetch_size!=0 ({size})"));
            return self.fail(number, &error, ids);
        }
        match Self::parse(frame) {
            Ok(AMQPClass::Channel(channel::AMQPMethod::Open(_))) => {
                self.close_with(number, &AmqpError::second_channel_open(), ids);
            }
            Ok(AMQPClass::Channel(channel::AMQPMethod::Close(_))) => {
                self.end_channel(number);
                let ok = AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {}));
                self.session.outbox.send(number, &ok);
            }
            Ok(method) => self.method(number, method, ids),
            Err(error) => self.close_with(number, &error, (0, 0)),
        }
    }

    /// Carries out a channel's method.
    pub(super) fn method(&mut self, number: u16, method: AMQPClass, ids: (u16, u16)) {
        let Some(channel) = self.channels.get_mut(&number) else {
            return;
        };
        match channel.method(&self.session, method) {
            Ok(None) => {}
            Ok(Some(wait)) => self.wait_for_method(number, wait),
            Err(error) => self.fail(number, &error, ids),
        }
        self.hold_to_rates(number);
    }

    /// Ends what the error says must end.
    fn fail(&mut self, number: u16, error: &AmqpError, ids: (u16, u16)) {
        match error.scope() {
            Scope::Connection => self.close_with(number, error, ids),
            Scope::Channel => self.close_channel(number, error, ids),
        }
    }
}

/// The frame is one of those that a message comes in.
fn is_of_a_publish(frame: &Frame<'_>) -> bool {
    match frame.kind {
        frame::METHOD => frame.payload.starts_with(&BASIC_PUBLISH),
        frame::HEADER | frame::BODY => true,
        _ => false,
    }
}

/// Class and method id that a method frame begins with.
fn method_ids(payload: &[u8]) -> (u16, u16) {
    match payload.first_chunk::<4>() {
        Some(ids) => (
            u16::from_be_bytes([ids[0], ids[1]]),
            u16::from_be_bytes([ids[2], ids[3]]),
        ),
        None => (0, 0),
    }
}
