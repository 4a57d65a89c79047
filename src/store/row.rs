//! A row of a queue as the store remembers it: where its records are and which of them are still wanted.

use bytes::{Bytes, BytesMut};

use super::keys::RowKey;
use super::options::CHUNK_BYTES;
use crate::message::record::{self, RecordRef};
use crate::message::{Epoch, QueueId, Seq};

/// Rows below this size are not rewritten for being mostly settled: there is little to gain.
const SPARSE_BYTES_MIN: u32 = 16 * 1024;

/// The family that holds a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Tail,
    Chunks,
    Spill,
}

/// One slice or chunk. Its first seq is the key under which a queue's index holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) last: Seq,
    pub(super) epoch: Epoch,
    /// Records written.
    pub(super) count: u32,
    /// Records not settled.
    pub(super) live: u32,
    /// Length of the stored value.
    pub(super) bytes: u32,
    pub(super) place: Place,
}

impl Row {
    /// Bytes of the unsettled part, taking all records for equally long.
    pub(super) fn live_bytes(&self) -> u64 {
        u64::from(self.bytes) * u64::from(self.live) / u64::from(self.count.max(1))
    }

    /// A chunk of which less than a quarter is still wanted: worth to be rewritten.
    pub(super) fn is_sparse(&self) -> bool {
        self.place == Place::Chunks
            && self.bytes >= SPARSE_BYTES_MIN
            && u64::from(self.live) * 4 < u64::from(self.count)
    }

    /// The row has every seq from `first` to its last.
    pub(super) fn is_dense(&self, first: Seq) -> bool {
        self.last - first == u64::from(self.count) - 1
    }

    /// The row's key, given its first seq.
    pub(super) fn key(&self, queue: QueueId, first: Seq) -> RowKey {
        RowKey {
            queue,
            first,
            epoch: self.epoch,
        }
    }
}

/// A row that is to be written or read: which seqs of `first..=last` it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Runs {
    /// Rising first seqs of consecutive runs, each with the position of that record in the row.
    starts: Box<[(Seq, u32)]>,
    count: u32,
}

impl Runs {
    /// From the seqs of a row, rising.
    pub(super) fn collect(seqs: impl Iterator<Item = Seq>) -> Self {
        let mut starts: Vec<(Seq, u32)> = Vec::new();
        let mut count = 0;
        let mut next = None;
        for seq in seqs {
            if next != Some(seq) {
                starts.push((seq, count));
            }
            count += 1;
            next = seq.checked_add(1);
        }
        Self {
            starts: starts.into(),
            count,
        }
    }

    /// All seqs from `first` on, without a gap.
    pub(super) fn dense(first: Seq, count: u32) -> Self {
        Self {
            starts: Box::new([(first, 0)]),
            count,
        }
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// The runs as (first seq, length).
    pub(super) fn iter(&self) -> impl Iterator<Item = (Seq, u32)> {
        let ends = self
            .starts
            .iter()
            .skip(1)
            .map(|(_, position)| *position)
            .chain([self.count]);
        self.starts
            .iter()
            .zip(ends)
            .map(|((start, position), end)| (*start, end - position))
    }

    /// Position of the first record with a seq of at least `seq`.
    pub(super) fn position(&self, seq: Seq) -> u32 {
        let after = self.starts.partition_point(|(start, _)| *start <= seq);
        let end = self
            .starts
            .get(after)
            .map_or(self.count, |(_, position)| *position);
        match after.checked_sub(1).and_then(|run| self.starts.get(run)) {
            Some((start, position)) => {
                let into = u32::try_from(seq - start).unwrap_or(u32::MAX);
                position.saturating_add(into).min(end)
            }
            None => 0,
        }
    }

    /// The seq of the record at `position`.
    pub(super) fn seq(&self, position: u32) -> Seq {
        let run = self
            .starts
            .partition_point(|(_, start)| *start <= position)
            .saturating_sub(1);
        self.starts
            .get(run)
            .map_or(0, |(seq, start)| seq + u64::from(position - start))
    }
}

/// The settled records of a row that is settled in part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Partial {
    runs: Runs,
    /// A bit per record, by position.
    settled: Box<[u64]>,
}

impl Partial {
    /// A row of which nothing is settled yet.
    pub(super) fn new(runs: Runs) -> Self {
        let words = (runs.count() as usize).div_ceil(64);
        Self {
            runs,
            settled: vec![0; words].into(),
        }
    }

    /// Settles the records with seqs in `first..=last`; returns how many of them were not settled before.
    pub(super) fn settle(&mut self, first: Seq, last: Seq) -> u32 {
        let from = self.runs.position(first);
        let to = last
            .checked_add(1)
            .map_or_else(|| self.runs.count(), |after| self.runs.position(after));
        let mut settled = 0;
        for (word, mask) in masks(from, to) {
            if let Some(bits) = self.settled.get_mut(word) {
                settled += (mask & !*bits).count_ones();
                *bits |= mask;
            }
        }
        settled
    }

