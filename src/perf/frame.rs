//! Frames as they lie in a read buffer, cut by hand: the receiving side of the hot path.
//!
//! ```text
//! 0      1         3         7                  7 + size
//! | type | channel | size    | payload ...      | 0xCE |
//! ```
//!
//! Nothing here allocates. Methods that come once in a while are left to amq-protocol.

use std::io::{self, Read};

use amq_protocol::frame::{AMQPFrame, WriteContext, gen_frame, parse_frame};

/// Bytes before the payload.
const HEAD_BYTES: usize = 7;
/// Bytes around the payload.
pub(super) const OVERHEAD_BYTES: usize = HEAD_BYTES + 1;
const END: u8 = 0xCE;

pub(super) const METHOD: u8 = 1;
pub(super) const HEADER: u8 = 2;
pub(super) const BODY: u8 = 3;

/// Class and method number of the methods that come once a message.
pub(super) const BASIC_RETURN: u32 = method(60, 50);
pub(super) const BASIC_DELIVER: u32 = method(60, 60);
pub(super) const BASIC_ACK: u32 = method(60, 80);
pub(super) const BASIC_NACK: u32 = method(60, 120);

const fn method(class: u16, number: u16) -> u32 {
    (class as u32) << 16 | number as u32
}

/// What arrives is not AMQP 0-9-1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("a frame of {0} bytes, more than was agreed on")]
    TooLarge(usize),
    #[error("a frame without its end mark")]
    NoEnd,
    #[error("a frame shorter than its fields")]
    Short,
    #[error("a frame that does not belong here: {0}")]
    Unexpected(&'static str),
}

/// One frame in a read buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) kind: u8,
    pub(super) payload: &'a [u8],
    /// The frame with its head and end mark.
    pub(super) whole: &'a [u8],
}

/// Cuts the first frame off `bytes`; `None` when it has not arrived in full.
pub(super) fn cut(bytes: &[u8], frame_bytes_max: usize) -> Result<Option<Frame<'_>>, FrameError> {
    let Some(head) = bytes.first_chunk::<HEAD_BYTES>() else {
        return Ok(None);
    };
    let [kind, _, _, a, b, c, d] = *head;
    let size = u32::from_be_bytes([a, b, c, d]) as usize;
    if size + OVERHEAD_BYTES > frame_bytes_max {
        return Err(FrameError::TooLarge(size + OVERHEAD_BYTES));
    }
    let Some((whole, _)) = bytes.split_at_checked(size + OVERHEAD_BYTES) else {
        return Ok(None);
    };
    match whole.split_at(HEAD_BYTES).1.split_last() {
        Some((&END, payload)) => Ok(Some(Frame {
            kind,
            payload,
            whole,
        })),
        _ => Err(FrameError::NoEnd),
    }
}

impl<'a> Frame<'a> {
    /// Class and method number, and the arguments behind them.
    pub(super) fn method(&self) -> Result<(u32, &'a [u8]), FrameError> {
        let (number, arguments) = self
            .payload
            .split_first_chunk::<4>()
            .ok_or(FrameError::Short)?;
        Ok((u32::from_be_bytes(*number), arguments))
    }

    /// The frame as amq-protocol sees it: for what is not on the hot path.
    pub(super) fn decode(&self) -> Option<AMQPFrame> {
        parse_frame(self.whole).ok().map(|(_, frame)| frame)
    }

    /// Body size that a content header announces.
    pub(super) fn body_size(&self) -> Result<u64, FrameError> {
        let fields = self
            .payload
            .split_first_chunk::<4>()
            .ok_or(FrameError::Short)?
            .1;
        fields
            .first_chunk::<8>()
            .map(|size| u64::from_be_bytes(*size))
            .ok_or(FrameError::Short)
    }
}

/// The fields of basic.deliver that a consumer needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deliver<'a> {
    pub(super) consumer_tag: &'a [u8],
    pub(super) delivery_tag: u64,
    pub(super) redelivered: bool,
}

impl<'a> Deliver<'a> {
    pub(super) fn parse(arguments: &'a [u8]) -> Result<Self, FrameError> {
        let (&length, rest) = arguments.split_first().ok_or(FrameError::Short)?;
        let (consumer_tag, rest) = rest
            .split_at_checked(usize::from(length))
            .ok_or(FrameError::Short)?;
        let (delivery_tag, rest) = rest.split_first_chunk::<8>().ok_or(FrameError::Short)?;
        let delivery_tag = u64::from_be_bytes(*delivery_tag);
        let redelivered = rest.first().ok_or(FrameError::Short)? & 1 != 0;
        Ok(Self {
            consumer_tag,
            delivery_tag,
            redelivered,
        })
    }
}

/// The tag and the multiple flag of basic.ack and basic.nack.
pub(super) fn settled(arguments: &[u8]) -> Result<(u64, bool), FrameError> {
    let (tag, rest) = arguments
        .split_first_chunk::<8>()
        .ok_or(FrameError::Short)?;
    let multiple = rest.first().ok_or(FrameError::Short)? & 1 != 0;
    Ok((u64::from_be_bytes(*tag), multiple))
}

/// Appends basic.ack on channel 1.
pub(super) fn push_ack(out: &mut Vec<u8>, tag: u64, multiple: bool) {
    let mut frame = *b"\x01\x00\x01\x00\x00\x00\x0d\x00\x3c\x00\x50........\x00\xCE";
    frame[11..19].copy_from_slice(&tag.to_be_bytes());
    frame[19] = u8::from(multiple);
    out.extend_from_slice(&frame);
}

