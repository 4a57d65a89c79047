//! Copies that come to a queue.

use super::super::ledger::{Checked, Copy, Held, Holder, promise, told, violated};
use super::super::message::Found;
use super::follow::may_drop;
use super::{Arrival, Cause, Facts, Oracle, Seen, SeenQueue};
use crate::broker::arguments::Overflow;
use crate::broker::queue::{DeathReason, REFUSED_MS, Whereabouts};
use crate::message::{QueueId, Seq};

impl Oracle {
    /// Every arrival is found or accounted for, and nothing else is new.
    pub(super) fn arrive(&mut self, facts: &Facts, seen: &Seen, arrivals: Vec<Arrival>) -> Checked {
        self.coming.clear();
        for arrival in &arrivals {
            let id = (arrival.queue, arrival.found.token);
            self.coming.push((arrival.found.number, id));
            let came = self.came.entry(arrival.queue).or_default();
            came.add(&arrival.found);
        }
        for arrival in arrivals {
            let Some(queue) = seen.queues.get(&arrival.queue) else {
                continue;
            };
            let delay_ms = queue.settings.delay_ms;
            let delay_ms = delay_ms.and_then(|ms| arrival.found.waits_ms(ms));
            let may_wait = !matches!(arrival.cause, Cause::DueHere | Cause::Refused);
            match delay_ms.filter(|_| may_wait) {
                Some(delay_ms) => self.wait(facts, seen, queue, &arrival, delay_ms)?,
                None => self.appear(facts, seen, queue, &arrival)?,
            }
        }
        for (id, queue) in &seen.queues {
            let copies = &self.ledger.books[id].copies;
            let mut messages = queue.messages.iter();
            if let Some((seq, (_, number, _))) = messages.find(|(seq, _)| !copies.contains_key(seq))
            {
                violated!(
                    "message {number} came to {} at {seq:x} from nowhere",
                    queue.name
                );
            }
        }
        if let Some((holder, key)) = seen
            .held
            .keys()
            .find(|key| !self.ledger.held.contains_key(key))
        {
            violated!(
                "something waits in {holder:?} until {} that came from nowhere",
                key.time_ms
            );
        }
        Ok(())
    }

    fn wait(
        &mut self,
        facts: &Facts,
        seen: &Seen,
        queue: &SeenQueue,
        arrival: &Arrival,
        delay_ms: u64,
    ) -> Checked {
        let mut found = arrival.found.clone();
        found.expiry_ms = 0;
        let held = Held {
            found,
            routing_key: queue.name.clone(),
            has_id: arrival.has_id,
        };
        let holder = Holder::Queue(arrival.queue);
        match self.hold(facts, seen, holder, held, &arrival.histories, delay_ms) {
            Ok(()) => {
                self.check_repetition(facts, queue, arrival)?;
                self.remember_id(facts, queue, arrival, true);
                Ok(())
            }
            // One that is refused dies at once, where that is what the queue does.
            Err(_) if self.find(queue, arrival).is_some() => {
                self.appear(facts, seen, queue, arrival)
            }
            Err(_) if self.is_dropped(facts, seen, queue, arrival) => Ok(()),
            held => held,
        }
    }

