//! The deliveries of one channel: tags, what is unacknowledged, and the window that all its consumers share.
//!
//! Tags count from 1 over get and consume, acknowledged or not (semantics row 17).

use std::sync::Arc;

use super::Stalled;
use super::unacked::{Unacked, UnackedTable};
use crate::broker::delivery::ConsumerId;
use crate::broker::queue::Queue;
use crate::message::Seq;
use crate::message::ranges::RangeSet;

/// Set in `source`: acknowledged in a transaction that is not committed.
const HELD: u32 = 1 << 31;

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
    unacked: UnackedTable,
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
        self.unacked.skip()
    }

    /// The tag of the next delivery, which waits for its acknowledgement.
    pub fn next_tag(&mut self, source: u32, seq: Seq) -> u64 {
        self.outstanding += 1;
        if let Some(Some(entry)) = self.sources.get_mut(source as usize) {
            entry.outstanding += 1;
        }
        self.unacked.push(Unacked { seq, source })
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
            self.take_upto(shares, self.unacked.last());
            return Ok(());
        }
        let was_late = self.late.as_mut().is_some_and(|late| late.remove(tag));
        if multiple {
            if self.unacked.get(tag).is_none() && !was_late {
                return Err(UnknownTag);
            }
            self.take_upto(shares, tag);
            return Ok(());
        }
        match self.unacked.take(tag) {
            Some(entry) => share(shares, &mut self.sources, &mut self.outstanding, entry),
            None if was_late => {}
            None => return Err(UnknownTag),
        }
        Ok(())
    }

    fn take_upto(&mut self, shares: &mut Vec<(u32, Vec<Seq>)>, tag: u64) {
        let Self {
            unacked,
            sources,
            outstanding,
            ..
        } = self;
        unacked.take_upto(tag, |entry| share(shares, sources, outstanding, entry));
    }

    /// Sets deliveries aside for a transaction: they are not outstanding for further acknowledgements, but come back
    /// with [`Self::take_all`] or [`Self::release_held`]. Answers their tags.
    ///
    /// # Errors
    /// As for [`Self::take`].
    pub fn hold(&mut self, tag: u64, multiple: bool) -> Result<Vec<u64>, UnknownTag> {
        let is_outstanding = |entry: &Unacked| entry.source & HELD == 0;
        if !(self.unacked.get(tag).is_some_and(is_outstanding) || tag == 0 && multiple) {
            return Err(UnknownTag);
        }
        let tags = match (tag, multiple) {
            (tag, false) => vec![tag],
            (tag, true) => {
                let last = if tag == 0 { self.unacked.last() } else { tag };
                let upto = self.unacked.iter().take_while(|(tag, _)| *tag <= last);
                let outstanding = upto.filter(|(_, entry)| is_outstanding(entry));
                outstanding.map(|(tag, _)| tag).collect()
            }
        };
        for tag in &tags {
            if let Some(entry) = self.unacked.get_mut(*tag) {
                entry.source |= HELD;
            }
        }
        Ok(tags)
    }

    /// The transaction was rolled back: the deliveries are outstanding again.
    pub fn release_held(&mut self, tags: &[u64]) {
        for tag in tags {
            if let Some(entry) = self.unacked.get_mut(*tag) {
                entry.source &= !HELD;
            }
        }
    }

    /// The transaction is committed: takes what [`Self::hold`] set aside.
    pub fn take_held(&mut self, tags: &[u64]) -> Vec<Share> {
        let mut shares = Vec::new();
        for tag in tags {
            if let Some(entry) = self.unacked.take(*tag) {
                share(&mut shares, &mut self.sources, &mut self.outstanding, entry);
            }
        }
        self.finish(shares)
    }

    /// Takes back what a source has not acknowledged: it was held for too long. The client may still settle it, to no
    /// effect.
    pub fn take_late(&mut self, source: u32) -> Vec<Share> {
        let of_source = |(_, entry): &(u64, &Unacked)| entry.source & !HELD == source;
        let tags = self.unacked.iter().filter(of_source).map(|(tag, _)| tag);
        let tags: Vec<u64> = tags.collect();
        let late = self.late.get_or_insert_default();
        tags.iter().for_each(|tag| {
            late.insert(*tag);
        });
        self.take_held(&tags)
    }

    /// Takes everything that is unacknowledged: the channel closes, or the client recovers.
    pub fn take_all(&mut self) -> Vec<Share> {
        let mut shares = Vec::new();
        self.take_upto(&mut shares, self.unacked.last());
        self.finish(shares)
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
    let number = entry.source & !HELD;
    *outstanding -= 1;
    if let Some(Some(source)) = sources.get_mut(number as usize) {
        source.outstanding -= 1;
    }
    match shares.iter_mut().rev().find(|(known, _)| *known == number) {
        Some((_, seqs)) => seqs.push(entry.seq),
        None => shares.push((number, vec![entry.seq])),
    }
}
