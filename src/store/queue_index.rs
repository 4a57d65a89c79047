//! What the store remembers of one queue: its rows by first seq, and what is settled in rows that are settled in part.
//!
//! Small by design: about 90 bytes per row of up to 256 KiB, a bit per record for the few rows that are settled in
//! part.

use std::collections::BTreeMap;

use super::keys::RowKey;
use super::options::{CHUNK_BYTES, SLICES_MAX};
use super::row::{KeptBody, Partial, Place, Row, Runs};
use super::settled_row::SettledRow;
use crate::message::{Epoch, QueueId, Seq};

/// Seqs are reserved ahead in steps of this many, so that traffic which is consumed before it is written needs no row.
const RESERVED_SEQS: Seq = 1 << 20;

/// Deltas below this size are not worth a snapshot.
const DELTA_BYTES_MIN: u64 = 2048;

/// The rows of one queue.
#[derive(Debug, Default)]
pub(super) struct QueueIndex {
    rows: BTreeMap<Seq, Row>,
    partials: BTreeMap<Seq, Partial>,
    /// Ids of the kept bodies of records that are not settled.
    bodies: BTreeMap<Seq, u64>,
    /// Rows whose removal is not written yet: what can still be read.
    retired: Vec<(Seq, Row, Option<Partial>)>,
    spilled: BTreeMap<Seq, Row>,
    spilled_partials: BTreeMap<Seq, Partial>,
    tail_rows: u32,
    tail_bytes: u64,
    pub(super) settled: SettledState,
    /// The queue waits to be sealed.
    pub(super) seal_wanted: bool,
}

/// The rows of family `settled` of one queue, and what they say.
#[derive(Debug, Default)]
pub(super) struct SettledState {
    /// Epochs of the rows on disk.
    pub(super) rows: Vec<Epoch>,
    /// Those of them that have delivery counts.
    counted: Vec<Epoch>,
    snapshot_bytes: u64,
    delta_bytes: u64,
    /// No seq below is given out after a restart.
    reserved: Seq,
    reserved_written: Seq,
    delivered_upto: Seq,
    delivered_upto_written: Seq,
}

/// A row that is gone because everything in it is settled or it was rewritten.
pub(super) struct Gone {
    pub(super) first: Seq,
    pub(super) row: Row,
}

impl Gone {
    pub(super) fn key(&self, queue: QueueId) -> RowKey {
        self.row.key(queue, self.first)
    }
}

/// What settling a range did.
#[derive(Default)]
pub(super) struct Settled {
    /// Rows that are settled altogether and were taken out.
    pub(super) gone: Vec<Gone>,
    /// What has to be remembered of rows that stay: (first seq of the row, range).
    pub(super) kept: Vec<(Seq, (Seq, Seq))>,
    /// Spilled rows that are settled altogether.
    pub(super) spill_gone: Vec<Gone>,
    /// Bodies that records no longer refer to, one entry per record.
    pub(super) bodies: Vec<u64>,
    /// Chunks that have become sparse.
    pub(super) sparse: Vec<RowKey>,
    /// Bytes that left family `tail`.
    pub(super) tail_bytes: u64,
    /// Bytes in chunks that are no longer wanted.
    pub(super) chunk_live_bytes: u64,
    /// Bytes in spilled rows that are no longer wanted.
    pub(super) spill_live_bytes: u64,
}

impl Settled {
    pub(super) fn add(&mut self, other: Self) {
        self.gone.extend(other.gone);
        self.kept.extend(other.kept);
        self.spill_gone.extend(other.spill_gone);
        self.bodies.extend(other.bodies);
        self.sparse.extend(other.sparse);
        self.tail_bytes += other.tail_bytes;
        self.chunk_live_bytes += other.chunk_live_bytes;
        self.spill_live_bytes += other.spill_live_bytes;
    }
}

impl QueueIndex {
    pub(super) fn rows(&self) -> &BTreeMap<Seq, Row> {
        &self.rows
    }

    pub(super) fn partial(&self, first: Seq) -> Option<&Partial> {
        self.partials.get(&first)
    }

    pub(super) fn partials(&self) -> &BTreeMap<Seq, Partial> {
        &self.partials
    }