    fn appear(
        &mut self,
        facts: &Facts,
        seen: &Seen,
        queue: &SeenQueue,
        arrival: &Arrival,
    ) -> Checked {
        promise!(
            arrival.cause != Cause::Refused || self.may_refuse(queue, arrival),
            "message {} was refused by {}: {:?}",
            arrival.found.number,
            queue.name,
            queue.settings
        );
        let Some((seq, place, found)) = self.find(queue, arrival) else {
            if self.is_accounted_for(facts, seen, queue, arrival) {
                self.remember_lost(facts, seen, queue, arrival);
                // It may have kept out others before it went.
                let tokens = self.tokens_before.entry(arrival.queue).or_default();
                tokens.extend(arrival.found.token);
                if !matches!(arrival.cause, Cause::Published | Cause::Refused) {
                    // It may have been there for a moment, in any lane.
                    (0..=u64::from(u8::MAX)).for_each(|lane| self.close(arrival.queue, lane << 48));
                }
                return Ok(());
            }
            violated!(
                "message {} did not come to {} ({:?}), settings {:?}, cache {:?}",
                arrival.found.number,
                queue.name,
                arrival.cause,
                queue.settings,
                self.ledger.caches.get(&arrival.queue)
            );
        };
        let mut expected = arrival.found.clone();
        expected.expiry_ms = expiry_ms(facts, queue, arrival);
        expected.deaths.clone_from(&found.deaths);
        let mut reasons = Vec::new();
        if place == Whereabouts::Dying {
            let is_refused = arrival.cause == Cause::Refused
                || (self.is_refused(queue, arrival) && found.expiry_ms == REFUSED_MS);
            if is_refused {
                expected.expiry_ms = REFUSED_MS;
            }
            if is_refused || may_drop(facts, arrival.queue, queue, self.largest) {
                reasons.push(DeathReason::MaxLen);
            }
            if !is_refused && found.expiry_ms != 0 && found.expiry_ms <= facts.now_ms {
                reasons.push(DeathReason::Expired);
            }
        }
        promise!(
            *found == expected,
            "{found:?} came to {} instead of {expected:?}",
            queue.name
        );
        let number = expected.number;
        let may_be_so = match place {
            Whereabouts::Dying => !reasons.is_empty(),
            Whereabouts::Ready | Whereabouts::Unacknowledged => arrival.cause != Cause::Refused,
            Whereabouts::Retry => false,
        };
        promise!(
            may_be_so,
            "message {number} ({:?}) came to {} as {place:?}",
            arrival.cause,
            queue.name
        );
        let mut copy = Copy::new(expected, facts.now_ms);
        copy.place = place;
        copy.was_refused = facts.refused.contains(&(arrival.queue, seq));
        copy.has_id = arrival.has_id && !reasons.contains(&DeathReason::MaxLen);
        copy.reasons = reasons;
        let is_moved = !matches!(arrival.cause, Cause::Published | Cause::Refused);
        if is_moved && copy.found.persistent {
            copy.moved_in = self.open;
            self.close(arrival.queue, seq);
        }
        self.check_duplicate(queue, arrival, &copy)?;
        if copy.has_id {
            self.check_repetition(facts, queue, arrival)?;
        }
        // One that was refused is not remembered.
        let is_sure = copy.has_id || queue.settings.overflow == Overflow::DropHead;
        self.remember_id(facts, queue, arrival, is_sure);
        self.check_limit(queue, arrival, &copy)?;
        let book = self
            .ledger
            .books
            .get_mut(&arrival.queue)
            .expect("it is seen");
        let change = format!("    {}: came as {place:?}", told(book, seq, number));
        self.changes.push(change);
        book.copies.insert(seq, copy);
        Ok(())
    }

    /// A copy that is not there: its id is remembered, unless it was not let in.
    fn remember_lost(&mut self, facts: &Facts, seen: &Seen, queue: &SeenQueue, arrival: &Arrival) {
        let may_be_dropped = self.is_dropped(facts, seen, queue, arrival);
        self.remember_id(facts, queue, arrival, !may_be_dropped);
    }

    /// What stands here and behind waits until the epoch is on the disk.
    fn close(&mut self, queue: QueueId, seq: Seq) {
        let firsts = self.closed.entry((queue, self.open)).or_default();
        firsts.push(seq);
    }

