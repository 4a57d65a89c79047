//! The deliveries of one channel: tags, what is unacknowledged, and the window that all its consumers share.
//!
//! Tags count from 1 over get and consume, acknowledged or not (semantics row 17). Unacknowledged deliveries are a
//! deque indexed by `tag - base`: 16 bytes each.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Stalled;
use crate::broker::delivery::ConsumerId;
use crate::broker::queue::Queue;
use crate::message::Seq;
use crate::message::ranges::RangeSet;

/// No delivery waits under this tag.
const SETTLED: u32 = u32::MAX;

/// Set in `source`: acknowledged in a transaction that is not committed.
const HELD: u32 = 1 << 31;

#[derive(Debug, Clone, Copy)]
struct Unacked {
    seq: Seq,
    source: u32,
}

// What docs/limits.md promises of each unacknowledged delivery.
const _: () = assert!(size_of::<Unacked>() <= 16);

/// Where deliveries come from: a consumer, or basic.get on a queue.
#[derive(Debug, Clone)]
pub struct Source {
    /// The queue.
    pub queue: Arc<Queue>,
    /// The consumer there, [`ConsumerId::NONE`] for basic.get.
    pub consumer: ConsumerId,
}

struct SourceEntry {
    source: Source,
    outstanding: u32,
    /// The consumer was cancelled: the entry goes with its last unacknowledged delivery.
    ended: bool,
}

/// Unacknowledged messages of one source, oldest first.
#[derive(Debug)]
pub struct Share {
    /// Where they go back to.
    pub source: Source,
    /// Which they are.
    pub seqs: Vec<Seq>,
}

/// No unacknowledged delivery has this tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownTag;

/// Tags and unacknowledged deliveries of a channel.
#[derive(Default)]
pub struct Deliveries {
    /// Tag of the front of `unacked`, less one.
    base: u64,
    unacked: VecDeque<Unacked>,
    outstanding: u32,
    sources: Vec<Option<SourceEntry>>,
    /// All places below in `sources` are taken.
    taken_below: u32,
    /// basic.qos global: unacknowledged deliveries that all consumers together may hold, 0 for no limit.
    window: u32,
    waiting: Vec<Stalled>,
    /// Tags that were taken back from consumers which held them for too long: to settle them has no effect and is no
    /// error.
    late: Option<Box<RangeSet>>,
}

impl Deliveries {
    /// Unacknowledged deliveries.
    pub const fn outstanding(&self) -> u32 {
        self.outstanding
    }

    /// Registers a source and answers its number.
    pub fn add_source(&mut self, source: Source) -> u32 {
        let entry = Some(SourceEntry {
            source,
            outstanding: 0,
            ended: false,
        });
        let from = self.taken_below as usize;
        let number = match self.sources[from..].iter().position(Option::is_none) {
            Some(after) => {
                self.sources[from + after] = entry;
                (from + after) as u32
            }
            None => {
                self.sources.push(entry);
                (self.sources.len() - 1) as u32
            }
        };
        self.taken_below = number + 1;
        number
    }

    /// The source for basic.get on `queue`; it is forgotten with its last unacknowledged delivery.
    pub fn get_source(&mut self, queue: &Arc<Queue>) -> u32 {
        let known = self.sources.iter().position(|slot| {
            slot.as_ref().is_some_and(|entry| {
                entry.source.consumer == ConsumerId::NONE && Arc::ptr_eq(&entry.source.queue, queue)
            })
        });
        if let Some(known) = known {
            return known as u32;
        }
        let number = self.add_source(Source {
            queue: queue.clone(),
            consumer: ConsumerId::NONE,
        });
        if let Some(Some(entry)) = self.sources.get_mut(number as usize) {
            entry.ended = true;
        }
        number
    }

    /// Sets the consumer of a source that was registered before the queue gave it one.
    pub fn set_consumer(&mut self, number: u32, consumer: ConsumerId) {
        if let Some(Some(entry)) = self.sources.get_mut(number as usize) {
            entry.source.consumer = consumer;
        }
    }

    /// The source is done; it is forgotten with its last unacknowledged delivery.
    pub fn end_source(&mut self, number: u32) {
        if let Some(slot) = self.sources.get_mut(number as usize)
            && let Some(entry) = slot
        {
            entry.ended = true;
            if entry.outstanding == 0 {
                *slot = None;
                self.taken_below = self.taken_below.min(number);
            }
        }
    }

    /// Sets the shared window (basic.qos global). Answers the consumers that may go on.
    pub fn set_window(&mut self, window: u32) -> Vec<Stalled> {
        self.window = window;
        self.take_waiting()
    }

