//! Random work on an index and a store that writes late, against a map: everything comes out once, in order, at its
//! time, whatever is written, read and restarted in between.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;

const SMALL: Limits = Limits {
    near_max: 12,
    near_bytes_max: 400,
    page_rows: 5,
    page_bytes: 150,
    ahead_ms: 20,
};

impl Payload for usize {
    fn bytes(&self) -> usize {
        *self
    }
}

#[derive(Debug, Clone)]
enum Step {
    Insert {
        in_ms: u64,
        bytes: usize,
        transient: bool,
    },
    /// Take one out before its time, chosen by its place.
    Remove { place: u8 },
    /// One that was taken out before its time comes back and stays in memory from now on, chosen by its place.
    ComeBack { place: u8 },
    /// Time goes on, and what is due is taken out.
    Pop { after_ms: u64, count: u8 },
    /// A new epoch begins.
    Cut,
    /// The store writes the oldest epoch that is not written.
    Write,
    /// The index hears of it.
    Announce,
    /// Asks for a page if one is wanted.
    Ask,
    /// The page that was asked for is read.
    Read,
    /// The page that was read arrives.
    Install,
    /// The process is killed.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (prop_oneof![0..30u64, 0..300u64], 0..60usize, prop::bool::weighted(0.15))
            .prop_map(|(in_ms, bytes, transient)| Step::Insert { in_ms, bytes, transient }),
        3 => any::<u8>().prop_map(|place| Step::Remove { place }),
        3 => any::<u8>().prop_map(|place| Step::ComeBack { place }),
        4 => (0..40u64, 1..20u8).prop_map(|(after_ms, count)| Step::Pop { after_ms, count }),
        4 => Just(Step::Cut),
        4 => Just(Step::Write),
        4 => Just(Step::Announce),
        4 => Just(Step::Ask),
        3 => Just(Step::Read),
        3 => Just(Step::Install),
        1 => Just(Step::Restart),
    ]
}

#[derive(Debug, Clone, Copy)]
enum Change {
    Put(DueKey, usize),
    Remove(DueKey),
}

type Rows = Vec<(DueKey, usize)>;

struct World {
    index: DueIndex<usize>,
    /// What is there, and whether it is stored.
    model: BTreeMap<DueKey, (usize, bool)>,
    /// What was taken out before its time.
    removed: BTreeMap<DueKey, usize>,
    /// Rows of the store.
    rows: BTreeMap<DueKey, usize>,
    /// Epochs that are not written yet, the last one still open.
    epochs: VecDeque<Vec<Change>>,
    open_epoch: Epoch,
    asked: Option<PageRequest>,
    read: Option<(Rows, bool)>,
    now_ms: u64,
    next_seq: Seq,
}

impl World {
    fn new() -> Self {
        Self {
            index: DueIndex::new(SMALL),
            model: BTreeMap::new(),
            removed: BTreeMap::new(),
            rows: BTreeMap::new(),
            epochs: VecDeque::from([Vec::new()]),
            open_epoch: 1,
            asked: None,
            read: None,
            now_ms: 1_000,
            next_seq: 1,
        }
    }

    fn written(&self) -> Epoch {
        self.open_epoch - self.epochs.len() as u64
    }

