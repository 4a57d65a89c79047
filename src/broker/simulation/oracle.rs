//! The oracle: what may become of every copy of a message.
//!
//! It keeps books of its own and predicts nothing that is the broker's to decide (who gets a message, which of two times
//! comes first). After each step it is shown what there is, and every difference must follow from what was done: a copy
//! that is gone was acknowledged, dropped or moved, and one that is new was published or moved here. The books of each
//! epoch are kept: after a loss of power they say what must be there again ([`restart`]).

mod arrive;
pub(super) mod caches;
mod deliver;
mod follow;
mod rates;
mod restart;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::ledger::{Checked, CopyId, Held, Holder, Ledger, promise};
use super::message::{Death, Found, Number};
use crate::broker::due::DueKey;
use crate::broker::queue::{Return, Settings, Whereabouts};
use crate::message::op::Counts;
use crate::message::{Epoch, QueueId, Seq};
use crate::rate::Bucket;

/// How a client ended a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Ack,
    Discard,
    Requeue(Return),
}

/// Why a copy comes to a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    Published,
    /// The publish was refused: it dies here at once, or is not here at all.
    Refused,
    /// It died elsewhere.
    Letter,
    /// It waited in an exchange.
    DueFromExchange,
    /// It waited in this queue.
    DueHere,
    /// Administration moved it.
    Moved,
}

/// A copy that must turn up.
#[derive(Debug, Clone)]
pub(super) struct Arrival {
    pub(super) queue: QueueId,
    /// How it must look, but for its time and its deaths.
    pub(super) found: Found,
    /// The histories that it may have: why it died, the arrival tells.
    pub(super) histories: Vec<Vec<Death>>,
    pub(super) cause: Cause,
    /// As of a copy.
    pub(super) has_id: bool,
}

/// A delivery as a consumer saw it.
#[derive(Debug, Clone)]
pub(super) struct Delivered {
    /// `None`: basic.get.
    pub(super) consumer: Option<usize>,
    pub(super) queue: QueueId,
    pub(super) seq: Seq,
    pub(super) number: Number,
    pub(super) no_ack: bool,
    pub(super) redelivered: bool,
    pub(super) counts: Counts,
    pub(super) body_bytes: u64,
    pub(super) is_body_right: bool,
}

/// What was done in a step.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) now_ms: u64,
    pub(super) declared: BTreeSet<QueueId>,
    pub(super) deleted: BTreeSet<QueueId>,
    pub(super) purged: BTreeSet<QueueId>,
    pub(super) arrivals: Vec<Arrival>,
    /// Published to an exchange that delays: how long.
    pub(super) delayed: Vec<(Held, u64)>,
    pub(super) ended: BTreeMap<CopyId, End>,
    pub(super) deliveries: Vec<Delivered>,
    /// Outboxes had no room for these.
    pub(super) refused: Vec<CopyId>,
    /// The dead of this queue were moved.
    pub(super) buried: Option<QueueId>,
    /// Administration took away so many messages of a queue that were ready.
    pub(super) taken: Option<(QueueId, u64)>,
    /// Or this one.
    pub(super) removed: Option<CopyId>,
    /// Where they were moved to.
    pub(super) moved_to: Option<MovedTo>,
    /// It paused the queue, or lets it go on.
    pub(super) paused: Option<QueueId>,
}

/// Where messages are moved to.
#[derive(Debug, Clone)]
pub(super) enum MovedTo {
    Queue(QueueId),
    Exchange(&'static str, String),
}

impl Facts {
    /// For people: what there is of it.
    pub(super) fn told(&self) -> String {
        let mut told = format!("at {}", self.now_ms);
        let sets = [
            ("declared", &self.declared),
            ("deleted", &self.deleted),
            ("purged", &self.purged),
        ];
        for (what, queues) in sets.into_iter().filter(|(_, queues)| !queues.is_empty()) {
            told += &format!(", {what} {queues:?}");
        }
        for arrival in &self.arrivals {
            let Arrival {
                queue,
                found,
                cause,
                ..
            } = arrival;
            told += &format!("\n    {} {cause:?} in {queue}: {found:?}", found.number);
        }
        for (held, ms) in &self.delayed {
            told += &format!("\n    {} delayed by {ms}: {held:?}", held.found.number);
        }
        for ((queue, seq), how) in &self.ended {
            told += &format!("\n    {seq:x} of {queue}: {how:?}");
        }
        for delivered in &self.deliveries {
            told += &format!("\n    {delivered:?}");
        }
        if !self.refused.is_empty() {
            told += &format!("\n    no room for {:x?}", self.refused);
        }
        if let Some(queue) = self.buried {
            told += &format!(", the dead of {queue}");
        }
        if let Some((queue, count)) = self.taken {
            told += &format!(", {count} taken from {queue} to {:?}", self.moved_to);
        }
        if let Some((queue, seq)) = self.removed {
            told += &format!(", {seq:x} of {queue} removed");
        }
        if let Some(queue) = self.paused {
            told += &format!(", {queue} paused or no more");
        }
        told
    }
}

/// A queue as it is.
pub(super) struct SeenQueue {
    pub(super) name: String,
    pub(super) durable: bool,
    pub(super) is_paused: bool,
    pub(super) settings: Arc<Settings>,
    /// What is new is read.
    pub(super) messages: BTreeMap<Seq, (Whereabouts, Number, Option<Found>)>,
    pub(super) ready_bytes: u64,
    /// The queue knows that. What came back and was not read since counts for nothing yet.
    pub(super) is_counted: bool,
}

impl SeenQueue {
    fn ready(&self) -> u64 {
        let places = self.messages.values().map(|(place, ..)| *place);
        places.filter(|place| *place == Whereabouts::Ready).count() as u64
    }
}

/// Everything as it is.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) queues: BTreeMap<QueueId, SeenQueue>,
    pub(super) held: BTreeMap<(Holder, DueKey), Found>,
    /// What the consumers have and did not end.
    pub(super) with_consumers: BTreeSet<CopyId>,
    /// Who consumes, and how it is ranked.
    pub(super) consumers: BTreeMap<usize, i32>,
}

