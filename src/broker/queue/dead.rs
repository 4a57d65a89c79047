//! How messages that died leave the queue: they are taken out in the order of their deaths, arrive where they go, and
//! are gone from here in the same visit, so that a crash sees either both or neither (design-notes C4, M8).

use std::sync::Arc;

use super::dying::REFUSED_MS;
use super::log::Lookup;
use super::state::{Effects, VISIT_BYTES_MAX, VISIT_MESSAGES_MAX};
use super::{DeadLetter, DeathReason, Inner, Queue};
use crate::message::Seq;
use crate::message::record::{RecordRef, SharedBody};
use crate::store::Visit;

/// A message, copied out of its queue.
#[derive(Debug, Clone)]
pub struct Copied {
    pub(super) seq: Seq,
    record: Vec<u8>,
    /// Its body when that is not part of the record.
    pub body: Option<SharedBody>,
}

impl Copied {
    pub(super) fn new(record: RecordRef<'_>, body: Option<&SharedBody>) -> Self {
        Self {
            seq: record.seq(),
            record: record.bytes().to_vec(),
            body: body.cloned(),
        }
    }

    /// The message as it stood in the queue.
    pub fn record(&self) -> Option<RecordRef<'_>> {
        RecordRef::parse(&self.record)
    }

    pub(super) fn bytes(&self) -> usize {
        self.record.len() + self.body.as_ref().map_or(0, |body| body.bytes.len())
    }
}

/// A message that died.
#[derive(Debug, Clone)]
pub struct Dead {
    /// It.
    pub message: Copied,
    /// Why.
    pub reason: DeathReason,
}

/// One visit's share of a queue's dead.
#[derive(Debug)]
pub struct DeadBatch {
    /// Where they go; `None` when that was taken back meanwhile.
    pub dead_letter: Option<DeadLetter>,
    /// In the order of their deaths.
    pub dead: Vec<Dead>,
}

impl Queue {
    /// Somebody has to dead-letter what died here: one at a time, so that the order stays.
    pub(super) fn ask_for_dead_lettering(self: &Arc<Self>, inner: &mut Inner) {
        if !inner.dead_lettering {
            inner.dead_lettering = true;
            self.services.dead_letters.send(self);
        }
    }

    /// Takes out messages that died. `None`: that was all for now, and who asks next time asks anew.
    pub fn take_dead(self: &Arc<Self>, visit: &Visit<'_>) -> Option<DeadBatch> {
        let mut inner = self.inner.lock();
        let mut effects = Effects::default();
        let mut dead = Vec::new();
        let mut bytes = 0;
        let mut cold = None;
        while dead.len() < VISIT_MESSAGES_MAX
            && let Some((seq, reason)) = inner.state.dying.first()
        {
            let lane = inner.state.lane_mut(seq);
            match lane.log.lookup(seq) {
                Lookup::Found(record, body) => {
                    let cost = record.bytes().len() + body.map_or(0, |body| body.bytes.len());
                    if !dead.is_empty() && bytes + cost > VISIT_BYTES_MAX {
                        break;
                    }
                    bytes += cost;
                    let message = Copied::new(record, body);
                    let reason = match record.expiry_ms() {
                        REFUSED_MS => DeathReason::MaxLen,
                        _ => reason,
                    };
                    dead.push(Dead { message, reason });
                }
                Lookup::Cold => {
                    cold = Some(seq);
                    break;
                }
                Lookup::Gone => {}
            }
            inner.state.dying.pop();
            // Free before it arrives where it goes, which may be here.
            if let Some(record) = dead.last().and_then(|dead| dead.message.record()) {
                inner.state.free_id_of_dead(record, &mut effects);
            }
        }
        self.apply(&mut inner, visit, effects);
        if dead.is_empty() {
            // What has to be loaded asks again when it is there.
            inner.dead_lettering = false;
            if let Some(from) = cold {
                self.load(&mut inner, from);
            }
            return None;
        }
        Some(DeadBatch {
            dead_letter: inner.state.settings.dead_letter.clone(),
            dead,
        })
    }

    /// The dead have arrived where they go, in this visit.
    pub fn dead_lettered(self: &Arc<Self>, visit: &Visit<'_>, batch: &DeadBatch) {
        self.depart(visit, batch.dead.iter().map(|dead| &dead.message));
    }

    /// Messages that are neither ready nor unacknowledged have arrived somewhere else, in this visit.
    pub(super) fn depart<'m>(
        self: &Arc<Self>,
        visit: &Visit<'_>,
        messages: impl Iterator<Item = &'m Copied>,
    ) {
        let mut inner = self.inner.lock();
        if inner.deleted {
            return;
        }
        let mut effects = Effects::default();
        for message in messages {
            let record = message.record();
            let journaled =
                self.spec.durable && record.is_some_and(|record| record.is_persistent());
            if journaled {
                // Epochs before this one may still have to write it.
                let pending = &mut inner.state.lane_mut(message.seq).pending;
                pending.moved(visit.epoch(), message.seq, || {
                    visit.mark_dirty(self.clone())
                });
            } else {
                inner.state.left(message.seq, &mut effects);
            }
        }
        self.apply(&mut inner, visit, effects);
        self.report_memory(&mut inner);
    }
}
