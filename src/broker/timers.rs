//! Calls things at a time: one thread for all of them.
//!
//! What wants to be called (a queue whose messages expire, an exchange that delays) registers once, gets a [`Timer`],
//! and sets it. A timer has one time; setting it again replaces that, so that the cost is that of the registered
//! things and not of how often they change their mind. 100,000 set timers are a tree of 16 bytes each.
//!
//! The call says only that the time has come. What is to be done follows from the state of the thing, which it looks
//! at under its own lock and which tells the next time to be called at:
//!
//! 1. Change the state, then call [`Timer::set_by`] with the earliest time in it, under the same lock or after it.
//! 2. In [`Timed::due`] lock, do one visit's worth, and call [`Timer::set_by`] with the earliest time that is left,
//!    which may be now.
//!
//! Then no time is missed, whatever happens in between. A call may come for nothing: when a thing has no longer
//! anything to do at a time, it need not take the trouble to say so.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::clock::Clock;

/// Longest sleep while a timer is set: a clock that is put forward is noticed after this time. With no timer set the
/// thread sleeps until there is one.
const SLEEP_MAX: Duration = Duration::from_secs(10);

/// Timers that are taken out at once. More are left to the next round, so that the lock is held for a short time.
const ROUND_MAX: usize = 1024;

/// No time.
const NEVER: u64 = u64::MAX;

/// Something that is called when its time has come.
pub trait Timed: Send + Sync {
    /// A time that was set is not after `now_ms`, and no longer set. Called by one thread for all, so it does one
    /// bounded visit and sets the timer to `now_ms` if there is more to do.
    fn due(self: Arc<Self>, now_ms: u64);
}

/// Handle of the thread. It ends with the last handle; timers are then set to no effect.
#[derive(Clone)]
pub struct Timers {
    handle: Arc<Handle>,
}

impl Timers {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(clock: &Arc<dyn Clock>) -> std::io::Result<Self> {
        let timers = Self::by_hand();
        let (shared, clock) = (timers.handle.0.clone(), clock.clone());
        thread::Builder::new()
            .name("timers".to_owned())
            .spawn(move || run(&shared, &*clock))?;
        Ok(timers)
    }

    /// Without a thread: for who drives a virtual clock and calls [`Self::call_due`].
    pub fn by_hand() -> Self {
        Self {
            handle: Arc::new(Handle(Arc::default())),
        }
    }

    /// A timer of `target`, not set. It holds `target` weakly and is forgotten when it is dropped.
    pub fn register(&self, target: Weak<dyn Timed>) -> Timer {
        let shared = self.handle.0.clone();
        let at_ms = Arc::new(AtomicU64::new(NEVER));
        let mut table = shared.table.lock();
        let id = table.next_id;
        table.next_id += 1;
        let slot = Slot {
            target,
            at_ms: at_ms.clone(),
        };
        table.slots.insert(id, slot);
        drop(table);
        Timer { shared, id, at_ms }
    }

    /// Calls what is due at `now_ms`, each target once. Returns how many were: with more than 0 there may be more now.
    pub fn call_due(&self, now_ms: u64) -> usize {
        self.handle.0.call_due(now_ms)
    }

    /// The earliest time that is set.
    pub fn next_ms(&self) -> Option<u64> {
        self.handle.0.table.lock().next_ms()
    }
}

/// The one time at which a registered thing is to be called.
pub struct Timer {
    shared: Arc<Shared>,
    id: u64,
    /// Changed under the lock of the table only.
    at_ms: Arc<AtomicU64>,
}

impl Timer {
    /// Calls at `at_ms` (ms since the Unix epoch) at the latest: sets the timer unless it is set to an earlier time.
    /// Cheap when it is.
    pub fn set_by(&self, at_ms: u64) {
        if self.at_ms.load(Ordering::SeqCst) > at_ms {
            self.change(|current| current.min(at_ms));
        }
    }

    /// Calls at `at_ms` instead of any time that was set; with `None` not at all.
    pub fn set(&self, at_ms: Option<u64>) {
        let at_ms = at_ms.unwrap_or(NEVER);
        if self.at_ms.load(Ordering::SeqCst) != at_ms {
            self.change(|_| at_ms);
        }
    }

