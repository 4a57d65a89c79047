//! The store thread collects what a queue owes to an epoch.

use bytes::Bytes;

use super::Queue;
use super::duplicates::{IdChange, IdRow};
use super::lane::{Lane, lane_of};
use super::log::Next;
use super::pending::Work;
use crate::broker::state;
use crate::message::op::{Counts, Op, Settle, Slice};
use crate::message::record::{RecordRef, SharedBody};
use crate::message::{Epoch, QueueId, Seq, lane_id};
use crate::store::Source;

/// A slice is closed at this size: the queue is unlocked between slices.
const SLICE_BYTES_MAX: usize = 256 * 1024;

impl Source for Queue {
    fn gather(&self, epoch: Epoch, ops: &mut Vec<Op>) {
        if let Some(stream) = self.stream() {
            stream.gather(self.spec.id, epoch, self.services.store.durable(), ops);
            return;
        }
        let mut appended: Vec<(Seq, Seq)> = Vec::new();
        {
            let mut inner = self.inner.lock();
            if inner.deleted {
                return;
            }
            let before = ops.len();
            if let Some(duplicates) = &mut inner.state.duplicates {
                let changes = duplicates.take_changes(epoch);
                ops.extend(changes.map(|change| id_op(self.spec.id, &change)));
            }
            for lane in inner.state.lanes_mut() {
                let Some(work) = lane.pending.take(epoch) else {
                    continue;
                };
                appended.extend(work.appended);
                ops.extend(settle(self.spec.id, lane, work).map(Op::Settle));
            }
            if ops.len() > before {
                inner.state.forget_if_empty();
            }
        }
        for (mut from, last) in appended {
            while let Some(draft) = self.draft(&mut from, last) {
                let ids = draft.ids.iter();
                // Behind what became of these ids before.
                ops.extend(ids.map(|row| state::put_queue_id(self.spec.id, row)));
                ops.push(Op::Append(
                    draft.into_slice(lane_id(self.spec.id, lane_of(last))),
                ));
            }
        }
    }

    fn may_settle_soon(&self, epoch: Epoch) -> bool {
        if self.stream().is_some() {
            return false;
        }
        let inner = self.inner.lock();
        let is_left = |lane: &Lane| {
            lane.pending.arrived(epoch).is_some_and(
                |(first, last)| matches!(lane.log.next(first), Next::At(seq) if seq <= last),
            )
        };
        !inner.deleted && inner.state.unacked() > 0 && inner.state.lanes().iter().any(is_left)
    }
}

/// What is gone from a lane, and what rides along. Records that were moved away go now.
fn settle(base: QueueId, lane: &mut Lane, mut work: Work) -> Option<Settle> {
    for (first, last) in std::mem::take(&mut work.moved) {
        for seq in first..=last {
            lane.settle(seq);
        }
        work.settle_range(first, last);
    }
    let ranges = work.take_settled();
    work.counted.sort_unstable();
    work.counted.dedup();
    let counts: Vec<(Seq, Counts)> = work
        .counted
        .iter()
        .filter_map(|seq| Some((*seq, *lane.counts.get(seq)?)))
        .collect();
    // The mark of deliveries goes with the first records that it covers.
    let marked = work.delivered || (work.appended.is_some() && lane.delivered_mark > 0);
    if ranges.is_empty() && counts.is_empty() && !marked {
        return None;
    }
    Some(Settle {
        queue: lane_id(base, lane.number()),
        ranges,
        next_seq: lane.log.next_seq(),
        delivered_upto: lane.delivered_mark.max(lane.delivered_upto()),
        counts,
    })
}

impl Queue {
    /// The next slice of persistent records of `*from..=last` that are still wanted. What was settled since it was
    /// appended is left out: it never reaches the disk.
    fn draft(&self, from: &mut Seq, last: Seq) -> Option<Draft> {
        let mut inner = self.inner.lock();
        let mut draft = Draft::default();
        let duplicates = inner.state.duplicates.take();
        let lane = inner.state.lane_mut(*from);
        lane.log.scan(*from, |record, body| {
            if record.seq() > last || draft.bytes >= SLICE_BYTES_MAX {
                return false;
            }
            *from = record.seq() + 1;
            if record.is_persistent() {
                draft.add(record, body);
                if let Some(duplicates) = &duplicates {
                    draft.ids.extend(duplicates.row_with(record));
                }
            }
            true
        });
        inner.state.duplicates = duplicates;
        drop(inner);
        (draft.count > 0).then_some(draft)
    }
}

pub(super) fn id_op(queue: QueueId, change: &IdChange) -> Op {
    match change {
        IdChange::Put(row) => state::put_queue_id(queue, row),
        IdChange::Forget(hash) => Op::DeleteState {
            key: state::queue_id_key(queue, hash),
        },
        IdChange::ForgetAll => state::delete_queue_ids(queue),
    }
}

#[derive(Default)]
struct Draft {
    records: Vec<u8>,
    bodies: Vec<(Seq, SharedBody)>,
    bytes: usize,
    count: u32,
    first: Seq,
    last: Seq,
    /// What the records are known by.
    ids: Vec<IdRow>,
}

impl Draft {
    fn add(&mut self, record: RecordRef<'_>, body: Option<&SharedBody>) {
        if self.count == 0 {
            self.first = record.seq();
        }
        self.last = record.seq();
        self.count += 1;
        self.records.extend_from_slice(record.bytes());
        self.bytes += record.encoded_len();
        if let Some(body) = body {
            self.bytes += body.bytes.len();
            self.bodies.push((record.seq(), body.clone()));
        }
    }

    fn into_slice(self, queue: QueueId) -> Slice {
        Slice {
            queue,
            first: self.first,
            last: self.last,
            count: self.count,
            records: Bytes::from(self.records),
            bodies: self.bodies,
        }
    }
}
