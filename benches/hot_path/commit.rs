//! The store makes a batch of records durable.

use bytes::Bytes;
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use leveret::message::Seq;
use leveret::message::op::{Op, Settle, Slice};
use leveret::message::record;
use leveret::store::{Store, StoreOptions};
use tempfile::TempDir;

use super::fixture::message;

/// Commits slices of `count` records and settles the one before, so that the store stays small.
fn commit(bencher: Bencher<'_, '_>, count: u32, no_sync: bool) {
    let dir = TempDir::new().unwrap();
    let (store, _) = Store::open(StoreOptions {
        ballast_bytes: 0,
        no_sync,
        ..StoreOptions::new(dir.path())
    })
    .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let queue = store.next_queue_id();
    let (mut first, mut before) = (1, None);
    bencher
        .counter(ItemsCount::new(count))
        .counter(BytesCount::new(slice(queue, 1, count).records.len()))
        .with_inputs(|| {
            let slice = slice(queue, first, count);
            first += Seq::from(count);
            let settle = before.replace((slice.first, slice.last));
            (slice, settle)
        })
        .bench_local_values(|(slice, settle)| {
            let visit = store.visit(0);
            let next_seq = slice.last + 1;
            visit.push(Op::Append(slice));
            visit.push(Op::Settle(Settle {
                queue,
                ranges: settle.into_iter().collect(),
                next_seq,
                delivered_upto: 0,
                counts: Vec::new(),
            }));
            let ticket = visit.ticket();
            drop(visit);
            runtime.block_on(store.wait(ticket));
        });
}

fn slice(queue: u64, first: Seq, count: u32) -> Slice {
    let mut records = Vec::new();
    let last = first + Seq::from(count) - 1;
    for seq in first..=last {
        record::encode(&mut records, seq, 0, &message(&[7; 1024], true));
    }
    Slice {
        queue,
        first,
        last,
        count,
        records: Bytes::from(records),
        bodies: Vec::new(),
    }
}

/// With the disk: one write, one sync, and the thread that waits is woken.
#[divan::bench(args = [1, 256], max_time = 1)]
fn synced(bencher: Bencher<'_, '_>, records: u32) {
    commit(bencher, records, false);
}

/// Without it: what the store itself takes.
#[divan::bench(args = [1, 256], max_time = 1)]
fn unsynced(bencher: Bencher<'_, '_>, records: u32) {
    commit(bencher, records, true);
}