    /// Whether the record at `position` is settled.
    pub(super) fn is_settled(&self, position: u32) -> bool {
        self.settled
            .get(position as usize / 64)
            .is_some_and(|bits| bits & (1 << (position % 64)) != 0)
    }

    /// Whether the row has a record with this seq that is not settled.
    pub(super) fn is_live(&self, seq: Seq) -> bool {
        let position = self.runs.position(seq);
        position < self.runs.count() && self.runs.seq(position) == seq && !self.is_settled(position)
    }

    /// The first seq that is not settled.
    pub(super) fn first_live(&self) -> Option<Seq> {
        (0..self.runs.count())
            .find(|position| !self.is_settled(*position))
            .map(|position| self.runs.seq(position))
    }

    /// The settled seqs as inclusive ranges. A range may run over seqs that the row does not have.
    pub(super) fn ranges(&self) -> Vec<(Seq, Seq)> {
        let mut ranges: Vec<(Seq, Seq)> = Vec::new();
        let mut open = false;
        for position in 0..self.runs.count() {
            let settled = self.is_settled(position);
            if settled {
                let seq = self.runs.seq(position);
                match ranges.last_mut() {
                    Some((_, last)) if open => *last = seq,
                    _ => ranges.push((seq, seq)),
                }
            }
            open = settled;
        }
        ranges
    }
}

/// The bits from position `from` up to, not including, `to`: (word, mask) pairs.
fn masks(from: u32, to: u32) -> impl Iterator<Item = (usize, u64)> {
    (from / 64..to.div_ceil(64)).map(move |word| {
        let base = word * 64;
        let low = from.saturating_sub(base);
        let high = (to - base).min(64);
        let below_high = if high == 64 {
            u64::MAX
        } else {
            (1 << high) - 1
        };
        (
            word as usize,
            if low >= 64 {
                0
            } else {
                below_high & (u64::MAX << low)
            },
        )
    })
}

/// A large body that `bodies` keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeptBody {
    /// Never 0. The rest of the key is known by the table of bodies.
    pub(super) id: u64,
    pub(super) len: u32,
}

/// A body outside its record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RowBody<B = Bytes> {
    /// In the row itself, behind the records.
    Inline(B),
    /// In `bodies`.
    Kept(KeptBody),
}

/// What a row holds, before it is written.
#[derive(Debug, Clone)]
pub(super) struct Content {
    pub(super) queue: QueueId,
    pub(super) first: Seq,
    pub(super) last: Seq,
    pub(super) count: u32,
    pub(super) records: Bytes,
    pub(super) bodies: Vec<(Seq, RowBody)>,
}

impl Content {
    /// Bytes of records and of the bodies that stand beside them.
    pub(super) fn len(&self) -> usize {
        self.records.len()
            + self
                .bodies
                .iter()
                .map(|(_, body)| body.inline_len())
                .sum::<usize>()
    }

    pub(super) fn is_dense(&self) -> bool {
        self.last - self.first == u64::from(self.count) - 1
    }

    /// Which seqs there are.
    pub(super) fn runs(&self) -> Runs {
        Runs::collect(record::records(&self.records).map(|record| record.seq()))
    }

    /// Splits what belongs into chunks evenly into pieces of about [`CHUNK_BYTES`].
    pub(super) fn split(self) -> Vec<Self> {
        let total = self.len();
        let pieces = (total + CHUNK_BYTES / 2) / CHUNK_BYTES;
        if pieces <= 1 {
            return vec![self];
        }
        let share = total.div_ceil(pieces);
        let mut splitter = Splitter {
            queue: self.queue,
            all: &self.records,
            pieces: Vec::new(),
            start: 0,
            end: 0,
            piece: Piece::default(),
        };
        let mut bodies = self.bodies.into_iter().peekable();
        for record in record::records(&self.records) {
            let body = bodies
                .next_if(|(seq, _)| *seq == record.seq())
                .map(|(_, body)| body);
            let bytes = record.encoded_len() + body.as_ref().map_or(0, RowBody::inline_len);
            if splitter.piece.count > 0 && splitter.piece.bytes + bytes / 2 > share {
                splitter.cut();
            }
            splitter.add(&record, bytes, body);
        }
        splitter.cut();
        splitter.pieces
    }
}

struct Splitter<'a> {
    queue: QueueId,
    all: &'a Bytes,
    pieces: Vec<Content>,
    start: usize,
    end: usize,
    piece: Piece,
}

#[derive(Default)]
struct Piece {
    first: Seq,
    last: Seq,
    count: u32,
    bytes: usize,
    bodies: Vec<(Seq, RowBody)>,
}

