//! Every copy of every message, where it is and what happened to it: the oracle's own books.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::message::{Death, Found, Number};
use crate::broker::due::DueKey;
use crate::broker::queue::{DeathReason, REFUSED_MS, Settings, Whereabouts};
use crate::message::op::Counts;
use crate::message::{Epoch, QueueId, Seq};

/// A copy of a message: the queue that it is in, and its place there. No other copy ever has the same.
pub(super) type CopyId = (QueueId, Seq);

/// A copy of a message in a queue.
#[derive(Debug, Clone)]
pub(super) struct Copy {
    pub(super) found: Found,
    /// When it arrived.
    pub(super) arrival_ms: u64,
    pub(super) place: Whereabouts,
    /// A consumer that was to acknowledge it had it.
    pub(super) was_delivered: bool,
    /// It was there before the last start: the broker may take it for delivered.
    pub(super) is_old: bool,
    /// In a queue that deduplicates it keeps out others with its token. One that was refused does not.
    pub(super) has_id: bool,
    /// The epoch in which the broker moved it here; 0: it did not, or long ago.
    pub(super) moved_in: Epoch,
    /// It came in this step.
    pub(super) is_new: bool,
    /// An outbox had no room for it: others may have overtaken it.
    pub(super) was_refused: bool,
    /// Its deliveries so far; after a loss of power they may be more, up to `counts_max`.
    pub(super) counts: Counts,
    pub(super) counts_max: Option<Counts>,
    /// Until when it waits for its retry.
    pub(super) retry_ms: u64,
    /// What it may have died of.
    pub(super) reasons: Vec<DeathReason>,
}

impl Copy {
    pub(super) fn new(found: Found, arrival_ms: u64) -> Self {
        Self {
            found,
            arrival_ms,
            place: Whereabouts::Ready,
            was_delivered: false,
            is_old: false,
            has_id: true,
            moved_in: 0,
            is_new: true,
            was_refused: false,
            counts: Counts::default(),
            counts_max: None,
            retry_ms: 0,
            reasons: Vec::new(),
        }
    }

    pub(super) fn is_expired(&self, now_ms: u64) -> bool {
        self.found.expiry_ms != 0 && self.found.expiry_ms <= now_ms
    }

    /// It was refused: nobody ever gets it.
    pub(super) const fn is_refused(&self) -> bool {
        self.found.expiry_ms == REFUSED_MS
    }

    /// What it dies of when its time is up.
    pub(super) const fn dies_in_time_of(&self) -> DeathReason {
        if self.is_refused() {
            DeathReason::MaxLen
        } else {
            DeathReason::Expired
        }
    }
}

/// A queue.
#[derive(Debug, Clone)]
pub(super) struct Book {
    pub(super) name: String,
    pub(super) durable: bool,
    /// Nobody gets anything.
    pub(super) is_paused: bool,
    /// What arguments and policies say.
    pub(super) settings: Arc<Settings>,
    pub(super) copies: BTreeMap<Seq, Copy>,
}

/// What delays messages: an exchange by its name, or a queue.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Holder {
    Exchange(&'static str),
    Queue(QueueId),
}

/// A message that waits until it is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) found: Found,
    pub(super) routing_key: String,
    /// As of a copy.
    pub(super) has_id: bool,
}

/// What a queue with a cache or an exchange remembers of a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    pub(super) token: i64,
    /// In which step it came, or as which message, and when.
    pub(super) since: u64,
    pub(super) since_ms: u64,
    pub(super) until_ms: u64,
    pub(super) persistent: bool,
    /// Others than the broker may not know whether it was let in.
    pub(super) is_sure: bool,
}

/// Everything at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Ledger {
    pub(super) books: BTreeMap<QueueId, Book>,
    pub(super) held: BTreeMap<(Holder, DueKey), Held>,
    /// Exchanges and the queues bound to them.
    pub(super) bound: BTreeMap<&'static str, BTreeSet<String>>,
    /// What the deduplicating exchange remembers, the oldest first.
    pub(super) remembered: Vec<Kept>,
    /// What queues with caches remember, the oldest first.
    pub(super) caches: BTreeMap<QueueId, Vec<Kept>>,
}

impl Ledger {
    pub(super) fn queue(&self, name: &str) -> Option<QueueId> {
        let mut books = self.books.iter();
        let found = books.find(|(_, book)| book.name == name);
        found.map(|(id, _)| *id)
    }

