//! The durable watermark and those who wait for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::message::Epoch;

/// Wakes of one epoch that the store thread does itself; more are handed over, so that the next commit does not wait.
const WAKES_INLINE_MAX: usize = 32;

/// Something to wake when an epoch is durable.
pub trait Waiter: Send + Sync {
    /// Called once, from a thread of the store. Must not block and must not open a visit.
    fn wake(&self);
}

/// A task that waits.
impl Waiter for Notify {
    fn wake(&self) {
        self.notify_one();
    }
}

type Woken = Vec<Arc<dyn Waiter>>;

/// The watermark of the local log.
pub(super) struct Watermark {
    durable: AtomicU64,
    waiting: Mutex<BTreeMap<Epoch, Woken>>,
    crowd: Mutex<Option<(Sender<Woken>, JoinHandle<()>)>>,
}

impl Watermark {
    pub(super) fn new(durable: Epoch) -> Self {
        Self {
            durable: AtomicU64::new(durable),
            waiting: Mutex::default(),
            crowd: Mutex::default(),
        }
    }

    pub(super) fn durable(&self) -> Epoch {
        self.durable.load(Ordering::Acquire)
    }

    /// Wakes `waiter` once `epoch` is durable. True if it has to wait for it.
    pub(super) fn subscribe(&self, epoch: Epoch, waiter: Arc<dyn Waiter>) -> bool {
        {
            let mut waiting = self.waiting.lock();
            // Checked under the lock: `advance` moves the watermark before it takes the lock to collect.
            if self.durable() < epoch {
                waiting.entry(epoch).or_default().push(waiter);
                return true;
            }
        }
        waiter.wake();
        false
    }

    /// Whether someone waits for `epoch`.
    pub(super) fn is_awaited(&self, epoch: Epoch) -> bool {
        self.waiting.lock().contains_key(&epoch)
    }

    /// Everything up to `epoch` is durable.
    pub(super) fn advance(&self, epoch: Epoch) {
        debug_assert!(epoch >= self.durable(), "the watermark never goes back");
        self.durable.store(epoch, Ordering::Release);
        let woken = {
            let mut waiting = self.waiting.lock();
            let later = waiting.split_off(&(epoch + 1));
            std::mem::replace(&mut *waiting, later)
        };
        for waiters in woken.into_values() {
            if waiters.len() <= WAKES_INLINE_MAX {
                waiters.iter().for_each(|waiter| waiter.wake());
            } else {
                self.hand_over(waiters);
            }
        }
    }

    fn hand_over(&self, waiters: Woken) {
        let mut crowd = self.crowd.lock();
        let (sender, _) = crowd.get_or_insert_with(start_waker);
        if let Err(returned) = sender.send(waiters) {
            returned.0.iter().for_each(|waiter| waiter.wake());
        }
    }

    /// Ends the waking thread, if one was ever needed.
    pub(super) fn close(&self) {
        if let Some((sender, thread)) = self.crowd.lock().take() {
            drop(sender);
            let _ = thread.join();
        }
    }
}

fn start_waker() -> (Sender<Woken>, JoinHandle<()>) {
    let (sender, receiver) = channel::<Woken>();
    let thread = std::thread::Builder::new()
        .name("store-wake".into())
        .spawn(move || {
            for waiters in receiver {
                waiters.iter().for_each(|waiter| waiter.wake());
            }
        })
        .expect("a process that cannot start a thread cannot go on");
    (sender, thread)
}
