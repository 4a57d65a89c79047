//! Sealing, absorbing, folding, sparse chunks.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::support::*;
use crate::message::Seq;
use crate::message::record::HEADER_BYTES;
use crate::store::row::Place;
use crate::store::{CHUNK_BYTES, SLICES_MAX, Store, StoreOptions};

/// The rows of a queue: first seq, place, live records.
fn rows(store: &Store, queue: &FakeQueue) -> Vec<(Seq, Place, u32)> {
    let index = store.inner.shared.index.read();
    let Some(queue) = index.queues.get(&queue.id) else {
        return Vec::new();
    };
    queue
        .rows()
        .iter()
        .map(|(first, row)| (*first, row.place, row.live))
        .collect()
}

/// Commits until rewriting has nothing to do.
fn settle_down(store: &Store) {
    for _ in 0..100 {
        barrier(store);
    }
}

#[test]
fn slices_are_sealed_when_there_are_many() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let queue = FakeQueue::new(&store);
    for number in 0..SLICES_MAX as u32 {
        commit(&store, |visit| {
            queue.publish(visit, &number.to_be_bytes());
        });
    }
    settle_down(&store);
    let rows_now = rows(&store, &queue);
    assert_eq!(
        rows_now.first(),
        Some(&(1, Place::Chunks, SLICES_MAX as u32)),
        "{rows_now:?}"
    );
    assert_eq!(store.statistics().tail_bytes, 0);
    let bodies: Vec<_> = load_all(&store, queue.id, 1000)
        .into_iter()
        .map(|(_, body)| body.to_vec())
        .collect();
    assert_eq!(
        bodies,
        (0..SLICES_MAX as u32)
            .map(|number| number.to_be_bytes().to_vec())
            .collect::<Vec<_>>()
    );
    close(store);
    let (store, recovered) = open(dir.path());
    assert_eq!(recovered.queues[&queue.id].live_count, SLICES_MAX as u64);
    assert_eq!(load_all(&store, queue.id, 1000).len(), SLICES_MAX);
}

#[test]
fn slices_are_sealed_when_they_fill_a_chunk() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let queue = FakeQueue::new(&store);
    let body = vec![9; 15_000];
    for _ in 0..CHUNK_BYTES / (4 * body.len()) + 1 {
        commit(&store, |visit| {
            for _ in 0..4 {
                queue.publish(visit, &body);
            }
        });
    }
    settle_down(&store);
    assert!(
        rows(&store, &queue)
            .iter()
            .any(|(_, place, _)| *place == Place::Chunks)
    );
    assert!(
        load_all(&store, queue.id, 1000)
            .iter()
            .all(|(_, found)| *found == body)
    );
}

#[test]
fn small_slices_end_up_in_large_chunks() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let queue = FakeQueue::new(&store);
    let count = 40 * SLICES_MAX as u64;
    for number in 0..count {
        let visit = store.visit(0);
        queue.publish(&visit, &number.to_be_bytes());
        let ticket = visit.ticket();
        drop(visit);
        wait(&store, ticket);
    }
    settle_down(&store);
    let rows = rows(&store, &queue);
    let chunks = rows
        .iter()
        .filter(|(_, place, _)| *place == Place::Chunks)
        .count();
    assert!(
        chunks < 10,
        "{count} slices became {chunks} chunks: {rows:?}"
    );
    assert!(
        rows.len() < 10 + SLICES_MAX,
        "{count} slices became {} rows: {rows:?}",
        rows.len()
    );
    let rewritten = store.statistics().bytes_rewritten;
    let bytes = count * (HEADER_BYTES as u64 + 12 + 48);
    assert!(
        rewritten < 12 * bytes,
        "every record is rewritten a few times: {rewritten} of {bytes}"
    );
    assert_eq!(
        live_seqs(&store, queue.id, count),
        (1..=count).collect::<Vec<_>>()
    );
}

#[test]
fn large_appends_are_chunks_at_birth_and_evenly_split() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let queue = FakeQueue::new(&store);
    commit(&store, |visit| {
        for _ in 0..500 {
            queue.publish(visit, &[1; 1000]);
        }
    });
    let rows = rows(&store, &queue);
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert!(
        rows.iter()
            .all(|(_, place, live)| *place == Place::Chunks && (240..=260).contains(live)),
        "{rows:?}"
    );
}

#[test]
fn slices_of_the_largest_queues_are_sealed_when_all_together_are_too_many() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(StoreOptions {
        tail_bytes_max: 100_000,
        ..options(dir.path())
    })
    .unwrap();
    let queues: Vec<Arc<FakeQueue>> = (0..20).map(|_| FakeQueue::new(&store)).collect();
    for (number, queue) in queues.iter().enumerate() {
        commit(&store, |visit| {
            queue.publish(visit, &vec![0; 500 * (number + 1)]);
        });
    }
    settle_down(&store);
    assert!(
        store.statistics().tail_bytes < 100_000,
        "{:?}",
        store.statistics()
    );
    assert_eq!(
        rows(&store, &queues[0])[0].1,
        Place::Tail,
        "small ones stay"
    );
    assert!(
        rows(&store, &queues[19])[0].1 == Place::Chunks
            || rows(&store, &queues[18])[0].1 == Place::Chunks
    );
    for queue in &queues {
        assert_eq!(live_seqs(&store, queue.id, 10), [1]);
    }
}

