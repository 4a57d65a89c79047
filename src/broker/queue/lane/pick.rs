//! Ready messages are offered, one after the other, to who knows the consumers.

use std::collections::BTreeMap;

use super::{Lane, counts_of, first_again};
use crate::broker::delivery::Delivery;
use crate::broker::queue::blocked::Blocked;
use crate::broker::queue::expiry::Expiry;
use crate::broker::queue::groups::Place;
use crate::broker::queue::log::{Log, Lookup, Next};
use crate::broker::queue::returned::Returned;
use crate::message::Seq;
use crate::message::op::Counts;
use crate::message::ranges::RangeSet;
use crate::message::record::{RecordRef, SharedBody};

/// What a look at a ready message decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker::queue) enum Pick {
    /// It goes out, or dies.
    Taken,
    /// It is held back; the next may go.
    Held,
    /// No more for now.
    Stop,
}

/// How far picking came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker::queue) struct Picked {
    /// Everything was offered: it is the next lane's turn.
    pub(in crate::broker::queue) all: bool,
    /// Where a stretch to load begins: its first message is needed now, or soon.
    pub(in crate::broker::queue) load: Option<Seq>,
}

/// What is offered.
#[derive(Debug, Clone, Copy)]
pub(in crate::broker::queue) struct Offer<'a> {
    pub(in crate::broker::queue) delivery: Delivery<'a>,
    pub(in crate::broker::queue) place: Place,
}

/// How a message came to be ready again.
#[derive(Debug, Clone, Copy)]
struct Again {
    was_returned: bool,
    turn: Option<i64>,
}

impl Lane {
    /// Offers ready messages in their order until `offer` has enough.
    pub(in crate::broker::queue) fn pick<'a>(
        &'a mut self,
        offer: impl FnMut(Offer<'a>) -> Pick,
    ) -> Picked {
        let closed_from = self.closed_from();
        let log: &'a Log = &self.log;
        let mut offering = Offering {
            offer,
            closed_from,
            delivered_before: self.delivered_before,
            counts: &self.counts,
            held: &mut self.held,
            blocked: &mut self.blocked,
            blocked_bytes: &mut self.blocked_bytes,
            expiry: &mut self.expiry,
            ready: &mut self.ready,
            ready_bytes: &mut self.ready_bytes,
        };
        offering
            .those_that_came_back(log, &mut self.returned, &mut self.refused)
            .unwrap_or_else(|| offering.those_behind(log, &mut self.cursor))
    }
}

const fn stopped(load: Option<Seq>) -> Picked {
    Picked { all: false, load }
}

/// What changes while messages are offered.
struct Offering<'lane, F> {
    offer: F,
    /// Messages from here on are offered to nobody yet.
    closed_from: Seq,
    delivered_before: Seq,
    counts: &'lane BTreeMap<Seq, Counts>,
    held: &'lane mut RangeSet,
    blocked: &'lane mut BTreeMap<Seq, Blocked>,
    blocked_bytes: &'lane mut u64,
    expiry: &'lane mut Expiry,
    ready: &'lane mut u64,
    ready_bytes: &'lane mut u64,
}

impl<F> Offering<'_, F> {
    /// Messages before the cursor that are ready again. `None`: all were offered.
    fn those_that_came_back<'a>(
        &mut self,
        log: &'a Log,
        returned: &mut Returned,
        refused: &mut RangeSet,
    ) -> Option<Picked>
    where
        F: FnMut(Offer<'a>) -> Pick,
    {
        while let Some((seq, was_returned)) = first_again(returned, refused) {
            match log.lookup(seq) {
                Lookup::Found(record, body) => {
                    let again = Again {
                        was_returned,
                        turn: returned.turn(seq),
                    };
                    if !self.consider(record, body, Some(again)) {
                        return Some(stopped(None));
                    }
                }
                Lookup::Cold => return Some(stopped(Some(seq))),
                Lookup::Gone => *self.ready = self.ready.saturating_sub(1),
            }
            if !returned.remove(seq) {
                refused.remove(seq);
            }
        }
        None
    }

    /// Messages from the cursor on.
    fn those_behind<'a>(&mut self, log: &'a Log, cursor: &mut Seq) -> Picked
    where
        F: FnMut(Offer<'a>) -> Pick,
    {
        let next = log.scan(*cursor, |record, body| {
            if record.seq() >= self.closed_from {
                return false;
            }
            let is_held = !self.held.is_empty() && self.held.contains(record.seq());
            is_held || self.consider(record, body, None)
        });
        match next {
            Next::At(seq) => {
                *cursor = seq;
                Picked {
                    all: seq >= self.closed_from,
                    load: log.cold_after(seq),
                }
            }
            Next::Cold(seq) => {
                *cursor = seq;
                stopped(Some(seq))
            }
            Next::End => {
                *cursor = log.next_seq();
                // Records that the store lost would otherwise be counted for ever.
                *self.ready = 0;
                *self.ready_bytes = 0;
                Picked {
                    all: true,
                    load: None,
                }
            }
        }
    }

    /// Offers one message and books the answer. `false`: no more for now.
    fn consider<'a>(
        &mut self,
        record: RecordRef<'a>,
        body: Option<&'a SharedBody>,
        again: Option<Again>,
    ) -> bool
    where
        F: FnMut(Offer<'a>) -> Pick,
    {
        let seq = record.seq();
        let was_returned = again.is_some_and(|again| again.was_returned);
        let turn = again.and_then(|again| again.turn);
        let verdict = (self.offer)(Offer {
            delivery: Delivery {
                seq,
                redelivered: was_returned || seq < self.delivered_before,
                counts: counts_of(self.counts, seq),
                stream_offset: None,
                record,
                body,
            },
            place: Place::new(seq, turn),
        });
        let (bytes, expiry_ms) = (record.body_len() as u64, record.expiry_ms());
        match verdict {
            Pick::Stop => return false,
            Pick::Taken if expiry_ms != 0 => self.expiry.unmark(seq, expiry_ms),
            Pick::Taken => {}
            Pick::Held => {
                self.held.insert(seq);
                let entry = Blocked {
                    bytes,
                    was_returned,
                    turn,
                    expiry_ms,
                };
                self.blocked.insert(seq, entry);
                *self.blocked_bytes += bytes;
                if expiry_ms != 0 {
                    // The mark that it may have brought along is done with.
                    self.expiry.unmark(seq, expiry_ms);
                    self.expiry.mark(seq, expiry_ms, bytes);
                }
            }
        }
        *self.ready = self.ready.saturating_sub(1);
        *self.ready_bytes = self.ready_bytes.saturating_sub(bytes);
        true
    }
}
