//! What is due at a time: written, read by page, removed, counted over restarts.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use proptest::prelude::*;

use super::support::*;
use crate::message::op::{DueRecord, Op};
use crate::message::record::SharedBody;
use crate::message::{QueueId, Seq};
use crate::store::families::WriteOnce;
use crate::store::{DueEntry, Store, StoreOptions};

type Key = (u64, Seq);

fn put(owner: QueueId, (time_ms, seq): Key, record: &[u8]) -> Op {
    Op::PutDue(DueRecord {
        owner,
        time_ms,
        seq,
        record: Bytes::copy_from_slice(record),
        body: None,
    })
}

fn remove(owner: QueueId, (time_ms, seq): Key) -> Op {
    Op::RemoveDue {
        owner,
        time_ms,
        seq,
    }
}

fn push(store: &Store, ops: impl IntoIterator<Item = Op>) {
    commit(store, |visit| {
        for op in ops {
            visit.push(op);
        }
    });
}

/// Everything from `from` on, read in pages of `count` rows.
fn read_all(store: &Store, owner: QueueId, mut from: Key, count: usize) -> Vec<DueEntry> {
    let mut all = Vec::new();
    loop {
        let page = store.due(owner, from, count, 1 << 20).unwrap();
        assert!(page.entries.len() <= count);
        assert!(!page.more || !page.entries.is_empty());
        if let Some(last) = page.entries.last() {
            from = (last.time_ms, last.seq + 1);
        }
        all.extend(page.entries);
        if !page.more {
            return all;
        }
    }
}

fn keys(entries: &[DueEntry]) -> Vec<Key> {
    entries
        .iter()
        .map(|entry| (entry.time_ms, entry.seq))
        .collect()
}

#[test]
fn rows_are_read_in_order_of_time_from_any_place_on() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let (owner, other) = (store.next_queue_id(), store.next_queue_id());
    push(
        &store,
        [(300, 1), (100, 2), (100, 3), (u64::MAX, 4), (200, 5)]
            .map(|key| put(owner, key, &key.1.to_le_bytes())),
    );
    push(&store, [put(other, (1, 1), b""), put(other, (500, 2), b"")]);
    let order = [(100, 2), (100, 3), (200, 5), (300, 1), (u64::MAX, 4)];
    for count in 1..7 {
        let all = read_all(&store, owner, (0, 0), count);
        assert_eq!(keys(&all), order);
        assert!(
            all.iter()
                .all(|entry| entry.record[..] == entry.seq.to_le_bytes())
        );
    }
    assert_eq!(keys(&read_all(&store, owner, (100, 3), 9)), order[1..]);
    assert_eq!(keys(&read_all(&store, owner, (300, 2), 9)), order[4..]);
    push(
        &store,
        [remove(owner, (100, 3)), remove(owner, (u64::MAX, 4))],
    );
    let left = [(100, 2), (200, 5), (300, 1)];
    assert_eq!(keys(&read_all(&store, owner, (0, 0), 9)), left);
    assert_eq!(
        keys(&read_all(&store, other, (0, 0), 9)),
        [(1, 1), (500, 2)]
    );
    assert_eq!(store.statistics().due, 5);
}

