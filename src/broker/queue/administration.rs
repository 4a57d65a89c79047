//! What administration does with the messages of a queue: takes some out, and keeps consumers from getting any.
//!
//! All of it works on one visit's share; the caller repeats it.

use std::sync::Arc;

use super::dead::Copied;
use super::log::Lookup;
use super::state::{Effects, First, Got, State, VISIT_BYTES_MAX, VISIT_MESSAGES_MAX};
use super::{Queue, lane};
use crate::message::Seq;
use crate::message::record::{RecordRef, SharedBody};
use crate::store::Visit;

/// How far a visit came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// As far as it was asked to, or there is nothing more.
    Done,
    /// A visit does no more at once: ask again in a further one.
    Share,
    /// What comes next is only in the store: wait with [`Queue::when_loaded`] and ask again.
    Loading,
}

/// What became of a message that was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It is gone.
    Removed,
    /// It is there, but it does not wait for a consumer: whoever holds it decides.
    NotReady,
    /// There was none.
    Missing,
    /// It is only in the store: wait with [`Queue::when_loaded`] and ask again.
    Loading,
}

/// A ready message on its way to another place: copied, and held until it is there.
#[derive(Debug)]
pub struct Leaving {
    pub(super) copied: Copied,
    was_delivered: bool,
    /// It had taken its id.
    had_id: bool,
}

impl Leaving {
    /// The message as it stood in the queue.
    pub fn record(&self) -> Option<RecordRef<'_>> {
        self.copied.record()
    }

    /// Its body when that is not part of the record.
    pub const fn body(&self) -> Option<&SharedBody> {
        self.copied.body.as_ref()
    }
}

impl Queue {
    /// Whether consumers get nothing at the moment.
    pub fn is_paused(&self) -> bool {
        match self.stream() {
            Some(stream) => stream.is_paused(),
            None => self.inner.lock().state.is_paused,
        }
    }

    /// Keeps consumers and basic.get from getting anything, or no more. What is delivered stays delivered, publishers
    /// go on, messages expire. True: call [`Self::pump`] in further visits.
    pub(in crate::broker) fn set_paused(self: &Arc<Self>, visit: &Visit<'_>, paused: bool) -> bool {
        if let Some(stream) = self.stream() {
            stream.set_paused(paused);
            return false;
        }
        let mut inner = self.inner.lock();
        inner.state.is_paused = paused;
        self.work(&mut inner, visit)
    }

    /// Goes on with whatever there is to do, in a visit of its own.
    pub(in crate::broker) fn pump_soon(self: &Arc<Self>, visit: &Visit<'_>) {
        self.call_at(visit.now_ms());
    }

    /// The queue was paused when the broker stopped, or not. There are no consumers yet.
    pub(in crate::broker) fn recover_pause(&self, paused: bool) {
        match self.stream() {
            Some(stream) => stream.set_paused(paused),
            None => self.inner.lock().state.is_paused = paused,
        }
    }

    /// Drops up to `count` ready messages, in the order in which they would be delivered, and answers how many
    /// there were. Those behind a message of their group that is with a consumer are passed over. A stream keeps its
    /// messages.
    pub fn purge_first(self: &Arc<Self>, visit: &Visit<'_>, count: u64) -> (u64, Progress) {
        if self.is_stream() {
            return (0, Progress::Done);
        }
        let mut inner = self.inner.lock();
        self.open(&mut inner);
        let mut effects = Effects::default();
        let share = count.min(VISIT_MESSAGES_MAX as u64);
        let mut purged = 0;
        let mut progress = Progress::Share;
        while purged < share {
            match inner
                .state
                .get(visit.now_ms(), true, &mut effects, |_, _| ())
            {
                Got::Message(()) => purged += 1,
                Got::Empty => progress = Progress::Done,
                Got::Cold => progress = Progress::Loading,
            }
            if progress != Progress::Share {
                break;
            }
        }
        if purged == count {
            progress = Progress::Done;
        }
        self.apply(&mut inner, visit, effects);
        self.report_memory(&mut inner);
        (purged, progress)
    }

    /// Removes the ready message with this seq, wherever it stands. It does not die: it is just gone.
    pub fn remove(self: &Arc<Self>, visit: &Visit<'_>, seq: Seq) -> Removal {
        if self.is_stream() {
            return Removal::Missing;
        }
        let mut inner = self.inner.lock();
        let mut effects = Effects::default();
        let removal = inner.state.remove(seq, &mut effects);
        self.apply(&mut inner, visit, effects);
        self.report_memory(&mut inner);
        removal
    }

