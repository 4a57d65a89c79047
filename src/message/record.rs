//! The record: one message as it stands in a chunk, in memory and on disk.
//!
//! ```text
//!  0 u32 length of the whole record, this field included (without an external body)
//!  4 u8  version (1)        5 u8 flags          6 u8 priority     7 u8 exchange length
//!  8 u64 seq               16 u64 arrival, ms  24 u64 expiry, ms (0: never)
//! 32 u32 body length       36 u32 properties length
//! 40 u16 annotations length 42 u8 routing key length 43 u8 reserved (0)
//! 44 exchange | routing key | properties | annotations | body
//! ```
//!
//! Integers are little-endian. Properties are the bytes of the AMQP content header from its property flags on, as the
//! publisher sent them, so that headers keep their types and order. Annotations are the broker's own section (death
//! records, origin), never the client's headers.

use bytes::Bytes;

use super::Seq;

/// Size of the fixed part of a record.
pub const HEADER_BYTES: usize = 44;

const VERSION: u8 = 1;

/// Bits of the flags byte.
pub mod flags {
    /// delivery_mode 2: survives a restart in a durable queue.
    pub const PERSISTENT: u8 = 1;
    /// The body is not part of the record: its owner (a chunk's body list, a `bodies` row) holds it.
    pub const EXTERNAL_BODY: u8 = 2;
}

/// What a message is when it enters a queue: borrowed from the read buffer or from another queue's chunk.
#[derive(Debug, Clone)]
pub struct NewMessage<'a> {
    /// Exchange it was published to (up to 255 bytes).
    pub exchange: &'a [u8],
    /// Routing key (up to 255 bytes).
    pub routing_key: &'a [u8],
    /// Property flags and property list of the content header, as on the wire.
    pub properties: &'a [u8],
    /// The broker's own annotations.
    pub annotations: &'a [u8],
    /// The body.
    pub body: Body<'a>,
    /// delivery_mode 2.
    pub persistent: bool,
    /// Priority property, 0 when absent.
    pub priority: u8,
    /// Absolute expiry in ms since the Unix epoch, 0 for never.
    pub expiry_ms: u64,
}

/// A message body: small ones are copied into the chunk, large ones are shared.
#[derive(Debug, Clone)]
pub enum Body<'a> {
    /// Less than [`super::BODY_SHARED_BYTES_MIN`]: copied with the record.
    Inline(&'a [u8]),
    /// Shared by every queue and outbox that holds the message.
    Shared(SharedBody),
}

/// A large body with the identity under which the store writes it once for several queues.
#[derive(Debug, Clone)]
pub struct SharedBody {
    /// Never reused. 0 when only one durable queue holds the body: it is then stored in that queue's own row.
    pub id: u64,
    /// The bytes as received.
    pub bytes: Bytes,
}

impl Body<'_> {
    /// Body size in bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Inline(bytes) => bytes.len(),
            Self::Shared(body) => body.bytes.len(),
        }
    }

    /// True for an empty body (no body frame at all on the wire).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Bytes that `message` takes in a chunk.
pub fn encoded_len(message: &NewMessage<'_>) -> usize {
    let inline_body = match &message.body {
        Body::Inline(bytes) => bytes.len(),
        Body::Shared(_) => 0,
    };
    HEADER_BYTES
        + message.exchange.len()
        + message.routing_key.len()
        + message.properties.len()
        + message.annotations.len()
        + inline_body
}

/// Appends the record of `message` to `out`, which should have room for [`encoded_len`] more bytes.
///
/// Names longer than 255 bytes and annotations longer than 65,535 bytes cannot occur: the protocol layer reads names
/// from short strings and the broker bounds its annotations.
pub fn encode(out: &mut Vec<u8>, seq: Seq, arrival_ms: u64, message: &NewMessage<'_>) {
    let length = encoded_len(message);
    let mut record_flags = 0;
    if message.persistent {
        record_flags |= flags::PERSISTENT;
    }
    let inline_body: &[u8] = match &message.body {
        Body::Inline(bytes) => bytes,
        Body::Shared(_) => {
            record_flags |= flags::EXTERNAL_BODY;
            &[]
        }
    };
    debug_assert!(message.exchange.len() <= 255 && message.routing_key.len() <= 255);
    debug_assert!(message.annotations.len() <= usize::from(u16::MAX));
    let mut header = [0u8; HEADER_BYTES];
    header[0..4].copy_from_slice(&(length as u32).to_le_bytes());
    header[4] = VERSION;
    header[5] = record_flags;
    header[6] = message.priority;
    header[7] = message.exchange.len() as u8;
    header[8..16].copy_from_slice(&seq.to_le_bytes());
    header[16..24].copy_from_slice(&arrival_ms.to_le_bytes());
    header[24..32].copy_from_slice(&message.expiry_ms.to_le_bytes());
    header[32..36].copy_from_slice(&(message.body.len() as u32).to_le_bytes());
    header[36..40].copy_from_slice(&(message.properties.len() as u32).to_le_bytes());
    header[40..42].copy_from_slice(&(message.annotations.len() as u16).to_le_bytes());
    header[42] = message.routing_key.len() as u8;
    out.extend_from_slice(&header);
    out.extend_from_slice(message.exchange);
    out.extend_from_slice(message.routing_key);
    out.extend_from_slice(message.properties);
    out.extend_from_slice(message.annotations);
    out.extend_from_slice(inline_body);
}

