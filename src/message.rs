//! The bottom layer: what a message is in memory and on disk, and the operations that change durable state.
//!
//! Nothing here knows a queue's rules, a socket or RocksDB. The broker writes records and emits [`op::Op`]s,
//! the store persists them, the protocol layers read records to encode deliveries.

pub mod field;
pub mod op;
pub mod properties;
pub mod ranges;
pub mod record;

/// Identity of a queue in the store: never reused within a data directory.
pub type QueueId = u64;

/// Position of a message in its queue, from 1. Gaps are normal: elided and settled records leave them.
pub type Seq = u64;

/// Number of a group commit. Starts at 1, persisted, never goes back and never repeats.
pub type Epoch = u64;

/// Bodies of this size and more are not copied into chunks: they travel by reference from the socket on.
pub const BODY_SHARED_BYTES_MIN: usize = 16 * 1024;

/// Where a piece of work stands in a log: it is durable once the log's watermark has reached `position`.
///
/// There is one log (0) today; replicated queues will bring more (design: "what the cluster will need", 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ticket {
    /// Which log.
    pub log: u32,
    /// The epoch that carries the work. 0 means that there is nothing to wait for.
    pub position: Epoch,
}

impl Ticket {
    /// The ticket of work that needs no disk.
    pub const IMMEDIATE: Self = Self {
        log: 0,
        position: 0,
    };

    /// The ticket of work in `epoch` of the local log.
    pub const fn local(epoch: Epoch) -> Self {
        Self {
            log: 0,
            position: epoch,
        }
    }

    /// The later of both: durable when both are.
    pub fn max(self, other: Self) -> Self {
        if other.position > self.position {
            other
        } else {
            self
        }
    }
}
