//! The intent log: small commits wait for the disk there, and come back from there.

use std::path::Path;

use super::support::*;
use crate::store::{OpenError, Step, Store, StoreByHand, StoreOptions, intent_log};

/// A store that has its intent log from the beginning on.
fn open_with_log(dir: &Path) -> Store {
    intent_log::make(dir).unwrap();
    open(dir).0
}

/// Lets a copy of the write-ahead log end after so many bytes, as a loss of power does with what was not synced.
fn cut_log(dir: &Path, bytes: u64) {
    let logs = std::fs::read_dir(dir.join("journal")).unwrap().flatten();
    let mut logs: Vec<_> = logs.map(|entry| entry.path()).collect();
    logs.retain(|path| path.extension().is_some_and(|name| name == "log"));
    let [log] = &logs[..] else { panic!("{logs:?}") };
    let file = std::fs::OpenOptions::new().write(true).open(log).unwrap();
    assert!(file.metadata().unwrap().len() > bytes);
    file.set_len(bytes).unwrap();
}

fn log_bytes(dir: &Path) -> u64 {
    let logs = std::fs::read_dir(dir.join("journal")).unwrap().flatten();
    let logs = logs.filter(|entry| entry.path().extension().is_some_and(|name| name == "log"));
    logs.map(|entry| entry.metadata().unwrap().len()).sum()
}

#[test]
fn what_the_write_ahead_log_has_lost_is_written_again() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open_with_log(dir.path());
    let queue = FakeQueue::new(&store);
    let publish = || {
        commit(&store, |visit| {
            queue.publish(visit, b"small");
        });
    };
    publish();
    let synced = log_bytes(dir.path());
    (0..20).for_each(|_| publish());
    let statistics = store.statistics();
    assert_eq!((statistics.syncs, statistics.intents), (21, 20));
    copy_dir(dir.path(), copy.path());
    cut_log(copy.path(), synced);
    for _ in 0..2 {
        let (again, recovered) = open(copy.path());
        assert_eq!(recovered.queues[&queue.id].live_count, 21);
        assert_eq!(again.durable(), store.durable());
        close(again);
    }
}

#[test]
fn what_is_behind_a_gap_counts_as_lost() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open_with_log(dir.path());
    let queue = FakeQueue::new(&store);
    let publish = |bytes: usize| {
        commit(&store, |visit| {
            queue.publish(visit, &vec![1; bytes]);
        });
        (store.durable(), log_bytes(dir.path()))
    };
    (0..5).for_each(|_| {
        publish(10);
    });
    let (found, before) = publish(10);
    publish(50_000);
    let (durable, _) = publish(10);
    copy_dir(dir.path(), copy.path());
    close(store);
    cut_log(copy.path(), before);
    let error = Store::open(options(copy.path())).map(|_| ()).unwrap_err();
    assert!(
        matches!(error, OpenError::LostEpochs { found: f, durable: d, .. } if (f, d) == (found, durable)),
        "{error}"
    );
    let accept_loss = true;
    let repaired = StoreOptions {
        accept_loss,
        ..options(copy.path())
    };
    let (store, recovered) = Store::open(repaired).unwrap();
    assert_eq!(recovered.queues[&queue.id].live_count, 7);
    close(store);
}

#[test]
fn a_long_row_of_small_commits_seldom_waits_for_the_write_ahead_log() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open_with_log(dir.path());
    let queue = FakeQueue::new(&store);
    for _ in 0..2500 {
        commit(&store, |visit| {
            queue.publish(visit, &[1; 10]);
        });
    }
    let statistics = store.statistics();
    let others = statistics.syncs - statistics.intents;
    assert!(others < 20, "{others}");
    copy_dir(dir.path(), copy.path());
    let (_, recovered) = open(copy.path());
    assert_eq!(recovered.queues[&queue.id].live_count, 2500);
}

#[test]
fn a_disk_that_refuses_the_intent_log_is_done_without() {
    let dir = tempfile::tempdir().unwrap();
    intent_log::make(dir.path()).unwrap();
    let (mut by_hand, store, _) = StoreByHand::open(options(dir.path())).unwrap();
    let queue = FakeQueue::new(&store);
    let publish = |by_hand: &mut StoreByHand| {
        queue.publish(&store.visit(0), b"small");
        while by_hand.step() != Step::Idle {}
        assert_eq!(by_hand.synced(), store.durable());
        store.statistics()
    };
    publish(&mut by_hand);
    assert_eq!(publish(&mut by_hand).intents, 1);
    by_hand.break_intent_log();
    assert_eq!(publish(&mut by_hand).intents, 1);
    let statistics = publish(&mut by_hand);
    assert_eq!((statistics.syncs, statistics.intents), (4, 1));
    drop(by_hand);
    let (_, recovered) = open(dir.path());
    assert_eq!(recovered.queues[&queue.id].live_count, 4);
}