/// Octets before the body of the record that begins at `begins`.
pub fn lead_len(bytes: &[u8], begins: usize) -> usize {
    let record = RecordRef::at(bytes, begins);
    record.encoded_len() - record.inline_body().len()
}

/// Appends the record that begins at `begins`, whose body is inline, once more under another seq and with another body.
/// `lead`: its [`lead_len`].
pub fn repeat(out: &mut Vec<u8>, begins: usize, lead: usize, seq: Seq, body: &[u8]) {
    let at = out.len();
    out.extend_from_within(begins..begins + lead);
    let header = &mut out[at..at + HEADER_BYTES];
    header[0..4].copy_from_slice(&((lead + body.len()) as u32).to_le_bytes());
    header[8..16].copy_from_slice(&seq.to_le_bytes());
    header[32..36].copy_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(body);
}

/// A record in place. [`RecordRef::parse`] has checked that every length stays inside the bytes.
#[derive(Debug, Clone, Copy)]
pub struct RecordRef<'a> {
    bytes: &'a [u8],
}

impl<'a> RecordRef<'a> {
    /// The record at the start of `bytes`, or `None` when the bytes are not a whole, well-formed record.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let header = bytes.get(..HEADER_BYTES)?;
        let length = u32::from_le_bytes(header[0..4].try_into().ok()?) as usize;
        let bytes = bytes.get(..length)?;
        let record = Self { bytes };
        let inline = if record.has_external_body() {
            0
        } else {
            record.body_len()
        };
        let wanted = HEADER_BYTES
            .checked_add(record.exchange_len())?
            .checked_add(record.routing_key_len())?
            .checked_add(record.properties_len())?
            .checked_add(record.annotations_len())?
            .checked_add(inline)?;
        (header[4] == VERSION && wanted == length).then_some(record)
    }

    /// The record that begins at `at`, where one was encoded or [`Self::parse`]d before: its lengths are not checked
    /// again.
    ///
    /// # Panics
    /// If what stands there cannot be one.
    pub fn at(bytes: &'a [u8], at: usize) -> Self {
        let bytes = &bytes[at..];
        let length = Self { bytes }.u32_at(0);
        let bytes = &bytes[..length];
        debug_assert!(Self::parse(bytes).is_some());
        Self { bytes }
    }

    fn u32_at(&self, at: usize) -> usize {
        let mut word = [0u8; 4];
        word.copy_from_slice(&self.bytes[at..at + 4]);
        u32::from_le_bytes(word) as usize
    }

    fn u64_at(&self, at: usize) -> u64 {
        let mut word = [0u8; 8];
        word.copy_from_slice(&self.bytes[at..at + 8]);
        u64::from_le_bytes(word)
    }

    /// The whole record, as it can be copied into another chunk or slice.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Length of the whole record.
    pub fn encoded_len(&self) -> usize {
        self.bytes.len()
    }

    /// Flags, see [`flags`].
    pub fn flags(&self) -> u8 {
        self.bytes[5]
    }

    /// delivery_mode 2.
    pub fn is_persistent(&self) -> bool {
        self.flags() & flags::PERSISTENT != 0
    }

    /// The body lives beside the record.
    pub fn has_external_body(&self) -> bool {
        self.flags() & flags::EXTERNAL_BODY != 0
    }

    /// Priority property, 0 when absent.
    pub fn priority(&self) -> u8 {
        self.bytes[6]
    }

    /// Position in the queue.
    pub fn seq(&self) -> Seq {
        self.u64_at(8)
    }

    /// When the message entered the queue, ms since the Unix epoch.
    pub fn arrival_ms(&self) -> u64 {
        self.u64_at(16)
    }

    /// When the message expires, ms since the Unix epoch, 0 for never.
    pub fn expiry_ms(&self) -> u64 {
        self.u64_at(24)
    }

    /// Body size, inline or external.
    pub fn body_len(&self) -> usize {
        self.u32_at(32)
    }

    fn properties_len(&self) -> usize {
        self.u32_at(36)
    }

    fn annotations_len(&self) -> usize {
        usize::from(u16::from_le_bytes([self.bytes[40], self.bytes[41]]))
    }

    fn routing_key_len(&self) -> usize {
        usize::from(self.bytes[42])
    }

    fn exchange_len(&self) -> usize {
        usize::from(self.bytes[7])
    }

    /// Exchange that the message was published to.
    pub fn exchange(&self) -> &'a [u8] {
        &self.bytes[HEADER_BYTES..HEADER_BYTES + self.exchange_len()]
    }

    /// Routing key that the message was published with.
    pub fn routing_key(&self) -> &'a [u8] {
        let start = HEADER_BYTES + self.exchange_len();
        &self.bytes[start..start + self.routing_key_len()]
    }

    /// Property flags and list, as on the wire.
    pub fn properties(&self) -> &'a [u8] {
        let start = HEADER_BYTES + self.exchange_len() + self.routing_key_len();
        &self.bytes[start..start + self.properties_len()]
    }

    /// The broker's own annotations.
    pub fn annotations(&self) -> &'a [u8] {
        let start = self.shown_end();
        &self.bytes[start..start + self.annotations_len()]
    }

    /// Whether both have inline bodies, and all that a client gets to see but the body is equal.
    pub fn differs_in_body_only(&self, other: &Self) -> bool {
        let (own, others) = (self.bytes, other.bytes);
        // Lengths of properties, annotations and routing key, then that of the exchange and the flags.
        own[36..HEADER_BYTES] == others[36..HEADER_BYTES]
            && own[7] == others[7]
            && (own[5] | others[5]) & flags::EXTERNAL_BODY == 0
            && {
                let shown = self.shown_end();
                own[HEADER_BYTES..shown] == others[HEADER_BYTES..shown]
            }
    }

    /// Where exchange, routing key and properties end.
    fn shown_end(&self) -> usize {
        HEADER_BYTES + self.exchange_len() + self.routing_key_len() + self.properties_len()
    }

    /// The inline body; empty when the body is external.
    pub fn inline_body(&self) -> &'a [u8] {
        &self.bytes[self.shown_end() + self.annotations_len()..]
    }
}

