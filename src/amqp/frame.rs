//! Frames, cut and written by hand: the hot path of every connection.
//!
//! ```text
//! +------+---------+---------+---------------+-----------+
//! | type | channel | size    | payload       | frame end |
//! | u8   | u16     | u32     | size octets   | 0xCE      |
//! +------+---------+---------+---------------+-----------+
//! ```
//!
//! Integers are big-endian (AMQP 0-9-1 section 4.2.3).

use amq_protocol::protocol::{AMQPClass, gen_class};

/// A method and its arguments.
pub const METHOD: u8 = 1;
/// A content header: class, weight, body size, properties.
pub const HEADER: u8 = 2;
/// A piece of a content body.
pub const BODY: u8 = 3;
/// A heartbeat, on channel 0 and empty.
pub const HEARTBEAT: u8 = 8;
/// Ends every frame.
pub const FRAME_END: u8 = 0xCE;
/// Type, channel and size.
pub const HEAD_BYTES: usize = 7;
/// What a frame costs beside its payload: frame_max counts it (semantics row 71).
pub const OVERHEAD_BYTES: usize = 8;

/// Octets of the class and method id that a method begins with.
const METHOD_IDS_BYTES: usize = 4;

/// Octets of class id, weight and body size, with which a content header begins.
const HEADER_FIXED_BYTES: usize = 12;

/// A frame in the read buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Type octet, as received.
    pub kind: u8,
    /// Channel number.
    pub channel: u16,
    /// Payload without the end octet.
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// Octets of the whole frame on the wire.
    pub const fn wire_len(&self) -> usize {
        self.payload.len() + OVERHEAD_BYTES
    }

    /// Whether not even what every frame of its type begins with is there: the ids of a method, the fixed part of a
    /// content header.
    pub const fn is_cut_short(&self) -> bool {
        match self.kind {
            METHOD => self.payload.len() < METHOD_IDS_BYTES,
            HEADER => self.payload.len() < HEADER_FIXED_BYTES,
            _ => false,
        }
    }
}

/// Why the bytes are no frame. Both end the connection with 501.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FrameError {
    /// The octet after the payload is not 0xCE.
    BadEnd {
        /// What stands there.
        found: u8,
        /// Type of the frame.
        kind: u8,
        /// The first octets of its payload.
        octets: Vec<u8>,
    },
    /// The payload is larger than was negotiated.
    TooLarge {
        /// Announced payload size.
        size: u32,
        /// Largest payload allowed.
        limit: u32,
        /// Type of the frame.
        kind: u8,
        /// The first octets of what has arrived of it.
        octets: Vec<u8>,
    },
}

impl FrameError {
    /// A frame of this type and payload ends with `found`.
    pub fn bad_end(found: u8, kind: u8, payload: &[u8]) -> Self {
        let octets = quoted(payload);
        Self::BadEnd {
            found,
            kind,
            octets,
        }
    }
}

/// How many octets of a refused frame are kept for the error text.
const QUOTED_BYTES_MAX: usize = 64;

/// Cuts the first frame off `bytes`. `Ok(None)`: more bytes are needed.
///
/// # Errors
/// The size exceeds `payload_max`, or the frame does not end with 0xCE.
pub fn cut(bytes: &[u8], payload_max: u32) -> Result<Option<Frame<'_>>, FrameError> {
    let Some(head) = bytes.first_chunk::<HEAD_BYTES>() else {
        return Ok(None);
    };
    let kind = head[0];
    let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
    if size > payload_max {
        let octets = quoted(&bytes[HEAD_BYTES..]);
        return Err(FrameError::TooLarge {
            size,
            limit: payload_max,
            kind,
            octets,
        });
    }
    let end = HEAD_BYTES + size as usize;
    let Some(&found) = bytes.get(end) else {
        return Ok(None);
    };
    let payload = &bytes[HEAD_BYTES..end];
    if found != FRAME_END {
        return Err(FrameError::bad_end(found, kind, payload));
    }
    Ok(Some(Frame {
        kind,
        channel: u16::from_be_bytes([head[1], head[2]]),
        payload,
    }))
}

fn quoted(bytes: &[u8]) -> Vec<u8> {
    bytes[..bytes.len().min(QUOTED_BYTES_MAX)].to_vec()
}

/// Octets of the frame that begins with `bytes`, once its head is there.
pub fn announced_len(bytes: &[u8]) -> Option<usize> {
    let head = bytes.first_chunk::<HEAD_BYTES>()?;
    Some(u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize + OVERHEAD_BYTES)
}

fn put_head(out: &mut Vec<u8>, kind: u8, channel: u16, payload_len: usize) {
    let [channel_high, channel_low] = channel.to_be_bytes();
    let [a, b, c, d] = (payload_len as u32).to_be_bytes();
    out.extend_from_slice(&[kind, channel_high, channel_low, a, b, c, d]);
}

