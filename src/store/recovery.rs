//! Opening: the same after a crash as after a clean stop.
//!
//! Order: owner lock, RocksDB, format version, epoch against the `durable` file, broker state, index, tail, settled (by
//! epoch), bodies. The cost is bounded by the number of chunks and 256 MiB of slices, not by the bytes of messages.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;

use bytes::Bytes;
use rocksdb::WriteOptions;
use rustix::fs::{FlockOperation, flock};

use super::batch::Batch;
use super::bodies::{BODIES_QUEUE, delete_body};
use super::commit::epoch_row;
use super::due::{DueOwner, RecoveredDue};
use super::durable_file::DurableFile;
use super::encode::{IndexRow, RowView};
use super::error::OpenError;
use super::families::{Database, Mutable, WriteOnce};
use super::ids::Ids;
use super::index::{Body, Index};
use super::keys::{DueKey, RowKey, SettledKey, state};
use super::load::stored_runs;
use super::options::{Identity, StoreOptions};
use super::queue_index::{Gone, QueueIndex};
use super::row::{KeptBody, Partial, Place, Row, Runs};
use super::settled_row::SettledRow;
use super::space::{Ballast, is_no_space};
use crate::message::op::Counts;
use crate::message::record::records;
use crate::message::{Epoch, QueueId, Seq};

/// The form of the rows that this version writes, and the newest that it reads.
pub(super) const FORMAT: u32 = 2;

/// The oldest reader that understands what this version writes.
pub(super) const READER: u32 = 2;

const LOCK: &str = "owner";

/// Chunks that are settled in part are read to count their bytes exactly, up to this sum; the rest is taken as average.
const EXACT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Keys and values of family `state`.
type StateRows = Vec<(Vec<u8>, Vec<u8>)>;

/// What the store finds when it is opened.
#[derive(Debug, Clone, Default)]
pub struct Recovered {
    /// The broker's rows of family `state`, by key.
    pub state: Vec<(Vec<u8>, Vec<u8>)>,
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
    let own_state = recovery.own_state()?;
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

/// Makes this process the only one that works in `dir`. The lock goes with the file, at the latest with the process.
fn own(dir: &Path) -> Result<File, OpenError> {
    let failed = |error: std::io::Error| OpenError::Failed {
        dir: dir.to_path_buf(),
        reason: error.to_string(),
    };
    let path = dir.join(LOCK);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            // The owner may be just about to write its id: then the message does without.
            let _ = file.read_to_string(&mut text);
            return Err(OpenError::InUse {
                dir: dir.to_path_buf(),
                owner: text.trim().parse().ok(),
            });
        }
        Err(error) => return Err(failed(error.into())),
    }
    // On a full disk the id is left out: it only makes another process's message better.
    let _ = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| write!(file, "{}", std::process::id()));
    Ok(file)
}

/// Opens RocksDB; on a full disk once more without the ballast.
fn open_database(options: &StoreOptions, ballast: &Ballast) -> Result<Database, OpenError> {
    let dir = options.dir.join("journal");
    let error = match Database::open(&dir) {
        Ok(database) => return Ok(database),
        Err(error) => error,
    };
    if options.accept_loss && error.kind() == rocksdb::ErrorKind::Corruption {
        tracing::warn!(%error, "the journal is damaged, opening what can be read");
        return Database::salvage(&dir).map_err(|error| open_error(options, error));
    }
    if !is_no_space(&error) {
        return Err(open_error(options, error));
    }
    if ballast.release() {
        tracing::warn!("the disk is full, the ballast was given up to start");
        return Database::open(&dir).map_err(|error| open_error(options, error));
    }
    Err(OpenError::NoSpace {
        dir: options.dir.clone(),
        reason: error.into_string(),
    })
}

fn open_error(options: &StoreOptions, error: rocksdb::Error) -> OpenError {
    let dir = options.dir.clone();
    if is_no_space(&error) {
        return OpenError::NoSpace {
            dir,
            reason: error.into_string(),
        };
    }
    match error.kind() {
        rocksdb::ErrorKind::Corruption => OpenError::Damaged {
            dir,
            reason: error.into_string(),
        },
        _ => OpenError::Failed {
            dir,
            reason: error.into_string(),
        },
    }
}