#[test]
fn marks_records_and_bodies_come_back_and_pages_are_bounded_by_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let owner = store.next_queue_id();
    let body = |byte: u8| SharedBody {
        id: u64::from(byte),
        bytes: vec![byte; 300_000].into(),
    };
    let with_body = |seq, record: &'static [u8]| {
        Op::PutDue(DueRecord {
            owner,
            time_ms: 10,
            seq,
            record: Bytes::from_static(record),
            body: Some(body(seq as u8)),
        })
    };
    push(
        &store,
        [
            put(owner, (5, 9), b""),
            with_body(1, b"one"),
            with_body(2, b""),
            with_body(3, b"three"),
        ],
    );
    close(store);
    let (store, _) = open(dir.path());
    let all = read_all(&store, owner, (0, 0), 100);
    let expected: [(Key, &[u8]); 4] = [
        ((5, 9), b""),
        ((10, 1), b"one"),
        ((10, 2), b""),
        ((10, 3), b"three"),
    ];
    assert_eq!(all.len(), expected.len());
    for (entry, (key, record)) in all.iter().zip(expected) {
        assert_eq!(
            ((entry.time_ms, entry.seq), &entry.record[..]),
            (key, record)
        );
        let found = entry
            .body
            .as_ref()
            .map(|body| (body.id, body.bytes.clone()));
        let wanted = (key.0 == 10).then(|| (0, body(key.1 as u8).bytes));
        assert_eq!(found, wanted);
    }
    let page = store.due(owner, (0, 0), 100, 400_000).unwrap();
    assert_eq!((page.entries.len(), page.more), (2, true));
    let page = store.due(owner, (10, 2), 100, 1).unwrap();
    assert_eq!((page.entries.len(), page.more), (1, true), "one at least");
}

#[test]
fn what_comes_and_goes_in_one_epoch_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let owner = store.next_queue_id();
    for seq in 1..50 {
        push(
            &store,
            [put(owner, (7, seq), b"short"), remove(owner, (7, seq))],
        );
    }
    assert_eq!(store.statistics().epochs_written, 0);
    push(
        &store,
        [
            put(owner, (7, 50), b"stays"),
            put(owner, (7, 51), b"goes"),
            remove(owner, (7, 51)),
        ],
    );
    assert_eq!(keys(&read_all(&store, owner, (0, 0), 9)), [(7, 50)]);
    let statistics = store.statistics();
    assert_eq!((statistics.due, statistics.rows_deleted), (1, 0));
}

#[test]
fn a_start_knows_the_count_without_reading_the_rows() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let owner = store.next_queue_id();
    for round in 0..20u64 {
        push(
            &store,
            (0..500).map(|nth| put(owner, (1_000 * nth + round, round * 500 + nth + 1), b"")),
        );
    }
    for nth in 0..40u64 {
        let page = store.due(owner, (0, 0), 200, 1 << 20).unwrap();
        assert_eq!(page.entries.len(), 200, "round {nth}");
        push(
            &store,
            keys(&page.entries)
                .into_iter()
                .map(|key| remove(owner, key)),
        );
    }
    close(store);
    let (store, recovered) = open(dir.path());
    let found = recovered.due[&owner];
    assert_eq!((found.count, found.next_seq), (2_000, 10_001));
    let rows = read_all(&store, owner, (0, 0), 1_000);
    assert_eq!(rows.len(), 2_000);
    let first = rows[0].time_ms;
    assert!(found.earliest_ms <= first);
    assert!(
        found.earliest_ms + 20_000 >= first,
        "a start steps over few tombstones: {} {first}",
        found.earliest_ms
    );
    push(
        &store,
        keys(&rows).into_iter().map(|key| remove(owner, key)),
    );
    close(store);
    let (_, recovered) = open(dir.path());
    let found = recovered.due[&owner];
    assert_eq!(
        (found.count, found.next_seq),
        (0, 10_001),
        "keys are not used again"
    );
}

#[test]
fn a_deleted_owner_takes_its_rows_along_and_nothing_else() {
    for count in [0u64, 3, 12_000] {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let owners = [(); 3].map(|()| store.next_queue_id());
        for owner in owners {
            let count = if owner == owners[1] { count } else { 2 };
            push(
                &store,
                (1..=count).map(|seq| put(owner, (seq / 7, seq), b"r")),
            );
        }
        let deleted = Op::QueueDeleted { queue: owners[1] };
        push(
            &store,
            [put(owners[1], (9, 99_999), b"dies at once"), deleted],
        );
        assert!(read_all(&store, owners[1], (0, 0), 100).is_empty());
        close(store);
        let (store, recovered) = open(dir.path());
        let mut known: Vec<_> = recovered.due.keys().copied().collect();
        known.sort_unstable();
        assert_eq!(known, [owners[0], owners[2]]);
        for owner in [owners[0], owners[2]] {
            assert_eq!(keys(&read_all(&store, owner, (0, 0), 9)), [(0, 1), (0, 2)]);
        }
        wait(&store, store.forget_unknown(&[owners[2]].into(), 0));
        close(store);
        let (store, recovered) = open(dir.path());
        assert_eq!(recovered.due.into_keys().collect::<Vec<_>>(), [owners[2]]);
        assert!(read_all(&store, owners[0], (0, 0), 9).is_empty());
    }
}

