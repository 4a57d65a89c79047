//! Opening: versions, identity, locks, lost epochs, unknown queues.

use std::collections::HashSet;

use super::support::*;
use crate::message::lane_id;
use crate::message::op::Op;
use crate::store::families::Database;
use crate::store::keys::state;
use crate::store::recovery::FORMAT;
use crate::store::{Identity, OpenError, Store, StoreOptions};

fn change_state(dir: &std::path::Path, key: &[u8], value: &[u8]) {
    let database = Database::open(&dir.join("journal")).unwrap();
    database.db().put_cf(database.state(), key, value).unwrap();
}

#[test]
fn a_newer_format_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    close(open(dir.path()).0);
    let format = |found: u32, reader: u32| [found.to_le_bytes(), reader.to_le_bytes()].concat();
    change_state(dir.path(), state::FORMAT, &format(9, 1));
    close(open(dir.path()).0);
    change_state(dir.path(), state::FORMAT, &format(9, 8));
    let error = Store::open(options(dir.path())).map(|_| ()).unwrap_err();
    assert!(
        matches!(
            error,
            OpenError::NewerFormat {
                found: 9,
                reader: 8,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_look_finds_what_is_committed_and_leaves_everything_to_the_owner() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    assert_eq!(Store::look(&path).unwrap(), None);
    assert!(!path.exists());
    let (store, _) = open(&path);
    assert_eq!(Store::look(&path).unwrap(), Some(Vec::new()));
    let row = |key: &str| (key.as_bytes().to_vec(), b"value".to_vec());
    let put = |key: &str| {
        let (key, value) = row(key);
        let ticket = store.visit(0).push(Op::PutState { key, value });
        wait(&store, ticket);
    };
    put("a");
    assert_eq!(Store::look(&path).unwrap(), Some(vec![row("a")]));
    put("b");
    assert_eq!(Store::look(&path).unwrap(), Some(vec![row("a"), row("b")]));
    close(store);
    assert_eq!(Store::look(&path).unwrap(), Some(vec![row("a"), row("b")]));
    assert_eq!(open(&path).1.state, [row("a"), row("b")]);
}

#[test]
fn a_directory_of_the_first_format_is_raised_to_this_one() {
    let dir = tempfile::tempdir().unwrap();
    close(open(dir.path()).0);
    let format = |version: u32| [version.to_le_bytes(); 2].concat();
    change_state(dir.path(), state::FORMAT, &format(1));
    close(open(dir.path()).0);
    let database = Database::open(&dir.path().join("journal")).unwrap();
    let found = database.db().get_cf(database.state(), state::FORMAT);
    assert_eq!(found.unwrap(), Some(format(FORMAT)));
}

#[test]
fn the_identity_is_given_once() {
    let dir = tempfile::tempdir().unwrap();
    let identity = |byte| {
        Some(Identity {
            cluster: [byte; 16],
            node: [byte + 1; 16],
        })
    };
    for byte in [1, 7] {
        let (store, recovered) = Store::open(StoreOptions {
            identity: identity(byte),
            ..options(dir.path())
        })
        .unwrap();
        assert_eq!(recovered.identity, identity(1));
        close(store);
    }
}

#[test]
fn a_directory_has_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let error = Store::open(options(dir.path())).map(|_| ()).unwrap_err();
    assert!(
        matches!(error, OpenError::InUse { owner: Some(pid), .. } if pid == std::process::id()),
        "{error}"
    );
    close(store);
    close(open(dir.path()).0);
}

/// C8: RocksDB opens with a write-ahead log that is damaged in the middle, and with what comes before.
#[test]
fn lost_epochs_stop_the_start_until_the_loss_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let queue = FakeQueue::new(&store);
    for _ in 0..200 {
        // Too large for the intent log, which would have them too.
        commit(&store, |visit| {
            queue.publish(visit, &[1; 40_000]);
        });
    }
    let last = store.durable();
    close(store);
    let log = std::fs::read_dir(dir.path().join("journal"))
        .unwrap()
        .flatten();
    let log = log
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|name| name == "log"));
    let log = log
        .max_by_key(|path| path.metadata().unwrap().len())
        .unwrap();
    let mut bytes = std::fs::read(&log).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 8].copy_from_slice(&[0x55; 8]);
    std::fs::write(&log, bytes).unwrap();
    let copy = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), copy.path());
    for _ in 0..2 {
        let error = Store::open(options(dir.path())).map(|_| ()).unwrap_err();
        let OpenError::LostEpochs { found, durable, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(durable, last);
        assert!((50..190).contains(&found), "{found}");
    }
    let (store, recovered) = Store::open(StoreOptions {
        accept_loss: true,
        ..options(dir.path())
    })
    .unwrap();
    let left = recovered.queues[&queue.id].live_count;
    assert!((50..190).contains(&left), "{left}");
    assert!(store.visit(0).epoch() > last, "epochs are never used twice");
    close(store);
    close(open(dir.path()).0);
}

