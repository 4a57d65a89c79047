//! Reading records back: slices, chunks and spilled rows of a span, merged by seq.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rocksdb::DBPinnableSlice;

use super::Shared;
use super::bodies::parts;
use super::encode::{IndexRow, RowView};
use super::error::LoadError;
use super::families::{Database, WriteOnce};
use super::index::Index;
use super::keys::{BodyKey, RowKey};
use super::options::CHUNK_BYTES;
use super::queue_index::QueueIndex;
use super::row::{KeptBody, Partial, Place, Row, RowBody, Runs};
use crate::message::record::{SharedBody, records};
use crate::message::{Epoch, QueueId, Seq};

/// Records and bodies of one load stop after this many bytes, except for a single larger message.
const LOAD_BYTES_MAX: usize = 1024 * 1024;

/// How often rows may vanish under a reader before something is wrong. Once is normal: a row goes in the moment between
/// the look at the index and that at the disk, or the epoch that removed it is written and not yet announced.
const ATTEMPTS_MAX: u32 = 5000;

/// Attempts without a pause between them.
const ATTEMPTS_QUICK: u32 = 5;

/// A piece of a queue, read back.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// All live records of the span, concatenated, by rising seq. See [`crate::message::record`].
    pub records: Vec<u8>,
    /// The bodies of records that have theirs outside, by rising seq.
    pub bodies: Vec<(Seq, SharedBody)>,
    /// The last seq that the answer covers: there is nothing live in the span asked for, up to here, besides `records`.
    pub covered_upto: Seq,
}

/// The rows to read, as they are on disk now.
struct Plan {
    rows: Vec<(Seq, Row, Option<Partial>)>,
    covered_upto: Seq,
}

/// A record that is wanted, and its body if that is outside.
type Found<'a> = (Seq, &'a [u8], Option<&'a RowBody<&'a [u8]>>);

/// Why reading has to start over or ends.
enum Miss {
    /// A row is gone: settled, rewritten or deleted meanwhile.
    Vanished(String),
    Error(LoadError),
}

impl Shared {
    /// See `Store::load`.
    pub(super) fn load(&self, queue: QueueId, from: Seq, upto: Seq) -> Result<Loaded, LoadError> {
        let mut missing = String::new();
        for attempt in 0..ATTEMPTS_MAX {
            if attempt > ATTEMPTS_QUICK {
                std::thread::sleep(Duration::from_millis(1));
            }
            let database = self.database.read();
            let database = database.as_ref().ok_or(LoadError::Closed)?;
            let plan = plan(&self.index.read(), queue, from, upto)?;
            match self.read(database, queue, from, &plan) {
                Ok(loaded) => return Ok(loaded),
                Err(Miss::Error(error)) => return Err(error),
                Err(Miss::Vanished(row)) => missing = row,
            }
        }
        Err(LoadError::Damaged {
            queue,
            reason: format!("{missing} is listed and cannot be found"),
        })
    }

    /// See `Store::load_extent`.
    pub(super) fn load_extent(&self, queue: QueueId, from: Seq, upto: Seq) -> Option<(Seq, usize)> {
        let plan = plan(&self.index.read(), queue, from, upto).ok()?;
        let bytes: u64 = plan.rows.iter().map(|(_, row, _)| row.live_bytes()).sum();
        Some((
            plan.covered_upto,
            usize::try_from(bytes).unwrap_or(usize::MAX),
        ))
    }

