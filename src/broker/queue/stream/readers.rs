//! The consumers of a stream: each reads on its own, from where it is.
//!
//! A reader moves only in visits of its own connection: when it begins, when deliveries are settled, when its outbox
//! has room, and when it is woken because what it waited for has come. So its progress is behind a lock of its own, and
//! the lock of the stream is held only to look for the next piece.
//!
//! Lock order: progress -> stream, progress -> outbox.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

use super::ahead::AHEAD_BYTES_MIN;
use super::filter::Filter;
use super::start::StartAt;
use crate::broker::delivery::{ConsumerId, DeliverySink};
use crate::message::Seq;

/// What a consumer of a stream asks for.
pub struct ReaderSpec {
    /// Where its deliveries go.
    pub sink: Arc<dyn DeliverySink>,
    /// Unacknowledged deliveries that it may hold, at least 1.
    pub prefetch: u32,
    /// Where it begins. With `track` this counts only while nothing is known of it.
    pub start: StartAt,
    /// What it wants; `None` for everything.
    pub filter: Option<Filter>,
    /// The name under which its progress is remembered.
    pub track: Option<Arc<str>>,
}

/// How far a reader has come.
#[derive(Debug)]
pub(super) struct Progress {
    /// consume-ok is out.
    pub(super) begun: bool,
    /// The first message that it has not seen.
    pub(super) next: Seq,
    /// The piece that it read last, by its first seq, and the place of `next` in it.
    pub(super) place: Option<(Seq, usize)>,
    /// So much is read ahead for it.
    pub(super) ahead_bytes: usize,
    /// Messages that arrived earlier are passed over.
    pub(super) since_ms: u64,
    /// Deliveries that are not settled, if its progress is remembered.
    outstanding: BTreeSet<Seq>,
}

/// A consumer of a stream.
pub(super) struct Reader {
    pub(super) id: ConsumerId,
    pub(super) sink: Arc<dyn DeliverySink>,
    pub(super) filter: Option<Filter>,
    pub(super) track: Option<Arc<str>>,
    prefetch: u32,
    in_flight: AtomicU32,
    pub(super) progress: Mutex<Progress>,
}

impl Reader {
    /// Deliveries that it may still be given.
    pub(super) fn window(&self) -> usize {
        let window = self.prefetch.saturating_sub(self.in_flight());
        window as usize
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// The first delivery that is not settled, if its progress is remembered.
    pub(super) fn first_unsettled(&self) -> Option<Seq> {
        self.progress.lock().outstanding.first().copied()
    }

    /// Messages were handed out.
    pub(super) fn delivered(&self, progress: &mut Progress, seqs: impl Iterator<Item = Seq>) {
        let mut count = 0;
        for seq in seqs {
            count += 1;
            if self.track.is_some() {
                progress.outstanding.insert(seq);
            }
        }
        self.in_flight.fetch_add(count, Ordering::Relaxed);
    }

    /// Deliveries are settled. Answers where its tag is to go on, if that is remembered: with the first message that
    /// is not settled.
    pub(super) fn settled(&self, progress: &mut Progress, seqs: &[Seq]) -> Option<Seq> {
        let count = u32::try_from(seqs.len()).unwrap_or(u32::MAX);
        let before = self.in_flight();
        self.in_flight
            .store(before.saturating_sub(count), Ordering::Relaxed);
        self.track.as_ref()?;
        for seq in seqs {
            progress.outstanding.remove(seq);
        }
        Some(
            progress
                .outstanding
                .first()
                .copied()
                .unwrap_or(progress.next),
        )
    }
}

/// All readers of a stream.
#[derive(Default)]
pub(super) struct Readers {
    slots: Vec<Option<Arc<Reader>>>,
    generation: u32,
}

impl Readers {
    /// Adds a reader that begins with `next`, and passes over what arrived before `since_ms`.
    pub(super) fn add(&mut self, spec: ReaderSpec, next: Seq, since_ms: u64) -> ConsumerId {
        self.generation = self.generation.wrapping_add(1);
        let free = self.slots.iter().position(Option::is_none);
        let slot = free.unwrap_or(self.slots.len());
        let id = ConsumerId {
            slot: slot as u32,
            generation: self.generation,
        };
        let progress = Progress {
            begun: false,
            next,
            place: None,
            ahead_bytes: AHEAD_BYTES_MIN,
            since_ms,
            outstanding: BTreeSet::new(),
        };
        let reader = Arc::new(Reader {
            id,
            sink: spec.sink,
            filter: spec.filter,
            track: spec.track,
            prefetch: spec.prefetch,
            in_flight: AtomicU32::new(0),
            progress: Mutex::new(progress),
        });
        match free {
            Some(slot) => self.slots[slot] = Some(reader),
            None => self.slots.push(Some(reader)),
        }
        id
    }

    /// The reader with this id, if it is still there.
    pub(super) fn get(&self, id: ConsumerId) -> Option<&Arc<Reader>> {
        let reader = self.slots.get(id.slot as usize)?.as_ref()?;
        (reader.id == id).then_some(reader)
    }

    /// Takes a reader out.
    pub(super) fn remove(&mut self, id: ConsumerId) -> Option<Arc<Reader>> {
        self.get(id)?;
        self.slots[id.slot as usize].take()
    }

    /// Takes all out.
    pub(super) fn take_all(&mut self) -> Vec<Arc<Reader>> {
        std::mem::take(&mut self.slots)
            .into_iter()
            .flatten()
            .collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Reader>> {
        self.slots.iter().flatten()
    }
}
