//! Transient records that memory had no room for.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::support::*;
use crate::message::op::Slice;
use crate::message::record::{self, Body, NewMessage, SharedBody};
use crate::message::{QueueId, Seq};
use crate::store::families::WriteOnce;
use crate::store::{Store, StoreOptions};

fn slice(queue: QueueId, seqs: impl Iterator<Item = Seq>, large: bool) -> Slice {
    let mut records = Vec::new();
    let mut bodies = Vec::new();
    let (mut first, mut last, mut count) = (0, 0, 0);
    for seq in seqs {
        let body = if large {
            let shared = SharedBody {
                id: 0,
                bytes: Bytes::from(vec![seq as u8; 20_000]),
            };
            bodies.push((seq, shared.clone()));
            Body::Shared(shared)
        } else {
            Body::Inline(b"transient")
        };
        let message = NewMessage {
            exchange: b"",
            routing_key: b"",
            properties: &[0, 0],
            annotations: b"",
            body,
            persistent: false,
            priority: 0,
            expiry_ms: 0,
        };
        record::encode(&mut records, seq, 0, &message);
        if count == 0 {
            first = seq;
        }
        last = seq;
        count += 1;
    }
    Slice {
        queue,
        first,
        last,
        count,
        records: records.into(),
        bodies,
    }
}

fn spilled_rows(store: &Store) -> usize {
    let database = store.inner.shared.database.read();
    database.as_ref().unwrap().scan(WriteOnce::Spill).count()
}

#[test]
fn spilled_records_come_back_among_the_durable_ones() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let queue = FakeQueue::without_elision(&store);
    // Odd seqs are durable, even ones transient.
    for _ in 0..10 {
        commit(&store, |visit| {
            for _ in 0..50 {
                queue.publish(visit, &[1; 3000]);
                queue.publish_transient(visit);
            }
        });
    }
    for part in 0..5u64 {
        let seqs = (part * 200 + 1..=part * 200 + 200).filter(|seq| seq % 2 == 0);
        store.spill(slice(queue.id, seqs, part == 2)).unwrap();
    }
    assert_eq!(
        live_seqs(&store, queue.id, 1000),
        (1..=1000).collect::<Vec<_>>()
    );
    let mut live: BTreeSet<Seq> = (1..=1000).collect();
    for (first, last) in [(1, 7), (190, 420), (3, 3), (801, 1000), (500, 500)] {
        commit(&store, |visit| queue.settle(visit, first, last));
        live.retain(|seq| !(first..=last).contains(seq));
        assert_eq!(
            live_seqs(&store, queue.id, 1000),
            live.iter().copied().collect::<Vec<_>>()
        );
    }
    assert_eq!(
        live_seqs(&store, queue.id, 850),
        live.range(..=850).copied().collect::<Vec<_>>()
    );
    close(store);
    let (store, _) = open(dir.path());
    assert_eq!(
        spilled_rows(&store),
        0,
        "a restart forgets what is transient"
    );
    assert_eq!(
        live_seqs(&store, queue.id, 1000),
        live.iter()
            .copied()
            .filter(|seq| seq % 2 == 1)
            .collect::<Vec<_>>()
    );
}

#[test]
fn spilled_records_of_a_transient_queue_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let queue = FakeQueue::new(&store);
    store.spill(slice(queue.id, 1..=100, false)).unwrap();
    store.spill(slice(queue.id, 101..=150, true)).unwrap();
    assert_eq!(live_seqs(&store, queue.id, 150).len(), 150);
    let before = store.statistics();
    commit(&store, |visit| queue.settle(visit, 1, 120));
    assert_eq!(
        live_seqs(&store, queue.id, 150),
        (121..=150).collect::<Vec<_>>()
    );
    commit(&store, |visit| queue.settle(visit, 121, 150));
    assert_eq!((spilled_rows(&store), store.statistics().queues), (0, 0));
    store.spill(slice(queue.id, 200..=300, false)).unwrap();
    commit(&store, |visit| {
        visit.push(crate::message::op::Op::QueueDeleted { queue: queue.id });
    });
    assert_eq!((spilled_rows(&store), store.statistics().queues), (0, 0));
    assert_eq!(
        store.statistics().syncs,
        before.syncs,
        "nothing of it is worth a sync"
    );
    close(store);
    assert!(open(dir.path()).1.queues.is_empty());
}

