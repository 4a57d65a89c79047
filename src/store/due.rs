//! What is due at a time: one row for each delayed or retried record and for each expiry mark, in order of time.
//!
//! Value: empty for an expiry mark, else
//! ```text
//!  0 u8 version (1)   1 u8 1 if a body follows   2 two bytes 0   4 u32 length of the record
//!  8 record | body
//! ```
//! A start must not read these rows, of which there may be many millions. What it has to know of them stands in one row
//! of `state` per owner, written in each epoch that changes it.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use rocksdb::{Direction, IteratorMode, ReadOptions};

use super::apply::{SINGLE_DELETES_MAX, Work};
use super::encode::Reader;
use super::error::LoadError;
use super::families::{Database, Mutable, WriteOnce};
use super::index::Index;
use super::keys::{DueKey, OnceKey, queue_span, state};
use super::{Shared, fatal};
use crate::message::op::DueRecord;
use crate::message::record::SharedBody;
use crate::message::{QueueId, Seq};

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 8;

/// After so many removals the earliest time is looked up again: as many tombstones a start has to step over.
const REMOVALS_PER_LOOK: u64 = 256;

/// Rows that are due, read back.
#[derive(Debug, Clone)]
pub struct DuePage {
    /// In order of (time, seq).
    pub entries: Vec<DueEntry>,
    /// There are rows behind these.
    pub more: bool,
}

/// One row.
#[derive(Debug, Clone)]
pub struct DueEntry {
    /// When it is due, ms since the Unix epoch.
    pub time_ms: u64,
    /// Orders what is due at one time.
    pub seq: Seq,
    /// As it was put; empty for an expiry mark.
    pub record: Bytes,
    /// As it was put, but with id 0.
    pub body: Option<SharedBody>,
}

/// What is due of one owner, after a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecoveredDue {
    /// Number of rows.
    pub count: u64,
    /// No row has this seq or a higher one, nor did a row ever.
    pub next_seq: Seq,
    /// No row is due before: where to begin reading.
    pub earliest_ms: u64,
}

/// What the store remembers of an owner of rows in `due`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct DueOwner {
    pub(super) recovered: RecoveredDue,
    removals: u64,
}

/// The operations of an epoch on family `due`.
#[derive(Default)]
pub(super) struct DueChanges {
    pub(super) put: Vec<DueRecord>,
    pub(super) remove: Vec<DueKey>,
}

impl DueOwner {
    /// From the value of the row in `state`; `None` when it is malformed.
    pub(super) fn decode(value: &[u8]) -> Option<Self> {
        let (words, rest) = value.as_chunks::<8>();
        let [count, next_seq, earliest_ms] = words else {
            return None;
        };
        rest.is_empty().then_some(Self {
            recovered: RecoveredDue {
                count: u64::from_le_bytes(*count),
                next_seq: u64::from_le_bytes(*next_seq),
                earliest_ms: u64::from_le_bytes(*earliest_ms),
            },
            removals: 0,
        })
    }

    /// Value of the row in `state`: count, next seq and earliest time, three u64.
    pub(super) fn encode(&self) -> Vec<u8> {
        let RecoveredDue {
            count,
            next_seq,
            earliest_ms,
        } = self.recovered;
        [count, next_seq, earliest_ms]
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect()
    }

    /// Counts a row in.
    pub(super) fn add(&mut self, key: &DueKey) {
        let known = &mut self.recovered;
        if known.count == 0 || key.time_ms < known.earliest_ms {
            known.earliest_ms = key.time_ms;
        }
        known.count += 1;
        known.next_seq = known.next_seq.max(key.seq.saturating_add(1));
    }
}

/// What an epoch does to the rows of one owner.
#[derive(Default)]
struct Change {
    removed: u64,
    put: Vec<DueKey>,
}

impl Work<'_> {
    /// Writes and removes rows. What comes and goes in one epoch is not written.
    pub(super) fn change_due(&mut self, index: &mut Index, changes: DueChanges) {
        let DueChanges { put, remove } = changes;
        if put.is_empty() && remove.is_empty() {
            return;
        }
        let mut removed: HashSet<DueKey> = match put.is_empty() {
            true => HashSet::new(),
            false => remove.iter().copied().collect(),
        };
        let mut elided: HashSet<DueKey> = HashSet::new();
        let mut owners: BTreeMap<QueueId, Change> = BTreeMap::new();
        for record in put {
            let key = DueKey {
                owner: record.owner,
                time_ms: record.time_ms,
                seq: record.seq,
            };
            if removed.remove(&key) {
                elided.insert(key);
                continue;
            }
            put_row(&mut self.batch, &key, &record);
            owners.entry(key.owner).or_default().put.push(key);
        }
        for key in remove.iter().filter(|key| !elided.contains(key)) {
            self.batch.single_delete(WriteOnce::Due, key);
            owners.entry(key.owner).or_default().removed += 1;
        }
        for (owner, change) in owners {
            let known = index.due.entry(owner).or_default();
            note(self.database, owner, known, &change);
            let (key, value) = (state::due(owner), known.encode());
            self.batch.put(Mutable::State, &key, &value);
        }
    }

    /// Removes all rows of an owner.
    pub(super) fn delete_due(&mut self, index: &mut Index, owner: QueueId) {
        let Some(known) = index.due.remove(&owner) else {
            return;
        };
        self.batch.delete(Mutable::State, &state::due(owner));
        let RecoveredDue {
            count, earliest_ms, ..
        } = known.recovered;
        if count > SINGLE_DELETES_MAX as u64 {
            let (from, to) = queue_span(owner);
            self.batch.delete_range(WriteOnce::Due, &from, &to);
        } else if count > 0 {
            for row in rows(self.database, owner, (earliest_ms, 0)) {
                match row {
                    Ok((key, _)) => self.batch.single_delete(WriteOnce::Due, &key),
                    Err(error) => fatal(&format!("cannot read what {owner} has due: {error}")),
                }
            }
        }
    }
}

