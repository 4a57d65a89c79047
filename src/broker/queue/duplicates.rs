//! What a queue drops because it came before (`x-message-deduplication`): pure.
//!
//! Without a size and a time an id is taken while its message is in the queue, and free when that leaves: acknowledged,
//! dropped, expired, dead-lettered. With one of them ids are remembered for so long, whatever becomes of the messages.
//!
//! Rows keep this over a restart. That of a message which takes its id is written with its record
//! ([`Duplicates::row_with`]), so that both are on the disk or neither; what else changes goes to the next epoch in the
//! order in which it happened ([`IdChange`]).

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::log::Lookup;
use super::state::{Effects, State};
use crate::broker::deduplication::{Cache, Hash, Identity, QueueSettings};
use crate::message::record::{NewMessage, RecordRef};
use crate::message::{Epoch, Seq};

/// In the place of a seq: the message waits and is in no lane yet.
const WAITING: Seq = 0;

/// What a row says of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRow {
    /// What the message is known by.
    pub hash: Hash,
    /// When it arrived, ms since the Unix epoch; 0 when that does not matter.
    pub inserted_ms: u64,
    /// When it is forgotten, likewise; `u64::MAX` for never.
    pub expires_ms: u64,
    /// The message that takes the id; 0 for none and for one that waits.
    pub seq: Seq,
}

/// A change for the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IdChange {
    /// A row is written.
    Put(IdRow),
    /// The row of this id goes.
    Forget(Hash),
    /// All rows go.
    ForgetAll,
}

/// What became of ids, in this order: by the epochs in which it happened.
type IdChanges = VecDeque<(Epoch, IdChange)>;

/// What is left of rules that a queue had before.
#[derive(Debug, Default)]
pub(super) struct FormerIds {
    changes: IdChanges,
    /// The first of them, until the end of the epoch before this one is written: its messages had their ids.
    unwritten: Option<(Epoch, Box<Duplicates>)>,
}

impl FormerIds {
    /// See [`Duplicates::take_changes`].
    pub(super) fn take_changes(&mut self, epoch: Epoch) -> impl Iterator<Item = IdChange> {
        self.unwritten.take_if(|(end, _)| *end <= epoch);
        take_changes(&mut self.changes, epoch)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.unwritten.is_none()
    }
}

/// The ids that a queue knows.
#[derive(Debug)]
pub(super) struct Duplicates {
    rules: QueueSettings,
    memory: Memory,
    /// For the store, by the epochs in which they happened. Never left out: an id may outlive its record.
    changes: IdChanges,
}

#[derive(Debug)]
enum Memory {
    Cache(Cache),
    Taken(Taken),
}

/// Ids of messages that are in the queue: some 80 bytes each.
#[derive(Debug, Default)]
struct Taken {
    places: HashMap<Hash, Seq>,
    /// Those in a lane.
    by_seq: BTreeMap<Seq, Hash>,
    /// Messages that had an id and moved elsewhere, until the epoch of that is gathered: epochs before it write them
    /// here with their ids.
    moving: BTreeSet<Seq>,
}

impl Taken {
    fn insert(&mut self, hash: Hash, seq: Seq) {
        self.places.insert(hash, seq);
        if seq != WAITING {
            self.by_seq.insert(seq, hash);
        }
    }
}

impl Duplicates {
    pub(super) fn new(rules: QueueSettings) -> Self {
        let memory = match rules.is_cache {
            true => Memory::Cache(Cache::new(rules.settings.entries_max())),
            false => Memory::Taken(Taken::default()),
        };
        Self {
            rules,
            memory,
            changes: VecDeque::new(),
        }
    }

    /// Something happened for the store.
    pub(super) fn changed(&mut self, epoch: Epoch, changes: Vec<IdChange>) {
        let changes = changes.into_iter();
        self.changes.extend(changes.map(|change| (epoch, change)));
    }

