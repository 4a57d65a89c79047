//! One consumer: counts, times and checks what arrives, and acknowledges it.
//!
//! No socket and no clock here: frames come in by `method`, `header` and `body`, acknowledgements
//! go to a buffer.

use std::sync::Arc;

use amq_protocol::frame::AMQPFrame;
use amq_protocol::protocol::{AMQPClass, basic};
use amq_protocol::types::ShortString;

use super::acks::Acks;
use super::check::Seen;
use super::frame::{self, BASIC_DELIVER, Deliver, Frame, FrameError};
use super::limiter::Limiter;
use super::meter::{Latencies, Meter, count};
use super::settings::Consuming;
use super::stamp::Stamp;

const CHANNEL: u16 = 1;

/// One consumer's state.
pub(super) struct Consumer {
    /// The queues consumed from, with their numbers. The consumer tag is the number.
    queues: Vec<(u32, ShortString)>,
    run: u16,
    acks: Option<Acks>,
    content: Content,
    delivery: Delivery,
    /// Messages still wanted.
    left: u64,
    limiter: Option<Limiter>,
    /// Messages that may be taken in this pass.
    allowance: u64,
    subscribed: usize,
    seen: Option<Seen>,
    latencies: Latencies,
    tally: Tally,
    now_ns: u64,
    meter: Arc<Meter>,
}

/// Which frame comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Method,
    Header,
    /// The first body frame, with the stamp in it, of so many bytes in all.
    FirstBody(u64),
    Body(u64),
}

/// The message that is arriving.
#[derive(Clone, Copy, Debug, Default)]
struct Delivery {
    queue: u32,
    tag: u64,
    redelivered: bool,
}

/// What one pass adds to the counters.
#[derive(Debug, Default)]
struct Tally {
    messages: u64,
    bytes: u64,
    foreign: u64,
}

impl Consumer {
    pub(super) fn new(
        queues: Vec<(u32, ShortString)>,
        run: u16,
        consuming: &Consuming,
        check: bool,
        meter: Arc<Meter>,
    ) -> Self {
        Self {
            queues,
            run,
            acks: (!consuming.auto_ack).then(|| Acks::new(consuming)),
            content: Content::Method,
            delivery: Delivery::default(),
            left: consuming.messages.unwrap_or(u64::MAX),
            limiter: consuming.rate.map(|rate| Limiter::new(rate, 0)),
            allowance: 0,
            subscribed: 0,
            seen: check.then(Seen::default),
            latencies: Latencies::default(),
            tally: Tally::default(),
            now_ns: 0,
            meter,
        }
    }

    /// Writes basic.qos and one basic.consume for each queue.
    pub(super) fn subscribe(&self, consuming: &Consuming, out: &mut Vec<u8>) {
        if consuming.prefetch > 0 {
            let qos = basic::Qos {
                prefetch_count: consuming.prefetch,
                global: false,
            };
            push(out, basic::AMQPMethod::Qos(qos));
        }
        for (number, queue) in &self.queues {
            push(
                out,
                basic::AMQPMethod::Consume(basic::Consume {
                    queue: queue.clone(),
                    consumer_tag: number.to_string().into(),
                    no_local: false,
                    no_ack: consuming.auto_ack,
                    exclusive: false,
                    nowait: false,
                    arguments: consuming.arguments.clone(),
                }),
            );
        }
    }

    /// Notes one basic.consume-ok.
    pub(super) fn subscribed(&mut self) {
        self.subscribed += 1;
        if self.subscribed == self.queues.len() {
            count(&self.meter.counters.consumers_ready, 1);
        }
    }

    /// Name of the queue that a consumer tag stands for.
    pub(super) fn queue_name(&self, consumer_tag: &str) -> String {
        let named = |(number, _): &&(u32, ShortString)| number.to_string() == consumer_tag;
        self.queues
            .iter()
            .find(named)
            .map_or_else(String::new, |(_, name)| name.to_string())
    }

    /// Starts a pass over what arrived by `now_ns`.
    pub(super) fn start_of_input(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        self.allowance = self.left;
        if let Some(limiter) = &mut self.limiter {
            self.allowance = self.allowance.min(limiter.due(now_ns));
        }
    }

    /// Whether another message may be taken in this pass.
    pub(super) fn open(&self) -> bool {
        self.allowance > 0 || self.content != Content::Method
    }

    /// When a rate allows to go on.
    pub(super) fn wake_ns(&self) -> Option<u64> {
        let limiter = self
            .limiter
            .as_ref()
            .filter(|_| self.left > 0 && !self.open())?;
        Some(limiter.wake_ns(self.now_ns))
    }

