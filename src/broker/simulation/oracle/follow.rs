//! What becomes of the copies that are known.

use std::cell::RefCell;

use super::super::ledger::{
    Checked, Copy, Held, Holder, is_cycle, promise, told, violated, with_death,
};
use super::super::message::{Death, Found};
use super::super::plan::LATER;
use super::{Arrival, Cause, End, Facts, MovedTo, Oracle, Seen, SeenQueue};
use crate::broker::arguments::Overflow;
use crate::broker::due::DueKey;
use crate::broker::queue::{DeathReason, Retry, Return, Settings, Whereabouts};
use crate::message::op::Counts;
use crate::message::{QueueId, Seq};

/// What a queue was about in this step.
struct Scene<'a> {
    facts: &'a Facts,
    id: QueueId,
    seen: &'a SeenQueue,
    /// The queue drops from its head, and may have done so.
    may_drop: bool,
    /// What administration took away: so many, and those that are missing.
    taken: u64,
    missing: RefCell<Vec<Found>>,
}

impl<'a> Scene<'a> {
    fn new(facts: &'a Facts, id: QueueId, seen: &'a SeenQueue, largest: u64) -> Self {
        Self {
            facts,
            id,
            seen,
            may_drop: may_drop(facts, id, seen, largest),
            taken: match facts.taken {
                Some((of, count)) if of == id => count,
                _ => 0,
            },
            missing: RefCell::default(),
        }
    }

    fn settings(&self) -> &Settings {
        &self.seen.settings
    }

    fn was_delivered(&self, seq: Seq) -> bool {
        let mut deliveries = self.facts.deliveries.iter();
        deliveries.any(|delivered| (delivered.queue, delivered.seq) == (self.id, seq))
    }
}

/// A queue that drops from its head is full after it did so, but for what was delivered since. `largest`: no body is
/// larger.
pub(super) fn may_drop(facts: &Facts, id: QueueId, seen: &SeenQueue, largest: u64) -> bool {
    let settings = &seen.settings;
    let deliveries = facts.deliveries.iter();
    let delivered: Vec<u64> = deliveries
        .filter(|delivered| delivered.queue == id)
        .map(|delivered| delivered.body_bytes)
        .collect();
    let count = seen.ready() + delivered.len() as u64;
    let bytes = seen.ready_bytes + delivered.iter().sum::<u64>();
    settings.overflow == Overflow::DropHead
        && (settings.max_length.is_some_and(|max| count >= max)
            || settings
                .max_length_bytes
                .is_some_and(|max| bytes + largest > max))
}

impl Oracle {
    /// Follows every copy. Answers the dead letters that must arrive.
    pub(super) fn follow_copies(&mut self, facts: &Facts, seen: &Seen) -> Checked<Vec<Arrival>> {
        let mut letters = Vec::new();
        let mut moved = Vec::new();
        for (id, queue) in &seen.queues {
            let mut book = self.ledger.books.remove(id).expect("topology was followed");
            let copies = std::mem::take(&mut book.copies);
            let scene = Scene::new(facts, *id, queue, self.largest);
            let mut kept = std::collections::BTreeMap::new();
            for (seq, mut copy) in copies {
                let after = queue.messages.get(&seq);
                if let Some((_, number, _)) = after {
                    promise!(
                        *number == copy.found.number,
                        "{} is message {number} now",
                        told(&book, seq, copy.found.number)
                    );
                }
                let place = after.map(|(place, ..)| *place);
                let before = copy.place;
                if follow(&scene, seq, &mut copy, place).is_err() {
                    violated!(
                        "{}: {before:?} became {place:?} by {:?} at {}; it expires at {}, deliveries {:?}, settings {:?}",
                        told(&book, seq, copy.found.number),
                        facts.ended.get(&(*id, seq)),
                        facts.now_ms,
                        copy.found.expiry_ms,
                        copy.counts,
                        queue.settings
                    );
                }
                if place != Some(before) {
                    let message = told(&book, seq, copy.found.number);
                    let change = format!("    {message}: {before:?} -> {place:?}");
                    self.changes.push(change);
                }
                let known = ((*id, seq), copy.found.number);
                let highest = self.highest_counts.entry(known).or_default();
                highest.delivered = highest.delivered.max(copy.counts.delivered);
                highest.acquired = highest.acquired.max(copy.counts.acquired);
                match place {
                    Some(place) => {
                        copy.place = place;
                        kept.insert(seq, copy);
                    }
                    None if copy.place == Whereabouts::Dying => letters.push((queue, copy)),
                    None => {
                        self.settled.insert((*id, seq));
                    }
                }
            }
            book.copies = kept;
            let missing = scene.missing.into_inner();
            promise!(
                missing.len() as u64 == scene.taken,
                "{} were taken from {}, and {missing:?} are missing",
                scene.taken,
                book.name
            );
            self.ledger.books.insert(*id, book);
            moved.extend(missing);
        }
        let letters = letters.iter();
        let mut arrivals: Vec<_> = letters
            .flat_map(|(queue, copy)| self.letters(queue, copy))
            .collect();
        if let Some(to) = &facts.moved_to {
            for found in moved {
                arrivals.extend(self.moved(found, to));
            }
        }
        Ok(arrivals)
    }

