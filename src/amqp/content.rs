//! A message on its way in: basic.publish, its content header and its body frames.
//!
//! ```text
//!  Idle --basic.publish--> Header --content header--> Body --body frames--> complete, Idle
//!                                  (body size 0)-----------------------> complete, Idle
//! ```
//!
//! Frames of other channels may come in between; anything else on this channel is an error (semantics rows 56-59).

use bytes::Bytes;

use super::error::AmqpError;
use super::frame::{self, Frame};
use crate::message::BODY_SHARED_BYTES_MIN;
use crate::message::record::{Body, SharedBody};

/// Where a message goes and under which conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishHead<'a> {
    /// Exchange name.
    pub exchange: &'a [u8],
    /// Routing key.
    pub routing_key: &'a [u8],
    /// Return the message when it reaches no queue.
    pub mandatory: bool,
    /// Not implemented since RabbitMQ 3: 540.
    pub immediate: bool,
}

/// A whole message, borrowed from the read buffer or from an [`Assembly`].
#[derive(Debug, Clone)]
pub struct Incoming<'a> {
    /// Its method.
    pub head: PublishHead<'a>,
    /// Property flags and list.
    pub properties: &'a [u8],
    /// Its body.
    pub body: Body<'a>,
    /// Bodies of messages that came after it and differ in nothing else; then all bodies are inline.
    pub repeated: Vec<&'a [u8]>,
}

impl<'a> Incoming<'a> {
    /// One more message that differs in its body only.
    pub const fn with_body(&self, body: &'a [u8]) -> Self {
        Self {
            head: self.head,
            properties: self.properties,
            body: Body::Inline(body),
            repeated: Vec::new(),
        }
    }
}

/// Reads the arguments of basic.publish. `None`: malformed.
pub fn parse_publish(arguments: &[u8]) -> Option<PublishHead<'_>> {
    let rest = arguments.get(2..)?;
    let (exchange, rest) = short_string(rest)?;
    let (routing_key, rest) = short_string(rest)?;
    let &[bits] = rest else { return None };
    Some(PublishHead {
        exchange,
        routing_key,
        mandatory: bits & 1 != 0,
        immediate: bits & 2 != 0,
    })
}

/// Reads a whole basic.ack (60.80): the one method of consumers that is as frequent as messages.
pub fn parse_ack(payload: &[u8]) -> Option<(u64, bool)> {
    let payload: &[u8; 13] = payload.try_into().ok()?;
    let (ids, rest) = payload.split_first_chunk::<4>()?;
    let (tag, bits) = rest.split_first_chunk::<8>()?;
    (*ids == [0, 60, 0, 80]).then(|| (u64::from_be_bytes(*tag), bits[0] & 1 != 0))
}

/// Octets of the frame of a basic.ack.
const ACK_FRAME_BYTES: usize = 13 + frame::OVERHEAD_BYTES;

/// Octets of that frame before the delivery tag: they are the same for all acknowledgements of a channel.
const ACK_FIXED_BYTES: usize = frame::HEAD_BYTES + 4;

/// Frames of basic.ack on one channel, one behind the other.
#[derive(Debug)]
pub struct AckRun<'a>(&'a [u8]);

impl AckRun<'_> {
    /// Number of acknowledgements.
    pub const fn len(&self) -> usize {
        self.0.len() / ACK_FRAME_BYTES
    }

    /// There is none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Octets of all of them.
    pub const fn wire_len(&self) -> usize {
        self.0.len()
    }

    /// Delivery tag and `multiple` of each.
    pub fn iter(&self) -> impl Iterator<Item = (u64, bool)> {
        let frames = self.0.as_chunks::<ACK_FRAME_BYTES>().0.iter();
        frames.filter_map(|frame| parse_ack(&frame[frame::HEAD_BYTES..ACK_FRAME_BYTES - 1]))
    }
}

/// The whole frames of basic.ack that `bytes` begin with, as long as the channel is the same.
pub fn ack_run(bytes: &[u8]) -> AckRun<'_> {
    let fixed = &bytes[..bytes.len().min(ACK_FIXED_BYTES)];
    let is_ack = |frame: &&[u8; ACK_FRAME_BYTES]| {
        frame.starts_with(fixed) && frame[ACK_FRAME_BYTES - 1] == frame::FRAME_END
    };
    let frames = bytes.as_chunks::<ACK_FRAME_BYTES>().0.iter();
    let count = match fixed {
        [frame::METHOD, _, _, 0, 0, 0, 13, 0, 60, 0, 80] => frames.take_while(is_ack).count(),
        _ => 0,
    };
    AckRun(&bytes[..count * ACK_FRAME_BYTES])
}

