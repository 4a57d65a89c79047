//! A moment for consumers: what they acknowledge before an epoch is gathered is never written.
//!
//! To write a large epoch takes a millisecond and more, and each of its bytes passes through the log, a memtable and a
//! file; to write a small one takes a sync. Where consumers are about to settle it, waiting about as long costs less.
//! Whether they do is seen from what the epochs before came to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::gate::Source;
use super::options::EPOCH_BYTES_EARLY;
use crate::message::Epoch;

/// An epoch with more queues does not wait: looking at them would take too long.
const SOURCES_MAX: usize = 64;

/// Most epochs that go without after one that waited in vain.
const BACKOFF_MAX: u32 = 64;

/// Whether waiting has paid.
#[derive(Debug)]
pub(super) struct Grace {
    small: Patience,
    large: Patience,
}

/// With epochs of one kind.
#[derive(Debug)]
struct Patience {
    /// The longest that an epoch waits.
    max: Duration,
    /// How often is looked whether everything is settled.
    step: Duration,
    backoff: u32,
    /// Epochs that do not wait.
    left: u32,
}

impl Default for Grace {
    fn default() -> Self {
        Self {
            // A sync of a quick disk, and a way to the consumer and back.
            small: Patience::new(Duration::from_micros(250), Duration::from_micros(20)),
            large: Patience::new(Duration::from_millis(4), Duration::from_micros(200)),
        }
    }
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
        if bytes == 0 || sources.len() > SOURCES_MAX {
            return false;
        }
        self.patience(bytes)
            .give(|| !is_closing() && sources.iter().any(|source| source.may_settle_soon(epoch)))
    }

    /// An epoch waited: of the bytes `announced` so many are left to write.
    pub(super) fn learn(&mut self, announced: usize, left: usize) {
        self.patience(announced).learn(left <= announced / 2);
    }

    const fn patience(&mut self, bytes: usize) -> &mut Patience {
        if bytes < EPOCH_BYTES_EARLY {
            &mut self.small
        } else {
            &mut self.large
        }
    }
}

impl Patience {
    const fn new(max: Duration, step: Duration) -> Self {
        Self {
            max,
            step,
            backoff: 0,
            left: 0,
        }
    }

    fn give(&mut self, is_worth_it: impl Fn() -> bool) -> bool {
        if self.left > 0 {
            self.left -= 1;
            return false;
        }
        let start = Instant::now();
        let mut waited = false;
        while is_worth_it() && start.elapsed() < self.max {
            std::thread::sleep(self.step);
            waited = true;
        }
        waited
    }

    fn learn(&mut self, has_paid: bool) {
        self.backoff = if has_paid {
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
    fn only_an_epoch_whose_records_are_with_consumers_waits() {
        let mut grace = Grace::default();
        for bytes in [1, EPOCH_BYTES_EARLY] {
            assert!(give(&mut grace, 2, bytes));
            assert!(!give(&mut grace, 0, bytes), "all is settled");
        }
        assert!(!give(&mut grace, 2, 0), "nothing to write");
    }

    #[test]
    fn small_epochs_and_large_ones_are_judged_apart() {
        let mut grace = Grace::default();
        grace.learn(1000, 1000);
        assert!(!give(&mut grace, 1, 1000));
        assert!(give(&mut grace, 1, EPOCH_BYTES_EARLY));
    }

    #[test]
    fn consumers_that_are_slow_are_waited_for_ever_more_rarely() {
        let mut grace = Grace::default();
        let mut waited = Vec::new();
        for epoch in 0..20 {
            if give(&mut grace, 1, EPOCH_BYTES_EARLY) {
                waited.push(epoch);
                grace.learn(EPOCH_BYTES_EARLY, EPOCH_BYTES_EARLY / 2 + 1);
            }
        }
        assert_eq!(waited, [0, 2, 5, 10, 19]);
        grace.learn(EPOCH_BYTES_EARLY, EPOCH_BYTES_EARLY / 2);
        assert!(give(&mut grace, 1, EPOCH_BYTES_EARLY), "it paid again");
    }
}
