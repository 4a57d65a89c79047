//! The values of the store's rows. All integers are little-endian, runs of seqs are varints.
//!
//! A row of `tail`, `chunks` or `spill`:
//! ```text
//!  0 u8 version (1), three bytes 0    4 u32 records
//!  8 u64 queue      16 u64 first seq  24 u64 last seq      32 u64 epoch
//! 40 u32 length of the records       44 u32 number of bodies
//! 48 bodies: u64 seq, u64 id, u32 length each, by rising seq; id 0: the bytes stand behind the records
//!    records | bytes of the bodies with id 0
//! ```
//! A row of `index`:
//! ```text
//!  0 u8 version (1), three bytes 0    4 u32 records        8 u32 length of the chunk   12 u32 number of kept bodies
//! 16 u64 last seq  24 u64 body bytes  32 u64 earliest and 40 u64 latest expiry, ms (0: none)
//! 48 kept bodies (those with an id), as above
//!    runs of seqs: varint number (0: no gaps), then per run varint gap before it and varint length
//! ```

use bytes::Bytes;

use super::row::{Content, KeptBody, RowBody, Runs};
use crate::message::record;
use crate::message::{Epoch, QueueId, Seq};

const VERSION: u8 = 1;
const ROW_HEADER_BYTES: usize = 48;
const BODY_BYTES: usize = 20;

/// The value of a row, in parts: `fixed` first, then the records, then the bodies without an id.
pub(super) struct EncodedRow<'a> {
    fixed: Vec<u8>,
    content: &'a Content,
}

impl<'a> EncodedRow<'a> {
    pub(super) fn new(content: &'a Content, epoch: Epoch) -> Self {
        let mut fixed = Vec::with_capacity(ROW_HEADER_BYTES + content.bodies.len() * BODY_BYTES);
        fixed.extend_from_slice(&[VERSION, 0, 0, 0]);
        fixed.extend_from_slice(&content.count.to_le_bytes());
        for word in [content.queue, content.first, content.last, epoch] {
            fixed.extend_from_slice(&word.to_le_bytes());
        }
        fixed.extend_from_slice(&(content.records.len() as u32).to_le_bytes());
        fixed.extend_from_slice(&(content.bodies.len() as u32).to_le_bytes());
        for (seq, body) in &content.bodies {
            put_body(&mut fixed, *seq, body);
        }
        Self { fixed, content }
    }

    pub(super) fn parts(&self) -> Vec<&[u8]> {
        let inline = self
            .content
            .bodies
            .iter()
            .filter_map(|(_, body)| match body {
                RowBody::Inline(bytes) => Some(&bytes[..]),
                RowBody::Kept(_) => None,
            });
        [&self.fixed[..], &self.content.records[..]]
            .into_iter()
            .chain(inline)
            .collect()
    }

    pub(super) fn len(&self) -> usize {
        self.parts().iter().map(|part| part.len()).sum()
    }
}

fn put_body(out: &mut Vec<u8>, seq: Seq, body: &RowBody) {
    let (id, len) = match body {
        RowBody::Inline(bytes) => (0, bytes.len() as u32),
        RowBody::Kept(kept) => (kept.id, kept.len),
    };
    for word in [seq, id] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&len.to_le_bytes());
}

/// Reads a value front to back; every step can fail.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn version(&mut self) -> Option<()> {
        (self.take(4)?.first() == Some(&VERSION)).then_some(())
    }

    pub(super) fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The value of a row, read in place.
#[derive(Debug)]
pub(super) struct RowView<'a> {
    pub(super) queue: QueueId,
    pub(super) first: Seq,
    pub(super) last: Seq,
    pub(super) epoch: Epoch,
    pub(super) count: u32,
    pub(super) records: &'a [u8],
    pub(super) bodies: Vec<(Seq, RowBody<&'a [u8]>)>,
}

impl<'a> RowView<'a> {
    /// `None` when `value` is not a whole row.
    pub(super) fn decode(value: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(value);
        reader.version()?;
        let count = reader.u32()?;
        let (queue, first, last, epoch) =
            (reader.u64()?, reader.u64()?, reader.u64()?, reader.u64()?);
        let records_len = reader.u32()? as usize;
        let body_count = reader.u32()? as usize;
        let mut table = Reader(reader.take(body_count.checked_mul(BODY_BYTES)?)?);
        let records = reader.take(records_len)?;
        let mut bodies = Vec::with_capacity(body_count);
        for _ in 0..body_count {
            let (seq, id, len) = (table.u64()?, table.u64()?, table.u32()?);
            let body = if id == 0 {
                RowBody::Inline(reader.take(len as usize)?)
            } else {
                RowBody::Kept(KeptBody { id, len })
            };
            bodies.push((seq, body));
        }
        reader.0.is_empty().then_some(Self {
            queue,
            first,
            last,
            epoch,
            count,
            records,
            bodies,
        })
    }

