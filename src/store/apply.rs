//! Operations become rows: one epoch's batch, and the index that goes with it.
//!
//! The index is changed while the batch is composed, before it is written. That is safe because a batch that cannot be
//! written is tried again until it can, or the process ends; readers see only what is written (see `load`).

use std::collections::{BTreeMap, HashMap};

use super::batch::Batch;
use super::bodies::Prepared;
use super::encode::{EncodedRow, IndexRow};
use super::families::{Database, Mutable, WriteOnce};
use super::fatal;
use super::index::Index;
use super::keys::{RowKey, SettledKey, queue_span, state};
use super::load::stored_runs;
use super::options::CHUNK_BYTES_MIN;
use super::queue_index::{Gone, QueueIndex, Settled};
use super::row::{Content, Place, Row, RowBody, Runs};
use super::settled_row::SettledRow;
use crate::message::op::{Counts, Op, Settle};
use crate::message::ranges::RangeSet;
use crate::message::{Epoch, QueueId, Seq};

/// A deleted queue with more rows than this is removed with range deletes, which cost every later read a little.
pub(super) const SINGLE_DELETES_MAX: usize = 10_000;

/// A settled range of the row that begins with a seq.
type Kept = (Seq, (Seq, Seq));

/// What an epoch says about a queue in `settled`.
#[derive(Default)]
struct Touched {
    kept: Vec<Kept>,
    counts: BTreeMap<Seq, Counts>,
}

/// One epoch in the making.
pub(super) struct Work<'a> {
    pub(super) database: &'a Database,
    pub(super) epoch: Epoch,
    pub(super) batch: Batch,
    /// Rows with gaps that are not in RocksDB yet.
    fresh: HashMap<RowKey, Content>,
    /// What the queues' rows in `settled` have to say.
    touched: BTreeMap<QueueId, Touched>,
    /// Spilled rows that nobody needs any more.
    pub(super) spill_gone: Vec<RowKey>,
    /// Chunks that have become sparse.
    pub(super) sparse: Vec<RowKey>,
    /// Queues that have a reason to be sealed.
    pub(super) full: Vec<QueueId>,
}

impl<'a> Work<'a> {
    pub(super) fn new(database: &'a Database, epoch: Epoch) -> Self {
        Self {
            database,
            epoch,
            batch: Batch::new(database.ids()),
            fresh: HashMap::new(),
            touched: BTreeMap::new(),
            spill_gone: Vec::new(),
            sparse: Vec::new(),
            full: Vec::new(),
        }
    }

    /// Applies the operations of the epoch. Arrivals come first and removals last, so that what is moved from one queue
    /// to another keeps its body.
    pub(super) fn apply(&mut self, index: &mut Index, prepared: Prepared) {
        let Prepared {
            arrivals,
            due,
            changes,
        } = prepared;
        for content in arrivals {
            self.append(index, content);
        }
        self.change_due(index, due);
        for op in changes {
            match op {
                // Sorted out by `bodies::prepare`.
                Op::Append(_) | Op::PutDue(_) | Op::RemoveDue { .. } => {}
                Op::Settle(settle) => self.settle(index, &settle),
                Op::QueueDeleted { queue } => self.delete_queue(index, queue),
                Op::PutState { key, value } => {
                    self.batch.put(Mutable::State, &state::broker(&key), &value)
                }
                Op::DeleteState { key } => self.batch.delete(Mutable::State, &state::broker(&key)),
                Op::DeleteStateSpan { from, to } => self.batch.delete_span(
                    Mutable::State,
                    &state::broker(&from),
                    &state::broker(&to),
                ),
            }
        }
    }

    fn append(&mut self, index: &mut Index, content: Content) {
        let (queue, last) = (content.queue, content.last);
        for (_, body) in &content.bodies {
            if let RowBody::Kept(kept) = body
                && let Some(body) = index.bodies.get_mut(&kept.id)
            {
                body.references += 1;
            }
        }
        if content.len() < CHUNK_BYTES_MIN {
            self.put_row(index, content, Place::Tail);
        } else {
            for piece in content.split() {
                self.put_row(index, piece, Place::Chunks);
            }
        }
        if index
            .queues
            .entry(queue)
            .or_default()
            .settled
            .reserve(last.saturating_add(1))
        {
            self.touched.entry(queue).or_default();
        }
    }

