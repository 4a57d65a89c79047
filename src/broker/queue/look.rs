//! Looking at messages without changing anything.

use super::Queue;
use super::log::Lookup;
use crate::broker::delivery::Delivery;
use crate::message::Seq;

impl Queue {
    /// Shows the messages with these seqs that the queue holds, whatever they wait for. `None` stands for one that is
    /// not in memory. Nothing is shown of streams.
    pub fn look_at(&self, seqs: &[Seq], mut show: impl FnMut(Option<Delivery<'_>>)) {
        let mut inner = self.inner.lock();
        for &seq in seqs {
            let lane = inner.state.lane_mut(seq);
            match lane.log.lookup(seq) {
                Lookup::Found(record, body) => show(Some(Delivery {
                    seq,
                    redelivered: lane.came_back(seq),
                    counts: lane.counts(seq),
                    stream_offset: None,
                    record,
                    body,
                })),
                Lookup::Cold => show(None),
                Lookup::Gone => {}
            }
        }
    }
}