    fn change(&self, change: impl FnOnce(u64) -> u64) {
        let mut table = self.shared.table.lock();
        let before = self.at_ms.load(Ordering::SeqCst);
        let after = change(before);
        if after == before {
            return;
        }
        self.at_ms.store(after, Ordering::SeqCst);
        table.order.remove(&(before, self.id));
        if after == NEVER {
            return;
        }
        table.order.insert((after, self.id));
        if after < table.sleeps_until_ms {
            drop(table);
            self.shared.changed.notify_one();
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let mut table = self.shared.table.lock();
        let at_ms = self.at_ms.load(Ordering::SeqCst);
        table.order.remove(&(at_ms, self.id));
        let slot = table.slots.remove(&self.id);
        // The last weak reference may free its target's memory: not under the lock.
        drop(table);
        drop(slot);
    }
}

/// Ends the thread with the last [`Timers`].
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.table.lock().is_closed = true;
        self.0.changed.notify_one();
    }
}

#[derive(Default)]
struct Shared {
    table: Mutex<Table>,
    /// The earliest time moved forward, or there is no more handle.
    changed: Condvar,
}

#[derive(Default)]
struct Table {
    slots: HashMap<u64, Slot>,
    /// (time, id) of the timers that are set.
    order: BTreeSet<(u64, u64)>,
    next_id: u64,
    /// While the thread sleeps: until when. Otherwise 0, so that nobody wakes it.
    sleeps_until_ms: u64,
    is_closed: bool,
}

struct Slot {
    target: Weak<dyn Timed>,
    at_ms: Arc<AtomicU64>,
}

impl Table {
    fn next_ms(&self) -> Option<u64> {
        self.order.first().map(|(at_ms, _)| *at_ms)
    }

    /// Takes out the targets of the timers that are due.
    fn take_due(&mut self, now_ms: u64) -> Vec<Weak<dyn Timed>> {
        let mut due = Vec::new();
        while due.len() < ROUND_MAX
            && let Some((at_ms, id)) = self.order.first().copied()
            && at_ms <= now_ms
        {
            self.order.pop_first();
            if let Some(slot) = self.slots.get(&id) {
                slot.at_ms.store(NEVER, Ordering::SeqCst);
                due.push(slot.target.clone());
            }
        }
        due
    }
}

impl Shared {
    fn call_due(&self, now_ms: u64) -> usize {
        let due = self.table.lock().take_due(now_ms);
        let targets = due.iter().filter_map(Weak::upgrade);
        targets.map(|target| target.due(now_ms)).count()
    }

    /// Sleeps until the first timer is due. `None` when there is no more handle.
    fn sleep(&self, clock: &dyn Clock) -> Option<u64> {
        let mut table = self.table.lock();
        loop {
            let now_ms = clock.now_ms();
            match table.next_ms() {
                _ if table.is_closed => return None,
                Some(at_ms) if at_ms <= now_ms => {
                    table.sleeps_until_ms = 0;
                    return Some(now_ms);
                }
                next_ms => self.doze(&mut table, next_ms, now_ms),
            }
        }
    }

    fn doze(&self, table: &mut MutexGuard<'_, Table>, next_ms: Option<u64>, now_ms: u64) {
        table.sleeps_until_ms = next_ms.unwrap_or(NEVER);
        match next_ms {
            Some(at_ms) => {
                let left = Duration::from_millis(at_ms - now_ms).min(SLEEP_MAX);
                self.changed.wait_for(table, left);
            }
            None => self.changed.wait(table),
        }
    }
}

