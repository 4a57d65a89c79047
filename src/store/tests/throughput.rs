//! Figures, not checks: `cargo test --release --lib store -- --ignored throughput --nocapture`.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::support::*;
use crate::message::op::{Op, Settle, Slice};
use crate::message::record::{self, Body, NewMessage};
use crate::message::{QueueId, Seq};
use crate::store::{EPOCH_BYTES_EARLY, Store, Visit};

/// Records that look alike, with rising seqs.
struct Template {
    records: Vec<u8>,
    count: u32,
}

impl Template {
    fn new(count: u32, body: usize) -> Self {
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
        (0..count).for_each(|_| record::encode(&mut records, 0, 0, &message));
        Self { records, count }
    }

    /// The next slice. Only the seqs are changed, so that little but the store is measured.
    fn slice(&mut self, queue: QueueId, next: &mut Seq) -> Slice {
        let first = *next;
        let length = self.records.len() / self.count as usize;
        for record in self.records.chunks_exact_mut(length) {
            record[8..16].copy_from_slice(&next.to_le_bytes());
            *next += 1;
        }
        let records = Bytes::copy_from_slice(&self.records);
        Slice {
            queue,
            first,
            last: *next - 1,
            count: self.count,
            records,
            bodies: Vec::new(),
        }
    }
}

fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn run(name: &str, store: &Store, commits: usize, bytes: usize, mut work: impl FnMut(&Visit<'_>)) {
    let (start, cpu, before) = (Instant::now(), cpu_seconds(), store.statistics());
    let mut last = None;
    for _ in 0..commits {
        while store.pending_bytes() > 2 * EPOCH_BYTES_EARLY {
            std::thread::park_timeout(Duration::from_micros(50));
        }
        let visit = store.visit(0);
        work(&visit);
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

/// What the disk does at this moment: appends of the same size, each synced.
fn floor(dir: &Path, bytes: usize, writes: usize) {
    let mut file = std::fs::File::create(dir.join("floor")).unwrap();
    let block = vec![7; bytes];
    let start = Instant::now();
    for _ in 0..writes {
        file.write_all(&block).unwrap();
        file.sync_data().unwrap();
    }
    let seconds = start.elapsed().as_secs_f64();
    let (rate, mb) = (
        writes as f64 / seconds,
        (bytes * writes) as f64 / 1e6 / seconds,
    );
    println!("the disk alone, {bytes} bytes: {rate:.0} writes/s, {mb:.1} MB/s");
}

#[test]
#[ignore = "a measurement"]
fn throughput_of_one_queue() {
    let dir =
        tempfile::tempdir_in(std::env::var("LEVERET_BENCH_DIR").unwrap_or_else(|_| "/tmp".into()))
            .unwrap();
    let (store, _) = open(dir.path());
    let queue = store.next_queue_id();
    let mut next = 1;
    floor(dir.path(), 256 * 1024, 1000);
    let mut measure = |name, commits, count, body| {
        let mut template = Template::new(count, body);
        let bytes = template.records.len();
        run(name, &store, commits, bytes, |visit| {
            visit.push(Op::Append(template.slice(queue, &mut next)));
        });
    };
    measure("one record of 200 B, one at a time", 3000, 1, 200);
    measure("16 KiB, one at a time", 3000, 15, 1024);
    measure("256 KiB of 1 KiB records", 6000, 240, 1024);
    floor(dir.path(), 256 * 1024, 1000);
    measure("256 KiB of 16 B records", 6000, 3900, 16);
    let rows = store.statistics().rows;
    let start = Instant::now();
    let live = store.load(queue, 1, next).unwrap().covered_upto;
    println!(
        "{rows} rows; first load of {live} records: {:?}",
        start.elapsed()
    );
    close(store);
    let start = Instant::now();
    let (store, recovered) = open(dir.path());
    println!(
        "reopened in {:?}: {:?}",
        start.elapsed(),
        recovered.queues[&queue]
    );
    let (start, mut from, mut bytes) = (Instant::now(), 1, 0);
    while from < next {
        let loaded = store.load(queue, from, next).unwrap();
        bytes += loaded.records.len();
        from = loaded.covered_upto + 1;
    }
    println!(
        "read back at {:.0} MB/s",
        bytes as f64 / 1e6 / start.elapsed().as_secs_f64()
    );
    close(store);
}

#[test]
#[ignore = "a measurement"]
fn an_idle_store_uses_no_cpu() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let queue = FakeQueue::new(&store);
    for _ in 0..2000 {
        commit(&store, |visit| {
            let seq = queue.publish(visit, &[1; 1000]);
            if seq > 10 {
                queue.settle(visit, seq - 10, seq - 10);
            }
        });
    }
    std::thread::sleep(Duration::from_secs(5));
    let before = cpu_seconds();
    std::thread::sleep(Duration::from_secs(10));
    println!("CPU in 10 s: {:.2} s", cpu_seconds() - before);
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        / 1024
}

#[test]
#[ignore = "a measurement"]
fn a_deep_queue_takes_little_memory() {
    let dir =
        tempfile::tempdir_in(std::env::var("LEVERET_BENCH_DIR").unwrap_or_else(|_| "/tmp".into()))
            .unwrap();
    let (store, _) = open(dir.path());
    let queue = store.next_queue_id();
    let (mut next, mut template) = (1, Template::new(240, 1024));
    let bytes = template.records.len();
    let before = resident_mib();
    run(
        "2 million of 1 KiB",
        &store,
        2_000_000 / 240,
        bytes,
        |visit| {
            visit.push(Op::Append(template.slice(queue, &mut next)));
        },
    );
    println!(
        "resident {} MiB, {before} before; {:?}",
        resident_mib(),
        store.statistics()
    );
    close(store);
    let start = Instant::now();
    let (store, recovered) = open(dir.path());
    println!(
        "opened in {:?}, {} messages, resident {} MiB",
        start.elapsed(),
        recovered.queues[&queue].live_count,
        resident_mib()
    );
    // Consumed at the head and filled at the tail.
    let mut head = 1;
    run(
        "half of it consumed while as much arrives",
        &store,
        1_000_000 / 240,
        bytes,
        |visit| {
            visit.push(Op::Append(template.slice(queue, &mut next)));
            let settle = Settle {
                queue,
                ranges: vec![(head, head + 239)],
                next_seq: next,
                delivered_upto: head + 240,
                counts: Vec::new(),
            };
            visit.push(Op::Settle(settle));
            head += 240;
        },
    );
    println!("resident {} MiB; {:?}", resident_mib(), store.statistics());
    close(store);
}
