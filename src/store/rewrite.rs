//! Rows that are written for the second time: slices sealed into chunks, sparse chunks, old chunks that keep the disk.
//!
//! A rewrite is part of an epoch like everything else: the new chunk is put and the old rows are deleted in one batch.
//! What is settled is left out. New keys end with the epoch, so that no key is put twice.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::RwLock;

use super::apply::Work;
use super::encode::RowView;
use super::families::WriteOnce;
use super::fatal;
use super::index::Index;
use super::keys::RowKey;
use super::options::CHUNK_BYTES;
use super::queue_index::{Gone, QueueIndex};
use super::row::{Gather, Partial, Place, Row};
use crate::message::{Epoch, QueueId, Seq};

/// A chunk that was consumed down to its last quarter is usually gone a moment later. Only what stays is rewritten.
const SPARSE_AGE_MIN: Duration = Duration::from_secs(1);

/// A row next to a rewritten one joins it if it is at most this many times as large: then every record is rewritten a
/// few times at most, however small the pieces are that arrive.
const ABSORBED_FACTOR: u64 = 2;

/// Bytes rewritten in one epoch beyond what the epoch itself brings, so that commits stay short.
const REWRITTEN_BYTES_PER_EPOCH: usize = 1024 * 1024;

/// Rows that are to be rewritten.
#[derive(Default)]
pub(super) struct Rewrites {
    full: VecDeque<QueueId>,
    sparse: VecDeque<(Instant, RowKey)>,
    old: VecDeque<RowKey>,
}

/// Neighbouring rows that become one.
type Run = Vec<(Seq, Row, Option<Partial>)>;

impl Rewrites {
    /// Something can be rewritten now.
    pub(super) fn has_work(&self) -> bool {
        !self.full.is_empty()
            || !self.old.is_empty()
            || self
                .sparse
                .front()
                .is_some_and(|(since, _)| since.elapsed() >= SPARSE_AGE_MIN)
    }

    /// Something can be rewritten now or in a while.
    pub(super) fn is_empty(&self) -> bool {
        self.full.is_empty() && self.old.is_empty() && self.sparse.is_empty()
    }

    /// A chunk has become sparse.
    pub(super) fn add_sparse(&mut self, key: RowKey) {
        self.sparse.push_back((Instant::now(), key));
    }

    /// A queue's slices are worth a chunk.
    pub(super) fn add_full(&mut self, queue: QueueId) {
        self.full.push_back(queue);
    }

    /// Chunks are to be rewritten only for the blob files that they keep.
    pub(super) fn add_old(&mut self, keys: Vec<RowKey>) {
        self.old.extend(keys);
    }

    pub(super) fn has_old(&self) -> bool {
        !self.old.is_empty()
    }

    /// Rewrites what is due, within the budget of one epoch. Returns the bytes that were read for it.
    pub(super) fn run(
        &mut self,
        work: &mut Work<'_>,
        index: &RwLock<Index>,
        tail_bytes_max: u64,
    ) -> usize {
        self.limit_tail(index, tail_bytes_max);
        let budget = REWRITTEN_BYTES_PER_EPOCH.max(2 * work.batch.len());
        let mut done = 0;
        while done < budget
            && let Some(queue) = self.full.pop_front()
        {
            done += seal(work, index, queue);
        }
        while done < budget
            && let Some((since, key)) = self.sparse.front().copied()
            && since.elapsed() >= SPARSE_AGE_MIN
        {
            self.sparse.pop_front();
            done += rewrite_chunk(work, index, key, Row::is_sparse);
        }
        while done < budget
            && let Some(key) = self.old.pop_front()
        {
            done += rewrite_chunk(work, index, key, |_| true);
        }
        // Only in the next epoch: the rows that made a queue full cannot be read before they are written.
        self.full.extend(work.full.drain(..));
        self.sparse
            .extend(work.sparse.drain(..).map(|key| (Instant::now(), key)));
        done
    }

    /// Seals the queues with the most slices when those of all queues become too much for a quick start.
    fn limit_tail(&mut self, index: &RwLock<Index>, tail_bytes_max: u64) {
        if index.read().tail_bytes < tail_bytes_max || !self.full.is_empty() {
            return;
        }
        let mut index = index.write();
        let mut largest: Vec<(u64, QueueId)> = index
            .queues
            .iter()
            .map(|(id, queue)| (queue.tail_bytes(), *id))
            .collect();
        largest.sort_unstable_by(|one, other| other.cmp(one));
        let mut enough = index.tail_bytes / 4;
        for (bytes, id) in largest {
            if enough == 0 || bytes == 0 {
                break;
            }
            enough = enough.saturating_sub(bytes);
            if let Some(queue) = index.queues.get_mut(&id).filter(|queue| !queue.seal_wanted) {
                queue.seal_wanted = true;
                self.full.push_back(id);
            }
        }
    }
}

