//! Opening: the same after a crash as after a clean stop.
//!
//! Order: owner lock, RocksDB, format version, intent log, epoch against the `durable` file, broker state, index, tail,
//! settled (by epoch), bodies. The cost is bounded by the number of chunks and 256 MiB of slices, not by the bytes of
//! messages.

mod directory;
mod intents;
mod own_state;
mod rows;

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};

use self::directory::{open_database, open_error, own};
pub(super) use self::own_state::check_format;
use super::batch::Batch;
use super::due::{DueOwner, RecoveredDue};
use super::durable_file::DurableFile;
use super::encode::RowView;
use super::error::OpenError;
use super::families::{Database, Mutable, WriteOnce};
use super::ids::Ids;
use super::index::Index;
use super::keys::{DueKey, RowKey, state};
use super::options::{Identity, StoreOptions};
use super::queue_index::QueueIndex;
use super::row::{Partial, Place, Row};
use super::space::Ballast;
use crate::message::op::Counts;
use crate::message::record::records;
use crate::message::{Epoch, QueueId, Seq};

/// The form of the rows that this version writes, and the newest that it reads.
pub(super) const FORMAT: u32 = 3;

/// The oldest reader that understands what this version writes.
pub(super) const READER: u32 = 3;

/// Chunks that are settled in part are read to count their bytes exactly, up to this sum; the rest is taken as average.
const EXACT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Keys and values of family `state`.
pub type StateRows = Vec<(Vec<u8>, Vec<u8>)>;

/// What the store finds when it is opened.
#[derive(Debug, Clone, Default)]
pub struct Recovered {
    /// The broker's rows of family `state`, by key.
    pub state: StateRows,
    /// Queues with something on disk. Those that the broker does not know are to be given to `Store::forget_unknown`.
    pub queues: HashMap<QueueId, RecoveredQueue>,
    /// What is due at a time, by owner; also of owners that had something due. Those that the broker does not know are
    /// forgotten with the queues.
    pub due: HashMap<QueueId, RecoveredDue>,
    /// Whose directory this is.
    pub identity: Option<Identity>,
    /// The latest time that was given to a visit whose epoch is on disk, ms since the Unix epoch. No visit sees an
    /// earlier one: a wall clock that is behind deserves a warning.
    pub clock_ms: u64,
}

/// A durable queue after a start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecoveredQueue {
    /// The first seq that is not settled; `next_seq` when there is none.
    pub first_live: Seq,
    /// The lowest seq to give to a new message: no stored record or settlement has it or a higher one.
    pub next_seq: Seq,
    /// The seq after the last record that is stored; 0 when there is none.
    pub end: Seq,
    /// The seq after the last record that was not written at the very end. What was settled before it was to be written
    /// has a higher one.
    pub written_before: Seq,
    /// Messages with lower seqs may have been delivered before.
    pub delivered_upto: Seq,
    /// Messages that are not settled.
    pub live_count: u64,
    /// Their body bytes. Exact, unless very many chunks are settled in part: then those count with their average.
    pub live_bytes: u64,
    /// How often messages were delivered that came back. May name seqs that were never stored.
    pub counts: BTreeMap<Seq, Counts>,
    /// Where messages are that expire.
    pub expiring: Vec<ExpiringRow>,
}

/// Records that are stored together, some of which expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpiringRow {
    /// The first seq.
    pub first: Seq,
    /// The last seq.
    pub last: Seq,
    /// None of them expires before this time, in ms since the Unix epoch.
    pub earliest_ms: u64,
}

/// Everything that a store needs to run.
pub(super) struct Opened {
    pub(super) owner: File,
    pub(super) database: Database,
    pub(super) durable_file: DurableFile,
    pub(super) index: Index,
    pub(super) ids: Ids,
    /// Last epoch used.
    pub(super) epoch: Epoch,
    pub(super) clock_ms: u64,
    pub(super) sparse: Vec<RowKey>,
    pub(super) full: Vec<QueueId>,
    pub(super) recovered: Recovered,
}

