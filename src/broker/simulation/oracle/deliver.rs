//! What consumers get.

use super::super::ledger::{Book, Checked, Copy, promise, told};
use super::{Delivered, Facts, Oracle, Seen};
use crate::broker::queue::Whereabouts;
use crate::message::{Epoch, QueueId, Seq};

impl Oracle {
    pub(super) fn deliver(&mut self, facts: &Facts, seen: &Seen) -> Checked {
        for &(queue, seq) in &facts.refused {
            if let Some(copy) = self.ledger.copy_mut((queue, seq)) {
                copy.was_refused = true;
            }
        }
        for delivered in &facts.deliveries {
            promise!(
                delivered.is_body_right,
                "message {} was delivered with the body of another",
                delivered.number
            );
            self.check_single_active(seen, delivered)?;
            let Some(book) = self.ledger.books.get_mut(&delivered.queue) else {
                continue;
            };
            let Some(mut copy) = book.copies.remove(&delivered.seq) else {
                promise!(
                    delivered.no_ack || !seen.queues.contains_key(&delivered.queue),
                    "message {} was delivered and is not in {}",
                    delivered.number,
                    book.name
                );
                continue;
            };
            promise!(
                copy.moved_in <= self.announced || copy.found.expiry_ms == facts.now_ms,
                "message {} was moved to {} and delivered before that was on the disk",
                delivered.number,
                book.name
            );
            check_delivery(facts, book, &copy, delivered)?;
            copy.was_delivered = true;
            let id = (delivered.queue, delivered.seq);
            self.ever_delivered.insert((id, delivered.number));
            copy.counts = delivered.counts;
            copy.counts_max = None;
            book.copies.insert(delivered.seq, copy);
        }
        self.check_order(facts, seen)
    }

    /// A single active consumer stays it as long as it consumes.
    fn check_single_active(&mut self, seen: &Seen, delivered: &Delivered) -> Checked {
        let queue = seen.queues.get(&delivered.queue);
        let (Some(consumer), Some(queue)) = (delivered.consumer, queue) else {
            return Ok(());
        };
        if !queue.settings.single_active_consumer {
            return Ok(());
        }
        let rank = |number| seen.consumers.get(&number);
        // In a quorum queue one of a higher priority takes over.
        let may_follow = |before| {
            rank(before).is_none()
                || (queue.settings.returns_in_order && rank(before) < rank(consumer))
        };
        let before = self.active.insert(delivered.queue, consumer);
        promise!(
            before.is_none_or(|before| before == consumer || may_follow(before)),
            "consumer {consumer} got message {} of {} although {before:?} is active",
            delivered.number,
            queue.name
        );
        Ok(())
    }

    /// Whether nobody gets a message yet, for what was moved there with it or before it.
    fn is_closed(&self, queue: QueueId, seq: Seq) -> bool {
        let closed = self.closed.range((queue, 0)..=(queue, Epoch::MAX));
        let mut firsts = closed.flat_map(|(_, firsts)| firsts);
        firsts.any(|first| first >> 48 == seq >> 48 && *first <= seq)
    }

    /// What was never delivered before goes out in the order in which it arrived, by falling priority.
    fn check_order(&self, facts: &Facts, seen: &Seen) -> Checked {
        for delivered in &facts.deliveries {
            let Some(book) = self.ledger.books.get(&delivered.queue) else {
                continue;
            };
            let settings = &seen.queues[&delivered.queue].settings;
            if settings.message_group.is_some() || delivered.redelivered {
                continue;
            }
            let lane = delivered.seq >> 48;
            let waits = |(seq, copy): &(&u64, &Copy)| {
                let is_higher = **seq >> 48 > lane;
                // What came behind it in the same batch may be too late to precede it.
                let precedes =
                    (is_higher && !copy.is_new) || (**seq >> 48 == lane && **seq < delivered.seq);
                precedes
                    && !self.is_closed(delivered.queue, **seq)
                    && copy.place == Whereabouts::Ready
                    && !copy.was_delivered
                    && !copy.was_refused
                    && !copy.is_old
                    && !copy.is_expired(facts.now_ms)
            };
            if let Some((seq, copy)) = book.copies.iter().find(waits) {
                super::super::ledger::violated!(
                    "message {} overtook {}",
                    delivered.number,
                    told(book, *seq, copy.found.number)
                );
            }
        }
        Ok(())
    }
}

fn check_delivery(facts: &Facts, book: &Book, copy: &Copy, delivered: &Delivered) -> Checked {
    let message = told(book, delivered.seq, copy.found.number);
    promise!(
        copy.place == Whereabouts::Unacknowledged && !delivered.no_ack,
        "{message} was delivered and is {:?}",
        copy.place
    );
    promise!(!copy.is_refused(), "{message} was refused and delivered");
    promise!(
        !copy.is_expired(facts.now_ms) || copy.arrival_ms == facts.now_ms,
        "{message} was delivered after its time"
    );
    promise!(
        delivered.redelivered || !copy.was_delivered,
        "{message} was delivered before and comes as new"
    );
    promise!(
        !delivered.redelivered || copy.was_delivered || copy.is_old,
        "{message} was never delivered and comes as redelivered"
    );
    let (least, most) = (copy.counts, copy.counts_max.unwrap_or(copy.counts));
    promise!(
        (least.delivered..=most.delivered).contains(&delivered.counts.delivered)
            && (least.acquired..=most.acquired).contains(&delivered.counts.acquired),
        "{message} says {:?}, and it was between {least:?} and {most:?}",
        delivered.counts
    );
    Ok(())
}