    /// Where a message goes that administration moves.
    fn moved(&mut self, mut found: Found, to: &MovedTo) -> Vec<Arrival> {
        found.expiry_ms = 0;
        let targets = match to {
            MovedTo::Queue(queue) => vec![*queue],
            MovedTo::Exchange(LATER, key) if found.delay_ms.is_some_and(|ms| ms > 0) => {
                let delay_ms = found.delay_ms.unwrap_or_default() as u64;
                let held = Held {
                    found,
                    routing_key: key.clone(),
                    has_id: true,
                };
                let histories = vec![held.found.deaths.clone()];
                self.delayed.push((held, histories, delay_ms));
                return Vec::new();
            }
            MovedTo::Exchange(name, key) => self.ledger.targets(name, key),
        };
        let arrival = |queue| Arrival {
            queue,
            found: found.clone(),
            histories: vec![found.deaths.clone()],
            cause: Cause::Moved,
            has_id: true,
        };
        targets.into_iter().map(arrival).collect()
    }

    /// Where a message goes that died.
    fn letters(&mut self, queue: &SeenQueue, copy: &Copy) -> Vec<Arrival> {
        let Some(dead_letter) = &queue.settings.dead_letter else {
            // Taken back by a policy meanwhile.
            return Vec::new();
        };
        let key = dead_letter.routing_key.as_deref().unwrap_or("");
        let mut targets = self.ledger.targets(&dead_letter.exchange, key);
        let history = |reason: &_| with_death(&copy.found.deaths, &queue.name, *reason);
        let histories: Vec<_> = copy.reasons.iter().map(history).collect();
        let found = Found {
            ttl_ms: None,
            ..copy.found.clone()
        };
        let delay_ms = found.delay_ms.filter(|ms| *ms > 0);
        if let Some(delay_ms) = delay_ms.filter(|_| *dead_letter.exchange == *LATER) {
            let held = Held {
                found: Found {
                    expiry_ms: 0,
                    ..found
                },
                routing_key: key.to_owned(),
                has_id: true,
            };
            self.delayed.push((held, histories, delay_ms as u64));
            return Vec::new();
        }
        // A rejection is never one of several possible reasons.
        targets.retain(|target| !is_cycle(&histories[0], &self.ledger.books[target].name));
        let letter = |queue| Arrival {
            queue,
            found: found.clone(),
            histories: histories.clone(),
            cause: Cause::Letter,
            has_id: true,
        };
        targets.into_iter().map(letter).collect()
    }