    /// What happened up to `epoch`, in this order.
    pub(super) fn take_changes(&mut self, epoch: Epoch) -> impl Iterator<Item = IdChange> {
        take_changes(&mut self.changes, epoch)
    }

    /// Ids that are remembered or taken.
    pub(super) fn len(&self) -> usize {
        match &self.memory {
            Memory::Cache(cache) => cache.len(),
            Memory::Taken(taken) => taken.places.len(),
        }
    }

    /// A message that dies here and comes back is no duplicate of itself, although its id is remembered.
    pub(super) const fn outlives_messages(&self) -> bool {
        self.rules.is_cache
    }

    fn contains(&self, hash: &Hash, now_ms: u64) -> bool {
        match &self.memory {
            Memory::Cache(cache) => cache.contains(hash, now_ms),
            Memory::Taken(taken) => taken.places.contains_key(hash),
        }
    }

    /// Remembers the id of a message. `is_stored`: it is a message that survives a restart.
    fn remember(
        &mut self,
        now_ms: u64,
        identity: Identity,
        seq: Seq,
        is_stored: bool,
        changes: &mut Vec<IdChange>,
    ) {
        let Identity { hash, expires_ms } = identity;
        let is_stored = is_stored && self.rules.settings.is_persistent();
        match &mut self.memory {
            Memory::Cache(cache) => {
                let expired = cache.expire(now_ms);
                changes.extend(expired.into_iter().map(IdChange::Forget));
                let forgotten = cache.insert(hash, expires_ms, is_stored);
                changes.extend(forgotten.into_iter().map(IdChange::Forget));
                if is_stored {
                    changes.push(IdChange::Put(IdRow {
                        hash,
                        inserted_ms: now_ms,
                        expires_ms,
                        seq: 0,
                    }));
                }
            }
            Memory::Taken(taken) => {
                taken.insert(hash, seq);
                if is_stored && seq == WAITING {
                    changes.push(IdChange::Put(IdRow {
                        hash,
                        inserted_ms: 0,
                        expires_ms: u64::MAX,
                        seq,
                    }));
                }
                while taken.by_seq.len() > self.rules.settings.entries_max() {
                    if let Some((_, oldest)) = taken.by_seq.pop_first() {
                        taken.places.remove(&oldest);
                        changes.push(IdChange::Forget(oldest));
                    }
                }
            }
        }
    }

    /// The row that goes with a record that is written: none, unless the message has taken its id. One that was refused
    /// has not, nor one that came when the queue had another rule.
    pub(super) fn row_with(&self, record: RecordRef<'_>) -> Option<IdRow> {
        let seq = record.seq();
        match &self.memory {
            Memory::Taken(taken)
                if taken.by_seq.contains_key(&seq) || taken.moving.contains(&seq) =>
            {
                self.row_of(record)
            }
            Memory::Taken(_) | Memory::Cache(_) => None,
        }
    }

    /// A message that had its id goes elsewhere.
    fn is_moving(&mut self, seq: Seq) {
        if let Memory::Taken(taken) = &mut self.memory {
            taken.moving.insert(seq);
        }
    }

    /// A message that moved elsewhere is not written here any more.
    pub(super) fn has_moved(&mut self, seq: Seq) {
        if let Memory::Taken(taken) = &mut self.memory {
            taken.moving.remove(&seq);
        }
    }

    fn row_of(&self, record: RecordRef<'_>) -> Option<IdRow> {
        if self.rules.is_cache || !self.rules.settings.is_persistent() {
            return None;
        }
        let identity = self.rules.settings.identity(record.properties(), 0)?;
        Some(IdRow {
            hash: identity.hash,
            inserted_ms: 0,
            expires_ms: u64::MAX,
            seq: record.seq(),
        })
    }

