//! How long a consumer has held what it has not acknowledged: only the oldest delivery counts (design-notes m11).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::message::Seq;
use crate::message::ranges::RangeSet;

/// Unacknowledged deliveries of a consumer that has a timeout.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) timeout_ms: u64,
    /// Runs of deliveries with rising seqs, in the order in which they were made: when, first and last seq. May name
    /// settled ones.
    order: VecDeque<(u64, Seq, Seq)>,
    /// Those of `order` that are held.
    unacked: RangeSet,
    /// Held deliveries of what came back, or stands in a lane before: when each was made.
    others: BTreeMap<Seq, u64>,
    others_by_time: BTreeSet<(u64, Seq)>,
}

impl Held {
    pub(super) const fn new(timeout_ms: u64) -> Self {
        Self {
            timeout_ms,
            order: VecDeque::new(),
            unacked: RangeSet::new(),
            others: BTreeMap::new(),
            others_by_time: BTreeSet::new(),
        }
    }

    pub(super) fn delivered(&mut self, seq: Seq, now_ms: u64) {
        match self.order.back_mut() {
            // The runs may still name it from when it was here before.
            Some((_, _, last)) if *last >= seq => {
                self.others.insert(seq, now_ms);
                self.others_by_time.insert((now_ms, seq));
                return;
            }
            Some((at_ms, _, last)) if *at_ms == now_ms && *last + 1 == seq => *last = seq,
            _ => self.order.push_back((now_ms, seq, seq)),
        }
        self.unacked.insert(seq);
    }

    /// Settled or given back.
    pub(super) fn released(&mut self, seqs: &[Seq]) {
        for seq in seqs {
            match self.others.remove(seq) {
                Some(at_ms) => drop(self.others_by_time.remove(&(at_ms, *seq))),
                None => drop(self.unacked.remove(*seq)),
            }
        }
        while let Some((_, first, last)) = self.order.front()
            && !self.unacked.intersects(*first, *last)
        {
            self.order.pop_front();
        }
    }

    /// When the oldest delivery has been held for too long.
    pub(super) fn deadline_ms(&self) -> Option<u64> {
        let first = self.order.front().map(|(at_ms, ..)| *at_ms);
        let other = self.others_by_time.first().map(|(at_ms, _)| *at_ms);
        let oldest_ms = first.into_iter().chain(other).min()?;
        Some(oldest_ms.saturating_add(self.timeout_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_delivery_counts() {
        let mut held = Held::new(100);
        assert_eq!(held.deadline_ms(), None);
        held.delivered(1, 10);
        held.delivered(2, 10);
        held.delivered(3, 20);
        held.released(&[1]);
        assert_eq!(held.deadline_ms(), Some(110), "2 is still held");
        held.released(&[2]);
        assert_eq!(held.deadline_ms(), Some(120));
        held.delivered(2, 50);
        held.released(&[3]);
        assert_eq!(
            held.deadline_ms(),
            Some(150),
            "it came back and went out again"
        );
        held.released(&[2]);
        assert_eq!(held.deadline_ms(), None);
    }

    #[test]
    fn what_came_back_counts_from_when_it_went_out_again() {
        let mut held = Held::new(100);
        held.delivered(1, 5);
        held.delivered(2, 10);
        held.released(&[2]);
        held.delivered(2, 50);
        assert_eq!(held.deadline_ms(), Some(105));
        held.released(&[1]);
        assert_eq!(held.deadline_ms(), Some(150));
        held.delivered(3, 60);
        held.released(&[2]);
        assert_eq!(held.deadline_ms(), Some(160));
        held.released(&[3]);
        assert_eq!(held.deadline_ms(), None);
    }
}
