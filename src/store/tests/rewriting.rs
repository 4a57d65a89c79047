//! Sealing, folding, rewriting.

use super::support::*;

#[test]
fn dbg_sd() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let queue = FakeQueue::without_elision(&store);
    commit(&store, |visit| { queue.publish(visit, &[1; 16498]); });
    let copy = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), copy.path());
    close(store);
    let (store, recovered) = open(copy.path());
    println!("{recovered:?}");
    let queue = FakeQueue::recovered(queue.id, recovered.queues.get(&queue.id), false);
    commit(&store, |visit| { queue.settle(visit, 1, 1); });
    println!("{:?}", store.statistics());
    close(store);
    let (store, recovered) = open(copy.path());
    println!("{recovered:?}");
    assert_eq!(recovered.queues[&queue.id].live_count, 0);
    close(store);
}