/// The store's own rows of family `state`.
struct OwnState {
    epoch: Epoch,
    clock_ms: u64,
    next_queue: QueueId,
    next_body: u64,
    identity: Identity,
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

    fn state_row(&self, key: &[u8]) -> Result<Option<Vec<u8>>, OpenError> {
        self.database
            .db()
            .get_cf(self.database.state(), key)
            .map_err(|error| self.failed(error))
    }

    fn own_state(&self) -> Result<OwnState, OpenError> {
        let Some(format) = self.state_row(state::FORMAT)? else {
            return self.new_directory();
        };
        let (found, reader) = match format.as_chunks::<4>() {
            ([found, reader, ..], _) => (u32::from_le_bytes(*found), u32::from_le_bytes(*reader)),
            _ => return Err(self.damaged("the format version is malformed".into())),
        };
        if reader > FORMAT {
            return Err(OpenError::NewerFormat {
                dir: self.options.dir.clone(),
                found,
                reader,
                supported: FORMAT,
            });
        }
        if found < FORMAT {
            self.write_format()?;
        }
        let identity = match self
            .state_row(state::IDENTITY)?
            .as_deref()
            .map(<[u8]>::as_chunks::<16>)
        {
            Some(([cluster, node], _)) => Identity {
                cluster: *cluster,
                node: *node,
            },
            _ => return Err(self.damaged("the identity is missing or malformed".into())),
        };
        let (epoch, clock_ms) = self.pair(state::EPOCH)?.unwrap_or((0, 0));
        let (next_queue, next_body) = self.pair(state::IDS)?.unwrap_or((1, 1));
        Ok(OwnState {
            epoch,
            clock_ms,
            next_queue,
            next_body,
            identity,
        })
    }

    /// From now on rows are written that older versions cannot read.
    fn write_format(&self) -> Result<(), OpenError> {
        let mut batch = Batch::new(self.database.ids());
        batch.put(Mutable::State, state::FORMAT, &format_row());
        self.write(&batch)
    }

    fn pair(&self, key: &[u8]) -> Result<Option<(u64, u64)>, OpenError> {
        match self.state_row(key)?.as_deref().map(<[u8]>::as_chunks::<8>) {
            None => Ok(None),
            Some(([one, two], _)) => Ok(Some((u64::from_le_bytes(*one), u64::from_le_bytes(*two)))),
            Some(_) => Err(self.damaged(format!("state row {} is malformed", key.escape_ascii()))),
        }
    }

    fn new_directory(&self) -> Result<OwnState, OpenError> {
        let identity = match self.options.identity {
            Some(identity) => identity,
            None => random_identity().map_err(|reason| OpenError::Failed {
                dir: self.options.dir.clone(),
                reason,
            })?,
        };
        let mut batch = Batch::new(self.database.ids());
        batch.put(Mutable::State, state::FORMAT, &format_row());
        batch.put(
            Mutable::State,
            state::IDENTITY,
            &[identity.cluster, identity.node].concat(),
        );
        batch.put(Mutable::State, state::EPOCH, &epoch_row(0, 0));
        self.write(&batch)?;
        Ok(OwnState {
            epoch: 0,
            clock_ms: 0,
            next_queue: 1,
            next_body: 1,
            identity,
        })
    }

    fn write(&self, batch: &Batch) -> Result<(), OpenError> {
        let mut options = WriteOptions::default();
        options.set_sync(!self.options.no_sync);
        self.database
            .db()
            .write_opt(batch.to_write(), &options)
            .map_err(|error| self.failed(error))
    }

