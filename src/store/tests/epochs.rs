//! Cutting, gathering, order and pace.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::support::*;
use crate::message::op::Op;
use crate::message::{Epoch, Ticket};
use crate::store::{EPOCH_BYTES_MAX, Source, Store, StoreOptions, Waiter};

#[test]
fn what_was_published_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (store, recovered) = open(dir.path());
    assert!(recovered.queues.is_empty() && recovered.state.is_empty());
    let queue = FakeQueue::new(&store);
    commit(&store, |visit| {
        queue.publish(visit, b"one");
        queue.publish(visit, b"two");
        visit.push(Op::PutState {
            key: b"queue/q".to_vec(),
            value: b"durable".to_vec(),
        });
    });
    let expected = vec![(1, "one".into()), (2, "two".into())];
    assert_eq!(load_all(&store, queue.id, 2), expected);
    let identity = recovered.identity;
    close(store);
    let (store, recovered) = open(dir.path());
    assert_eq!(recovered.identity, identity);
    assert_eq!(
        recovered.state,
        [(b"queue/q".to_vec(), b"durable".to_vec())]
    );
    let found = &recovered.queues[&queue.id];
    assert_eq!(
        (found.first_live, found.live_count, found.live_bytes),
        (1, 2, 6)
    );
    assert!(found.next_seq > 2);
    assert_eq!(load_all(&store, queue.id, found.next_seq), expected);
    commit(&store, |visit| {
        visit.push(Op::DeleteState {
            key: b"queue/q".to_vec(),
        });
        visit.push(Op::QueueDeleted { queue: queue.id });
    });
    assert!(load_all(&store, queue.id, 100).is_empty());
    close(store);
    let (store, recovered) = open(dir.path());
    assert!(recovered.queues.is_empty() && recovered.state.is_empty());
    assert!(
        store.next_queue_id() > queue.id,
        "queue ids are never reused"
    );
}

#[test]
fn epochs_rise_over_restarts_and_time_does_not_go_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut last = 0;
    for round in 0..4 {
        let (store, _) = open(dir.path());
        let visit = store.visit(10_000 - round);
        assert_eq!(visit.now_ms(), 10_000);
        assert!(visit.epoch() > last);
        last = visit.epoch();
        let ticket = visit.push(Op::PutState {
            key: b"k".to_vec(),
            value: vec![round as u8],
        });
        drop(visit);
        wait(&store, ticket);
        assert!(store.durable() >= last);
        close(store);
    }
}

#[test]
fn an_epoch_without_anything_to_write_is_durable_without_a_write() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let queue = FakeQueue::new(&store);
    for _ in 0..50 {
        commit(&store, |visit| {
            let seq = queue.publish(visit, b"gone before it is written");
            queue.settle(visit, seq, seq);
        });
        // Nothing happens in this visit, but somebody waits for its epoch.
        barrier(&store);
    }
    let statistics = store.statistics();
    assert!(statistics.epochs >= 100, "{statistics:?}");
    assert_eq!(
        (statistics.epochs_written, statistics.syncs),
        (0, 0),
        "{statistics:?}"
    );
    assert_eq!(store.pending_bytes(), 0);
}

/// A source that notes when it was gathered, and has to be gathered in every epoch that it was dirty in.
struct Witness {
    gathered: Mutex<Vec<Epoch>>,
}

impl Source for Witness {
    fn gather(&self, epoch: Epoch, _: &mut Vec<Op>) {
        self.gathered.lock().push(epoch);
    }
}

#[test]
fn every_dirty_source_is_gathered_once_per_epoch_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let witnesses: Vec<_> = (0..20)
        .map(|_| {
            Arc::new(Witness {
                gathered: Mutex::default(),
            })
        })
        .collect();
    let mut dirty = Vec::new();
    for _ in 0..100 {
        let visit = store.visit(0);
        for witness in &witnesses {
            visit.mark_dirty(Arc::clone(witness) as Arc<dyn Source>);
        }
        dirty.push(visit.epoch());
        drop(visit);
        wait(&store, Ticket::local(dirty[dirty.len() - 1]));
    }
    for witness in witnesses {
        assert_eq!(*witness.gathered.lock(), dirty);
    }
}