    /// Takes up to `count` ready messages out, in the order in which they would be delivered, as far as a visit goes:
    /// they are neither ready nor gone before [`Self::have_left`] or [`Self::stay`] says what became of them, in the
    /// same visit.
    pub(in crate::broker) fn take_out(
        self: &Arc<Self>,
        visit: &Visit<'_>,
        count: u64,
    ) -> (Vec<Leaving>, Progress) {
        let mut inner = self.inner.lock();
        self.open(&mut inner);
        let mut effects = Effects::default();
        let mut leaving: Vec<Leaving> = Vec::new();
        let mut bytes = 0;
        let share = count.min(VISIT_MESSAGES_MAX as u64) as usize;
        let mut progress = Progress::Share;
        while progress == Progress::Share && leaving.len() < share && bytes < VISIT_BYTES_MAX {
            match inner.state.take_first(visit.now_ms(), &mut effects) {
                Got::Message(message) => {
                    bytes += message.copied.bytes();
                    leaving.push(message);
                }
                Got::Empty => progress = Progress::Done,
                Got::Cold => progress = Progress::Loading,
            }
        }
        if leaving.len() as u64 == count {
            progress = Progress::Done;
        }
        self.apply(&mut inner, visit, effects);
        (leaving, progress)
    }

    /// Messages that were taken out are where they go.
    pub(in crate::broker) fn have_left(self: &Arc<Self>, visit: &Visit<'_>, left: &[Leaving]) {
        self.depart(visit, left.iter().map(|leaving| &leaving.copied));
        let mut inner = self.inner.lock();
        let mut effects = Effects::default();
        for leaving in left {
            inner.state.leave_group(leaving.copied.seq, &mut effects);
        }
        self.apply(&mut inner, visit, effects);
        let more = self.work(&mut inner, visit);
        drop(inner);
        if more {
            self.pump_soon(visit);
        }
    }

    /// Messages that were taken out are ready again, where they were.
    pub(in crate::broker) fn stay(self: &Arc<Self>, visit: &Visit<'_>, staying: &[Leaving]) {
        let mut inner = self.inner.lock();
        if inner.deleted {
            return;
        }
        let mut effects = Effects::default();
        // The first one goes back last: where the order of return counts it must come out first.
        for leaving in staying.iter().rev() {
            inner.state.put_back(leaving, &mut effects);
        }
        self.apply(&mut inner, visit, effects);
        let more = self.work(&mut inner, visit);
        drop(inner);
        if more {
            self.pump_soon(visit);
        }
    }
}

impl State {
    fn remove(&mut self, seq: Seq, effects: &mut Effects) -> Removal {
        let number = lane::lane_of(seq);
        if !self.lanes.iter().any(|lane| lane.number() == number) {
            return Removal::Missing;
        }
        let lane = self.lane_mut(seq);
        let bytes = match lane.log.lookup(seq) {
            Lookup::Found(record, _) => record.body_len() as u64,
            Lookup::Cold => {
                effects.load_at(lane, seq);
                return Removal::Loading;
            }
            Lookup::Gone => return Removal::Missing,
        };
        if !self.is_ready(seq) {
            return Removal::NotReady;
        }
        self.lane_mut(seq).take(seq, bytes);
        self.gone(seq, effects);
        self.forget_if_empty();
        Removal::Removed
    }

    /// Takes the message out that goes next.
    fn take_first(&mut self, now_ms: u64, effects: &mut Effects) -> Got<Leaving> {
        let (seq, was_delivered) = loop {
            match self.first_ready(now_ms, effects) {
                First::At(seq, was_delivered) => break (seq, was_delivered),
                First::Again => {}
                First::Cold => return Got::Cold,
                First::None => return Got::Empty,
            }
        };
        let lane = self.lane_mut(seq);
        let Lookup::Found(record, body) = lane.log.lookup(seq) else {
            return Got::Empty;
        };
        let bytes = record.body_len() as u64;
        let copied = Copied::new(record, body);
        lane.take(seq, bytes);
        lane.hold(seq);
        // Free before it arrives where it goes, which may be here.
        let had_id = self.free_id_of_leaving(seq, effects);
        Got::Message(Leaving {
            copied,
            was_delivered,
            had_id,
        })
    }

    fn put_back(&mut self, leaving: &Leaving, effects: &mut Effects) {
        let (seq, was_delivered) = (leaving.copied.seq, leaving.was_delivered);
        if let Some(record) = leaving.record().filter(|_| leaving.had_id) {
            self.take_id_again(record, effects);
        }
        let bytes = leaving
            .record()
            .map_or(0, |record| record.body_len() as u64);
        let lane = self.lane_mut(seq);
        lane.held.remove(seq);
        lane.put_back(seq, was_delivered, bytes);
        self.back_in_group(seq);
    }
}
