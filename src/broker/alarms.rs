//! Resource alarms: while one is on, connections that publish wait.
//!
//! The server looks at memory and disk and says so here; connections ask before they go on, and are woken when the last
//! alarm is over. Consumers take no notice (semantics row 86).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::store::Waiter;

/// What an alarm is raised for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Alarm {
    /// The process uses more memory than its watermark.
    Memory = 1,
    /// The disk has less free space than its limit.
    DiskSpace = 2,
    /// The store found the disk full.
    StoreFull = 4,
}

impl Alarm {
    /// RabbitMQ's name of what runs short.
    pub const fn source(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::DiskSpace | Self::StoreFull => "disk",
        }
    }
}

const DISK: u8 = Alarm::DiskSpace as u8 | Alarm::StoreFull as u8;

/// The alarms of a broker.
#[derive(Default)]
pub struct Alarms {
    raised: AtomicU8,
    waiters: Mutex<Waiters>,
}

impl Alarms {
    /// Raises or clears one alarm. `true`: it was the other way before. The last one that is cleared wakes everybody.
    pub fn set(&self, alarm: Alarm, raised: bool) -> bool {
        let bit = alarm as u8;
        let before = if raised {
            self.raised.fetch_or(bit, Ordering::SeqCst)
        } else {
            self.raised.fetch_and(!bit, Ordering::SeqCst)
        };
        if before == bit && !raised {
            self.wake_all();
        }
        (before & bit != 0) != raised
    }

    /// Whether publishers wait.
    pub fn is_raised(&self) -> bool {
        self.raised.load(Ordering::SeqCst) != 0
    }

    /// Whether one for memory is on.
    pub fn is_memory_low(&self) -> bool {
        self.raised.load(Ordering::SeqCst) & Alarm::Memory as u8 != 0
    }

    /// Whether one for the disk is on.
    pub fn is_disk_low(&self) -> bool {
        self.raised.load(Ordering::SeqCst) & DISK != 0
    }

    /// The reason of connection.blocked, in RabbitMQ's words. Empty without an alarm.
    pub fn reason(&self) -> &'static str {
        let raised = self.raised.load(Ordering::SeqCst);
        match (raised & Alarm::Memory as u8 != 0, raised & DISK != 0) {
            (true, true) => "low on memory & disk",
            (true, false) => "low on memory",
            (false, true) => "low on disk",
            (false, false) => "",
        }
    }

    /// Wakes `waiter` once no alarm is on; at once if none is. Nobody is woken who is gone by then.
    pub fn when_cleared(&self, waiter: Arc<dyn Waiter>) {
        self.waiters.lock().insert(&waiter);
        // Looked at after the waiter is in: whoever clears the alarm from now on finds it.
        if !self.is_raised() {
            self.wake_all();
        }
    }

    fn wake_all(&self) {
        let waiters = std::mem::take(&mut *self.waiters.lock());
        for waiter in waiters.by_address.into_values() {
            if let Some(waiter) = waiter.upgrade() {
                waiter.wake();
            }
        }
    }
}

/// Who waits, by address: a connection that asks again is still one. An alarm can last while connections come and go,
/// therefore they are not kept alive, and those that are gone are removed now and then.
#[derive(Default)]
struct Waiters {
    by_address: HashMap<usize, Weak<dyn Waiter>>,
    sweep_at: usize,
}

const SWEEP_WAITERS_MIN: usize = 256;

impl Waiters {
    fn insert(&mut self, waiter: &Arc<dyn Waiter>) {
        if self.by_address.len() >= self.sweep_at {
            self.by_address
                .retain(|_, waiter| waiter.strong_count() > 0);
            self.sweep_at = (self.by_address.len() * 2).max(SWEEP_WAITERS_MIN);
        }
        // An address is not given to another while there is a weak reference to it.
        let address = Arc::as_ptr(waiter).cast::<()>() as usize;
        self.by_address.insert(address, Arc::downgrade(waiter));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Waiter for Wakes {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Wakes {
        fn count(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
    }

    #[test]
    fn reasons_are_rabbitmqs() {
        let alarms = Alarms::default();
        assert_eq!((alarms.is_raised(), alarms.reason()), (false, ""));
        for (alarm, raised, reason) in [
            (Alarm::Memory, true, "low on memory"),
            (Alarm::DiskSpace, true, "low on memory & disk"),
            (Alarm::StoreFull, true, "low on memory & disk"),
            (Alarm::DiskSpace, false, "low on memory & disk"),
            (Alarm::Memory, false, "low on disk"),
            (Alarm::StoreFull, false, ""),
        ] {
            assert!(alarms.set(alarm, raised));
            assert!(!alarms.set(alarm, raised), "it is so already");
            assert_eq!(alarms.reason(), reason);
            assert_eq!(alarms.is_raised(), !reason.is_empty());
            assert_eq!(alarms.is_memory_low(), reason.contains("memory"));
            assert_eq!(alarms.is_disk_low(), reason.contains("disk"));
        }
    }

    #[test]
    fn waiters_are_woken_once_when_the_last_alarm_is_over() {
        let alarms = Alarms::default();
        let wakes = Arc::new(Wakes::default());
        let waiter: Arc<dyn Waiter> = wakes.clone();
        alarms.set(Alarm::Memory, true);
        alarms.set(Alarm::DiskSpace, true);
        alarms.when_cleared(waiter.clone());
        alarms.when_cleared(waiter.clone());
        alarms.set(Alarm::Memory, false);
        assert_eq!(wakes.count(), 0);
        alarms.set(Alarm::DiskSpace, false);
        assert_eq!(wakes.count(), 1, "asked twice, woken once");
        alarms.set(Alarm::Memory, true);
        alarms.set(Alarm::Memory, false);
        assert_eq!(wakes.count(), 1, "nobody waits any more");
    }

    #[test]
    fn who_comes_without_an_alarm_does_not_wait() {
        let wakes = Arc::new(Wakes::default());
        let waiter: Arc<dyn Waiter> = wakes.clone();
        Alarms::default().when_cleared(waiter);
        assert_eq!(wakes.count(), 1);
    }

    #[test]
    fn connections_that_are_gone_are_forgotten() {
        let alarms = Alarms::default();
        alarms.set(Alarm::Memory, true);
        let staying: Arc<dyn Waiter> = Arc::new(Wakes::default());
        alarms.when_cleared(staying.clone());
        for _ in 0..10_000 {
            let leaving: Arc<dyn Waiter> = Arc::new(Wakes::default());
            alarms.when_cleared(leaving);
        }
        let waiting = alarms.waiters.lock().by_address.len();
        assert!(waiting <= SWEEP_WAITERS_MIN, "{waiting}");
        alarms.set(Alarm::Memory, false);
        assert_eq!(Arc::strong_count(&staying), 1);
    }
}
