//! A cold stretch: neighbouring records of a queue that only the store holds.

use crate::message::Seq;
use crate::message::ranges::RangeSet;

/// Neighbouring stretches stay apart when the one of both would have this many gaps: messages that are settled at
/// random would make it ever slower to take a piece out.
const MERGED_GAPS_MAX: usize = 1024;

/// Seqs per gap below which a bit for each seq takes less memory than the gaps, of some 24 bytes.
const GAP_SEQS_MIN: u64 = 24 * 8;

/// So few gaps are kept as such in any case.
const GAPS_MIN: usize = 4;

/// Records that only the store holds.
#[derive(Debug)]
pub(super) struct Cold {
    pub(super) first: Seq,
    pub(super) last: Seq,
    /// Records that are still wanted.
    pub(super) live: u64,
    /// Settled since the stretch went cold, or settled before but perhaps not yet applied by the store.
    gone: Gone,
}

#[derive(Debug)]
enum Gone {
    /// Few, or many in a row.
    Ranges(RangeSet),
    /// Settled here and there.
    Bits(Bits),
}

/// A bit per seq.
#[derive(Debug)]
struct Bits {
    /// Seq of the first bit.
    base: Seq,
    words: Vec<u64>,
}

impl Cold {
    /// A stretch of which nothing is gone.
    pub(super) fn new(first: Seq, last: Seq, live: u64) -> Self {
        Self {
            first,
            last,
            live,
            gone: Gone::Ranges(RangeSet::new()),
        }
    }

    /// First seq after the stretch.
    pub(super) const fn end(&self) -> Seq {
        self.last + 1
    }

    /// Whether the record is gone, or was never there.
    pub(super) fn is_gone(&self, seq: Seq) -> bool {
        match &self.gone {
            Gone::Ranges(ranges) => ranges.contains(seq),
            Gone::Bits(bits) => bits.contains(seq),
        }
    }

    /// Forgets a record. `false`: it was gone.
    pub(super) fn settle(&mut self, seq: Seq) -> bool {
        if self.forget(seq, seq) == 0 {
            return false;
        }
        self.live = self.live.saturating_sub(1);
        true
    }

    /// Forgets all records of `first..=last`, some of which may never have been there.
    pub(super) fn settle_range(&mut self, first: Seq, last: Seq) {
        self.forget(first, last);
        // What is left is the most that can be live.
        let left = self.last - self.first + 1 - self.gone.len();
        self.live = self.live.min(left);
    }

    /// Notes that seqs are gone which `live` does not count. Answers how many are new.
    pub(super) fn forget(&mut self, first: Seq, last: Seq) -> u64 {
        match &mut self.gone {
            Gone::Ranges(ranges) => {
                let added = ranges.insert_range(first, last);
                let gaps = ranges.range_count();
                if gaps > GAPS_MIN && gaps as u64 * GAP_SEQS_MIN > self.last - self.first {
                    self.gone = Gone::Bits(Bits::of(self.first, self.last, ranges));
                }
                added
            }
            Gone::Bits(bits) => bits.insert(first, last),
        }
    }

    /// Takes everything from `seq` on out of the stretch, in which `seq` lies behind the first. How the live records
    /// divide over both is unknown: each gets what it can hold at most of `live`.
    pub(super) fn split_off(&mut self, seq: Seq, live: u64) -> Self {
        let gone = match &mut self.gone {
            Gone::Ranges(ranges) => Gone::Ranges(ranges.split_off(seq)),
            Gone::Bits(bits) => Gone::Bits(bits.split_off(seq)),
        };
        let after = Self {
            first: seq,
            last: self.last,
            live: live.min(self.last - seq + 1),
            gone,
        };
        self.last = seq - 1;
        self.live = live.min(seq - self.first);
        after
    }

    /// Whether [`Self::merge`] with the stretch behind makes one that is as quick to work with.
    pub(super) fn merges_with(&self, after: &Self) -> bool {
        let (Gone::Ranges(before), Gone::Ranges(after)) = (&self.gone, &after.gone) else {
            return false;
        };
        before.range_count() + after.range_count() < MERGED_GAPS_MAX
    }

    /// Takes in the stretch behind, which [`Self::merges_with`] this one; the seqs between them are gone.
    pub(super) fn merge(&mut self, after: Self) {
        let Gone::Ranges(mut ranges) = after.gone else {
            debug_assert!(false, "only stretches with few gaps become one");
            return;
        };
        let between = (self.end(), after.first);
        self.last = after.last;
        self.live += after.live;
        if between.0 < between.1 {
            self.forget(between.0, between.1 - 1);
        }
        for (first, last) in ranges.take() {
            self.forget(first, last);
        }
    }
}