#[test]
fn an_accepted_loss_is_counted_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let owner = store.next_queue_id();
    push(&store, (1..=10).map(|seq| put(owner, (seq, seq), b"")));
    close(store);
    // As if the epochs after the one that wrote the rows had gone: the count is behind, and so is the epoch.
    {
        let database = crate::store::families::Database::open(&dir.path().join("journal")).unwrap();
        let (db, family) = (database.db(), database.family(WriteOnce::Due));
        let key = [owner, 4, 4].map(u64::to_be_bytes).concat();
        db.delete_cf(family, key).unwrap();
        let epoch = crate::store::commit::epoch_row(0, 0);
        db.put_cf(database.state(), crate::store::keys::state::EPOCH, epoch)
            .unwrap();
    }
    let (store, recovered) = Store::open(StoreOptions {
        accept_loss: true,
        ..options(dir.path())
    })
    .unwrap();
    let found = recovered.due[&owner];
    assert_eq!((found.count, found.next_seq), (9, 11));
    close(store);
    let (_, again) = open(dir.path());
    assert_eq!(again.due, recovered.due);
}

#[derive(Debug, Clone)]
enum Step {
    /// Put so many rows around a time.
    Put {
        owner: usize,
        time: u64,
        count: u8,
        bytes: usize,
    },
    /// Remove some, from that share of them on, every nth.
    Remove {
        owner: usize,
        from: u8,
        count: u8,
        every: u8,
    },
    /// Remove the earliest.
    Pop {
        owner: usize,
        count: u8,
    },
    Delete {
        owner: usize,
    },
    Commit,
    Flush,
    Reopen,
    /// Go on with a copy of the files, as after a kill, without what was not committed.
    Crash,
}

const OWNERS: usize = 3;

fn step() -> impl Strategy<Value = Step> {
    let owner = 0..OWNERS;
    prop_oneof![
        8 => (owner.clone(), 0..40u64, 1..120u8, prop_oneof![Just(0usize), Just(30), Just(5_000)])
            .prop_map(|(owner, time, count, bytes)| Step::Put { owner, time, count, bytes }),
        4 => (owner.clone(), any::<u8>(), 1..60u8, 1..5u8)
            .prop_map(|(owner, from, count, every)| Step::Remove { owner, from, count, every }),
        6 => (owner.clone(), 1..200u8).prop_map(|(owner, count)| Step::Pop { owner, count }),
        1 => owner.prop_map(|owner| Step::Delete { owner }),
        8 => Just(Step::Commit),
        1 => Just(Step::Flush),
        1 => Just(Step::Reopen),
        2 => Just(Step::Crash),
    ]
}

#[derive(Default, Clone)]
struct Owner {
    id: QueueId,
    next_seq: Seq,
    rows: BTreeMap<Key, Vec<u8>>,
}

