//! Commits on the thread that brought the work.
//!
//! A publisher that waits for each confirm has each commit to itself: to wake the store thread for it, and to be woken
//! by that, takes as long as a quick disk. So a connection may hold back the wake while it handles its input, and then
//! commit what it did itself, if the store rests, the disk is quick, and nobody else has to wait for it: a thread that
//! waits for the disk serves no other connection meanwhile.
//!
//! ```text
//! visit ..... | ................ store thread: cut, gather, write + sync | wake ..... confirm
//! visit, cut, gather, write + sync, confirm
//! ```

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;

use super::Store;
use super::gate::Source;
use crate::message::Epoch;

/// Sources in the open epoch with which a commit is small. Changes that belong to none may take long: a queue of any
/// size is deleted by one.
pub(super) const SOURCES_MAX: usize = 4;

/// Bytes announced in the open epoch with which a commit is small.
pub(super) const BYTES_MAX: usize = 16 * 1024;

thread_local! {
    static HELD: Cell<Held> = const { Cell::new(Held::No) };
}

/// Whether this thread holds wakes back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    No,
    Yes { work: bool },
}

/// A visit of this thread has brought work. False: the store thread has to be woken.
pub(super) fn hold_back() -> bool {
    HELD.with(|held| {
        let holds = held.get() != Held::No;
        if holds {
            held.set(Held::Yes { work: true });
        }
        holds
    })
}

/// As long as this lives visits of this thread do not wake the store thread: for a moment only.
pub struct WakesHeld<'a> {
    store: &'a Store,
    /// Not `Send`: the mark is the thread's.
    thread: PhantomData<*const ()>,
}

impl<'a> WakesHeld<'a> {
    pub(super) fn new(store: &'a Store) -> Self {
        HELD.set(Held::Yes { work: false });
        Self {
            store,
            thread: PhantomData,
        }
    }

    /// Makes durable on this thread what visits did meanwhile, if that takes no longer than a small write to a quick
    /// disk. If it might, or the store does not rest, its thread is woken as ever.
    pub fn commit(self) {
        if !self.end() {
            return;
        }
        let committer = self.store.inner.committer.as_ref();
        let here = committer.and_then(|committer| committer.try_lock());
        if !here.is_some_and(|mut committer| committer.commit_here()) {
            self.wake();
        }
    }

    /// Whether there was work.
    fn end(&self) -> bool {
        HELD.replace(Held::No) == Held::Yes { work: true }
    }

    fn wake(&self) {
        self.store.shared().gate.wake();
    }
}

impl Drop for WakesHeld<'_> {
    fn drop(&mut self) {
        if self.end() {
            self.wake();
        }
    }
}

/// Whether nobody is about to settle what is in an epoch: waiting for that is for the store thread.
pub(super) fn none_settles_soon(sources: &[Arc<dyn Source>], epoch: Epoch) -> bool {
    !sources.iter().any(|source| source.may_settle_soon(epoch))
}