    /// Takes a method if it is one that comes once a message.
    pub(super) fn method(&mut self, number: u32, arguments: &[u8]) -> Result<bool, FrameError> {
        if number != BASIC_DELIVER {
            return Ok(false);
        }
        if self.content != Content::Method {
            return Err(FrameError::Unexpected("a method within a message"));
        }
        let deliver = Deliver::parse(arguments)?;
        let queue = match self.queues.as_slice() {
            [(number, _)] => *number,
            _ => number_of(deliver.consumer_tag).ok_or(FrameError::Unexpected("an unknown tag"))?,
        };
        let (tag, redelivered) = (deliver.delivery_tag, deliver.redelivered);
        self.delivery = Delivery {
            queue,
            tag,
            redelivered,
        };
        self.content = Content::Header;
        Ok(true)
    }

    pub(super) fn header(
        &mut self,
        frame: &Frame<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), FrameError> {
        if self.content != Content::Header {
            return Err(FrameError::Unexpected("a content header"));
        }
        self.content = match frame.body_size()? {
            0 => {
                self.stamped(&[]);
                self.arrived(out)
            }
            size => Content::FirstBody(size),
        };
        Ok(())
    }

    pub(super) fn body(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
        let left = match self.content {
            Content::FirstBody(left) => {
                self.stamped(body);
                left
            }
            Content::Body(left) => left,
            _ => return Err(FrameError::Unexpected("a body")),
        };
        self.tally.bytes += body.len() as u64;
        self.content = match left.checked_sub(body.len() as u64) {
            Some(0) => self.arrived(out),
            Some(left) => Content::Body(left),
            None => return Err(FrameError::Unexpected("more body than announced")),
        };
        Ok(())
    }

    fn stamped(&mut self, body: &[u8]) {
        match Stamp::read(body) {
            Some(stamp) if stamp.run == self.run => {
                self.latencies
                    .note(self.now_ns.saturating_sub(stamp.sent_ns), 1);
                if let Some(seen) = &mut self.seen {
                    seen.note(self.delivery.queue, stamp, self.delivery.redelivered);
                }
            }
            _ => self.tally.foreign += 1,
        }
    }

    /// The whole message is there.
    fn arrived(&mut self, out: &mut Vec<u8>) -> Content {
        self.tally.messages += 1;
        self.allowance = self.allowance.saturating_sub(1);
        if let Some(acks) = &mut self.acks {
            acks.delivered(self.delivery.tag, out);
        }
        Content::Method
    }

    /// Closes a pass: counters and latencies are handed over.
    pub(super) fn end_of_input(&mut self, out: &mut Vec<u8>) {
        let Tally {
            messages,
            bytes,
            foreign,
        } = std::mem::take(&mut self.tally);
        let counters = &self.meter.counters;
        if bytes > 0 {
            count(&counters.consumed_bytes, bytes);
        }
        if messages == 0 {
            return;
        }
        count(&counters.consumed, messages);
        if foreign > 0 {
            count(&counters.foreign, foreign);
        }
        self.latencies.hand_over(&self.meter.delivery);
        if let Some(limiter) = &mut self.limiter {
            limiter.take(messages);
        }
        if self.left != u64::MAX {
            self.left = self.left.saturating_sub(messages);
            if self.left == 0 {
                self.finish(out);
                count(&self.meter.counters.consumers_done, 1);
            }
        }
    }

    /// Acknowledges what has arrived and was waiting for company.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        if let Some(acks) = &mut self.acks {
            acks.flush(out);
        }
    }

    /// At the end: what arrived, if it was to be checked.
    pub(super) fn into_seen(self) -> Option<Seen> {
        self.seen
    }
}

fn number_of(consumer_tag: &[u8]) -> Option<u32> {
    std::str::from_utf8(consumer_tag).ok()?.parse().ok()
}

fn push(out: &mut Vec<u8>, method: basic::AMQPMethod) {
    frame::push(out, &AMQPFrame::Method(CHANNEL, AMQPClass::Basic(method)));
}

#[cfg(test)]
mod tests {
    use amq_protocol::frame::AMQPContentHeader;

    use super::super::args::PerfArgs;
    use super::super::meter::read;
    use super::super::settings::Settings;
    use super::*;

    const RUN: u16 = 9;

    fn consumer(args: PerfArgs) -> (Consumer, Arc<Meter>) {
        let settings = Settings::new(args).unwrap();
        let meter = Arc::new(Meter::new());
        let queues = vec![(0, "a".into()), (1, "b".into())];
        (
            Consumer::new(queues, RUN, &settings.consuming, true, meter.clone()),
            meter,
        )
    }