    /// Which seqs the row has.
    pub(super) fn runs(&self) -> Runs {
        Runs::collect(record::records(self.records).map(|record| record.seq()))
    }
}

/// Number of seqs in `first..=last`.
pub(super) fn span(first: Seq, last: Seq) -> u64 {
    (last - first).saturating_add(1)
}

/// What recovery needs to know of a chunk without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IndexRow {
    pub(super) last: Seq,
    pub(super) count: u32,
    /// Length of the chunk's value.
    pub(super) bytes: u32,
    /// Sum of the lengths of all bodies.
    pub(super) body_bytes: u64,
    /// Earliest and latest expiry of records that expire, 0 when none does.
    pub(super) expiry_ms: (u64, u64),
    /// Bodies in `bodies`, by rising seq.
    pub(super) kept: Vec<(Seq, KeptBody)>,
    /// Which seqs the chunk has.
    pub(super) runs: Runs,
}

impl IndexRow {
    /// Describes `content`, which is stored in `bytes` bytes.
    pub(super) fn of(content: &Content, bytes: usize) -> Self {
        let mut row = Self {
            last: content.last,
            count: content.count,
            bytes: bytes as u32,
            body_bytes: 0,
            expiry_ms: (0, 0),
            kept: content
                .bodies
                .iter()
                .filter_map(|(seq, body)| Some((*seq, body.kept()?)))
                .collect(),
            runs: content.runs(),
        };
        for record in record::records(&content.records) {
            row.body_bytes += record.body_len() as u64;
            if record.expiry_ms() != 0 {
                let (earliest, latest) = row.expiry_ms;
                let earliest = if earliest == 0 {
                    record.expiry_ms()
                } else {
                    earliest.min(record.expiry_ms())
                };
                row.expiry_ms = (earliest, latest.max(record.expiry_ms()));
            }
        }
        row
    }

    pub(super) fn encode(&self, first: Seq) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.kept.len() * BODY_BYTES);
        out.extend_from_slice(&[VERSION, 0, 0, 0]);
        for word in [self.count, self.bytes, self.kept.len() as u32] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        for word in [
            self.last,
            self.body_bytes,
            self.expiry_ms.0,
            self.expiry_ms.1,
        ] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        for (seq, kept) in &self.kept {
            put_body(&mut out, *seq, &RowBody::Kept(*kept));
        }
        if span(first, self.last) == u64::from(self.count) {
            put_varint(&mut out, 0);
            return out;
        }
        put_varint(&mut out, self.runs.iter().count() as u64);
        let mut end = first;
        for (start, length) in self.runs.iter() {
            put_varint(&mut out, start - end);
            put_varint(&mut out, u64::from(length));
            end = start + u64::from(length);
        }
        out
    }

    /// `None` when `value` is not a whole index row.
    pub(super) fn decode(first: Seq, value: &[u8]) -> Option<Self> {
        let mut reader = Reader(value);
        reader.version()?;
        let (count, bytes, kept_count) = (reader.u32()?, reader.u32()?, reader.u32()? as usize);
        let (last, body_bytes) = (reader.u64()?, reader.u64()?);
        let expiry_ms = (reader.u64()?, reader.u64()?);
        let mut kept = Vec::new();
        for _ in 0..kept_count {
            let (seq, id, len) = (reader.u64()?, reader.u64()?, reader.u32()?);
            kept.push((seq, KeptBody { id, len }));
        }
        let runs = match reader.varint()? {
            0 => Runs::dense(first, count),
            number => decode_runs(&mut reader, first, number, count)?,
        };
        (reader.0.is_empty() && runs.count() == count && last >= first).then_some(Self {
            last,
            count,
            bytes,
            body_bytes,
            expiry_ms,
            kept,
            runs,
        })
    }
}