    fn change(&mut self, change: Change) {
        self.epochs.back_mut().unwrap().push(change);
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Insert {
                in_ms,
                bytes,
                transient,
            } => self.insert(in_ms, bytes, transient),
            Step::Remove { place } => self.remove(place),
            Step::ComeBack { place } => self.come_back(place),
            Step::Pop { after_ms, count } => {
                self.now_ms += after_ms;
                self.pop(count.into());
            }
            Step::Cut => {
                self.epochs.push_back(Vec::new());
                self.open_epoch += 1;
            }
            Step::Write => self.write(),
            Step::Announce => self.index.durable(self.written()),
            Step::Ask => {
                self.index.durable(self.written());
                if self.asked.is_none() && self.read.is_none() {
                    self.asked = self.index.wanted_page(self.now_ms);
                }
            }
            Step::Read => {
                if let Some(request) = self.asked.take() {
                    self.read = Some(self.page(request));
                }
            }
            Step::Install => {
                if let Some((rows, more)) = self.read.take() {
                    self.index.install(rows, more);
                }
            }
            Step::Restart => self.restart(),
        }
        self.check();
    }

    fn insert(&mut self, in_ms: u64, bytes: usize, transient: bool) {
        let key = DueKey {
            time_ms: self.now_ms + in_ms,
            seq: self.next_seq,
        };
        self.next_seq += 1;
        self.model.insert(key, (bytes, !transient));
        if !transient {
            self.change(Change::Put(key, bytes));
        }
        let epoch = (!transient).then_some(self.open_epoch);
        self.index.insert(key, bytes, epoch);
    }

    fn remove(&mut self, place: u8) {
        let place = self.model.len() * usize::from(place) / 256;
        let Some((key, (bytes, stored))) = self.model.iter().nth(place).map(|(k, v)| (*k, *v))
        else {
            return;
        };
        match self.index.remove(key, self.open_epoch) {
            Removed::Near(taken) => assert_eq!(
                taken,
                Taken {
                    key,
                    payload: bytes,
                    stored
                }
            ),
            Removed::Far => assert!(stored, "what is not stored stays in memory"),
            Removed::Missing => panic!("{key:?} is there"),
        }
        self.model.remove(&key);
        self.removed.insert(key, bytes);
        if stored {
            self.change(Change::Remove(key));
            assert_eq!(self.index.remove(key, self.open_epoch), Removed::Missing);
        }
    }

    fn come_back(&mut self, place: u8) {
        let place = self.removed.len() * usize::from(place) / 256;
        let Some((key, bytes)) = self.removed.iter().nth(place).map(|(k, v)| (*k, *v)) else {
            return;
        };
        self.removed.remove(&key);
        self.model.insert(key, (bytes, false));
        self.index.insert(key, bytes, None);
    }

    fn pop(&mut self, count: usize) {
        for _ in 0..count {
            let due = self
                .model
                .first_key_value()
                .map(|(key, value)| (*key, *value));
            let due = due.filter(|(key, _)| key.time_ms <= self.now_ms);
            let Some(taken) = self.index.pop(self.now_ms, self.open_epoch) else {
                if due.is_some() {
                    let waits = self.asked.is_some() || self.read.is_some();
                    let wakes = self
                        .index
                        .wake_ms()
                        .is_some_and(|at_ms| at_ms <= self.now_ms);
                    assert!(waits || wakes, "{due:?} would be forgotten");
                }
                return;
            };
            let (key, (payload, stored)) = due.expect("nothing comes out before its time");
            assert_eq!(
                taken,
                Taken {
                    key,
                    payload,
                    stored
                }
            );
            self.model.remove(&key);
            if stored {
                self.change(Change::Remove(key));
            }
        }
    }

    fn write(&mut self) {
        if self.epochs.len() < 2 {
            return;
        }
        for change in self.epochs.pop_front().unwrap() {
            match change {
                Change::Put(key, bytes) => assert_eq!(self.rows.insert(key, bytes), None),
                Change::Remove(key) => {
                    assert!(self.rows.remove(&key).is_some(), "{key:?} has a row")
                }
            }
        }
    }

    fn page(&self, request: PageRequest) -> (Rows, bool) {
        let mut found = Vec::new();
        let mut bytes = 0;
        for (key, payload) in self.rows.range(request.from..) {
            bytes += payload;
            if !found.is_empty() && (found.len() >= request.rows || bytes > request.bytes) {
                return (found, true);
            }
            found.push((*key, *payload));
        }
        (found, false)
    }

    fn restart(&mut self) {
        self.model = self
            .rows
            .iter()
            .map(|(key, bytes)| (*key, (*bytes, true)))
            .collect();
        self.removed.clear();
        let earliest_ms = self
            .rows
            .first_key_value()
            .map_or(0, |(key, _)| key.time_ms);
        // The hint may be early.
        let earliest_ms = earliest_ms.saturating_sub(self.next_seq % 3);
        self.index = DueIndex::recovered(SMALL, self.rows.len() as u64, earliest_ms);
        (self.asked, self.read) = (None, None);
        let written = self.written();
        self.epochs = VecDeque::from([Vec::new()]);
        self.open_epoch = written + 1;
        self.index.durable(written);
    }

    fn check(&self) {
        assert_eq!(self.index.len(), self.model.len() as u64);
        let transient = self.model.values().filter(|(_, stored)| !stored).count();
        let bound = SMALL.near_max + SMALL.page_rows + transient + self.index.unwritten.len();
        assert!(
            self.index.resident() <= bound,
            "{} > {bound}",
            self.index.resident()
        );
        let near = self
            .index
            .known
            .range(..self.index.horizon)
            .filter(|(_, entry)| entry.stored);
        assert_eq!(self.index.near_count, near.clone().count());
        assert_eq!(
            self.index.near_bytes,
            near.map(|(_, entry)| entry.payload).sum::<usize>()
        );
        if let Some(first) = self.model.keys().next() {
            let waits = self.asked.is_some() || self.read.is_some();
            let wake_ms = self.index.wake_ms();
            assert!(
                waits || wake_ms.is_some_and(|at_ms| at_ms <= first.time_ms),
                "{wake_ms:?} {first:?}"
            );
        }
    }

    /// Everything is written, read and popped to the end.
    fn drain(&mut self) {
        while !self.model.is_empty() {
            for step in [
                Step::Cut,
                Step::Write,
                Step::Announce,
                Step::Ask,
                Step::Read,
                Step::Install,
            ] {
                self.run(step);
            }
            while self.epochs.len() > 1 {
                self.write();
            }
            self.run(Step::Pop {
                after_ms: 30,
                count: 100,
            });
        }
        // A page may still be asked for, though nothing is left.
        for step in [
            Step::Cut,
            Step::Write,
            Step::Read,
            Step::Install,
            Step::Announce,
        ] {
            self.run(step);
        }
        while self.epochs.len() > 1 {
            self.write();
        }
        assert!(self.rows.is_empty());
        self.index.durable(self.written());
        assert!(self.index.removed.is_empty() && self.index.unwritten.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn everything_comes_out_once_in_order_and_at_its_time(steps in prop::collection::vec(step(), 1..400)) {
        let mut world = World::new();
        for step in steps {
            world.run(step);
        }
        world.drain();
    }
}

#[test]
fn a_million_entries_take_the_memory_of_a_few() {
    let mut index = DueIndex::new(LIMITS);
    let mut seq = 0;
    for epoch in 1..=1_000u64 {
        for _ in 0..1_000 {
            seq += 1;
            let time_ms = 1_000_000 + seq * 7_919 % 1_000_003;
            index.insert(DueKey { time_ms, seq }, 0u64, Some(epoch));
        }
        index.durable(epoch);
    }
    assert_eq!(index.len(), 1_000_000);
    assert!(index.resident() <= LIMITS.near_max, "{}", index.resident());
}

#[test]
fn what_comes_back_before_its_row_is_written_is_not_taken_for_the_row() {
    let mut index = DueIndex::<usize>::new(SMALL);
    let key = |seq| DueKey {
        time_ms: 1_000 + seq,
        seq,
    };
    // More than memory holds: the last of them are beyond the horizon.
    let last = 2 * SMALL.near_max as u64;
    for seq in 1..=last {
        index.insert(key(seq), 1, Some(1));
    }
    assert!(matches!(index.remove(key(last), 1), Removed::Near(_)));
    index.insert(key(last), 1, None);
    index.durable(1);
    assert_eq!(index.known(key(last)), Some(&1));
    let Removed::Near(taken) = index.remove(key(last), 2) else {
        panic!("it is in memory");
    };
    assert!(!taken.stored, "its row is removed already");
}