/// So many messages, and bytes of their bodies.
#[derive(Debug, Clone, Copy, Default)]
struct Amount {
    count: u64,
    bytes: u64,
}

impl Amount {
    const fn add(&mut self, found: &Found) {
        self.count += 1;
        self.bytes += found.body_bytes;
    }
}

impl<'a> FromIterator<&'a Found> for Amount {
    fn from_iter<I: IntoIterator<Item = &'a Found>>(found: I) -> Self {
        let mut amount = Self::default();
        found.into_iter().for_each(|found| amount.add(found));
        amount
    }
}

/// See the module.
pub(super) struct Oracle {
    pub(super) ledger: Ledger,
    /// The books as they were when epochs ended.
    at: BTreeMap<Epoch, Ledger>,
    /// Copies that are gone for good. Where the epoch of that is lost they may come back, or not: what was settled
    /// before it was written never is. What moved is not among them: it must be in its old place then.
    settled: BTreeSet<CopyId>,
    /// Copies that were delivered to be acknowledged, gone ones too.
    ever_delivered: BTreeSet<(CopyId, Number)>,
    /// The highest counts of deliveries, of gone ones too.
    highest_counts: BTreeMap<(CopyId, Number), Counts>,
    /// The last epoch that is durable.
    announced: Epoch,
    /// The epoch that things happen in.
    open: Epoch,
    /// From where on nobody gets the messages of a queue, lane by lane, before an epoch is on the disk: the broker moved
    /// some there in it.
    closed: BTreeMap<(QueueId, Epoch), Vec<Seq>>,
    /// Who is the single active consumer.
    active: BTreeMap<QueueId, usize>,
    /// Messages before the step.
    before: BTreeMap<QueueId, Amount>,
    /// Tokens of the messages that were there before the step.
    tokens_before: BTreeMap<QueueId, BTreeSet<i64>>,
    /// Messages that came to queues in the step, or were to.
    came: BTreeMap<QueueId, Amount>,
    /// Steps so far.
    steps: u64,
    /// What the broker moves to an exchange that delays, the histories that it may have, and how long it waits.
    delayed: Vec<(Held, Vec<Vec<Death>>, u64)>,
    /// Who comes to which queue with which id in the step.
    coming: Vec<(Number, (QueueId, Option<i64>))>,
    /// No body is larger, of all that there is in the step.
    largest: u64,
    /// Queues whose consumers have a rate: what may pass.
    buckets: BTreeMap<QueueId, Bucket>,
    /// What changed in the step, for people.
    pub(super) changes: Vec<String>,
}

impl Oracle {
    pub(super) fn new(start: Epoch) -> Self {
        Self {
            ledger: Ledger::default(),
            at: BTreeMap::from([(start, Ledger::default())]),
            settled: BTreeSet::new(),
            ever_delivered: BTreeSet::new(),
            highest_counts: BTreeMap::new(),
            announced: start,
            open: start + 1,
            closed: BTreeMap::new(),
            active: BTreeMap::new(),
            before: BTreeMap::new(),
            tokens_before: BTreeMap::new(),
            came: BTreeMap::new(),
            steps: 0,
            delayed: Vec::new(),
            coming: Vec::new(),
            largest: 0,
            buckets: BTreeMap::new(),
            changes: Vec::new(),
        }
    }

    /// An epoch ended.
    pub(super) fn epoch_ended(&mut self, epoch: Epoch) {
        self.at.insert(epoch, self.ledger.clone());
        self.open = epoch + 1;
    }

    /// An epoch is durable: what was before it does not come back.
    pub(super) fn epoch_announced(&mut self, epoch: Epoch) {
        self.at = self.at.split_off(&epoch);
        self.announced = epoch;
        self.closed.retain(|(_, closed_in), _| *closed_in > epoch);
    }