    /// Puts an id into it that the store remembers; they come oldest first.
    pub(super) fn recover(&mut self, row: &IdRow, changes: &mut Vec<IdChange>) {
        match &mut self.memory {
            Memory::Cache(cache) => {
                let forgotten = cache.insert(row.hash, row.expires_ms, true);
                changes.extend(forgotten.into_iter().map(IdChange::Forget));
            }
            Memory::Taken(taken) => taken.insert(row.hash, row.seq),
        }
    }
}

/// What happened up to `epoch`.
fn take_changes(changes: &mut IdChanges, epoch: Epoch) -> impl Iterator<Item = IdChange> {
    std::iter::from_fn(move || changes.pop_front_if(|(at, _)| *at <= epoch))
        .map(|(_, change)| change)
}

impl State {
    /// What comes again is dropped by another rule from `epoch` on, or by none: what was known is forgotten. True: the
    /// store has to be told, before it is told of what comes by the new rule in the same epoch.
    pub(super) fn deduplicate(&mut self, rules: Option<&QueueSettings>, epoch: Epoch) -> bool {
        let duplicates = rules.map(|rules| Box::new(Duplicates::new(rules.clone())));
        let Some(mut before) = std::mem::replace(&mut self.duplicates, duplicates) else {
            return false;
        };
        let former = self.former_ids.get_or_insert_default();
        former.changes.append(&mut before.changes);
        former.changes.push_back((epoch, IdChange::ForgetAll));
        if former.unwritten.is_none() {
            former.unwritten = Some((epoch, before));
        }
        true
    }

    /// The ids that go with what is written in `epoch`. To be put back with [`Self::put_back_ids`].
    pub(super) fn take_ids(&mut self, epoch: Epoch) -> Option<Box<Duplicates>> {
        let former = self.former_ids.as_mut();
        match former.and_then(|former| former.unwritten.as_mut()) {
            Some((end, before)) if epoch < *end => Some(std::mem::replace(
                before,
                Box::new(Duplicates::new(before.rules.clone())),
            )),
            _ => self.duplicates.take(),
        }
    }

    pub(super) fn put_back_ids(&mut self, epoch: Epoch, ids: Option<Box<Duplicates>>) {
        let former = self.former_ids.as_mut();
        match (former.and_then(|former| former.unwritten.as_mut()), ids) {
            (Some((end, before)), Some(ids)) if epoch < *end => *before = ids,
            (_, ids) => self.duplicates = ids,
        }
    }

    /// How a message that arrives is known, if the queue deduplicates and it has an id.
    pub(super) fn identity(&self, now_ms: u64, message: &NewMessage<'_>) -> Option<Identity> {
        let duplicates = self.duplicates.as_ref()?;
        let settings = &duplicates.rules.settings;
        settings.identity(message.properties, now_ms)
    }

    /// Whether a message that is known so came before.
    pub(super) fn is_duplicate(&self, now_ms: u64, identity: &Identity) -> bool {
        let duplicates = self.duplicates.as_ref();
        duplicates.is_some_and(|duplicates| duplicates.contains(&identity.hash, now_ms))
    }

    /// A message was accepted: at `seq` or, with `None`, to wait. `is_stored`: it survives a restart.
    pub(super) fn remember(
        &mut self,
        now_ms: u64,
        identity: Identity,
        seq: Option<Seq>,
        is_stored: bool,
        effects: &mut Effects,
    ) {
        if let Some(duplicates) = &mut self.duplicates {
            let seq = seq.unwrap_or(WAITING);
            duplicates.remember(now_ms, identity, seq, is_stored, &mut effects.ids);
        }
    }

    /// A message left the queue: its id is free. `false`: it had taken none.
    pub(super) fn free_id(&mut self, seq: Seq, effects: &mut Effects) -> bool {
        let Some(duplicates) = &mut self.duplicates else {
            return false;
        };
        if let Memory::Taken(taken) = &mut duplicates.memory
            && let Some(hash) = taken.by_seq.remove(&seq)
        {
            taken.places.remove(&hash);
            effects.ids.push(IdChange::Forget(hash));
            return true;
        }
        false
    }