/// Opens the directory and reads everything that is kept in memory.
pub(super) fn open(options: &StoreOptions, ballast: &Ballast) -> Result<Opened, OpenError> {
    let failed = |reason: String| OpenError::Failed {
        dir: options.dir.clone(),
        reason,
    };
    fs::create_dir_all(&options.dir).map_err(|error| failed(error.to_string()))?;
    let owner = own(&options.dir)?;
    let database = open_database(options, ballast)?;
    let (durable_file, durable) =
        DurableFile::open(&options.dir).map_err(|error| failed(error.to_string()))?;
    let mut recovery = Recovery {
        options,
        database: &database,
        index: Index::default(),
        body_bytes: HashMap::new(),
        sums: HashMap::new(),
        expiring: HashMap::new(),
        counts: HashMap::new(),
        exact_left: EXACT_BYTES_MAX,
        sparse: Vec::new(),
        garbage: Batch::new(database.ids()),
    };
    let (own_state, intended) = recovery.replay_intents()?;
    let durable = durable.max(intended);
    if own_state.epoch < durable {
        let lost = OpenError::LostEpochs {
            dir: options.dir.clone(),
            found: own_state.epoch,
            durable,
        };
        if !options.accept_loss {
            return Err(lost);
        }
        tracing::warn!(error = %lost, "starting all the same");
        recovery.accept_loss(durable, own_state.clock_ms)?;
    }
    let state = recovery.broker_state()?;
    if options.accept_loss {
        recovery.recount_due()?;
    }
    recovery.read_index()?;
    recovery.read_tail()?;
    recovery.read_settled()?;
    recovery.check_bodies();
    recovery.remove_garbage()?;
    let queues = recovery.queues()?;
    let Recovery {
        mut index, sparse, ..
    } = recovery;
    let epoch = own_state.epoch.max(durable);
    index.written = epoch;
    let due = index
        .due
        .iter()
        .map(|(owner, known)| (*owner, known.recovered));
    let due = due.collect();
    let mut full = Vec::new();
    for (id, queue) in &mut index.queues {
        if queue.is_full() {
            queue.seal_wanted = true;
            full.push(*id);
        }
    }
    Ok(Opened {
        owner,
        index,
        sparse,
        full,
        epoch,
        durable_file,
        ids: Ids::new(own_state.next_queue, own_state.next_body),
        clock_ms: own_state.clock_ms,
        recovered: Recovered {
            state,
            queues,
            due,
            identity: Some(own_state.identity),
            clock_ms: own_state.clock_ms,
        },
        database,
    })
}

/// The seq after the last record of all rows but those of the last two epochs in which the queue was written.
fn written_before(queue: &QueueIndex) -> Seq {
    let rows = queue.rows().values();
    let newest = rows.clone().map(|row| row.epoch).max().unwrap_or(0);
    let older = rows.filter(|row| row.epoch + 1 < newest);
    older.map(|row| row.last + 1).max().unwrap_or(0)
}

struct Recovery<'a> {
    options: &'a StoreOptions,
    database: &'a Database,
    index: Index,
    /// Body bytes of all records of a row, for rows that may turn out to be settled in part.
    body_bytes: HashMap<RowKey, u64>,
    /// Body bytes of all rows of a queue.
    sums: HashMap<QueueId, u64>,
    expiring: HashMap<QueueId, Vec<ExpiringRow>>,
    /// What the rows of `settled` say of messages that may be settled meanwhile.
    counts: HashMap<QueueId, BTreeMap<Seq, Counts>>,
    exact_left: u64,
    sparse: Vec<RowKey>,
    /// Removes what a crash has left.
    garbage: Batch,
}