fn put_short_string(out: &mut Vec<u8>, text: &[u8]) {
    debug_assert!(text.len() <= 255);
    out.push(text.len() as u8);
    out.extend_from_slice(text);
}

/// Writes a method frame with amq-protocol's encoder: everything but the hot methods.
pub fn put_method(out: &mut Vec<u8>, channel: u16, method: &AMQPClass) {
    let at = out.len();
    put_head(out, METHOD, channel, 0);
    let payload = cookie_factory::gen_simple(gen_class(method), Vec::new());
    match payload {
        Ok(payload) => {
            out.extend_from_slice(&payload);
            let [a, b, c, d] = (payload.len() as u32).to_be_bytes();
            out[at + 3..at + 7].copy_from_slice(&[a, b, c, d]);
            out.push(FRAME_END);
        }
        Err(error) => {
            // Writing into a Vec cannot fail; a method that cannot be encoded is left out rather than half written.
            debug_assert!(false, "cannot encode {method:?}: {error}");
            tracing::error!(%error, "cannot encode a method");
            out.truncate(at);
        }
    }
}

/// Writes a heartbeat.
pub fn put_heartbeat(out: &mut Vec<u8>) {
    out.extend_from_slice(&[HEARTBEAT, 0, 0, 0, 0, 0, 0, FRAME_END]);
}

/// Writes basic.ack (`ack` true) or basic.nack from broker to publisher. A nack has the bit `requeue` set, its default,
/// as RabbitMQ sends it; publishers ignore it.
pub fn put_confirm(out: &mut Vec<u8>, channel: u16, ack: bool, delivery_tag: u64, multiple: bool) {
    put_head(out, METHOD, channel, 13);
    out.extend_from_slice(&[0, 60, 0, if ack { 80 } else { 120 }]);
    out.extend_from_slice(&delivery_tag.to_be_bytes());
    let requeue = if ack { 0 } else { 0b10 };
    out.extend_from_slice(&[u8::from(multiple) | requeue, FRAME_END]);
}

/// Where a delivery goes and what it is called there.
#[derive(Debug, Clone, Copy)]
pub struct DeliverHead<'a> {
    /// Channel number.
    pub channel: u16,
    /// Consumer tag.
    pub consumer_tag: &'a [u8],
    /// Delivery tag.
    pub delivery_tag: u64,
    /// It was delivered before.
    pub redelivered: bool,
    /// Exchange that it was published to.
    pub exchange: &'a [u8],
    /// Routing key that it was published with.
    pub routing_key: &'a [u8],
}

/// Writes basic.deliver (60.60).
pub fn put_deliver(out: &mut Vec<u8>, head: &DeliverHead<'_>) {
    let length =
        4 + 1 + head.consumer_tag.len() + 9 + 1 + head.exchange.len() + 1 + head.routing_key.len();
    // Once a message: the buffer grows once, and neighbouring fields are written as one.
    out.reserve(length + OVERHEAD_BYTES);
    let [channel_high, channel_low] = head.channel.to_be_bytes();
    let [a, b, c, d] = (length as u32).to_be_bytes();
    let tag_len = head.consumer_tag.len() as u8;
    out.extend_from_slice(&[
        METHOD,
        channel_high,
        channel_low,
        a,
        b,
        c,
        d,
        0,
        60,
        0,
        60,
        tag_len,
    ]);
    out.extend_from_slice(head.consumer_tag);
    let mut fixed = [0; 10];
    fixed[..8].copy_from_slice(&head.delivery_tag.to_be_bytes());
    fixed[8] = u8::from(head.redelivered);
    fixed[9] = head.exchange.len() as u8;
    out.extend_from_slice(&fixed);
    out.extend_from_slice(head.exchange);
    put_short_string(out, head.routing_key);
    out.push(FRAME_END);
}

/// Changes the delivery tag of a basic.deliver that begins at `frame`, whose consumer tag has this length.
pub fn set_delivery_tag(frame: &mut [u8], consumer_tag_len: usize, delivery_tag: u64) {
    let at = HEAD_BYTES + 4 + 1 + consumer_tag_len;
    frame[at..at + 8].copy_from_slice(&delivery_tag.to_be_bytes());
}

/// Changes the last long integer among the headers in the frames before a body: `lead` ends with the content header, in
/// which `behind` octets of properties follow the headers, and the head of the only body frame.
pub fn set_last_header(lead: &mut [u8], behind: usize, number: i64) {
    let end = lead.len() - HEAD_BYTES - 1 - behind;
    lead[end - 8..end].copy_from_slice(&number.to_be_bytes());
}

