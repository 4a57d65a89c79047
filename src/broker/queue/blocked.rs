//! Messages that wait for their group: held back by their lane, ready for everybody else.

use super::groups::Place;
use super::lane::Lane;
use crate::message::Seq;

/// A message that waits for its group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Blocked {
    pub(super) bytes: u64,
    /// It came back before.
    pub(super) was_returned: bool,
    pub(super) turn: Option<i64>,
}

impl Lane {
    /// The first ready message waits for its group from now on.
    pub(super) fn block(&mut self, seq: Seq, bytes: u64) {
        let entry = Blocked {
            bytes,
            was_returned: self.returned.contains(seq),
            turn: self.returned.turn(seq),
        };
        self.take(seq, bytes);
        self.held.insert(seq);
        self.blocked.insert(seq, entry);
        self.blocked_bytes += bytes;
        self.mark_expiry(seq);
    }

    /// A message that waited for its group is ready, at its place.
    pub(super) fn release(&mut self, seq: Seq) {
        let Some(entry) = self.blocked.remove(&seq) else {
            return;
        };
        self.blocked_bytes -= entry.bytes;
        self.held.remove(seq);
        self.ready += 1;
        self.ready_bytes += entry.bytes;
        if entry.was_returned {
            self.returned.restore(seq, entry.turn);
        } else if seq < self.cursor {
            self.refused.insert(seq);
        }
    }

    /// Whether a message waits for its group.
    pub(super) fn is_blocked(&self, seq: Seq) -> bool {
        self.blocked.contains_key(&seq)
    }

    /// The message that would go first of those that wait for their group.
    pub(super) fn first_blocked(&self) -> Option<(Place, Seq, u64)> {
        let place =
            |(seq, entry): (&Seq, &Blocked)| (Place::new(*seq, entry.turn), *seq, entry.bytes);
        if self.returned.is_in_order() {
            self.blocked.iter().map(place).min()
        } else {
            self.blocked.first_key_value().map(place)
        }
    }

    /// Where a message stands.
    pub(super) fn place(&self, seq: Seq) -> Place {
        Place::new(seq, self.returned.turn(seq))
    }
}
