//! Bytes on their way to a socket: copied ones, with large bodies spliced in by reference.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};
use parking_lot::Mutex;

use crate::amqp::frame;

/// A body frame whose payload is at least this large is spliced in instead of copied.
const SPLICE_BYTES_MIN: usize = crate::message::BODY_SHARED_BYTES_MIN;

/// Buffers that grew past this are worth keeping for the next connection that is busy.
const POOLED_BYTES_MIN: usize = 32 * 1024;

/// Buffers larger than this are freed.
const POOLED_BYTES_MAX: usize = 1024 * 1024;

/// Buffers that are kept.
const POOLED_COUNT_MAX: usize = 32;

static POOL: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// What waits to be written, in order. An empty one holds no memory.
#[derive(Debug, Default)]
pub struct WriteBuffer {
    copied: Vec<u8>,
    /// Octets of `copied` that are written already.
    copied_at: usize,
    /// Shared bytes, each with the place in `copied` before which it stands.
    spliced: VecDeque<(usize, Bytes)>,
    spliced_bytes: usize,
}

impl WriteBuffer {
    /// Octets not yet written.
    pub fn len(&self) -> usize {
        self.copied.len() - self.copied_at + self.spliced_bytes
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where to append encoded frames.
    pub fn bytes_mut(&mut self) -> &mut Vec<u8> {
        if self.copied.capacity() == 0
            && let Some(pooled) = POOL.lock().pop()
        {
            self.copied = pooled;
        }
        &mut self.copied
    }

    /// Appends a body in frames of at most `payload_max`.
    pub fn put_body(&mut self, channel: u16, body: &[u8], payload_max: usize) {
        frame::put_body(self.bytes_mut(), channel, body, payload_max);
    }

    /// Appends a shared body in frames of at most `payload_max`, by reference where that pays.
    pub fn put_shared_body(&mut self, channel: u16, body: &Bytes, payload_max: usize) {
        let mut at = 0;
        while at < body.len() {
            let piece = body.slice(at..body.len().min(at + payload_max));
            at += piece.len();
            if piece.len() < SPLICE_BYTES_MIN {
                self.put_body(channel, &piece, payload_max);
                continue;
            }
            frame::put_body_head(self.bytes_mut(), channel, piece.len());
            self.spliced_bytes += piece.len();
            self.spliced.push_back((self.copied.len(), piece));
            self.copied.push(frame::FRAME_END);
        }
    }

    /// Copied octets up to the next splice.
    fn copied_run(&self) -> &[u8] {
        let end = self
            .spliced
            .front()
            .map_or(self.copied.len(), |(at, _)| *at);
        &self.copied[self.copied_at..end]
    }
}

impl Buf for WriteBuffer {
    fn remaining(&self) -> usize {
        self.len()
    }

    fn chunk(&self) -> &[u8] {
        let run = self.copied_run();
        match self.spliced.front() {
            Some((_, shared)) if run.is_empty() => shared,
            _ => run,
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        let mut at = self.copied_at;
        let mut splices = self.spliced.iter();
        while count < slices.len() {
            let splice = splices.next();
            let end = splice.map_or(self.copied.len(), |(at, _)| *at);
            if at < end {
                slices[count] = IoSlice::new(&self.copied[at..end]);
                count += 1;
                at = end;
            }
            let Some((_, shared)) = splice else { break };
            if count < slices.len() {
                slices[count] = IoSlice::new(shared);
                count += 1;
            }
        }
        count
    }

    fn advance(&mut self, mut count: usize) {
        while count > 0 {
            let run = self.copied_run().len();
            let copied = run.min(count);
            self.copied_at += copied;
            count -= copied;
            if count == 0 {
                break;
            }
            let Some((_, shared)) = self.spliced.front_mut() else {
                debug_assert!(false, "advanced past the end");
                break;
            };
            let spliced = shared.len().min(count);
            shared.advance(spliced);
            self.spliced_bytes -= spliced;
            count -= spliced;
            if shared.is_empty() {
                self.spliced.pop_front();
            }
        }
        if self.is_empty() {
            self.release();
        }
    }
}

impl WriteBuffer {
    /// Gives the memory back: to the pool if it is worth keeping.
    fn release(&mut self) {
        let mut copied = std::mem::take(&mut self.copied);
        self.copied_at = 0;
        self.spliced = VecDeque::new();
        if (POOLED_BYTES_MIN..=POOLED_BYTES_MAX).contains(&copied.capacity()) {
            copied.clear();
            let mut pool = POOL.lock();
            if pool.len() < POOLED_COUNT_MAX {
                pool.push(copied);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sent(mut buffer: WriteBuffer, steps: &[usize]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut steps = steps.iter().cycle();
        while buffer.has_remaining() {
            let mut slices = [IoSlice::new(&[]); 4];
            let count = buffer.chunks_vectored(&mut slices);
            let offered: Vec<u8> = slices[..count]
                .iter()
                .flat_map(|slice| slice.iter().copied())
                .collect();
            assert!(offered.starts_with(&buffer.chunk()[..1]));
            let taken = offered.len().min(*steps.next().unwrap());
            out.extend_from_slice(&offered[..taken]);
            buffer.advance(taken);
        }
        out
    }

    proptest! {
        #[test]
        fn spliced_bodies_leave_as_copied_ones_would(
            sizes in prop::collection::vec(0usize..70_000, 1..6),
            steps in prop::collection::vec(1usize..30_000, 1..8),
        ) {
            let (mut buffer, mut expected) = (WriteBuffer::default(), Vec::new());
            for (index, size) in sizes.iter().enumerate() {
                let body = Bytes::from(vec![index as u8; *size]);
                frame::put_content_header(buffer.bytes_mut(), 1, *size as u64, &[0, 0]);
                buffer.put_shared_body(1, &body, 40_000);
                frame::put_content_header(&mut expected, 1, *size as u64, &[0, 0]);
                frame::put_body(&mut expected, 1, &body, 40_000);
            }
            prop_assert_eq!(buffer.len(), expected.len());
            prop_assert_eq!(sent(buffer, &steps), expected);
        }
    }
}
