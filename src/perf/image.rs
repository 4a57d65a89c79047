//! Publish frames, encoded once and sent many times: the sending side of the hot path.
//!
//! A ring of messages lies in memory as it goes to the socket: method, header and body frames, one
//! message behind the other, each routing key and size in turn. To publish the next hundred means
//! to write a stamp into each of the next hundred bodies and hand the stretch to the socket.

use std::ops::Range;

use amq_protocol::frame::{AMQPContentHeader, AMQPFrame};
use amq_protocol::protocol::{AMQPClass, basic};
use amq_protocol::types::{AMQPValue, ShortString};

use super::error::PerfError;
use super::frame::{self, OVERHEAD_BYTES};
use super::settings::{Publishing, refuse};
use super::stamp::{self, Stamp};

/// Bytes handed to the socket in one piece: at most and, where many publishers share a thread, at
/// least. A single larger message goes alone.
const BATCH_BYTES_MAX: usize = 256 << 10;
const BATCH_BYTES_MIN: usize = 16 << 10;
/// Bytes that all publishers hand over in one round. It keeps consumers from waiting long.
const ROUND_BYTES: usize = 4 << 20;
/// Length that a ring of few and small messages is stretched to.
const RING_BYTES_MIN: usize = 256 << 10;
const RING_BYTES_MAX: usize = 1 << 30;
/// Messages of a ring in which something is drawn for each: after so many the same ones come again.
const RING_DRAWN_MIN: usize = 1 << 18;
/// What is drawn is the same at each run.
const SEED: u64 = 1;
const CHANNEL: u16 = 1;

/// A ring of messages, ready to send.
pub(super) struct Image {
    bytes: Vec<u8>,
    /// Where each message ends, and where its body starts if there is room for a stamp.
    slots: Vec<Slot>,
    /// The slot to send next.
    at: usize,
    batch_bytes_max: usize,
}

struct Slot {
    end: usize,
    stamp: Option<usize>,
    body_bytes: usize,
}

/// Messages that were made ready.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) range: Range<usize>,
    pub(super) messages: u64,
    pub(super) body_bytes: u64,
}

impl Image {
    /// The ring for one of `publishers`, which uses `keys` in turn.
    pub(super) fn new(
        exchange: &str,
        keys: &[ShortString],
        publishing: &Publishing,
        frame_bytes_max: usize,
        publishers: usize,
    ) -> Result<Self, PerfError> {
        let sizes = &publishing.sizes;
        let cycle = keys.len() * sizes.len() / greatest_common_divisor(keys.len(), sizes.len());
        let share = ROUND_BYTES / publishers.max(1);
        let mut image = Self {
            bytes: Vec::new(),
            slots: Vec::new(),
            at: 0,
            batch_bytes_max: share.clamp(BATCH_BYTES_MIN, BATCH_BYTES_MAX),
        };
        let messages_min = if publishing.is_drawn() {
            RING_DRAWN_MIN
        } else {
            1
        };
        let mut random = fastrand::Rng::with_seed(SEED);
        loop {
            for slot in 0..cycle {
                let (key, size) = (&keys[slot % keys.len()], sizes[slot % sizes.len()]);
                let properties = properties(publishing, &mut random);
                image.push(exchange, key, size, publishing.mandatory, properties);
                image.push_body(size, frame_bytes_max);
                if image.bytes.len() > RING_BYTES_MAX {
                    return refuse("too many routing keys for bodies of this size: over 1 GiB");
                }
            }
            if image.bytes.len() >= RING_BYTES_MIN && image.slots.len() >= messages_min {
                return Ok(image);
            }
        }
    }

    fn push(
        &mut self,
        exchange: &str,
        key: &ShortString,
        size: usize,
        mandatory: bool,
        properties: basic::AMQPProperties,
    ) {
        let publish = basic::Publish {
            exchange: exchange.into(),
            routing_key: key.clone(),
            mandatory,
            immediate: false,
        };
        let publish = AMQPClass::Basic(basic::AMQPMethod::Publish(publish));
        let header = AMQPContentHeader {
            class_id: 60,
            body_size: size as u64,
            properties,
        };
        frame::push(&mut self.bytes, &AMQPFrame::Method(CHANNEL, publish));
        frame::push(&mut self.bytes, &AMQPFrame::Header(CHANNEL, header));
    }

    /// The message is complete with its body.
    fn push_body(&mut self, size: usize, frame_bytes_max: usize) {
        let body = filling(size);
        let stamp = self.bytes.len() + OVERHEAD_BYTES - 1;
        for part in body.chunks(frame_bytes_max - OVERHEAD_BYTES) {
            frame::push(&mut self.bytes, &AMQPFrame::Body(CHANNEL, part.to_vec()));
        }
        let stamp = (size >= stamp::BYTES).then_some(stamp);
        self.slots.push(Slot {
            end: self.bytes.len(),
            stamp,
            body_bytes: size,
        });
    }

