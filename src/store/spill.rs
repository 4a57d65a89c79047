//! Transient records that memory has no room for.
//!
//! They are written without the write-ahead log into a family that is dropped at every start: a restart loses them, as
//! it loses transient messages anyway.

use rocksdb::{WriteBatch, WriteOptions};

use super::batch::Batch;
use super::encode::EncodedRow;
use super::error::SpillError;
use super::families::{Database, WriteOnce};
use super::keys::RowKey;
use super::row::{Content, Place, Row, RowBody};
use super::{Shared, space};
use crate::message::op::Slice;

impl Shared {
    /// See `Store::spill`.
    pub(super) fn spill(&self, slice: Slice) -> Result<(), SpillError> {
        let Slice {
            queue,
            first,
            last,
            count,
            records,
            bodies,
        } = slice;
        if count == 0 {
            return Ok(());
        }
        let bodies = bodies
            .into_iter()
            .map(|(seq, body)| (seq, RowBody::Inline(body.bytes)))
            .collect();
        let database = self.database.read();
        let database = database.as_ref().ok_or(SpillError::Closed)?;
        for piece in (Content {
            queue,
            first,
            last,
            count,
            records,
            bodies,
        })
        .split()
        {
            let key = RowKey {
                queue,
                first: piece.first,
                epoch: self.ids.next_spill(),
            };
            let encoded = EncodedRow::new(&piece, key.epoch);
            let mut batch = Batch::new(database.ids());
            batch.put_once(WriteOnce::Spill, &key, &encoded.parts());
            write_unlogged(database, batch.to_write()).map_err(
                |error| match space::is_no_space(&error) {
                    true => SpillError::NoSpace(error.into_string()),
                    false => SpillError::Failed(error.into_string()),
                },
            )?;
            let row = Row {
                last: piece.last,
                epoch: key.epoch,
                count: piece.count,
                live: piece.count,
                bytes: encoded.len() as u32,
                place: Place::Spill,
            };
            self.index
                .write()
                .queues
                .entry(queue)
                .or_default()
                .insert_spilled(piece.first, row);
        }
        Ok(())
    }

    /// Removes spilled rows. Failing to only costs space until the next start.
    pub(super) fn forget_spilled(&self, keys: &[RowKey]) {
        let database = self.database.read();
        let Some(database) = database.as_ref().filter(|_| !keys.is_empty()) else {
            return;
        };
        let mut batch = Batch::new(database.ids());
        keys.iter()
            .for_each(|key| batch.single_delete(WriteOnce::Spill, key));
        if let Err(error) = write_unlogged(database, batch.to_write()) {
            tracing::warn!(%error, "cannot remove spilled records");
        }
    }
}

fn write_unlogged(database: &Database, batch: WriteBatch) -> Result<(), rocksdb::Error> {
    let mut options = WriteOptions::default();
    options.disable_wal(true);
    database.db().write_opt(batch, &options)
}