fn decode_runs(reader: &mut Reader<'_>, first: Seq, number: u64, count: u32) -> Option<Runs> {
    let mut end = first;
    let mut runs = Vec::new();
    let mut left = u64::from(count);
    for _ in 0..number {
        let start = end.checked_add(reader.varint()?)?;
        let length = reader.varint()?;
        left = left.checked_sub(length)?;
        end = start.checked_add(length)?;
        runs.push(start..end);
    }
    Some(Runs::collect(runs.into_iter().flatten()))
}

impl<B: AsRef<[u8]>> RowBody<B> {
    /// The body in `bodies`, if it is one.
    pub(super) fn kept(&self) -> Option<KeptBody> {
        match self {
            Self::Inline(_) => None,
            Self::Kept(kept) => Some(*kept),
        }
    }

    /// Length of the body.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Inline(bytes) => bytes.as_ref().len(),
            Self::Kept(kept) => kept.len as usize,
        }
    }

    /// Bytes that the body takes in the row.
    pub(super) fn inline_len(&self) -> usize {
        match self {
            Self::Inline(bytes) => bytes.as_ref().len(),
            Self::Kept(_) => 0,
        }
    }
}

impl RowBody<&[u8]> {
    /// The body as a part of the value that it was read from.
    pub(super) fn shared(&self, value: &Bytes) -> RowBody {
        match self {
            Self::Inline(bytes) => RowBody::Inline(value.slice_ref(bytes)),
            Self::Kept(kept) => RowBody::Kept(*kept),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::record::{Body, NewMessage, SharedBody};

    fn content(seqs: &[Seq], bodies: Vec<(Seq, RowBody)>) -> Content {
        let mut records = Vec::new();
        for seq in seqs {
            let body = match bodies.iter().find(|(of, _)| of == seq) {
                Some((_, body)) => Body::Shared(SharedBody {
                    id: 0,
                    bytes: Bytes::from(vec![7; body.len()]),
                }),
                None => Body::Inline(b"body"),
            };
            let message = NewMessage {
                exchange: b"",
                routing_key: b"q",
                properties: &[0, 0],
                annotations: b"",
                body,
                persistent: true,
                priority: 0,
                expiry_ms: seq * 10,
            };
            record::encode(&mut records, *seq, 1, &message);
        }
        let (first, last) = (seqs[0], seqs[seqs.len() - 1]);
        Content {
            queue: 3,
            first,
            last,
            count: seqs.len() as u32,
            records: records.into(),
            bodies,
        }
    }

    #[test]
    fn a_row_reads_back_with_its_bodies() {
        let inline = RowBody::Inline(Bytes::from(vec![1; 20_000]));
        let kept = RowBody::Kept(KeptBody { id: 9, len: 30_000 });
        let content = content(&[5, 6, 9], vec![(5, inline), (9, kept)]);
        let encoded = EncodedRow::new(&content, 44);
        let value = Bytes::from(encoded.parts().concat());
        assert_eq!(value.len(), encoded.len());
        let row = RowView::decode(&value).unwrap();
        assert_eq!(
            (row.queue, row.first, row.last, row.epoch, row.count),
            (3, 5, 9, 44, 3)
        );
        let bodies = row.bodies.iter();
        let bodies: Vec<_> = bodies
            .map(|(seq, body)| (*seq, body.shared(&value)))
            .collect();
        assert_eq!(
            (row.records, &bodies),
            (&content.records[..], &content.bodies)
        );
        assert_eq!(row.runs().iter().collect::<Vec<_>>(), [(5, 2), (9, 1)]);
        for length in 0..value.len() {
            assert!(
                RowView::decode(&value.slice(..length)).is_none(),
                "{length} bytes"
            );
        }
    }

    #[test]
    fn an_index_row_reads_back() {
        for seqs in [&[5, 6, 7][..], &[5, 7, 8, 1_000_000_000]] {
            let kept = vec![(7, RowBody::Kept(KeptBody { id: 9, len: 30_000 }))];
            let row = IndexRow::of(&content(seqs, kept), 999);
            assert_eq!(row.body_bytes, 30_000 + 4 * (seqs.len() as u64 - 1));
            assert_eq!(row.expiry_ms, (50, seqs[seqs.len() - 1] * 10));
            let encoded = row.encode(5);
            assert_eq!(IndexRow::decode(5, &encoded).as_ref(), Some(&row));
            for length in 0..encoded.len() {
                assert_eq!(
                    IndexRow::decode(5, &encoded[..length]),
                    None,
                    "{length} bytes"
                );
            }
        }
    }
}