#[test]
fn rows_of_unknown_queues_are_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let queues: Vec<_> = (0..10).map(|_| FakeQueue::new(&store)).collect();
    commit(&store, |visit| {
        queues.iter().for_each(|queue| {
            queue.publish(visit, &vec![0; 70_000]);
        })
    });
    close(store);
    let (store, recovered) = open(dir.path());
    assert_eq!(recovered.queues.len(), 10);
    let known: HashSet<_> = queues.iter().take(4).map(|queue| queue.id).collect();
    wait(&store, store.forget_unknown(&known, 0));
    assert!(store.is_durable(store.forget_unknown(&known, 0)));
    close(store);
    let (store, recovered) = open(dir.path());
    assert_eq!(recovered.queues.into_keys().collect::<HashSet<_>>(), known);
    assert_eq!(store.statistics().rows, 4);
}

#[test]
fn a_known_queue_keeps_its_lanes_and_an_unknown_one_loses_them() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let bases = [store.next_queue_id(), store.next_queue_id()];
    let lanes: Vec<_> = bases
        .into_iter()
        .flat_map(|base| [lane_id(base, 0), lane_id(base, 3), lane_id(base, u16::MAX)])
        .collect();
    commit(&store, |visit| {
        for lane in &lanes {
            FakeQueue::recovered(*lane, None, true).publish(visit, b"in a lane");
        }
    });
    wait(&store, store.forget_unknown(&[bases[0]].into(), 0));
    close(store);
    let (store, recovered) = open(dir.path());
    let left: HashSet<_> = recovered.queues.into_keys().collect();
    assert_eq!(left, lanes[..3].iter().copied().collect());
    for lane in &lanes[..3] {
        assert_eq!(live_seqs(&store, *lane, 9), [1]);
    }
}

#[test]
fn a_queue_with_very_many_rows_is_deleted_as_a_range() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (queue, other) = (FakeQueue::new(&store), FakeQueue::new(&store));
    // A chunk each, since the body stands beside the record and fills it.
    commit(&store, |visit| {
        for _ in 0..10_100 {
            queue.publish(visit, &[0; 9]);
        }
        other.publish(visit, b"stays");
    });
    {
        // As many rows as messages, without writing gigabytes: split what was written.
        let mut index = store.inner.shared.index.write();
        let found = index.queues.get_mut(&queue.id).unwrap();
        assert!(found.rows().len() < 10);
        found.pretend_rows(20_000);
    }
    commit(&store, |visit| {
        visit.push(Op::QueueDeleted { queue: queue.id });
    });
    close(store);
    let (store, recovered) = open(dir.path());
    assert_eq!(recovered.queues.into_keys().collect::<Vec<_>>(), [other.id]);
    assert_eq!(live_seqs(&store, other.id, 10), [1]);
}

/// Where some families are flushed and the log before that is damaged, RocksDB itself refuses.
#[test]
fn a_journal_that_is_ahead_of_its_damaged_log_can_be_salvaged() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let queue = FakeQueue::new(&store);
    let publish = |body: usize| {
        commit(&store, |visit| {
            for _ in 0..10 {
                queue.publish(visit, &vec![1; body]);
            }
        });
    };
    (0..50).for_each(|_| publish(100));
    (0..5).for_each(|_| publish(10_000));
    {
        let database = store.inner.shared.database.read();
        let database = database.as_ref().unwrap();
        // Only the index: its rows will be there without the chunks.
        database
            .db()
            .flush_cf(database.family(crate::store::families::WriteOnce::Index))
            .unwrap();
    }
    (0..50).for_each(|_| publish(100));
    close(store);
    let logs = std::fs::read_dir(dir.path().join("journal"))
        .unwrap()
        .flatten()
        .map(|entry| entry.path());
    let mut logs: Vec<_> = logs
        .filter(|path| path.extension().is_some_and(|name| name == "log"))
        .collect();
    logs.sort();
    let mut bytes = std::fs::read(&logs[0]).unwrap();
    let at = bytes.len() / 3;
    bytes[at..at + 8].copy_from_slice(&[0x55; 8]);
    std::fs::write(&logs[0], bytes).unwrap();
    let error = Store::open(options(dir.path())).map(|_| ()).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    let (store, recovered) = Store::open(StoreOptions {
        accept_loss: true,
        ..options(dir.path())
    })
    .unwrap();
    let found = &recovered.queues[&queue.id];
    let live = live_seqs(&store, queue.id, found.next_seq);
    assert_eq!(live.len() as u64, found.live_count);
    assert!(live.len() > 100 && live.len() < 1050, "{}", live.len());
    close(store);
    let (store, recovered) = open(dir.path());
    assert_eq!(recovered.queues[&queue.id].live_count, live.len() as u64);
    close(store);
}