    /// How many more deliveries the shared window allows.
    pub const fn window_left(&self) -> usize {
        match self.window {
            0 => usize::MAX,
            window => window.saturating_sub(self.outstanding) as usize,
        }
    }

    /// A consumer waits for the shared window.
    pub fn wait_for_window(&mut self, stalled: Stalled) {
        self.waiting.push(stalled);
    }

    /// Consumers that may go on because the shared window has opened.
    pub fn take_waiting(&mut self) -> Vec<Stalled> {
        if self.waiting.is_empty() || self.window_left() == 0 {
            Vec::new()
        } else {
            std::mem::take(&mut self.waiting)
        }
    }

    /// The tag of the next delivery, which needs no acknowledgement.
    pub fn next_tag_no_ack(&mut self) -> u64 {
        if self.unacked.is_empty() {
            self.base += 1;
            return self.base;
        }
        self.unacked.push_back(Unacked {
            seq: 0,
            source: SETTLED,
        });
        self.base + self.unacked.len() as u64
    }

    /// The tag of the next delivery, which waits for its acknowledgement.
    pub fn next_tag(&mut self, source: u32, seq: Seq) -> u64 {
        self.unacked.push_back(Unacked { seq, source });
        self.outstanding += 1;
        if let Some(Some(entry)) = self.sources.get_mut(source as usize) {
            entry.outstanding += 1;
        }
        self.base + self.unacked.len() as u64
    }

    /// Takes the deliveries that an ack, nack or reject names, grouped by source, each oldest first.
    ///
    /// # Errors
    /// `tag` is not outstanding, except 0 with `multiple`, which means all (semantics rows 15 and 16).
    pub fn take(&mut self, tag: u64, multiple: bool) -> Result<Vec<Share>, UnknownTag> {
        let mut shares = Vec::new();
        self.take_into(&mut shares, tag, multiple)?;
        Ok(self.finish(shares))
    }

    /// Takes the deliveries that several acks name, as tag and `multiple`, grouped by source and in the order of the
    /// queue. Ends at the first tag that is not outstanding, which is answered too.
    pub fn take_each(
        &mut self,
        mut acks: impl Iterator<Item = (u64, bool)>,
    ) -> (Vec<Share>, Option<u64>) {
        let mut shares = Vec::new();
        let unknown = acks.find(|(tag, multiple)| {
            let taken = self.take_into(&mut shares, *tag, *multiple);
            taken.is_err()
        });
        // What lies together is settled together: one look into a chunk after the other, not to and fro.
        for (_, seqs) in &mut shares {
            seqs.sort_unstable();
        }
        (self.finish(shares), unknown.map(|(tag, _)| tag))
    }

    fn take_into(
        &mut self,
        shares: &mut Vec<(u32, Vec<Seq>)>,
        tag: u64,
        multiple: bool,
    ) -> Result<(), UnknownTag> {
        if multiple && tag == 0 {
            self.take_front(shares, self.unacked.len());
            return Ok(());
        }
        let was_late = self.late.as_mut().is_some_and(|late| late.remove(tag));
        let Some(index) = tag.checked_sub(self.base + 1) else {
            return if was_late { Ok(()) } else { Err(UnknownTag) };
        };
        let index = index as usize;
        match self.unacked.get(index) {
            Some(entry) if entry.source != SETTLED || was_late => {}
            _ => return Err(UnknownTag),
        }
        if multiple {
            self.take_front(shares, index + 1);
        } else {
            let entry = std::mem::replace(
                &mut self.unacked[index],
                Unacked {
                    seq: 0,
                    source: SETTLED,
                },
            );
            share(shares, &mut self.sources, &mut self.outstanding, entry);
            self.trim();
        }
        Ok(())
    }

    fn take_front(&mut self, shares: &mut Vec<(u32, Vec<Seq>)>, count: usize) {
        self.base += count as u64;
        for entry in self.unacked.drain(..count) {
            share(shares, &mut self.sources, &mut self.outstanding, entry);
        }
        self.trim();
    }

