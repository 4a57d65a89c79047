//! How fast a connection may be given messages: the rates of its user and of its virtual host.
//!
//! A consumer that they hold up waits among those that found the outbox full. Who paces an outbox asks for them again
//! when [`Outbox::paced_ms`] says so.

use std::sync::Arc;

use super::Outbox;
use crate::clock::Clock;
use crate::rate::Throttle;

/// What the deliveries of a connection are held to.
pub struct Pace {
    /// Of its user and its virtual host.
    pub throttles: [Arc<Throttle>; 2],
    /// The time that the rates count by.
    pub clock: Arc<dyn Clock>,
}

impl Pace {
    fn is_on(&self) -> bool {
        self.throttles.iter().any(|throttle| throttle.is_on())
    }

    fn wait_ms(&self) -> u64 {
        let now_ms = self.clock.now_ms();
        let waits = self.throttles.iter();
        waits
            .map(|throttle| throttle.wait_ms(now_ms))
            .max()
            .unwrap_or(0)
    }
}

impl Outbox {
    /// Deliveries are held to a pace from now on.
    pub fn pace(&self, pace: Pace) {
        // Set once, by who opens the connection.
        let _ = self.pace.set(pace);
    }

    /// The pace, if it limits anything at the moment.
    fn current_pace(&self) -> Option<&Pace> {
        self.pace.get().filter(|pace| pace.is_on())
    }

    /// In how many ms the next delivery may go; 0 for now, and at most [`crate::rate::WAIT_MS_MAX`].
    pub(super) fn pace_ms(&self) -> u64 {
        self.current_pace().map_or(0, Pace::wait_ms)
    }

    /// In how many ms consumers go on that wait for the pace alone, if there are such. Those that wait for room too
    /// are looked at when there is some.
    pub fn paced_ms(&self) -> Option<u64> {
        if !self.has_stalled() || !self.is_half_empty() {
            return None;
        }
        self.current_pace().map(|pace| pace.wait_ms().max(1))
    }

    /// How many of `count` deliveries may go now.
    pub fn allowed(&self, count: usize) -> usize {
        let Some(pace) = self.current_pace() else {
            return count;
        };
        let now_ms = pace.clock.now_ms();
        pace.throttles.iter().fold(count, |count, throttle| {
            usize::try_from(throttle.available(now_ms)).map_or(count, |some| some.min(count))
        })
    }

    /// Books deliveries.
    pub fn spend(&self, count: usize) {
        if let Some(pace) = self.current_pace() {
            let now_ms = pace.clock.now_ms();
            for throttle in &pace.throttles {
                throttle.spend(now_ms, count as u64, 0);
            }
        }
    }
}
