//! An ordered set of seqs, kept as disjoint inclusive ranges: small when the seqs are consecutive.

use std::collections::BTreeMap;

use super::Seq;

/// Disjoint, non-adjacent inclusive ranges by rising start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RangeSet {
    ranges: BTreeMap<Seq, Seq>,
    count: u64,
}

impl RangeSet {
    /// The empty set.
    pub const fn new() -> Self {
        Self {
            ranges: BTreeMap::new(),
            count: 0,
        }
    }

    /// Number of seqs.
    pub const fn len(&self) -> u64 {
        self.count
    }

    /// True when no seq is in the set.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Number of ranges, which is what the set costs in memory.
    pub fn range_count(&self) -> usize {
        self.ranges.len()
    }

    /// The lowest seq.
    pub fn first(&self) -> Option<Seq> {
        self.ranges.keys().next().copied()
    }

    /// The lowest range.
    pub fn first_range(&self) -> Option<(Seq, Seq)> {
        self.ranges.iter().next().map(|(start, end)| (*start, *end))
    }

    /// Whether `seq` is in the set.
    pub fn contains(&self, seq: Seq) -> bool {
        self.ranges
            .range(..=seq)
            .next_back()
            .is_some_and(|(_, end)| *end >= seq)
    }

    /// The lowest seq in the set that is not below `from`.
    pub fn first_from(&self, from: Seq) -> Option<Seq> {
        let before = self.ranges.range(..=from).next_back();
        match before.filter(|(_, end)| **end >= from) {
            Some(_) => Some(from),
            None => self.ranges.range(from..).next().map(|(first, _)| *first),
        }
    }

    /// Whether any of `first..=last` is in the set.
    pub fn intersects(&self, first: Seq, last: Seq) -> bool {
        self.ranges
            .range(..=last)
            .next_back()
            .is_some_and(|(_, end)| *end >= first)
    }

    /// Adds one seq; true if it was not there.
    pub fn insert(&mut self, seq: Seq) -> bool {
        self.insert_range(seq, seq) == 1
    }

    /// Adds `first..=last`, merging with neighbours. Returns how many seqs are new.
    pub fn insert_range(&mut self, first: Seq, last: Seq) -> u64 {
        debug_assert!(first <= last);
        let (mut start, mut end) = (first, last);
        let mut covered = 0;
        if let Some((before_start, before_end)) = self
            .ranges
            .range(..first)
            .next_back()
            .map(|(s, e)| (*s, *e))
            && before_end.saturating_add(1) >= first
        {
            if before_end >= last {
                return 0;
            }
            start = before_start;
            covered += before_end - before_start + 1;
            self.ranges.remove(&before_start);
        }
        while let Some((next_start, next_end)) =
            self.ranges.range(first..).next().map(|(s, e)| (*s, *e))
        {
            if next_start > end.saturating_add(1) {
                break;
            }
            covered += next_end - next_start + 1;
            end = end.max(next_end);
            self.ranges.remove(&next_start);
        }
        self.ranges.insert(start, end);
        let added = (end - start + 1) - covered;
        self.count += added;
        added
    }

    /// Removes one seq; true if it was there.
    pub fn remove(&mut self, seq: Seq) -> bool {
        let Some((start, end)) = self.ranges.range(..=seq).next_back().map(|(s, e)| (*s, *e))
        else {
            return false;
        };
        if end < seq {
            return false;
        }
        self.ranges.remove(&start);
        if start < seq {
            self.ranges.insert(start, seq - 1);
        }
        if seq < end {
            self.ranges.insert(seq + 1, end);
        }
        self.count -= 1;
        true
    }

    /// Takes the lowest seq out.
    pub fn pop_first(&mut self) -> Option<Seq> {
        let entry = self.ranges.first_entry()?;
        let (start, end) = (*entry.key(), *entry.get());
        if start == end {
            entry.remove();
        } else {
            entry.remove();
            self.ranges.insert(start + 1, end);
        }
        self.count -= 1;
        Some(start)
    }

    /// The ranges, rising.
    pub fn iter(&self) -> impl Iterator<Item = (Seq, Seq)> {
        self.ranges.iter().map(|(start, end)| (*start, *end))
    }

    /// Takes all ranges out.
    pub fn take(&mut self) -> Vec<(Seq, Seq)> {
        self.count = 0;
        std::mem::take(&mut self.ranges).into_iter().collect()
    }

    /// Takes out everything from `seq` on. Costs as much as there are ranges from there on.
    pub fn split_off(&mut self, seq: Seq) -> Self {
        let mut ranges = self.ranges.split_off(&seq);
        if let Some(mut entry) = self.ranges.last_entry()
            && *entry.get() >= seq
        {
            ranges.insert(seq, *entry.get());
            *entry.get_mut() = seq - 1;
        }
        let count = ranges.iter().map(|(start, end)| end - start + 1).sum();
        self.count -= count;
        Self { ranges, count }
    }

    /// Forgets everything from `seq` on.
    pub fn remove_from(&mut self, seq: Seq) {
        self.split_off(seq);
    }

    /// Forgets everything below `seq`.
    pub fn remove_below(&mut self, seq: Seq) {
        while let Some((start, end)) = self.first_range() {
            if start >= seq {
                return;
            }
            self.ranges.remove(&start);
            if end >= seq {
                self.ranges.insert(seq, end);
                self.count -= seq - start;
                return;
            }
            self.count -= end - start + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_as_a_set_of_numbers(steps in prop::collection::vec((0u8..6, 0u64..60, 0u64..8), 0..200)) {
            let mut set = RangeSet::new();
            let mut model = BTreeSet::new();
            for (kind, seq, length) in steps {
                match kind {
                    0 | 1 => {
                        let before = model.len() as u64;
                        model.extend(seq..=seq + length);
                        prop_assert_eq!(set.insert_range(seq, seq + length), model.len() as u64 - before);
                    }
                    2 => prop_assert_eq!(set.remove(seq), model.remove(&seq)),
                    3 => prop_assert_eq!(set.pop_first(), model.pop_first()),
                    4 => {
                        let above = set.split_off(seq);
                        let above: Vec<u64> = above.iter().flat_map(|(first, last)| first..=last).collect();
                        prop_assert_eq!(above, model.split_off(&seq).into_iter().collect::<Vec<_>>());
                    }
                    _ => {
                        set.remove_below(seq);
                        model.retain(|present| *present >= seq);
                    }
                }
                prop_assert_eq!(set.len(), model.len() as u64);
                let listed: Vec<u64> = set.iter().flat_map(|(first, last)| first..=last).collect();
                prop_assert_eq!(listed, model.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(set.contains(seq), model.contains(&seq));
                let any = model.range(seq..=seq + length).next().is_some();
                prop_assert_eq!(set.intersects(seq, seq + length), any);
                prop_assert_eq!(set.first_from(seq), model.range(seq..).next().copied());
                let spans: Vec<_> = set.iter().collect();
                prop_assert!(spans.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "adjacent ranges merge");
            }
        }
    }
}
