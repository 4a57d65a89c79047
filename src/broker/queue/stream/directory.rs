//! What a stream remembers of all its messages without their bytes: chunks, and the segments that they form.
//!
//! ```text
//!  first                                                                      next
//!    | chunk | chunk | chunk ‖ chunk | chunk | chunk ‖ chunk | open chunk ... |
//!    |------ segment --------|------ segment --------|------ current ---------|
//! ```
//!
//! Retention removes whole segments at the old end and never the current one, as in RabbitMQ. A chunk costs some 80
//! bytes here for 256 KiB of records, and its filter.

use std::collections::VecDeque;

use super::filter::{Filter, Summary};
use crate::message::Seq;

/// A chunk is closed at this size, or at that of a segment if that is less.
pub(super) const CHUNK_BYTES_MAX: u64 = if cfg!(test) { 2 * 1024 } else { 256 * 1024 };

/// What limits a stream. Parts of the queue's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// A segment is complete at this size.
    pub(super) segment_bytes: u64,
    /// Size of the Bloom filter of a chunk.
    pub(super) filter_bytes: u8,
    /// Segments go while all together are larger.
    pub(super) max_bytes: Option<u64>,
    /// Segments go whose last message is older.
    pub(super) max_age_ms: Option<u64>,
}

/// Consecutive messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) first: Seq,
    pub(super) last: Seq,
    /// Records and bodies.
    pub(super) bytes: u64,
    /// Arrival of the newest message.
    pub(super) last_ms: u64,
    pub(super) summary: Summary,
}

#[derive(Debug)]
struct Segment {
    first: Seq,
    bytes: u64,
    last_ms: u64,
}

/// A message as the directory sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Note<'a> {
    pub(super) seq: Seq,
    pub(super) arrival_ms: u64,
    pub(super) bytes: u64,
    pub(super) filter_value: Option<&'a [u8]>,
}

/// Chunks and segments of a stream.
#[derive(Debug)]
pub(super) struct Directory {
    first: Seq,
    next: Seq,
    bytes: u64,
    closed: VecDeque<Chunk>,
    open: Option<Chunk>,
    segments: VecDeque<Segment>,
}

impl Directory {
    /// Of an empty stream whose first message will have `first`.
    pub(super) const fn new(first: Seq) -> Self {
        Self {
            first,
            next: first,
            bytes: 0,
            closed: VecDeque::new(),
            open: None,
            segments: VecDeque::new(),
        }
    }

    /// The oldest message that is there; [`Self::next`] when there is none.
    pub(super) const fn first(&self) -> Seq {
        self.first
    }

    /// The seq of the next message.
    pub(super) const fn next(&self) -> Seq {
        self.next
    }

    /// Adds the next message. Answers the chunk that it closed, if it did.
    pub(super) fn add(&mut self, note: Note<'_>, limits: &Limits) -> Option<&Chunk> {
        debug_assert_eq!(note.seq, self.next);
        self.next = note.seq + 1;
        self.bytes += note.bytes;
        let open = self.open.get_or_insert_with(|| Chunk {
            first: note.seq,
            last: note.seq,
            bytes: 0,
            last_ms: 0,
            summary: Summary::default(),
        });
        open.last = note.seq;
        open.bytes += note.bytes;
        open.last_ms = note.arrival_ms;
        open.summary.add(note.filter_value, limits.filter_bytes);
        if open.bytes < CHUNK_BYTES_MAX.min(limits.segment_bytes) {
            return None;
        }
        let chunk = self.open.take()?;
        self.close(chunk, limits);
        self.closed.back()
    }

    /// There are no messages before `next`, from the last one on.
    pub(super) const fn leap(&mut self, next: Seq) {
        self.next = next;
    }

    /// Takes a closed chunk over from the store; it follows those that are there.
    pub(super) fn restore(&mut self, chunk: Chunk, limits: &Limits) {
        self.next = chunk.last + 1;
        self.bytes += chunk.bytes;
        self.close(chunk, limits);
    }

    fn close(&mut self, chunk: Chunk, limits: &Limits) {
        let begins = self
            .segments
            .back()
            .is_none_or(|segment| segment.bytes >= limits.segment_bytes);
        if begins {
            self.segments.push_back(Segment {
                first: chunk.first,
                bytes: 0,
                last_ms: 0,
            });
        }
        if let Some(segment) = self.segments.back_mut() {
            segment.bytes += chunk.bytes;
            segment.last_ms = chunk.last_ms;
        }
        self.closed.push_back(chunk);
    }

