//! The records of a stream that are in memory: immutable pieces, and the buffer that the next one is cut from.
//!
//! ```text
//!  first                                                                   next
//!    | only in the store | piece | only in the store | piece | piece | open |
//! ```
//!
//! A piece is what one epoch brought, or what one load read back. Readers share pieces outside all locks; what is not
//! in a piece is read back from the store. A piece can be read once its epoch is durable: an offset that a consumer has
//! seen never names another message, not even after a crash.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::message::record::{self, Body, NewMessage, RecordRef, SharedBody};
use crate::message::{Epoch, Seq};

/// A piece is cut at this size even within an epoch.
const PIECE_BYTES_MAX: usize = if cfg!(test) { 4 * 1024 } else { 256 * 1024 };

/// The buffer of the next piece begins with at most this much room.
const OPEN_BYTES_MIN: usize = 512;

/// So many small pieces in a row become one.
const SMALL_PIECES_MAX: usize = 32;

/// What counts as small.
const SMALL_BYTES_MAX: usize = PIECE_BYTES_MAX / 8;

/// What a piece costs besides its bytes.
const PIECE_OVERHEAD_BYTES: usize = 200;

/// Consecutive records, never changed.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) first: Seq,
    pub(super) last: Seq,
    /// Whole, well-formed records.
    pub(super) records: Bytes,
    /// Bodies beside their records, by rising seq.
    pub(super) bodies: Vec<(Seq, SharedBody)>,
    /// Must be durable before the piece is shown.
    pub(super) epoch: Epoch,
}

impl Piece {
    /// The body of a record that has it outside.
    pub(super) fn body(&self, record: &RecordRef<'_>) -> Option<&SharedBody> {
        if !record.has_external_body() {
            return None;
        }
        let at = self
            .bodies
            .binary_search_by_key(&record.seq(), |(seq, _)| *seq)
            .ok()?;
        Some(&self.bodies[at].1)
    }

    fn resident_bytes(&self) -> usize {
        let bodies = self.bodies.iter().map(|(_, body)| body.bytes.len() + 32);
        self.records.len() + bodies.sum::<usize>() + PIECE_OVERHEAD_BYTES
    }
}

#[derive(Debug)]
struct Held {
    piece: Arc<Piece>,
    /// When it was last read, in reads.
    used: u64,
    /// Readers that were woken for it and have not come yet.
    awaited: u32,
}

/// Records that no piece has yet.
#[derive(Debug, Default)]
struct Open {
    epoch: Epoch,
    first: Seq,
    end: Seq,
    data: Vec<u8>,
    bodies: Vec<(Seq, SharedBody)>,
    body_bytes: usize,
}

impl Open {
    const fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    fn bytes(&self) -> usize {
        self.data.len() + self.body_bytes
    }
}

/// Where a message is.
#[derive(Debug)]
pub(super) enum Found {
    /// In this piece.
    Piece(Arc<Piece>),
    /// In memory, and cannot be shown before this epoch is durable.
    Later(Epoch),
    /// In the store only; the stretch ends with this seq.
    Cold(Seq),
}

/// The records in memory.
#[derive(Debug, Default)]
pub(super) struct Log {
    pieces: BTreeMap<Seq, Held>,
    open: Open,
    /// What the store has not been given, oldest first.
    unwritten: VecDeque<Arc<Piece>>,
    reads: u64,
    resident_bytes: usize,
}

impl Log {
    /// Memory of the pieces and the open buffer.
    pub(super) fn resident_bytes(&self) -> usize {
        self.resident_bytes + self.open.data.capacity() + self.open.body_bytes
    }

