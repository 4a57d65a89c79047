//! Large bodies: stored once, counted, removed with the last reference.

use bytes::Bytes;

use super::support::*;
use crate::message::record::{Body, SharedBody};
use crate::store::families::WriteOnce;
use crate::store::{BODY_PART_BYTES, Store};

/// Rows in family `bodies`.
fn body_rows(store: &Store) -> usize {
    let database = store.inner.shared.database.read();
    database.as_ref().unwrap().scan(WriteOnce::Bodies).count()
}

fn shared(store: &Store, bytes: usize) -> SharedBody {
    SharedBody {
        id: store.next_body_id(),
        bytes: Bytes::from(vec![5; bytes]),
    }
}

#[test]
fn a_body_for_several_queues_is_stored_once_and_goes_with_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let queues: Vec<_> = (0..5).map(|_| FakeQueue::new(&store)).collect();
    let body = shared(&store, BODY_PART_BYTES * 2 + 100);
    commit(&store, |visit| {
        for queue in &queues {
            queue.publish_body(visit, Body::Shared(body.clone()));
        }
    });
    assert_eq!((body_rows(&store), store.statistics().bodies), (3, 1));
    assert!(store.statistics().bytes_written < 3 * BODY_PART_BYTES as u64);
    let loaded = store.load(queues[3].id, 1, 1).unwrap();
    assert_eq!(
        (
            loaded.bodies[0].1.id,
            loaded.bodies[0].1.bytes == body.bytes
        ),
        (body.id, true)
    );
    commit(&store, |visit| {
        queues[..4]
            .iter()
            .for_each(|queue| queue.settle(visit, 1, 1))
    });
    close(store);
    let (store, recovered) = open(dir.path());
    assert_eq!((body_rows(&store), store.statistics().bodies), (3, 1));
    let last = FakeQueue::recovered(queues[4].id, recovered.queues.get(&queues[4].id), true);
    assert_eq!(load_all(&store, last.id, 1), [(1, body.bytes.clone())]);
    assert!(store.next_body_id() > body.id);
    commit(&store, |visit| last.settle(visit, 1, 1));
    assert_eq!((body_rows(&store), store.statistics().bodies), (0, 0));
}

#[test]
fn a_moved_body_is_not_written_again_and_one_that_comes_back_is() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (from, to) = (
        FakeQueue::without_elision(&store),
        FakeQueue::without_elision(&store),
    );
    let body = shared(&store, 100_000);
    commit(&store, |visit| {
        from.publish_body(visit, Body::Shared(body.clone()));
    });
    let before = store.statistics().bytes_written;
    commit(&store, |visit| {
        to.publish_body(visit, Body::Shared(body.clone()));
        from.settle(visit, 1, 1);
    });
    assert!(store.statistics().bytes_written - before < 1000);
    commit(&store, |visit| to.settle(visit, 1, 1));
    assert_eq!(body_rows(&store), 0);
    // A transient queue had it all the time and dead-letters it now.
    commit(&store, |visit| {
        from.publish_body(visit, Body::Shared(body.clone()));
    });
    assert_eq!(load_all(&store, from.id, 2), [(2, body.bytes)]);
    commit(&store, |visit| {
        visit.push(crate::message::op::Op::QueueDeleted { queue: from.id });
    });
    assert_eq!(body_rows(&store), 0);
}

#[test]
fn a_body_for_one_queue_is_in_its_row_or_in_parts() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let queue = FakeQueue::new(&store);
    let sizes = [16_384, 300_000, BODY_PART_BYTES, 20 * BODY_PART_BYTES + 1];
    for size in sizes {
        commit(&store, |visit| {
            queue.publish_body(
                visit,
                Body::Shared(SharedBody {
                    id: 0,
                    bytes: Bytes::from(vec![size as u8; size]),
                }),
            );
        });
    }
    assert_eq!((body_rows(&store), store.statistics().bodies), (1 + 21, 2));
    let found = load_all(&store, queue.id, 10);
    assert_eq!(
        found.iter().map(|(_, body)| body.len()).collect::<Vec<_>>(),
        sizes
    );
    assert!(
        found
            .iter()
            .all(|(_, body)| body.iter().all(|byte| *byte == body.len() as u8))
    );
    close(store);
    let (store, recovered) = open(dir.path());
    assert_eq!(
        recovered.queues[&queue.id].live_bytes,
        sizes.iter().sum::<usize>() as u64
    );
    let queue = FakeQueue::recovered(queue.id, recovered.queues.get(&queue.id), true);
    commit(&store, |visit| queue.settle(visit, 1, 4));
    assert_eq!((body_rows(&store), store.statistics().rows), (0, 0));
}

/// Bodies are written ahead of a large epoch. Without the epoch they belong to nothing.
#[test]
fn bodies_that_a_crash_leaves_behind_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let image = tempfile::tempdir().unwrap();
    let path = (dir.path().to_path_buf(), image.path().to_path_buf());
    let writes = std::sync::atomic::AtomicU32::new(0);
    // The second write of the epoch is the epoch itself: at that moment only bodies are there.
    let hook = move |_| {
        if writes.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 1 {
            copy_dir(&path.0, &path.1);
        }
        Ok(())
    };
    let options = crate::store::StoreOptions {
        write_hook: Some(std::sync::Arc::new(hook)),
        ..options(dir.path())
    };
    let (store, _) = Store::open(options).unwrap();
    let queue = FakeQueue::new(&store);
    commit(&store, |visit| {
        let body = SharedBody {
            id: 0,
            bytes: Bytes::from(vec![1; 10 * BODY_PART_BYTES]),
        };
        queue.publish_body(visit, Body::Shared(body));
    });
    assert_eq!(body_rows(&store), 10);
    close(store);
    let (store, recovered) = open(image.path());
    assert!(recovered.queues.is_empty());
    assert_eq!(body_rows(&store), 0);
}
