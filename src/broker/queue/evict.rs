//! Memory is given back without any client's help: stored chunks are dropped, transient ones are spilled first.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::MutexGuard;

use super::log::Keep;
use super::{Inner, Queue};
use crate::message::op::Slice;
use crate::message::record::SharedBody;
use crate::message::{Seq, lane_id};
use crate::store::Visit;

/// A queue that holds less is left alone by its own publishers; the keeper comes for it if it must.
const OWN_BYTES_MIN: usize = 1024 * 1024;

/// Transient records on their way to the store.
pub(in crate::broker) struct Unsaved {
    chunk: Seq,
    /// What to spill.
    pub(in crate::broker) slice: Slice,
}

impl Queue {
    /// A publisher that fills its queue beyond the budget evicts what is stored already.
    pub(super) fn keep_within_budget(&self, inner: &mut MutexGuard<'_, Inner>) {
        if self.services.memory.is_over() && inner.state.resident_bytes() > OWN_BYTES_MIN {
            self.evict_locked(inner);
        }
    }

    fn evict_locked(&self, inner: &mut Inner) -> usize {
        let excess = self.services.memory.excess_bytes();
        let durable = self.services.store.durable();
        let mut freed = 0;
        // What is delivered last goes first.
        let dying = inner.state.dying.first().map(|(seq, _)| seq);
        for lane in inner.state.lanes_mut().iter_mut().rev() {
            if freed < excess {
                let keep = Keep {
                    next: lane.head(),
                    leaves: dying,
                };
                freed += lane.log.evict(keep, durable, excess - freed);
            }
        }
        self.report_memory(inner);
        freed
    }

    /// Drops stored chunks while the budget is exceeded. Answers the bytes freed.
    pub(in crate::broker) fn evict(&self) -> usize {
        match self.stream() {
            Some(stream) => stream.evict(self),
            None => self.evict_locked(&mut self.inner.lock()),
        }
    }

    /// Transient records that must be spilled before their chunk can be dropped: one chunk's worth.
    pub(in crate::broker) fn unsaved(&self) -> Option<Unsaved> {
        let mut inner = self.inner.lock();
        if inner.deleted {
            return None;
        }
        let durable = self.services.store.durable();
        let lanes = inner.state.lanes_mut().iter_mut().rev();
        let mut unsaved =
            lanes.filter_map(|lane| Some((lane.log.unsaved_chunk(lane.head(), durable)?, lane)));
        let (first, lane) = unsaved.next()?;
        lane.spilled = true;
        let number = lane.number();
        let chunk = lane.log.chunk_mut(first)?;
        let end = chunk.end();
        let mut records = Vec::new();
        let mut bodies: Vec<(Seq, SharedBody)> = Vec::new();
        let (mut at, mut count, mut last) = (first, 0, first);
        let mut lowest = None;
        while let Some(seq) = chunk.next_live(at).filter(|seq| *seq < end) {
            at = seq + 1;
            let Some((record, body)) = chunk.get(seq) else {
                continue;
            };
            if record.is_persistent() && self.spec.durable {
                continue;
            }
            lowest.get_or_insert(seq);
            last = seq;
            count += 1;
            records.extend_from_slice(record.bytes());
            bodies.extend(body.map(|body| (seq, body.clone())));
        }
        // From here on settlements of these records go to the store, which must not miss one that happens while it
        // writes them.
        chunk.saving();
        let slice = Slice {
            queue: lane_id(self.spec.id, number),
            first: lowest?,
            last,
            count,
            records: Bytes::from(records),
            bodies,
        };
        Some(Unsaved {
            chunk: first,
            slice,
        })
    }

    /// The spill ended: the chunk can be dropped, or holds the only copy again.
    pub(in crate::broker) fn spilled(
        self: &Arc<Self>,
        visit: &Visit<'_>,
        unsaved: &Unsaved,
        success: bool,
    ) {
        let mut inner = self.inner.lock();
        if inner.deleted {
            return;
        }
        let (first, last) = (unsaved.slice.first, unsaved.slice.last);
        let lane = inner.state.lane_mut(first);
        let gone: Vec<_> = match lane.log.chunk_mut(unsaved.chunk) {
            Some(chunk) => {
                chunk.saved(success);
                chunk.gone_ranges().collect()
            }
            // Everything in it was settled meanwhile.
            None => vec![(first, last)],
        };
        // What was settled while the store wrote may have been told to it too early.
        for (from, upto) in gone {
            let (from, upto) = (from.max(first), upto.min(last));
            if success && from <= upto {
                lane.pending
                    .settled(visit.epoch(), from, upto, || visit.mark_dirty(self.clone()));
            }
        }
    }

    /// Gives back the spare memory of a queue that nobody uses at the moment.
    pub(in crate::broker) fn shrink(&self) {
        if let Some(stream) = self.stream() {
            return stream.shrink(self);
        }
        let mut inner = self.inner.lock();
        if inner.state.ready() == 0 && inner.state.unacked() == 0 {
            for lane in inner.state.lanes_mut() {
                lane.shrink();
            }
            self.report_memory(&mut inner);
        }
    }
}