    /// The highest seq in a durable row.
    pub(super) fn last_seq(&self) -> Option<Seq> {
        self.rows.last_key_value().map(|(_, row)| row.last)
    }

    pub(super) fn retired(&self) -> &[(Seq, Row, Option<Partial>)] {
        &self.retired
    }

    pub(super) fn spilled(&self) -> &BTreeMap<Seq, Row> {
        &self.spilled
    }

    pub(super) fn spilled_partial(&self, first: Seq) -> Option<&Partial> {
        self.spilled_partials.get(&first)
    }

    pub(super) fn tail_rows(&self) -> usize {
        self.tail_rows as usize
    }

    pub(super) fn tail_bytes(&self) -> u64 {
        self.tail_bytes
    }

    /// Number of records that are not settled, in durable rows.
    pub(super) fn live_count(&self) -> u64 {
        self.rows.values().map(|row| u64::from(row.live)).sum()
    }

    /// The first seq that is not settled, in durable rows.
    pub(super) fn first_live(&self) -> Option<Seq> {
        let (first, _) = self.rows.first_key_value()?;
        Some(
            self.partials
                .get(first)
                .and_then(Partial::first_live)
                .unwrap_or(*first),
        )
    }

    /// Whether a record with this seq may be in a durable row and is not settled. Exact for rows that are settled in
    /// part; in the gaps of others a seq passes for live until its row goes.
    pub(super) fn may_be_live(&self, seq: Seq) -> bool {
        self.rows
            .range(..=seq)
            .next_back()
            .filter(|(_, row)| row.last >= seq)
            .is_some_and(|(first, _)| {
                self.partials
                    .get(first)
                    .is_none_or(|partial| partial.is_live(seq))
            })
    }

    /// Nothing of the queue is on disk.
    pub(super) fn is_forgotten(&self) -> bool {
        self.rows.is_empty()
            && self.retired.is_empty()
            && self.spilled.is_empty()
            && self.settled.rows.is_empty()
    }

    /// Ids of all bodies that the queue's records refer to, one entry per record.
    pub(super) fn body_ids(&self) -> impl Iterator<Item = u64> {
        self.bodies.values().copied()
    }

    /// Adds a row, of which nothing is settled.
    pub(super) fn insert(
        &mut self,
        first: Seq,
        row: Row,
        kept: impl Iterator<Item = (Seq, KeptBody)>,
    ) {
        debug_assert!(
            self.rows
                .range(..=row.last)
                .next_back()
                .is_none_or(|(_, before)| before.last < first),
            "rows of a queue do not overlap"
        );
        if row.place == Place::Tail {
            self.tail_rows += 1;
            self.tail_bytes += u64::from(row.bytes);
        }
        self.bodies.extend(kept.map(|(seq, body)| (seq, body.id)));
        self.rows.insert(first, row);
    }

    /// Takes a row out that was rewritten, but remembers it until [`Self::written`]: until then its records can only be
    /// read there.
    pub(super) fn retire(&mut self, first: Seq) -> Option<Row> {
        let partial = self.partials.get(&first).cloned();
        let row = self.remove(first)?;
        self.retired.push((first, row, partial));
        Some(row)
    }

    fn remove(&mut self, first: Seq) -> Option<Row> {
        let row = self.rows.remove(&first)?;
        self.partials.remove(&first);
        if row.place == Place::Tail {
            self.tail_rows -= 1;
            self.tail_bytes -= u64::from(row.bytes);
        }
        Some(row)
    }

    /// The epoch that removed the retired rows is written.
    pub(super) fn written(&mut self) {
        self.retired = Vec::new();
        self.free_emptied();
    }

    /// A map keeps its last node when it is emptied: half a KiB each in an idle queue.
    fn free_emptied(&mut self) {
        if self.rows.is_empty() {
            self.rows = BTreeMap::new();
            self.partials = BTreeMap::new();
            self.bodies = BTreeMap::new();
        }
        if self.spilled.is_empty() {
            self.spilled = BTreeMap::new();
            self.spilled_partials = BTreeMap::new();
        }
    }