    /// Makes the next messages ready, at most `messages_max` (which is not 0): their stamps are
    /// `first`, with the sequence counting up.
    pub(super) fn prepare(&mut self, messages_max: u64, first: Stamp) -> Batch {
        let start = if self.at == 0 {
            0
        } else {
            self.slots[self.at - 1].end
        };
        let mut batch = Batch {
            range: start..start,
            messages: 0,
            body_bytes: 0,
        };
        let mut stamp = first;
        for slot in &self.slots[self.at..] {
            let full = slot.end - start > self.batch_bytes_max && batch.messages > 0;
            if full || batch.messages == messages_max {
                break;
            }
            if let Some(room) = slot.stamp
                && let Some(body) = self.bytes[room..].first_chunk_mut()
            {
                stamp.write(body);
            }
            stamp.sequence = stamp.sequence.wrapping_add(1);
            batch.range.end = slot.end;
            batch.messages += 1;
            batch.body_bytes += slot.body_bytes as u64;
        }
        self.at = (self.at + batch.messages as usize) % self.slots.len();
        batch
    }

    /// How many messages of a prepared stretch are not sent in full when `rest` of it is left.
    pub(super) fn unsent(&self, rest: &Range<usize>) -> u64 {
        let first = self.slots.partition_point(|slot| slot.end <= rest.start);
        let behind = self.slots.partition_point(|slot| slot.end <= rest.end);
        behind.saturating_sub(first) as u64
    }

    /// What is missing of the message that was begun, when `rest` of a prepared stretch is left.
    pub(super) fn unfinished(&self, rest: &Range<usize>) -> &[u8] {
        let first = self.slots.partition_point(|slot| slot.end <= rest.start);
        let boundary = rest.start == 0 || first > 0 && self.slots[first - 1].end == rest.start;
        match self.slots.get(first) {
            Some(slot) if !boundary && !rest.is_empty() => &self.bytes[rest.start..slot.end],
            _ => &[],
        }
    }

    /// The bytes of a prepared stretch. They stay as they are until the next `prepare`.
    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.bytes[range]
    }
}

fn properties(publishing: &Publishing, random: &mut fastrand::Rng) -> basic::AMQPProperties {
    let mut properties = basic::AMQPProperties::default();
    let mut headers = publishing.headers.clone();
    for (name, range) in &publishing.drawn_headers {
        let number = AMQPValue::LongLongInt(range.draw(random) as i64);
        headers.insert(name.clone(), number);
    }
    if let Some(range) = publishing.priority {
        properties = properties.with_priority(range.draw(random) as u8);
    }
    if let Some(range) = publishing.expiration {
        properties = properties.with_expiration(range.draw(random).to_string().into());
    }
    if publishing.persistent {
        properties = properties.with_delivery_mode(2);
    }
    if !headers.inner().is_empty() {
        properties = properties.with_headers(headers);
    }
    properties
}

/// A body that does not compress, the same at each run.
fn filling(size: usize) -> Vec<u8> {
    let mut state: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut body = Vec::with_capacity(size + 8);
    while body.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        body.extend_from_slice(&state.to_le_bytes());
    }
    body.truncate(size);
    body
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}

#[cfg(test)]
mod tests {
    use amq_protocol::frame::parse_frame;

    use super::super::args::PerfArgs;
    use super::super::settings::Settings;
    use super::*;

    fn publishing(sizes: &[usize]) -> Publishing {
        let args = PerfArgs {
            size: Some(sizes.to_vec()),
            persistent: true,
            header: vec!["a=1".into()],
            ..PerfArgs::default()
        };
        Settings::new(args).unwrap().publishing
    }

    /// (routing key, announced size, body) of each message in `bytes`.
    fn messages(mut bytes: &[u8]) -> Vec<(String, u64, Vec<u8>)> {
        let mut messages: Vec<(String, u64, Vec<u8>)> = Vec::new();
        while !bytes.is_empty() {
            let (rest, frame) = parse_frame(bytes).unwrap();
            match frame {
                AMQPFrame::Method(1, AMQPClass::Basic(basic::AMQPMethod::Publish(publish))) => {
                    messages.push((publish.routing_key.to_string(), 0, Vec::new()));
                }
                AMQPFrame::Header(1, header) => {
                    assert_eq!(*header.properties.delivery_mode(), Some(2));
                    assert!(header.properties.headers().is_some());
                    messages.last_mut().unwrap().1 = header.body_size;
                }
                AMQPFrame::Body(1, body) => messages.last_mut().unwrap().2.extend(body),
                other => panic!("{other:?}"),
            }
            bytes = rest;
        }
        messages
    }

    fn first() -> Stamp {
        Stamp {
            sent_ns: 5,
            run: 1,
            publisher: 2,
            sequence: u32::MAX,
        }
    }