/// Appends any frame.
pub(super) fn push(out: &mut Vec<u8>, frame: &AMQPFrame) {
    let context = WriteContext::from(std::mem::take(out));
    // Writing to a vector fails only for fields that are too long; all of ours are checked.
    let written = gen_frame(frame)(context).expect("a frame fits a vector");
    *out = written.into_inner().0;
}

/// A read buffer from which frames are cut. Its size is fixed; frames never move within it except
/// when a rest is carried to the front.
#[derive(Debug)]
pub(super) struct Input {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    frame_bytes_max: usize,
}

impl Input {
    /// A buffer that holds `bytes` or two of the largest frames, with `rest` in it already.
    pub(super) fn new(bytes: usize, frame_bytes_max: usize, rest: &[u8]) -> Self {
        let size = bytes.max(2 * frame_bytes_max).max(rest.len());
        let mut buffer = vec![0; size];
        buffer[..rest.len()].copy_from_slice(rest);
        Self {
            buffer,
            start: 0,
            end: rest.len(),
            frame_bytes_max,
        }
    }

    /// Reads once. Returns the bytes read and whether the buffer was filled, in which case the
    /// socket may hold more. Zero bytes are the end of the stream.
    pub(super) fn fill(&mut self, from: &mut impl Read) -> io::Result<(usize, bool)> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let room = self.buffer.len() - self.end;
        let bytes = from.read(&mut self.buffer[self.end..])?;
        self.end += bytes;
        Ok((bytes, bytes == room))
    }

    /// The next frame that is there in full.
    pub(super) fn next(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        let frame = cut(&self.buffer[self.start..self.end], self.frame_bytes_max)?;
        if let Some(frame) = &frame {
            self.start += frame.whole.len();
        }
        Ok(frame)
    }

    /// Bytes that wait to be cut.
    pub(super) fn rest(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }
}

#[cfg(test)]
mod tests {
    use amq_protocol::protocol::{AMQPClass, basic};

    use super::*;

    fn encoded(method: basic::AMQPMethod) -> Vec<u8> {
        let mut bytes = Vec::new();
        push(&mut bytes, &AMQPFrame::Method(1, AMQPClass::Basic(method)));
        bytes
    }

    fn deliver() -> Vec<u8> {
        encoded(basic::AMQPMethod::Deliver(basic::Deliver {
            consumer_tag: "q7".into(),
            delivery_tag: 99,
            redelivered: true,
            exchange: "e".into(),
            routing_key: "k".into(),
        }))
    }

    #[test]
    fn a_deliver_is_read_as_amq_protocol_wrote_it() {
        let bytes = deliver();
        let frame = cut(&bytes, 4096).unwrap().unwrap();
        let (number, arguments) = frame.method().unwrap();
        assert_eq!(number, BASIC_DELIVER);
        let deliver = Deliver::parse(arguments).unwrap();
        assert_eq!(
            deliver,
            Deliver {
                consumer_tag: b"q7",
                delivery_tag: 99,
                redelivered: true
            }
        );
    }

    #[test]
    fn an_ack_is_the_one_that_amq_protocol_writes() {
        for multiple in [false, true] {
            let mut ours = Vec::new();
            push_ack(&mut ours, u64::MAX - 5, multiple);
            let ack = basic::Ack {
                delivery_tag: u64::MAX - 5,
                multiple,
            };
            assert_eq!(ours, encoded(basic::AMQPMethod::Ack(ack)));
        }
    }

    #[test]
    fn a_frame_cut_anywhere_is_not_there_yet() {
        let bytes = deliver();
        for length in 0..bytes.len() {
            assert_eq!(cut(&bytes[..length], 4096), Ok(None), "{length}");
        }
    }

    #[test]
    fn a_frame_without_end_mark_is_refused() {
        let mut bytes = deliver();
        *bytes.last_mut().unwrap() = 0;
        assert_eq!(cut(&bytes, 4096), Err(FrameError::NoEnd));
    }

    #[test]
    fn a_frame_larger_than_agreed_is_refused_by_its_head() {
        let head = [BODY, 0, 1, 0xff, 0xff, 0xff, 0xff];
        assert!(matches!(cut(&head, 131_072), Err(FrameError::TooLarge(_))));
    }

    #[test]
    fn cut_short_arguments_never_panic() {
        let bytes = deliver();
        let (_, arguments) = cut(&bytes, 4096).unwrap().unwrap().method().unwrap();
        for length in 0..12 {
            assert_eq!(
                Deliver::parse(&arguments[..length.min(arguments.len())]).is_ok(),
                length >= 12
            );
        }
        assert_eq!(settled(&[0; 8]), Err(FrameError::Short));
    }

    #[test]
    fn frames_come_out_whole_however_they_arrive() {
        let one = deliver();
        let stream: Vec<u8> = one.repeat(100);
        for step in [1, 3, 7, 64, 1000] {
            let mut input = Input::new(64, one.len(), &[]);
            let mut source = stream
                .chunks(step)
                .collect::<std::collections::VecDeque<_>>();
            let mut frames = 0;
            while let Some(mut chunk) = source.pop_front() {
                let (bytes, _) = input.fill(&mut chunk).unwrap();
                if bytes < step && !chunk.is_empty() {
                    source.push_front(chunk);
                }
                while let Some(frame) = input.next().unwrap() {
                    assert_eq!(frame.whole, one);
                    frames += 1;
                }
            }
            assert_eq!(frames, 100, "{step}");
            assert!(input.rest().is_empty());
        }
    }
}