    fn read(
        &self,
        database: &Database,
        queue: QueueId,
        from: Seq,
        plan: &Plan,
    ) -> Result<Loaded, Miss> {
        let mut values = Vec::with_capacity(plan.rows.len());
        for (first, row, _) in &plan.rows {
            values.push(get_row(database, queue, *first, row)?);
        }
        let mut views = Vec::with_capacity(plan.rows.len());
        for ((first, row, _), value) in plan.rows.iter().zip(&values) {
            let view = RowView::decode(value)
                .filter(|view| (view.queue, view.first, view.epoch) == (queue, *first, row.epoch));
            let damaged = || LoadError::Damaged {
                queue,
                reason: format!("row {:?} is malformed", row.key(queue, *first)),
            };
            views.push(view.ok_or_else(|| Miss::Error(damaged()))?);
        }
        if let Some(records) = whole(&views, plan, from) {
            return Ok(Loaded {
                records,
                bodies: Vec::new(),
                covered_upto: plan.covered_upto,
            });
        }
        let mut found: Vec<Found<'_>> = Vec::new();
        for (view, (_, _, partial)) in views.iter().zip(&plan.rows) {
            let mut bodies = view.bodies.iter().peekable();
            for (position, record) in (0..).zip(records(view.records)) {
                let body = bodies
                    .next_if(|(seq, _)| *seq == record.seq())
                    .map(|(_, body)| body);
                let settled = partial
                    .as_ref()
                    .is_some_and(|partial| partial.is_settled(position));
                if !settled && (from..=plan.covered_upto).contains(&record.seq()) {
                    found.push((record.seq(), record.bytes(), body));
                }
            }
        }
        // Rows follow each other, except that spilled ones lie between the others.
        found.sort_by_key(|(seq, ..)| *seq);
        let covered_upto = bound(&mut found, plan.covered_upto);
        let parts: Vec<&[u8]> = found.iter().map(|(_, bytes, _)| *bytes).collect();
        let mut bodies = Vec::new();
        for (seq, _, body) in &found {
            if let Some(body) = body {
                bodies.push((*seq, self.body(database, queue, body)?));
            }
        }
        Ok(Loaded {
            records: parts.concat(),
            bodies,
            covered_upto,
        })
    }

    fn body(
        &self,
        database: &Database,
        queue: QueueId,
        body: &RowBody<&[u8]>,
    ) -> Result<SharedBody, Miss> {
        match body {
            // A copy: the row would otherwise stay in memory for as long as one of its bodies.
            RowBody::Inline(bytes) => Ok(SharedBody {
                id: 0,
                bytes: Bytes::copy_from_slice(bytes),
            }),
            RowBody::Kept(KeptBody { id, len }) => {
                let Some(epoch) = self.index.read().bodies.get(id).map(|body| body.epoch) else {
                    return Err(Miss::Vanished(format!("body {id}")));
                };
                let mut bytes = BytesMut::with_capacity(*len as usize);
                for part in 0..parts(*len) {
                    let key = BodyKey {
                        id: *id,
                        epoch,
                        part,
                    };
                    match database.get(WriteOnce::Bodies, &key) {
                        Ok(Some(value)) => bytes.extend_from_slice(&value),
                        Ok(None) => {
                            return Err(Miss::Vanished(format!("part {part} of body {id}")));
                        }
                        Err(error) => {
                            return Err(Miss::Error(LoadError::Failed(error.into_string())));
                        }
                    }
                }
                if bytes.len() != *len as usize {
                    let reason = format!("body {id} has {} bytes instead of {len}", bytes.len());
                    return Err(Miss::Error(LoadError::Damaged { queue, reason }));
                }
                Ok(SharedBody {
                    id: *id,
                    bytes: bytes.freeze(),
                })
            }
        }
    }
}

/// Ends what was found where it becomes too much at once. Returns the last seq that is covered then.
fn bound(found: &mut Vec<Found<'_>>, covered_upto: Seq) -> Seq {
    let mut bytes = 0;
    for (position, (seq, record, body)) in found.iter().enumerate() {
        bytes += record.len() + body.map_or(0, RowBody::len);
        if position > 0 && bytes > LOAD_BYTES_MAX {
            let covered_upto = seq - 1;
            found.truncate(position);
            return covered_upto;
        }
    }
    covered_upto
}

/// The records of a single row that is wanted as it is, which is what most loads find.
fn whole(views: &[RowView<'_>], plan: &Plan, from: Seq) -> Option<Vec<u8>> {
    let ([view], [(_, _, None)]) = (views, &plan.rows[..]) else {
        return None;
    };
    let is_wanted = from <= view.first && view.last <= plan.covered_upto;
    let is_alone = view.bodies.is_empty() && view.records.len() <= LOAD_BYTES_MAX;
    (is_wanted && is_alone).then(|| view.records.to_vec())
}

fn get_row<'a>(
    database: &'a Database,
    queue: QueueId,
    first: Seq,
    row: &Row,
) -> Result<DBPinnableSlice<'a>, Miss> {
    let family = match row.place {
        Place::Tail => WriteOnce::Tail,
        Place::Chunks => WriteOnce::Chunks,
        Place::Spill => WriteOnce::Spill,
    };
    let key = row.key(queue, first);
    match database.get_pinned(family, &key) {
        Ok(Some(value)) => Ok(value),
        Ok(None) => Err(Miss::Vanished(format!("row {key:?} of {}", family.name()))),
        Err(error) => Err(Miss::Error(LoadError::Failed(error.into_string()))),
    }
}

