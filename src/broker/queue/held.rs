//! How long a consumer has held what it has not acknowledged: only the oldest delivery counts (design-notes m11).

use std::collections::VecDeque;

use crate::message::Seq;
use crate::message::ranges::RangeSet;

/// Unacknowledged deliveries of a consumer that has a timeout.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) timeout_ms: u64,
    /// Runs of deliveries in the order in which they were made: when, first and last seq. May name settled ones.
    order: VecDeque<(u64, Seq, Seq)>,
    unacked: RangeSet,
}

impl Held {
    pub(super) const fn new(timeout_ms: u64) -> Self {
        Self {
            timeout_ms,
            order: VecDeque::new(),
            unacked: RangeSet::new(),
        }
    }

    pub(super) fn delivered(&mut self, seq: Seq, now_ms: u64) {
        self.unacked.insert(seq);
        match self.order.back_mut() {
            Some((at_ms, _, last)) if *at_ms == now_ms && *last + 1 == seq => *last = seq,
            _ => self.order.push_back((now_ms, seq, seq)),
        }
    }

    /// Settled or given back.
    pub(super) fn released(&mut self, seqs: &[Seq]) {
        for seq in seqs {
            self.unacked.remove(*seq);
        }
        while let Some((_, first, last)) = self.order.front()
            && !self.unacked.intersects(*first, *last)
        {
            self.order.pop_front();
        }
    }

    /// When the oldest delivery has been held for too long.
    pub(super) fn deadline_ms(&self) -> Option<u64> {
        let (at_ms, ..) = self.order.front()?;
        Some(at_ms.saturating_add(self.timeout_ms))
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
}