/// Turns all written slices of a queue into chunks.
fn seal(work: &mut Work<'_>, index: &RwLock<Index>, id: QueueId) -> usize {
    let runs = {
        let mut index = index.write();
        let written = index.written;
        let Some(queue) = index.queues.get_mut(&id) else {
            return 0;
        };
        queue.seal_wanted = false;
        slices(queue, written)
    };
    runs.into_iter()
        .map(|run| rewrite(work, index, id, run))
        .sum()
}

/// The runs of slices that no chunk interrupts, from the newest on, each with small chunks before it.
fn slices(queue: &QueueIndex, written: Epoch) -> Vec<Run> {
    let mut left = queue.tail_rows();
    let mut runs: Vec<Run> = Vec::new();
    let mut open: Run = Vec::new();
    for (first, row) in queue.rows().iter().rev() {
        if left == 0 {
            break;
        }
        left -= usize::from(row.place == Place::Tail);
        if row.place == Place::Tail && row.epoch <= written {
            open.push((*first, *row, queue.partial(*first).cloned()));
        } else if !open.is_empty() {
            runs.push(std::mem::take(&mut open));
        }
    }
    runs.extend((!open.is_empty()).then_some(open));
    for run in &mut runs {
        run.reverse();
        absorb(queue, written, run, true);
    }
    runs
}

/// Lets small chunks beside a run join it.
fn absorb(queue: &QueueIndex, written: Epoch, run: &mut Run, left: bool) {
    let mut bytes: u64 = run.iter().map(|(_, row, _)| row.live_bytes()).sum();
    loop {
        let Some((end, end_row)) =
            (if left { run.first() } else { run.last() }).map(|(first, row, _)| (*first, *row))
        else {
            return;
        };
        let neighbour = if left {
            queue.rows().range(..end).next_back()
        } else {
            queue.rows().range(end_row.last.saturating_add(1)..).next()
        };
        let Some((first, row)) = neighbour else {
            return;
        };
        let joins = row.place == Place::Chunks
            && row.epoch <= written
            && row.live_bytes() <= ABSORBED_FACTOR * bytes
            && row.live_bytes() + bytes <= CHUNK_BYTES as u64;
        if !joins {
            return;
        }
        bytes += row.live_bytes();
        let member = (*first, *row, queue.partial(*first).cloned());
        if left {
            run.insert(0, member)
        } else {
            run.push(member)
        }
    }
}

/// Rewrites one chunk, with its small neighbours, if it is still there and `wanted`.
fn rewrite_chunk(
    work: &mut Work<'_>,
    index: &RwLock<Index>,
    key: RowKey,
    wanted: impl Fn(&Row) -> bool,
) -> usize {
    let run = {
        let index = index.read();
        let Some(queue) = index.queues.get(&key.queue) else {
            return 0;
        };
        let row = queue
            .rows()
            .get(&key.first)
            .filter(|row| row.epoch == key.epoch && row.epoch <= index.written && wanted(row));
        let Some(row) = row else { return 0 };
        let mut run = vec![(key.first, *row, queue.partial(key.first).cloned())];
        absorb(queue, index.written, &mut run, true);
        absorb(queue, index.written, &mut run, false);
        run
    };
    rewrite(work, index, key.queue, run)
}

/// Reads a run back, puts what is live into chunks and deletes the run. Returns the bytes read.
fn rewrite(work: &mut Work<'_>, index: &RwLock<Index>, id: QueueId, run: Run) -> usize {
    let mut gather = Gather::default();
    let mut read = 0;
    for (first, row, partial) in &run {
        let value = read_row(work, id, *first, row);
        read += value.len();
        let Some(view) = RowView::decode(&value) else {
            fatal(&format!("row {:?} is damaged", row.key(id, *first)));
        };
        let mut bodies = view.bodies.into_iter().peekable();
        for (position, record) in (0..).zip(crate::message::record::records(view.records)) {
            let body = bodies
                .next_if(|(seq, _)| *seq == record.seq())
                .map(|(_, body)| body.shared(&value));
            if !partial
                .as_ref()
                .is_some_and(|partial| partial.is_settled(position))
            {
                gather.add(&record, body);
            }
        }
    }
    let mut index = index.write();
    for (first, row, _) in &run {
        index.count(row, false);
        work.delete_row(
            id,
            &Gone {
                first: *first,
                row: *row,
            },
        );
        if let Some(queue) = index.queues.get_mut(&id) {
            queue.retire(*first);
        }
    }
    index.in_flight.push(id);
    for piece in gather
        .finish(id)
        .map(|content| content.split())
        .unwrap_or_default()
    {
        work.put_row(&mut index, piece, Place::Chunks);
    }
    read
}

fn read_row(work: &Work<'_>, queue: QueueId, first: Seq, row: &Row) -> Bytes {
    let family = if row.place == Place::Chunks {
        WriteOnce::Chunks
    } else {
        WriteOnce::Tail
    };
    let key = row.key(queue, first);
    match work.database.get(family, &key) {
        Ok(Some(value)) => Bytes::from(value),
        Ok(None) => fatal(&format!("row {key:?} of {} is missing", family.name())),
        Err(error) => fatal(&format!(
            "row {key:?} of {} cannot be read: {error}",
            family.name()
        )),
    }
}