/// Chooses rows from the one that holds `from` on, about a chunk's worth.
fn plan(index: &Index, id: QueueId, from: Seq, upto: Seq) -> Result<Plan, LoadError> {
    let Some(queue) = index.queues.get(&id) else {
        return Ok(Plan {
            rows: Vec::new(),
            covered_upto: upto,
        });
    };
    let mut rows = Vec::new();
    let mut bytes = 0;
    let mut covered_upto = upto.min(readable_upto(queue, index.written));
    if covered_upto < from {
        return Err(LoadError::NotWritten { queue: id, from });
    }
    for (first, row, partial) in candidates(queue, index.written, from, covered_upto) {
        if first > from && bytes >= CHUNK_BYTES as u64 {
            covered_upto = first - 1;
            break;
        }
        bytes += row.live_bytes();
        rows.push((first, row, partial.cloned()));
    }
    Ok(Plan { rows, covered_upto })
}

/// Rows with something in `from..=upto` that can be read now, by first seq: enough of them for one load.
fn candidates(
    queue: &QueueIndex,
    written: Epoch,
    from: Seq,
    upto: Seq,
) -> Vec<(Seq, Row, Option<&Partial>)> {
    let touches = |first: Seq, row: &Row| row.last >= from && first <= upto;
    let retired = queue
        .retired()
        .iter()
        .filter(|(first, row, _)| touches(*first, row));
    let retired = retired.map(|(first, row, partial)| (*first, *row, partial.as_ref()));
    let rows = some_rows(queue.rows(), from, upto, |row| row.epoch <= written);
    let rows = rows.map(|(first, row)| (first, row, queue.partial(first)));
    let spilled = some_rows(queue.spilled(), from, upto, |_| true);
    let spilled = spilled.map(|(first, row)| (first, row, queue.spilled_partial(first)));
    let mut all: Vec<_> = retired
        .chain(rows)
        .chain(spilled)
        .filter(|(first, row, _)| touches(*first, row))
        .collect();
    all.sort_by_key(|(first, row, _)| (*first, row.epoch));
    all
}

/// The row that holds `from` and those after it, up to one more than a load takes.
fn some_rows(
    rows: &BTreeMap<Seq, Row>,
    from: Seq,
    upto: Seq,
    readable: impl Fn(&Row) -> bool + Copy,
) -> impl Iterator<Item = (Seq, Row)> {
    let before = rows.range(..from).rev().find(move |(_, row)| readable(row));
    let after = rows
        .range(from..=upto.max(from))
        .filter(move |(_, row)| readable(row));
    let mut bytes = 0;
    before
        .into_iter()
        .chain(after)
        .map_while(move |(first, row)| {
            let enough = bytes > CHUNK_BYTES as u64;
            if bytes == u64::MAX {
                return None;
            }
            bytes = if enough {
                u64::MAX
            } else {
                bytes
                    + if row.last >= from {
                        row.live_bytes()
                    } else {
                        0
                    }
            };
            Some((*first, *row))
        })
}

/// The last seq before appended rows that are not written yet. Rows that replace others do not count: those can be
/// read.
fn readable_upto(queue: &QueueIndex, written: Epoch) -> Seq {
    let last_readable = queue.retired().iter().map(|(_, row, _)| row.last).max();
    let mut upto = Seq::MAX;
    for (first, row) in queue.rows().iter().rev() {
        if row.epoch <= written || last_readable.is_some_and(|last| *first <= last) {
            break;
        }
        upto = first - 1;
    }
    upto
}

/// Which seqs a row on disk has: from its index row, or from the row itself.
pub(super) fn stored_runs(database: &Database, key: RowKey, row: &Row) -> Result<Runs, String> {
    if row.is_dense(key.first) {
        return Ok(Runs::dense(key.first, row.count));
    }
    let family = match row.place {
        Place::Tail => WriteOnce::Tail,
        Place::Chunks => WriteOnce::Index,
        Place::Spill => WriteOnce::Spill,
    };
    let value = database
        .get(family, &key)
        .map_err(|error| error.into_string())?;
    let runs = match (value, family) {
        (Some(value), WriteOnce::Index) => IndexRow::decode(key.first, &value).map(|row| row.runs),
        (Some(value), _) => RowView::decode(&value).map(|row| row.runs()),
        (None, _) => None,
    };
    runs.ok_or_else(|| format!("row {key:?} of {} is missing or malformed", family.name()))
}
