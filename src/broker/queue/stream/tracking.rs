//! How far consumers have come, by consumer tag, so that one which comes back goes on where it was.
//!
//! Acknowledgements change memory only; what changed is written a little later, all at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::rows;
use crate::message::op::Op;
use crate::message::{QueueId, Seq};

/// Tags that a stream remembers. Beyond that the one that is furthest behind is forgotten.
const TAGS_MAX: usize = 10_000;

/// How long a change may wait before it is written.
pub(super) const WRITE_PAUSE_MS: u64 = 500;

/// Positions by tag.
#[derive(Debug, Default)]
pub(super) struct Tracking {
    positions: BTreeMap<Arc<str>, Seq>,
    changed: BTreeSet<Arc<str>>,
}

impl Tracking {
    /// Takes over what the store remembers.
    pub(super) fn restore(&mut self, tag: &str, seq: Seq) {
        self.positions.insert(tag.into(), seq);
    }

    /// The message that the consumer with this tag goes on with.
    pub(super) fn position(&self, tag: &str) -> Option<Seq> {
        self.positions.get(tag).copied()
    }

    /// A consumer has come so far. True: there is something new to write.
    pub(super) fn moved(&mut self, tag: &Arc<str>, seq: Seq) -> bool {
        if self.positions.insert(tag.clone(), seq) == Some(seq) {
            return false;
        }
        self.changed.insert(tag.clone());
        if self.positions.len() > TAGS_MAX {
            let behind = self.positions.iter().min_by_key(|(_, seq)| **seq);
            if let Some(tag) = behind.map(|(tag, _)| tag.clone()) {
                self.positions.remove(&tag);
                self.changed.insert(tag);
            }
        }
        true
    }

    /// Something is to be written.
    pub(super) fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// What is to be written.
    pub(super) fn take_changes(&mut self, queue: QueueId) -> Vec<Op> {
        let changed = std::mem::take(&mut self.changed);
        let ops = changed.iter().map(|tag| match self.positions.get(tag) {
            Some(seq) => rows::put_position(queue, tag, *seq),
            None => rows::delete_position(queue, tag),
        });
        ops.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_are_written_each_once() {
        let mut tracking = Tracking::default();
        let tag: Arc<str> = "t".into();
        assert!(tracking.moved(&tag, 5) && tracking.moved(&tag, 6));
        assert!(!tracking.moved(&tag, 6));
        assert_eq!(tracking.take_changes(1).len(), 1);
        assert!(!tracking.has_changes());
        assert_eq!(tracking.position("t"), Some(6));
    }

    #[test]
    fn the_tag_that_is_furthest_behind_makes_room() {
        let mut tracking = Tracking::default();
        for number in 0..=TAGS_MAX as u64 {
            tracking.moved(&format!("t{number}").into(), 100 + number);
        }
        assert_eq!(tracking.position("t0"), None);
        assert_eq!(tracking.position("t1"), Some(101));
        let ops = tracking.take_changes(1);
        let deleted = ops.iter().filter(|op| matches!(op, Op::DeleteState { .. }));
        assert_eq!(deleted.count(), 1);
    }
}
