//! Disk usage stays in proportion to what is live.

use super::support::*;
use crate::store::families::WriteOnce;
use crate::store::{Store, StoreOptions};

const MIB: u64 = 1024 * 1024;

fn blob_bytes(store: &Store) -> u64 {
    let database = store.inner.shared.database.read();
    crate::store::cleaner::blob_bytes(database.as_ref().unwrap(), WriteOnce::Chunks)
}

/// C1: a few messages in each file would keep all files.
#[test]
fn a_few_messages_that_stay_do_not_keep_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(StoreOptions {
        blob_slack_bytes: 8 * MIB,
        ..options(dir.path())
    })
    .unwrap();
    let queue = FakeQueue::without_elision(&store);
    let body = vec![3; 10_000];
    let mut kept = Vec::new();
    for round in 0..400u64 {
        commit(&store, |visit| {
            for number in 0..25 {
                let seq = queue.publish(visit, &body);
                // One chunk in twenty stays whole, so that only its file is a reason to rewrite it.
                if round % 20 == 0 || number == 0 && round % 7 == 0 {
                    kept.push(seq);
                }
            }
        });
        commit(&store, |visit| {
            let next = queue.next_seq();
            (next - 25..next)
                .filter(|seq| kept.binary_search(seq).is_err())
                .for_each(|seq| queue.settle(visit, seq, seq));
        });
    }
    let live = kept.len() as u64 * 10_100;
    let limit = 2 * live + 8 * MIB;
    // Nothing more happens in the queue: the upkeep thread does it alone, a step per second.
    while blob_bytes(&store) > limit {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let statistics = store.statistics();
    assert!(statistics.chunk_live_bytes <= live + MIB, "{statistics:?}");
    assert!(
        statistics.bytes_rewritten < 4 * live + 20 * MIB,
        "{statistics:?}"
    );
    assert_eq!(live_seqs(&store, queue.id, queue.next_seq()), kept);
    close(store);
    let (store, recovered) = open(dir.path());
    assert_eq!(recovered.queues[&queue.id].live_count, kept.len() as u64);
    assert_eq!(live_seqs(&store, queue.id, queue.next_seq()), kept);
}
