//! What must be so when nothing is left to do, and who goes before whom.

use std::collections::BTreeMap;

use super::clients::Consumer;
use super::ledger::{Book, Checked, Holder, promise};
use super::world::World;
use crate::broker::arguments::{ConsumerChoice, Overflow};
use crate::broker::queue::{Queue, QueueCounts, Settings, Whereabouts};
use crate::clock::Clock;

impl World {
    /// At rest everything that was to happen by now has happened.
    pub(super) fn check_rest(&self) -> Checked {
        let now_ms = self.clock.now_ms();
        for queue in self.machine().queues() {
            let id = queue.spec.id;
            let name = &queue.spec.name;
            let book = &self.oracle.ledger.books[&id];
            for copy in book.copies.values() {
                let number = copy.found.number;
                let is_late = match copy.place {
                    Whereabouts::Ready => copy.is_expired(now_ms) && copy.arrival_ms < now_ms,
                    Whereabouts::Retry => copy.retry_ms <= now_ms,
                    Whereabouts::Dying => true,
                    Whereabouts::Unacknowledged => false,
                };
                promise!(
                    !is_late,
                    "message {number} in {name} is still {:?}",
                    copy.place
                );
            }
            let settings = queue.settings();
            let max = settings
                .max_length
                .filter(|_| settings.overflow == Overflow::DropHead);
            let ready = queue.counts().ready;
            promise!(
                max.is_none_or(|max| ready <= max),
                "{name} has {ready} messages: {settings:?}"
            );
            let bytes = book
                .copies
                .values()
                .filter(|copy| copy.place == Whereabouts::Ready);
            let bytes: u64 = bytes.map(|copy| copy.found.body_bytes).sum();
            let counted = queue.counted_bytes();
            promise!(
                counted.is_none_or(|counted| counted == bytes),
                "{name} counts {counted:?} bytes and has {bytes}"
            );
            let max = settings
                .max_length_bytes
                .filter(|_| settings.overflow == Overflow::DropHead);
            promise!(
                max.is_none_or(|max| bytes <= max),
                "{name} has {bytes} bytes: {settings:?}"
            );
            let is_left = queue.spec.auto_delete
                && self.consumed.contains(&id)
                && self.clients.of(id).count() == 0;
            promise!(
                !self.is_overdue(&queue) && !is_left,
                "nobody uses {name}, and it is still there"
            );
            self.check_consumers(&queue, book, &settings)?;
        }
        if self.setup.is_short_of_memory() {
            // What is due waits until there is room.
            return Ok(());
        }
        let late = self
            .oracle
            .ledger
            .held
            .keys()
            .find(|(_, key)| key.time_ms <= now_ms);
        promise!(late.is_none(), "{late:?} is late");
        Ok(())
    }

    /// Nobody waits while there is something that it could have, nor holds something for too long.
    fn check_consumers(&self, queue: &Queue, book: &Book, settings: &Settings) -> Checked {
        let id = queue.spec.id;
        let now_ms = self.clock.now_ms();
        for consumer in self.clients.of(id) {
            let since_ms = self.clients.holds_since_ms(consumer.number);
            let deadline_ms = since_ms
                .zip(consumer.timeout_ms)
                .map(|(since, ms)| since + ms);
            promise!(
                consumer.is_late || deadline_ms.is_none_or(|at_ms| at_ms > now_ms),
                "consumer {} may hold what it has until {deadline_ms:?}",
                consumer.number
            );
        }
        let is_at = |place| book.copies.values().any(|copy| copy.place == place);
        let may_pass = self.oracle.may_pass(id, now_ms);
        if !is_at(Whereabouts::Ready) || book.is_paused || !may_pass {
            return Ok(());
        }
        // A group may be busy.
        let is_any_out = is_at(Whereabouts::Unacknowledged) || is_at(Whereabouts::Retry);
        if settings.message_group.is_some() && is_any_out {
            return Ok(());
        }
        let mut consumers = self.clients.of(id);
        let has_consumers = self.clients.of(id).count() > 0;
        let could_take = |consumer: &Consumer| self.clients.could_take(consumer);
        let is_idle = if settings.single_active_consumer {
            // Whichever it is.
            has_consumers && consumers.all(could_take)
        } else {
            consumers.any(could_take)
        };
        promise!(
            !is_idle,
            "consumers of {} wait while messages wait in it",
            queue.spec.name
        );
        Ok(())
    }

    /// The broker counts what there is.
    pub(super) fn check_counts(&self) -> Checked {
        for queue in self.machine().queues() {
            let id = queue.spec.id;
            let copies = self.oracle.ledger.books[&id].copies.values();
            let mut places: BTreeMap<Whereabouts, u64> = BTreeMap::new();
            copies.for_each(|copy| *places.entry(copy.place).or_default() += 1);
            let count = |place| places.get(&place).copied().unwrap_or_default();
            let held = self.oracle.ledger.held.keys();
            let held = held.filter(|(holder, _)| *holder == Holder::Queue(id));
            let expected = QueueCounts {
                ready: count(Whereabouts::Ready),
                unacked: count(Whereabouts::Unacknowledged),
                delayed: held.count() as u64 + count(Whereabouts::Retry),
                consumers: self.clients.of(id).count() as u32,
            };
            let counts = queue.counts();
            promise!(
                counts == expected,
                "{} has {expected:?} and counts {counts:?}",
                queue.spec.name
            );
        }
        Ok(())
    }

    /// Nobody got a message that one of a higher priority still has room for or, where that is what counts, one of the
    /// same priority that has fewer.
    pub(super) fn check_precedence(&self) -> Checked {
        for delivered in &self.facts.deliveries {
            let taker = delivered.consumer;
            let taker = taker.and_then(|number| self.clients.consumers.get(&number));
            let Some(taker) = taker else { continue };
            if taker.queue.settings().single_active_consumer {
                continue;
            }
            let choice = taker.queue.settings().consumer_choice;
            let held = |one: &Consumer| {
                let held = self.clients.held_by(delivered.queue, Some(one.number));
                held.len()
            };
            let has_fewer = |other: &Consumer| {
                choice == ConsumerChoice::LeastLoaded
                    && other.priority == taker.priority
                    && held(other) + 1 < held(taker)
            };
            let passed = self.clients.of(delivered.queue).find(|other| {
                let precedes = other.priority > taker.priority || has_fewer(other);
                precedes && self.clients.could_take(other)
            });
            promise!(
                passed.is_none(),
                "consumer {} got message {} before {:?}",
                taker.number,
                delivered.number,
                passed.map(|other| other.number)
            );
        }
        Ok(())
    }
}