    /// Writes a row and takes it into the index.
    pub(super) fn put_row(&mut self, index: &mut Index, content: Content, place: Place) {
        let encoded = EncodedRow::new(&content, self.epoch);
        let bytes = encoded.len();
        let key = RowKey {
            queue: content.queue,
            first: content.first,
            epoch: self.epoch,
        };
        match place {
            Place::Tail => self.batch.put_once(WriteOnce::Tail, &key, &encoded.parts()),
            Place::Chunks => {
                self.batch
                    .put_once(WriteOnce::Chunks, &key, &encoded.parts());
                let row = IndexRow::of(&content, bytes);
                self.batch
                    .put_once(WriteOnce::Index, &key, &[&row.encode(key.first)]);
            }
            Place::Spill => return,
        }
        let count = content.count;
        let row = Row {
            last: content.last,
            epoch: self.epoch,
            count,
            live: count,
            bytes: bytes as u32,
            place,
        };
        index.count(&row, true);
        let queue = index.queues.entry(content.queue).or_default();
        let kept = content
            .bodies
            .iter()
            .filter_map(|(seq, body)| Some((*seq, body.kept()?)));
        queue.insert(content.first, row, kept);
        if queue.is_full() && !queue.seal_wanted {
            queue.seal_wanted = true;
            self.full.push(content.queue);
        }
        if !content.is_dense() {
            self.fresh.insert(key, content);
        }
    }

    fn settle(&mut self, index: &mut Index, settle: &Settle) {
        let queue_id = settle.queue;
        // Nothing of the queue is on disk: then nothing on disk can settle what it will write.
        let Some(queue) = index.queues.get_mut(&queue_id) else {
            return;
        };
        let mut all = Settled::default();
        for range in &settle.ranges {
            all.add(queue.settle(queue_id, *range, self.epoch, |first, row| {
                runs_of(self.database, &self.fresh, row.key(queue_id, first), row)
            }));
        }
        if queue.is_durable() {
            queue.settled.delivered(settle.delivered_upto);
            let reserved = queue.settled.reserve(settle.next_seq);
            let counted = !settle.counts.is_empty();
            if reserved || counted || !all.kept.is_empty() || queue.delivered_is_news() {
                let touched = self.touched.entry(queue_id).or_default();
                touched.kept.append(&mut all.kept);
                touched.counts.extend(settle.counts.iter().copied());
            }
        }
        index.tail_bytes = index.tail_bytes.saturating_sub(all.tail_bytes);
        index.chunk_live_bytes = index.chunk_live_bytes.saturating_sub(all.chunk_live_bytes);
        index.spill_live_bytes = index.spill_live_bytes.saturating_sub(all.spill_live_bytes);
        for gone in all.gone {
            self.delete_row(queue_id, &gone);
        }
        self.sparse.append(&mut all.sparse);
        self.spill_gone
            .extend(all.spill_gone.iter().map(|gone| gone.key(queue_id)));
        for id in all.bodies {
            self.release_body(index, id);
        }
        if index
            .queues
            .get(&queue_id)
            .is_some_and(|queue| queue.is_forgotten())
        {
            index.queues.remove(&queue_id);
        }
    }

    pub(super) fn delete_row(&mut self, queue: QueueId, gone: &Gone) {
        let key = gone.key(queue);
        match gone.row.place {
            Place::Tail => self.batch.single_delete(WriteOnce::Tail, &key),
            Place::Chunks => {
                self.batch.single_delete(WriteOnce::Chunks, &key);
                self.batch.single_delete(WriteOnce::Index, &key);
            }
            Place::Spill => self.spill_gone.push(key),
        }
    }

