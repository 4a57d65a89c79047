//! Deliveries of one batch as frames.
//!
//! Messages that differ in their bodies only are what a busy queue holds: all frames before the body of the next one
//! are then those of the one before but for the delivery tag, the size and the offset in a stream, and are copied as a
//! whole.

use super::{header_offset, shown_properties};
use crate::amqp::frame::{self, DeliverHead};
use crate::amqp::outbox::buffer::WriteBuffer;
use crate::broker::delivery::Delivery;
use crate::message::op::Counts;
use crate::message::properties::headers_end;

/// Encodes deliveries to one consumer, one after the other.
pub(super) struct Encoder<'a> {
    channel: u16,
    consumer_tag: &'a [u8],
    payload_max: usize,
    before: Option<Before<'a>>,
}

/// The delivery before, if the next one may repeat it.
struct Before<'a> {
    delivery: Delivery<'a>,
    /// Where its frames begin in the buffer.
    start: usize,
    /// Octets from there to its body.
    lead_bytes: usize,
    /// Octets of its properties, as they are shown.
    properties_len: usize,
    /// Octets of its properties behind the headers, of which its offset in a stream is the last.
    behind_offset: usize,
}

impl<'a> Encoder<'a> {
    /// For a consumer with this tag; `payload_max` is the largest payload of a frame.
    pub(super) const fn new(channel: u16, consumer_tag: &'a [u8], payload_max: usize) -> Self {
        Self {
            channel,
            consumer_tag,
            payload_max,
            before: None,
        }
    }

    /// Appends basic.deliver, header and body.
    pub(super) fn put(&mut self, buffer: &mut WriteBuffer, delivery: &Delivery<'a>, tag: u64) {
        if !self.put_repetition(buffer, delivery, tag) {
            self.put_whole(buffer, delivery, tag);
        }
    }

    fn put_repetition(
        &mut self,
        buffer: &mut WriteBuffer,
        delivery: &Delivery<'a>,
        tag: u64,
    ) -> bool {
        let Some(before) = &mut self.before else {
            return false;
        };
        let body = delivery.record.inline_body();
        if delivery.redelivered != before.delivery.redelivered
            || !is_plain(delivery)
            || delivery.stream_offset.is_some() != before.delivery.stream_offset.is_some()
            || !(1..=self.payload_max).contains(&body.len())
            || !delivery
                .record
                .differs_in_body_only(&before.delivery.record)
        {
            return false;
        }
        let out = buffer.bytes_mut();
        let start = out.len();
        out.reserve(before.lead_bytes + body.len() + 1);
        out.extend_from_within(before.start..before.start + before.lead_bytes);
        let lead = &mut out[start..];
        frame::set_delivery_tag(lead, self.consumer_tag.len(), tag);
        if body.len() != before.delivery.record.body_len() {
            frame::set_body_size(lead, before.properties_len, body.len());
        }
        if let Some(offset) = delivery.stream_offset {
            frame::set_last_header(lead, before.behind_offset, header_offset(offset));
        }
        out.extend_from_slice(body);
        out.push(frame::FRAME_END);
        true
    }

    fn put_whole(&mut self, buffer: &mut WriteBuffer, delivery: &Delivery<'a>, tag: u64) {
        let head = DeliverHead {
            channel: self.channel,
            consumer_tag: self.consumer_tag,
            delivery_tag: tag,
            redelivered: delivery.redelivered,
            exchange: delivery.record.exchange(),
            routing_key: delivery.record.routing_key(),
        };
        let out = buffer.bytes_mut();
        let start = out.len();
        frame::put_deliver(out, &head);
        let body_len = delivery.record.body_len();
        let properties = shown_properties(delivery);
        frame::put_content_header(out, self.channel, body_len as u64, &properties);
        let lead_bytes = out.len() - start + frame::HEAD_BYTES;
        match delivery.body {
            Some(body) => buffer.put_shared_body(self.channel, &body.bytes, self.payload_max),
            None => buffer.put_body(
                self.channel,
                delivery.record.inline_body(),
                self.payload_max,
            ),
        }
        let is_one_frame = (1..=self.payload_max).contains(&body_len);
        let behind_offset = behind_offset(delivery, &properties);
        self.before = match behind_offset {
            Some(behind_offset) if is_one_frame && is_plain(delivery) => Some(Before {
                delivery: *delivery,
                start,
                lead_bytes,
                properties_len: properties.len(),
                behind_offset,
            }),
            _ => None,
        };
    }
}

