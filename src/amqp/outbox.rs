//! The outbox of a connection: what waits to be written, and the deliveries that wait to be acknowledged.
//!
//! Any thread that has a delivery for the connection encodes it here under a short lock; the connection's own task
//! takes what has gathered and writes it. Delivery tags and unacknowledged deliveries live under the same lock, since
//! both are made by whoever delivers (design.md 2, C10).
//!
//! - [`buffer`]: the bytes.
//! - [`deliveries`]: tags, unacknowledged deliveries and the shared window of one channel.
//! - [`pace`]: how fast it may grow.
//!
//! Lock order: queue before outbox.

pub mod buffer;
pub mod deliveries;
mod pace;
mod unacked;

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use amq_protocol::protocol::AMQPClass;
use atomic_waker::AtomicWaker;
use hashbrown::HashMap;
use parking_lot::{Mutex, MutexGuard};

use self::buffer::WriteBuffer;
use self::deliveries::Deliveries;
pub use self::pace::Pace;
use super::frame;
use crate::broker::delivery::{Cancellation, ConsumerId};
use crate::broker::queue::Queue;
use crate::store::Waiter;

/// Above this many bytes deliveries stop until the client has read half of them.
pub const OUTBOX_SOFT_BYTES_MAX: usize = 512 * 1024;

/// Above this many bytes (returns, gets, confirms to a client that does not read) reading stops too.
pub const OUTBOX_HARD_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The connection's task has to be woken.
const ASLEEP: u8 = 0;

/// It runs, and will look here before it waits.
const AWAKE: u8 = 1;

/// There is something that it has not looked at.
const CALLED: u8 = 2;

thread_local! {
    static WOKEN: Cell<u64> = const { Cell::new(0) };
}

/// How many connections this thread has woken so far: they may wait for their turn on it.
pub fn woken_by_this_thread() -> u64 {
    WOKEN.get()
}

/// A consumer that found the outbox or its channel's window full.
pub struct Stalled {
    /// Its queue.
    pub queue: Arc<Queue>,
    /// Its place there.
    pub consumer: ConsumerId,
}

/// A consumer that the broker cancelled: the connection forgets it and may tell the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cancelled {
    /// Channel number.
    pub channel: u16,
    /// The tag that the channel gave to this consumer and to no other: one that comes later has its own, even if it
    /// reads the same.
    pub consumer_tag: Arc<str>,
    /// Why.
    pub why: Cancellation,
}

/// What is under the lock.
pub struct OutboxState {
    /// Bytes that were encoded and not yet taken for writing.
    pub buffer: WriteBuffer,
    /// Deliveries of each open channel.
    pub channels: HashMap<u16, Box<Deliveries>>,
    stalled: Vec<Stalled>,
    cancelled: Vec<Cancelled>,
    /// The broker wants the connection closed, with this explanation.
    close_requested: Option<String>,
    closed: bool,
}

/// Shared by the connection's task and everybody who has something for its client.
pub struct Outbox {
    state: Mutex<OutboxState>,
    /// Bytes encoded and not yet on the socket.
    queued: AtomicUsize,
    has_stalled: AtomicBool,
    task: AtomicWaker,
    attention: AtomicU8,
    pace: OnceLock<Pace>,
    /// Largest payload of a frame to this client.
    payload_max: usize,
}

