//! Loss, duplicates and order, from the stamps of what was sent and what arrived.
//!
//! Each consumer keeps, for each queue and publisher, the set of sequences that it saw and the
//! last of them. Order is judged there. At the end the sets of all consumers are laid over each
//! other: what is in two of them is a duplicate, what is in none is lost.

use std::collections::HashMap;
use std::fmt;

use roaring::RoaringBitmap;
use serde::Serialize;

use super::stamp::Stamp;
use super::topology::Copies;

/// Lost messages that are named in the verdict.
const EXAMPLES_MAX: usize = 5;

/// What one consumer saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Position in `tracks` of each (queue, publisher).
    places: HashMap<(u32, u16), usize>,
    tracks: Vec<Track>,
    /// The place that the last message went to: most often the next one's too.
    last: Option<((u32, u16), usize)>,
}

/// What one consumer saw of one publisher in one queue.
#[derive(Debug)]
struct Track {
    queue: u32,
    publisher: u16,
    /// Sequences seen, without the open run.
    set: RoaringBitmap,
    /// The sequences seen last, without a gap: `first..=last`, above all of `set`.
    run: Option<(u32, u32)>,
    duplicates: u64,
    disordered: u64,
    redelivered: u64,
}

impl Seen {
    /// Notes a message from queue number `queue`. `redelivered` is the broker's own word for a
    /// message that may come again or late.
    pub(super) fn note(&mut self, queue: u32, stamp: Stamp, redelivered: bool) {
        let key = (queue, stamp.publisher);
        let place = match self.last {
            Some((last, place)) if last == key => place,
            _ => *self.places.entry(key).or_insert_with(|| {
                self.tracks.push(Track::new(key));
                self.tracks.len() - 1
            }),
        };
        self.last = Some((key, place));
        self.tracks[place].note(stamp.sequence, redelivered);
    }
}

impl Track {
    fn new((queue, publisher): (u32, u16)) -> Self {
        let set = RoaringBitmap::new();
        Self {
            queue,
            publisher,
            set,
            run: None,
            duplicates: 0,
            disordered: 0,
            redelivered: 0,
        }
    }

    fn note(&mut self, sequence: u32, redelivered: bool) {
        self.redelivered += u64::from(redelivered);
        match &mut self.run {
            Some((_, last)) if last.checked_add(1) == Some(sequence) => *last = sequence,
            Some((_, last)) if sequence > *last => {
                self.close_run();
                self.run = Some((sequence, sequence));
            }
            Some((first, _)) => {
                let again = sequence >= *first || !self.set.insert(sequence);
                if again && !redelivered {
                    self.duplicates += 1;
                } else if !redelivered {
                    self.disordered += 1;
                }
            }
            None => self.run = Some((sequence, sequence)),
        }
    }

    fn close_run(&mut self) {
        if let Some((first, last)) = self.run.take() {
            self.set.insert_range(first..=last);
        }
    }
}

/// What one publisher sent.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) publisher: u16,
    /// Sequences `0..promised` must arrive: they were confirmed, or sent when there are no confirms.
    pub(super) promised: u32,
    /// Those that the broker refused or returned.
    pub(super) refused: RoaringBitmap,
}

/// The result of a check.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Verdict {
    /// Messages that had to arrive, each copy counted.
    pub(super) promised: u64,
    /// Those that did not; `None` when the exchange's rules leave open how many had to.
    pub(super) lost: Option<u64>,
    pub(super) duplicated: u64,
    pub(super) disordered: u64,
    /// Deliveries that the broker marked as redelivered: allowed, but not expected in a quiet run.
    pub(super) redelivered: u64,
    /// A few of the lost ones.
    pub(super) examples: Vec<String>,
}

impl Verdict {
    /// Whether every message arrived, once, in order.
    pub(super) fn passed(&self) -> bool {
        self.lost.unwrap_or(0) == 0 && self.duplicated == 0 && self.disordered == 0
    }

