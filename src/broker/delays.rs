//! The messages that wait in one delaying exchange until they are due.
//!
//! A persistent message is stored in the epoch of its publish, and leaves the store in the epoch in which it arrives in
//! its queues: a crash neither loses nor doubles it. In memory are only those that are due soon
//! ([`super::due::DueIndex`]), and all transient ones. The timer thread moves what is due, at most 256 messages a
//! visit, in order of their times.

mod held;

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

pub(super) use self::held::Held;
use super::Services;
use super::due::{DueIndex, DueKey, LIMITS, Payload, Removed, Taken};
use super::loader::DueOwner;
use super::queue::{Queue, VISIT_BYTES_MAX, VISIT_MESSAGES_MAX};
use super::timers::{Timed, Timer};
use super::vhost::VHost;
use super::vhost::publish::Outgoing;
use crate::message::op::{DueRecord, Op};
use crate::message::record::NewMessage;
use crate::message::{QueueId, Seq};
use crate::store::{DuePage, LoadError, RecoveredDue, Visit};

/// Pause while the store or the memory of the queues has no room for more, in ms.
const NO_ROOM_PAUSE_MS: u64 = 5;

/// Bytes that a listing reads at most.
const LIST_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The waiting messages of one exchange.
pub struct Delays {
    /// Under which they are stored.
    id: QueueId,
    exchange: Arc<str>,
    vhost: Weak<VHost>,
    services: Services,
    me: Weak<Self>,
    timer: Timer,
    state: Mutex<State>,
}

struct State {
    index: DueIndex<Held>,
    next_seq: Seq,
    /// Rises with each message that is taken out.
    taken_out: u64,
    deleted: bool,
}

/// A message that waits, as a listing shows it.
#[derive(Debug, Clone)]
pub struct Pending {
    /// When it is due, and what to name it by.
    pub key: DueKey,
    /// Routing key.
    pub routing_key: Box<str>,
    /// Property flags and property list; the header `x-delay` is negative already.
    pub properties: Box<[u8]>,
    /// Size of the body.
    pub body_bytes: u64,
    /// Survives a restart.
    pub persistent: bool,
}

impl Delays {
    /// The waiting messages of `exchange`, stored under `id`: those that a start found.
    pub(super) fn new(
        id: QueueId,
        exchange: Arc<str>,
        vhost: &Weak<VHost>,
        services: &Services,
        recovered: RecoveredDue,
    ) -> Arc<Self> {
        let RecoveredDue {
            count,
            next_seq,
            earliest_ms,
        } = recovered;
        Arc::new_cyclic(|me: &Weak<Self>| Self {
            id,
            exchange,
            vhost: vhost.clone(),
            services: services.clone(),
            me: me.clone(),
            timer: services.timers.register(me.clone()),
            state: Mutex::new(State {
                index: DueIndex::recovered(LIMITS, count, earliest_ms),
                next_seq: next_seq.max(1),
                taken_out: 0,
                deleted: false,
            }),
        })
    }

    /// Begins to move what is due. After a restart not before the bindings and queues are there that it goes to.
    pub(super) fn start(&self) {
        self.arm(&mut self.state.lock());
    }

    /// Number of messages that wait.
    pub fn len(&self) -> u64 {
        self.state.lock().index.len()
    }

    /// Whether no message waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lets a message wait for `delay_ms`. `routing_keys` are all of its keys, its own first.
    pub(super) fn hold(
        &self,
        visit: &Visit<'_>,
        message: &NewMessage<'_>,
        routing_keys: &[Box<str>],
        delay_ms: u64,
    ) {
        let mut state = self.state.lock();
        if state.deleted {
            return;
        }
        let key = DueKey {
            time_ms: visit.now_ms().saturating_add(delay_ms),
            seq: state.next_seq,
        };
        state.next_seq += 1;
        let held = Held::new(key, routing_keys, delay_ms, message);
        let stored_in = message.persistent.then(|| {
            visit.add_pending(held.bytes());
            visit.push(Op::PutDue(DueRecord {
                owner: self.id,
                time_ms: key.time_ms,
                seq: key.seq,
                record: held.bytes.clone(),
                body: held.body.clone(),
            }));
            visit.epoch()
        });
        state.index.durable(self.services.store.durable());
        state.index.insert(key, held, stored_in);
        self.arm(&mut state);
    }

    /// The waiting messages from `from` on, in order of their times, at most `max`. Reads from the store and blocks:
    /// for a thread pool. Call again with a key behind the last one for more.
    ///
    /// # Errors
    /// The store is closed or cannot be read.
    pub fn list(&self, from: DueKey, max: usize) -> Result<Vec<Pending>, LoadError> {
        let store = &self.services.store;
        let page = store.due(self.id, (from.time_ms, from.seq), max, LIST_BYTES_MAX)?;
        let end = page.entries.last().filter(|_| page.more);
        let end = end.map(|entry| DueKey {
            time_ms: entry.time_ms,
            seq: entry.seq,
        });
        let state = self.state.lock();
        let mut found: BTreeMap<DueKey, Held> = rows(page)
            .filter(|(key, _)| !state.index.was_removed(*key))
            .collect();
        let known = state.index.known_from(from);
        for (key, held) in known
            .take_while(|(key, _)| end.is_none_or(|end| *key <= end))
            .take(max)
        {
            found.entry(key).or_insert_with(|| held.clone());
        }
        drop(state);
        let listed = found.iter().filter_map(|(key, held)| pending(*key, held));
        Ok(listed.take(max).collect())
    }

