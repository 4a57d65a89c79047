//! The bottom layer: what a message is in memory and on disk, and the operations that change durable state.
//!
//! Nothing here knows a queue's rules, a socket or RocksDB. The broker writes records and emits [`op::Op`]s,
//! the store persists them, the protocol layers read records to encode deliveries.

pub mod field;
pub mod op;
pub mod properties;
pub mod ranges;
pub mod record;
pub mod run;

/// Identity of a queue, or of a lane of one ([`lane_id`]), in the store: never reused within a data directory.
pub type QueueId = u64;

/// Ids that are given out stay below `1 << QUEUE_ID_BITS`; the bits above number the lanes of a queue.
pub const QUEUE_ID_BITS: u32 = 48;

/// Id of a lane of a queue: an ordered part with seqs of its own (a priority, the returned messages), which the store
/// knows as a queue of its own. `base` is the id that the queue was given; lane 0 has that very id.
pub const fn lane_id(base: QueueId, lane: u16) -> QueueId {
    debug_assert!(base >> QUEUE_ID_BITS == 0);
    (lane as QueueId) << QUEUE_ID_BITS | base
}

/// Id of the queue that lane `id` belongs to.
pub const fn base_id(id: QueueId) -> QueueId {
    id & ((1 << QUEUE_ID_BITS) - 1)
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_have_ids_of_their_own_and_lead_to_their_queue() {
        let last = (1 << QUEUE_ID_BITS) - 1;
        for base in [1, 77, last] {
            assert_eq!(lane_id(base, 0), base);
            for lane in [0, 1, 255, u16::MAX] {
                assert_eq!(base_id(lane_id(base, lane)), base);
            }
        }
        assert_ne!(lane_id(1, 1), lane_id(2, 1));
        assert_ne!(lane_id(1, 1), lane_id(1, 2));
    }
}
