//! Figures, not checks: `cargo test --release --lib store -- --ignored throughput --nocapture`.

use std::time::Instant;

use super::support::*;
use crate::message::op::{Op, Slice};
use crate::message::record::{self, Body, NewMessage};
use crate::message::{QueueId, Seq};
use crate::store::{EPOCH_BYTES_EARLY, Store, Visit};

fn slice(queue: QueueId, first: Seq, count: u32, body: usize) -> Slice {
    let body = vec![7; body];
    let message = NewMessage {
        exchange: b"",
        routing_key: b"queue",
        properties: &[0, 0],
        annotations: b"",
        body: Body::Inline(&body),
        persistent: true,
        priority: 0,
        expiry_ms: 0,
    };
    let mut records = Vec::new();
    let last = first + u64::from(count) - 1;
    (first..=last).for_each(|seq| record::encode(&mut records, seq, 0, &message));
    Slice { queue, first, last, count, records: records.into(), bodies: Vec::new() }
}

fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn run(name: &str, store: &Store, commits: usize, bytes: usize, mut work: impl FnMut(&Visit<'_>, usize)) {
    let (start, cpu, before) = (Instant::now(), cpu_seconds(), store.statistics());
    let mut last = None;
    for number in 0..commits {
        while !store.has_room() {
            std::thread::yield_now();
        }
        let visit = store.visit(0);
        work(&visit, number);
        visit.add_pending(bytes);
        last = Some(visit.ticket());
        drop(visit);
        if bytes < EPOCH_BYTES_EARLY {
            wait(store, last.unwrap());
        }
    }
    wait(store, last.unwrap());
    let (seconds, after) = (start.elapsed().as_secs_f64(), store.statistics());
    let epochs = after.epochs_written - before.epochs_written;
    println!(
        "{name}: {:.0} commits/s, {:.1} MB/s, {:.2} cores, commit {:.0} us, longest {} us",
        epochs as f64 / seconds,
        (bytes * commits) as f64 / 1e6 / seconds,
        (cpu_seconds() - cpu) / seconds,
        (after.commit_us - before.commit_us) as f64 / epochs as f64,
        after.commit_us_max,
    );
}

#[test]
#[ignore = "a measurement"]
fn throughput_of_one_queue() {
    let dir = tempfile::tempdir_in(std::env::var("LEVERET_BENCH_DIR").unwrap_or_else(|_| "/tmp".into())).unwrap();
    let (store, _) = open(dir.path());
    let queue = store.next_queue_id();
    let mut next = 1;
    let mut append = |visit: &Visit<'_>, count: u32, body| {
        visit.push(Op::Append(slice(queue, next, count, body)));
        next += u64::from(count);
    };
    run("one record of 200 B, one at a time", &store, 3000, 200, |visit, _| append(visit, 1, 200));
    run("16 KiB, one at a time", &store, 3000, 16 * 1024, |visit, _| append(visit, 15, 1024));
    run("256 KiB of 1 KiB records", &store, 4000, 256 * 1024, |visit, _| append(visit, 237, 1024));
    run("256 KiB of 16 B records", &store, 2000, 256 * 1024, |visit, _| append(visit, 3900, 16));
    let rows = store.statistics().rows;
    let start = Instant::now();
    let live = store.load(queue, 1, next).unwrap().covered_upto;
    println!("{rows} rows; first load of {live} records: {:?}", start.elapsed());
    close(store);
    let start = Instant::now();
    let (store, recovered) = open(dir.path());
    println!("reopened in {:?}: {:?}", start.elapsed(), recovered.queues[&queue]);
    let (start, mut from, mut bytes) = (Instant::now(), 1, 0);
    while from < next {
        let loaded = store.load(queue, from, next).unwrap();
        bytes += loaded.records.len();
        from = loaded.covered_upto + 1;
    }
    println!("read back at {:.0} MB/s", bytes as f64 / 1e6 / start.elapsed().as_secs_f64());
    close(store);
}
