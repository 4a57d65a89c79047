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
            let (key, row) = put(database, self.ids.next_spill(), &piece).map_err(|error| {
                match space::is_no_space(&error) {
                    true => SpillError::NoSpace(error.into_string()),
                    false => SpillError::Failed(error.into_string()),
                }
            })?;
            let mut index = self.index.write();
            index.count(&row, true);
            let queue = index.queues.entry(queue).or_default();
            queue.insert_spilled(key.first, row, None);
        }
        self.upkeep.poke();
        Ok(())
    }

    /// Removes spilled rows. Failing to only costs space until the next start.
    pub(super) fn forget_spilled(&self, keys: &[RowKey]) {
        let database = self.database.read();
        let Some(database) = database.as_ref().filter(|_| !keys.is_empty()) else {
            return;
        };
        self.upkeep.poke();
        if let Err(error) = forget(database, keys) {
            tracing::warn!(%error, "cannot remove spilled records");
        }
    }
}

/// Writes a row under this number.
pub(super) fn put(
    database: &Database,
    number: u64,
    content: &Content,
) -> Result<(RowKey, Row), rocksdb::Error> {
    let key = RowKey {
        queue: content.queue,
        first: content.first,
        epoch: number,
    };
    let encoded = EncodedRow::new(content, key.epoch);
    let mut batch = Batch::new(database.ids());
    batch.put_once(WriteOnce::Spill, &key, &encoded.parts());
    write_unlogged(database, batch.to_write())?;
    let row = Row {
        last: content.last,
        epoch: key.epoch,
        count: content.count,
        live: content.count,
        bytes: encoded.len() as u32,
        place: Place::Spill,
    };
    Ok((key, row))
}

/// Deletes rows.
pub(super) fn forget(database: &Database, keys: &[RowKey]) -> Result<(), rocksdb::Error> {
    let mut batch = Batch::new(database.ids());
    keys.iter()
        .for_each(|key| batch.single_delete(WriteOnce::Spill, key));
    write_unlogged(database, batch.to_write())
}

fn write_unlogged(database: &Database, batch: WriteBatch) -> Result<(), rocksdb::Error> {
    let mut options = WriteOptions::default();
    options.disable_wal(true);
    database.db().write_opt(batch, &options)
}
