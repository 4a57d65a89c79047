//! Which messages of a lane expire when: wherever they stand, at a cost that does not grow with the depth of the lane.
//!
//! Most queues expire in the order of arrival: their time to live is the same for all messages. Such messages form
//! **runs**, of which only the ends are remembered. A message that expires before its predecessor, and one that comes
//! back after its place was passed, gets a **mark** of its own.

use std::collections::{BTreeMap, VecDeque};

use super::lane::Lane;
use super::log::{Lookup, Next};
use crate::message::Seq;
use crate::store::ExpiringRow;

/// Runs beyond which messages get marks.
const RUNS_MAX: usize = 64;

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
    /// Body sizes by time and seq.
    marks: BTreeMap<(u64, Seq), u64>,
    /// After a restart: stretches in the store, by the earliest time in each and first seq, with their last seqs. Such
    /// a stretch is read when that time has come, and its messages get marks.
    stored: BTreeMap<(u64, Seq), Seq>,
}

impl Expiry {
    /// What expires of that which the store remembers.
    pub(super) fn recovered(rows: &[ExpiringRow]) -> Self {
        let rows = rows.iter();
        Self {
            stored: rows
                .map(|row| ((row.earliest_ms, row.first), row.last))
                .collect(),
            ..Self::default()
        }
    }

    /// A message arrived that expires.
    pub(super) fn appended(&mut self, seq: Seq, expiry_ms: u64, bytes: u64) {
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
            _ => self.mark(seq, expiry_ms, bytes),
        }
    }

    /// A message gets a time of its own: it stands out of order, or before the cursor.
    pub(super) fn mark(&mut self, seq: Seq, expiry_ms: u64, bytes: u64) {
        self.marks.insert((expiry_ms, seq), bytes);
    }

    /// A message with this expiry is gone or delivered: its mark, if it has one, is of no use.
    pub(super) fn unmark(&mut self, seq: Seq, expiry_ms: u64) {
        if !self.marks.is_empty() {
            self.marks.remove(&(expiry_ms, seq));
        }
    }

    /// Nothing expires before this time.
    pub(super) fn deadline_ms(&self) -> Option<u64> {
        let runs = self.runs.iter().map(|run| run.first_ms).min();
        let marks = self.marks.keys().next().map(|(expiry_ms, _)| *expiry_ms);
        let stored = self
            .stored
            .keys()
            .next()
            .map(|(earliest_ms, _)| *earliest_ms);
        [runs, marks, stored].into_iter().flatten().min()
    }

    /// Up to `count_max` ready messages whose time is up, with their body sizes; and the seq of one that has to be
    /// loaded to know more.
    pub(super) fn expired(
        &mut self,
        now_ms: u64,
        count_max: usize,
        lane: &Lane,
    ) -> (Vec<(Seq, u64)>, Option<Seq>) {
        let mut cold = self.read_stored(now_ms, lane);
        let mut found = Vec::new();
        while found.len() < count_max
            && let Some(entry) = self.marks.first_entry()
            && entry.key().0 <= now_ms
        {
            let ((_, seq), bytes) = entry.remove_entry();
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
}

impl Expiry {
    /// Gives marks to the messages of stored stretches whose time has come. Answers the seq of one that has to be
    /// loaded first.
    fn read_stored(&mut self, now_ms: u64, lane: &Lane) -> Option<Seq> {
        while let Some(entry) = self.stored.first_entry()
            && entry.key().0 <= now_ms
        {
            let ((earliest_ms, first), last) = entry.remove_entry();
            let marks = &mut self.marks;
            let stopped = lane.log.scan(first, |record, _| {
                let (seq, expiry_ms) = (record.seq(), record.expiry_ms());
                if seq <= last && expiry_ms != 0 && lane.is_ready(seq) {
                    marks.insert((expiry_ms, seq), record.body_len() as u64);
                }
                seq < last
            });
            if let Next::Cold(seq) = stopped
                && seq <= last
            {
                self.stored.insert((earliest_ms, seq), last);
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