/// The records of a slice or chunk, in order. Ends at the first malformed byte.
pub fn records(bytes: &[u8]) -> impl Iterator<Item = RecordRef<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let record = RecordRef::parse(rest)?;
        rest = &rest[record.encoded_len()..];
        Some(record)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<'a>(body: Body<'a>) -> NewMessage<'a> {
        NewMessage {
            exchange: b"orders",
            routing_key: b"created",
            properties: &[0x10, 0, 2],
            annotations: b"note",
            body,
            persistent: true,
            priority: 4,
            expiry_ms: 99,
        }
    }

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let mut out = Vec::new();
        encode(&mut out, 7, 1_000, &message(Body::Inline(b"hello")));
        let shared = SharedBody {
            id: 3,
            bytes: Bytes::from(vec![1; 20_000]),
        };
        encode(&mut out, 8, 1_001, &message(Body::Shared(shared)));
        let read: Vec<_> = records(&out).collect();
        assert_eq!(read.len(), 2);
        let first = read[0];
        assert_eq!(
            (
                first.seq(),
                first.arrival_ms(),
                first.expiry_ms(),
                first.priority()
            ),
            (7, 1_000, 99, 4)
        );
        assert_eq!(
            (first.exchange(), first.routing_key()),
            (&b"orders"[..], &b"created"[..])
        );
        assert_eq!(
            (first.properties(), first.annotations()),
            (&[0x10, 0, 2][..], &b"note"[..])
        );
        assert_eq!(first.inline_body(), b"hello");
        assert!(first.is_persistent() && !first.has_external_body());
        assert_eq!(
            (read[1].body_len(), read[1].inline_body().len()),
            (20_000, 0)
        );
        assert!(read[1].has_external_body());
    }

    #[test]
    fn truncated_or_foreign_bytes_are_no_record() {
        let mut out = Vec::new();
        encode(&mut out, 7, 1_000, &message(Body::Inline(b"hello")));
        for length in 0..out.len() {
            assert!(RecordRef::parse(&out[..length]).is_none(), "{length} bytes");
        }
        out[4] = 9;
        assert!(RecordRef::parse(&out).is_none(), "unknown version");
    }
}
