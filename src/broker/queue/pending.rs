//! What a queue owes to the next epochs.
//!
//! Two slots: `pending` collects the work of the newest epoch in which the queue was touched, `cut` holds the epoch
//! before while its gatherer has not come yet. Whoever touches the queue first in a new epoch moves `pending` to `cut`;
//! the gatherer takes all of `cut` before the next cut, so `cut` is free when it is needed (design.md 5, C4).

use std::collections::BTreeMap;

use crate::message::op::Counts;
use crate::message::{Epoch, Seq};

/// The work of one epoch.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) epoch: Epoch,
    /// First and last persistent record that arrived.
    pub(super) appended: Option<(Seq, Seq)>,
    /// Runs of settled seqs as they came: to put them in order once is cheaper than to keep them so.
    settled: Vec<(Seq, Seq)>,
    /// Records that went elsewhere in this epoch. Until it is gathered they are still to be written by epochs before
    /// it: these may be all that the disk gets to see (design-notes C5).
    pub(super) moved: Vec<(Seq, Seq)>,
    /// Counts of deliveries that changed, as they came.
    counted: Vec<(Seq, Counts)>,
    /// Deliveries moved `delivered_upto`.
    pub(super) delivered: bool,
    /// The store has this queue on the dirty list of `epoch`.
    dirty: bool,
}

impl Work {
    const fn is_empty(&self) -> bool {
        self.appended.is_none()
            && self.settled.is_empty()
            && self.moved.is_empty()
            && self.counted.is_empty()
            && !self.delivered
    }

    pub(super) fn settle_range(&mut self, first: Seq, last: Seq) {
        match self.settled.last_mut() {
            Some((_, end)) if *end + 1 == first => *end = last,
            _ => self.settled.push((first, last)),
        }
    }

    /// The settled seqs as rising, disjoint ranges.
    pub(super) fn take_settled(&mut self) -> Vec<(Seq, Seq)> {
        let mut settled = std::mem::take(&mut self.settled);
        settled.sort_unstable();
        settled.dedup_by(|(first, last), (_, end)| {
            let joins = *first <= end.saturating_add(1);
            if joins {
                *end = (*last).max(*end);
            }
            joins
        });
        settled
    }

    /// The last counts of each message, by rising seq.
    pub(super) fn take_counted(&mut self) -> Vec<(Seq, Counts)> {
        let last: BTreeMap<Seq, Counts> = std::mem::take(&mut self.counted).into_iter().collect();
        last.into_iter().collect()
    }
}

/// The two slots.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pending: Box<Work>,
    cut: Option<Box<Work>>,
}

impl Pending {
    /// The slot for `epoch`; `mark_dirty` is called when the store does not know yet that there is work in it.
    fn touch(&mut self, epoch: Epoch, mark_dirty: impl FnOnce()) -> &mut Work {
        if self.pending.epoch != epoch {
            let mut before = std::mem::replace(
                &mut *self.pending,
                Work {
                    epoch,
                    ..Work::default()
                },
            );
            if !before.is_empty() {
                debug_assert!(
                    self.cut.is_none(),
                    "the gatherer empties the cut slot before the next cut"
                );
                before.dirty = false;
                self.cut = Some(Box::new(before));
            }
        }
        if !self.pending.dirty {
            self.pending.dirty = true;
            mark_dirty();
        }
        &mut self.pending
    }

    /// Persistent records arrived.
    pub(super) fn appended(
        &mut self,
        epoch: Epoch,
        first: Seq,
        last: Seq,
        mark_dirty: impl FnOnce(),
    ) {
        let work = self.touch(epoch, mark_dirty);
        let first = work.appended.map_or(first, |(before, _)| before);
        work.appended = Some((first, last));
    }

    /// Records that the store may hold are gone.
    pub(super) fn settled(
        &mut self,
        epoch: Epoch,
        first: Seq,
        last: Seq,
        mark_dirty: impl FnOnce(),
    ) {
        self.touch(epoch, mark_dirty).settle_range(first, last);
    }

