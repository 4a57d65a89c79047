//! What the store remembers of all queues, shared by the store thread, which alone changes it for durable rows, and
//! those who read records back.

use std::collections::HashMap;

use super::due::DueOwner;
use super::queue_index::QueueIndex;
use super::row::{Place, Row};
use crate::message::{Epoch, QueueId};

/// All queues, all kept bodies, and sums over them.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Boxed, so that the free places of the table are small.
    pub(super) queues: HashMap<QueueId, Box<QueueIndex>>,
    pub(super) bodies: HashMap<u64, Body>,
    /// Who has rows in family `due`, or had.
    pub(super) due: HashMap<QueueId, DueOwner>,
    /// The last epoch that was written: rows of later ones cannot be read yet.
    pub(super) written: Epoch,
    /// Bytes in family `tail`.
    pub(super) tail_bytes: u64,
    /// Bytes of records in family `chunks` that are not settled.
    pub(super) chunk_live_bytes: u64,
    /// Bytes of records in family `spill` that are not settled.
    pub(super) spill_live_bytes: u64,
    /// Bytes of bodies in family `bodies` that records refer to.
    pub(super) body_live_bytes: u64,
    /// Queues with retired rows.
    pub(super) in_flight: Vec<QueueId>,
}

/// A body in family `bodies`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Body {
    pub(super) epoch: Epoch,
    pub(super) len: u32,
    /// Records that refer to it.
    pub(super) references: u32,
}

impl Index {
    /// Counts a row in or, with `false`, out.
    pub(super) fn count(&mut self, row: &Row, add: bool) {
        let (sum, bytes) = match row.place {
            Place::Tail => (&mut self.tail_bytes, u64::from(row.bytes)),
            Place::Chunks => (&mut self.chunk_live_bytes, row.live_bytes()),
            Place::Spill => (&mut self.spill_live_bytes, row.live_bytes()),
        };
        *sum = if add {
            *sum + bytes
        } else {
            sum.saturating_sub(bytes)
        };
    }

    /// `epoch` is written: its rows can be read, what it removed cannot.
    pub(super) fn written(&mut self, epoch: Epoch) {
        self.written = epoch;
        for id in std::mem::take(&mut self.in_flight) {
            if let Some(queue) = self.queues.get_mut(&id) {
                queue.written();
            }
        }
    }
}
