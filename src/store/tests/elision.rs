//! What is settled before it is written is not written, and its seqs are not given out again.

use super::support::*;

#[test]
fn a_stream_of_elided_messages_writes_one_reservation_per_million() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let queue = FakeQueue::new(&store);
    // One message stays: from now on something of the queue is on disk.
    commit(&store, |visit| {
        queue.publish(visit, b"stays");
    });
    let before = store.statistics();
    for _ in 0..300 {
        commit(&store, |visit| {
            let seq = queue.publish(visit, b"consumed at once");
            queue.settle(visit, seq, seq);
        });
    }
    let after = store.statistics();
    assert_eq!(after.epochs_written, before.epochs_written, "{after:?}");
    assert!(after.epochs >= before.epochs + 300);
    for _ in 0..2 {
        queue.skip(1 << 20);
        commit(&store, |visit| {
            let seq = queue.publish(visit, b"consumed at once");
            queue.settle(visit, seq, seq);
        });
    }
    assert_eq!(store.statistics().epochs_written, before.epochs_written + 2);
    let given_out = queue.next_seq();
    close(store);
    let (store, recovered) = open(dir.path());
    let found = &recovered.queues[&queue.id];
    assert!(found.next_seq >= given_out);
    assert_eq!((found.live_count, found.first_live), (1, 1));
    drop(store);
}

/// C5: settlements of records that were never written do not apply to those that get their numbers after a crash.
#[test]
fn a_new_record_is_never_born_settled() {
    let mut dir = tempfile::tempdir().unwrap();
    let mut id = None;
    let mut expected = Vec::new();
    for round in 0..6u64 {
        let (store, recovered) = open(dir.path());
        let id = *id.get_or_insert_with(|| store.next_queue_id());
        let queue = FakeQueue::recovered(id, recovered.queues.get(&id), true);
        commit(&store, |visit| {
            for _ in 0..10 {
                let seq = queue.publish(visit, &round.to_be_bytes());
                if seq % 2 == 0 {
                    queue.settle(visit, seq, seq);
                } else {
                    expected.push(seq);
                }
            }
        });
        // Settled later, so that it is written as settled, with seqs far beyond what was ever written.
        commit(&store, |visit| {
            if let Some(seq) = expected.pop() {
                queue.settle(visit, seq, seq + 1000);
            }
        });
        assert_eq!(live_seqs(&store, id, queue.next_seq()), expected);
        let copy = tempfile::tempdir().unwrap();
        copy_dir(dir.path(), copy.path());
        drop(store);
        dir = copy;
    }
    let (store, recovered) = open(dir.path());
    let found = &recovered.queues[&id.unwrap()];
    assert_eq!(live_seqs(&store, id.unwrap(), found.next_seq), expected);
}

#[test]
fn the_mark_of_deliveries_is_synced_once_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let queue = FakeQueue::new(&store);
    commit(&store, |visit| {
        for _ in 0..10 {
            queue.publish(visit, b"m");
        }
    });
    let before = store.statistics();
    commit(&store, |visit| queue.deliver(visit, 6));
    commit(&store, |visit| queue.deliver(visit, 6));
    let after = store.statistics();
    assert_eq!(
        (after.syncs, after.epochs_written),
        (before.syncs + 1, before.epochs_written + 1),
        "{after:?}"
    );
    close(store);
    let (store, recovered) = open(dir.path());
    assert_eq!(recovered.queues[&queue.id].delivered_upto, 6);
    drop(store);
}

#[test]
fn seqs_without_records_do_not_count() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let queue = FakeQueue::without_elision(&store);
    commit(&store, |visit| {
        for _ in 0..1000 {
            queue.publish(visit, &[1; 100]);
            queue.publish_transient(visit);
        }
        queue.skip(1_000_000_000);
        queue.publish(visit, b"far away");
    });
    // The transient ones first, then the others.
    commit(&store, |visit| {
        (1..=2000)
            .filter(|seq| seq % 2 == 0)
            .for_each(|seq| queue.settle(visit, seq, seq))
    });
    assert_eq!(live_seqs(&store, queue.id, queue.next_seq()).len(), 1001);
    commit(&store, |visit| {
        (1..=1000)
            .filter(|seq| seq % 2 == 1)
            .for_each(|seq| queue.settle(visit, seq, seq))
    });
    close(store);
    let (store, recovered) = open(dir.path());
    let found = &recovered.queues[&queue.id];
    assert_eq!((found.live_count, found.first_live), (501, 1001));
    let queue = FakeQueue::recovered(queue.id, Some(found), true);
    commit(&store, |visit| queue.settle(visit, 1, 2000));
    assert_eq!(
        live_seqs(&store, queue.id, queue.next_seq()),
        [1_000_002_001]
    );
    assert_eq!(store.statistics().rows, 1);
}