    fn delete_queue(&mut self, index: &mut Index, id: QueueId) {
        self.delete_due(index, id);
        let Some(queue) = index.queues.remove(&id) else {
            return;
        };
        self.touched.remove(&id);
        self.spill_gone.extend(
            queue
                .spilled()
                .iter()
                .map(|(first, row)| row.key(id, *first)),
        );
        if queue.rows().len() > SINGLE_DELETES_MAX {
            let (from, to) = queue_span(id);
            for family in [
                WriteOnce::Tail,
                WriteOnce::Chunks,
                WriteOnce::Index,
                WriteOnce::Settled,
            ] {
                self.batch.delete_range(family, &from, &to);
            }
        } else {
            for (first, row) in queue.rows() {
                self.delete_row(
                    id,
                    &Gone {
                        first: *first,
                        row: *row,
                    },
                );
            }
            for epoch in &queue.settled.rows {
                self.batch.single_delete(
                    WriteOnce::Settled,
                    &SettledKey {
                        queue: id,
                        epoch: *epoch,
                    },
                );
            }
        }
        for row in queue.rows().values().chain(queue.spilled().values()) {
            index.count(row, false);
        }
        for body in queue.body_ids() {
            self.release_body(index, body);
        }
    }

    /// Writes the rows of `settled`. Comes after everything that removes or rewrites rows.
    pub(super) fn write_settled(&mut self, index: &mut Index) {
        for (id, touched) in std::mem::take(&mut self.touched) {
            let Some(queue) = index.queues.get_mut(&id) else {
                continue;
            };
            let row = settled_row(self.database, id, queue, touched);
            let marks_only = !row.snapshot && row.ranges.is_empty() && row.counts.is_empty();
            if marks_only && !queue.settled.reserved_is_news() && !queue.delivered_is_news() {
                continue;
            }
            let value = row.encode();
            let key = SettledKey {
                queue: id,
                epoch: self.epoch,
            };
            self.batch.put_once(WriteOnce::Settled, &key, &[&value]);
            for epoch in queue.settled.wrote(self.epoch, &row, value.len() as u64) {
                self.batch
                    .single_delete(WriteOnce::Settled, &SettledKey { queue: id, epoch });
            }
        }
    }
}

/// The row that says what `touched` does or, when the rows on disk have become many, all that still matters.
fn settled_row(
    database: &Database,
    id: QueueId,
    queue: &QueueIndex,
    touched: Touched,
) -> SettledRow {
    let snapshot = queue.settled.wants_snapshot();
    let (ranges, mut counts) = if snapshot {
        let mut counts = stored_counts(database, id, queue);
        counts.extend(touched.counts);
        (queue.snapshot(), counts)
    } else {
        let kept = touched.kept.into_iter();
        let kept = kept.filter(|(first, _)| queue.rows().contains_key(first));
        (join(kept.map(|(_, range)| range)), touched.counts)
    };
    counts.retain(|seq, _| queue.may_be_live(*seq));
    SettledRow {
        snapshot,
        next_seq: queue.settled.reserved(),
        delivered_upto: queue.settled.delivered_upto(),
        ranges,
        counts,
    }
}

/// The delivery counts that the rows on disk have. They are not kept in memory: that would grow with the messages that
/// came back, while the rows are read no more often than they are written.
fn stored_counts(database: &Database, id: QueueId, queue: &QueueIndex) -> BTreeMap<Seq, Counts> {
    let mut counts = BTreeMap::new();
    for epoch in queue.settled.counted() {
        let key = SettledKey {
            queue: id,
            epoch: *epoch,
        };
        let row = match database.get(WriteOnce::Settled, &key) {
            Ok(value) => value.and_then(|value| SettledRow::decode(&value)),
            Err(error) => fatal(&format!("settled row {key:?} cannot be read: {error}")),
        };
        let Some(row) = row else {
            fatal(&format!("settled row {key:?} is missing or malformed"));
        };
        counts.extend(row.counts);
    }
    counts
}

/// Which seqs a row has.
fn runs_of(database: &Database, fresh: &HashMap<RowKey, Content>, key: RowKey, row: &Row) -> Runs {
    match fresh.get(&key) {
        Some(content) => content.runs(),
        None => stored_runs(database, key, row).unwrap_or_else(|reason| fatal(&reason)),
    }
}

/// Puts ranges in order and joins those that touch.
fn join(ranges: impl Iterator<Item = (Seq, Seq)>) -> Vec<(Seq, Seq)> {
    let mut set = RangeSet::new();
    for (first, last) in ranges {
        set.insert_range(first, last);
    }
    set.take()
}