impl Gone {
    fn len(&self) -> u64 {
        match self {
            Self::Ranges(ranges) => ranges.len(),
            Self::Bits(bits) => bits
                .words
                .iter()
                .map(|word| u64::from(word.count_ones()))
                .sum(),
        }
    }
}

impl Bits {
    fn of(first: Seq, last: Seq, ranges: &RangeSet) -> Self {
        let mut bits = Self {
            base: first,
            words: vec![0; ((last - first) / 64 + 1) as usize],
        };
        for (first, last) in ranges.iter() {
            bits.insert(first, last);
        }
        bits
    }

    fn contains(&self, seq: Seq) -> bool {
        let bit = seq.wrapping_sub(self.base);
        let word = self.words.get((bit / 64) as usize);
        word.is_some_and(|word| word & (1 << (bit % 64)) != 0)
    }

    /// Adds seqs, which are among those covered. Answers how many are new.
    fn insert(&mut self, first: Seq, last: Seq) -> u64 {
        let (from, upto) = (first - self.base, last - self.base);
        let mut added = 0;
        for index in from / 64..=upto / 64 {
            let low = from.max(index * 64) % 64;
            let high = upto.min(index * 64 + 63) % 64;
            let mask = (u64::MAX << low) & (u64::MAX >> (63 - high));
            if let Some(word) = self.words.get_mut(index as usize) {
                added += u64::from((mask & !*word).count_ones());
                *word |= mask;
            }
        }
        added
    }

    /// Takes out everything from `seq` on, which is covered.
    fn split_off(&mut self, seq: Seq) -> Self {
        let bit = seq - self.base;
        let (index, low) = ((bit / 64) as usize, bit % 64);
        let mut words = self.words.split_off(index);
        if let Some(word) = words.first_mut()
            && low > 0
        {
            let below = *word & !(u64::MAX << low);
            *word &= u64::MAX << low;
            self.words.push(below);
        }
        // Of a long stretch a short piece is taken off at its beginning.
        self.words.shrink_to_fit();
        Self {
            base: self.base + index as u64 * 64,
            words,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Seqs of the stretch that are gone.
    fn gone(cold: &Cold) -> BTreeSet<Seq> {
        (cold.first..=cold.last)
            .filter(|seq| cold.is_gone(*seq))
            .collect()
    }

    proptest! {
        #[test]
        fn a_stretch_remembers_what_is_gone(
            first in 0u64..1000,
            steps in prop::collection::vec((0u8..8, 0u64..700, 0u64..40), 0..100),
            split in 1u64..700,
        ) {
            let last = first + 699;
            let mut cold = Cold::new(first, last, 700);
            let mut model = BTreeSet::new();
            for (kind, offset, length) in steps {
                let seq = first + offset;
                let end = last.min(seq + length);
                match kind {
                    0 => {
                        model.extend(seq..=end);
                        cold.settle_range(seq, end);
                    }
                    _ => prop_assert_eq!(cold.settle(seq), model.insert(seq)),
                }
                prop_assert_eq!(cold.live, 700 - model.len() as u64);
            }
            prop_assert_eq!(&gone(&cold), &model);
            let live = cold.live;
            let after = cold.split_off(first + split, live);
            let above = model.split_off(&(first + split));
            prop_assert_eq!((&gone(&cold), &gone(&after)), (&model, &above));
            prop_assert_eq!((cold.first, cold.end()), (first, after.first));
            if cold.merges_with(&after) {
                model.extend(above);
                cold.merge(after);
                prop_assert_eq!((cold.last, &gone(&cold)), (last, &model));
            }
        }
    }

    #[test]
    fn many_gaps_take_a_bit_each_and_few_gaps_of_a_long_stretch_do_not() {
        let mut long = Cold::new(1, 10_000_000, 10_000_000);
        let mut short = Cold::new(1, 800, 800);
        for seq in (1..800).step_by(2) {
            long.settle(seq);
            short.settle(seq);
        }
        assert!(matches!(&long.gone, Gone::Ranges(ranges) if ranges.range_count() == 400));
        assert!(matches!(&short.gone, Gone::Bits(bits) if bits.words.len() == 13));
        assert!(!short.merges_with(&Cold::new(801, 900, 100)));
        assert!(long.merges_with(&Cold::new(10_000_001, 10_000_100, 100)));
    }
}