/// Lets the store write what is left of its spilled rows anew.
fn respill(store: &Store) {
    let shared = &store.inner.shared;
    let database = shared.database.read();
    shared
        .respill(database.as_ref().unwrap(), u64::MAX)
        .unwrap();
}

fn spilled_live_bytes(store: &Store) -> u64 {
    store.inner.shared.index.read().spill_live_bytes
}

#[test]
fn what_is_left_of_spilled_rows_is_written_anew_in_fewer() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let queue = FakeQueue::new(&store);
    for part in 0..10u64 {
        let seqs = part * 100 + 1..=part * 100 + 100;
        store.spill(slice(queue.id, seqs, part == 3)).unwrap();
    }
    let kept = |seq: Seq| seq % 30 == 7 || (401..=500).contains(&seq);
    commit(&store, |visit| {
        for seq in (1..=1000).filter(|seq| !kept(*seq)) {
            queue.settle(visit, seq, seq);
        }
    });
    let live: Vec<Seq> = (1..=1000).filter(|seq| kept(*seq)).collect();
    assert!(spilled_rows(&store) >= 10);
    respill(&store);
    assert_eq!(spilled_rows(&store), 1);
    assert_eq!(live_seqs(&store, queue.id, 1000), live);
    // Once more, with some settled since.
    commit(&store, |visit| queue.settle(visit, 401, 480));
    respill(&store);
    let live: Vec<Seq> = live
        .into_iter()
        .filter(|seq| !(401..=480).contains(seq))
        .collect();
    assert_eq!(live_seqs(&store, queue.id, 1000), live);
    commit(&store, |visit| queue.settle(visit, 1, 1000));
    assert_eq!((spilled_rows(&store), spilled_live_bytes(&store)), (0, 0));
    close(store);
}

#[test]
fn what_is_settled_while_spilled_rows_are_written_anew_stays_settled() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let queue = FakeQueue::new(&store);
    for part in 0..50u64 {
        let seqs = part * 40 + 1..=part * 40 + 40;
        store.spill(slice(queue.id, seqs, false)).unwrap();
    }
    let mut live: BTreeSet<Seq> = (1..=2000).collect();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                respill(&store);
            }
        });
        let mut random = fastrand::Rng::with_seed(5);
        while live.len() > 100 {
            let chosen: Vec<Seq> = (0..40).map(|_| random.u64(1..=2000)).collect();
            commit(&store, |visit| {
                for seq in chosen {
                    if live.remove(&seq) {
                        queue.settle(visit, seq, seq);
                    }
                }
            });
            let expected: Vec<Seq> = live.iter().copied().collect();
            assert_eq!(live_seqs(&store, queue.id, 2000), expected);
        }
        commit(&store, |visit| {
            visit.push(crate::message::op::Op::QueueDeleted { queue: queue.id });
        });
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!((spilled_rows(&store), spilled_live_bytes(&store)), (0, 0));
    close(store);
}

#[test]
fn a_few_spilled_messages_that_stay_do_not_keep_the_disk() {
    const MIB: u64 = 1024 * 1024;
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(StoreOptions {
        blob_slack_bytes: 8 * MIB,
        ..options(dir.path())
    })
    .unwrap();
    let queue = FakeQueue::new(&store);
    let blob_bytes = || {
        let database = store.inner.shared.database.read();
        crate::store::cleaner::blob_bytes(database.as_ref().unwrap(), WriteOnce::Spill)
    };
    for part in 0..400u64 {
        let seqs = part * 10 + 1..=part * 10 + 10;
        store.spill(slice(queue.id, seqs, true)).unwrap();
    }
    let kept: Vec<Seq> = (1..=4000).filter(|seq| seq % 50 == 1).collect();
    commit(&store, |visit| {
        for seq in (1..=4000).filter(|seq| seq % 50 != 1) {
            queue.settle(visit, seq, seq);
        }
    });
    // Nothing more happens: the upkeep thread does it alone, a step per second.
    while blob_bytes() > 2 * kept.len() as u64 * 20_100 + 8 * MIB {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(live_seqs(&store, queue.id, 4000), kept);
    commit(&store, |visit| {
        visit.push(crate::message::op::Op::QueueDeleted { queue: queue.id });
    });
    while blob_bytes() > 8 * MIB {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    close(store);
}