    /// Compares what was sent with what was seen. `queues` is the number of queues.
    pub(super) fn new(sent: &[Sent], seen: Vec<Seen>, copies: Copies, queues: u32) -> Self {
        let mut verdict = Self {
            lost: (copies != Copies::Unknown).then_some(0),
            ..Self::default()
        };
        let mut sets: HashMap<(u32, u16), RoaringBitmap> = HashMap::new();
        for mut track in seen.into_iter().flat_map(|seen| seen.tracks) {
            track.close_run();
            verdict.duplicated += track.duplicates;
            verdict.disordered += track.disordered;
            verdict.redelivered += track.redelivered;
            // With one copy it must not arrive through two queues either.
            let queue = if copies == Copies::One {
                0
            } else {
                track.queue
            };
            let set = sets.entry((queue, track.publisher)).or_default();
            // What two consumers saw may be a redelivery; only unmarked ones are duplicates.
            let twice = set.intersection_len(&track.set);
            verdict.duplicated += twice.saturating_sub(track.redelivered);
            *set |= track.set;
        }
        let places = if copies == Copies::EachQueue {
            queues
        } else {
            1
        };
        for sent in sent {
            for queue in 0..places {
                let set = sets.remove(&(queue, sent.publisher)).unwrap_or_default();
                verdict.judge(sent, &set, queue, copies);
            }
        }
        verdict
    }