    /// Follows a step.
    pub(super) fn account(&mut self, facts: &Facts, seen: &Seen) -> Checked {
        self.follow_topology(facts, seen)?;
        self.steps += 1;
        self.remember_before(facts);
        let mut arrivals = self.follow_copies(facts, seen)?;
        arrivals.extend(self.follow_held(facts, seen)?);
        arrivals.extend(facts.arrivals.iter().cloned());
        self.arrive(facts, seen, arrivals)?;
        self.deliver(facts, seen)?;
        self.check_rates(facts, seen)?;
        self.check_places(seen)
    }

    fn remember_before(&mut self, facts: &Facts) {
        let books = self.ledger.books.values();
        let copies = books.flat_map(|book| book.copies.values());
        let found = copies.map(|copy| &copy.found);
        let found = found.chain(self.ledger.held.values().map(|held| &held.found));
        let found = found.chain(facts.arrivals.iter().map(|arrival| &arrival.found));
        self.largest = found.map(|found| found.body_bytes).max().unwrap_or(0);
        self.came.clear();
        self.before.clear();
        self.tokens_before.clear();
        for (id, book) in &mut self.ledger.books {
            let found = book.copies.values().map(|copy| &copy.found);
            self.before.insert(*id, found.collect());
            let tokens = book.copies.values().filter_map(|copy| copy.found.token);
            self.tokens_before.insert(*id, tokens.collect());
            for copy in book.copies.values_mut() {
                copy.is_new = false;
            }
        }
        for ((holder, _), held) in &self.ledger.held {
            if let Holder::Queue(queue) = holder {
                let tokens = self.tokens_before.entry(*queue).or_default();
                tokens.extend(held.found.token);
            }
        }
    }

    fn follow_topology(&mut self, facts: &Facts, seen: &Seen) -> Checked {
        for (id, queue) in &seen.queues {
            if !self.ledger.books.contains_key(id) {
                promise!(
                    facts.declared.contains(id),
                    "queue {} was not declared",
                    queue.name
                );
                self.ledger.books.insert(*id, queue.empty_book());
            }
        }
        let gone: Vec<QueueId> = self.ledger.books.keys().copied().collect();
        for id in gone.into_iter().filter(|id| !seen.queues.contains_key(id)) {
            let book = self.ledger.books.remove(&id).expect("it was just there");
            promise!(
                facts.deleted.contains(&id),
                "queue {} was not deleted",
                book.name
            );
            for seq in book.copies.into_keys() {
                self.settled.insert((id, seq));
            }
            self.ledger
                .held
                .retain(|(holder, _), _| *holder != Holder::Queue(id));
            self.active.remove(&id);
            self.ledger.caches.remove(&id);
        }
        self.follow_settings(facts, seen)
    }

    /// Queues are paused when administration says so, and other settings hold at once.
    fn follow_settings(&mut self, facts: &Facts, seen: &Seen) -> Checked {
        for (id, queue) in &seen.queues {
            let book = self.ledger.books.get_mut(id).expect("it was just seen");
            promise!(
                book.is_paused == queue.is_paused || facts.paused == Some(*id),
                "{} is paused: {}",
                queue.name,
                queue.is_paused
            );
            let was_paused = std::mem::replace(&mut book.is_paused, queue.is_paused);
            let mut delivered = facts.deliveries.iter();
            promise!(
                !(was_paused && queue.is_paused && delivered.any(|one| one.queue == *id)),
                "{} is paused and delivers",
                queue.name
            );
            if !queue.settings.single_active_consumer {
                self.active.remove(id);
            }
            let before = std::mem::replace(&mut book.settings, queue.settings.clone());
            if before.deduplication == queue.settings.deduplication {
                continue;
            }
            // What was known is forgotten.
            self.ledger.caches.remove(id);
            for copy in book.copies.values_mut() {
                copy.has_id = false;
            }
            for ((holder, _), held) in &mut self.ledger.held {
                held.has_id &= *holder != Holder::Queue(*id);
            }
        }
        Ok(())
    }

    /// What consumers have is what is unacknowledged, and of each group one message at most is.
    fn check_places(&self, seen: &Seen) -> Checked {
        for (id, book) in &self.ledger.books {
            let settings = &seen.queues[id].settings;
            let mut busy = BTreeSet::new();
            for (seq, copy) in &book.copies {
                let is_out = copy.place == Whereabouts::Unacknowledged;
                let has = seen.with_consumers.contains(&(*id, *seq));
                let number = copy.found.number;
                promise!(
                    is_out == has,
                    "message {number} in {}: unacknowledged: {is_out}, with a consumer: {has}",
                    book.name
                );
                if let Some(header) = settings.message_group.as_ref().filter(|_| is_out) {
                    let group = copy.found.group_by(header);
                    let is_alone = group.is_none_or(|group| busy.insert(group));
                    promise!(
                        is_alone,
                        "two of the group of message {number} are out in {}",
                        book.name
                    );
                }
            }
        }
        Ok(())
    }
}

impl SeenQueue {
    fn empty_book(&self) -> super::ledger::Book {
        super::ledger::Book {
            name: self.name.clone(),
            durable: self.durable,
            is_paused: self.is_paused,
            settings: self.settings.clone(),
            copies: BTreeMap::new(),
        }
    }
}
