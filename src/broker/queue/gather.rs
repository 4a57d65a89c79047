//! The store thread collects what a queue owes to an epoch.

use bytes::Bytes;

use super::Queue;
use crate::message::op::{Op, Settle, Slice};
use crate::message::record::{RecordRef, SharedBody};
use crate::message::{Epoch, Seq};
use crate::store::Source;

/// A slice is closed at this size: the queue is unlocked between slices.
const SLICE_BYTES_MAX: usize = 256 * 1024;

impl Source for Queue {
    fn gather(&self, epoch: Epoch, ops: &mut Vec<Op>) {
        let appended = {
            let mut inner = self.inner.lock();
            if inner.deleted {
                return;
            }
            let Some(mut work) = inner.pending.take(epoch) else {
                return;
            };
            let ranges = work.take_settled();
            // The mark of deliveries goes with the first records that it covers.
            let marked = work.delivered || (work.appended.is_some() && inner.delivered_mark > 0);
            if !ranges.is_empty() || marked {
                let next_seq = inner.state.next_seq();
                let delivered_upto = inner.delivered_mark.max(inner.state.delivered_upto());
                ops.push(Op::Settle(Settle {
                    queue: self.spec.id,
                    ranges,
                    next_seq,
                    delivered_upto,
                    counts: Vec::new(),
                }));
            }
            work.appended
        };
        if let Some((mut from, last)) = appended {
            while let Some(slice) = self.slice(&mut from, last) {
                ops.push(Op::Append(slice));
            }
        }
    }
}

impl Queue {
    /// The next slice of persistent records of `*from..=last` that are still wanted. What was settled since it was
    /// appended is left out: it never reaches the disk.
    fn slice(&self, from: &mut Seq, last: Seq) -> Option<Slice> {
        let inner = self.inner.lock();
        let mut draft = Draft::default();
        inner.state.log().scan(*from, |record, body| {
            if record.seq() > last || draft.bytes >= SLICE_BYTES_MAX {
                return false;
            }
            *from = record.seq() + 1;
            if record.is_persistent() {
                draft.add(record, body);
            }
            true
        });
        drop(inner);
        draft.into_slice(self.spec.id)
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

    fn into_slice(self, queue: u64) -> Option<Slice> {
        (self.count > 0).then(|| Slice {
            queue,
            first: self.first,
            last: self.last,
            count: self.count,
            records: Bytes::from(self.records),
            bodies: self.bodies,
        })
    }
}