/// C4b: a removal here and an arrival there, done in one visit, are never told apart by a crash, however the two queues
/// are gathered.
#[test]
fn a_move_between_queues_is_in_one_epoch_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let queues: Vec<_> = (0..4).map(|_| FakeQueue::new(&store)).collect();
    let stop = AtomicBool::new(false);
    let copies = tempfile::tempdir().unwrap();
    commit(&store, |visit| {
        queues[0].publish(visit, b"the only message");
    });
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut at, mut seq) = (0, 1);
            while !stop.load(Ordering::Relaxed) {
                let visit = store.visit(0);
                let next = (at + 1) % queues.len();
                let arrived = queues[next].publish(&visit, b"the only message");
                queues[at].settle(&visit, seq, seq);
                (at, seq) = (next, arrived);
                let ticket = visit.ticket();
                drop(visit);
                if seq % 8 == 0 {
                    wait(&store, ticket);
                }
            }
        });
        for _ in 0..200 {
            barrier(&store);
        }
        stop.store(true, Ordering::Relaxed);
    });
    close(store);
    let (store, recovered) = open(dir.path());
    let live: u64 = recovered
        .queues
        .values()
        .map(|queue| queue.live_count)
        .sum();
    assert_eq!(live, 1);
    drop((store, copies));
}

#[derive(Default)]
struct Counted(AtomicU64);

impl Waiter for Counted {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn every_waiter_is_woken_once() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let counted = Arc::new(Counted::default());
    let visit = store.visit(0);
    let ticket = visit.push(Op::PutState {
        key: vec![],
        value: vec![],
    });
    // More than the store thread wakes by itself.
    for _ in 0..1000 {
        store.subscribe(ticket, Arc::clone(&counted) as Arc<dyn Waiter>);
    }
    assert_eq!(
        counted.0.load(Ordering::Relaxed),
        0,
        "the visit is still open"
    );
    drop(visit);
    wait(&store, ticket);
    store.subscribe(ticket, Arc::clone(&counted) as Arc<dyn Waiter>);
    close(store);
    assert_eq!(counted.0.load(Ordering::Relaxed), 1001);
}

#[test]
fn room_comes_back_when_the_epoch_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let visit = store.visit(0);
    visit.add_pending(EPOCH_BYTES_MAX);
    assert!(!store.has_room());
    drop(visit);
    block_on(store.room());
    assert!(store.has_room());
    assert_eq!(store.pending_bytes(), 0);
}

/// Each write of the first store waits for a token, so that the test decides how long a commit takes.
#[test]
fn what_comes_during_a_commit_is_committed_together() {
    let dir = tempfile::tempdir().unwrap();
    let (tokens, wanted) = std::sync::mpsc::channel::<()>();
    let wanted = Mutex::new(wanted);
    let writes = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&writes);
    let (store, _) = Store::open(StoreOptions {
        write_hook: Some(Arc::new(move |_| {
            seen.fetch_add(1, Ordering::Relaxed);
            let _ = wanted.lock().recv();
            Ok(())
        })),
        ..options(dir.path())
    })
    .unwrap();
    let put = |key: u32| {
        store.visit(0).push(Op::PutState {
            key: key.to_be_bytes().to_vec(),
            value: vec![],
        })
    };
    put(0);
    while writes.load(Ordering::Relaxed) == 0 {
        std::thread::yield_now();
    }
    let last = (1..100)
        .map(put)
        .fold(None, |_, ticket| Some(ticket))
        .unwrap();
    assert!(!store.is_durable(last));
    tokens.send(()).unwrap();
    tokens.send(()).unwrap();
    wait(&store, last);
    assert_eq!(writes.load(Ordering::Relaxed), 2);
    drop(tokens);
}

#[test]
fn several_threads_publish_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let queues: Vec<_> = (0..8).map(|_| FakeQueue::new(&store)).collect();
    std::thread::scope(|scope| {
        for queue in &queues {
            scope.spawn(|| {
                for number in 0..200u32 {
                    commit(&store, |visit| {
                        queue.publish(visit, &number.to_be_bytes());
                    });
                }
            });
        }
    });
    for queue in &queues {
        let bodies: Vec<_> = load_all(&store, queue.id, 200)
            .into_iter()
            .map(|(_, body)| body.to_vec())
            .collect();
        assert_eq!(
            bodies,
            (0..200u32)
                .map(|number| number.to_be_bytes().to_vec())
                .collect::<Vec<_>>()
        );
    }
}

/// C3: rather a panic always than a deadlock sometimes.
#[test]
fn a_visit_within_a_visit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let refused = |work: &(dyn Fn() + std::panic::RefUnwindSafe)| {
        let visit = store.visit(0);
        let result = std::panic::catch_unwind(work);
        drop(visit);
        result.is_err()
    };
    let store_ref = std::panic::AssertUnwindSafe(&store);
    assert!(refused(&|| drop(store_ref.visit(0))));
    let store_ref = std::panic::AssertUnwindSafe(&store);
    assert!(refused(&|| wait(&store_ref, Ticket::local(1))));
    drop(store.visit(0));
    barrier(&store);
}