/// Takes over what an epoch does. The rows of the epoch itself are not in the database yet, nor are those gone that it
/// removes: so the earliest time may be that of a row that goes now, which is as good a place to begin from.
fn note(database: &Database, owner: QueueId, known: &mut DueOwner, change: &Change) {
    let written = known.recovered;
    known.removals += change.removed;
    if known.removals >= REMOVALS_PER_LOOK && written.count > 0 {
        known.removals = 0;
        known.recovered.earliest_ms = match rows(database, owner, (written.earliest_ms, 0)).next() {
            Some(Ok((key, _))) => key.time_ms,
            Some(Err(error)) => fatal(&format!("cannot read what {owner} has due: {error}")),
            None => written.earliest_ms,
        };
    }
    known.recovered.count = written.count.saturating_sub(change.removed);
    change.put.iter().for_each(|key| known.add(key));
}

fn put_row(batch: &mut super::batch::Batch, key: &DueKey, record: &DueRecord) {
    let DueRecord { record, body, .. } = record;
    if record.is_empty() && body.is_none() {
        return batch.put_once(WriteOnce::Due, key, &[]);
    }
    let mut header = [0; HEADER_BYTES];
    header[0] = VERSION;
    header[1] = u8::from(body.is_some());
    header[4..].copy_from_slice(&(record.len() as u32).to_le_bytes());
    let body: &[u8] = body.as_ref().map_or(&[], |body| &body.bytes);
    batch.put_once(WriteOnce::Due, key, &[&header, record, body]);
}

/// Record and body of a value; `None` when it is malformed. Copies, so that one entry does not keep its neighbours.
fn decode_value(value: &[u8]) -> Option<(Bytes, Option<SharedBody>)> {
    if value.is_empty() {
        return Some((Bytes::new(), None));
    }
    let mut reader = Reader(value);
    let [VERSION, has_body @ (0 | 1), ..] = reader.take(4)? else {
        return None;
    };
    let record_len = reader.u32()? as usize;
    let record = Bytes::copy_from_slice(reader.take(record_len)?);
    let body = (*has_body == 1).then(|| SharedBody {
        id: 0,
        bytes: Bytes::copy_from_slice(reader.0),
    });
    (body.is_some() || reader.0.is_empty()).then_some((record, body))
}

type DueRow = (DueKey, Box<[u8]>);

/// The rows of an owner from `from` on. Nothing before `from` is touched, not even tombstones.
fn rows(
    database: &Database,
    owner: QueueId,
    (time_ms, seq): (u64, Seq),
) -> impl Iterator<Item = Result<DueRow, String>> {
    let mut options = ReadOptions::default();
    // Read once and then removed.
    options.fill_cache(false);
    options.set_iterate_upper_bound(queue_span(owner).1);
    let from = DueKey {
        owner,
        time_ms,
        seq,
    };
    let mode = IteratorMode::From(&from.encode(), Direction::Forward);
    let rows = database
        .db()
        .iterator_cf_opt(database.family(WriteOnce::Due), options, mode);
    rows.map(|row| {
        let (key, value) = row.map_err(rocksdb::Error::into_string)?;
        let malformed = || format!("due row {} is malformed", key.escape_ascii());
        Ok((DueKey::decode(&key).ok_or_else(malformed)?, value))
    })
}

impl Shared {
    /// See `Store::due`.
    pub(super) fn due(
        &self,
        owner: QueueId,
        from: (u64, Seq),
        count_max: usize,
        bytes_max: usize,
    ) -> Result<DuePage, LoadError> {
        let database = self.database.read();
        let database = database.as_ref().ok_or(LoadError::Closed)?;
        let mut page = DuePage {
            entries: Vec::new(),
            more: false,
        };
        let mut bytes = 0;
        for row in rows(database, owner, from) {
            let (key, value) = row.map_err(LoadError::Failed)?;
            bytes += value.len();
            if !page.entries.is_empty() && (page.entries.len() >= count_max || bytes > bytes_max) {
                page.more = true;
                break;
            }
            let (record, body) = decode_value(&value).ok_or_else(|| LoadError::Damaged {
                queue: owner,
                reason: format!("due row {key:?} is malformed"),
            })?;
            page.entries.push(DueEntry {
                time_ms: key.time_ms,
                seq: key.seq,
                record,
                body,
            });
        }
        Ok(page)
    }
}