    /// What is lost is known now: the next start does not complain about it again.
    fn accept_loss(&self, durable: Epoch, clock_ms: u64) -> Result<(), OpenError> {
        let mut batch = Batch::new(self.database.ids());
        batch.put(Mutable::State, state::EPOCH, &epoch_row(durable, clock_ms));
        self.write(&batch)
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

    fn read_index(&mut self) -> Result<(), OpenError> {
        for row in self.database.scan(WriteOnce::Index) {
            let (key, value) = row.map_err(|error| self.failed(error))?;
            let malformed =
                || self.damaged(format!("index row {} is malformed", key.escape_ascii()));
            let key = RowKey::decode(&key).ok_or_else(malformed)?;
            if key.queue == BODIES_QUEUE {
                let len = value[..]
                    .try_into()
                    .map(u32::from_le_bytes)
                    .map_err(|_| malformed())?;
                self.index.bodies.insert(
                    key.first,
                    Body {
                        epoch: key.epoch,
                        len,
                        references: 0,
                    },
                );
                continue;
            }
            if self.options.accept_loss && !self.has_chunk(&key)? {
                tracing::warn!(?key, "a chunk is lost");
                self.garbage.single_delete(WriteOnce::Index, &key);
                continue;
            }
            let IndexRow {
                last,
                count,
                bytes,
                body_bytes,
                kept,
                expiry_ms: (earliest_ms, _),
                ..
            } = IndexRow::decode(key.first, &value).ok_or_else(malformed)?;
            self.expires(key, last, earliest_ms);
            self.add(
                key,
                Row {
                    last,
                    epoch: key.epoch,
                    count,
                    live: count,
                    bytes,
                    place: Place::Chunks,
                },
                body_bytes,
                kept,
            );
        }
        Ok(())
    }

    /// Whether the chunk of an index row is there. Only after a loss it may not be: both are written together.
    fn has_chunk(&self, key: &RowKey) -> Result<bool, OpenError> {
        match self.database.get(WriteOnce::Chunks, key) {
            Ok(value) => {
                Ok(value.is_some_and(|value| RowView::decode(&Bytes::from(value)).is_some()))
            }
            Err(error) if error.kind() == rocksdb::ErrorKind::Corruption => Ok(false),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn read_tail(&mut self) -> Result<(), OpenError> {
        for row in self.database.scan(WriteOnce::Tail) {
            let (key, value) = row.map_err(|error| self.failed(error))?;
            let malformed = || self.damaged(format!("slice {} is malformed", key.escape_ascii()));
            let key = RowKey::decode(&key).ok_or_else(malformed)?;
            let bytes = value.len() as u32;
            let view = RowView::decode(&Bytes::from(value.into_vec())).ok_or_else(malformed)?;
            let body_bytes = records(&view.records)
                .map(|record| record.body_len() as u64)
                .sum();
            let expiries = records(&view.records)
                .map(|record| record.expiry_ms())
                .filter(|expiry_ms| *expiry_ms != 0);
            self.expires(key, view.last, expiries.min().unwrap_or_default());
            let kept = view
                .bodies
                .iter()
                .filter_map(|(seq, body)| Some((*seq, body.kept()?)))
                .collect();
            let row = Row {
                last: view.last,
                epoch: key.epoch,
                count: view.count,
                live: view.count,
                bytes,
                place: Place::Tail,
            };
            self.add(key, row, body_bytes, kept);
        }
        Ok(())
    }

    /// A row has records that expire, the first one at `earliest_ms`; 0: it has none.
    fn expires(&mut self, key: RowKey, last: Seq, earliest_ms: u64) {
        if earliest_ms != 0 {
            let rows = self.expiring.entry(key.queue).or_default();
            rows.push(ExpiringRow {
                first: key.first,
                last,
                earliest_ms,
            });
        }
    }

    fn add(&mut self, key: RowKey, row: Row, body_bytes: u64, kept: Vec<(Seq, KeptBody)>) {
        for (_, body) in &kept {
            if let Some(body) = self.index.bodies.get_mut(&body.id) {
                body.references += 1;
            }
        }
        self.index.count(&row, true);
        self.index
            .queues
            .entry(key.queue)
            .or_default()
            .insert(key.first, row, kept.into_iter());
        *self.sums.entry(key.queue).or_default() += body_bytes;
        self.body_bytes.insert(key, body_bytes);
    }

    fn read_settled(&mut self) -> Result<(), OpenError> {
        let database = self.database;
        for row in database.scan(WriteOnce::Settled) {
            let (key, value) = row.map_err(|error| self.failed(error))?;
            let malformed =
                || self.damaged(format!("settled row {} is malformed", key.escape_ascii()));
            let SettledKey { queue: id, epoch } = SettledKey::decode(&key).ok_or_else(malformed)?;
            let settled = SettledRow::decode(&value).ok_or_else(malformed)?;
            let queue = self.index.queues.entry(id).or_default();
            queue.settled.recover(epoch, &settled, value.len() as u64);
            if !settled.counts.is_empty() {
                self.counts.entry(id).or_default().extend(settled.counts);
            }
            for range in settled.ranges {
                self.settle(id, range, epoch)?;
            }
        }
        Ok(())
    }

    fn settle(&mut self, id: QueueId, range: (Seq, Seq), epoch: Epoch) -> Result<(), OpenError> {
        let Some(queue) = self.index.queues.get_mut(&id) else {
            return Ok(());
        };
        let mut failure = None;
        let settled = queue.settle(id, range, epoch, |first, row| {
            stored_runs(self.database, row.key(id, first), row).unwrap_or_else(|error| {
                failure = Some(error);
                Runs::dense(first, row.count)
            })
        });
        if let Some(reason) = failure {
            return Err(self.damaged(reason));
        }
        self.index.tail_bytes = self.index.tail_bytes.saturating_sub(settled.tail_bytes);
        self.index.chunk_live_bytes = self
            .index
            .chunk_live_bytes
            .saturating_sub(settled.chunk_live_bytes);
        for id in &settled.bodies {
            if let Some(body) = self.index.bodies.get_mut(id) {
                body.references = body.references.saturating_sub(1);
            }
        }
        self.sparse.extend(settled.sparse);
        for gone in settled.gone {
            self.remove_row(id, &gone);
        }
        Ok(())
    }

    /// A row that is settled altogether was deleted in the epoch that settled its last record. Should one be left all
    /// the same, it goes now.
    fn remove_row(&mut self, id: QueueId, gone: &Gone) {
        let key = gone.key(id);
        if let Some(bytes) = self.body_bytes.remove(&key) {
            *self.sums.entry(id).or_default() -= bytes;
        }
        if gone.row.place == Place::Tail {
            self.garbage.single_delete(WriteOnce::Tail, &key);
        } else {
            self.garbage.single_delete(WriteOnce::Chunks, &key);
            self.garbage.single_delete(WriteOnce::Index, &key);
        }
    }

    /// Bodies that were written ahead of an epoch which was never written.
    fn check_bodies(&mut self) {
        let garbage = &mut self.garbage;
        self.index.bodies.retain(|id, body| {
            if body.references == 0 {
                delete_body(garbage, *id, body.epoch, body.len);
            }
            body.references > 0
        });
        self.index.body_live_bytes = self
            .index
            .bodies
            .values()
            .map(|body| u64::from(body.len))
            .sum();
    }

    fn remove_garbage(&mut self) -> Result<(), OpenError> {
        if self.garbage.is_empty() {
            return Ok(());
        }
        let garbage = std::mem::replace(&mut self.garbage, Batch::new(self.database.ids()));
        self.write(&garbage)
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
        let view = value.and_then(|value| RowView::decode(&Bytes::from(value)));
        let view = view.ok_or_else(|| {
            self.damaged(format!(
                "row {key:?} of {} is missing or malformed",
                family.name()
            ))
        })?;
        let settled = (0..)
            .zip(records(&view.records))
            .filter(|(position, _)| partial.is_settled(*position));
        Ok(settled.map(|(_, record)| record.body_len() as u64).sum())
    }
}

fn format_row() -> Vec<u8> {
    [FORMAT.to_le_bytes(), READER.to_le_bytes()].concat()
}

fn random_identity() -> Result<Identity, String> {
    let mut identity = Identity {
        cluster: [0; 16],
        node: [0; 16],
    };
    getrandom::fill(&mut identity.cluster).map_err(|error| error.to_string())?;
    getrandom::fill(&mut identity.node).map_err(|error| error.to_string())?;
    Ok(identity)
}