    /// The new message that an arrival is.
    fn find<'a>(
        &self,
        queue: &'a SeenQueue,
        arrival: &Arrival,
    ) -> Option<(Seq, Whereabouts, &'a Found)> {
        let copies = &self.ledger.books[&arrival.queue].copies;
        let mut messages = queue.messages.iter();
        messages.find_map(|(seq, (place, number, found))| {
            let found = found.as_ref().filter(|_| !copies.contains_key(seq))?;
            let is_it =
                *number == arrival.found.number && arrival.histories.contains(&found.deaths);
            is_it.then_some((*seq, *place, found))
        })
    }

    /// A copy that came and went in one step, or was not let in.
    fn is_accounted_for(
        &self,
        facts: &Facts,
        seen: &Seen,
        queue: &SeenQueue,
        arrival: &Arrival,
    ) -> bool {
        let settings = &queue.settings;
        let mut deliveries = facts.deliveries.iter();
        let was_taken = deliveries.any(|delivered| {
            delivered.no_ack
                && delivered.queue == arrival.queue
                && delivered.number == arrival.found.number
        });
        let is_dropped =
            settings.dead_letter.is_none() && may_drop(facts, arrival.queue, queue, self.largest);
        let expiry_ms = expiry_ms(facts, queue, arrival);
        let is_expired =
            settings.dead_letter.is_none() && expiry_ms != 0 && expiry_ms <= facts.now_ms;
        was_taken
            || is_dropped
            || is_expired
            || arrival.cause == Cause::Refused
            || self.is_dropped(facts, seen, queue, arrival)
    }

    /// It is not let in: the queue is full, or had it before.
    fn is_dropped(&self, facts: &Facts, seen: &Seen, queue: &SeenQueue, arrival: &Arrival) -> bool {
        self.is_refused(queue, arrival)
            || self.has_token(seen, queue, arrival)
            || self.may_be_repetition(facts, queue, arrival)
    }

    /// A queue that refuses what is too much may have refused it.
    fn is_refused(&self, queue: &SeenQueue, arrival: &Arrival) -> bool {
        // A client is told.
        !matches!(arrival.cause, Cause::Published | Cause::Refused)
            && self.may_refuse(queue, arrival)
    }

    /// There may have been too much in the queue for one more.
    fn may_refuse(&self, queue: &SeenQueue, arrival: &Arrival) -> bool {
        let settings = &queue.settings;
        let id = arrival.queue;
        // Any of them may have been ready in between.
        let were_there = self.before.get(&id).copied().unwrap_or_default();
        let came = self.came.get(&id).copied().unwrap_or_default();
        let count = were_there.count + came.count + self.held_in(id).count() as u64;
        let bytes = were_there.bytes + came.bytes;
        settings.overflow != Overflow::DropHead
            && (settings.max_length.is_some_and(|max| count > max)
                || settings.max_length_bytes.is_some_and(|max| bytes > max))
    }

    /// What a queue that refuses took in fits.
    fn check_limit(&self, queue: &SeenQueue, arrival: &Arrival, copy: &Copy) -> Checked {
        let settings = &queue.settings;
        let stays = copy.place == Whereabouts::Ready && arrival.cause == Cause::Published;
        // What comes back from its retry is not asked.
        if !stays || settings.overflow == Overflow::DropHead || settings.retry.is_some() {
            return Ok(());
        }
        let count = queue.ready() + self.held_in(arrival.queue).count() as u64;
        let bytes = queue.ready_bytes;
        promise!(
            settings.max_length.is_none_or(|max| count <= max)
                && (!queue.is_counted || settings.max_length_bytes.is_none_or(|max| bytes <= max)),
            "message {} came to {}, which has {count} ({bytes} bytes): {settings:?}",
            copy.found.number,
            queue.name
        );
        Ok(())
    }

    fn held_in(&self, queue: QueueId) -> impl Iterator<Item = &Held> {
        let held = self.ledger.held.iter();
        held.filter(move |((holder, _), _)| *holder == Holder::Queue(queue))
            .map(|(_, held)| held)
    }

    /// Whether a queue that deduplicates has a message with the token of this one, or has got one in this step.
    fn has_token(&self, seen: &Seen, queue: &SeenQueue, arrival: &Arrival) -> bool {
        let is_asked = queue.settings.deduplication.is_some() && !queue.has_cache();
        if arrival.found.token.is_none() || !is_asked {
            return false;
        }
        let known = self.tokens_before.get(&arrival.queue);
        let known = known.into_iter().flatten().map(|token| Some(*token));
        let new = queue
            .messages
            .values()
            .filter_map(|(.., found)| found.as_ref());
        let new = new.map(|found| found.token);
        let held = seen.held.iter();
        let held = held.filter(|((holder, _), _)| *holder == Holder::Queue(arrival.queue));
        let held = held.map(|(_, found)| found.token);
        known
            .chain(new)
            .chain(held)
            .any(|other| other == arrival.found.token)
    }

    /// A queue that deduplicates takes nothing that it has.
    fn check_duplicate(&self, queue: &SeenQueue, arrival: &Arrival, copy: &Copy) -> Checked {
        let is_new = copy.place != Whereabouts::Dying && arrival.cause != Cause::DueHere;
        let is_asked = queue.settings.deduplication.is_some() && !queue.has_cache();
        if !is_new || !is_asked || copy.found.token.is_none() {
            return Ok(());
        }
        let copies = self.ledger.books[&arrival.queue].copies.values();
        // What dies keeps nobody out, and what was refused never did.
        let mut live = copies.filter(|other| other.has_id && other.place != Whereabouts::Dying);
        let first = live.find(|other| other.found.token == copy.found.token);
        promise!(
            first.is_none(),
            "message {} came to {}, which has {first:?}",
            copy.found.number,
            queue.name
        );
        Ok(())
    }
}

/// When the copy expires: the earlier of what its publisher and the queue say.
fn expiry_ms(facts: &Facts, queue: &SeenQueue, arrival: &Arrival) -> u64 {
    let ttls = [arrival.found.ttl_ms, queue.settings.message_ttl_ms];
    let shortest = ttls.into_iter().flatten().min();
    shortest.map_or(0, |ttl_ms| facts.now_ms + ttl_ms)
}
