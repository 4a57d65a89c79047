//! Delivery counts of messages that came back: exact after a start, and forgotten with their message.

use super::support::*;
use crate::store::families::WriteOnce;

#[test]
fn counts_survive_restarts_and_snapshots_and_go_with_their_message() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let queue = FakeQueue::without_elision(&store);
    commit(&store, |visit| {
        (0..1000).for_each(|_| {
            queue.publish(visit, b"comes back");
        });
    });
    for round in 1..=200u32 {
        commit(&store, |visit| {
            (1..=10).for_each(|nth| queue.came_back(visit, nth * 100 - 50, round));
        });
        if round == 100 {
            commit(&store, |visit| queue.settle(visit, 1, 500));
        }
    }
    let settled_rows = {
        let database = store.inner.shared.database.read();
        database.as_ref().unwrap().scan(WriteOnce::Settled).count()
    };
    assert!(settled_rows < 100, "{settled_rows} rows are left of 201");
    close(store);
    let (store, recovered) = open(dir.path());
    let counts = recovered.queues[&queue.id].counts.iter();
    let counts: Vec<_> = counts
        .map(|(seq, counts)| (*seq, counts.delivered, counts.acquired))
        .collect();
    let expected = [550, 650, 750, 850, 950].map(|seq| (seq, 200, 201));
    assert_eq!(counts, expected);
    let queue = FakeQueue::recovered(queue.id, recovered.queues.get(&queue.id), true);
    commit(&store, |visit| queue.settle(visit, 501, 900));
    close(store);
    let (_, recovered) = open(dir.path());
    let counts = &recovered.queues[&queue.id].counts;
    assert_eq!(counts.keys().copied().collect::<Vec<_>>(), [950]);
}

#[test]
fn counts_of_a_message_that_arrived_in_the_same_epoch_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let queue = FakeQueue::new(&store);
    commit(&store, |visit| {
        let seq = queue.publish(visit, b"returned at once");
        queue.came_back(visit, seq, 1);
        let gone = queue.publish(visit, b"returned, then acknowledged");
        queue.came_back(visit, gone, 1);
        queue.settle(visit, gone, gone);
    });
    close(store);
    let (_, recovered) = open(dir.path());
    let counts = &recovered.queues[&queue.id].counts;
    assert_eq!(counts.keys().copied().collect::<Vec<_>>(), [1]);
}