    /// Sets deliveries aside for a transaction: they are not outstanding for further acknowledgements, but come back
    /// with [`Self::take_all`] or [`Self::release_held`]. Answers their tags.
    ///
    /// # Errors
    /// As for [`Self::take`].
    pub fn hold(&mut self, tag: u64, multiple: bool) -> Result<Vec<u64>, UnknownTag> {
        let last = match (tag, multiple) {
            (0, true) => self.base + self.unacked.len() as u64,
            _ => tag,
        };
        let first = if multiple { self.base + 1 } else { last };
        let is_outstanding =
            |this: &Self, tag: u64| this.at(tag).is_some_and(|entry| entry.source & HELD == 0);
        if !(is_outstanding(self, tag) || tag == 0 && multiple) {
            return Err(UnknownTag);
        }
        let tags: Vec<u64> = (first..=last)
            .filter(|tag| is_outstanding(self, *tag))
            .collect();
        for tag in &tags {
            self.unacked[(tag - self.base - 1) as usize].source |= HELD;
        }
        Ok(tags)
    }

    /// The transaction was rolled back: the deliveries are outstanding again.
    pub fn release_held(&mut self, tags: &[u64]) {
        for tag in tags {
            if self.at(*tag).is_some_and(|entry| entry.source != SETTLED) {
                self.unacked[(tag - self.base - 1) as usize].source &= !HELD;
            }
        }
    }

    /// The transaction is committed: takes what [`Self::hold`] set aside.
    pub fn take_held(&mut self, tags: &[u64]) -> Vec<Share> {
        self.release_held(tags);
        let mut shares = Vec::new();
        for tag in tags {
            if self.at(*tag).is_some_and(|entry| entry.source != SETTLED) {
                let index = (tag - self.base - 1) as usize;
                let entry = std::mem::replace(
                    &mut self.unacked[index],
                    Unacked {
                        seq: 0,
                        source: SETTLED,
                    },
                );
                share(&mut shares, &mut self.sources, &mut self.outstanding, entry);
            }
        }
        self.trim();
        self.finish(shares)
    }

    fn at(&self, tag: u64) -> Option<&Unacked> {
        self.unacked
            .get(usize::try_from(tag.checked_sub(self.base + 1)?).ok()?)
    }

    /// Takes back what a source has not acknowledged: it was held for too long. The client may still settle it, to no
    /// effect.
    pub fn take_late(&mut self, source: u32) -> Vec<Share> {
        let late = self.late.get_or_insert_default();
        let mut shares = Vec::new();
        for (index, unacked) in self.unacked.iter_mut().enumerate() {
            if unacked.source != SETTLED && unacked.source & !HELD == source {
                late.insert(self.base + 1 + index as u64);
                let mut entry = std::mem::replace(
                    unacked,
                    Unacked {
                        seq: 0,
                        source: SETTLED,
                    },
                );
                entry.source &= !HELD;
                share(&mut shares, &mut self.sources, &mut self.outstanding, entry);
            }
        }
        self.trim();
        self.finish(shares)
    }

    /// Takes everything that is unacknowledged: the channel closes, or the client recovers.
    pub fn take_all(&mut self) -> Vec<Share> {
        let mut shares = Vec::new();
        self.base += self.unacked.len() as u64;
        for mut entry in std::mem::take(&mut self.unacked) {
            if entry.source != SETTLED {
                entry.source &= !HELD;
            }
            share(&mut shares, &mut self.sources, &mut self.outstanding, entry);
        }
        self.finish(shares)
    }

    fn trim(&mut self) {
        while self
            .unacked
            .front()
            .is_some_and(|entry| entry.source == SETTLED)
        {
            self.unacked.pop_front();
            self.base += 1;
        }
        if self.unacked.is_empty() && self.unacked.capacity() > 1024 {
            self.unacked = VecDeque::new();
        }
    }

    fn finish(&mut self, shares: Vec<(u32, Vec<Seq>)>) -> Vec<Share> {
        let mut finished = Vec::with_capacity(shares.len());
        for (number, seqs) in shares {
            let Some(slot) = self.sources.get_mut(number as usize) else {
                continue;
            };
            let Some(entry) = slot else { continue };
            finished.push(Share {
                source: entry.source.clone(),
                seqs,
            });
            if entry.ended && entry.outstanding == 0 {
                *slot = None;
                self.taken_below = self.taken_below.min(number);
            }
        }
        finished
    }
}

fn share(
    shares: &mut Vec<(u32, Vec<Seq>)>,
    sources: &mut [Option<SourceEntry>],
    outstanding: &mut u32,
    entry: Unacked,
) {
    if entry.source == SETTLED {
        return;
    }
    *outstanding -= 1;
    if let Some(Some(source)) = sources.get_mut(entry.source as usize) {
        source.outstanding -= 1;
    }
    match shares
        .iter_mut()
        .rev()
        .find(|(number, _)| *number == entry.source)
    {
        Some((_, seqs)) => seqs.push(entry.seq),
        None => shares.push((entry.source, vec![entry.seq])),
    }
}
