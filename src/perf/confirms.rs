//! Which of a publisher's messages are confirmed, within a window of bounded width.

use std::collections::VecDeque;

use roaring::RoaringBitmap;

use super::meter::Latencies;

/// The confirms of one channel. Delivery tags count from 1.
///
/// The window reaches from the oldest unconfirmed message to the newest one sent: confirms that
/// overtake the oldest one make no room.
#[derive(Debug)]
pub(super) struct Confirms {
    width: u64,
    sent: u64,
    /// All up to this tag are confirmed or refused.
    settled: u64,
    /// One bit for each tag of the window, at the tag's place modulo the length: settled early.
    early: Vec<u64>,
    early_count: u64,
    /// For each batch its last tag and when it was sent.
    batches: VecDeque<(u64, u64)>,
    /// Up to this tag the latency has been noted.
    timed: u64,
    /// Sequences that the broker refused.
    pub(super) refused: RoaringBitmap,
}

impl Confirms {
    pub(super) fn new(window: u32) -> Self {
        let width = u64::from(window);
        let words = width.div_ceil(64).next_power_of_two() as usize;
        Self {
            width,
            sent: 0,
            settled: 0,
            early: vec![0; words],
            early_count: 0,
            batches: VecDeque::new(),
            timed: 0,
            refused: RoaringBitmap::new(),
        }
    }

    /// Messages that may be sent now.
    pub(super) fn room(&self) -> u64 {
        self.width - (self.sent - self.settled)
    }

    /// Notes that as many messages were sent at `now_ns`; there was room for them.
    pub(super) fn sent(&mut self, messages: u64, now_ns: u64) {
        self.sent += messages;
        self.batches.push_back((self.sent, now_ns));
    }

    /// All up to this tag are confirmed or refused.
    pub(super) fn settled(&self) -> u64 {
        self.settled
    }

    /// Notes basic.ack or, with `refused`, basic.nack. Returns how many messages it settled, or
    /// `None` for a tag that was not sent or is settled already.
    pub(super) fn settle(&mut self, tag: u64, multiple: bool, refused: bool) -> Option<u64> {
        // With multiple, tag 0 stands for all that is outstanding.
        let tag = if tag == 0 && multiple { self.sent } else { tag };
        if tag > self.sent || tag <= self.settled {
            return None;
        }
        if multiple {
            Some(self.settle_up_to(tag, refused))
        } else {
            self.settle_one(tag, refused)
        }
    }

    fn settle_up_to(&mut self, tag: u64, refused: bool) -> u64 {
        let mut settled = tag - self.settled;
        // The bits need a look only when single confirms ran ahead or refusals are to be listed.
        if self.early_count > 0 || refused {
            for tag in self.settled + 1..=tag {
                if self.take_early(tag) {
                    settled -= 1;
                } else if refused {
                    self.refused.insert((tag - 1) as u32);
                }
            }
        }
        self.settled = tag;
        self.absorb_early();
        settled
    }

    fn settle_one(&mut self, tag: u64, refused: bool) -> Option<u64> {
        if tag == self.settled + 1 {
            self.settled = tag;
            self.absorb_early();
        } else {
            let (word, bit) = self.place(tag);
            if self.early[word] & bit != 0 {
                return None;
            }
            self.early[word] |= bit;
            self.early_count += 1;
        }
        if refused {
            self.refused.insert((tag - 1) as u32);
        }
        Some(1)
    }

    /// Moves the window over what was settled early.
    fn absorb_early(&mut self) {
        while self.early_count > 0 && self.take_early(self.settled + 1) {
            self.settled += 1;
        }
    }

    fn take_early(&mut self, tag: u64) -> bool {
        let (word, bit) = self.place(tag);
        let early = self.early[word] & bit != 0;
        self.early[word] &= !bit;
        self.early_count -= u64::from(early);
        early
    }

    fn place(&self, tag: u64) -> (usize, u64) {
        // The length is a power of two, so the masked word index is within it.
        (
            (tag / 64) as usize & (self.early.len() - 1),
            1 << (tag % 64),
        )
    }

    /// Notes the latency of all that the window has moved over.
    pub(super) fn latencies(&mut self, now_ns: u64, latencies: &mut Latencies) {
        while let Some((last, sent_ns)) = self.batches.front().copied() {
            let upto = last.min(self.settled);
            if upto > self.timed {
                latencies.note(now_ns.saturating_sub(sent_ns), upto - self.timed);
                self.timed = upto;
            }
            if last > self.settled {
                break;
            }
            self.batches.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(window: u32, messages: u64) -> Confirms {
        let mut confirms = Confirms::new(window);
        confirms.sent(messages, 0);
        confirms
    }

    #[test]
    fn confirms_make_room_in_order() {
        let mut confirms = sent(10, 10);
        assert_eq!(confirms.room(), 0);
        assert_eq!(confirms.settle(4, true, false), Some(4));
        assert_eq!(confirms.settle(5, false, false), Some(1));
        assert_eq!((confirms.room(), confirms.settled()), (5, 5));
    }

    #[test]
    fn a_confirm_that_overtakes_makes_room_when_the_oldest_comes() {
        let mut confirms = sent(10, 10);
        assert_eq!(confirms.settle(2, false, false), Some(1));
        assert_eq!(confirms.settle(3, false, false), Some(1));
        assert_eq!(confirms.settle(7, false, false), Some(1));
        assert_eq!(confirms.room(), 0);
        assert_eq!(confirms.settle(1, false, false), Some(1));
        assert_eq!(confirms.room(), 3);
        assert_eq!(confirms.settle(6, true, false), Some(3));
        assert_eq!(confirms.settled(), 7);
    }

    #[test]
    fn each_message_is_settled_once() {
        let mut confirms = sent(10, 5);
        assert_eq!(confirms.settle(3, false, false), Some(1));
        assert_eq!(confirms.settle(3, false, false), None);
        assert_eq!(confirms.settle(6, false, false), None);
        assert_eq!(confirms.settle(0, true, false), Some(4));
        assert_eq!(confirms.settle(5, true, false), None);
    }

    #[test]
    fn refused_messages_are_listed() {
        let mut confirms = sent(10, 6);
        confirms.settle(2, false, false);
        confirms.settle(3, true, true);
        confirms.settle(6, false, true);
        assert_eq!(confirms.refused.iter().collect::<Vec<_>>(), [0, 2, 5]);
    }

    #[test]
    fn the_window_slides_over_any_distance() {
        for window in [1, 2, 63, 64, 65, 1000] {
            let mut confirms = Confirms::new(window);
            let mut expected = 0;
            for round in 0..1000 {
                let room = confirms.room();
                confirms.sent(room, round);
                expected += room;
                // All but the oldest arrive one by one, backwards; then the oldest.
                for tag in (confirms.settled() + 1..=expected).rev() {
                    assert_eq!(confirms.settle(tag, false, false), Some(1));
                }
                assert_eq!(confirms.settled(), expected);
            }
        }
    }

    #[test]
    fn latency_counts_from_the_batch_that_a_message_was_in() {
        let mut confirms = Confirms::new(10);
        confirms.sent(2, 100);
        confirms.sent(3, 200);
        let mut latencies = Latencies::default();
        confirms.settle(3, true, false);
        confirms.latencies(1000, &mut latencies);
        confirms.settle(5, true, false);
        confirms.latencies(2000, &mut latencies);
        let meter = super::super::meter::Meter::new();
        latencies.hand_over(&meter.confirm);
        let histogram = meter.confirm.lock();
        assert_eq!([900, 800, 1800].map(|ns| histogram.count_at(ns)), [2, 1, 2]);
    }
}