/// Changes the size of a body in the frames before it: `lead` ends with the content header, whose properties have this
/// length, and the head of the only body frame.
pub fn set_body_size(lead: &mut [u8], properties_len: usize, body_len: usize) {
    let at = lead.len() - 4;
    lead[at..].copy_from_slice(&(body_len as u32).to_be_bytes());
    let at = lead.len() - HEAD_BYTES - 1 - properties_len - 8;
    lead[at..at + 8].copy_from_slice(&(body_len as u64).to_be_bytes());
}

/// Writes basic.get-ok (60.71).
pub fn put_get_ok(out: &mut Vec<u8>, head: &DeliverHead<'_>, message_count: u32) {
    let length = 4 + 9 + 1 + head.exchange.len() + 1 + head.routing_key.len() + 4;
    put_head(out, METHOD, head.channel, length);
    out.extend_from_slice(&[0, 60, 0, 71]);
    out.extend_from_slice(&head.delivery_tag.to_be_bytes());
    out.push(u8::from(head.redelivered));
    put_short_string(out, head.exchange);
    put_short_string(out, head.routing_key);
    out.extend_from_slice(&message_count.to_be_bytes());
    out.push(FRAME_END);
}

/// Writes basic.return (60.50).
pub fn put_return(
    out: &mut Vec<u8>,
    channel: u16,
    code: u16,
    text: &str,
    exchange: &[u8],
    routing_key: &[u8],
) {
    let length = 4 + 2 + 1 + text.len() + 1 + exchange.len() + 1 + routing_key.len();
    put_head(out, METHOD, channel, length);
    out.extend_from_slice(&[0, 60, 0, 50]);
    out.extend_from_slice(&code.to_be_bytes());
    put_short_string(out, text.as_bytes());
    put_short_string(out, exchange);
    put_short_string(out, routing_key);
    out.push(FRAME_END);
}

/// Writes a content header of class basic; `properties` from the property flags on.
pub fn put_content_header(out: &mut Vec<u8>, channel: u16, body_len: u64, properties: &[u8]) {
    let length = 12 + properties.len();
    out.reserve(length + OVERHEAD_BYTES);
    let mut fixed = [0; HEAD_BYTES + 12];
    fixed[0] = HEADER;
    fixed[1..3].copy_from_slice(&channel.to_be_bytes());
    fixed[3..7].copy_from_slice(&(length as u32).to_be_bytes());
    // Class 60 and weight 0.
    fixed[8] = 60;
    fixed[11..].copy_from_slice(&body_len.to_be_bytes());
    out.extend_from_slice(&fixed);
    out.extend_from_slice(properties);
    out.push(FRAME_END);
}

/// Writes the body frames of a small body. An empty body has none (semantics row 58).
pub fn put_body(out: &mut Vec<u8>, channel: u16, body: &[u8], payload_max: usize) {
    for piece in body.chunks(payload_max) {
        put_body_head(out, channel, piece.len());
        out.extend_from_slice(piece);
        out.push(FRAME_END);
    }
}

/// Writes the head of a body frame whose payload and end octet follow by other means.
pub fn put_body_head(out: &mut Vec<u8>, channel: u16, payload_len: usize) {
    put_head(out, BODY, channel, payload_len);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_cut_only_when_it_is_whole() {
        let mut bytes = Vec::new();
        put_content_header(&mut bytes, 7, 5, &[0, 0]);
        put_body(&mut bytes, 7, b"hello", 100);
        let first = 12 + 2 + OVERHEAD_BYTES;
        for length in 0..first {
            assert_eq!(cut(&bytes[..length], 1000), Ok(None));
        }
        let header = cut(&bytes, 1000).unwrap().unwrap();
        assert_eq!(
            (header.kind, header.channel, header.wire_len()),
            (HEADER, 7, first)
        );
        let body = cut(&bytes[first..], 1000).unwrap().unwrap();
        assert_eq!((body.kind, body.payload), (BODY, &b"hello"[..]));
    }

    #[test]
    fn a_wrong_end_and_a_wrong_size_are_errors() {
        let mut bytes = Vec::new();
        put_heartbeat(&mut bytes);
        *bytes.last_mut().unwrap() = 0;
        assert_eq!(
            cut(&bytes, 1000),
            Err(FrameError::BadEnd {
                found: 0,
                kind: HEARTBEAT,
                octets: vec![]
            })
        );
        let large = [METHOD, 0, 1, 0, 0, 16, 0];
        assert!(matches!(
            cut(&large, 4088),
            Err(FrameError::TooLarge {
                size: 4096,
                limit: 4088,
                ..
            })
        ));
    }

    #[test]
    fn a_body_is_split_at_the_negotiated_size() {
        let mut bytes = Vec::new();
        put_body(&mut bytes, 1, &[1; 25], 10);
        assert_eq!(bytes.len(), 25 + 3 * OVERHEAD_BYTES);
        put_body(&mut bytes, 1, &[], 10);
        assert_eq!(
            bytes.len(),
            25 + 3 * OVERHEAD_BYTES,
            "an empty body has no frame"
        );
    }
}
