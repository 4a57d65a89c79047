//! Which messages of a lane expire when: wherever they stand, at a cost that does not grow with the depth of the lane,
//! and in memory that does not grow with their number.
//!
//! Most queues expire in the order of arrival: their time to live is the same for all messages. Such messages form
//! **runs**, of which only the ends are remembered. When they are not enough, every further message gets a **mark** of
//! its own ([`super::marks`]), and so does one that comes back after its place was passed.

use std::collections::{BTreeMap, VecDeque};

use super::lane::Lane;
use super::log::{Lookup, Next};
use super::marks::Marks;
use crate::message::{QueueId, Seq};
use crate::store::ExpiringRow;

/// Runs beyond which messages get marks.
const RUNS_MAX: usize = if cfg!(test) { 3 } else { 64 };

/// Messages that never expire between two of a run: they are looked at when their time would be up.
const RUN_GAP_MAX: u64 = 64;

#[derive(Debug, Clone, Copy)]
struct Run {
    first: Seq,
    last: Seq,
    /// No message of the run expires earlier.
    first_ms: u64,
    /// The last one expires then.
    last_ms: u64,
}

/// What expires when.
#[derive(Debug, Default)]
pub(super) struct Expiry {
    /// By rising seq.
    runs: VecDeque<Run>,
    /// Messages from here on have marks instead.
    marked_from: Option<Seq>,
    /// Made with the first mark.
    marks: Option<Box<Marks>>,
    recovered: Option<Box<Recovered>>,
}

/// Stretches in the store that hold expiring messages, after a restart. Such a stretch is read when the earliest time
/// in it has come, and its messages get marks.
#[derive(Debug, Default)]
struct Recovered {
    /// By the earliest time in each and first seq, with their last seqs.
    by_time: BTreeMap<(u64, Seq), Seq>,
    /// First and last seqs.
    by_seq: BTreeMap<Seq, Seq>,
    /// The last seq of all, read or not.
    last: Seq,
}

impl Recovered {
    fn insert(&mut self, earliest_ms: u64, first: Seq, last: Seq) {
        self.by_time.insert((earliest_ms, first), last);
        self.by_seq.insert(first, last);
        self.last = self.last.max(last);
    }

    /// Takes out the stretch whose time has come.
    fn pop(&mut self, now_ms: u64) -> Option<(u64, Seq, Seq)> {
        let entry = self.by_time.first_entry()?;
        if entry.key().0 > now_ms {
            return None;
        }
        let ((earliest_ms, first), last) = entry.remove_entry();
        self.by_seq.remove(&first);
        Some((earliest_ms, first, last))
    }

    /// Whether a message lies in a stretch that was read.
    fn was_read(&self, seq: Seq) -> bool {
        let unread = self.by_seq.range(..=seq).next_back();
        seq <= self.last && unread.is_none_or(|(_, last)| *last < seq)
    }
}

impl Expiry {
    /// What expires of that which the store remembers.
    pub(super) fn recovered(rows: &[ExpiringRow]) -> Self {
        let mut recovered = Recovered::default();
        for row in rows {
            recovered.insert(row.earliest_ms, row.first, row.last);
        }
        Self {
            recovered: (!rows.is_empty()).then(|| Box::new(recovered)),
            ..Self::default()
        }
    }

    /// A message arrived that expires.
    pub(super) fn appended(&mut self, seq: Seq, expiry_ms: u64, bytes: u64) {
        if self.marks.as_ref().is_none_or(|marks| marks.is_empty()) {
            self.marked_from = None;
        }
        if self.marked_from.is_none() && self.joins_run(seq, expiry_ms) {
            return;
        }
        self.marked_from.get_or_insert(seq);
        self.marks_mut().insert(seq, expiry_ms, bytes, true);
    }

    fn joins_run(&mut self, seq: Seq, expiry_ms: u64) -> bool {
        let count = self.runs.len();
        match self.runs.back_mut() {
            Some(run) if expiry_ms >= run.last_ms && seq - run.last <= RUN_GAP_MAX => {
                run.last = seq;
                run.last_ms = expiry_ms;
            }
            _ if count < RUNS_MAX => self.runs.push_back(Run {
                first: seq,
                last: seq,
                first_ms: expiry_ms,
                last_ms: expiry_ms,
            }),
            _ => return false,
        }
        true
    }

    /// A message that came back gets a time of its own: it stands before the cursor, or was put out of the way.
    pub(super) fn mark(&mut self, seq: Seq, expiry_ms: u64, bytes: u64) {
        // It may have had a mark before.
        self.marks_mut().insert(seq, expiry_ms, bytes, false);
    }

    fn marks_mut(&mut self) -> &mut Marks {
        self.marks.get_or_insert_default()
    }

