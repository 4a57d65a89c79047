//! How far consumers are behind, and how long they need for it.
//!
//! Messages that are consumed from memory need not be written and read back. So where consumers are about to take what
//! is too much, publishers are given a pause that is just as long. Consumers that would need longer are slow, and no
//! publisher waits for those.

/// How long a sample is taken for: shorter ones say little. Also the pause while there is none.
const SAMPLE_MS: u64 = 20;

/// An older sample says nothing about now.
const SAMPLE_MS_MAX: u64 = 1_000;

/// The longest pause.
const PAUSE_MS_MAX: u64 = 2_000;

/// Consumers that would need longer for everything are slow.
const DRAIN_MS_MAX: u64 = 4_000;

/// Messages of a queue at some time.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at_ms: u64,
    /// Messages that ever arrived; what counts is by how much this grows.
    arrived: u64,
    ready: u64,
}

/// The speed of a queue's consumers while they are behind.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    sample: Option<Sample>,
    /// Messages that consumers took per second of the last sample, once there is one.
    taken_per_second: Option<u64>,
}

impl Backlog {
    /// How long a publisher should wait: as long as consumers need for `excess` of the `ready` messages. `None`: they
    /// are slow.
    pub(super) fn pause_ms(
        &mut self,
        now_ms: u64,
        arrived: u64,
        ready: u64,
        excess: u64,
    ) -> Option<u64> {
        let now = Sample {
            at_ms: now_ms,
            arrived,
            ready,
        };
        match self.sample {
            Some(before) if now_ms < before.at_ms + SAMPLE_MS => {}
            Some(before) if now_ms <= before.at_ms + SAMPLE_MS_MAX => {
                let came = arrived.saturating_sub(before.arrived);
                let taken = (before.ready + came).saturating_sub(ready);
                self.taken_per_second = Some(taken * 1000 / (now_ms - before.at_ms));
                self.sample = Some(now);
            }
            _ => {
                self.taken_per_second = None;
                self.sample = Some(now);
            }
        }
        let Some(taken_per_second) = self.taken_per_second else {
            return Some(SAMPLE_MS);
        };
        let drain_ms = (ready * 1000).checked_div(taken_per_second)?;
        (drain_ms <= DRAIN_MS_MAX).then(|| PAUSE_MS_MAX.min(excess * 1000 / taken_per_second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publisher_waits_as_long_as_consumers_need() {
        let mut backlog = Backlog::default();
        let mut pause =
            |now_ms, arrived, ready, excess| backlog.pause_ms(now_ms, arrived, ready, excess);
        assert_eq!(pause(1_000, 500, 100, 60), Some(20), "nothing is known");
        assert_eq!(pause(1_010, 900, 300, 60), Some(20), "too little is known");
        // 1,000 came and 500 more are ready: 500 were taken in 50 ms.
        assert_eq!(pause(1_050, 1_500, 600, 400), Some(40));
        assert_eq!(pause(1_051, 1_500, 600, 1), Some(0));
        assert_eq!(pause(1_052, 40_900, 40_000, 30_000), Some(2_000));
        assert_eq!(
            pause(1_053, 41_000, 40_100, 1),
            None,
            "all would take too long"
        );
    }

    #[test]
    fn nobody_waits_for_slow_consumers() {
        let mut backlog = Backlog::default();
        let mut pause = |now_ms, arrived, ready| backlog.pause_ms(now_ms, arrived, ready, 5_000);
        pause(1_000, 0, 0);
        assert_eq!(pause(1_100, 10_000, 10_000), None, "they take nothing");
        assert_eq!(pause(1_200, 20_000, 19_990), None, "or too little");
        assert_eq!(pause(1_300, 20_000, 9_990), Some(50));
        assert_eq!(pause(9_000, 20_000, 0), Some(20), "that was long ago");
    }
}
