//! Records: one message as it stands in a chunk, in a slice and on disk.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use leveret::message::ranges::RangeSet;
use leveret::message::record;

use super::fixture::{BATCH, message, random_below};

fn encoded(body_bytes: usize) -> Vec<u8> {
    let body = vec![7; body_bytes];
    let mut out = Vec::new();
    for seq in 0..BATCH as u64 {
        record::encode(&mut out, seq, 1_000, &message(&body, true));
    }
    out
}

#[divan::bench(args = [16, 1024])]
fn encode(bencher: Bencher<'_, '_>, body_bytes: usize) {
    let body = vec![7; body_bytes];
    let mut out = Vec::with_capacity(encoded(body_bytes).len());
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        out.clear();
        for seq in 0..BATCH as u64 {
            record::encode(&mut out, seq, 1_000, black_box(&message(&body, true)));
        }
        black_box(out.len())
    });
}

#[divan::bench(args = [16, 1024])]
fn read(bencher: Bencher<'_, '_>, body_bytes: usize) {
    let bytes = encoded(body_bytes);
    bencher
        .counter(ItemsCount::new(BATCH))
        .counter(BytesCount::new(bytes.len()))
        .bench(|| {
            let records = record::records(black_box(&bytes));
            records
                .map(|record| record.seq() + record.inline_body().len() as u64)
                .sum::<u64>()
        });
}

/// What is settled at random among a million: the ranges that the store is told.
#[divan::bench]
fn settle_at_random(bencher: Bencher<'_, '_>) {
    let mut next = random_below(1_000_000);
    bencher
        .counter(ItemsCount::new(BATCH))
        .with_inputs(|| {
            let mut settled = RangeSet::new();
            (0..100_000).for_each(|_| _ = settled.insert(next() as u64));
            let more: Vec<u64> = (0..BATCH).map(|_| next() as u64).collect();
            (settled, more)
        })
        .bench_local_values(|(mut settled, more)| {
            more.into_iter().filter(|seq| settled.insert(*seq)).count()
        });
}