/// The prefetch_size of basic.qos (60.10), which the codec leaves out.
pub fn parse_prefetch_size(payload: &[u8]) -> Option<u32> {
    let (ids, rest) = payload.split_first_chunk::<4>()?;
    (*ids == [0, 60, 0, 10]).then(|| rest.first_chunk().map(|size| u32::from_be_bytes(*size)))?
}

fn short_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(length))
}

/// The content header's fixed part: class, body size, and the properties.
pub struct ContentHeader<'a> {
    /// Class id.
    pub class: u16,
    /// Must be 0.
    pub weight: u16,
    /// Body size in bytes.
    pub body_size: u64,
    /// Property flags and list.
    pub properties: &'a [u8],
}

/// Reads the payload of a header frame. `None`: malformed.
pub fn parse_header(payload: &[u8]) -> Option<ContentHeader<'_>> {
    let (fixed, properties) = payload.split_first_chunk::<12>()?;
    let body_size = u64::from_be_bytes([
        fixed[4], fixed[5], fixed[6], fixed[7], fixed[8], fixed[9], fixed[10], fixed[11],
    ]);
    Some(ContentHeader {
        class: u16::from_be_bytes([fixed[0], fixed[1]]),
        weight: u16::from_be_bytes([fixed[2], fixed[3]]),
        body_size,
        properties,
    })
}

/// The header and body frames that follow a basic.publish in `bytes`, when both are there whole, on the same channel,
/// and the body is one small frame: the hot case, for which nothing is copied. Answers the properties, the body and
/// the octets of these frames.
pub fn contiguous(bytes: &[u8], channel: u16, payload_max: u32) -> Option<(&[u8], &[u8], usize)> {
    let header_frame = whole(bytes, channel, frame::HEADER, payload_max)?;
    let header = parse_header(header_frame.payload)?;
    let size = usize::try_from(header.body_size).ok()?;
    if header.class != 60 || header.weight != 0 || size >= BODY_SHARED_BYTES_MIN {
        return None;
    }
    let length = header_frame.wire_len();
    if size == 0 {
        return Some((header.properties, &[], length));
    }
    let body_frame = whole(&bytes[length..], channel, frame::BODY, payload_max)?;
    (body_frame.payload.len() == size).then(|| {
        (
            header.properties,
            body_frame.payload,
            length + body_frame.wire_len(),
        )
    })
}

fn whole(bytes: &[u8], channel: u16, kind: u8, payload_max: u32) -> Option<Frame<'_>> {
    frame::cut(bytes, payload_max)
        .ok()?
        .filter(|frame| frame.kind == kind && frame.channel == channel)
}

/// A message whose frames come one by one.
#[derive(Debug, Default)]
pub enum Assembly {
    /// A method is due.
    #[default]
    Idle,
    /// basic.publish came, the content header is due.
    Header(OwnedHead),
    /// The header came, body frames are due.
    Body(Box<Partial>),
}

/// [`PublishHead`] with its own bytes.
#[derive(Debug, Clone)]
pub struct OwnedHead {
    names: Vec<u8>,
    exchange_len: usize,
    mandatory: bool,
    immediate: bool,
}

impl OwnedHead {
    /// Copies the names.
    pub fn new(head: &PublishHead<'_>) -> Self {
        let names = [head.exchange, head.routing_key].concat();
        Self {
            names,
            exchange_len: head.exchange.len(),
            mandatory: head.mandatory,
            immediate: head.immediate,
        }
    }

    /// The head.
    pub fn borrow(&self) -> PublishHead<'_> {
        let (exchange, routing_key) = self.names.split_at(self.exchange_len);
        PublishHead {
            exchange,
            routing_key,
            mandatory: self.mandatory,
            immediate: self.immediate,
        }
    }
}

/// A message with part of its body.
#[derive(Debug)]
pub struct Partial {
    head: OwnedHead,
    properties: Vec<u8>,
    /// What has arrived.
    pub body: Vec<u8>,
    body_size: usize,
}

/// A whole message with its own bytes.
#[derive(Debug, Clone)]
pub struct Owned {
    head: OwnedHead,
    properties: Vec<u8>,
    body: Bytes,
}

impl Owned {
    /// Copies a message out of the read buffer, without those that repeat it.
    pub fn copy(message: &Incoming<'_>) -> Self {
        let body = match &message.body {
            Body::Inline(bytes) => Bytes::copy_from_slice(bytes),
            Body::Shared(shared) => shared.bytes.clone(),
        };
        Self {
            head: OwnedHead::new(&message.head),
            properties: message.properties.to_vec(),
            body,
        }
    }

    /// Bytes that it holds.
    pub fn held_bytes(&self) -> usize {
        self.head.names.len() + self.properties.len() + self.body.len()
    }

