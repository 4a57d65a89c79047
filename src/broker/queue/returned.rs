//! Messages that consumers gave back: where they stand among the others.

use std::collections::BTreeMap;

use crate::message::Seq;
use crate::message::ranges::RangeSet;

/// Seqs that are ready again.
pub(super) enum Returned {
    /// Classic queues: at their original position.
    ByPosition(RangeSet),
    /// Quorum queues: ahead of all others, in the order of their return (semantics row 26).
    InOrder(Turns),
}

/// Seqs in an order that is not theirs. No turn is given twice: one that waits for its group keeps its turn meanwhile.
#[derive(Default)]
pub(super) struct Turns {
    by_turn: BTreeMap<i64, Seq>,
    turns: BTreeMap<Seq, i64>,
    /// Turns that were given at the end.
    last: i64,
    /// Turns that were given at the front: negative.
    first: i64,
}

impl Turns {
    fn insert(&mut self, seq: Seq, turn: i64) -> bool {
        let is_new = !self.turns.contains_key(&seq);
        if is_new {
            self.turns.insert(seq, turn);
            self.by_turn.insert(turn, seq);
        }
        is_new
    }

    const fn before_first(&mut self) -> i64 {
        self.first -= 1;
        self.first
    }

    const fn after_last(&mut self) -> i64 {
        self.last += 1;
        self.last
    }
}

impl Returned {
    pub(super) fn new(in_order: bool) -> Self {
        if in_order {
            Self::InOrder(Turns::default())
        } else {
            Self::ByPosition(RangeSet::new())
        }
    }

    pub(super) const fn is_in_order(&self) -> bool {
        matches!(self, Self::InOrder(_))
    }

    /// The one whose turn it is.
    pub(super) fn first(&self) -> Option<Seq> {
        match self {
            Self::ByPosition(set) => set.first(),
            Self::InOrder(list) => list.by_turn.values().next().copied(),
        }
    }

    pub(super) fn lowest(&self) -> Option<Seq> {
        match self {
            Self::ByPosition(set) => set.first(),
            Self::InOrder(list) => list.turns.keys().next().copied(),
        }
    }

    pub(super) fn contains(&self, seq: Seq) -> bool {
        match self {
            Self::ByPosition(set) => set.contains(seq),
            Self::InOrder(list) => list.turns.contains_key(&seq),
        }
    }

    /// Adds one behind the others; true if it was not there.
    pub(super) fn insert(&mut self, seq: Seq) -> bool {
        match self {
            Self::ByPosition(set) => set.insert(seq),
            Self::InOrder(list) => {
                let turn = list.after_last();
                list.insert(seq, turn)
            }
        }
    }

    /// Its turn, in a queue that returns in order.
    pub(super) fn turn(&self, seq: Seq) -> Option<i64> {
        match self {
            Self::ByPosition(_) => None,
            Self::InOrder(list) => list.turns.get(&seq).copied(),
        }
    }

    /// Adds one that was here before, at its turn.
    pub(super) fn restore(&mut self, seq: Seq, turn: Option<i64>) {
        match (self, turn) {
            (Self::InOrder(list), Some(turn)) => drop(list.insert(seq, turn)),
            (returned, _) => drop(returned.insert(seq)),
        }
    }

    /// Adds one that was on its way out: it goes out next.
    pub(super) fn insert_first(&mut self, seq: Seq) {
        match self {
            Self::ByPosition(set) => drop(set.insert(seq)),
            Self::InOrder(list) => {
                let turn = list.before_first();
                list.insert(seq, turn);
            }
        }
    }

    /// Gives back the memory that an empty one has no use for.
    pub(super) fn shrink(&mut self) {
        match self {
            Self::ByPosition(set) if set.is_empty() => *set = RangeSet::new(),
            Self::InOrder(list) if list.turns.is_empty() => {
                list.by_turn = BTreeMap::new();
                list.turns = BTreeMap::new();
            }
            _ => {}
        }
    }

    /// Removes one; true if it was there.
    pub(super) fn remove(&mut self, seq: Seq) -> bool {
        match self {
            Self::ByPosition(set) => set.remove(seq),
            Self::InOrder(list) => match list.turns.remove(&seq) {
                Some(turn) => list.by_turn.remove(&turn).is_some(),
                None => false,
            },
        }
    }

    /// Takes all out, as rising ranges.
    pub(super) fn take(&mut self) -> Vec<(Seq, Seq)> {
        match self {
            Self::ByPosition(set) => set.take(),
            Self::InOrder(list) => {
                let mut set = RangeSet::new();
                for seq in std::mem::take(list).turns.into_keys() {
                    set.insert(seq);
                }
                set.take()
            }
        }
    }
}