impl Recovery<'_> {
    fn damaged(&self, reason: String) -> OpenError {
        OpenError::Damaged {
            dir: self.options.dir.clone(),
            reason,
        }
    }

    fn failed(&self, error: rocksdb::Error) -> OpenError {
        open_error(self.options, error)
    }

    /// The broker's rows. Those about what is due are taken into the index.
    fn broker_state(&mut self) -> Result<StateRows, OpenError> {
        let mut rows = Vec::new();
        for row in self.database.scan_state() {
            let (key, value) = row.map_err(|error| self.failed(error))?;
            if let Some(key) = state::broker_key(&key) {
                rows.push((key.to_vec(), value.into_vec()));
            } else if let Some(owner) = state::due_owner(&key) {
                let known = DueOwner::decode(&value)
                    .ok_or_else(|| self.damaged(format!("due counts of {owner} are malformed")))?;
                self.index.due.insert(owner, known);
            }
        }
        Ok(rows)
    }

    /// Where epochs are lost, the rows that are there are what counts.
    fn recount_due(&mut self) -> Result<(), OpenError> {
        for known in self.index.due.values_mut() {
            known.recovered.count = 0;
        }
        for row in self.database.scan(WriteOnce::Due) {
            let (key, _) = row.map_err(|error| self.failed(error))?;
            let malformed = || self.damaged(format!("due row {} is malformed", key.escape_ascii()));
            let key = DueKey::decode(&key).ok_or_else(malformed)?;
            self.index.due.entry(key.owner).or_default().add(&key);
        }
        for (owner, known) in &self.index.due {
            self.garbage
                .put(Mutable::State, &state::due(*owner), &known.encode());
        }
        Ok(())
    }

    fn queues(&mut self) -> Result<HashMap<QueueId, RecoveredQueue>, OpenError> {
        let index = std::mem::take(&mut self.index);
        let mut queues = HashMap::with_capacity(index.queues.len());
        for (id, queue) in &index.queues {
            let next_seq = queue
                .last_seq()
                .map_or(1, |last| last.saturating_add(1))
                .max(queue.settled.reserved());
            queues.insert(
                *id,
                RecoveredQueue {
                    first_live: queue.first_live().unwrap_or(next_seq),
                    next_seq,
                    end: queue.last_seq().map_or(0, |last| last + 1),
                    written_before: written_before(queue),
                    delivered_upto: queue.settled.delivered_upto(),
                    counts: self
                        .counts
                        .remove(id)
                        .unwrap_or_default()
                        .into_iter()
                        .filter(|(seq, _)| queue.may_be_live(*seq))
                        .collect(),
                    expiring: self
                        .expiring
                        .remove(id)
                        .unwrap_or_default()
                        .into_iter()
                        .filter(|row| queue.rows().contains_key(&row.first))
                        .collect(),
                    live_count: queue.live_count(),
                    live_bytes: self.sums.get(id).copied().unwrap_or(0)
                        - self.settled_bytes(*id, queue)?,
                },
            );
        }
        self.index = index;
        Ok(queues)
    }

    /// Body bytes of the settled records in rows that are settled in part.
    fn settled_bytes(&mut self, id: QueueId, queue: &QueueIndex) -> Result<u64, OpenError> {
        let mut sum = 0;
        for (first, partial) in queue.partials() {
            let Some(row) = queue.rows().get(first) else {
                continue;
            };
            let key = row.key(id, *first);
            if u64::from(row.bytes) <= self.exact_left {
                self.exact_left -= u64::from(row.bytes);
                sum += self.read_settled_bytes(key, row, partial)?;
            } else {
                let all = self.body_bytes.get(&key).copied().unwrap_or(0);
                sum += all - all * u64::from(row.live) / u64::from(row.count.max(1));
            }
        }
        Ok(sum)
    }

    fn read_settled_bytes(
        &self,
        key: RowKey,
        row: &Row,
        partial: &Partial,
    ) -> Result<u64, OpenError> {
        let family = if row.place == Place::Tail {
            WriteOnce::Tail
        } else {
            WriteOnce::Chunks
        };
        let value = self
            .database
            .get(family, &key)
            .map_err(|error| self.failed(error))?;
        let view = value.as_deref().and_then(RowView::decode);
        let view = view.ok_or_else(|| {
            self.damaged(format!(
                "row {key:?} of {} is missing or malformed",
                family.name()
            ))
        })?;
        let settled = (0..)
            .zip(records(view.records))
            .filter(|(position, _)| partial.is_settled(*position));
        Ok(settled.map(|(_, record)| record.body_len() as u64).sum())
    }
}