    /// The message.
    pub fn borrow(&self) -> Incoming<'_> {
        let body = if self.body.len() < BODY_SHARED_BYTES_MIN {
            Body::Inline(&self.body)
        } else {
            Body::Shared(SharedBody {
                id: 0,
                bytes: self.body.clone(),
            })
        };
        Incoming {
            head: self.head.borrow(),
            properties: &self.properties,
            body,
            repeated: Vec::new(),
        }
    }
}

/// Memory for a body is taken as it comes, but at most this much in advance.
const BODY_RESERVED_BYTES_MAX: usize = 1024 * 1024;

impl Assembly {
    /// The next frame of the message. `Ok(Some)` when it is complete.
    ///
    /// # Errors
    /// The frame is not the one that is due, or the body is larger than announced: the connection ends.
    pub fn frame(&mut self, frame: &Frame<'_>, size_max: u64) -> Result<Option<Owned>, AmqpError> {
        match (std::mem::take(self), frame.kind) {
            (Self::Idle, _) => Err(AmqpError::expected_method_frame()),
            (Self::Header(head), frame::HEADER) => self.header(head, frame.payload, size_max),
            (Self::Header(_), _) => Err(AmqpError::expected_content_header(
                frame.kind == frame::METHOD,
            )),
            (Self::Body(partial), frame::BODY) => self.body(partial, frame.payload),
            (Self::Body(_), _) => Err(AmqpError::expected_content_body(
                frame.kind == frame::METHOD,
            )),
        }
    }

    /// Gives the message out whose body a frame with `size` octets continues, to be filled from the socket without
    /// a detour. [`Self::resume`] takes it back. `None`: this frame is not due.
    pub fn lend(&mut self, size: usize) -> Option<Box<Partial>> {
        match std::mem::take(self) {
            Self::Body(mut partial) if partial.body.len() + size <= partial.body_size => {
                partial.body.reserve(size);
                Some(partial)
            }
            other => {
                *self = other;
                None
            }
        }
    }

    /// Takes back what [`Self::lend`] gave out, with the whole frame in it. `Some` when the message is complete.
    pub fn resume(&mut self, partial: Box<Partial>) -> Option<Owned> {
        if partial.body.len() == partial.body_size {
            return Some(partial.complete());
        }
        *self = Self::Body(partial);
        None
    }

    fn header(
        &mut self,
        head: OwnedHead,
        payload: &[u8],
        size_max: u64,
    ) -> Result<Option<Owned>, AmqpError> {
        let header = parse_header(payload).ok_or_else(AmqpError::malformed_frame)?;
        if header.class != 60 {
            return Err(AmqpError::wrong_content_class(header.class));
        }
        if header.weight != 0 {
            // RabbitMQ does not take it for a content header.
            return Err(AmqpError::expected_content_header(false));
        }
        if header.body_size > size_max {
            return Err(AmqpError::message_too_large(header.body_size, size_max));
        }
        let body_size = header.body_size as usize;
        let partial = Partial {
            head,
            properties: header.properties.to_vec(),
            body: Vec::with_capacity(body_size.min(BODY_RESERVED_BYTES_MAX)),
            body_size,
        };
        if body_size == 0 {
            return Ok(Some(partial.complete()));
        }
        *self = Self::Body(Box::new(partial));
        Ok(None)
    }

    fn body(
        &mut self,
        mut partial: Box<Partial>,
        payload: &[u8],
    ) -> Result<Option<Owned>, AmqpError> {
        if partial.body.len() + payload.len() > partial.body_size {
            return Err(AmqpError::body_exceeds_size());
        }
        partial.body.extend_from_slice(payload);
        Ok(self.resume(partial))
    }
}

impl Partial {
    fn complete(self) -> Owned {
        Owned {
            head: self.head,
            properties: self.properties,
            body: Bytes::from(self.body),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_acknowledgements_ends_with_its_channel_its_kind_and_the_input() {
        let ack = |channel: u16, tag: u64, multiple: bool| {
            let mut bytes = Vec::new();
            frame::put_confirm(&mut bytes, channel, true, tag, multiple);
            bytes
        };
        let mut nack = Vec::new();
        frame::put_confirm(&mut nack, 7, false, 3, false);
        let two = [ack(7, 1, false), ack(7, 2, true)].concat();
        let cut = &ack(7, 3, false)[..20];
        let mut bad_end = ack(7, 3, false);
        bad_end[20] = 0;
        for next in [&ack(8, 3, false)[..], &nack, cut, &bad_end, b""] {
            let bytes = [&two[..], next].concat();
            let run = ack_run(&bytes);
            assert_eq!((run.len(), run.wire_len()), (2, 42));
            assert_eq!(run.iter().collect::<Vec<_>>(), [(1, false), (2, true)]);
        }
        assert!(ack_run(&nack).is_empty() && ack_run(cut).is_empty() && ack_run(b"").is_empty());
    }
}
