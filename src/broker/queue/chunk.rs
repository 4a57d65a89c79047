//! A resident chunk: consecutive records of one queue in memory, found by seq.
//!
//! Invariants:
//! - `offsets[seq - first]` is where the record begins in `data`, or [`GONE`] when there is none to deliver any more
//!   (settled, elided, never written).
//! - `live` is the number of offsets that are not `GONE`.
//! - `data` only grows: a record is never changed. Settling only forgets its offset.

use crate::message::record::{self, NewMessage, RecordRef, SharedBody};
use crate::message::{Epoch, Seq};

/// A chunk is closed when its records and shared bodies reach this size. Small in unit tests, so that they see many.
pub(super) const CHUNK_BYTES_MAX: usize = if cfg!(test) { 4 * 1024 } else { 256 * 1024 };

/// The first allocation of an open chunk; it doubles from there.
const CHUNK_BYTES_MIN: usize = 512;

const GONE: u32 = u32::MAX;

/// Records of one queue in memory.
#[derive(Debug)]
pub(super) struct Chunk {
    first: Seq,
    data: Vec<u8>,
    offsets: Vec<u32>,
    live: u32,
    bodies: Vec<(Seq, SharedBody)>,
    body_bytes: usize,
    /// Newest epoch that carries a persistent record of this chunk: not evicted before that is durable.
    dirty_epoch: Epoch,
    transient: Transient,
    kinds: Kinds,
}

/// Which records were appended, so that settling seldom has to look at them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kinds {
    /// None yet.
    None,
    /// Persistent ones only, or transient ones only.
    All {
        /// They are persistent.
        persistent: bool,
    },
    /// Both, or nobody knows.
    Mixed,
}

impl Kinds {
    fn add(&mut self, persistent: bool) {
        *self = match *self {
            Self::None => Self::All { persistent },
            Self::All { persistent: before } if before == persistent => *self,
            _ => Self::Mixed,
        };
    }
}

/// Where the transient records of a chunk are, beside memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transient {
    /// There are none, or the store holds them too.
    Stored,
    /// Nowhere: they are spilled before the chunk is dropped.
    Unsaved,
    /// On their way to the store.
    Saving,
}

impl Chunk {
    /// An empty open chunk whose first record will have `first`.
    pub(super) const fn new(first: Seq) -> Self {
        Self {
            first,
            data: Vec::new(),
            offsets: Vec::new(),
            live: 0,
            bodies: Vec::new(),
            body_bytes: 0,
            dirty_epoch: 0,
            transient: Transient::Stored,
            kinds: Kinds::None,
        }
    }

    /// A chunk read back from the store, covering `first..=last`. Records for which `gone` holds are left out.
    pub(super) fn from_records(
        first: Seq,
        last: Seq,
        data: Vec<u8>,
        bodies: Vec<(Seq, SharedBody)>,
        gone: impl Fn(Seq) -> bool,
    ) -> Self {
        let mut offsets = vec![GONE; (last - first + 1) as usize];
        let mut live = 0;
        let mut at = 0;
        for record in record::records(&data) {
            let seq = record.seq();
            if (first..=last).contains(&seq) && !gone(seq) {
                offsets[(seq - first) as usize] = at as u32;
                live += 1;
            }
            at += record.encoded_len();
        }
        let body_bytes = bodies.iter().map(|(_, body)| body.bytes.len()).sum();
        Self {
            first,
            data,
            offsets,
            live,
            bodies,
            body_bytes,
            dirty_epoch: 0,
            transient: Transient::Stored,
            kinds: Kinds::Mixed,
        }
    }

    pub(super) const fn first(&self) -> Seq {
        self.first
    }

    /// First seq after the chunk.
    pub(super) const fn end(&self) -> Seq {
        self.first + self.offsets.len() as u64
    }

    pub(super) const fn live(&self) -> u32 {
        self.live
    }

    pub(super) const fn is_full(&self) -> bool {
        self.data.len() + self.body_bytes >= CHUNK_BYTES_MAX
    }

    /// Memory that the chunk holds.
    pub(super) const fn resident_bytes(&self) -> usize {
        self.data.capacity()
            + self.offsets.capacity() * 4
            + self.body_bytes
            + self.bodies.capacity() * 32
    }

    /// Whether it can be dropped from memory once `durable` is on disk and its transient records are stored.
    pub(super) const fn is_stored(&self, durable: Epoch) -> bool {
        self.dirty_epoch <= durable && matches!(self.transient, Transient::Stored)
    }

    pub(super) const fn dirty_epoch(&self) -> Epoch {
        self.dirty_epoch
    }

    /// Its transient records are nowhere but in memory.
    pub(super) const fn is_unsaved(&self) -> bool {
        matches!(self.transient, Transient::Unsaved)
    }

    /// Its transient records are being written to the store: what is settled from here on must be told to it.
    pub(super) const fn saving(&mut self) {
        self.transient = Transient::Saving;
    }

    /// The write that [`Self::saving`] announced ended.
    pub(super) const fn saved(&mut self, success: bool) {
        self.transient = if success {
            Transient::Stored
        } else {
            Transient::Unsaved
        };
    }

