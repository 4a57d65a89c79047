//! The store thread: when the next epoch is committed.
//!
//! Pace: an idle store commits at once; one that found work waiting at the end of a commit not before 1 ms after the
//! last start, unless 256 KiB wait. On a disk that syncs in 0.1 ms this halves the CPU time of small commits, and
//! more is settled before it is written. What comes in answer to a commit, from a publisher that waits for each
//! confirm, does not make the store busy: waiting would gather nothing more.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Shared;
use super::commit::Committer;

/// Least time between the starts of two commits of a busy store.
const PACE: Duration = Duration::from_millis(1);

/// Commits until the store is closed, then what is left.
pub(super) fn run(committer: &Mutex<Committer>, shared: &Shared) {
    while wait(committer, shared) {
        committer.lock().commit();
    }
    while committer.lock().commit() {}
}

/// Waits until a commit is due. False when the store is being closed.
fn wait(committer: &Mutex<Committer>, shared: &Shared) -> bool {
    let gate = &shared.gate;
    while !gate.has_wake() && !committer.lock().has_work() {
        if shared.is_closing() {
            return false;
        }
        std::thread::park();
    }
    let busy_since = committer.lock().busy_since();
    if let Some(last) = busy_since {
        let due = last + PACE;
        while !gate.wants_early_commit() && !shared.is_closing() {
            let Some(left) = due
                .checked_duration_since(Instant::now())
                .filter(|left| !left.is_zero())
            else {
                break;
            };
            std::thread::park_timeout(left);
        }
    }
    gate.take_wake();
    !shared.is_closing()
}
