//! A queue's records by seq: resident chunks and the cold stretches between them.
//!
//! ```text
//! first live                                                                next_seq
//!    | resident chunk | cold: only in the store | resident | cold | open chunk |
//! ```
//!
//! Segments are disjoint and rising; seqs between segments are gone. A cold stretch costs the same however many
//! records it covers: the store has the directory.

use std::collections::VecDeque;
use std::ops::Range;

use super::chunk::Chunk;
use super::cold::Cold;
use super::loaded;
use crate::message::record::{Body, NewMessage, RecordRef, SharedBody};
use crate::message::run::Run;
use crate::message::{Epoch, Seq};

#[derive(Debug)]
enum Segment {
    Resident(Chunk),
    Cold(Cold),
}

impl Segment {
    const fn first(&self) -> Seq {
        match self {
            Self::Resident(chunk) => chunk.first(),
            Self::Cold(cold) => cold.first,
        }
    }

    /// First seq after the segment.
    const fn end(&self) -> Seq {
        match self {
            Self::Resident(chunk) => chunk.end(),
            Self::Cold(cold) => cold.end(),
        }
    }
}

/// Where a record is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Lookup<'a> {
    /// In memory.
    Found(RecordRef<'a>, Option<&'a SharedBody>),
    /// Only in the store, if anywhere.
    Cold,
    /// Settled.
    Gone,
}

/// The next record at or after a seq.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// A live record in memory.
    At(Seq),
    /// A cold stretch begins here: load it and ask again.
    Cold(Seq),
    /// Nothing any more.
    End,
}

/// What stays in memory: the chunks of these seqs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keep {
    /// Where reading goes on.
    pub(super) next: Seq,
    /// What leaves the queue next and may have been read for that.
    pub(super) leaves: Option<Seq>,
}

/// The records of a queue.
#[derive(Debug)]
pub(super) struct Log {
    segments: VecDeque<Segment>,
    next_seq: Seq,
    resident_bytes: usize,
}

impl Log {
    pub(super) const fn new(next_seq: Seq) -> Self {
        Self {
            segments: VecDeque::new(),
            next_seq,
            resident_bytes: 0,
        }
    }

    /// A log whose records `first..next_seq` are all in the store.
    pub(super) fn cold(first: Seq, next_seq: Seq, live: u64) -> Self {
        let mut log = Self::new(next_seq);
        if live > 0 && first < next_seq {
            let cold = Cold::new(first, next_seq - 1, live);
            log.segments.push_back(Segment::Cold(cold));
        }
        log
    }

    /// The seq that the next message gets.
    pub(super) const fn next_seq(&self) -> Seq {
        self.next_seq
    }

    pub(super) const fn resident_bytes(&self) -> usize {
        self.resident_bytes
    }

    /// Adds a record and answers its seq. `epoch` as in [`Chunk::append`].
    pub(super) fn append(&mut self, now_ms: u64, message: &NewMessage<'_>, epoch: Epoch) -> Seq {
        let seq = self.next_seq;
        self.next_seq += 1;
        let opens = match self.segments.back() {
            Some(Segment::Resident(chunk)) => chunk.is_full() || chunk.end() != seq,
            _ => true,
        };
        if opens {
            self.segments.push_back(Segment::Resident(Chunk::new(seq)));
        }
        if let Some(Segment::Resident(chunk)) = self.segments.back_mut() {
            let before = chunk.resident_bytes();
            chunk.append(seq, now_ms, message, epoch);
            self.resident_bytes += chunk.resident_bytes() - before;
        }
        seq
    }

    /// Adds messages in a row and answers the first and the last seq. `epoch` as in [`Chunk::append`].
    pub(super) fn append_run(&mut self, now_ms: u64, run: Run<'_>, epoch: Epoch) -> (Seq, Seq) {
        let first = self.append(now_ms, run.first, epoch);
        let mut rest = run.repeated;
        while let Some((body, others)) = rest.split_first() {
            let repeated = match self.segments.back_mut() {
                Some(Segment::Resident(chunk)) if !chunk.is_full() => {
                    let before = chunk.resident_bytes();
                    let repeated = chunk.repeat(rest);
                    self.resident_bytes += chunk.resident_bytes() - before;
                    repeated
                }
                _ => 0,
            };
            self.next_seq += repeated as u64;
            rest = &rest[repeated..];
            if repeated == 0 {
                let message = NewMessage {
                    body: Body::Inline(body),
                    ..run.first.clone()
                };
                self.append(now_ms, &message, epoch);
                rest = others;
            }
        }
        (first, self.next_seq - 1)
    }