    /// Adds so many rows that are not on disk, behind the others.
    #[cfg(test)]
    pub(super) fn pretend_rows(&mut self, count: u64) {
        let start = self.last_seq().unwrap_or(0) + 1;
        for first in start..start + count {
            let row = Row {
                last: first,
                epoch: 0,
                count: 1,
                live: 1,
                bytes: 0,
                place: Place::Chunks,
            };
            self.rows.insert(first, row);
        }
    }

    /// Settles `from..=to`, as said by `epoch`: rows that were written later have left out what it settled. `runs_of`
    /// tells which seqs a row with gaps has.
    pub(super) fn settle(
        &mut self,
        queue: QueueId,
        (from, to): (Seq, Seq),
        epoch: Epoch,
        mut runs_of: impl FnMut(Seq, &Row) -> Runs,
    ) -> Settled {
        let mut settled = Settled::default();
        for first in overlapping(&self.rows, from, to) {
            let Some(row) = self.rows.get_mut(&first).filter(|row| row.epoch <= epoch) else {
                continue;
            };
            let before = *row;
            if settle_row(&mut self.partials, first, row, (from, to), &mut runs_of) == 0 {
                continue;
            }
            let after = *row;
            if after.place == Place::Chunks {
                settled.chunk_live_bytes += before.live_bytes() - after.live_bytes();
            }
            if after.live > 0 {
                settled
                    .kept
                    .push((first, (from.max(first), to.min(after.last))));
                if after.is_sparse() && !before.is_sparse() {
                    settled.sparse.push(after.key(queue, first));
                }
            } else {
                if after.place == Place::Tail {
                    settled.tail_bytes += u64::from(after.bytes);
                }
                self.remove(first);
                settled.gone.push(Gone { first, row: after });
            }
        }
        self.settle_spilled(from, to, &mut settled, runs_of);
        let bodies: Vec<Seq> = self.bodies.range(from..=to).map(|(seq, _)| *seq).collect();
        settled
            .bodies
            .extend(bodies.iter().filter_map(|seq| self.bodies.remove(seq)));
        self.free_emptied();
        settled
    }

    fn settle_spilled(
        &mut self,
        from: Seq,
        to: Seq,
        settled: &mut Settled,
        mut runs_of: impl FnMut(Seq, &Row) -> Runs,
    ) {
        for first in overlapping(&self.spilled, from, to) {
            let Some(row) = self.spilled.get_mut(&first) else {
                continue;
            };
            let before = row.live_bytes();
            settle_row(
                &mut self.spilled_partials,
                first,
                row,
                (from, to),
                &mut runs_of,
            );
            settled.spill_live_bytes += before - row.live_bytes();
            if row.live == 0 {
                settled.spill_gone.push(Gone { first, row: *row });
                self.spilled.remove(&first);
                self.spilled_partials.remove(&first);
            }
        }
    }

    /// Adds a row of transient records, with what is settled of it.
    pub(super) fn insert_spilled(&mut self, first: Seq, row: Row, partial: Option<Partial>) {
        self.spilled.insert(first, row);
        if let Some(partial) = partial {
            self.spilled_partials.insert(first, partial);
        }
    }

    /// Takes a row of transient records out that is written anew elsewhere. `None`: it is another one, or gone.
    pub(super) fn remove_spilled(&mut self, key: &RowKey) -> Option<(Row, Option<Partial>)> {
        let row = *self.spilled.get(&key.first)?;
        if row.epoch != key.epoch {
            return None;
        }
        self.spilled.remove(&key.first);
        Some((row, self.spilled_partials.remove(&key.first)))
    }

    /// The settled parts of all rows that are there.
    pub(super) fn snapshot(&self) -> Vec<(Seq, Seq)> {
        self.partials.values().flat_map(Partial::ranges).collect()
    }

    /// Something of the queue is on disk and would come back after a crash.
    pub(super) fn is_durable(&self) -> bool {
        !self.rows.is_empty() || !self.settled.rows.is_empty()
    }

    /// The queue's slices are worth a chunk.
    pub(super) fn is_full(&self) -> bool {
        self.tail_rows() >= SLICES_MAX || self.tail_bytes >= CHUNK_BYTES as u64
    }

