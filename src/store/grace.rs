//! A moment for consumers: what they acknowledge before an epoch is gathered is never written.
//!
//! To write a large epoch takes a millisecond and more, and each of its bytes passes through the log, a memtable and a
//! file. Where consumers are about to settle it, waiting about as long costs less. Whether they do is seen from what
//! the epochs before came to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::gate::Source;
use super::options::EPOCH_BYTES_EARLY;
use crate::message::Epoch;

/// The longest that an epoch waits.
const GRACE_MAX: Duration = Duration::from_millis(4);

/// How often is looked whether everything is settled.
const GRACE_STEP: Duration = Duration::from_micros(200);

/// An epoch with more queues does not wait: looking at them would take too long.
const SOURCES_MAX: usize = 64;

/// Most epochs that go without after one that waited in vain.
const BACKOFF_MAX: u32 = 64;

/// Whether waiting has paid.
#[derive(Debug, Default)]
pub(super) struct Grace {
    backoff: u32,
    /// Large epochs that do not wait.
    left: u32,
}

impl Grace {
    /// Waits while consumers hold records of an epoch that was cut, in which `bytes` were announced. Answers whether it
    /// did.
    pub(super) fn give(
        &mut self,
        sources: &[Arc<dyn Source>],
        epoch: Epoch,
        bytes: usize,
        is_closing: impl Fn() -> bool,
    ) -> bool {
        if bytes < EPOCH_BYTES_EARLY || sources.len() > SOURCES_MAX {
            return false;
        }
        if self.left > 0 {
            self.left -= 1;
            return false;
        }
        let start = Instant::now();
        let mut waited = false;
        while !is_closing()
            && start.elapsed() < GRACE_MAX
            && sources.iter().any(|source| source.may_settle_soon(epoch))
        {
            std::thread::sleep(GRACE_STEP);
            waited = true;
        }
        waited
    }

    /// An epoch waited: of the bytes `announced` so many are left to write.
    pub(super) fn learn(&mut self, announced: usize, left: usize) {
        self.backoff = if left <= announced / 2 {
            0
        } else {
            (self.backoff * 2).clamp(1, BACKOFF_MAX)
        };
        self.left = self.backoff;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::message::op::Op;

    /// Has something with consumers for so many looks.
    struct Consumed(AtomicU32);

    impl Source for Consumed {
        fn gather(&self, _: Epoch, _: &mut Vec<Op>) {}

        fn may_settle_soon(&self, _: Epoch) -> bool {
            let looks = self.0.load(Ordering::Relaxed);
            self.0.store(looks.saturating_sub(1), Ordering::Relaxed);
            looks > 0
        }
    }

    fn give(grace: &mut Grace, looks: u32, bytes: usize) -> bool {
        let source: Arc<dyn Source> = Arc::new(Consumed(AtomicU32::new(looks)));
        grace.give(&[source], 1, bytes, || false)
    }

    #[test]
    fn only_a_large_epoch_whose_records_are_with_consumers_waits() {
        let mut grace = Grace::default();
        assert!(give(&mut grace, 2, EPOCH_BYTES_EARLY));
        assert!(!give(&mut grace, 0, EPOCH_BYTES_EARLY), "all is settled");
        assert!(
            !give(&mut grace, 2, EPOCH_BYTES_EARLY - 1),
            "little to write"
        );
    }

    #[test]
    fn consumers_that_are_slow_are_waited_for_ever_more_rarely() {
        let mut grace = Grace::default();
        let mut waited = Vec::new();
        for epoch in 0..20 {
            if give(&mut grace, 1, EPOCH_BYTES_EARLY) {
                waited.push(epoch);
                grace.learn(1000, 501);
            }
        }
        assert_eq!(waited, [0, 2, 5, 10, 19]);
        grace.learn(1000, 500);
        assert!(give(&mut grace, 1, EPOCH_BYTES_EARLY), "it paid again");
    }
}
