//! The messages that wait in one delaying exchange or queue until they are due.
//!
//! A message is stored in the epoch of its publish, and leaves the store in the epoch in which it arrives in its
//! queues: a crash neither loses nor doubles a persistent one, and loses all transient ones. In memory are only those
//! that are due soon ([`super::due::DueIndex`]). The timer thread moves what is due, at most 256 messages a visit, in
//! order of their times.

mod held;
mod target;
mod waiting;

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use self::held::Held;
pub(super) use self::target::Target;
use self::waiting::{Out, Waiting};
use super::Services;
use super::due::{DueKey, Payload};
use super::loader::DueOwner;
use super::queue::{Queue, VISIT_BYTES_MAX, VISIT_MESSAGES_MAX};
use super::timers::{Timed, Timer};
use crate::message::op::{DueRecord, Op};
use crate::message::record::NewMessage;
use crate::message::{QueueId, Seq};
use crate::store::{DueEntry, DuePage, LoadError, RecoveredDue, Visit};

/// Pause while the store or the memory of the queues has no room for more, in ms.
const NO_ROOM_PAUSE_MS: u64 = 5;

/// Bytes that a listing reads at most.
const LIST_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The waiting messages of one exchange or queue.
pub struct Delays {
    target: Target,
    services: Services,
    me: Weak<Self>,
    timer: Timer,
    state: Mutex<State>,
}

struct State {
    waiting: Waiting,
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
    /// Property flags and property list; a header `x-delay` is negative already.
    pub properties: Box<[u8]>,
    /// Size of the body.
    pub body_bytes: u64,
    /// Survives a restart.
    pub persistent: bool,
}

