//! Which stretches of a lane are on their way from the store: the next ones are read while one is, so that the disk has
//! always something to do and no consumer waits for the answer to each piece.

use crate::message::Seq;

/// Of one lane.
const READS_MAX: usize = 4;

/// Reads that are on their way. An idle lane has no memory for them.
#[derive(Debug, Default)]
pub(in crate::broker::queue) struct Reads(Vec<Read>);

#[derive(Debug, Clone, Copy)]
struct Read {
    from: Seq,
    /// The last seq that it will bring, once that is known.
    upto: Option<Seq>,
}

impl Reads {
    pub(in crate::broker::queue) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What to ask the store for when `seq` is wanted: `seq` itself, or, if that is on its way, what is behind that.
    /// `None`: nothing, for now.
    pub(in crate::broker::queue) fn next(&self, seq: Seq) -> Option<Seq> {
        let mut seq = seq;
        // One that was asked for first may be behind the other.
        for _ in 0..READS_MAX {
            for read in &self.0 {
                let upto = read.upto?;
                if (read.from..=upto).contains(&seq) {
                    seq = upto + 1;
                }
            }
        }
        (self.0.len() < READS_MAX).then_some(seq)
    }

    /// The store was asked for what begins there.
    pub(in crate::broker::queue) fn asked(&mut self, from: Seq) {
        self.0.push(Read { from, upto: None });
    }

    /// What was asked for will come up to this seq. `false`: nobody waits for it any more.
    pub(in crate::broker::queue) fn begins(&mut self, from: Seq, upto: Seq) -> bool {
        let read = self.0.iter_mut().find(|read| read.from == from);
        let is_known = read.is_some();
        if let Some(read) = read {
            read.upto = Some(upto);
        }
        is_known
    }

    /// It is there.
    pub(in crate::broker::queue) fn ends(&mut self, from: Seq) {
        self.0.retain(|read| read.from != from);
        if self.0.is_empty() {
            self.0 = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_behind_a_load_is_asked_for_once_its_end_is_known() {
        let mut reads = Reads::default();
        assert_eq!(reads.next(5), Some(5));
        reads.asked(5);
        assert_eq!(reads.next(5), None, "nobody knows how far that goes");
        assert!(reads.begins(5, 9));
        assert_eq!(reads.next(5), Some(10));
        assert_eq!(reads.next(40), Some(40), "something else");
        for from in [10, 20, 30] {
            assert_eq!(reads.next(5), Some(from));
            reads.asked(from);
            assert_eq!(reads.next(5), None);
            assert!(reads.begins(from, from + 9));
        }
        assert_eq!(reads.next(5), None, "these are enough");
        reads.ends(5);
        assert_eq!(reads.next(10), Some(40));
        assert_eq!(reads.next(40), Some(40));
        reads.asked(40);
        assert!(reads.begins(40, 49));
        reads.ends(40);
        assert_eq!(reads.next(10), Some(40), "it may have been evicted again");
        for from in [20, 30, 10] {
            reads.ends(from);
        }
        assert!(reads.is_empty());
        assert!(!reads.begins(10, 19), "the queue was purged meanwhile");
    }
}