    /// Follows what waits to be due. Answers what must arrive.
    pub(super) fn follow_held(&mut self, facts: &Facts, seen: &Seen) -> Checked<Vec<Arrival>> {
        let mut due = Vec::new();
        let held = std::mem::take(&mut self.ledger.held);
        for ((holder, key), held) in held {
            if seen.held.contains_key(&(holder.clone(), key)) {
                self.ledger.held.insert((holder, key), held);
                continue;
            }
            let number = held.found.number;
            promise!(
                key.time_ms <= facts.now_ms,
                "message {number} was due at {} and left {holder:?} at {}",
                key.time_ms,
                facts.now_ms
            );
            due.extend(self.arrivals_of(&holder, held));
        }
        let moved = std::mem::take(&mut self.delayed);
        let published = facts.delayed.iter();
        let published = published.map(|(held, ms)| (held.clone(), vec![Vec::new()], *ms));
        for (held, histories, delay_ms) in published.chain(moved) {
            let holder = Holder::Exchange(LATER);
            self.hold(facts, seen, holder, held, &histories, delay_ms)?;
        }
        Ok(due)
    }

    fn arrivals_of(&self, holder: &Holder, held: Held) -> Vec<Arrival> {
        let (targets, cause) = match holder {
            Holder::Exchange(name) => {
                let targets = self.ledger.targets(name, &held.routing_key);
                (targets, Cause::DueFromExchange)
            }
            Holder::Queue(queue) => (vec![*queue], Cause::DueHere),
        };
        let arrival = |queue| Arrival {
            queue,
            found: held.found.clone(),
            histories: vec![held.found.deaths.clone()],
            cause,
            has_id: held.has_id || cause != Cause::DueHere,
        };
        targets.into_iter().map(arrival).collect()
    }

    /// A message begins to wait.
    pub(super) fn hold(
        &mut self,
        facts: &Facts,
        seen: &Seen,
        holder: Holder,
        mut held: Held,
        histories: &[Vec<Death>],
        delay_ms: u64,
    ) -> Checked {
        let number = held.found.number;
        let time_ms = facts.now_ms + delay_ms;
        let is_it = |(key, found): &(&(Holder, DueKey), &Found)| {
            let (of, due) = key;
            *of == holder
                && due.time_ms == time_ms
                && found.number == number
                && histories.contains(&found.deaths)
                && !self.ledger.held.contains_key(*key)
        };
        let Some((key, found)) = seen.held.iter().find(is_it) else {
            violated!("message {number} does not wait in {holder:?} until {time_ms}");
        };
        held.found.deaths.clone_from(&found.deaths);
        held.found.wait(delay_ms);
        promise!(
            held.found.delay_ms == found.delay_ms,
            "message {number} waits in {:?} and says {:?}, not {:?}",
            key.0,
            found.delay_ms,
            held.found.delay_ms
        );
        self.ledger.held.insert(key.clone(), held);
        Ok(())
    }
}

/// What became of a copy does not follow from what was done.
struct Unexplained;

fn when(condition: bool) -> Result<(), Unexplained> {
    if condition { Ok(()) } else { Err(Unexplained) }
}

/// Follows one copy to where it is now.
fn follow(
    scene: &Scene<'_>,
    seq: Seq,
    copy: &mut Copy,
    after: Option<Whereabouts>,
) -> Result<(), Unexplained> {
    match scene.facts.ended.get(&(scene.id, seq)) {
        Some(End::Ack) => {
            copy.place = Whereabouts::Unacknowledged;
            when(after.is_none())
        }
        Some(End::Discard) => dies(scene, copy, after, vec![DeathReason::Rejected]),
        Some(End::Requeue(how)) => comes_back(scene, seq, copy, after, *how),
        None => match copy.place {
            Whereabouts::Ready => goes_on(scene, seq, copy, after),
            Whereabouts::Unacknowledged => when(after == Some(Whereabouts::Unacknowledged)),
            Whereabouts::Retry if after == Some(Whereabouts::Retry) => Ok(()),
            Whereabouts::Retry => {
                // It waits no longer than it lives, unless the queue did not know of that.
                when(copy.retry_ms <= scene.facts.now_ms || copy.is_expired(scene.facts.now_ms))?;
                goes_on(scene, seq, copy, after)
            }
            Whereabouts::Dying => when(
                after == Some(Whereabouts::Dying)
                    || (after.is_none() && scene.facts.buried == Some(scene.id)),
            ),
        },
    }
}