/// Its frames are made of its record alone, and of its offset.
fn is_plain(delivery: &Delivery<'_>) -> bool {
    delivery.body.is_none() && delivery.counts == Counts::default()
}

/// Octets of the shown properties behind the offset of a delivery, 0 for one without. `None`: it is not there, because
/// the properties have no headers that can be read.
fn behind_offset(delivery: &Delivery<'_>, properties: &[u8]) -> Option<usize> {
    let Some(offset) = delivery.stream_offset else {
        return Some(0);
    };
    let end = headers_end(properties)?;
    let is_there = properties[..end].ends_with(&header_offset(offset).to_be_bytes());
    is_there.then_some(properties.len() - end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::properties::Properties;
    use crate::message::record::{self, Body, NewMessage, RecordRef};

    /// Content type and headers, among which is an offset that the publisher made up.
    const HEADERS: &[u8] =
        b"\xB0\0\x04json\0\0\0\x1D\x01al\0\0\0\0\0\0\0\0\x0Fx-stream-offsett\x01\x02";

    /// Bodies and routing keys of two sizes, a few properties and counts: neighbours are often alike.
    #[derive(Debug, Clone)]
    struct Sample {
        key: &'static str,
        properties: &'static [u8],
        body: Vec<u8>,
        redelivered: bool,
        acquired: u32,
    }

    fn sample() -> impl Strategy<Value = Sample> {
        let body = prop_oneof![
            4 => prop::collection::vec(any::<u8>(), 3),
            4 => prop::collection::vec(any::<u8>(), 0..30),
        ];
        (
            prop::sample::select(vec!["one", "two", "three"]),
            prop::sample::select(vec![&[0u8, 0][..], &[0x10, 0, 2], HEADERS]),
            body,
            prop::bool::weighted(0.2),
            prop::sample::select(vec![0, 0, 0, 1]),
        )
            .prop_map(|(key, properties, body, redelivered, acquired)| Sample {
                key,
                properties,
                body,
                redelivered,
                acquired,
            })
    }

    fn records(samples: &[Sample]) -> Vec<Vec<u8>> {
        let record = |(index, sample): (usize, &Sample)| {
            let mut bytes = Vec::new();
            let message = NewMessage {
                exchange: b"orders",
                routing_key: sample.key.as_bytes(),
                properties: sample.properties,
                annotations: &[],
                body: Body::Inline(&sample.body),
                persistent: index % 2 == 0,
                priority: 0,
                expiry_ms: index as u64,
            };
            record::encode(&mut bytes, index as u64, 1, &message);
            bytes
        };
        samples.iter().enumerate().map(record).collect()
    }

    proptest! {
        #[test]
        fn a_repetition_has_the_frames_that_it_would_have_alone(
            samples in prop::collection::vec(sample(), 1..20),
            first_offset in prop::option::of(0..u64::MAX / 2),
        ) {
            let records = records(&samples);
            prop_assert!(Properties::read(HEADERS).is_ok());
            let (mut together, mut alone) = (WriteBuffer::default(), WriteBuffer::default());
            let mut encoder = Encoder::new(3, b"tag", 20);
            for (index, (sample, record)) in samples.iter().zip(&records).enumerate() {
                let delivery = Delivery {
                    seq: index as u64,
                    redelivered: sample.redelivered,
                    counts: Counts { delivered: 0, acquired: sample.acquired },
                    stream_offset: first_offset.map(|first| first + index as u64),
                    record: RecordRef::parse(record).unwrap(),
                    body: None,
                };
                encoder.put(&mut together, &delivery, index as u64 + 1);
                Encoder::new(3, b"tag", 20).put_whole(&mut alone, &delivery, index as u64 + 1);
            }
            prop_assert_eq!(together.bytes_mut(), alone.bytes_mut());
        }
    }
}