impl Splitter<'_> {
    fn add(&mut self, record: &RecordRef<'_>, bytes: usize, body: Option<RowBody>) {
        if self.piece.count == 0 {
            self.piece.first = record.seq();
        }
        self.piece.last = record.seq();
        self.piece.count += 1;
        self.piece.bytes += bytes;
        self.piece
            .bodies
            .extend(body.map(|body| (record.seq(), body)));
        self.end += record.encoded_len();
    }

    fn cut(&mut self) {
        let Piece {
            first,
            last,
            count,
            bodies,
            ..
        } = std::mem::take(&mut self.piece);
        if count > 0 {
            let records = self.all.slice(self.start..self.end);
            self.pieces.push(Content {
                queue: self.queue,
                first,
                last,
                count,
                records,
                bodies,
            });
        }
        self.start = self.end;
    }
}

/// Collects records of several rows into one.
#[derive(Default)]
pub(super) struct Gather {
    records: BytesMut,
    bodies: Vec<(Seq, RowBody)>,
    first: Option<Seq>,
    last: Seq,
    count: u32,
}

impl Gather {
    /// Adds a record, with its body if that stands beside it. Seqs rise.
    pub(super) fn add(&mut self, record: &RecordRef<'_>, body: Option<RowBody>) {
        self.first.get_or_insert_with(|| record.seq());
        self.last = record.seq();
        self.count += 1;
        self.records.extend_from_slice(record.bytes());
        self.bodies.extend(body.map(|body| (record.seq(), body)));
    }

    /// Everything that was added, `None` when that is nothing.
    pub(super) fn finish(self, queue: QueueId) -> Option<Content> {
        let Self {
            records,
            bodies,
            first,
            last,
            count,
        } = self;
        Some(Content {
            queue,
            first: first?,
            last,
            count,
            records: records.freeze(),
            bodies,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn runs_and_partial_rows_behave_as_sets(
            seqs in prop::collection::btree_set(1u64..400, 1..200),
            settles in prop::collection::vec((0u64..420, 0u64..60), 0..20),
        ) {
            let runs = Runs::collect(seqs.iter().copied());
            prop_assert_eq!(runs.count() as usize, seqs.len());
            let listed: Vec<u64> = runs.iter().flat_map(|(first, length)| first..first + u64::from(length)).collect();
            prop_assert_eq!(&listed, &seqs.iter().copied().collect::<Vec<_>>());
            for (position, seq) in seqs.iter().enumerate() {
                prop_assert_eq!(runs.position(*seq), position as u32);
                prop_assert_eq!(runs.seq(position as u32), *seq);
            }
            let mut partial = Partial::new(runs);
            let mut live: BTreeSet<u64> = seqs.clone();
            for (first, length) in settles {
                let last = first + length;
                let before = live.len();
                live.retain(|seq| *seq < first || *seq > last);
                prop_assert_eq!(partial.settle(first, last) as usize, before - live.len());
            }
            prop_assert_eq!(partial.first_live(), live.first().copied());
            let settled: BTreeSet<u64> = partial.ranges().into_iter().flat_map(|(first, last)| first..=last).collect();
            prop_assert!(seqs.iter().all(|seq| settled.contains(seq) != live.contains(seq)));
            prop_assert!((0..420).all(|seq| partial.is_live(seq) == live.contains(&seq)));
        }
    }

    #[test]
    fn a_row_takes_little_memory() {
        assert_eq!(
            size_of::<Row>(),
            32,
            "10 million messages of 1 KiB are 40,000 of these"
        );
    }

    #[test]
    fn large_contents_are_split_evenly() {
        for (count, body, pieces) in [
            (300, 1000, 1),
            (400, 1000, 2),
            (2560, 1000, 10),
            (3, 900_000, 3),
            (1, 3_000_000, 1),
        ] {
            let mut records = Vec::new();
            for seq in 1..=count {
                let body = vec![0; body];
                let message = record::NewMessage {
                    exchange: b"",
                    routing_key: b"",
                    properties: &[0, 0],
                    annotations: b"",
                    body: record::Body::Inline(&body),
                    persistent: true,
                    priority: 0,
                    expiry_ms: 0,
                };
                record::encode(&mut records, seq, 0, &message);
            }
            let all = records.clone();
            let content = Content {
                queue: 1,
                first: 1,
                last: count,
                count: count as u32,
                records: records.into(),
                bodies: vec![],
            };
            let split = content.split();
            assert_eq!(split.len(), pieces, "{count} of {body}");
            assert_eq!(
                split
                    .iter()
                    .map(|piece| &piece.records[..])
                    .collect::<Vec<_>>()
                    .concat(),
                all
            );
            assert!(
                split
                    .windows(2)
                    .all(|pair| pair[0].last + 1 == pair[1].first)
            );
            let (least, most) = (
                split.iter().map(Content::len).min(),
                split.iter().map(Content::len).max(),
            );
            assert!(
                least.unwrap() * 10 >= most.unwrap() * 9,
                "{least:?} {most:?}"
            );
        }
    }

    #[test]
    fn settling_up_to_the_last_possible_seq_settles_the_end() {
        let mut partial = Partial::new(Runs::dense(10, 130));
        assert_eq!(partial.settle(100, Seq::MAX), 40);
        assert_eq!(partial.settle(0, Seq::MAX), 90);
        assert_eq!(partial.first_live(), None);
    }
}
