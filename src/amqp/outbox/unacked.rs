//! The unacknowledged deliveries of a channel by tag.
//!
//! Tags rise by one; acknowledgements come in order, in groups, or at random. One slow message, or a consumer that
//! acknowledges at random, keeps the lowest tag far behind the highest: what is acknowledged in between takes no
//! memory.
//!
//! ```text
//! closed pages of 512 tags, by number                          the open page
//!    | dense, some settled | sparse: what is left | ...         | dense, grows up to `last` |
//! ```
//!
//! Invariants:
//! - Every closed page has something left, and lies before the open one.
//! - Behind the oldest, at least a quarter of a dense closed page is left. The oldest is spared, as acknowledgements in
//!   order have it melt away in any case.

use hashbrown::HashMap;

use crate::message::Seq;

/// Tags of a page, as a power of two.
const PAGE_BITS: u32 = if cfg!(test) { 4 } else { 9 };

const PAGE_TAGS: usize = 1 << PAGE_BITS;

/// A page of which only this part is left is kept sparse.
const SPARSE_PART: usize = 4;

/// No delivery waits under this tag.
const SETTLED: u32 = u32::MAX;

/// A delivery that waits for its acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unacked {
    /// The message in its queue.
    pub(super) seq: Seq,
    /// Number and marks of where it came from, as `Deliveries` has them; never `u32::MAX`.
    pub(super) source: u32,
}

// What docs/limits.md promises of each unacknowledged delivery.
const _: () = assert!(size_of::<Unacked>() <= 16);

impl Unacked {
    const SETTLED: Self = Self {
        seq: 0,
        source: SETTLED,
    };

    const fn is_live(&self) -> bool {
        self.source != SETTLED
    }
}

/// The unacknowledged deliveries of a channel.
#[derive(Debug, Default)]
pub(super) struct UnackedTable {
    /// The last tag that was given out.
    last: u64,
    closed: HashMap<u64, Page>,
    /// No closed page has a lower number.
    oldest: u64,
    open: Dense,
    /// Number of the open page.
    open_number: u64,
}

/// Consecutive tags of a page.
#[derive(Debug, Default)]
struct Dense {
    /// Place of the first entry in the page.
    start: usize,
    entries: Vec<Unacked>,
    /// All entries before are settled.
    head: usize,
    live: usize,
}

#[derive(Debug)]
enum Page {
    Dense(Dense),
    /// What is left, by place in the page.
    Sparse(Vec<(u16, Unacked)>),
}

const fn number_of(tag: u64) -> u64 {
    tag >> PAGE_BITS
}

const fn place_of(tag: u64) -> usize {
    tag as usize % PAGE_TAGS
}

impl UnackedTable {
    /// The last tag that was given out, 0 for none.
    pub(super) const fn last(&self) -> u64 {
        self.last
    }

    /// Gives a tag to a delivery that needs no acknowledgement.
    pub(super) const fn skip(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Gives a tag to a delivery that waits for its acknowledgement.
    pub(super) fn push(&mut self, unacked: Unacked) -> u64 {
        debug_assert!(unacked.is_live());
        self.last += 1;
        if number_of(self.last) != self.open_number {
            self.turn_over();
        }
        self.open.push(place_of(self.last), unacked);
        self.last
    }

    /// Closes the open page and opens the one of `last`.
    fn turn_over(&mut self) {
        let number = std::mem::replace(&mut self.open_number, number_of(self.last));
        if self.open.live == 0 {
            return;
        }
        let fresh = Dense {
            entries: Vec::with_capacity(PAGE_TAGS),
            ..Dense::default()
        };
        let mut page = Page::Dense(std::mem::replace(&mut self.open, fresh));
        if self.closed.is_empty() {
            self.oldest = number;
        } else if page.wastes() {
            page.thin_out();
        }
        self.closed.insert(number, page);
    }

    /// The delivery that waits under `tag`.
    pub(super) fn get(&self, tag: u64) -> Option<&Unacked> {
        let (number, place) = (number_of(tag), place_of(tag));
        if number == self.open_number {
            return self.open.get(place);
        }
        self.closed.get(&number)?.get(place)
    }

    /// As [`Self::get`], to mark its source.
    pub(super) fn get_mut(&mut self, tag: u64) -> Option<&mut Unacked> {
        let (number, place) = (number_of(tag), place_of(tag));
        if number == self.open_number {
            return self.open.get_mut(place);
        }
        self.closed.get_mut(&number)?.get_mut(place)
    }

    /// Takes the delivery that waits under `tag`.
    pub(super) fn take(&mut self, tag: u64) -> Option<Unacked> {
        let (number, place) = (number_of(tag), place_of(tag));
        if number == self.open_number {
            return self.open.take(place);
        }
        let page = self.closed.get_mut(&number)?;
        let taken = page.take(place)?;
        if page.is_empty() {
            self.closed.remove(&number);
            self.find_oldest();
        } else if number != self.oldest && page.wastes() {
            page.thin_out();
        }
        Some(taken)
    }

    /// Pages only go, so that the way up is walked once.
    fn find_oldest(&mut self) {
        while !self.closed.is_empty() && !self.closed.contains_key(&self.oldest) {
            self.oldest += 1;
        }
        if self.closed.is_empty() {
            self.closed = HashMap::new();
        }
    }

    /// Takes all deliveries up to `tag`, the oldest first.
    pub(super) fn take_upto(&mut self, tag: u64, mut each: impl FnMut(Unacked)) {
        let (number, place) = (number_of(tag), place_of(tag));
        while !self.closed.is_empty() && self.oldest <= number {
            let upto = match self.oldest == number {
                true => place,
                false => PAGE_TAGS - 1,
            };
            if let Some(page) = self.closed.get_mut(&self.oldest) {
                page.take_upto(upto, &mut each);
                if !page.is_empty() {
                    return;
                }
                self.closed.remove(&self.oldest);
            }
            self.find_oldest();
        }
        if self.open_number <= number {
            let upto = match self.open_number == number {
                true => place,
                false => PAGE_TAGS - 1,
            };
            self.open.take_upto(upto, &mut each);
        }
    }

    /// The tags under which deliveries wait, rising, with where they came from.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Unacked)> {
        let mut closed: Vec<_> = self.closed.iter().collect();
        closed.sort_unstable_by_key(|(number, _)| **number);
        let closed = closed.into_iter().flat_map(|(number, page)| {
            let (dense, sparse) = match page {
                Page::Dense(dense) => (Some(dense), None),
                Page::Sparse(left) => (None, Some(left)),
            };
            let dense = dense.into_iter().flat_map(Dense::iter);
            let sparse = sparse.into_iter().flatten();
            let sparse = sparse.map(|(place, unacked)| (*place, unacked));
            let all = dense.chain(sparse);
            all.map(move |(place, unacked)| ((number << PAGE_BITS) + u64::from(place), unacked))
        });
        let open = self.open.iter();
        let open =
            open.map(|(place, entry)| ((self.open_number << PAGE_BITS) + u64::from(place), entry));
        closed.chain(open)
    }
}