    /// Adds a record at the end. `epoch` is the epoch that must be durable before the chunk may be evicted; 0 for a
    /// record that is not journaled.
    pub(super) fn append(&mut self, seq: Seq, now_ms: u64, message: &NewMessage<'_>, epoch: Epoch) {
        debug_assert_eq!(seq, self.end());
        self.grow(record::encoded_len(message));
        self.offsets.push(self.data.len() as u32);
        record::encode(&mut self.data, seq, now_ms, message);
        if let record::Body::Shared(body) = &message.body {
            self.body_bytes += body.bytes.len();
            self.bodies.push((seq, body.clone()));
        }
        self.live += 1;
        self.kinds.add(message.persistent);
        if epoch == 0 {
            self.transient = Transient::Unsaved;
        } else {
            self.dirty_epoch = epoch;
        }
    }

    /// Adds the last record again with each of these bodies, as many as the chunk has room for. Answers how many.
    pub(super) fn repeat(&mut self, bodies: &[&[u8]]) -> usize {
        let Some(&begins) = self.offsets.last().filter(|begins| **begins != GONE) else {
            debug_assert!(false, "what is repeated was appended under the same lock");
            return 0;
        };
        let lead = record::lead_len(&self.data, begins as usize);
        let mut count = 0;
        for body in bodies {
            if self.is_full() {
                break;
            }
            let seq = self.end();
            self.grow(lead + body.len());
            self.offsets.push(self.data.len() as u32);
            record::repeat(&mut self.data, begins as usize, lead, seq, body);
            count += 1;
        }
        self.live += count as u32;
        count
    }

    /// Doubles the buffer instead of reserving 256 KiB: a queue with a few small messages stays small.
    fn grow(&mut self, more: usize) {
        let wanted = self.data.len() + more;
        if wanted > self.data.capacity() {
            let doubled = (self.data.capacity() * 2).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
            self.data
                .reserve_exact(doubled.max(wanted) - self.data.len());
        }
    }

    fn offset(&self, seq: Seq) -> Option<usize> {
        let index = seq.checked_sub(self.first)? as usize;
        match self.offsets.get(index) {
            Some(&GONE) | None => None,
            Some(&offset) => Some(offset as usize),
        }
    }

    /// The live record with this seq.
    pub(super) fn get(&self, seq: Seq) -> Option<(RecordRef<'_>, Option<&SharedBody>)> {
        let record = RecordRef::at(&self.data, self.offset(seq)?);
        Some((record, self.body(&record)))
    }

    /// The live records from `from` on.
    pub(super) fn live_from(
        &self,
        from: Seq,
    ) -> impl Iterator<Item = (RecordRef<'_>, Option<&SharedBody>)> {
        let start = from.saturating_sub(self.first) as usize;
        let offsets = self.offsets.get(start..).unwrap_or_default().iter();
        offsets.filter(|offset| **offset != GONE).map(|offset| {
            let record = RecordRef::at(&self.data, *offset as usize);
            (record, self.body(&record))
        })
    }

    fn body(&self, record: &RecordRef<'_>) -> Option<&SharedBody> {
        if !record.has_external_body() {
            return None;
        }
        let at = self
            .bodies
            .binary_search_by_key(&record.seq(), |(seq, _)| *seq)
            .ok()?;
        Some(&self.bodies[at].1)
    }

    /// The first live seq at or after `from`.
    pub(super) fn next_live(&self, from: Seq) -> Option<Seq> {
        let start = from.saturating_sub(self.first) as usize;
        let rest = self.offsets.get(start..)?;
        let index = rest.iter().position(|offset| *offset != GONE)?;
        Some(self.first + (start + index) as u64)
    }

    /// Forgets the records of `first..=last`, which lie in the chunk. Calls `stored` with each that the store may hold:
    /// a transient record is there only if it was spilled.
    pub(super) fn settle(&mut self, first: Seq, last: Seq, mut stored: impl FnMut(Seq)) {
        let (from, upto) = ((first - self.first) as usize, (last - self.first) as usize);
        let is_saved = !self.is_unsaved();
        for (offset, seq) in self.offsets[from..=upto].iter_mut().zip(first..) {
            let begins = std::mem::replace(offset, GONE);
            if begins == GONE {
                continue;
            }
            self.live -= 1;
            let is_stored = is_saved
                || match self.kinds {
                    Kinds::All { persistent } => persistent,
                    _ => RecordRef::at(&self.data, begins as usize).is_persistent(),
                };
            if is_stored {
                stored(seq);
            }
        }
    }

    /// Begins anew with the same buffers: nothing in the chunk is wanted any more.
    pub(super) fn reset(&mut self, first: Seq) {
        debug_assert_eq!(self.live, 0);
        self.first = first;
        self.data.clear();
        self.offsets.clear();
        self.bodies.clear();
        self.body_bytes = 0;
        self.dirty_epoch = 0;
        self.transient = Transient::Stored;
        self.kinds = Kinds::None;
    }

    /// Gives back what the buffers hold beyond their content.
    pub(super) fn shrink(&mut self) {
        self.data.shrink_to_fit();
        self.offsets.shrink_to_fit();
        self.bodies.shrink_to_fit();
    }

    /// Ranges of seqs in the chunk that are gone.
    pub(super) fn gone_ranges(&self) -> impl Iterator<Item = (Seq, Seq)> {
        let mut index = 0;
        std::iter::from_fn(move || {
            let start = index
                + self
                    .offsets
                    .get(index..)?
                    .iter()
                    .position(|offset| *offset == GONE)?;
            let length = self.offsets[start..]
                .iter()
                .take_while(|offset| **offset == GONE)
                .count();
            index = start + length;
            Some((
                self.first + start as u64,
                self.first + (start + length - 1) as u64,
            ))
        })
    }
}