    fn index_of(&self, seq: Seq) -> Option<usize> {
        // Consumers work at the front, acks of the newest at the back: try those before searching.
        if let Some(front) = self.segments.front()
            && seq < front.end()
        {
            return (seq >= front.first()).then_some(0);
        }
        let index = self
            .segments
            .partition_point(|segment| segment.end() <= seq);
        self.segments
            .get(index)
            .filter(|segment| segment.first() <= seq)
            .map(|_| index)
    }

    /// The record with this seq.
    pub(super) fn lookup(&self, seq: Seq) -> Lookup<'_> {
        match self.index_of(seq).map(|index| &self.segments[index]) {
            Some(Segment::Resident(chunk)) => match chunk.get(seq) {
                Some((record, body)) => Lookup::Found(record, body),
                None => Lookup::Gone,
            },
            Some(Segment::Cold(cold)) if !cold.is_gone(seq) => Lookup::Cold,
            _ => Lookup::Gone,
        }
    }

    /// The first record at or after `from`.
    pub(super) fn next(&self, from: Seq) -> Next {
        let mut index = self
            .segments
            .partition_point(|segment| segment.end() <= from);
        while let Some(segment) = self.segments.get(index) {
            match segment {
                Segment::Cold(cold) => return Next::Cold(from.max(cold.first)),
                Segment::Resident(chunk) => {
                    if let Some(seq) = chunk.next_live(from.max(chunk.first())) {
                        return Next::At(seq);
                    }
                }
            }
            index += 1;
        }
        Next::End
    }

    /// Visits live records from `from` on while `visit` says so. Answers where it stopped: the first seq that was not
    /// visited, and whether a cold stretch is in the way.
    pub(super) fn scan<'a>(
        &'a self,
        from: Seq,
        mut visit: impl FnMut(RecordRef<'a>, Option<&'a SharedBody>) -> bool,
    ) -> Next {
        let mut index = self
            .segments
            .partition_point(|segment| segment.end() <= from);
        while let Some(segment) = self.segments.get(index) {
            let chunk = match segment {
                Segment::Cold(cold) => return Next::Cold(from.max(cold.first)),
                Segment::Resident(chunk) => chunk,
            };
            for (record, body) in chunk.live_from(from) {
                if !visit(record, body) {
                    return Next::At(record.seq());
                }
            }
            index += 1;
        }
        Next::End
    }

    /// The cold stretch that begins right after the resident chunk in which `seq` lies: worth reading ahead.
    pub(super) fn cold_after(&self, seq: Seq) -> Option<Seq> {
        let index = self.index_of(seq)?;
        match (&self.segments[index], self.segments.get(index + 1)?) {
            (Segment::Resident(_), Segment::Cold(cold)) => Some(cold.first),
            _ => None,
        }
    }

    /// The last seq of the cold stretch that holds `seq`.
    pub(super) fn cold_end(&self, seq: Seq) -> Option<Seq> {
        match &self.segments[self.index_of(seq)?] {
            Segment::Cold(cold) => Some(cold.last),
            Segment::Resident(_) => None,
        }
    }

    /// Forgets a record. Answers whether the store may hold it and so must be told; `None` when it was gone already.
    pub(super) fn settle(&mut self, seq: Seq) -> Option<bool> {
        match self.lookup(seq) {
            Lookup::Gone => return None,
            Lookup::Found(..) | Lookup::Cold => {}
        }
        let mut is_stored = false;
        self.settle_run(seq, seq, |_| is_stored = true);
        Some(is_stored)
    }

    /// Forgets the records of `first..=last` and calls `stored` with each that the store may hold and so must be told
    /// of. What is gone already is passed over.
    pub(super) fn settle_run(&mut self, first: Seq, last: Seq, mut stored: impl FnMut(Seq)) {
        let mut at = first;
        while at <= last {
            let Some(index) = self.index_of(at) else {
                at += 1;
                continue;
            };
            let segment = &mut self.segments[index];
            let upto = last.min(segment.end() - 1);
            let is_empty = match segment {
                Segment::Resident(chunk) => {
                    chunk.settle(at, upto, &mut stored);
                    chunk.live() == 0
                }
                Segment::Cold(cold) => {
                    for seq in at..=upto {
                        if cold.settle(seq) {
                            stored(seq);
                        }
                    }
                    cold.live == 0
                }
            };
            if is_empty {
                self.remove_empty(index);
            }
            at = upto + 1;
        }
    }

    /// Forgets all records of `first..=last`, wherever they are.
    pub(super) fn settle_range(&mut self, first: Seq, last: Seq) {
        let mut index = self
            .segments
            .partition_point(|segment| segment.end() <= first);
        while let Some(segment) = self.segments.get_mut(index) {
            if segment.first() > last {
                return;
            }
            let (from, upto) = (first.max(segment.first()), last.min(segment.end() - 1));
            let empty = match segment {
                Segment::Resident(chunk) => {
                    chunk.settle(from, upto, |_| {});
                    chunk.live() == 0
                }
                Segment::Cold(cold) => {
                    cold.settle_range(from, upto);
                    cold.live == 0
                }
            };
            let before = self.segments.len();
            if empty {
                self.remove_empty(index);
            }
            index += usize::from(self.segments.len() == before);
        }
    }

    fn remove_empty(&mut self, index: usize) {
        let is_last = index + 1 == self.segments.len();
        if let Segment::Resident(chunk) = &mut self.segments[index] {
            if is_last && !chunk.is_full() {
                // The open chunk starts over with its buffers.
                let before = chunk.resident_bytes();
                chunk.reset(self.next_seq);
                self.resident_bytes = self.resident_bytes - before + chunk.resident_bytes();
                return;
            }
            self.resident_bytes -= chunk.resident_bytes();
        }
        self.segments.remove(index);
    }

    /// Some records at or after `seq` are only in the store.
    pub(super) fn has_cold_from(&self, seq: Seq) -> bool {
        let mut after = self.segments.iter().rev();
        after
            .by_ref()
            .take_while(|segment| segment.end() > seq)
            .any(|segment| matches!(segment, Segment::Cold(_)))
    }

    /// Gives back spare buffer space; an empty open chunk goes entirely.
    pub(super) fn shrink(&mut self) {
        if let Some(Segment::Resident(chunk)) = self.segments.back_mut() {
            let before = chunk.resident_bytes();
            if chunk.live() == 0 {
                self.resident_bytes -= before;
                self.segments.pop_back();
            } else {
                chunk.shrink();
                self.resident_bytes = self.resident_bytes - before + chunk.resident_bytes();
            }
        }
        if self.segments.is_empty() {
            self.segments.shrink_to_fit();
        }
    }

    /// Turns stored chunks cold: first those before the one from which reading goes on, then the newest, but neither
    /// the open chunk nor what is to be kept. Stops when `excess` bytes are free. Answers the bytes freed.
    pub(super) fn evict(&mut self, keep: Keep, durable: Epoch, excess: usize) -> usize {
        let before = self.resident_bytes;
        let target = before.saturating_sub(excess);
        let last = self.segments.len().saturating_sub(1);
        self.evict_in(0..self.position(keep.next).min(last), keep, durable, target);
        let last = self.segments.len().saturating_sub(1);
        self.evict_in(self.position(keep.next) + 1..last, keep, durable, target);
        before - self.resident_bytes
    }

    /// The segment that holds `seq`, or else the first behind it.
    fn position(&self, seq: Seq) -> usize {
        self.segments
            .partition_point(|segment| segment.end() <= seq)
    }

    /// Turns stored chunks cold, the newest first, until `target` bytes are left.
    fn evict_in(&mut self, indexes: Range<usize>, keep: Keep, durable: Epoch, target: usize) {
        for index in indexes.rev() {
            if self.resident_bytes <= target {
                break;
            }
            let leaves = keep.leaves.is_some_and(|seq| {
                let segment = &self.segments[index];
                (segment.first()..segment.end()).contains(&seq)
            });
            if !leaves && self.evict_one(index, durable) {
                self.merge_cold_after(index);
                if let Some(before) = index.checked_sub(1) {
                    self.merge_cold_after(before);
                }
            }
        }
    }

    /// Turns a stored chunk cold. `false`: it is none.
    fn evict_one(&mut self, index: usize, durable: Epoch) -> bool {
        let Segment::Resident(chunk) = &self.segments[index] else {
            return false;
        };
        if !chunk.is_stored(durable) {
            return false;
        }
        let live = u64::from(chunk.live());
        let mut cold = Cold::new(chunk.first(), chunk.end() - 1, live);
        for (first, last) in chunk.gone_ranges() {
            cold.forget(first, last);
        }
        self.resident_bytes -= chunk.resident_bytes();
        self.segments[index] = Segment::Cold(cold);
        true
    }

    /// Two neighbouring cold stretches become one, unless that one would have too many gaps.
    fn merge_cold_after(&mut self, index: usize) {
        let [Some(Segment::Cold(first)), Some(Segment::Cold(second))] =
            [self.segments.get(index), self.segments.get(index + 1)]
        else {
            return;
        };
        if !first.merges_with(second) {
            return;
        }
        if let Some(Segment::Cold(after)) = self.segments.remove(index + 1)
            && let Some(Segment::Cold(before)) = self.segments.get_mut(index)
        {
            before.merge(after);
        }
        if self.segments.capacity() > 4 * self.segments.len() + 8 {
            self.segments.shrink_to_fit();
        }
    }

    /// The next chunk to evict whose only copy of transient records is in memory, in the order of [`Self::evict`]: seqs
    /// to save before.
    pub(super) fn unsaved_chunk(&self, keep: Seq, durable: Epoch) -> Option<Seq> {
        let kept = self.position(keep);
        let last = self.segments.len().saturating_sub(1);
        (0..kept.min(last))
            .rev()
            .chain((kept + 1..last).rev())
            .find_map(|index| match &self.segments[index] {
                Segment::Resident(chunk)
                    if chunk.is_unsaved() && chunk.dirty_epoch() <= durable =>
                {
                    Some(chunk.first())
                }
                _ => None,
            })
    }

    /// The resident chunk that begins at `first`.
    pub(super) fn chunk_mut(&mut self, first: Seq) -> Option<&mut Chunk> {
        let index = self.index_of(first)?;
        match &mut self.segments[index] {
            Segment::Resident(chunk) if chunk.first() == first => Some(chunk),
            _ => None,
        }
    }

    /// Puts a loaded piece `from..=upto` in the place of that part of a cold stretch. `false` when the stretch is not
    /// cold any more (purged, deleted): the piece is stale.
    pub(super) fn install(
        &mut self,
        from: Seq,
        upto: Seq,
        records: Vec<u8>,
        bodies: Vec<(Seq, SharedBody)>,
    ) -> bool {
        let Some(index) = self.index_of(from) else {
            return false;
        };
        let Segment::Cold(cold) = &mut self.segments[index] else {
            return false;
        };
        let upto = upto.min(cold.last);
        let is_gone = |seq| cold.is_gone(seq);
        let chunks = loaded::chunks((from, upto), records, bodies, is_gone);
        let live: u64 = chunks.iter().map(|chunk| u64::from(chunk.live())).sum();
        let left_live = cold.live.saturating_sub(live);
        let rest_after = (upto < cold.last).then(|| cold.split_off(upto + 1, left_live));
        let has_rest_before = cold.first < from;
        if has_rest_before {
            cold.split_off(from, left_live);
        }
        let is_wanted = |cold: &Cold| cold.live > 0;
        let behind = self.segments.split_off(index + 1);
        let rest_before = self.segments.pop_back().filter(
            |rest| matches!(rest, Segment::Cold(cold) if has_rest_before && is_wanted(cold)),
        );
        self.resident_bytes += chunks.iter().map(Chunk::resident_bytes).sum::<usize>();
        let rest_after = rest_after.filter(is_wanted).map(Segment::Cold);
        let resident = chunks.into_iter().map(Segment::Resident);
        self.segments
            .extend(rest_before.into_iter().chain(resident).chain(rest_after));
        self.segments.extend(behind);
        true
    }

    /// Settles everything in `from..next_seq` that is cold, at once. Answers how much that was, if the stretches were
    /// cold from end to end.
    pub(super) fn drop_cold_from(&mut self, from: Seq) {
        for index in (0..self.segments.len()).rev() {
            let Segment::Cold(cold) = &mut self.segments[index] else {
                continue;
            };
            if cold.first >= from {
                self.segments.remove(index);
            } else if cold.last >= from {
                let live = cold.live;
                cold.split_off(from, live);
            }
        }
    }
}
