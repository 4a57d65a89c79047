//! What must be there after a start.

use std::collections::BTreeMap;

use super::super::ledger::{Book, Checked, Ledger, promise, told, violated};
use super::{Oracle, Seen, SeenQueue};
use crate::broker::queue::Whereabouts;
use crate::message::{Epoch, QueueId};

impl Oracle {
    /// The broker was closed: everything durable is there.
    pub(in super::super) fn closed(&mut self, start: Epoch, seen: &Seen) -> Checked {
        let expected = self.ledger.durable();
        self.come_back(start, expected, seen)
    }

    /// The power failed, and the disk has the epochs up to `kept`; everything up to `announced` was promised to be on
    /// it.
    pub(in super::super) fn power_failed(
        &mut self,
        kept: Epoch,
        announced: Epoch,
        start: Epoch,
        seen: &Seen,
    ) -> Checked {
        let books = self.at.range(..=kept.max(announced)).next_back();
        let (_, ledger) = books.expect("the books of what is durable are kept");
        let expected = ledger.durable();
        self.come_back(start, expected, seen)
    }

    fn come_back(&mut self, start: Epoch, mut expected: Ledger, seen: &Seen) -> Checked {
        let names = |book: &Book| book.name.clone();
        let expected_names: BTreeMap<QueueId, String> = expected
            .books
            .iter()
            .map(|(id, book)| (*id, names(book)))
            .collect();
        let seen_names: BTreeMap<QueueId, String> = seen
            .queues
            .iter()
            .map(|(id, queue)| (*id, queue.name.clone()))
            .collect();
        promise!(
            expected_names == seen_names,
            "there are {seen_names:?} instead of {expected_names:?}"
        );
        for (id, book) in &mut expected.books {
            let queue = &seen.queues[id];
            promise!(
                book.is_paused == queue.is_paused && book.settings == queue.settings,
                "{} is {} ({}), not {:?} ({})",
                book.name,
                format!("{:?}", queue.settings),
                queue.is_paused,
                book.settings,
                book.is_paused
            );
            self.check_book(*id, book, queue)?;
        }
        for (key, held) in &expected.held {
            promise!(
                seen.held.contains_key(key),
                "message {} does not wait in {key:?} any more",
                held.found.number
            );
        }
        if let Some(key) = seen
            .held
            .keys()
            .find(|key| !expected.held.contains_key(key))
        {
            violated!("something waits in {key:?} again");
        }
        self.announced = start;
        self.open = start + 1;
        self.closed.clear();
        self.active.clear();
        self.buckets.clear();
        self.settled.clear();
        self.at = BTreeMap::from([(start, expected.clone())]);
        self.ledger = expected;
        Ok(())
    }

    /// Compares a queue with its book, which learns what is there.
    fn check_book(&self, id: QueueId, book: &mut Book, queue: &SeenQueue) -> Checked {
        if let Some((seq, (_, number, _))) = queue
            .messages
            .iter()
            .find(|(seq, _)| !book.copies.contains_key(seq))
        {
            let settled = self.settled.contains(&(id, *seq));
            violated!(
                "{} came back (settled: {settled})",
                told(book, *seq, *number)
            );
        }
        let mut copies = std::mem::take(&mut book.copies);
        for (seq, copy) in &copies {
            let message = told(book, *seq, copy.found.number);
            match queue.messages.get(seq) {
                None => promise!(self.settled.contains(&(id, *seq)), "{message} is lost"),
                Some((place, number, _)) => {
                    promise!(
                        *number == copy.found.number,
                        "{message} is message {number} now"
                    );
                    let waits = copy.place == Whereabouts::Retry;
                    let expected = if waits {
                        Whereabouts::Retry
                    } else {
                        Whereabouts::Ready
                    };
                    promise!(
                        *place == expected,
                        "{message} is {place:?}, not {expected:?}"
                    );
                }
            }
        }
        copies.retain(|seq, _| queue.messages.contains_key(seq));
        for (seq, copy) in &mut copies {
            if copy.place != Whereabouts::Retry {
                copy.place = Whereabouts::Ready;
            }
            copy.is_old = true;
            let known = ((id, *seq), copy.found.number);
            copy.was_delivered |= self.ever_delivered.contains(&known);
            copy.counts_max = self.highest_counts.get(&known).copied();
            copy.moved_in = 0;
            copy.reasons.clear();
        }
        book.copies = copies;
        Ok(())
    }
}
