//! Commits on the thread that brought the work.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::support::*;
use crate::message::Ticket;
use crate::store::{Store, intent_log};

/// A store whose disk counts as quick, at rest.
fn open_quick(dir: &Path) -> Store {
    intent_log::make(dir).unwrap();
    let store = open(dir).0;
    barrier(&store);
    believe_in_quick_disk(&store);
    store
}

fn believe_in_quick_disk(store: &Store) {
    let committer = store.inner.committer.as_ref().unwrap();
    committer.lock().believe_in_disk(Duration::ZERO);
}

/// Waits until the store thread has nothing to do any more.
fn rest(store: &Store) {
    while store.shared().gate.has_wake() || store.inner.committer.as_ref().unwrap().is_locked() {
        std::thread::yield_now();
    }
}

fn publish(store: &Store, queue: &Arc<FakeQueue>, body: &[u8]) -> Ticket {
    let visit = store.visit(1_000);
    queue.publish(&visit, body);
    visit.ticket()
}

#[test]
fn small_work_is_committed_on_the_thread_that_brought_it() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open_quick(dir.path());
    let queue = FakeQueue::new(&store);
    for _ in 0..200 {
        believe_in_quick_disk(&store);
        let held = store.hold_wakes();
        let ticket = publish(&store, &queue, b"small");
        held.commit();
        // It seals what 64 commits have written, and may be at it when the next one comes.
        wait(&store, ticket);
    }
    let here = store.statistics().committed_here;
    assert!((100..=200).contains(&here), "{here}");
    copy_dir(dir.path(), copy.path());
    let (_, recovered) = open(copy.path());
    assert_eq!(recovered.queues[&queue.id].live_count, 200);
}

#[test]
fn it_is_durable_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_quick(dir.path());
    let queue = FakeQueue::new(&store);
    rest(&store);
    let held = store.hold_wakes();
    let ticket = publish(&store, &queue, b"small");
    assert!(!store.is_durable(ticket), "nobody was told of it");
    held.commit();
    assert!(store.is_durable(ticket));
    assert_eq!(store.statistics().committed_here, 1);
}

#[test]
fn work_that_nobody_commits_is_left_to_the_store_thread() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_quick(dir.path());
    let queue = FakeQueue::new(&store);
    let held = store.hold_wakes();
    let ticket = publish(&store, &queue, b"small");
    drop(held);
    wait(&store, ticket);
    wait(&store, publish(&store, &queue, b"no longer held"));
    assert_eq!(store.statistics().committed_here, 0);
}

#[test]
fn work_that_takes_long_is_left_to_the_store_thread() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_quick(dir.path());
    let queue = FakeQueue::new(&store);
    let commit = |count: usize| {
        rest(&store);
        let held = store.hold_wakes();
        let publish = |_| publish(&store, &queue, &[1; 1000]);
        let tickets: Vec<_> = (0..count).map(publish).collect();
        held.commit();
        wait(&store, tickets[count - 1]);
        store.statistics().committed_here
    };
    assert_eq!(commit(17), 0, "more bytes than one write takes");
    believe_in_quick_disk(&store);
    assert_eq!(commit(1), 1);
    let committer = store.inner.committer.as_ref().unwrap();
    committer.lock().believe_in_disk(Duration::from_millis(10));
    assert_eq!(commit(1), 1, "the disk has become slow");
}

#[test]
fn nothing_is_committed_here_once_the_store_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_quick(dir.path());
    let queue = FakeQueue::new(&store);
    close(store.clone());
    let held = store.hold_wakes();
    let ticket = publish(&store, &queue, b"late");
    held.commit();
    assert!(!store.is_durable(ticket));
}