    /// Adds the next record. Answers its size with its body.
    pub(super) fn append(
        &mut self,
        seq: Seq,
        now_ms: u64,
        message: &NewMessage<'_>,
        epoch: Epoch,
    ) -> usize {
        if !self.open.is_empty()
            && (self.open.epoch != epoch || self.open.bytes() >= PIECE_BYTES_MAX)
        {
            self.cut();
        }
        if self.open.is_empty() {
            self.open.first = seq;
            self.open.epoch = epoch;
        }
        let before = self.open.bytes();
        let wanted = self.open.data.len() + record::encoded_len(message);
        if wanted > self.open.data.capacity() {
            let doubled = (2 * self.open.data.capacity()).clamp(OPEN_BYTES_MIN, PIECE_BYTES_MAX);
            let more = doubled.max(wanted) - self.open.data.len();
            self.open.data.reserve_exact(more);
        }
        record::encode(&mut self.open.data, seq, now_ms, message);
        if let Body::Shared(body) = &message.body {
            self.open.body_bytes += body.bytes.len();
            self.open.bodies.push((seq, body.clone()));
        }
        self.open.end = seq + 1;
        self.open.bytes() - before
    }

    fn cut(&mut self) {
        let mut open = std::mem::take(&mut self.open);
        // The next epoch is likely to be like this one.
        self.open
            .data
            .reserve_exact(open.data.len().min(OPEN_BYTES_MIN));
        if open.data.capacity() > open.data.len() + open.data.len() / 4 {
            open.data.shrink_to_fit();
        }
        let piece = Arc::new(Piece {
            first: open.first,
            last: open.end - 1,
            records: Bytes::from(open.data),
            bodies: open.bodies,
            epoch: open.epoch,
        });
        self.unwritten.push_back(piece.clone());
        self.hold(piece, 0);
    }

    fn hold(&mut self, piece: Arc<Piece>, awaited: u32) {
        self.resident_bytes += piece.resident_bytes();
        self.reads += 1;
        let held = Held {
            used: self.reads,
            awaited,
            piece,
        };
        self.pieces.insert(held.piece.first, held);
    }

    fn release(&mut self, first: Seq) {
        if let Some(held) = self.pieces.remove(&first) {
            self.resident_bytes -= held.piece.resident_bytes();
        }
    }

    /// What epochs up to `epoch` brought and the store has not been given.
    pub(super) fn take_unwritten(&mut self, epoch: Epoch) -> Vec<Arc<Piece>> {
        if !self.open.is_empty() && self.open.epoch <= epoch {
            self.cut();
        }
        let count = self
            .unwritten
            .iter()
            .take_while(|piece| piece.epoch <= epoch)
            .count();
        self.unwritten.drain(..count).collect()
    }

    /// Where the message with `seq` is; it must be one that the stream has, `next` being the seq of the next one.
    pub(super) fn find(&mut self, seq: Seq, next: Seq, durable: Epoch) -> Found {
        if !self.open.is_empty() && seq >= self.open.first {
            return Found::Later(self.open.epoch);
        }
        if let Some((_, held)) = self.pieces.range_mut(..=seq).next_back()
            && held.piece.last >= seq
        {
            if held.piece.epoch > durable {
                return Found::Later(held.piece.epoch);
            }
            self.reads += 1;
            held.used = self.reads;
            held.awaited = held.awaited.saturating_sub(1);
            return Found::Piece(held.piece.clone());
        }
        Found::Cold(self.gap_end(seq, next))
    }

    /// The last seq and the bytes of the piece that has `seq`, if it is in one.
    pub(super) fn resident_at(&self, seq: Seq) -> Option<(Seq, usize)> {
        let (_, held) = self.pieces.range(..=seq).next_back()?;
        let piece = &held.piece;
        (piece.last >= seq).then(|| (piece.last, piece.resident_bytes()))
    }

    /// Drops a piece that was read back, unless readers are about to come for it.
    pub(super) fn drop_loaded(&mut self, first: Seq) {
        let is_loaded = |held: &Held| held.piece.epoch == 0 && held.awaited == 0;
        if self.pieces.get(&first).is_some_and(is_loaded) {
            self.release(first);
        }
    }

    /// The end of the stretch from `seq` on that is in the store only, if `seq` is in one.
    pub(super) fn cold_at(&self, seq: Seq, next: Seq) -> Option<Seq> {
        let before = self.pieces.range(..=seq).next_back();
        let resident = before.is_some_and(|(_, held)| held.piece.last >= seq);
        let open = !self.open.is_empty() && seq >= self.open.first;
        (!resident && !open).then(|| self.gap_end(seq, next))
    }