struct World {
    dir: tempfile::TempDir,
    store: Option<Store>,
    owners: Vec<Owner>,
    /// As they were at the last commit.
    durable: Vec<Owner>,
    /// Operations since then.
    pending: Vec<Op>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let owners: Vec<_> = (0..OWNERS).map(|_| new_owner(&store)).collect();
        Self {
            dir,
            store: Some(store),
            durable: owners.clone(),
            owners,
            pending: Vec::new(),
        }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Put {
                owner,
                time,
                count,
                bytes,
            } => {
                let Owner { id, next_seq, rows } = &mut self.owners[owner];
                for nth in 0..u64::from(count) {
                    let key = ((time + nth * 7 % 11) * 1000, *next_seq);
                    let record = vec![nth as u8; bytes];
                    *next_seq += 1;
                    self.pending.push(put(*id, key, &record));
                    rows.insert(key, record);
                }
            }
            Step::Remove {
                owner,
                from,
                count,
                every,
            } => {
                let rows = &self.owners[owner].rows;
                let chosen = rows.keys().skip(rows.len() * usize::from(from) / 256);
                let chosen = chosen.step_by(every.into()).take(count.into());
                self.remove(owner, chosen.copied().collect());
            }
            Step::Pop { owner, count } => {
                let chosen = self.owners[owner].rows.keys().take(count.into());
                self.remove(owner, chosen.copied().collect());
            }
            Step::Delete { owner } => {
                let queue = self.owners[owner].id;
                self.pending.push(Op::QueueDeleted { queue });
                self.owners[owner] = new_owner(self.store());
            }
            Step::Commit => self.commit(),
            Step::Flush => {
                let database = self.store().inner.shared.database.read();
                crate::store::cleaner::flush(database.as_ref().unwrap()).unwrap();
            }
            Step::Reopen => {
                self.commit();
                close(self.store.take().unwrap());
                let path = self.dir.path().to_path_buf();
                self.reopen(&path);
            }
            Step::Crash => {
                let copy = tempfile::tempdir().unwrap();
                copy_dir(self.dir.path(), copy.path());
                close(self.store.take().unwrap());
                self.dir = copy;
                self.pending.clear();
                self.owners = self.durable.clone();
                let path = self.dir.path().to_path_buf();
                self.reopen(&path);
            }
        }
    }

    fn remove(&mut self, owner: usize, chosen: Vec<Key>) {
        let Owner { id, rows, .. } = &mut self.owners[owner];
        for key in chosen {
            self.pending.push(remove(*id, key));
            rows.remove(&key);
        }
    }

    fn commit(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        push(self.store(), pending);
        self.durable = self.owners.clone();
        for Owner { id, rows, .. } in &self.owners {
            let found = read_all(self.store(), *id, (0, 0), 64);
            assert_eq!(keys(&found), rows.keys().copied().collect::<Vec<_>>());
            assert!(
                found
                    .iter()
                    .zip(rows.values())
                    .all(|(entry, record)| entry.record == record)
            );
        }
    }

    fn reopen(&mut self, path: &Path) {
        let (store, recovered) = open(path);
        for Owner { id, next_seq, rows } in &mut self.owners {
            let found = recovered.due.get(id).copied().unwrap_or_default();
            assert_eq!(found.count, rows.len() as u64);
            let highest = rows.keys().map(|(_, seq)| *seq).max().unwrap_or(0);
            assert!(found.next_seq > highest || highest == 0);
            *next_seq = found.next_seq.max(1);
            if let Some((first, _)) = rows.keys().next() {
                assert!(found.earliest_ms <= *first);
            }
            let rest = read_all(&store, *id, (found.earliest_ms, 0), 64);
            assert_eq!(rest.len(), rows.len());
        }
        self.store = Some(store);
    }
}

/// An owner that is known from a row of its own on, as exchanges and queues are: its id is not given out again.
fn new_owner(store: &Store) -> Owner {
    let id = store.next_queue_id();
    let declared = Op::PutState {
        key: id.to_be_bytes().to_vec(),
        value: vec![],
    };
    push(store, [declared]);
    Owner {
        id,
        next_seq: 1,
        rows: BTreeMap::new(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 60, ..ProptestConfig::default() })]

    #[test]
    fn what_is_due_is_what_the_model_says(steps in prop::collection::vec(step(), 10..80)) {
        let mut world = World::new();
        for step in steps {
            world.run(step);
        }
        world.run(Step::Reopen);
        world.commit();
        close(world.store.take().unwrap());
    }
}
