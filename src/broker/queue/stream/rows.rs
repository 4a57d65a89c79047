//! The rows of the state family that a stream writes.
//!
//! | key | value after the version byte |
//! |---|---|
//! | `s/` queue id `c` first seq | last seq, bytes, last arrival, flags, Bloom filter |
//! | `s/` queue id `t` consumer tag | seq of the message to go on with |
//!
//! Integers are u64, big-endian. A row for each closed chunk of 256 KiB lets a restart know sizes, times and filters
//! without reading messages.

use super::directory::Chunk;
use super::filter::Summary;
use crate::message::op::Op;
use crate::message::{QueueId, Seq};

const PREFIX: &[u8; 2] = b"s/";
const VERSION: u8 = 1;
const CHUNK: u8 = b'c';
const TAG: u8 = b't';

/// Flag: some message of the chunk has no filter value.
const UNFILTERED: u8 = 1;

/// A row, read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Row<'a> {
    /// A closed chunk.
    Chunk(Chunk),
    /// How far a consumer with this tag has come.
    Position(&'a str, Seq),
}

/// The queue whose row this is; `None` for rows of others.
pub(in crate::broker) fn owner(key: &[u8]) -> Option<QueueId> {
    let (id, _) = key.strip_prefix(PREFIX)?.split_first_chunk::<8>()?;
    Some(u64::from_be_bytes(*id))
}

fn key(queue: QueueId, kind: u8, rest: &[u8]) -> Vec<u8> {
    let mut key = PREFIX.to_vec();
    key.extend_from_slice(&queue.to_be_bytes());
    key.push(kind);
    key.extend_from_slice(rest);
    key
}

/// Remembers a closed chunk.
pub(super) fn put_chunk(queue: QueueId, chunk: &Chunk) -> Op {
    let mut value = vec![VERSION];
    for number in [chunk.last, chunk.bytes, chunk.last_ms] {
        value.extend_from_slice(&number.to_be_bytes());
    }
    value.push(if chunk.summary.unfiltered {
        UNFILTERED
    } else {
        0
    });
    value.extend_from_slice(&chunk.summary.bits);
    Op::PutState {
        key: key(queue, CHUNK, &chunk.first.to_be_bytes()),
        value,
    }
}

/// Forgets the chunks that begin before `first`.
pub(super) fn delete_chunks_before(queue: QueueId, first: Seq) -> Op {
    Op::DeleteStateSpan {
        from: key(queue, CHUNK, &[]),
        to: key(queue, CHUNK, &first.to_be_bytes()),
    }
}

/// Forgets everything of a queue.
pub(in crate::broker) fn delete_all(queue: QueueId) -> Op {
    Op::DeleteStateSpan {
        from: key(queue, 0, &[]),
        to: key(queue, u8::MAX, &[]),
    }
}

/// Remembers how far a consumer has come.
pub(super) fn put_position(queue: QueueId, tag: &str, seq: Seq) -> Op {
    let mut value = vec![VERSION];
    value.extend_from_slice(&seq.to_be_bytes());
    Op::PutState {
        key: key(queue, TAG, tag.as_bytes()),
        value,
    }
}

/// Forgets how far a consumer has come.
pub(super) fn delete_position(queue: QueueId, tag: &str) -> Op {
    Op::DeleteState {
        key: key(queue, TAG, tag.as_bytes()),
    }
}

/// Reads a row that has an [`owner`]. `None`: it is damaged, or newer than this version.
pub(super) fn read<'a>(key: &'a [u8], value: &[u8]) -> Option<Row<'a>> {
    let rest = key.get(PREFIX.len() + 8..)?;
    let (&kind, name) = rest.split_first()?;
    let value = value.strip_prefix(&[VERSION])?;
    match kind {
        CHUNK => read_chunk(name, value).map(Row::Chunk),
        TAG => {
            let (seq, _) = take(value)?;
            Some(Row::Position(std::str::from_utf8(name).ok()?, seq))
        }
        _ => None,
    }
}

fn read_chunk(name: &[u8], value: &[u8]) -> Option<Chunk> {
    let (first, _) = take(name)?;
    let (last, value) = take(value)?;
    let (bytes, value) = take(value)?;
    let (last_ms, value) = take(value)?;
    let (&flags, bits) = value.split_first()?;
    (first <= last).then(|| Chunk {
        first,
        last,
        bytes,
        last_ms,
        summary: Summary {
            bits: bits.into(),
            unfiltered: flags & UNFILTERED != 0,
        },
    })
}

fn take(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(op: Op) -> (Vec<u8>, Vec<u8>) {
        match op {
            Op::PutState { key, value } => (key, value),
            other => panic!("no row: {other:?}"),
        }
    }

    #[test]
    fn rows_read_back_as_they_were_written() {
        let mut summary = Summary::default();
        summary.add(Some(b"red"), 20);
        summary.add(None, 20);
        let chunk = Chunk {
            first: 7,
            last: 99,
            bytes: 300_000,
            last_ms: 1_700_000_000_000,
            summary,
        };
        let (key, value) = row(put_chunk(12, &chunk));
        assert_eq!(owner(&key), Some(12));
        assert_eq!(read(&key, &value), Some(Row::Chunk(chunk)));
        for length in 0..26 {
            assert_eq!(read(&key, &value[..length]), None, "{length} bytes");
        }
        let (key, value) = row(put_position(12, "billing", 40));
        assert_eq!(owner(&key), Some(12));
        assert_eq!(read(&key, &value), Some(Row::Position("billing", 40)));
        assert_eq!(owner(b"q/whatever it is"), None);
    }

    #[test]
    fn spans_hold_the_rows_of_one_queue() {
        let (chunk, _) = row(put_position(12, "t", 1));
        let Op::DeleteStateSpan { from, to } = delete_all(12) else {
            panic!("no span");
        };
        assert!(from < chunk && chunk < to);
        for other in [11, 13] {
            let (key, _) = row(put_position(other, "t", 1));
            assert!(!(from <= key && key < to));
        }
    }
}
