//! From rows to the index: chunks, slices, and what is settled of them.

use super::super::batch::Batch;
use super::super::bodies::{BODIES_QUEUE, delete_body};
use super::super::encode::{IndexRow, RowView};
use super::super::error::OpenError;
use super::super::families::WriteOnce;
use super::super::index::Body;
use super::super::keys::{RowKey, SettledKey};
use super::super::load::stored_runs;
use super::super::queue_index::Gone;
use super::super::row::{KeptBody, Place, Row, Runs};
use super::super::settled_row::SettledRow;
use super::{ExpiringRow, Recovery};
use crate::message::record::records;
use crate::message::{Epoch, QueueId, Seq};

impl Recovery<'_> {
    pub(super) fn read_index(&mut self) -> Result<(), OpenError> {
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
    pub(super) fn has_chunk(&self, key: &RowKey) -> Result<bool, OpenError> {
        match self.database.get(WriteOnce::Chunks, key) {
            Ok(value) => Ok(value.as_deref().and_then(RowView::decode).is_some()),
            Err(error) if error.kind() == rocksdb::ErrorKind::Corruption => Ok(false),
            Err(error) => Err(self.failed(error)),
        }
    }

    pub(super) fn read_tail(&mut self) -> Result<(), OpenError> {
        for row in self.database.scan(WriteOnce::Tail) {
            let (key, value) = row.map_err(|error| self.failed(error))?;
            let malformed = || self.damaged(format!("slice {} is malformed", key.escape_ascii()));
            let key = RowKey::decode(&key).ok_or_else(malformed)?;
            let bytes = value.len() as u32;
            let view = RowView::decode(&value).ok_or_else(malformed)?;
            let body_bytes = records(view.records)
                .map(|record| record.body_len() as u64)
                .sum();
            let expiries = records(view.records)
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
    pub(super) fn expires(&mut self, key: RowKey, last: Seq, earliest_ms: u64) {
        if earliest_ms != 0 {
            let rows = self.expiring.entry(key.queue).or_default();
            rows.push(ExpiringRow {
                first: key.first,
                last,
                earliest_ms,
            });
        }
    }

    pub(super) fn add(
        &mut self,
        key: RowKey,
        row: Row,
        body_bytes: u64,
        kept: Vec<(Seq, KeptBody)>,
    ) {
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

    pub(super) fn read_settled(&mut self) -> Result<(), OpenError> {
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

    pub(super) fn settle(
        &mut self,
        id: QueueId,
        range: (Seq, Seq),
        epoch: Epoch,
    ) -> Result<(), OpenError> {
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
    pub(super) fn remove_row(&mut self, id: QueueId, gone: &Gone) {
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
    pub(super) fn check_bodies(&mut self) {
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

    pub(super) fn remove_garbage(&mut self) -> Result<(), OpenError> {
        if self.garbage.is_empty() {
            return Ok(());
        }
        let garbage = std::mem::replace(&mut self.garbage, Batch::new(self.database.ids()));
        self.write(&garbage)
    }
}
