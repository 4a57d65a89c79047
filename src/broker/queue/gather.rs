//! The store thread collects what a queue owes to an epoch.

use bytes::Bytes;

use super::Queue;
use super::duplicates::{Duplicates, IdChange, IdRow};
use super::lane::{Lane, lane_of};
use super::log::{Lookup, Next};
use super::pending::Work;
use super::state::State;
use crate::broker::state;
use crate::message::op::{Op, Settle, Slice};
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
        let appended = {
            let mut inner = self.inner.lock();
            if inner.deleted {
                ops.append(&mut inner.left_behind);
                return;
            }
            settlements(self.spec.id, &mut inner.state, epoch, ops)
        };
        for (mut from, last) in appended {
            while let Some(draft) = self.draft(epoch, &mut from, last) {
                draft.push_to(ops, self.spec.id);
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

/// Takes what is gone from the lanes in epochs up to `epoch`, and what became of ids. Answers what arrived in them.
fn settlements(
    base: QueueId,
    state: &mut State,
    epoch: Epoch,
    ops: &mut Vec<Op>,
) -> Vec<(Seq, Seq)> {
    let before = ops.len();
    let mut appended = Vec::new();
    if let Some(former) = &mut state.former_ids {
        let changes = former.take_changes(epoch);
        ops.extend(changes.map(|change| id_op(base, &change)));
    }
    state.former_ids.take_if(|former| former.is_empty());
    let mut duplicates = state.duplicates.take();
    if let Some(duplicates) = &mut duplicates {
        let changes = duplicates.take_changes(epoch);
        ops.extend(changes.map(|change| id_op(base, &change)));
    }
    for lane in state.lanes_mut() {
        let Some(work) = lane.pending.take(epoch) else {
            continue;
        };
        appended.extend(work.appended);
        if let Some(duplicates) = &mut duplicates {
            let moved = work.moved.iter().flat_map(|(first, last)| *first..=*last);
            moved.for_each(|seq| duplicates.has_moved(seq));
        }
        ops.extend(settle(base, lane, work).map(Op::Settle));
    }
    state.duplicates = duplicates;
    if ops.len() > before {
        state.forget_if_empty();
    }
    appended
}

/// What a queue that is deleted in `epoch` still owes to the epochs before. The deletion may be lost with a crash: then
/// the queue is there again, but nothing of what was settled or went elsewhere before, and all that went elsewhere in
/// this very epoch. What else arrived need not be written any more.
pub(super) fn left_behind(base: QueueId, state: &mut State, epoch: Epoch) -> Vec<Op> {
    let mut ops = Vec::new();
    let before = epoch.saturating_sub(1);
    let appended = settlements(base, state, before, &mut ops);
    let duplicates = state.take_ids(before);
    for (first, last) in appended {
        let lane = state.lane_mut(first);
        let work = lane.pending.take(epoch).unwrap_or_default();
        let moved = work.moved.iter().flat_map(|(first, last)| *first..=*last);
        let mut moved: Vec<Seq> = moved.filter(|seq| (first..=last).contains(seq)).collect();
        moved.sort_unstable();
        let mut draft = Draft::default();
        for seq in moved {
            if let Lookup::Found(record, body) = lane.log.lookup(seq) {
                draft.add(record, body, duplicates.as_deref());
            }
            if draft.bytes >= SLICE_BYTES_MAX {
                std::mem::take(&mut draft).push_to(&mut ops, base);
            }
        }
        draft.push_to(&mut ops, base);
    }
    state.put_back_ids(before, duplicates);
    ops
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
    let counts = work.take_counted();
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
    fn draft(&self, epoch: Epoch, from: &mut Seq, last: Seq) -> Option<Draft> {
        let mut inner = self.inner.lock();
        let mut draft = Draft::default();
        let duplicates = inner.state.take_ids(epoch);
        let lane = inner.state.lane_mut(*from);
        loop {
            let next = lane.log.scan(*from, |record, body| {
                if record.seq() > last || draft.bytes >= SLICE_BYTES_MAX {
                    return false;
                }
                *from = record.seq() + 1;
                if record.is_persistent() {
                    draft.add(record, body, duplicates.as_deref());
                }
                true
            });
            // What is only in the store before it was written here is transient, and was spilled.
            let Next::Cold(cold) = next else { break };
            let Some(end) = lane.log.cold_end(cold).filter(|_| cold <= last) else {
                break;
            };
            *from = end + 1;
            if draft.count > 0 {
                break;
            }
        }
        inner.state.put_back_ids(epoch, duplicates);
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
    fn add(
        &mut self,
        record: RecordRef<'_>,
        body: Option<&SharedBody>,
        duplicates: Option<&Duplicates>,
    ) {
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
        if let Some(duplicates) = duplicates {
            self.ids.extend(duplicates.row_with(record));
        }
    }

    /// Adds the slice to what a queue owes, if there is anything in it.
    fn push_to(self, ops: &mut Vec<Op>, base: QueueId) {
        if self.count > 0 {
            // Behind what became of these ids before.
            ops.extend(self.ids.iter().map(|row| state::put_queue_id(base, row)));
            let lane = lane_of(self.last);
            ops.push(Op::Append(self.into_slice(lane_id(base, lane))));
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
