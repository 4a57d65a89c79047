//! Operations: what a commit changes, as data.
//!
//! The broker emits these, the store encodes and applies them, later a replicated log carries them. Applying an
//! operation is total and idempotent per epoch. An operation names a queue by id and a message by its seq, never a
//! place inside the store.

use bytes::Bytes;

use super::record::SharedBody;
use super::{QueueId, Seq};

/// One change of durable state.
#[derive(Debug, Clone)]
pub enum Op {
    /// Records that arrived in a queue and are still wanted.
    Append(Slice),
    /// Records of a queue that are gone: acknowledged, rejected, dropped, expired, purged.
    Settle(Settle),
    /// The queue (or the lane of one, each of which is named on its own) is gone, with everything in it and all that it
    /// has due. Its id is never used again.
    QueueDeleted {
        /// Which queue.
        queue: QueueId,
    },
    /// Something that is due at a time: a delayed or retried record, or the mark that a record expires.
    PutDue(DueRecord),
    /// What was due is done with: moved, expired, removed.
    RemoveDue {
        /// Whose.
        owner: QueueId,
        /// When it was due.
        time_ms: u64,
        /// Which of those that were due then.
        seq: Seq,
    },
    /// A row of the `state` family (topology, users, permissions) is written or replaced.
    PutState {
        /// Key, composed by its owner in the broker.
        key: Vec<u8>,
        /// Value, encoded by its owner.
        value: Vec<u8>,
    },
    /// All rows of the `state` family with keys in `from..to` are removed.
    DeleteStateSpan {
        /// The first key.
        from: Vec<u8>,
        /// The key after the last.
        to: Vec<u8>,
    },
    /// A row of the `state` family is removed.
    DeleteState {
        /// Key.
        key: Vec<u8>,
    },
}

/// Consecutive records of one queue. Seqs rise; gaps are normal.
#[derive(Debug, Clone)]
pub struct Slice {
    /// Whose records.
    pub queue: QueueId,
    /// Seq of the first record.
    pub first: Seq,
    /// Seq of the last record.
    pub last: Seq,
    /// Number of records.
    pub count: u32,
    /// The records, see [`super::record`]; those with an external body have it in `bodies`.
    pub records: Bytes,
    /// External bodies, by rising seq. A body whose id is not 0 may come with slices of other queues too and is then
    /// stored once.
    pub bodies: Vec<(Seq, SharedBody)>,
}

/// Settled seqs of one queue in one epoch, with what rides along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settle {
    /// Whose records.
    pub queue: QueueId,
    /// Inclusive ranges, rising and disjoint. May name seqs that were never written (elided records).
    pub ranges: Vec<(Seq, Seq)>,
    /// The first seq that was not given out when this was emitted. Recovery never hands out a lower one, so that a new
    /// message cannot be born with a settled number.
    pub next_seq: Seq,
    /// All seqs below were delivered at least once: after a crash they come back with redelivered set.
    pub delivered_upto: Seq,
    /// How often messages were delivered that came back and are still there, by rising seq: exceptions only. Each
    /// entry replaces what was said of that message before. Seqs that are settled or not stored are passed over.
    pub counts: Vec<(Seq, Counts)>,
}

/// How often a message was given to a consumer (`basic.get` included), as RabbitMQ's quorum queues count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Deliveries that failed: what `x-delivery-count` says and the delivery limit is compared with.
    pub delivered: u32,
    /// All deliveries: what `x-acquired-count` says.
    pub acquired: u32,
}

/// Something that is due at a time.
///
/// `(time_ms, seq)` is never used twice for one owner, not even over a restart (`RecoveredDue::next_seq`).
#[derive(Debug, Clone)]
pub struct DueRecord {
    /// The queue or exchange that it belongs to; both have their ids from `Store::next_queue_id`.
    pub owner: QueueId,
    /// When it is due, ms since the Unix epoch.
    pub time_ms: u64,
    /// Orders what is due at one time.
    pub seq: Seq,
    /// The record, see [`super::record`], or whatever the owner needs. Empty for an expiry mark.
    pub record: Bytes,
    /// The body, if the record has it outside. It is stored with the record and comes back with id 0.
    pub body: Option<SharedBody>,
}

impl Op {
    /// Rough size in the batch, for the limits of an epoch.
    pub fn encoded_bytes(&self) -> usize {
        match self {
            Self::Append(slice) => {
                slice.records.len()
                    + slice
                        .bodies
                        .iter()
                        .map(|(_, body)| body.bytes.len())
                        .sum::<usize>()
                    + 64
            }
            Self::Settle(settle) => 64 + settle.ranges.len() * 16 + settle.counts.len() * 16,
            Self::QueueDeleted { .. } | Self::RemoveDue { .. } => 32,
            Self::PutDue(due) => {
                let body = due.body.as_ref().map_or(0, |body| body.bytes.len());
                48 + due.record.len() + body
            }
            Self::PutState { key, value } => key.len() + value.len(),
            Self::DeleteState { key } => key.len(),
            Self::DeleteStateSpan { from, to } => from.len() + to.len(),
        }
    }
}
