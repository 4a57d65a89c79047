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

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as u64);
        self.latest_ms.fetch_max(now, Ordering::Relaxed).max(now)
    }
}