    /// The same for a message that goes elsewhere: epochs before that still write it here.
    pub(super) fn free_id_of_leaving(&mut self, seq: Seq, effects: &mut Effects) -> bool {
        let had_id = self.free_id(seq, effects);
        if let Some(duplicates) = self.duplicates.as_mut().filter(|_| had_id) {
            duplicates.is_moving(seq);
        }
        had_id
    }

    /// The same for a message that is dead-lettered. One that was refused never took its id: nobody may have it, or one
    /// that came later. Earlier versions wrote a row with it nevertheless.
    pub(super) fn free_id_of_dead(&mut self, record: RecordRef<'_>, effects: &mut Effects) {
        let had_id = self.free_id_of_leaving(record.seq(), effects);
        let Some(duplicates) = &mut self.duplicates else {
            return;
        };
        if !had_id
            && let Some(row) = duplicates.row_of(record)
            && !duplicates.contains(&row.hash, 0)
        {
            effects.ids.push(IdChange::Forget(row.hash));
        }
    }

    /// A message whose id was freed stays after all. Its row may be gone already, or on its way.
    pub(super) fn take_id_again(&mut self, record: RecordRef<'_>, effects: &mut Effects) {
        let Some(duplicates) = &mut self.duplicates else {
            return;
        };
        duplicates.has_moved(record.seq());
        let identity = duplicates.rules.settings.identity(record.properties(), 0);
        if let Some(Identity { hash, .. }) = identity
            && let Memory::Taken(taken) = &mut duplicates.memory
            && !taken.places.contains_key(&hash)
        {
            taken.insert(hash, record.seq());
            let row = duplicates.row_of(record);
            let row = row.filter(|_| record.is_persistent() && self.is_durable);
            effects.ids.extend(row.map(IdChange::Put));
        }
    }

    /// A message that waited waits no more.
    pub(super) fn free_waiting_id(&mut self, identity: &Identity, effects: &mut Effects) {
        if let Some(duplicates) = &mut self.duplicates
            && let Memory::Taken(taken) = &mut duplicates.memory
            && taken.places.get(&identity.hash) == Some(&WAITING)
        {
            taken.places.remove(&identity.hash);
            effects.ids.push(IdChange::Forget(identity.hash));
        }
    }

    /// A message that waited is in a lane now. The record brings a row of its own. One that waited since before the
    /// queue had this rule takes its id if nobody has it.
    pub(super) fn became_visible(&mut self, identity: &Identity, seq: Seq, effects: &mut Effects) {
        self.free_waiting_id(identity, effects);
        if let Some(duplicates) = &mut self.duplicates
            && let Memory::Taken(taken) = &mut duplicates.memory
            && !taken.places.contains_key(&identity.hash)
        {
            taken.insert(identity.hash, seq);
        }
    }

    /// The queue was purged: frees the ids of all messages that are gone.
    pub(super) fn free_purged_ids(&mut self, effects: &mut Effects) {
        let Some(duplicates) = &mut self.duplicates else {
            return;
        };
        let Memory::Taken(taken) = &mut duplicates.memory else {
            return;
        };
        let lanes = &self.lanes;
        let is_there = |seq: Seq| {
            let mut found = lanes.iter().map(|lane| lane.log.lookup(seq));
            found.any(|found| !matches!(found, Lookup::Gone))
        };
        let mut freed = Vec::new();
        taken.by_seq.retain(|seq, hash| {
            let stays = is_there(*seq);
            if !stays {
                taken.places.remove(hash);
                freed.push(IdChange::Forget(*hash));
            }
            stays
        });
        match taken.places.is_empty() && !freed.is_empty() {
            true => effects.ids.push(IdChange::ForgetAll),
            false => effects.ids.append(&mut freed),
        }
    }
}