impl Dense {
    /// So little is left that it is worth to keep only that.
    const fn is_sparse(&self) -> bool {
        self.live * SPARSE_PART <= self.entries.len()
    }

    fn push(&mut self, place: usize, unacked: Unacked) {
        if self.entries.is_empty() {
            self.start = place;
        }
        // Places that are passed over belong to deliveries that need no acknowledgement.
        if self.start + self.entries.len() < place {
            self.entries.resize(place - self.start, Unacked::SETTLED);
        }
        self.entries.push(unacked);
        self.live += 1;
    }

    fn get(&self, place: usize) -> Option<&Unacked> {
        let entry = self.entries.get(place.checked_sub(self.start)?)?;
        entry.is_live().then_some(entry)
    }

    fn get_mut(&mut self, place: usize) -> Option<&mut Unacked> {
        let entry = self.entries.get_mut(place.checked_sub(self.start)?)?;
        entry.is_live().then_some(entry)
    }

    fn take(&mut self, place: usize) -> Option<Unacked> {
        let taken = std::mem::replace(self.get_mut(place)?, Unacked::SETTLED);
        self.live -= 1;
        self.clear_if_empty();
        Some(taken)
    }

    /// Takes what is left up to the place `last`.
    fn take_upto(&mut self, last: usize, each: &mut impl FnMut(Unacked)) {
        let end = self
            .entries
            .len()
            .min((last + 1).saturating_sub(self.start));
        let Some(taken) = self.entries.get_mut(self.head..end) else {
            return;
        };
        for entry in taken.iter_mut().filter(|entry| entry.is_live()) {
            each(std::mem::replace(entry, Unacked::SETTLED));
            self.live -= 1;
        }
        self.head = end;
        self.clear_if_empty();
    }

    /// Begins anew with the same buffer.
    fn clear_if_empty(&mut self) {
        if self.live == 0 {
            self.entries.clear();
            self.head = 0;
        }
    }

    fn iter(&self) -> impl Iterator<Item = (u16, &Unacked)> {
        let all = (self.start as u16..).zip(&self.entries);
        all.filter(|(_, entry)| entry.is_live())
    }

    fn left(&self) -> Vec<(u16, Unacked)> {
        let mut left = Vec::with_capacity(self.live);
        left.extend(self.iter().map(|(place, entry)| (place, *entry)));
        left
    }
}

impl Page {
    fn is_empty(&self) -> bool {
        match self {
            Self::Dense(dense) => dense.live == 0,
            Self::Sparse(left) => left.is_empty(),
        }
    }

    /// Most of its room is for what is settled.
    const fn wastes(&self) -> bool {
        matches!(self, Self::Dense(dense) if dense.is_sparse())
    }

    fn thin_out(&mut self) {
        if let Self::Dense(dense) = self {
            *self = Self::Sparse(dense.left());
        }
    }

    fn get(&self, place: usize) -> Option<&Unacked> {
        match self {
            Self::Dense(dense) => dense.get(place),
            Self::Sparse(left) => Some(&left[position(left, place)?].1),
        }
    }