    /// A record that the store may hold went elsewhere.
    pub(super) fn moved(&mut self, epoch: Epoch, seq: Seq, mark_dirty: impl FnOnce()) {
        let moved = &mut self.touch(epoch, mark_dirty).moved;
        match moved.last_mut() {
            Some((_, last)) if *last + 1 == seq => *last = seq,
            _ => moved.push((seq, seq)),
        }
    }

    /// The counts of deliveries of a message are these now. They are written whatever becomes of it in later epochs.
    pub(super) fn counted(
        &mut self,
        epoch: Epoch,
        seq: Seq,
        counts: Counts,
        mark_dirty: impl FnOnce(),
    ) {
        self.touch(epoch, mark_dirty).counted.push((seq, counts));
    }

    /// There is something for the store that is not kept here.
    pub(super) fn dirty(&mut self, epoch: Epoch, mark_dirty: impl FnOnce()) {
        self.touch(epoch, mark_dirty);
    }

    /// `delivered_upto` moved.
    pub(super) fn delivered(&mut self, epoch: Epoch, mark_dirty: impl FnOnce()) {
        self.touch(epoch, mark_dirty).delivered = true;
    }

    /// First and last persistent record that arrived in epochs up to `epoch`, as long as their work is not taken.
    pub(super) fn arrived(&self, epoch: Epoch) -> Option<(Seq, Seq)> {
        let work = self.cut.as_ref().unwrap_or(&self.pending);
        work.appended.filter(|_| work.epoch <= epoch)
    }

    /// Records that went elsewhere, and are here for the epochs before only.
    pub(super) fn moved_away(&self) -> impl Iterator<Item = (Seq, Seq)> {
        let slots = self.cut.iter().chain([&self.pending]);
        slots.flat_map(|work| work.moved.iter().copied())
    }

    /// Whether a record is one of these.
    #[cfg(test)]
    pub(super) fn has_moved(&self, seq: Seq) -> bool {
        let mut moved = self.moved_away();
        moved.any(|(first, last)| (first..=last).contains(&seq))
    }

    /// Takes the work of epochs up to `epoch`.
    pub(super) fn take(&mut self, epoch: Epoch) -> Option<Work> {
        if let Some(cut) = self.cut.take() {
            debug_assert!(cut.epoch <= epoch);
            return Some(*cut);
        }
        if self.pending.epoch > epoch || self.pending.is_empty() {
            return None;
        }
        // The slot keeps its epoch and starts over: its epoch is cut, so no visit can touch it again.
        let work = std::mem::take(&mut *self.pending);
        Some(work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_of_an_older_epoch_waits_in_the_cut_slot() {
        let mut pending = Pending::default();
        let mut marks = 0;
        pending.appended(5, 10, 10, || marks += 1);
        pending.appended(5, 12, 12, || marks += 1);
        pending.settled(6, 10, 10, || marks += 1);
        assert_eq!(marks, 2, "once per epoch");
        assert_eq!(pending.arrived(4), None);
        assert_eq!(pending.arrived(5), Some((10, 12)));
        let mut five = pending.take(5).unwrap();
        assert_eq!(pending.arrived(6), None, "nothing arrived in it");
        assert_eq!((five.epoch, five.appended), (5, Some((10, 12))));
        assert!(five.take_settled().is_empty());
        assert!(pending.take(5).is_none(), "epoch 6 is not cut yet");
        assert_eq!(pending.take(6).unwrap().take_settled(), vec![(10, 10)]);
        assert!(pending.take(6).is_none());
    }

    #[test]
    fn settled_seqs_come_out_as_rising_ranges() {
        let mut pending = Pending::default();
        for seq in [5, 6, 7, 1, 2, 9, 8] {
            pending.settled(1, seq, seq, || {});
        }
        assert_eq!(
            pending.take(1).unwrap().take_settled(),
            vec![(1, 2), (5, 9)]
        );
    }
}