    /// Takes one waiting message out, before its time; it is gone. False if there is none with this key. Reads from the
    /// store and blocks: for a thread pool, outside of visits.
    ///
    /// # Errors
    /// The store is closed or cannot be read.
    pub fn remove(&self, key: DueKey) -> Result<bool, LoadError> {
        loop {
            let before = self.state.lock().taken_out;
            let page = self
                .services
                .store
                .due(self.id, (key.time_ms, key.seq), 1, 1)?;
            let is_stored = rows(page).any(|(found, _)| found == key);
            let visit = self.services.visit();
            let mut state = self.state.lock();
            if state.taken_out != before {
                // It may have gone since the store was asked.
                continue;
            }
            if !is_stored && !state.index.is_known(key) {
                return Ok(false);
            }
            let removed = match state.index.remove(key, visit.epoch()) {
                Removed::Near(taken) => taken.stored,
                Removed::Far => true,
                Removed::Missing => return Ok(false),
            };
            state.taken_out += 1;
            if removed {
                self.push_removal(&visit, key);
            }
            self.arm(&mut state);
            return Ok(true);
        }
    }

    /// The exchange is deleted: what waits is gone with it.
    pub(super) fn delete(&self, visit: &Visit<'_>) {
        let mut state = self.state.lock();
        state.deleted = true;
        state.index = DueIndex::new(LIMITS);
        self.timer.set(None);
        visit.push(Op::QueueDeleted { queue: self.id });
    }

    fn push_removal(&self, visit: &Visit<'_>, key: DueKey) {
        visit.push(Op::RemoveDue {
            owner: self.id,
            time_ms: key.time_ms,
            seq: key.seq,
        });
    }

    /// Asks for a page if one is needed, and sets the timer.
    fn arm(&self, state: &mut State) {
        let now_ms = self.services.now_ms();
        if let Some(page) = state.index.wanted_page(now_ms) {
            self.services
                .loader
                .load_due(self.me.clone(), self.id, page);
        }
        if let Some(at_ms) = state.index.wake_ms() {
            self.timer.set_by(at_ms);
        }
    }

    /// Takes out what is due, as much as fits a visit.
    fn take(&self, visit: &Visit<'_>) -> Vec<Taken<Held>> {
        let mut state = self.state.lock();
        state.index.durable(self.services.store.durable());
        let mut due = Vec::new();
        let mut bytes = 0;
        while due.len() < VISIT_MESSAGES_MAX
            && bytes < VISIT_BYTES_MAX
            && let Some(taken) = state.index.pop(visit.now_ms(), visit.epoch())
        {
            bytes += taken.payload.bytes();
            if taken.stored {
                self.push_removal(visit, taken.key);
            }
            due.push(taken);
        }
        state.taken_out += due.len() as u64;
        self.arm(&mut state);
        due
    }

    /// Moves a visit's worth of what is due to its queues. Answers those that have more to do.
    fn move_due(&self, visit: &Visit<'_>) -> Vec<Arc<Queue>> {
        let Some(vhost) = self.vhost.upgrade() else {
            return Vec::new();
        };
        let exchange = vhost.exchange(&self.exchange);
        // Not one that was declared after this one was deleted.
        let exchange = exchange.filter(|exchange| {
            let delays = exchange.delays();
            delays.is_some_and(|delays| std::ptr::eq(Arc::as_ptr(delays), self))
        });
        let Some(exchange) = exchange else {
            return Vec::new();
        };
        let due = self.take(visit);
        let read: Vec<_> = due.iter().filter_map(|taken| self.read(taken)).collect();
        let outgoing = read.iter().map(|held| {
            let message = held.message(visit.now_ms());
            let route = vhost.route(&exchange, &held.routing_keys, &message);
            Outgoing {
                message,
                targets: route.queues,
            }
        });
        vhost.deliver(visit, outgoing.collect())
    }

    fn read<'a>(&self, taken: &'a Taken<Held>) -> Option<held::HeldRef<'a>> {
        let read = taken.payload.read();
        if read.is_none() {
            tracing::error!(exchange = %self.exchange, key = ?taken.key, "a delayed message is damaged and lost");
        }
        read
    }
}

impl Timed for Delays {
    fn due(self: Arc<Self>, now_ms: u64) {
        let services = &self.services;
        if !services.store.has_room() || services.memory.is_far_over() {
            self.timer.set_by(now_ms.saturating_add(NO_ROOM_PAUSE_MS));
            return;
        }
        let mut crowded = self.move_due(&services.visit());
        while !crowded.is_empty() {
            crowded.retain(|queue| queue.pump(&services.visit()));
        }
    }
}

impl DueOwner for Delays {
    fn install_due(self: Arc<Self>, page: DuePage) {
        let mut state = self.state.lock();
        if state.deleted {
            return;
        }
        let more = page.more;
        state.index.install(rows(page), more);
        self.arm(&mut state);
    }
}

fn rows(page: DuePage) -> impl Iterator<Item = (DueKey, Held)> {
    page.entries.into_iter().map(|entry| {
        let key = DueKey {
            time_ms: entry.time_ms,
            seq: entry.seq,
        };
        let held = Held {
            bytes: entry.record,
            body: entry.body,
        };
        (key, held)
    })
}

fn pending(key: DueKey, held: &Held) -> Option<Pending> {
    let read = held.read()?;
    let message = read.message(0);
    Some(Pending {
        key,
        routing_key: read.routing_keys.first().copied()?.into(),
        properties: message.properties.into(),
        body_bytes: message.body.len() as u64,
        persistent: message.persistent,
    })
}

#[cfg(test)]
mod tests;
