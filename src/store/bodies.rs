//! Large bodies: stored once for several queues, in parts, and removed with the last record that refers to them.

use std::collections::{HashMap, HashSet};

use parking_lot::RwLock;

use super::apply::Work;
use super::batch::Batch;
use super::due::DueChanges;
use super::families::WriteOnce;
use super::ids::Ids;
use super::index::{Body, Index};
use super::keys::{BodyKey, DueKey, RowKey};
use super::options::BODY_PART_BYTES;
use super::row::{Content, KeptBody, RowBody};
use crate::message::op::{Op, Slice};
use crate::message::record::SharedBody;
use crate::message::{Epoch, QueueId};

/// Bodies of an epoch beyond this many bytes are written ahead of it, so that a batch stays small. Nothing refers to
/// them before the epoch itself is written; a start removes what a crash leaves.
const AHEAD_BYTES: usize = 8 * 1024 * 1024;

/// The operations of an epoch, sorted. What concerns a queue that is deleted in it is left out.
pub(super) struct Prepared {
    pub(super) arrivals: Vec<Content>,
    pub(super) due: DueChanges,
    pub(super) changes: Vec<Op>,
}

impl Work<'_> {
    /// Sorts operations by what is done with them, and puts the bodies that are kept into the batch. `write_ahead`
    /// writes, without syncing, what becomes too much for one batch.
    pub(super) fn prepare(
        &mut self,
        index: &RwLock<Index>,
        ids: &Ids,
        ops: Vec<Op>,
        mut write_ahead: impl FnMut(Batch),
    ) -> Prepared {
        let deleted = deleted_queues(&ops);
        let mut arrivals = Vec::new();
        let mut changes = Vec::new();
        let mut due = DueChanges::default();
        let mut new = HashMap::new();
        for op in ops {
            match op {
                Op::Append(slice) if deleted.contains(&slice.queue) || slice.count == 0 => {}
                Op::Settle(settle) if deleted.contains(&settle.queue) => {}
                Op::PutDue(record) if deleted.contains(&record.owner) => {}
                Op::RemoveDue { owner, .. } if deleted.contains(&owner) => {}
                Op::PutDue(record) => due.put.push(record),
                Op::RemoveDue {
                    owner,
                    time_ms,
                    seq,
                } => due.remove.push(DueKey {
                    owner,
                    time_ms,
                    seq,
                }),
                Op::Append(slice) => {
                    let Slice {
                        queue,
                        first,
                        last,
                        count,
                        records,
                        bodies,
                    } = slice;
                    let mut content = Content {
                        queue,
                        first,
                        last,
                        count,
                        records,
                        bodies: Vec::new(),
                    };
                    for (seq, body) in bodies {
                        let body = self.body(index, ids, body, &mut new, &mut write_ahead);
                        content.bodies.push((seq, body));
                    }
                    arrivals.push(content);
                }
                other => changes.push(other),
            }
        }
        if !new.is_empty() {
            let mut index = index.write();
            index.body_live_bytes += new.values().map(|body| u64::from(body.len)).sum::<u64>();
            index.bodies.extend(new);
        }
        Prepared {
            arrivals,
            changes,
            due,
        }
    }

    fn body(
        &mut self,
        index: &RwLock<Index>,
        ids: &Ids,
        body: SharedBody,
        new: &mut HashMap<u64, Body>,
        write_ahead: &mut impl FnMut(Batch),
    ) -> RowBody {
        let SharedBody { id, bytes } = body;
        if id == 0 && bytes.len() < BODY_PART_BYTES {
            return RowBody::Inline(bytes);
        }
        let id = if id == 0 { ids.next_body() } else { id };
        let len = bytes.len() as u32;
        if !new.contains_key(&id) && !index.read().bodies.contains_key(&id) {
            // Before the parts: a start then knows of every part that a crash may have left.
            self.batch.put_once(
                WriteOnce::Index,
                &index_key(id, self.epoch),
                &[&len.to_le_bytes()],
            );
            for (part, bytes) in bytes.chunks(BODY_PART_BYTES).enumerate() {
                let key = BodyKey {
                    id,
                    epoch: self.epoch,
                    part: part as u32,
                };
                self.batch.put_once(WriteOnce::Bodies, &key, &[bytes]);
                if self.batch.len() >= AHEAD_BYTES {
                    write_ahead(std::mem::replace(
                        &mut self.batch,
                        Batch::new(self.database.ids()),
                    ));
                }
            }
            new.insert(
                id,
                Body {
                    epoch: self.epoch,
                    len,
                    references: 0,
                },
            );
        }
        RowBody::Kept(KeptBody { id, len })
    }

    /// One record fewer refers to body `id`.
    pub(super) fn release_body(&mut self, index: &mut Index, id: u64) {
        let Some(body) = index.bodies.get_mut(&id) else {
            return;
        };
        body.references = body.references.saturating_sub(1);
        if body.references > 0 {
            return;
        }
        let Body { epoch, len, .. } = *body;
        index.bodies.remove(&id);
        index.body_live_bytes = index.body_live_bytes.saturating_sub(u64::from(len));
        delete_body(&mut self.batch, id, epoch, len);
    }
}

/// Removes the rows of a body.
pub(super) fn delete_body(batch: &mut Batch, id: u64, epoch: Epoch, len: u32) {
    batch.single_delete(WriteOnce::Index, &index_key(id, epoch));
    for part in 0..parts(len) {
        batch.single_delete(WriteOnce::Bodies, &BodyKey { id, epoch, part });
    }
}

/// Number of rows that a body of `len` bytes takes.
pub(super) fn parts(len: u32) -> u32 {
    len.div_ceil(BODY_PART_BYTES as u32)
}

/// Where `index` lists a body, so that a start need not look into `bodies`: as if it were a row of queue 0, an id that
/// no queue has.
pub(super) fn index_key(id: u64, epoch: Epoch) -> RowKey {
    RowKey {
        queue: BODIES_QUEUE,
        first: id,
        epoch,
    }
}

/// See [`index_key`].
pub(super) const BODIES_QUEUE: QueueId = 0;

fn deleted_queues(ops: &[Op]) -> HashSet<QueueId> {
    ops.iter()
        .filter_map(|op| match op {
            Op::QueueDeleted { queue } => Some(*queue),
            _ => None,
        })
        .collect()
}