/// C2: rows that reached the tree, were rewritten and then deleted do not come back, whatever is flushed and compacted.
#[test]
fn deleted_rows_stay_deleted_after_flushes_and_compactions() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let queue = FakeQueue::without_elision(&store);
    let flush = |compact: bool| {
        let database = store.inner.shared.database.read();
        let database = database.as_ref().unwrap();
        crate::store::cleaner::flush(database).unwrap();
        if compact {
            for family in [
                crate::store::families::WriteOnce::Tail,
                crate::store::families::WriteOnce::Chunks,
            ] {
                crate::store::cleaner::compact(database, family).unwrap();
            }
        }
    };
    let mut live: BTreeMap<Seq, u8> = BTreeMap::new();
    for round in 0..200u64 {
        commit(&store, |visit| {
            for _ in 0..20 {
                live.insert(queue.publish(visit, &[round as u8; 400]), round as u8);
            }
        });
        if round % 7 == 0 {
            flush(round % 3 == 0);
        }
        commit(&store, |visit| {
            let settled: Vec<Seq> = live
                .keys()
                .copied()
                .filter(|seq| seq % 5 != round % 5 && seq % 3 != 0)
                .collect();
            for seq in settled {
                queue.settle(visit, seq, seq);
                live.remove(&seq);
            }
        });
        if round % 50 == 49 {
            commit(&store, |visit| queue.settle(visit, 1, queue.next_seq()));
            live.clear();
        }
    }
    settle_down(&store);
    let check = |store: &Store| {
        let found = load_all(store, queue.id, 10_000);
        assert_eq!(
            found.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(),
            live.keys().copied().collect::<Vec<_>>()
        );
    };
    check(&store);
    flush(true);
    check(&store);
    close(store);
    let (store, recovered) = open(dir.path());
    assert_eq!(recovered.queues[&queue.id].live_count, live.len() as u64);
    assert_eq!(
        recovered.queues[&queue.id].live_bytes,
        400 * live.len() as u64
    );
    check(&store);
}

#[test]
fn settlements_are_folded_and_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let queue = FakeQueue::without_elision(&store);
    let count: u64 = 3000;
    commit(&store, |visit| {
        for _ in 0..count {
            queue.publish(visit, &[0; 40]);
        }
    });
    // Every second one, one epoch each, from the end: as many ranges as can be.
    let settled: Vec<Seq> = (1..=count).rev().step_by(2).collect();
    for chunk in settled.chunks(5) {
        commit(&store, |visit| {
            chunk.iter().for_each(|seq| queue.settle(visit, *seq, *seq))
        });
    }
    let settled_rows = {
        let index = store.inner.shared.index.read();
        index.queues[&queue.id].settled.rows.len()
    };
    assert!(settled_rows < 200, "{settled_rows} rows for 300 epochs");
    let expected: Vec<Seq> = (1..=count).filter(|seq| seq % 2 == 1).collect();
    assert_eq!(live_seqs(&store, queue.id, count), expected);
    close(store);
    let (store, recovered) = open(dir.path());
    assert_eq!(
        recovered.queues[&queue.id].live_count,
        expected.len() as u64
    );
    assert_eq!(live_seqs(&store, queue.id, count), expected);
    // In order to the end: nothing is left but the reservation.
    commit(&store, |visit| {
        FakeQueue::recovered(queue.id, recovered.queues.get(&queue.id), true)
            .settle(visit, 1, count)
    });
    assert_eq!(store.statistics().rows, 0);
}

#[test]
fn a_sparse_chunk_is_rewritten_after_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let queue = FakeQueue::without_elision(&store);
    commit(&store, |visit| {
        for _ in 0..200 {
            queue.publish(visit, &[7; 1000]);
        }
    });
    commit(&store, |visit| {
        queue.settle(visit, 2, 99);
        queue.settle(visit, 101, 199);
    });
    let before = store.statistics();
    assert_eq!(rows(&store, &queue), [(1, Place::Chunks, 3)]);
    // The upkeep thread reminds the store of it about a second later; nothing else happens meanwhile.
    while store.statistics().bytes_rewritten == before.bytes_rewritten {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    barrier(&store);
    assert_eq!(live_seqs(&store, queue.id, 200), [1, 100, 200]);
    assert!(store.statistics().chunk_live_bytes < 4_000);
    close(store);
    let (store, recovered) = open(dir.path());
    let found = &recovered.queues[&queue.id];
    assert_eq!(
        (found.live_count, found.live_bytes, found.first_live),
        (3, 3000, 1)
    );
    assert_eq!(live_seqs(&store, queue.id, 200), [1, 100, 200]);
}
