//! Where time enters: read once per visit at the edge, passed on as milliseconds.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A source of wall-clock time.
pub trait Clock: Send + Sync {
    /// Milliseconds since the Unix epoch. Never goes back within a process.
    fn now_ms(&self) -> u64;
}

/// The system's clock, held when it steps back.
#[derive(Debug, Default)]
pub struct SystemClock {
    latest_ms: AtomicU64,
}

impl SystemClock {
    /// A clock that is never before `earliest_ms`, the latest time that is known to have been: time does not go back
    /// over a restart either. A system clock that is behind is warned about.
    pub fn not_before(earliest_ms: u64) -> Self {
        let system_ms = system_ms();
        if system_ms < earliest_ms {
            tracing::warn!(
                system_clock_ms = system_ms,
                last_known_ms = earliest_ms,
                behind_seconds = (earliest_ms - system_ms) / 1000,
                "the system clock is behind the time at which the broker last wrote: time stands still until it has \
                 caught up"
            );
        }
        Self {
            latest_ms: AtomicU64::new(earliest_ms),
        }
    }
}

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        let now = system_ms();
        self.latest_ms.fetch_max(now, Ordering::Relaxed).max(now)
    }
}

fn system_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_stands_still_until_the_system_clock_has_caught_up() {
        let ahead = system_ms() + 3_600_000;
        let clock = SystemClock::not_before(ahead);
        assert_eq!((clock.now_ms(), clock.now_ms()), (ahead, ahead));
        let clock = SystemClock::not_before(1000);
        assert!(clock.now_ms() > 1000);
    }
}
