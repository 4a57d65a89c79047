//! Message groups: messages with the same value of a header are delivered in order and one at a time, while different
//! groups go to different consumers in parallel.
//!
//! A group that has a message with a consumer is **busy**; its further messages are set aside when dispatch comes to
//! them, at most [`BLOCKED_MAX`] in all: that far dispatch looks ahead past busy groups. When the message is settled
//! the next one of its group is ready again. A message that comes back keeps its group busy until it is delivered and
//! settled: nothing overtakes it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::message::Seq;
use crate::message::properties::{Properties, header};
use crate::message::record::RecordRef;

/// How many messages of busy groups dispatch passes over. Named in docs/message-groups.md.
pub(super) const BLOCKED_MAX: usize = 10_000;

/// Whether a message may go now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// Yes, and its group is busy with it.
    Granted,
    /// Later: it is set aside.
    Blocked,
    /// Too many are set aside already.
    Full,
}

#[derive(Debug)]
struct Group {
    busy_with: Seq,
    /// Seq and body size, rising.
    blocked: VecDeque<(Seq, u64)>,
}

/// The groups of a queue that have something in flight.
#[derive(Debug)]
pub(super) struct Groups {
    header: Arc<str>,
    busy: HashMap<Box<[u8]>, Group>,
    /// The group of each message that keeps one busy.
    keys: HashMap<Seq, Box<[u8]>>,
    blocked: usize,
    blocked_bytes: u64,
}

impl Groups {
    pub(super) fn new(header: Arc<str>) -> Self {
        Self {
            header,
            busy: HashMap::new(),
            keys: HashMap::new(),
            blocked: 0,
            blocked_bytes: 0,
        }
    }

    /// Messages that are set aside.
    pub(super) const fn blocked(&self) -> u64 {
        self.blocked as u64
    }

    pub(super) const fn blocked_bytes(&self) -> u64 {
        self.blocked_bytes
    }

    /// Asks for a message that is about to go. One without a group always may.
    pub(super) fn admit(&mut self, record: RecordRef<'_>) -> Admission {
        let seq = record.seq();
        let Some(key) = group_key(record, &self.header) else {
            return Admission::Granted;
        };
        match self.busy.get_mut(key) {
            None => {
                let group = Group {
                    busy_with: seq,
                    blocked: VecDeque::new(),
                };
                self.busy.insert(key.into(), group);
                self.keys.insert(seq, key.into());
                Admission::Granted
            }
            Some(group) if group.busy_with == seq => Admission::Granted,
            Some(_) if self.blocked >= BLOCKED_MAX => Admission::Full,
            Some(group) => {
                let bytes = record.body_len() as u64;
                let at = group.blocked.partition_point(|(other, _)| *other < seq);
                group.blocked.insert(at, (seq, bytes));
                self.blocked += 1;
                self.blocked_bytes += bytes;
                Admission::Blocked
            }
        }
    }

    /// A message is gone. Answers the next of its group, which may go now, and its body size. Until that is delivered
    /// the group is busy with it.
    pub(super) fn finished(&mut self, seq: Seq) -> Option<(Seq, u64)> {
        let key = self.keys.remove(&seq)?;
        let group = self.busy.get_mut(&key)?;
        let Some((next, bytes)) = group.blocked.pop_front() else {
            self.busy.remove(&key);
            return None;
        };
        group.busy_with = next;
        self.keys.insert(next, key);
        self.blocked -= 1;
        self.blocked_bytes -= bytes;
        Some((next, bytes))
    }

    /// Forgets everything that is set aside and answers what it was: the queue is purged.
    pub(super) fn take_blocked(&mut self) -> Vec<Seq> {
        self.blocked = 0;
        self.blocked_bytes = 0;
        let groups = self.busy.values_mut();
        groups
            .flat_map(|group| std::mem::take(&mut group.blocked))
            .map(|(seq, _)| seq)
            .collect()
    }

    /// Forgets groups that are busy with a message that is gone.
    pub(super) fn retain(&mut self, is_there: impl Fn(Seq) -> bool) {
        let gone: Vec<Seq> = self
            .keys
            .keys()
            .copied()
            .filter(|seq| !is_there(*seq))
            .collect();
        for seq in gone {
            if let Some(key) = self.keys.remove(&seq) {
                self.busy.remove(&key);
            }
        }
    }
}

/// The encoded value of the header, with its type: the number 1 and the text "1" are different groups.
fn group_key<'a>(record: RecordRef<'a>, name: &str) -> Option<&'a [u8]> {
    let headers = Properties::read(record.properties()).ok()?.headers?;
    header(headers, name.as_bytes())
}
