//! Transient records that memory had no room for.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::support::*;
use crate::message::op::Slice;
use crate::message::record::{self, Body, NewMessage, SharedBody};
use crate::message::{QueueId, Seq};
use crate::store::Store;

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
    database
        .as_ref()
        .unwrap()
        .scan(crate::store::families::WriteOnce::Spill)
        .count()
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
