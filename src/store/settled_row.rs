//! The value of a row of `settled`: what one epoch settled in one queue, or everything that still matters (a snapshot).
//!
//! ```text
//!  0 u8 version (2), u8 1 for a snapshot, two bytes 0
//!  4 u64 next seq, reserved ahead     12 u64 delivered up to
//! 20 varint number of ranges, then per range varint gap before it and varint length - 1
//!    varint number of counts, then per message varint gap before its seq, varint delivered, varint acquired
//! ```
//! Version 1 ends behind the ranges.

use std::collections::BTreeMap;

use super::encode::{Reader, put_varint};
use crate::message::Seq;
use crate::message::op::Counts;

/// The form that is written, and the newest that is read.
const VERSION: u8 = 2;

/// The first form, without counts.
const VERSION_WITHOUT_COUNTS: u8 = 1;

/// What one epoch settled in one queue, or everything that still matters (a snapshot).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SettledRow {
    pub(super) snapshot: bool,
    /// No seq below is ever given out again.
    pub(super) next_seq: Seq,
    /// Seqs below were delivered at least once.
    pub(super) delivered_upto: Seq,
    /// Inclusive, rising and disjoint.
    pub(super) ranges: Vec<(Seq, Seq)>,
    /// How often messages that came back were delivered. Replaces what earlier rows say of the same message.
    pub(super) counts: BTreeMap<Seq, Counts>,
}

impl SettledRow {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(24 + self.ranges.len() * 4);
        out.extend_from_slice(&[VERSION, u8::from(self.snapshot), 0, 0]);
        out.extend_from_slice(&self.next_seq.to_le_bytes());
        out.extend_from_slice(&self.delivered_upto.to_le_bytes());
        put_varint(&mut out, self.ranges.len() as u64);
        let mut end = 0;
        for (first, last) in &self.ranges {
            put_varint(&mut out, first - end);
            put_varint(&mut out, last - first);
            end = *last;
        }
        put_varint(&mut out, self.counts.len() as u64);
        let mut before = 0;
        for (seq, counts) in &self.counts {
            put_varint(&mut out, seq - before);
            put_varint(&mut out, counts.delivered.into());
            put_varint(&mut out, counts.acquired.into());
            before = *seq;
        }
        out
    }

    /// `None` when `value` is not a whole row of `settled`.
    pub(super) fn decode(value: &[u8]) -> Option<Self> {
        let mut reader = Reader(value);
        let fixed = reader.take(4)?;
        let (version, snapshot) = match fixed {
            [
                version @ (VERSION | VERSION_WITHOUT_COUNTS),
                kind @ (0 | 1),
                ..,
            ] => (*version, *kind == 1),
            _ => return None,
        };
        let (next_seq, delivered_upto) = (reader.u64()?, reader.u64()?);
        let number = reader.varint()?;
        let mut ranges = Vec::new();
        let mut end = 0u64;
        for _ in 0..number {
            let first = end.checked_add(reader.varint()?)?;
            end = first.checked_add(reader.varint()?)?;
            ranges.push((first, end));
        }
        let counts = match version {
            VERSION_WITHOUT_COUNTS => BTreeMap::new(),
            _ => decode_counts(&mut reader)?,
        };
        reader.0.is_empty().then_some(Self {
            snapshot,
            next_seq,
            delivered_upto,
            ranges,
            counts,
        })
    }
}

fn decode_counts(reader: &mut Reader<'_>) -> Option<BTreeMap<Seq, Counts>> {
    let number = reader.varint()?;
    let mut counts = BTreeMap::new();
    let mut seq = 0u64;
    for _ in 0..number {
        seq = seq.checked_add(reader.varint()?)?;
        let delivered = u32::try_from(reader.varint()?).ok()?;
        let acquired = u32::try_from(reader.varint()?).ok()?;
        counts.insert(
            seq,
            Counts {
                delivered,
                acquired,
            },
        );
    }
    Some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> SettledRow {
        let counts = |delivered, acquired| Counts {
            delivered,
            acquired,
        };
        SettledRow {
            snapshot: true,
            next_seq: 1 << 41,
            delivered_upto: 7,
            ranges: vec![(1, 1), (3, 90), (1 << 40, (1 << 40) + 5)],
            counts: BTreeMap::from([(2, counts(1, 0)), (91, counts(u32::MAX, 300))]),
        }
    }

    #[test]
    fn a_settled_row_reads_back() {
        let encoded = row().encode();
        assert_eq!(SettledRow::decode(&encoded), Some(row()));
        for length in 0..encoded.len() {
            assert_eq!(
                SettledRow::decode(&encoded[..length]),
                None,
                "{length} bytes"
            );
        }
    }

    #[test]
    fn a_row_of_the_first_version_has_no_counts() {
        let row = SettledRow {
            counts: BTreeMap::new(),
            ..row()
        };
        let mut encoded = row.encode();
        assert_eq!(encoded.pop(), Some(0), "the number of counts ends the row");
        encoded[0] = VERSION_WITHOUT_COUNTS;
        assert_eq!(SettledRow::decode(&encoded), Some(row));
    }
}