    /// Whether a row that can come back after a crash was delivered without that being written.
    pub(super) fn delivered_is_news(&self) -> bool {
        let settled = &self.settled;
        settled.delivered_upto > settled.delivered_upto_written
            && self
                .rows
                .range(..settled.delivered_upto)
                .next_back()
                .is_some_and(|(_, row)| row.last >= settled.delivered_upto_written)
    }
}

impl SettledState {
    /// Remembers how far the queue has delivered.
    pub(super) fn delivered(&mut self, upto: Seq) {
        self.delivered_upto = self.delivered_upto.max(upto);
    }

    pub(super) fn delivered_upto(&self) -> Seq {
        self.delivered_upto
    }

    pub(super) fn reserved(&self) -> Seq {
        self.reserved
    }

    /// Seqs are reserved of which the disk does not know.
    pub(super) fn reserved_is_news(&self) -> bool {
        self.reserved > self.reserved_written
    }

    /// Reserves seqs up to `next_seq` and a good way beyond. True if that has to be written.
    pub(super) fn reserve(&mut self, next_seq: Seq) -> bool {
        if next_seq <= self.reserved {
            return false;
        }
        self.reserved = (next_seq / RESERVED_SEQS + 1).saturating_mul(RESERVED_SEQS);
        true
    }

    /// Takes over what a row of `bytes` bytes on disk says, at recovery; not its ranges and counts.
    pub(super) fn recover(&mut self, epoch: Epoch, row: &SettledRow, bytes: u64) {
        self.rows.push(epoch);
        self.counted
            .extend((!row.counts.is_empty()).then_some(epoch));
        self.reserved = self.reserved.max(row.next_seq);
        self.reserved_written = self.reserved;
        self.delivered(row.delivered_upto);
        self.delivered_upto_written = self.delivered_upto;
        if row.snapshot {
            self.snapshot_bytes = bytes;
        } else {
            self.delta_bytes += bytes;
        }
    }

    /// Whether the next row should say everything anew instead of adding to the others.
    pub(super) fn wants_snapshot(&self) -> bool {
        self.delta_bytes > DELTA_BYTES_MIN.max(2 * self.snapshot_bytes)
    }

    /// Epochs of the rows on disk that have delivery counts, rising.
    pub(super) fn counted(&self) -> &[Epoch] {
        &self.counted
    }

    /// `row` was written in `epoch` with `bytes` bytes; returns the epochs of the rows that it replaces.
    pub(super) fn wrote(&mut self, epoch: Epoch, row: &SettledRow, bytes: u64) -> Vec<Epoch> {
        self.delivered_upto_written = self.delivered_upto;
        self.reserved_written = self.reserved;
        if row.snapshot {
            self.counted.clear();
        }
        self.counted
            .extend((!row.counts.is_empty()).then_some(epoch));
        if !row.snapshot {
            self.rows.push(epoch);
            self.delta_bytes += bytes;
            return Vec::new();
        }
        self.snapshot_bytes = bytes;
        self.delta_bytes = 0;
        std::mem::replace(&mut self.rows, vec![epoch])
    }
}

/// First seqs of the rows that touch `from..=to`.
fn overlapping(rows: &BTreeMap<Seq, Row>, from: Seq, to: Seq) -> Vec<Seq> {
    let before = rows
        .range(..from)
        .next_back()
        .filter(|(_, row)| row.last >= from)
        .map(|(first, _)| *first);
    before
        .into_iter()
        .chain(rows.range(from..=to).map(|(first, _)| *first))
        .collect()
}

/// Settles a range of a row and lowers its live count; returns by how much.
fn settle_row(
    partials: &mut BTreeMap<Seq, Partial>,
    first: Seq,
    row: &mut Row,
    (from, to): (Seq, Seq),
    runs_of: &mut impl FnMut(Seq, &Row) -> Runs,
) -> u32 {
    let settled = if from <= first && to >= row.last {
        row.live
    } else {
        partials
            .entry(first)
            .or_insert_with(|| Partial::new(runs_of(first, row)))
            .settle(from, to)
    };
    row.live = row.live.saturating_sub(settled);
    settled
}
