//! What one epoch writes, as RocksDB's own serialized write batch.
//!
//! The `rocksdb` crate offers no SingleDelete, and its batch is consumed by a write, while a batch that met a full disk
//! has to be written again. So the batch is composed here, in the form that is also the payload of RocksDB's
//! write-ahead log (`db/write_batch.cc`): u64 sequence, u32 count, then the operations.
//!
//! The two kinds of family are two types here. A second Put of a key that is removed with SingleDelete would bring the
//! first one back, so [`WriteOnce`] rows are put under keys that end with the epoch, once, and only ever
//! single-deleted.

use rocksdb::WriteBatch;

use super::families::{FamilyIds, Mutable, WriteOnce};
use super::keys::OnceKey;

/// Sequence number (set by RocksDB) and count.
const HEADER_BYTES: usize = 12;

/// Record types of RocksDB's format, those with a column family.
mod kind {
    pub(super) const DELETE: u8 = 0x4;
    pub(super) const PUT: u8 = 0x5;
    pub(super) const SINGLE_DELETE: u8 = 0x8;
    pub(super) const DELETE_RANGE: u8 = 0xE;
}

/// Changes that are written together.
pub(super) struct Batch {
    ids: FamilyIds,
    bytes: Vec<u8>,
    count: u32,
    puts: u32,
    single_deletes: u32,
    /// Something in it has to be on disk before the epoch counts as durable.
    needs_sync: bool,
}

impl Batch {
    pub(super) fn new(ids: FamilyIds) -> Self {
        Self {
            ids,
            bytes: vec![0; HEADER_BYTES],
            count: 0,
            puts: 0,
            single_deletes: 0,
            needs_sync: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Size in bytes.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The batch as RocksDB serializes it.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn puts(&self) -> u32 {
        self.puts
    }

    pub(super) fn single_deletes(&self) -> u32 {
        self.single_deletes
    }

    pub(super) fn needs_sync(&self) -> bool {
        self.needs_sync
    }

    /// Writes a row for the first and only time. The value is given in parts.
    pub(super) fn put_once(&mut self, family: WriteOnce, key: &impl OnceKey, value: &[&[u8]]) {
        self.needs_sync = true;
        self.puts += 1;
        self.operation(
            kind::PUT,
            self.ids.write_once(family),
            &key.encode(),
            Some(value),
        );
    }

    /// Removes a row that was put once.
    pub(super) fn single_delete(&mut self, family: WriteOnce, key: &impl OnceKey) {
        self.needs_sync = true;
        self.single_deletes += 1;
        self.operation(
            kind::SINGLE_DELETE,
            self.ids.write_once(family),
            &key.encode(),
            None,
        );
    }

    /// Removes every row of a family with a key in `from..to`.
    pub(super) fn delete_range(&mut self, family: WriteOnce, from: &[u8], to: &[u8]) {
        self.needs_sync = true;
        self.operation(
            kind::DELETE_RANGE,
            self.ids.write_once(family),
            from,
            Some(&[to]),
        );
    }

    /// Writes or replaces a row.
    pub(super) fn put(&mut self, family: Mutable, key: &[u8], value: &[u8]) {
        self.needs_sync = true;
        self.put_quietly(family, key, value);
    }

    /// Writes or replaces a row that alone is no reason to sync.
    pub(super) fn put_quietly(&mut self, family: Mutable, key: &[u8], value: &[u8]) {
        self.puts += 1;
        self.operation(kind::PUT, self.ids.mutable(family), key, Some(&[value]));
    }

    /// Removes a row.
    pub(super) fn delete(&mut self, family: Mutable, key: &[u8]) {
        self.needs_sync = true;
        self.operation(kind::DELETE, self.ids.mutable(family), key, None);
    }

    /// Removes every row of a family with a key in `from..to`.
    pub(super) fn delete_span(&mut self, family: Mutable, from: &[u8], to: &[u8]) {
        self.needs_sync = true;
        self.operation(
            kind::DELETE_RANGE,
            self.ids.mutable(family),
            from,
            Some(&[to]),
        );
    }

    fn operation(&mut self, kind: u8, family: u32, key: &[u8], value: Option<&[&[u8]]>) {
        self.count += 1;
        self.bytes[8..HEADER_BYTES].copy_from_slice(&self.count.to_le_bytes());
        self.bytes.push(kind);
        varint(&mut self.bytes, family);
        length_prefixed(&mut self.bytes, &[key]);
        if let Some(value) = value {
            length_prefixed(&mut self.bytes, value);
        }
    }

    /// The batch as RocksDB takes it. Can be asked for again when a write failed.
    pub(super) fn to_write(&self) -> WriteBatch {
        WriteBatch::from_data(&self.bytes)
    }
}

fn length_prefixed(out: &mut Vec<u8>, parts: &[&[u8]]) {
    let length = parts.iter().map(|part| part.len()).sum::<usize>();
    varint(
        out,
        u32::try_from(length).expect("rows are limited to chunks and body parts, far below 4 GiB"),
    );
    for part in parts {
        out.extend_from_slice(part);
    }
}

fn varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