    /// Removes the segments that are too much or too old. Answers the first and last message that went.
    pub(super) fn retain(&mut self, limits: &Limits, now_ms: u64) -> Option<(Seq, Seq)> {
        let before = self.first;
        while let Some((segment, after)) = self.oldest_complete(limits) {
            let too_much = limits.max_bytes.is_some_and(|max| self.bytes > max);
            let too_old = limits
                .max_age_ms
                .is_some_and(|age| segment.last_ms.saturating_add(age) <= now_ms);
            if !too_much && !too_old {
                break;
            }
            self.bytes -= segment.bytes;
            self.first = after;
            self.segments.pop_front();
        }
        let gone = self
            .closed
            .partition_point(|chunk| chunk.first < self.first);
        self.closed.drain(..gone);
        (self.first > before).then(|| (before, self.first - 1))
    }

    /// When the oldest segment is too old, if it may go then.
    pub(super) fn deadline_ms(&self, limits: &Limits) -> Option<u64> {
        let age_ms = limits.max_age_ms?;
        let (segment, _) = self.oldest_complete(limits)?;
        Some(segment.last_ms.saturating_add(age_ms))
    }

    /// The oldest segment with the first seq behind it, unless it is the current one.
    fn oldest_complete(&self, limits: &Limits) -> Option<(&Segment, Seq)> {
        let oldest = self.segments.front()?;
        let after = match (self.segments.get(1), &self.open) {
            (Some(next), _) => next.first,
            // The open chunk begins a segment of its own.
            (None, Some(open)) if oldest.bytes >= limits.segment_bytes => open.first,
            (None, _) => return None,
        };
        Some((oldest, after))
    }

    /// The first seq at or after `seq` whose chunk can have what `filter` wants.
    pub(super) fn skip(&self, mut seq: Seq, filter: &Filter) -> Seq {
        let mut index = self.closed.partition_point(|chunk| chunk.last < seq);
        while let Some(chunk) = self.closed.get(index)
            && !filter.may_be_in(&chunk.summary)
        {
            seq = chunk.last + 1;
            index += 1;
        }
        seq
    }

    /// Where messages begin that arrived at `time_ms` or later: a chunk that may begin earlier.
    pub(super) fn since(&self, time_ms: u64) -> Seq {
        let index = self.closed.partition_point(|chunk| chunk.last_ms < time_ms);
        match (self.closed.get(index), &self.open) {
            (Some(chunk), _) => chunk.first,
            (None, Some(open)) if open.last_ms >= time_ms => open.first,
            _ => self.next,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        segment_bytes: 3000,
        filter_bytes: 16,
        max_bytes: Some(9000),
        max_age_ms: Some(100),
    };

    /// Messages of 500 bytes, one a ms: five close a chunk of 2,048 bytes, ten complete a segment of 3,000.
    fn filled(count: u64) -> Directory {
        let mut directory = Directory::new(1);
        for seq in 1..=count {
            let value = format!("chunk {}", (seq - 1) / 5);
            directory.add(
                Note {
                    seq,
                    arrival_ms: 1000 + seq,
                    bytes: 500,
                    filter_value: Some(value.as_bytes()),
                },
                &LIMITS,
            );
        }
        directory
    }

    #[test]
    fn retention_removes_whole_segments_and_never_the_current_one() {
        let mut directory = filled(10);
        assert_eq!(directory.retain(&LIMITS, 1_000_000), None, "it is current");
        let mut directory = filled(11);
        assert_eq!(directory.deadline_ms(&LIMITS), Some(1010 + 100));
        assert_eq!(directory.retain(&LIMITS, 1109), None, "young and small");
        assert_eq!(directory.retain(&LIMITS, 1110), Some((1, 10)));
        assert_eq!((directory.first(), directory.next()), (11, 12));
        assert_eq!(directory.deadline_ms(&LIMITS), None);
    }

    #[test]
    fn retention_by_size_leaves_no_more_than_the_limit() {
        let mut directory = filled(45);
        assert_eq!(directory.retain(&LIMITS, 0), Some((1, 30)));
        assert_eq!(directory.first(), 31);
        assert_eq!(directory.retain(&LIMITS, 0), None);
    }

    #[test]
    fn a_time_leads_to_the_chunk_that_has_it() {
        let directory = filled(12);
        assert_eq!(directory.since(0), 1);
        assert_eq!(directory.since(1005), 1);
        assert_eq!(directory.since(1006), 6);
        assert_eq!(directory.since(1012), 11);
        assert_eq!(directory.since(1013), 13);
    }

    #[test]
    fn closed_chunks_without_a_wanted_message_are_passed_over() {
        let directory = filled(17);
        let filter = Filter::new([b"chunk 2".to_vec()], false);
        assert_eq!(directory.skip(1, &filter), 11);
        assert_eq!(directory.skip(12, &filter), 12);
        let nowhere = Filter::new([b"nowhere".to_vec()], false);
        assert_eq!(
            directory.skip(1, &nowhere),
            16,
            "the open chunk is looked at"
        );
    }
}