    fn judge(&mut self, sent: &Sent, set: &RoaringBitmap, queue: u32, copies: Copies) {
        let mut missing = RoaringBitmap::new();
        missing.insert_range(0..sent.promised);
        missing -= &sent.refused;
        self.promised += missing.len();
        missing -= set;
        let Some(lost) = &mut self.lost else {
            return;
        };
        *lost += missing.len();
        for sequence in missing
            .iter()
            .take(EXAMPLES_MAX.saturating_sub(self.examples.len()))
        {
            let publisher = sent.publisher;
            self.examples.push(match copies {
                Copies::EachQueue => {
                    format!("publisher {publisher} message {sequence} in queue {queue}")
                }
                _ => format!("publisher {publisher} message {sequence}"),
            });
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.passed() { "passed" } else { "FAILED" };
        let lost = self
            .lost
            .map_or_else(|| "loss not known".into(), |lost| format!("{lost} lost"));
        write!(
            f,
            "{word}: {} promised, {lost}, {} duplicated, {} out of order, {} marked as redelivered",
            self.promised, self.duplicated, self.disordered, self.redelivered
        )?;
        if !self.examples.is_empty() {
            write!(f, "; first lost: {}", self.examples.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(publisher: u16, sequence: u32) -> Stamp {
        Stamp {
            sent_ns: 0,
            run: 0,
            publisher,
            sequence,
        }
    }

    fn sent(publisher: u16, promised: u32) -> Sent {
        Sent {
            publisher,
            promised,
            refused: RoaringBitmap::new(),
        }
    }

    fn note(sequences: &[u32]) -> Seen {
        let mut seen = Seen::default();
        for sequence in sequences {
            seen.note(0, stamp(0, *sequence), false);
        }
        seen
    }

    fn check(promised: u32, consumers: &[&[u32]]) -> (u64, u64, u64) {
        let seen = consumers.iter().map(|sequences| note(sequences)).collect();
        let verdict = Verdict::new(&[sent(0, promised)], seen, Copies::One, 1);
        (
            verdict.lost.unwrap(),
            verdict.duplicated,
            verdict.disordered,
        )
    }

    #[test]
    fn each_fault_is_found_and_named() {
        // (lost, duplicated, out of order)
        assert_eq!(check(5, &[&[0, 1, 2, 3, 4]]), (0, 0, 0));
        assert_eq!(check(5, &[&[0, 1, 3, 4]]), (1, 0, 0));
        assert_eq!(check(5, &[&[0, 1, 2, 3]]), (1, 0, 0));
        assert_eq!(check(5, &[&[1, 2, 3, 4]]), (1, 0, 0));
        assert_eq!(check(5, &[]), (5, 0, 0));
        assert_eq!(check(5, &[&[0, 1, 1, 2, 3, 4]]), (0, 1, 0));
        assert_eq!(check(5, &[&[0, 1, 2, 3, 4, 0]]), (0, 1, 0));
        assert_eq!(check(5, &[&[0, 2, 4, 4, 2]]), (2, 2, 0));
        assert_eq!(check(5, &[&[0, 2, 1, 3, 4]]), (0, 0, 1));
        assert_eq!(check(5, &[&[4, 3, 2, 1, 0]]), (0, 0, 4));
        assert_eq!(check(5, &[&[0, 2, 1, 1, 3, 4]]), (0, 1, 1));
    }

    #[test]
    fn consumers_of_one_queue_share_its_messages() {
        assert_eq!(check(6, &[&[0, 3, 4], &[1, 2, 5]]), (0, 0, 0));
        assert_eq!(check(6, &[&[0, 3, 4], &[1, 2, 3, 5]]), (0, 1, 0));
        assert_eq!(check(6, &[&[0, 3], &[1, 2, 5]]), (1, 0, 0));
    }

    #[test]
    fn unconfirmed_messages_may_arrive_or_not() {
        assert_eq!(check(3, &[&[0, 1, 2, 3, 4]]), (0, 0, 0));
    }

    #[test]
    fn refused_messages_are_not_lost() {
        let refused = RoaringBitmap::from_iter([1, 2]);
        let sent = Sent {
            publisher: 0,
            promised: 4,
            refused,
        };
        let verdict = Verdict::new(&[sent], vec![note(&[0, 3])], Copies::One, 1);
        assert!(verdict.passed());
        assert_eq!(verdict.promised, 2);
    }

    #[test]
    fn redelivered_messages_are_neither_duplicates_nor_disorder() {
        let mut seen = note(&[0, 1, 2]);
        seen.note(0, stamp(0, 1), true);
        let verdict = Verdict::new(&[sent(0, 3)], vec![seen], Copies::One, 1);
        assert!(verdict.passed());
        assert_eq!(verdict.redelivered, 1);
    }

    #[test]
    fn a_fanout_owes_each_queue_each_message() {
        let mut one = Seen::default();
        for (queue, sequence) in [(0, 0), (1, 0), (0, 1), (1, 2)] {
            one.note(queue, stamp(3, sequence), false);
        }
        let verdict = Verdict::new(&[sent(3, 3)], vec![one], Copies::EachQueue, 2);
        assert_eq!(
            (verdict.promised, verdict.lost, verdict.duplicated),
            (6, Some(2), 0)
        );
        let named = [
            "publisher 3 message 2 in queue 0",
            "publisher 3 message 1 in queue 1",
        ];
        assert_eq!(verdict.examples, named);
    }

    #[test]
    fn one_copy_in_two_queues_is_a_duplicate() {
        let mut seen = Seen::default();
        seen.note(0, stamp(0, 0), false);
        seen.note(1, stamp(0, 0), false);
        let verdict = Verdict::new(&[sent(0, 1)], vec![seen], Copies::One, 2);
        assert_eq!((verdict.lost, verdict.duplicated), (Some(0), 1));
    }

    #[test]
    fn unknown_copies_leave_loss_open_but_not_order() {
        let verdict = Verdict::new(&[sent(0, 9)], vec![note(&[0, 2, 1])], Copies::Unknown, 1);
        assert_eq!((verdict.lost, verdict.disordered), (None, 1));
        assert!(!verdict.passed());
    }

    #[test]
    fn publishers_are_judged_apart() {
        let mut seen = Seen::default();
        for sequence in 0..1000 {
            seen.note(0, stamp(0, sequence), false);
            seen.note(0, stamp(1, sequence), false);
        }
        let verdict = Verdict::new(&[sent(0, 1000), sent(1, 1001)], vec![seen], Copies::One, 1);
        assert_eq!(verdict.examples, ["publisher 1 message 1000"]);
    }
}