    pub(super) fn copy(&self, (queue, seq): CopyId) -> Option<&Copy> {
        self.books.get(&queue)?.copies.get(&seq)
    }

    pub(super) fn copy_mut(&mut self, (queue, seq): CopyId) -> Option<&mut Copy> {
        self.books.get_mut(&queue)?.copies.get_mut(&seq)
    }

    /// Copies of messages, wherever they are.
    pub(super) fn count(&self) -> usize {
        let books = self.books.values();
        self.held.len() + books.map(|book| book.copies.len()).sum::<usize>()
    }

    /// The queues that a message published to this exchange goes to.
    pub(super) fn targets(&self, exchange: &str, routing_key: &str) -> Vec<QueueId> {
        let by_key = |name: &String| name == routing_key;
        let names: Vec<String> = match exchange {
            "" => vec![routing_key.to_owned()],
            super::plan::ALL | super::plan::GRAVES => self
                .bound
                .get(exchange)
                .into_iter()
                .flatten()
                .cloned()
                .collect(),
            _ => {
                let bound = self.bound.get(exchange).into_iter().flatten();
                bound.filter(|name| by_key(name)).cloned().collect()
            }
        };
        names.iter().filter_map(|name| self.queue(name)).collect()
    }

    /// What of it survives a restart.
    pub(super) fn durable(&self) -> Self {
        let mut kept = self.clone();
        kept.books.retain(|_, book| book.durable);
        for book in kept.books.values_mut() {
            book.copies.retain(|_, copy| copy.found.persistent);
        }
        let books = &kept.books;
        kept.held.retain(|(holder, _), held| {
            let exists = match holder {
                Holder::Exchange(_) => true,
                Holder::Queue(queue) => books.contains_key(queue),
            };
            exists && held.found.persistent
        });
        let is_durable = |name: &String| books.values().any(|book| book.name == *name);
        for queues in kept.bound.values_mut() {
            queues.retain(is_durable);
        }
        recover(&mut kept.remembered);
        kept.caches.retain(|queue, _| books.contains_key(queue));
        for cache in kept.caches.values_mut() {
            recover(cache);
        }
        kept
    }
}

/// A cache after a start: of those that came at the same time any may be the oldest.
fn recover(cache: &mut Vec<Kept>) {
    cache.retain(|kept| kept.persistent);
    let times: Vec<u64> = cache.iter().map(|kept| kept.since_ms).collect();
    for kept in cache {
        let same = times.iter().filter(|since_ms| **since_ms == kept.since_ms);
        kept.is_sure &= same.count() == 1;
    }
}

/// The history of a message that dies once more.
pub(super) fn with_death(deaths: &[Death], queue: &str, reason: DeathReason) -> Vec<Death> {
    let same = |death: &Death| death.queue == queue && death.reason == reason;
    let mut after = deaths.to_vec();
    let count = match after.iter().position(same) {
        Some(at) => after.remove(at).count + 1,
        None => 1,
    };
    let death = Death {
        queue: queue.to_owned(),
        reason,
        count,
    };
    after.insert(0, death);
    after
}

/// Whether a message with these deaths would go round by itself if it came to `queue`: it died there, and nobody has
/// rejected it since.
pub(super) fn is_cycle(deaths: &[Death], queue: &str) -> bool {
    let since = deaths.iter().position(|death| death.queue == queue);
    since.is_some_and(|at| {
        let mut since = deaths[..=at].iter();
        since.all(|death| death.reason != DeathReason::Rejected)
    })
}

/// Something that the broker promises not to do.
#[derive(Debug)]
pub(super) struct Violation(pub(super) String);

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

pub(super) type Checked<T = ()> = Result<T, Violation>;

/// Answers with a violation.
macro_rules! violated {
    ($($text:tt)*) => {
        return Err(crate::broker::simulation::ledger::Violation(format!($($text)*)))
    };
}
pub(super) use violated;

/// The broker promises the condition.
macro_rules! promise {
    ($condition:expr, $($text:tt)*) => {
        if !$condition {
            crate::broker::simulation::ledger::violated!($($text)*);
        }
    };
}
pub(super) use promise;

/// Which message and which copy of it, for people.
pub(super) fn told(book: &Book, seq: Seq, number: Number) -> String {
    format!("message {number} ({} at {seq:x})", book.name)
}