    fn get_mut(&mut self, place: usize) -> Option<&mut Unacked> {
        match self {
            Self::Dense(dense) => dense.get_mut(place),
            Self::Sparse(left) => {
                let position = position(left, place)?;
                Some(&mut left[position].1)
            }
        }
    }

    fn take(&mut self, place: usize) -> Option<Unacked> {
        match self {
            Self::Dense(dense) => dense.take(place),
            Self::Sparse(left) => {
                let (_, taken) = left.remove(position(left, place)?);
                if left.len() * 2 <= left.capacity() {
                    left.shrink_to_fit();
                }
                Some(taken)
            }
        }
    }

    fn take_upto(&mut self, last: usize, each: &mut impl FnMut(Unacked)) {
        match self {
            Self::Dense(dense) => dense.take_upto(last, each),
            Self::Sparse(left) => {
                let end = left.partition_point(|(at, _)| usize::from(*at) <= last);
                left.drain(..end).for_each(|(_, unacked)| each(unacked));
            }
        }
    }
}

/// Where `place` is in a sparse page.
fn position(left: &[(u16, Unacked)], place: usize) -> Option<usize> {
    let place = u16::try_from(place).ok()?;
    left.binary_search_by_key(&place, |(at, _)| *at).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const fn unacked(seq: Seq) -> Unacked {
        Unacked { seq, source: 7 }
    }

    /// What the table holds at most: entries that have room in its pages.
    fn room(table: &UnackedTable) -> usize {
        let closed = table.closed.values().map(|page| match page {
            Page::Dense(dense) => dense.entries.capacity(),
            Page::Sparse(left) => left.capacity() * 3 / 2,
        });
        closed.sum::<usize>() + table.open.entries.capacity()
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push(u64),
        Skip(u64),
        /// Of those that wait, the one at this part of a thousand.
        Take(usize),
        TakeUpto(usize),
        /// A tag that may be unknown.
        Probe(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (1u64..20).prop_map(Step::Push),
            1 => (1u64..30).prop_map(Step::Skip),
            60 => (0usize..1000).prop_map(Step::Take),
            1 => (0usize..1000).prop_map(Step::TakeUpto),
            3 => (0u64..3000).prop_map(Step::Probe),
        ];
        proptest::collection::vec(step, 1..600)
    }

    proptest! {
        #[test]
        fn it_holds_what_a_map_by_tag_would_hold(steps in steps()) {
            let mut table = UnackedTable::default();
            let mut model = BTreeMap::new();
            for step in steps {
                let chosen = |part: usize| model.keys().nth(part * model.len() / 1000).copied();
                match step {
                    Step::Push(count) => for _ in 0..count {
                        let wanted = unacked(table.last() + 1000);
                        model.insert(table.push(wanted), wanted);
                    },
                    Step::Skip(count) => for _ in 0..count {
                        table.skip();
                    },
                    Step::Take(part) => if let Some(tag) = chosen(part) {
                        prop_assert_eq!(table.take(tag), model.remove(&tag));
                    },
                    Step::TakeUpto(part) => if let Some(tag) = chosen(part) {
                        let left = model.split_off(&(tag + 1));
                        let mut taken = Vec::new();
                        table.take_upto(tag, |unacked| taken.push(unacked));
                        prop_assert_eq!(taken, model.into_values().collect::<Vec<_>>());
                        model = left;
                    },
                    Step::Probe(tag) => {
                        prop_assert_eq!(table.get(tag), model.get(&tag));
                        prop_assert_eq!(table.get_mut(tag), model.get_mut(&tag));
                        prop_assert_eq!(table.take(tag), model.remove(&tag));
                    },
                }
                prop_assert!(table.iter().map(|(tag, entry)| (tag, *entry)).eq(
                    model.iter().map(|(tag, entry)| (*tag, *entry))));
                // The oldest page and the open one, and four times what is left in the others.
                prop_assert!(room(&table) <= 4 * PAGE_TAGS + SPARSE_PART * model.len());
            }
        }
    }

    #[test]
    fn one_slow_message_takes_no_room_for_those_that_came_after_it() {
        let mut table = UnackedTable::default();
        let slow = table.push(unacked(1));
        for seq in 2..100_000 {
            let tag = table.push(unacked(seq));
            assert_eq!(table.take(tag), Some(unacked(seq)));
        }
        assert!(room(&table) <= 2 * PAGE_TAGS, "{}", room(&table));
        assert_eq!(table.take(slow), Some(unacked(1)));
        assert_eq!(table.take(slow), None);
    }

    #[test]
    fn messages_acknowledged_at_random_take_as_much_room_as_are_left() {
        let mut table = UnackedTable::default();
        let mut random = fastrand::Rng::with_seed(1);
        let mut tags: Vec<u64> = (0..1000).map(|seq| table.push(unacked(seq))).collect();
        for seq in 1000..200_000 {
            let chosen = random.usize(..tags.len());
            let tag = std::mem::replace(&mut tags[chosen], table.push(unacked(seq)));
            assert!(table.take(tag).is_some());
        }
        assert!(room(&table) <= 3 * tags.len(), "{}", room(&table));
    }
}
