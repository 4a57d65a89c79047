//! A message that waits, in memory and as a row of what is due.
//!
//! ```text
//!  0 u8 version (1)   1 u16 number of further routing keys (CC, BCC), big-endian
//!  3 routing keys: u8 length, bytes
//!    record, see `message::record`
//! ```

use bytes::Bytes;

use crate::broker::due::{DueKey, Payload};
use crate::broker::exchange::DELAY;
use crate::message::field;
use crate::message::properties::{Properties, Rewrite};
use crate::message::record::{self, Body, NewMessage, RecordRef, SharedBody};

const VERSION: u8 = 1;

/// What an entry takes in memory beside its bytes.
const ENTRY_BYTES: usize = 128;

/// A message that waits.
#[derive(Debug, Clone)]
pub(in crate::broker) struct Held {
    pub(super) bytes: Bytes,
    pub(super) body: Option<SharedBody>,
}

impl Payload for Held {
    fn bytes(&self) -> usize {
        let body = self.body.as_ref().map_or(0, |body| body.bytes.len());
        ENTRY_BYTES + self.bytes.len() + body
    }
}

/// A message that waited, read.
pub(super) struct HeldRef<'a> {
    /// All its routing keys, its own first.
    pub(super) routing_keys: Vec<&'a str>,
    record: RecordRef<'a>,
    body: &'a Option<SharedBody>,
}

impl Held {
    /// Keeps a message with its routing keys, its own first. `negated`: the delay that its header asked for, which is
    /// negated there, so that no exchange delays it again and consumers see that it was delayed.
    pub(super) fn new(
        key: DueKey,
        routing_keys: &[Box<str>],
        negated: Option<u64>,
        message: &NewMessage<'_>,
    ) -> Self {
        let further = routing_keys.get(1..).unwrap_or_default();
        let properties = negated.map(|delay_ms| negate_delay(message.properties, delay_ms));
        let message = NewMessage {
            properties: properties.as_deref().unwrap_or(message.properties),
            expiry_ms: 0,
            ..message.clone()
        };
        let keys_len: usize = further.iter().map(|key| 1 + key.len()).sum();
        let mut bytes = Vec::with_capacity(3 + keys_len + record::encoded_len(&message));
        bytes.push(VERSION);
        bytes.extend_from_slice(&(further.len() as u16).to_be_bytes());
        for routing_key in further {
            bytes.push(routing_key.len() as u8);
            bytes.extend_from_slice(routing_key.as_bytes());
        }
        record::encode(&mut bytes, key.seq, key.time_ms, &message);
        Self {
            bytes: bytes.into(),
            body: match message.body {
                // Its copies in other queues may go, and their body with them, before this one is due.
                Body::Shared(body) => Some(SharedBody { id: 0, ..body }),
                Body::Inline(_) => None,
            },
        }
    }

    /// `None` when it is malformed.
    pub(super) fn read(&self) -> Option<HeldRef<'_>> {
        let (&[VERSION, high, low], mut rest) = self.bytes.split_first_chunk()? else {
            return None;
        };
        let mut further = Vec::new();
        for _ in 0..u16::from_be_bytes([high, low]) {
            let (length, bytes) = rest.split_first()?;
            let (routing_key, bytes) = bytes.split_at_checked(usize::from(*length))?;
            further.push(std::str::from_utf8(routing_key).ok()?);
            rest = bytes;
        }
        let record = RecordRef::parse(rest)?;
        let mut routing_keys = vec![std::str::from_utf8(record.routing_key()).ok()?];
        routing_keys.append(&mut further);
        (record.has_external_body() == self.body.is_some()).then_some(HeldRef {
            routing_keys,
            record,
            body: &self.body,
        })
    }
}

impl HeldRef<'_> {
    /// The message as it goes on at `now_ms`: its time to live begins then.
    pub(super) fn message(&self, now_ms: u64) -> NewMessage<'_> {
        let record = &self.record;
        NewMessage {
            exchange: record.exchange(),
            routing_key: record.routing_key(),
            properties: record.properties(),
            annotations: record.annotations(),
            body: match self.body {
                Some(body) => Body::Shared(body.clone()),
                None => Body::Inline(record.inline_body()),
            },
            persistent: record.is_persistent(),
            priority: record.priority(),
            expiry_ms: ttl_ms(record.properties())
                .map_or(0, |ttl_ms| now_ms.saturating_add(ttl_ms)),
        }
    }
}

/// `expiration`, which was found to be a number when the message was published.
fn ttl_ms(properties: &[u8]) -> Option<u64> {
    let expiration = Properties::read(properties).ok()?.expiration?;
    std::str::from_utf8(expiration).ok()?.parse().ok()
}

fn negate_delay(properties: &[u8], delay_ms: u64) -> Vec<u8> {
    let negative = -i64::try_from(delay_ms).unwrap_or(i64::MAX);
    let mut value = Vec::new();
    match i32::try_from(negative) {
        Ok(negative) => field::put_int(&mut value, negative),
        Err(_) => field::put_long(&mut value, negative),
    }
    let rewrite = Rewrite {
        headers: &[(DELAY, Some(&value))],
        ..Rewrite::default()
    };
    // They were read when the delay was found in them.
    rewrite
        .apply(properties)
        .unwrap_or_else(|_| properties.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::properties;

    #[test]
    fn a_message_comes_back_with_its_keys_and_its_delay_negated() {
        let body = SharedBody {
            id: 0,
            bytes: Bytes::from(vec![7; 20_000]),
        };
        let expiring = [0x01, 0x00, 3, b'2', b'5', b'0'];
        for body in [Body::Inline(b"small"), Body::Shared(body)] {
            let message = NewMessage {
                exchange: b"delayed",
                routing_key: b"key",
                properties: &expiring,
                annotations: b"",
                body: body.clone(),
                persistent: true,
                priority: 4,
                expiry_ms: 77,
            };
            for delay_ms in [60_000, u64::from(u32::MAX)] {
                let key = DueKey { time_ms: 9, seq: 8 };
                let keys = ["key", "copy", "blind"].map(Box::from);
                let held = Held::new(key, &keys, Some(delay_ms), &message);
                let read = held.read().unwrap();
                assert_eq!(read.routing_keys, ["key", "copy", "blind"]);
                let again = read.message(1_000);
                assert_eq!(
                    (again.exchange, again.routing_key),
                    (&b"delayed"[..], &b"key"[..])
                );
                assert_eq!(
                    (again.persistent, again.priority, again.expiry_ms),
                    (true, 4, 1_250)
                );
                assert_eq!(again.body.len(), body.len());
                let headers = Properties::read(again.properties).unwrap().headers.unwrap();
                let delay = field::integer(properties::header(headers, DELAY).unwrap());
                assert_eq!(delay, Some(-(delay_ms as i64)));
                for length in 0..held.bytes.len() {
                    let cut = Held {
                        bytes: held.bytes.slice(..length),
                        body: held.body.clone(),
                    };
                    assert!(cut.read().is_none(), "{length} bytes");
                }
            }
        }
    }
}
