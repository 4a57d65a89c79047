//! The first 16 bytes of a body: when it was sent, by whom, and which of theirs it is.
//!
//! ```text
//! 0        8            10         12        16
//! | sent ns | run number | publisher | sequence |      all big-endian
//! ```
//!
//! The time counts from the start of this process on the monotonic clock. The run number is drawn
//! at the start, so that messages left over from another run are known as such.

use std::time::Instant;

/// Bytes that a stamp takes; smaller bodies carry none.
pub(super) const BYTES: usize = 16;
/// Publishers that the two bytes can tell apart.
pub(super) const PUBLISHERS_MAX: usize = 1 << 16;

/// One body's stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) sent_ns: u64,
    pub(super) run: u16,
    pub(super) publisher: u16,
    pub(super) sequence: u32,
}

impl Stamp {
    /// Writes the stamp at the start of `body`, which has room for it.
    pub(super) fn write(self, body: &mut [u8; BYTES]) {
        let (sent_ns, rest) = body.split_at_mut(8);
        sent_ns.copy_from_slice(&self.sent_ns.to_be_bytes());
        let who = u64::from(self.run) << 48 | u64::from(self.publisher) << 32;
        rest.copy_from_slice(&(who | u64::from(self.sequence)).to_be_bytes());
    }

    /// The stamp at the start of `body`, if the body is long enough to have one.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let (sent_ns, rest) = body.split_first_chunk::<8>()?;
        let who = u64::from_be_bytes(*rest.first_chunk::<8>()?);
        Some(Self {
            sent_ns: u64::from_be_bytes(*sent_ns),
            run: (who >> 48) as u16,
            publisher: (who >> 32) as u16,
            sequence: who as u32,
        })
    }
}

/// Nanoseconds since the start of the run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    pub(super) fn now_ns(self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_reads_as_it_was_written() {
        let stamp = Stamp {
            sent_ns: 0x0102_0304_0506_0708,
            run: 0xfedc,
            publisher: 777,
            sequence: u32::MAX,
        };
        let mut body = [0; BYTES];
        stamp.write(&mut body);
        assert_eq!(Stamp::read(&body), Some(stamp));
        assert_eq!(body[..8], [1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn a_short_body_has_no_stamp() {
        assert_eq!(Stamp::read(&[0; BYTES - 1]), None);
    }
}
