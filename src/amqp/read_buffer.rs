//! Bytes from the socket that are not consumed yet.
//!
//! A large buffer is borrowed from a pool for each read and given back as soon as it is consumed; only a remainder
//! stays with the connection, so that an idle connection holds nothing.

use parking_lot::Mutex;

/// Size of a pooled buffer: a read takes at most this much. A frame of the usual frame_max (128 KiB) and a little more
/// fits, so that all but unusual connections use the pool.
const READ_BYTES_MAX: usize = 132 * 1024;

/// Buffers that are kept.
const POOLED_COUNT_MAX: usize = 16;

/// A remainder up to this size is copied out, so that the large buffer can go back.
const REMAINDER_BYTES_MAX: usize = 4 * 1024;

static POOL: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// Unconsumed input.
#[derive(Debug, Default)]
pub struct ReadBuffer {
    data: Vec<u8>,
    start: usize,
    end: usize,
}

impl ReadBuffer {
    /// Begins with what the handshake read ahead.
    pub fn with(bytes: &[u8]) -> Self {
        Self {
            data: bytes.to_vec(),
            start: 0,
            end: bytes.len(),
        }
    }

    /// What is there.
    pub fn bytes(&self) -> &[u8] {
        &self.data[self.start..self.end]
    }

    /// The first `count` bytes are done.
    pub fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            self.give_back();
        }
    }

    /// Room for the next read: what is there moves to the front, in a buffer that can hold a frame of `frame_bytes`.
    pub fn room(&mut self, frame_bytes: usize) -> &mut [u8] {
        let wanted = READ_BYTES_MAX.max(frame_bytes);
        let held = self.end - self.start;
        if self.data.len() < wanted {
            let mut larger = POOL.lock().pop().unwrap_or_default();
            larger.resize(wanted.max(larger.len()), 0);
            larger[..held].copy_from_slice(&self.data[self.start..self.end]);
            self.data = larger;
        } else if self.start > 0 {
            self.data.copy_within(self.start..self.end, 0);
        }
        (self.start, self.end) = (0, held);
        &mut self.data[held..]
    }

    /// `count` bytes were read into [`Self::room`].
    pub fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.data.len());
    }

    /// No more input at the moment: keep only the remainder.
    pub fn settle(&mut self) {
        let held = self.end - self.start;
        if held <= REMAINDER_BYTES_MAX && self.data.len() >= READ_BYTES_MAX {
            let remainder = self.data[self.start..self.end].to_vec();
            self.give_back();
            (self.data, self.start, self.end) = (remainder, 0, held);
        }
    }

    fn give_back(&mut self) {
        let data = std::mem::take(&mut self.data);
        if data.len() == READ_BYTES_MAX {
            let mut pool = POOL.lock();
            if pool.len() < POOLED_COUNT_MAX {
                pool.push(data);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amqp::frame::OVERHEAD_BYTES;
    use crate::config::Config;

    #[test]
    fn a_connection_with_the_usual_frame_max_reads_into_pooled_buffers() {
        let usual = Config::default().frame_max_bytes as usize + OVERHEAD_BYTES;
        assert_eq!(ReadBuffer::default().room(usual).len(), READ_BYTES_MAX);
    }

    #[test]
    fn a_remainder_survives_until_the_rest_comes() {
        let mut buffer = ReadBuffer::with(b"abc");
        buffer.consume(1);
        buffer.room(10)[..3].copy_from_slice(b"def");
        buffer.filled(3);
        assert_eq!(buffer.bytes(), b"bcdef");
        buffer.consume(2);
        buffer.settle();
        assert_eq!(buffer.bytes(), b"def");
        assert!(
            buffer.data.len() <= REMAINDER_BYTES_MAX,
            "the large buffer went back"
        );
        buffer.consume(3);
        assert!(buffer.bytes().is_empty() && buffer.data.is_empty());
    }
}