fn run(shared: &Shared, clock: &dyn Clock) {
    while let Some(now_ms) = shared.sleep(clock) {
        shared.call_due(now_ms);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;
    use std::sync::mpsc::{Sender, channel};

    use super::*;
    use crate::clock::SystemClock;

    /// Reports its calls, and sets its timer again after each as many times as it is told.
    struct Bell {
        name: u32,
        rings: Sender<(u32, u64)>,
        timer: OnceLock<Timer>,
        again: AtomicU64,
    }

    impl Bell {
        fn new(timers: &Timers, name: u32, rings: &Sender<(u32, u64)>) -> Arc<Self> {
            let bell = Arc::new(Self {
                name,
                rings: rings.clone(),
                timer: OnceLock::new(),
                again: AtomicU64::new(0),
            });
            let target: Weak<dyn Timed> = Arc::downgrade(&bell) as _;
            assert!(bell.timer.set(timers.register(target)).is_ok());
            bell
        }

        fn timer(&self) -> &Timer {
            self.timer.get().unwrap()
        }
    }

    impl Timed for Bell {
        fn due(self: Arc<Self>, now_ms: u64) {
            let _ = self.rings.send((self.name, now_ms));
            if self.again.load(Ordering::Relaxed) > 0 {
                self.again.fetch_sub(1, Ordering::Relaxed);
                self.timer().set_by(now_ms);
            }
        }
    }

    #[test]
    fn timers_are_called_once_in_order_of_time_and_replace_their_time() {
        let timers = Timers::by_hand();
        let (sender, rings) = channel();
        let bells: Vec<_> = (0..4)
            .map(|name| Bell::new(&timers, name, &sender))
            .collect();
        bells[0].timer().set_by(30);
        bells[1].timer().set_by(20);
        bells[1].timer().set_by(25);
        bells[2].timer().set_by(90);
        bells[2].timer().set_by(10);
        bells[3].timer().set(Some(5));
        bells[3].timer().set(None);
        assert_eq!(timers.next_ms(), Some(10));
        assert_eq!(timers.call_due(9), 0);
        assert_eq!(timers.call_due(29), 2);
        assert_eq!(timers.call_due(29), 0);
        assert_eq!(timers.call_due(30), 1);
        assert_eq!(timers.next_ms(), None, "90 was replaced by 10");
        assert_eq!(
            rings.try_iter().collect::<Vec<_>>(),
            [(2, 29), (1, 29), (0, 30)]
        );
    }

    #[test]
    fn what_is_set_within_a_call_is_called_in_the_next_round() {
        let timers = Timers::by_hand();
        let (sender, rings) = channel();
        let bell = Bell::new(&timers, 7, &sender);
        bell.again.store(2, Ordering::Relaxed);
        bell.timer().set_by(1);
        let rounds: Vec<_> = (0..4).map(|_| timers.call_due(50)).collect();
        assert_eq!(rounds, [1, 1, 1, 0]);
        assert_eq!(rings.try_iter().count(), 3);
    }

    #[test]
    fn a_dropped_target_is_forgotten_with_its_timer() {
        let timers = Timers::by_hand();
        let (sender, rings) = channel();
        let bells: Vec<_> = (0..100_000)
            .map(|name| {
                let bell = Bell::new(&timers, name, &sender);
                bell.timer().set_by(u64::from(name % 977));
                bell
            })
            .collect();
        assert_eq!(timers.handle.0.table.lock().order.len(), 100_000);
        drop(bells);
        let table = timers.handle.0.table.lock();
        assert_eq!((table.order.len(), table.slots.len()), (0, 0));
        drop(table);
        assert_eq!(timers.call_due(1000), 0);
        assert_eq!(rings.try_iter().count(), 0);
    }

    #[test]
    fn the_thread_calls_at_the_time_and_ends_with_the_last_handle() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let timers = Timers::start(&clock).unwrap();
        let (sender, rings) = channel();
        let bell = Bell::new(&timers, 1, &sender);
        // Later first, so that the thread has to be woken for the earlier one.
        bell.timer().set_by(clock.now_ms() + 3_600_000);
        let at_ms = clock.now_ms() + 20;
        bell.timer().set_by(at_ms);
        let (_, now_ms) = rings.recv().unwrap();
        assert!(now_ms >= at_ms);
        let shared = Arc::downgrade(&timers.handle.0);
        drop((timers, bell));
        while shared.strong_count() > 0 {
            thread::yield_now();
        }
    }
}
