//! Looking through a queue, page by page, without consuming: nothing becomes delivered, counted or reordered by it.

use std::sync::Arc;

use super::lane::{Lane, lane_of};
use super::log::Next;
use super::state::State;
use super::{Inner, Queue};
use crate::message::Seq;
use crate::message::op::Counts;
use crate::message::record::{RecordRef, SharedBody};

/// Most messages of a page.
pub const PAGE_MESSAGES_MAX: usize = 1_000;

/// A page ends with the message that takes it to this many bytes.
pub const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// What a message of a queue waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Whereabouts {
    /// For a consumer.
    Ready,
    /// For its acknowledgement.
    Unacknowledged,
    /// For its next try (`x-delayed-retry-type`).
    Retry,
    /// For its way to the dead-letter exchange.
    Dying,
}

/// A message, copied out of its queue.
#[derive(Debug, Clone)]
pub struct Browsed {
    /// By which it can be removed.
    pub seq: Seq,
    /// What it waits for.
    pub whereabouts: Whereabouts,
    /// It came back from a delivery, or may have been delivered before the last restart.
    pub redelivered: bool,
    /// Earlier deliveries, if the queue counts them.
    pub counts: Counts,
    record: Vec<u8>,
    /// Its body when that is not part of the record.
    pub body: Option<SharedBody>,
}

impl Browsed {
    /// The message as it stands in the queue.
    pub fn record(&self) -> Option<RecordRef<'_>> {
        RecordRef::parse(&self.record)
    }
}

/// One page.
#[derive(Debug, Default)]
pub struct Page {
    /// Messages in the order of their arrival, those of higher priority first.
    pub messages: Vec<Browsed>,
    /// Where the next page begins; `None`: this was the last one.
    pub next: Option<Seq>,
    /// What comes next is only in the store: wait with [`Queue::when_loaded`] and ask again from `next`.
    pub is_loading: bool,
}

impl Queue {
    /// Shows the messages from `from` (`None`: the first) on, whatever they wait for, up to `count_max` of them and as
    /// many as a page holds. Messages that come and go meanwhile may be on no page. A stream shows nothing: whoever
    /// wants to look attaches a consumer.
    pub fn browse(self: &Arc<Self>, from: Option<Seq>, count_max: usize) -> Page {
        let mut inner = self.inner.lock();
        let mut page = Page::default();
        if inner.deleted || self.is_stream() {
            return page;
        }
        let count_max = count_max.clamp(1, PAGE_MESSAGES_MAX);
        let mut cold = None;
        for lane in inner.state.lanes() {
            let at = match from {
                Some(from) if lane.number() > lane_of(from) => continue,
                Some(from) if lane.number() == lane_of(from) => from,
                _ => lane.first_seq(),
            };
            match page.fill(lane, at, count_max) {
                Next::At(seq) => page.next = Some(seq),
                Next::Cold(seq) => {
                    page.next = Some(seq);
                    page.is_loading = page.messages.is_empty();
                    cold = Some(seq);
                }
                Next::End => continue,
            }
            break;
        }
        page.locate(&inner);
        if page.is_loading
            && let Some(seq) = cold
        {
            self.load(&mut inner, seq);
        }
        page
    }
}

impl Page {
    /// Adds the messages of a lane that are in memory. Answers where it stopped.
    fn fill(&mut self, lane: &Lane, at: Seq, count_max: usize) -> Next {
        let mut bytes = 0;
        lane.log.scan(at, |record, body| {
            if self.messages.len() >= count_max || bytes >= PAGE_BYTES_MAX {
                return false;
            }
            bytes += record.encoded_len() + body.map_or(0, |body| body.bytes.len());
            self.messages.push(Browsed {
                seq: record.seq(),
                whereabouts: Whereabouts::Unacknowledged,
                redelivered: lane.came_back(record.seq()),
                counts: lane.counts(record.seq()),
                record: record.bytes().to_vec(),
                body: body.cloned(),
            });
            true
        })
    }

    /// Says of each message what it waits for. Those that went elsewhere are not there any more.
    fn locate(&mut self, inner: &Inner) {
        let lanes = inner.state.lanes().iter();
        let mut moved: Vec<_> = lanes.flat_map(|lane| lane.pending.moved_away()).collect();
        moved.sort_unstable();
        self.messages.retain(|message| {
            let next = moved.partition_point(|(_, last)| *last < message.seq);
            moved
                .get(next)
                .is_none_or(|(first, _)| message.seq < *first)
        });
        for message in &mut self.messages {
            message.whereabouts = inner.whereabouts(message.seq);
        }
    }
}

impl Inner {
    /// What a message that is there waits for.
    pub(super) fn whereabouts(&self, seq: Seq) -> Whereabouts {
        if self.state.is_ready(seq) {
            Whereabouts::Ready
        } else if self.state.dying.contains(seq) {
            Whereabouts::Dying
        } else if self.state.waits_for_retry(seq) {
            Whereabouts::Retry
        } else {
            Whereabouts::Unacknowledged
        }
    }
}

impl State {
    /// Whether a message that is neither ready nor dying is held by its lane: then no consumer has it.
    fn waits_for_retry(&self, seq: Seq) -> bool {
        let lane = self.lanes.iter().find(|lane| lane.number() == lane_of(seq));
        lane.is_some_and(|lane| lane.waiting() > 0 && lane.held.contains(seq))
    }

    /// Whether a message that is in memory waits for a consumer, be it behind another one of its group.
    pub(super) fn is_ready(&self, seq: Seq) -> bool {
        let lane = self.lanes.iter().find(|lane| lane.number() == lane_of(seq));
        lane.is_some_and(|lane| lane.is_ready(seq) || lane.blocked.contains_key(&seq))
    }
}