/// A copy that was ready for a consumer.
fn goes_on(
    scene: &Scene<'_>,
    seq: Seq,
    copy: &mut Copy,
    after: Option<Whereabouts>,
) -> Result<(), Unexplained> {
    if scene.facts.purged.contains(&scene.id) {
        return when(after.is_none());
    }
    match after {
        Some(Whereabouts::Ready) => Ok(()),
        Some(Whereabouts::Unacknowledged) => when(scene.was_delivered(seq)),
        Some(Whereabouts::Retry) => Err(Unexplained),
        None if scene.was_delivered(seq) => Ok(()),
        None if scene.facts.removed == Some((scene.id, seq)) => Ok(()),
        None if scene.taken > 0 && !copy.is_expired(scene.facts.now_ms) => {
            scene.missing.borrow_mut().push(copy.found.clone());
            Ok(())
        }
        None | Some(Whereabouts::Dying) => {
            let reasons = [
                (copy.is_expired(scene.facts.now_ms), copy.dies_in_time_of()),
                (scene.may_drop, DeathReason::MaxLen),
            ];
            let reasons = reasons.into_iter().filter(|(may_be, _)| *may_be);
            dies(
                scene,
                copy,
                after,
                reasons.map(|(_, reason)| reason).collect(),
            )
        }
    }
}

/// A copy that dies of one of these: with a dead-letter exchange it waits to be moved, without one it is gone.
fn dies(
    scene: &Scene<'_>,
    copy: &mut Copy,
    after: Option<Whereabouts>,
    reasons: Vec<DeathReason>,
) -> Result<(), Unexplained> {
    when(!reasons.is_empty())?;
    copy.reasons = reasons;
    match scene.settings().dead_letter {
        Some(_) => when(after == Some(Whereabouts::Dying)),
        None => {
            copy.place = Whereabouts::Ready;
            when(after.is_none())
        }
    }
}

/// A copy that a consumer gives back.
fn comes_back(
    scene: &Scene<'_>,
    seq: Seq,
    copy: &mut Copy,
    after: Option<Whereabouts>,
    how: Return,
) -> Result<(), Unexplained> {
    let settings = scene.settings();
    if settings.counts_deliveries {
        copy.counts.acquired += 1;
        if how == Return::Failed {
            copy.counts.delivered += 1;
            if settings
                .delivery_limit
                .is_some_and(|limit| copy.counts.delivered > limit)
            {
                return dies(scene, copy, after, vec![DeathReason::DeliveryLimit]);
            }
        }
    }
    let delay_ms = settings
        .retry
        .and_then(|retry| retry_ms(retry, how, copy.counts));
    if let Some(delay_ms) = delay_ms {
        copy.retry_ms = scene.facts.now_ms + delay_ms;
        if after == Some(Whereabouts::Retry) || !copy.is_expired(scene.facts.now_ms) {
            return when(after == Some(Whereabouts::Retry));
        }
    }
    goes_on(scene, seq, copy, after)
}

/// How long a copy waits for its retry, if it does.
fn retry_ms(retry: Retry, how: Return, counts: Counts) -> Option<u64> {
    let times = match how {
        Return::Failed => retry.failed.then_some(counts.delivered)?,
        Return::Released => retry.returned.then_some(counts.acquired)?,
    };
    let delay_ms = retry.min_ms * u64::from(times);
    Some(delay_ms.min(retry.max_ms))
}
