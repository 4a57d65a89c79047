//! Whole messages of one channel that wait to be handled together.

use crate::amqp::content::Incoming;
use crate::amqp::frame;
use crate::broker::queue::{VISIT_BYTES_MAX, VISIT_MESSAGES_MAX};
use crate::message::BODY_SHARED_BYTES_MIN;

/// Repetitions that room is made for with the first one: few publishers repeat a message once.
const REPEATED_RESERVED: usize = 64;

/// Octets of the two sizes that come before a body: that in its header, and that of its frame.
const SIZE_BYTES: usize = 8;
const FRAME_SIZE_BYTES: usize = 4;

/// Messages of one channel that were received whole and not handled yet.
pub struct PublishBatch<'a> {
    channel: u16,
    messages: Vec<Incoming<'a>>,
    /// Messages, repetitions included.
    count: usize,
    bytes: usize,
    /// Of the last message, if it can be repeated.
    lead: Option<Lead<'a>>,
    /// Largest body that comes in one frame and is copied.
    body_bytes_max: usize,
}

/// What came before the body of a message, and is the same before that of its repetition but for the size.
struct Lead<'a> {
    /// Up to the size in the content header.
    names: &'a [u8],
    /// From there to the size of the body frame.
    properties: &'a [u8],
}

impl<'a> Lead<'a> {
    fn of(message: &Incoming<'a>, wire: &'a [u8]) -> Option<Self> {
        let body_len = message.body.len();
        if body_len == 0 {
            return None;
        }
        let body_frame = wire.len().checked_sub(body_len + frame::OVERHEAD_BYTES)?;
        // The last octet of the header frame is its end.
        let size_end = body_frame.checked_sub(message.properties.len() + 1)?;
        Some(Self {
            names: wire.get(..size_end - SIZE_BYTES)?,
            properties: wire.get(size_end..body_frame + frame::HEAD_BYTES - FRAME_SIZE_BYTES)?,
        })
    }

    /// The body of the message at the front of `bytes` and what comes after it, if that message is a repetition.
    fn body_of_repetition(
        &self,
        bytes: &'a [u8],
        body_bytes_max: usize,
    ) -> Option<(&'a [u8], &'a [u8])> {
        let rest = bytes.strip_prefix(self.names)?;
        let (size, rest) = rest.split_first_chunk::<SIZE_BYTES>()?;
        let rest = rest.strip_prefix(self.properties)?;
        let (frame_size, rest) = rest.split_first_chunk::<FRAME_SIZE_BYTES>()?;
        let frame_size = u32::from_be_bytes(*frame_size);
        if u64::from_be_bytes(*size) != u64::from(frame_size) {
            return None;
        }
        let size = frame_size as usize;
        if size == 0 || size > body_bytes_max {
            return None;
        }
        let (body, rest) = rest.split_at_checked(size)?;
        let rest = rest.strip_prefix(&[frame::FRAME_END])?;
        Some((body, rest))
    }
}

impl<'a> PublishBatch<'a> {
    /// An empty batch on a connection with this largest payload of a frame; messages have at most `message_bytes_max`.
    pub fn new(payload_max: u32, message_bytes_max: u64) -> Self {
        let in_frame = u64::from(payload_max).min(message_bytes_max);
        Self {
            channel: 0,
            messages: Vec::new(),
            count: 0,
            bytes: 0,
            lead: None,
            body_bytes_max: in_frame.min(BODY_SHARED_BYTES_MIN as u64 - 1) as usize,
        }
    }

    /// Nothing is in it.
    pub const fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Channel of its messages.
    pub const fn channel(&self) -> u16 {
        self.channel
    }

    /// Whether it must be handled before a message of `channel` is added.
    pub const fn is_full_for(&self, channel: u16) -> bool {
        !self.messages.is_empty()
            && (self.channel != channel
                || self.count >= VISIT_MESSAGES_MAX
                || self.bytes >= VISIT_BYTES_MAX)
    }

    /// Adds a message that came as the octets `wire`: its method, its header and one body frame.
    pub fn push(&mut self, channel: u16, message: Incoming<'a>, wire: &'a [u8]) {
        self.channel = channel;
        self.count += 1;
        self.bytes += cost_bytes(message.properties, message.body.len());
        self.lead = Lead::of(&message, wire);
        self.messages.push(message);
    }

