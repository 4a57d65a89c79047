//! All that is in a queue, for tests: what only the store has is read there, and nothing is changed by looking. What
//! went elsewhere is left out, although it may have to be written here yet.

use std::sync::Arc;

use super::lane::Lane;
use super::log::{Lookup, Next};
use super::{Inner, Queue, Whereabouts};
use crate::message::record::{RecordRef, records};
use crate::message::{QueueId, Seq};

impl Queue {
    /// Shows each message with what it waits for, the lanes by falling precedence, each by rising seq.
    pub(in crate::broker) fn for_each_message(
        self: &Arc<Self>,
        mut show: impl FnMut(Whereabouts, RecordRef<'_>),
    ) {
        let inner = self.inner.lock();
        for lane in inner.state.lanes() {
            let mut at = lane.first_seq();
            loop {
                match lane.log.next(at) {
                    Next::At(seq) => {
                        if let Lookup::Found(record, _) = lane.log.lookup(seq)
                            && !lane.pending.has_moved(seq)
                        {
                            show(inner.whereabouts(seq), record);
                        }
                        at = seq + 1;
                    }
                    Next::Cold(seq) => {
                        let last = lane.log.cold_end(seq).expect("it begins here");
                        self.for_each_stored(&inner, lane, seq, last, &mut show);
                        at = last + 1;
                    }
                    Next::End => break,
                }
            }
        }
    }

    /// Bytes of ready bodies as the queue counts them; `None`: what came back has to be read before it counts.
    pub(in crate::broker) fn counted_bytes(&self) -> Option<u64> {
        let inner = self.inner.lock();
        let lanes = inner.state.lanes();
        let is_read = lanes.iter().all(|lane| lane.unread(true).is_none());
        is_read.then(|| inner.state.ready_bytes())
    }

    fn for_each_stored(
        &self,
        inner: &Inner,
        lane: &Lane,
        mut from: Seq,
        last: Seq,
        show: &mut impl FnMut(Whereabouts, RecordRef<'_>),
    ) {
        let id: QueueId = self.store_id(from);
        while from <= last {
            let loaded = self.services.store.load(id, from, last);
            let loaded = loaded.expect("a store that is open");
            for record in records(&loaded.records) {
                // What is settled may be stored for a while.
                let seq = record.seq();
                if matches!(lane.log.lookup(seq), Lookup::Cold) && !lane.pending.has_moved(seq) {
                    show(inner.whereabouts(seq), record);
                }
            }
            from = loaded.covered_upto.max(from) + 1;
        }
    }
}