    /// The last seq before the next one in memory.
    fn gap_end(&self, seq: Seq, next: Seq) -> Seq {
        let piece = self.pieces.range(seq..).next().map(|(first, _)| *first);
        let open = (!self.open.is_empty()).then_some(self.open.first);
        piece.or(open).unwrap_or(next).saturating_sub(1)
    }

    /// Takes records that were read back as far as they are not in memory: all that there is of `from..=covered_upto`.
    /// `awaited` readers will come for them.
    pub(super) fn install(
        &mut self,
        (from, covered_upto): (Seq, Seq),
        records: Vec<u8>,
        bodies: Vec<(Seq, SharedBody)>,
        awaited: u32,
    ) {
        let before = self.pieces.range(..=from).next_back();
        if before.is_some_and(|(_, held)| held.piece.last >= from) {
            return;
        }
        let last = covered_upto.min(self.gap_end(from, Seq::MAX));
        if last < from {
            return;
        }
        let (mut start, mut end, mut at) = (records.len(), 0, 0);
        for record in record::records(&records) {
            let length = record.encoded_len();
            if (from..=last).contains(&record.seq()) {
                (start, end) = (start.min(at), at + length);
            }
            at += length;
        }
        let bodies = bodies
            .into_iter()
            .filter(|(seq, _)| (from..=last).contains(seq));
        let piece = Piece {
            first: from,
            last,
            records: Bytes::from(records).slice(start.min(end)..end),
            bodies: bodies.collect(),
            epoch: 0,
        };
        self.hold(Arc::new(piece), awaited);
    }

    /// Messages before `first` are gone.
    pub(super) fn forget_before(&mut self, first: Seq) {
        while let Some((oldest, held)) = self.pieces.first_key_value()
            && held.piece.last < first
        {
            let oldest = *oldest;
            self.release(oldest);
        }
    }

    /// Joins the newest pieces when they are many and small, as a slow publisher makes them.
    pub(super) fn join_small(&mut self, durable: Epoch) {
        let mut end = None;
        let mut small = Vec::new();
        for held in self.pieces.values().rev() {
            let piece = &held.piece;
            if piece.epoch > durable {
                continue;
            }
            let follows = end.is_none_or(|end| piece.last + 1 == end);
            if !follows || piece.resident_bytes() > SMALL_BYTES_MAX {
                break;
            }
            end = Some(piece.first);
            small.push(piece.clone());
        }
        if small.len() < SMALL_PIECES_MAX {
            return;
        }
        small.reverse();
        let mut records = Vec::with_capacity(small.iter().map(|piece| piece.records.len()).sum());
        let mut bodies = Vec::new();
        for piece in &small {
            records.extend_from_slice(&piece.records);
            bodies.extend_from_slice(&piece.bodies);
        }
        let (Some(oldest), Some(newest)) = (small.first(), small.last()) else {
            return;
        };
        let joined = Piece {
            first: oldest.first,
            last: newest.last,
            records: Bytes::from(records),
            bodies,
            epoch: newest.epoch,
        };
        for piece in &small {
            self.release(piece.first);
        }
        self.hold(Arc::new(joined), 0);
    }

    /// Drops pieces that the store has, those first that were not read for the longest time, until `excess` bytes are
    /// free. Those that readers are about to come for are spared unless `hard`. Answers the bytes freed.
    pub(super) fn evict(&mut self, excess: usize, durable: Epoch, hard: bool) -> usize {
        let mut candidates: Vec<(u64, Seq)> = self
            .pieces
            .values()
            .filter(|held| held.piece.epoch <= durable && (hard || held.awaited == 0))
            .map(|held| (held.used, held.piece.first))
            .collect();
        candidates.sort_unstable();
        let before = self.resident_bytes;
        for (_, first) in candidates {
            if before - self.resident_bytes >= excess {
                break;
            }
            self.release(first);
        }
        before - self.resident_bytes
    }

    /// Gives back the spare room of the open buffer.
    pub(super) fn shrink(&mut self) {
        self.open.data.shrink_to_fit();
    }
}