    /// The frames of one delivery, its body in pieces of `piece` bytes.
    fn delivery(queue: u32, tag: u64, body: &[u8], piece: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        push(
            &mut bytes,
            basic::AMQPMethod::Deliver(basic::Deliver {
                consumer_tag: queue.to_string().into(),
                delivery_tag: tag,
                redelivered: false,
                exchange: "".into(),
                routing_key: "k".into(),
            }),
        );
        let properties = basic::AMQPProperties::default();
        let header = AMQPContentHeader {
            class_id: 60,
            body_size: body.len() as u64,
            properties,
        };
        frame::push(&mut bytes, &AMQPFrame::Header(1, header));
        for part in body.chunks(piece) {
            frame::push(&mut bytes, &AMQPFrame::Body(1, part.to_vec()));
        }
        bytes
    }

    fn stamped(sequence: u32, size: usize) -> Vec<u8> {
        let mut body = vec![0; size];
        let stamp = Stamp {
            sent_ns: 100,
            run: RUN,
            publisher: 0,
            sequence,
        };
        stamp.write(body.first_chunk_mut().unwrap());
        body
    }

    /// Feeds frames at `now_ns`; returns what the consumer answers.
    fn feed(consumer: &mut Consumer, mut bytes: &[u8], now_ns: u64) -> Result<Vec<u8>, FrameError> {
        let mut out = Vec::new();
        consumer.start_of_input(now_ns);
        while let Some(frame) = frame::cut(bytes, 1 << 20)? {
            match frame.kind {
                frame::METHOD => {
                    let (number, arguments) = frame.method()?;
                    consumer.method(number, arguments)?;
                }
                frame::HEADER => consumer.header(&frame, &mut out)?,
                _ => consumer.body(frame.payload, &mut out)?,
            }
            bytes = &bytes[frame.whole.len()..];
        }
        consumer.end_of_input(&mut out);
        Ok(out)
    }

    #[test]
    fn deliveries_are_counted_timed_and_acknowledged() {
        let (mut consumer, meter) = consumer(PerfArgs {
            ack_every: Some(2),
            ..PerfArgs::default()
        });
        let mut bytes = Vec::new();
        for sequence in 0..5 {
            bytes.extend(delivery(
                0,
                u64::from(sequence) + 1,
                &stamped(sequence, 100),
                30,
            ));
        }
        let out = feed(&mut consumer, &bytes, 1100).unwrap();
        let mut expected = Vec::new();
        frame::push_ack(&mut expected, 2, true);
        frame::push_ack(&mut expected, 4, true);
        assert_eq!(out, expected);
        let counts = read(std::slice::from_ref(&meter));
        assert_eq!(
            (counts.consumed, counts.consumed_bytes, counts.foreign),
            (5, 500, 0)
        );
        assert_eq!(meter.delivery.lock().count_at(1000), 5);
    }

    #[test]
    fn messages_of_another_run_are_foreign_and_untimed() {
        let (mut consumer, meter) = consumer(PerfArgs {
            auto_ack: true,
            ..PerfArgs::default()
        });
        let bytes = [delivery(0, 1, &[1; 100], 100), delivery(0, 2, b"", 1)].concat();
        feed(&mut consumer, &bytes, 1100).unwrap();
        let counts = read(std::slice::from_ref(&meter));
        assert_eq!((counts.consumed, counts.foreign), (2, 2));
        assert!(meter.delivery.lock().is_empty());
    }

    #[test]
    fn frames_out_of_place_are_refused() {
        let (mut consumer, _) = consumer(PerfArgs::default());
        let whole = delivery(0, 1, &[0; 10], 10);
        let method = frame::cut(&whole, 4096).unwrap().unwrap().whole.len();
        assert!(
            feed(&mut consumer, &whole[method..], 0).is_err(),
            "header first"
        );
        let twice = [&whole[..method], &whole].concat();
        assert!(
            feed(&mut consumer, &twice, 0).is_err(),
            "method within a message"
        );
    }

    #[test]
    fn a_rate_closes_the_consumer_until_it_is_due() {
        let (mut consumer, _) = consumer(PerfArgs {
            auto_ack: true,
            consumer_rate: Some(1000.0),
            ..PerfArgs::default()
        });
        consumer.start_of_input(5);
        assert!(consumer.open());
        feed(&mut consumer, &delivery(0, 1, &[0; 10], 10), 5).unwrap();
        feed(&mut consumer, &[], 6).unwrap();
        assert!(!consumer.open());
        let wake_ns = consumer.wake_ns().unwrap();
        assert!(wake_ns > 6 && wake_ns <= 1_000_006, "{wake_ns}");
    }
}
