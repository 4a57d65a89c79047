//! Frames of a busy publisher and of a busy consumer.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use leveret::amqp::content;
use leveret::amqp::frame::{self, DeliverHead};
use leveret::message::properties;

use super::fixture::BATCH;

/// Largest payload that is accepted.
const PAYLOAD_MAX: u32 = 131_072;

/// basic.publish to `queue` through the default exchange, its content header and its body, as often as in a batch.
fn published(body_bytes: usize) -> Vec<u8> {
    let method = [&[0, 60, 0, 40, 0, 0, 0, 5][..], b"queue", &[0]].concat();
    let mut bytes = Vec::new();
    for _ in 0..BATCH {
        bytes.extend_from_slice(&[frame::METHOD, 0, 1, 0, 0, 0, method.len() as u8]);
        bytes.extend_from_slice(&method);
        bytes.push(frame::FRAME_END);
        frame::put_content_header(&mut bytes, 1, body_bytes as u64, &[0x10, 0, 2]);
        frame::put_body(&mut bytes, 1, &vec![7; body_bytes], PAYLOAD_MAX as usize);
    }
    bytes
}

/// From bytes to messages, as far as a connection goes before it asks the channel.
#[divan::bench(args = [16, 1024])]
fn cut_publishes(bencher: Bencher<'_, '_>, body_bytes: usize) {
    let bytes = published(body_bytes);
    bencher
        .counter(ItemsCount::new(BATCH))
        .counter(BytesCount::new(bytes.len()))
        .bench(|| {
            let mut rest = black_box(&bytes[..]);
            while let Ok(Some(method)) = frame::cut(rest, PAYLOAD_MAX) {
                rest = &rest[method.wire_len()..];
                let head = content::parse_publish(&method.payload[4..]);
                let Some((listed, body, length)) =
                    content::contiguous(rest, method.channel, PAYLOAD_MAX)
                else {
                    break;
                };
                _ = black_box((head, properties::Properties::read(listed), body));
                rest = &rest[length..];
            }
            assert!(rest.is_empty());
        });
}

/// A message on its way out.
#[divan::bench(args = [16, 1024])]
fn put_deliveries(bencher: Bencher<'_, '_>, body_bytes: usize) {
    let body = vec![7; body_bytes];
    let mut out = Vec::new();
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        out.clear();
        for delivery_tag in 1..=BATCH as u64 {
            let head = DeliverHead {
                channel: 1,
                consumer_tag: b"amq.ctag-0123456789",
                delivery_tag,
                redelivered: false,
                exchange: b"",
                routing_key: b"queue",
            };
            frame::put_deliver(&mut out, &head);
            frame::put_content_header(&mut out, 1, body.len() as u64, &[0x10, 0, 2]);
            frame::put_body(&mut out, 1, &body, PAYLOAD_MAX as usize);
        }
        black_box(out.len())
    });
}