impl Outbox {
    /// An empty outbox for a connection with this negotiated frame_max (bytes of a whole frame).
    pub fn new(frame_max_bytes: u32) -> Arc<Self> {
        let state = OutboxState {
            buffer: WriteBuffer::default(),
            channels: HashMap::new(),
            stalled: Vec::new(),
            cancelled: Vec::new(),
            close_requested: None,
            closed: false,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            queued: AtomicUsize::new(0),
            has_stalled: AtomicBool::new(false),
            task: AtomicWaker::new(),
            attention: AtomicU8::new(ASLEEP),
            pace: OnceLock::new(),
            payload_max: frame_max_bytes as usize - frame::OVERHEAD_BYTES,
        })
    }

    /// Locks it for one batch. Dropping the guard publishes the new size and wakes the connection.
    pub fn lock(&self) -> OutboxGuard<'_> {
        let state = self.state.lock();
        let before = state.buffer.len();
        OutboxGuard {
            outbox: self,
            state,
            before,
        }
    }

    /// Largest payload of a frame to this client.
    pub const fn payload_max(&self) -> usize {
        self.payload_max
    }

    /// Sends one method.
    pub fn send(&self, channel: u16, method: &AMQPClass) {
        frame::put_method(self.lock().buffer.bytes_mut(), channel, method);
    }

    /// Bytes encoded and not yet on the socket.
    pub fn queued_bytes(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    /// Bytes that deliveries may still take.
    pub fn room_bytes(&self) -> usize {
        if self.pace_ms() > 0 {
            return 0;
        }
        OUTBOX_SOFT_BYTES_MAX.saturating_sub(self.queued_bytes())
    }

    /// `count` bytes are on the socket. True: enough for stalled consumers to go on.
    pub fn written(&self, count: usize) -> bool {
        let left = self.queued.fetch_sub(count, Ordering::Relaxed) - count;
        left <= OUTBOX_SOFT_BYTES_MAX / 2 && self.has_stalled()
    }

    /// Takes what waits to be written, leaving an empty buffer.
    pub fn take_buffer(&self) -> WriteBuffer {
        std::mem::take(&mut self.state.lock().buffer)
    }

    /// Asks to be resumed when half of the outbox is written. `false`: there is room now.
    pub fn stall(&self, stalled: Stalled) -> bool {
        let mut state = self.state.lock();
        if state.closed {
            return true;
        }
        if self.room_bytes() > 0 {
            return false;
        }
        state.stalled.push(stalled);
        self.has_stalled.store(true, Ordering::Release);
        drop(state);
        if self.pace_ms() > 0 {
            // Nothing is written that would bring the connection back to it.
            self.wake();
        }
        true
    }

    /// Enough is written for stalled consumers to go on.
    fn is_half_empty(&self) -> bool {
        self.queued_bytes() <= OUTBOX_SOFT_BYTES_MAX / 2
    }

    fn has_stalled(&self) -> bool {
        self.has_stalled.load(Ordering::Acquire)
    }

    /// Consumers that can go on, once the client has read enough.
    pub fn take_stalled(&self) -> Vec<Stalled> {
        if !self.has_stalled() || !self.is_half_empty() || self.pace_ms() > 0 {
            return Vec::new();
        }
        let mut state = self.state.lock();
        self.has_stalled.store(false, Ordering::Release);
        std::mem::take(&mut state.stalled)
    }

    /// The broker cancelled a consumer.
    pub fn cancel(&self, cancelled: Cancelled) {
        let mut state = self.state.lock();
        if !state.closed {
            state.cancelled.push(cancelled);
            drop(state);
            self.wake();
        }
    }

    /// Consumers that the broker cancelled since the last call.
    pub fn take_cancelled(&self) -> Vec<Cancelled> {
        std::mem::take(&mut self.state.lock().cancelled)
    }

    /// Asks the connection's task to close with 320 CONNECTION_FORCED.
    pub fn request_close(&self, explanation: &str) {
        self.state.lock().close_requested = Some(explanation.to_owned());
        self.wake();
    }

    /// The explanation of [`Self::request_close`], once.
    pub fn take_close_request(&self) -> Option<String> {
        self.state.lock().close_requested.take()
    }

    /// Nothing is taken any more: deliveries are refused from here on.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.stalled = Vec::new();
    }

    /// Registers the connection's task for [`Self::take_wake`].
    pub fn register(&self, waker: &std::task::Waker) {
        self.task.register(waker);
    }

    /// Whether somebody called [`Waiter::wake`] since the last call.
    pub fn take_wake(&self) -> bool {
        self.attention.swap(ASLEEP, Ordering::AcqRel) == CALLED
    }

    /// The task itself is about to put something here, and will call [`Self::take_wake`] before it waits: until then
    /// calls are only remembered. A task that is woken while it runs brings another thread to life, which helps where
    /// there is more to do, and costs as much as all the rest where one message comes at a time.
    pub fn expect_look(&self) {
        let (set, failed) = (Ordering::AcqRel, Ordering::Relaxed);
        // Who was called has been woken as well.
        let _ = self.attention.compare_exchange(ASLEEP, AWAKE, set, failed);
    }
}

impl Waiter for Outbox {
    fn wake(&self) {
        // Only the first of many wakes the task: waking costs more than a delivery.
        if self.attention.swap(CALLED, Ordering::AcqRel) == ASLEEP {
            WOKEN.set(WOKEN.get() + 1);
            self.task.wake();
        }
    }
}

/// The locked outbox.
pub struct OutboxGuard<'a> {
    outbox: &'a Outbox,
    state: MutexGuard<'a, OutboxState>,
    before: usize,
}

impl OutboxGuard<'_> {
    /// Nothing is taken any more.
    pub fn is_closed(&self) -> bool {
        self.state.closed
    }

    /// Registers consumers for the next drain without looking at the room.
    pub fn resume_later(&mut self, stalled: impl IntoIterator<Item = Stalled>) {
        self.state.stalled.extend(stalled);
        self.outbox.has_stalled.store(true, Ordering::Release);
    }

    /// The bytes and the deliveries of a channel at the same time.
    pub fn split(&mut self, channel: u16) -> Option<(&mut WriteBuffer, &mut Deliveries)> {
        let OutboxState {
            buffer, channels, ..
        } = &mut *self.state;
        Some((buffer, &mut **channels.get_mut(&channel)?))
    }
}

impl std::ops::Deref for OutboxGuard<'_> {
    type Target = OutboxState;
    fn deref(&self) -> &OutboxState {
        &self.state
    }
}

impl std::ops::DerefMut for OutboxGuard<'_> {
    fn deref_mut(&mut self) -> &mut OutboxState {
        &mut self.state
    }
}

impl Drop for OutboxGuard<'_> {
    fn drop(&mut self) {
        let added = self.state.buffer.len() - self.before;
        if added > 0 {
            self.outbox.queued.fetch_add(added, Ordering::Relaxed);
            self.outbox.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::task::{Wake, Waker};

    use super::*;

    /// A task that counts how often it is woken.
    #[derive(Default)]
    struct Task(AtomicU64);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn only_the_first_call_wakes_a_task_and_none_before_a_look_that_is_expected() {
        let (outbox, task) = (Outbox::new(4096), Arc::new(Task::default()));
        let woken = || task.0.load(Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&task));
        outbox.register(&waker);
        let before = woken_by_this_thread();
        (0..3).for_each(|_| outbox.wake());
        assert_eq!((woken(), woken_by_this_thread() - before), (1, 1));
        assert!(outbox.take_wake() && !outbox.take_wake());
        outbox.expect_look();
        outbox.wake();
        assert_eq!(woken(), 1, "it will look");
        assert!(outbox.take_wake(), "no call is missed");
        outbox.register(&waker);
        outbox.wake();
        outbox.expect_look();
        outbox.wake();
        assert_eq!(woken(), 2);
        assert!(outbox.take_wake());
    }
}