    /// Adds the message at the front of `bytes` if it is like the last one but for its body, which is what a busy
    /// publisher sends: two comparisons instead of three frames to cut. Answers its octets.
    pub fn push_repetition(&mut self, bytes: &'a [u8]) -> Option<usize> {
        if self.is_full_for(self.channel) {
            return None;
        }
        let lead = self.lead.as_ref()?;
        let (body, rest) = lead.body_of_repetition(bytes, self.body_bytes_max)?;
        let last = self.messages.last_mut()?;
        if last.repeated.capacity() == 0 {
            last.repeated.reserve_exact(REPEATED_RESERVED);
        }
        last.repeated.push(body);
        self.count += 1;
        self.bytes += cost_bytes(last.properties, body.len());
        Some(bytes.len() - rest.len())
    }

    /// Takes the messages out, keeping nothing.
    pub fn take(&mut self) -> Vec<Incoming<'a>> {
        (self.count, self.bytes, self.lead) = (0, 0, None);
        std::mem::take(&mut self.messages)
    }
}

/// What a message counts towards the bytes of a batch.
const fn cost_bytes(properties: &[u8], body_len: usize) -> usize {
    properties.len() + body_len + 64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amqp::content;
    use crate::message::record::Body;

    /// A message to the queue `q`, or to another one with a name of that length.
    fn wire(queue: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![frame::METHOD, 0, 1, 0, 0, 0, 10];
        bytes.extend_from_slice(&[0, 60, 0, 40, 0, 0, 0, 1, queue, 0, frame::FRAME_END]);
        frame::put_content_header(&mut bytes, 1, body.len() as u64, &[0, 0]);
        frame::put_body(&mut bytes, 1, body, 1000);
        bytes
    }

    /// As the connection reads it.
    fn incoming(bytes: &[u8]) -> Incoming<'_> {
        let method = frame::cut(bytes, 1000).unwrap().unwrap();
        let (properties, body, _) =
            content::contiguous(&bytes[method.wire_len()..], 1, 1000).unwrap();
        Incoming {
            head: content::parse_publish(&method.payload[4..]).unwrap(),
            properties,
            body: Body::Inline(body),
            repeated: Vec::new(),
        }
    }

    #[test]
    fn a_repetition_is_taken_for_what_its_frames_say() {
        let (first, again, behind) = (wire(b'q', b"one"), wire(b'q', b"two"), b"\x01more");
        let longer = wire(b'q', b"three");
        let bytes = [&again[..], behind].concat();
        let mut batch = PublishBatch::new(1000, 100);
        assert_eq!(
            batch.push_repetition(&bytes),
            None,
            "there is nothing to repeat"
        );
        batch.push(1, incoming(&first), &first);
        assert_eq!(batch.push_repetition(&bytes), Some(again.len()));
        assert_eq!(batch.push_repetition(&longer), Some(longer.len()));
        let (taken, cut) = (batch.take().pop().unwrap(), incoming(&again));
        assert_eq!(
            (taken.head.routing_key, taken.properties),
            (&b"q"[..], cut.properties)
        );
        assert_eq!(taken.repeated, [&b"two"[..], b"three"]);
        assert_eq!(
            batch.push_repetition(&bytes),
            None,
            "the batch is empty again"
        );
    }

    #[test]
    fn whatever_differs_is_no_repetition() {
        let (first, again, empty) = (wire(b'q', b"one"), wire(b'q', b"two"), wire(b'q', b""));
        let mut wrong_end = again.clone();
        *wrong_end.last_mut().unwrap() = 0;
        let mut other_size = again.clone();
        let in_header = other_size.len() - 3 - 8 - 1 - 2 - 1;
        other_size[in_header] = 4;
        let too_large = wire(b'q', &[7; 101]);
        let others = [wire(b'r', b"two"), wrong_end, other_size, too_large];
        let mut batch = PublishBatch::new(1000, 100);
        batch.push(1, incoming(&first), &first);
        for other in others.iter().chain([&empty]) {
            assert_eq!(batch.push_repetition(other), None);
        }
        for length in 0..again.len() {
            let part = &again[..length];
            assert_eq!(batch.push_repetition(part), None, "{length} octets");
        }
        batch.push(1, incoming(&empty), &empty);
        assert_eq!(
            batch.push_repetition(&empty),
            None,
            "without a body there is little to gain"
        );
    }
}