    /// A message with this expiry is gone or delivered: its mark, if it has one, is of no use.
    pub(super) fn unmark(&mut self, seq: Seq, expiry_ms: u64) {
        let Some(marks) = &mut self.marks else {
            return;
        };
        if expiry_ms != 0 && !marks.is_empty() {
            let arrived_marked = self.marked_from.is_some_and(|from| seq >= from);
            let recovered = self.recovered.as_ref();
            let was_read = recovered.is_some_and(|recovered| recovered.was_read(seq));
            marks.remove(seq, expiry_ms, arrived_marked || was_read);
        }
    }

    /// Nothing expires any more: the lane was purged.
    pub(super) fn clear(&mut self) {
        let marks = self.marks.take();
        *self = Self::default();
        self.marks = marks;
        if let Some(marks) = &mut self.marks {
            marks.clear();
        }
    }

    /// The marks, if there are or were any.
    pub(super) fn marks(&mut self) -> Option<&mut Marks> {
        self.marks.as_deref_mut()
    }

    /// Under which the store has marks.
    pub(super) fn marks_owner(&self) -> Option<QueueId> {
        self.marks.as_ref()?.owner()
    }

    /// Nothing expires before this time.
    pub(super) fn deadline_ms(&self) -> Option<u64> {
        let runs = self.runs.iter().map(|run| run.first_ms).min();
        let marks = self.marks.as_ref().and_then(|marks| marks.wake_ms());
        let recovered = self.recovered.as_ref();
        let recovered = recovered.and_then(|recovered| {
            let first = recovered.by_time.first_key_value()?;
            Some(first.0.0)
        });
        [runs, marks, recovered].into_iter().flatten().min()
    }

    /// Up to `count_max` ready messages whose time is up, with their body sizes; and the seq of one that has to be
    /// loaded to know more.
    pub(super) fn expired(
        &mut self,
        now_ms: u64,
        count_max: usize,
        lane: &Lane,
    ) -> (Vec<(Seq, u64)>, Option<Seq>) {
        let mut cold = self.read_recovered(now_ms, lane);
        let mut found = Vec::new();
        while found.len() < count_max
            && let Some((seq, bytes)) = self.marks.as_mut().and_then(|marks| marks.pop(now_ms))
        {
            let is_waiting = lane.is_ready(seq) || lane.is_blocked(seq);
            if is_waiting && !matches!(lane.log.lookup(seq), Lookup::Gone) {
                found.push((seq, bytes));
            }
        }
        self.runs.retain_mut(|run| {
            if run.first_ms > now_ms || found.len() >= count_max || cold.is_some() {
                return true;
            }
            let (left, load) = run.expired(now_ms, count_max, lane, &mut found);
            cold = load;
            left
        });
        (found, cold)
    }

    /// Gives marks to the messages of recovered stretches whose time has come. Answers the seq of one that has to be
    /// loaded first.
    fn read_recovered(&mut self, now_ms: u64, lane: &Lane) -> Option<Seq> {
        let recovered = self.recovered.as_mut()?;
        while let Some((earliest_ms, first, last)) = recovered.pop(now_ms) {
            let marks = self.marks.get_or_insert_default();
            let stopped = lane.log.scan(first, |record, _| {
                let (seq, expiry_ms) = (record.seq(), record.expiry_ms());
                if seq <= last && expiry_ms != 0 && lane.is_ready(seq) {
                    marks.insert(seq, expiry_ms, record.body_len() as u64, true);
                }
                seq < last
            });
            if let Next::Cold(seq) = stopped
                && seq <= last
            {
                recovered.insert(earliest_ms, seq, last);
                return Some(seq);
            }
        }
        None
    }
}

impl Run {
    /// Collects what is up. `false`: nothing is left of the run. A seq: load it and ask again.
    fn expired(
        &mut self,
        now_ms: u64,
        count_max: usize,
        lane: &Lane,
        found: &mut Vec<(Seq, u64)>,
    ) -> (bool, Option<Seq>) {
        // What is below the cursor is delivered, gone, or has a mark since it came back.
        self.first = self.first.max(lane.cursor());
        let last = self.last;
        if self.first > last {
            return (false, None);
        }
        let mut next_ms = None;
        let stopped = lane.log.scan(self.first, |record, _| {
            let (seq, expiry_ms) = (record.seq(), record.expiry_ms());
            if seq > last || found.len() >= count_max {
                return false;
            }
            if expiry_ms > now_ms {
                next_ms = Some(expiry_ms);
                return false;
            }
            if expiry_ms != 0 && lane.is_ready(seq) {
                found.push((seq, record.body_len() as u64));
            }
            true
        });
        match stopped {
            Next::At(seq) | Next::Cold(seq) if seq <= last => {
                self.first = seq;
                if let Some(next_ms) = next_ms {
                    self.first_ms = next_ms;
                }
                (true, matches!(stopped, Next::Cold(_)).then_some(seq))
            }
            _ => (false, None),
        }
    }
}