    #[test]
    fn keys_and_sizes_take_turns_and_sequences_count_up() {
        let keys = ["a", "b", "c"].map(ShortString::from);
        let mut image = Image::new("e", &keys, &publishing(&[16, 5000]), 4096, 1).unwrap();
        let batch = image.prepare(7, first());
        assert_eq!((batch.messages, batch.body_bytes), (7, 4 * 16 + 3 * 5000));
        let sent = messages(image.bytes(batch.range));
        let names: Vec<_> = sent.iter().map(|(key, _, _)| key.as_str()).collect();
        assert_eq!(names, ["a", "b", "c", "a", "b", "c", "a"]);
        for (number, (_, size, body)) in sent.iter().enumerate() {
            assert_eq!(*size, [16, 5000][number % 2]);
            assert_eq!(body.len() as u64, *size);
            let sequence = u32::MAX.wrapping_add(number as u32);
            assert_eq!(
                Stamp::read(body),
                Some(Stamp {
                    sequence,
                    ..first()
                })
            );
        }
    }

    #[test]
    fn the_ring_goes_round_without_a_seam() {
        let keys = [ShortString::from("k")];
        let mut image = Image::new("", &keys, &publishing(&[100]), 4096, 1).unwrap();
        let ring = image.slots.len() as u64;
        let mut sequence = 0;
        while u64::from(sequence) < 3 * ring {
            let batch = image.prepare(
                1000,
                Stamp {
                    sequence,
                    ..first()
                },
            );
            for (_, _, body) in messages(image.bytes(batch.range)) {
                assert_eq!(Stamp::read(&body).unwrap().sequence, sequence);
                sequence += 1;
            }
        }
    }

    #[test]
    fn a_batch_is_bounded_in_bytes_but_never_empty() {
        let keys = [ShortString::from("k")];
        let mut small = Image::new("", &keys, &publishing(&[1024]), 131_072, 1).unwrap();
        let batch = small.prepare(u64::MAX, first());
        assert!(batch.range.len() <= BATCH_BYTES_MAX && batch.messages > 200);
        let mut large = Image::new("", &keys, &publishing(&[1 << 20]), 131_072, 1).unwrap();
        assert_eq!(large.prepare(u64::MAX, first()).messages, 1);
    }

    #[test]
    fn a_stretch_cut_anywhere_says_what_is_unsent_and_unfinished() {
        let keys = [ShortString::from("k")];
        let mut image = Image::new("", &keys, &publishing(&[100]), 4096, 1).unwrap();
        let batch = image.prepare(10, first());
        let (end, one) = (batch.range.end, batch.range.end / 10);
        let rest = |start: usize| {
            (
                image.unsent(&(start..end)),
                image.unfinished(&(start..end)).len(),
            )
        };
        assert_eq!(rest(0), (10, 0));
        assert_eq!(rest(1), (10, one - 1));
        assert_eq!(rest(one - 1), (10, 1));
        assert_eq!(rest(one), (9, 0));
        assert_eq!(rest(end - 1), (1, 1));
        assert_eq!(rest(end), (0, 0));
    }

    #[test]
    fn what_is_drawn_differs_from_message_to_message() {
        let args = PerfArgs {
            priority: Some("0..9".into()),
            expiration: Some("100..90000".into()),
            header: vec!["key=0..99999".into(), "same=1".into()],
            ..PerfArgs::default()
        };
        let publishing = Settings::new(args).unwrap().publishing;
        let keys = [ShortString::from("k")];
        let image = Image::new("", &keys, &publishing, 131_072, 1).unwrap();
        assert!(image.slots.len() >= RING_DRAWN_MIN);
        let mut rest = &image.bytes[..image.slots[999].end];
        let mut drawn = std::collections::BTreeSet::new();
        while !rest.is_empty() {
            let (behind, frame) = parse_frame(rest).unwrap();
            if let AMQPFrame::Header(_, header) = frame {
                let properties = header.properties;
                let headers = properties.headers().as_ref().unwrap().inner();
                assert_eq!(headers["same"], AMQPValue::LongLongInt(1));
                let key = headers["key"].clone();
                let (priority, expiration) = (properties.priority(), properties.expiration());
                drawn.insert(format!("{priority:?} {expiration:?} {key:?}"));
            }
            rest = behind;
        }
        assert!(drawn.len() > 950, "{} of 1,000 differ", drawn.len());
    }

    #[test]
    fn bodies_without_room_for_a_stamp_are_sent_as_they_are() {
        let keys = [ShortString::from("k")];
        let mut image = Image::new("", &keys, &publishing(&[0, 15]), 4096, 1).unwrap();
        let batch = image.prepare(2, first());
        let sent = messages(image.bytes(batch.range));
        assert_eq!((sent[0].2.len(), sent[1].2.len()), (0, 15));
        assert_eq!(sent[1].2, filling(15));
    }
}