impl Delays {
    /// The waiting messages of `target`, of which the persistent ones are stored under `id`: those that a start found.
    pub(super) fn new(
        id: QueueId,
        target: Target,
        services: &Services,
        recovered: RecoveredDue,
    ) -> Arc<Self> {
        let transient = services.store.next_queue_id();
        Arc::new_cyclic(|me: &Weak<Self>| Self {
            target,
            services: services.clone(),
            me: me.clone(),
            timer: services.timers.register(me.clone()),
            state: Mutex::new(State {
                waiting: Waiting::new(id, recovered, transient),
                next_seq: recovered.next_seq.max(1),
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
        self.state.lock().waiting.len()
    }

    /// Whether no message waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lets a message wait for `delay_ms`. `routing_keys` are all of its keys, its own first. `by_header`: its header
    /// said so, which is negated.
    pub(super) fn hold(
        &self,
        visit: &Visit<'_>,
        message: &NewMessage<'_>,
        routing_keys: &[Box<str>],
        delay_ms: u64,
        by_header: bool,
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
        let negated = by_header.then_some(delay_ms);
        let held = Held::new(key, routing_keys, negated, message);
        let (record, body, bytes) = (held.bytes.clone(), held.body.clone(), held.bytes());
        state.waiting.durable(self.services.store.durable());
        let owner = state
            .waiting
            .insert(key, held, message.persistent, visit.epoch());
        visit.add_pending(bytes);
        visit.push(Op::PutDue(DueRecord {
            owner,
            time_ms: key.time_ms,
            seq: key.seq,
            record,
            body,
        }));
        self.arm(&mut state);
    }

    /// The waiting messages from `from` on, in order of their times, at most `max`. Reads from the store and blocks:
    /// for a thread pool. Call again with a key behind the last one for more.
    ///
    /// # Errors
    /// The store is closed or cannot be read.
    pub fn list(&self, from: DueKey, max: usize) -> Result<Vec<Pending>, LoadError> {
        let owners = self.state.lock().waiting.owners();
        let mut stored = Vec::new();
        // What is behind the end of a page is not known yet.
        let mut end: Option<DueKey> = None;
        for owner in owners {
            let page = self.page(owner, from, max, LIST_BYTES_MAX)?;
            let last = page.entries.last().filter(|_| page.more).map(key_of);
            end = [end, last].into_iter().flatten().min();
            stored.extend(rows(page));
        }
        let is_within = |key: &DueKey| end.is_none_or(|end| *key <= end);
        let state = self.state.lock();
        let mut found: BTreeMap<DueKey, Held> = stored
            .into_iter()
            .filter(|(key, _)| is_within(key) && !state.waiting.was_removed(*key))
            .collect();
        for (key, held) in state.waiting.known_from(from) {
            if is_within(&key) {
                found.entry(key).or_insert_with(|| held.clone());
            }
        }
        drop(state);
        let listed = found.iter().filter_map(|(key, held)| pending(*key, held));
        Ok(listed.take(max).collect())
    }

    fn page(
        &self,
        owner: QueueId,
        from: DueKey,
        rows: usize,
        bytes: usize,
    ) -> Result<DuePage, LoadError> {
        let store = &self.services.store;
        store.due(owner, (from.time_ms, from.seq), rows, bytes)
    }

    /// Takes one waiting message out, before its time; it is gone. False if there is none with this key. Reads from the
    /// store and blocks: for a thread pool, outside of visits.
    ///
    /// # Errors
    /// The store is closed or cannot be read.
    pub fn remove(&self, key: DueKey) -> Result<bool, LoadError> {
        loop {
            let (before, owners) = {
                let state = self.state.lock();
                (state.taken_out, state.waiting.owners())
            };
            let mut stored = None;
            for owner in owners {
                let mut found = rows(self.page(owner, key, 1, 1)?);
                if let Some((_, held)) = found.find(|(found, _)| *found == key) {
                    stored = Some((owner, held));
                }
            }
            let visit = self.services.visit();
            let mut state = self.state.lock();
            if state.taken_out != before {
                // It may have gone since the store was asked.
                continue;
            }
            let held = match &stored {
                Some((_, held)) => Some(held.clone()),
                None => state.waiting.known(key).cloned(),
            };
            let owner = stored.map(|(owner, _)| owner);
            let Some(owner) = state.waiting.remove(key, owner, visit.epoch()) else {
                return Ok(false);
            };
            state.taken_out += 1;
            push_removal(&visit, owner, key);
            self.arm(&mut state);
            drop(state);
            if let Some(held) = held {
                self.target.removed(&visit, &held);
            }
            return Ok(true);
        }
    }

    /// The exchange or queue is deleted: what waits is gone with it.
    pub(super) fn delete(&self, visit: &Visit<'_>) {
        let mut state = self.state.lock();
        state.deleted = true;
        state.waiting.clear();
        self.timer.set(None);
        for queue in state.waiting.owners() {
            visit.push(Op::QueueDeleted { queue });
        }
    }

    /// Asks for the pages that are needed, and sets the timer.
    fn arm(&self, state: &mut State) {
        let now_ms = self.services.now_ms();
        for (owner, page) in state.waiting.wanted_pages(now_ms) {
            self.services.loader.load_due(self.me.clone(), owner, page);
        }
        if let Some(at_ms) = state.waiting.wake_ms(now_ms) {
            self.timer.set_by(at_ms);
        }
    }

    /// Takes out what is due, as much as fits a visit.
    fn take(&self, visit: &Visit<'_>) -> Vec<Out> {
        let mut state = self.state.lock();
        state.waiting.durable(self.services.store.durable());
        let mut due = Vec::new();
        let mut bytes = 0;
        while due.len() < VISIT_MESSAGES_MAX
            && bytes < VISIT_BYTES_MAX
            && let Some(out) = state.waiting.pop(visit.now_ms(), visit.epoch())
        {
            bytes += out.taken.payload.bytes();
            push_removal(visit, out.owner, out.taken.key);
            due.push(out);
        }
        state.taken_out += due.len() as u64;
        self.arm(&mut state);
        due
    }

    /// Moves a visit's worth of what is due to its queues. Answers those that have more to do.
    fn move_due(&self, visit: &Visit<'_>) -> Vec<Arc<Queue>> {
        if !self.target.exists(self) {
            return Vec::new();
        }
        let due = self.take(visit);
        let read: Vec<_> = due.iter().filter_map(|out| self.read(out)).collect();
        self.target.deliver(visit, &read)
    }

    fn read<'a>(&self, out: &'a Out) -> Option<held::HeldRef<'a>> {
        let read = out.taken.payload.read();
        if read.is_none() {
            tracing::error!(of = self.target.name(), key = ?out.taken.key, "a delayed message is damaged and lost");
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
    fn install_due(self: Arc<Self>, owner: QueueId, page: DuePage) {
        let mut state = self.state.lock();
        if state.deleted {
            return;
        }
        let more = page.more;
        state.waiting.install(owner, rows(page), more);
        self.arm(&mut state);
    }
}

fn push_removal(visit: &Visit<'_>, owner: QueueId, key: DueKey) {
    visit.push(Op::RemoveDue {
        owner,
        time_ms: key.time_ms,
        seq: key.seq,
    });
}

const fn key_of(entry: &DueEntry) -> DueKey {
    DueKey {
        time_ms: entry.time_ms,
        seq: entry.seq,
    }
}

fn rows(page: DuePage) -> impl Iterator<Item = (DueKey, Held)> {
    page.entries.into_iter().map(|entry| {
        let key = key_of(&entry);
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
