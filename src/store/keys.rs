//! Keys of the column families: big-endian, so that rows of a queue lie together and by rising seq.

use crate::message::{Epoch, QueueId, Seq};

/// A key that is written once in its life. Every such key ends with (or is) a number that is never used again.
pub(super) trait OnceKey {
    /// The key as stored.
    fn encode(&self) -> Vec<u8>;
}

/// A row of `tail`, `chunks`, `index` or `spill`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RowKey {
    pub(super) queue: QueueId,
    pub(super) first: Seq,
    /// The epoch that wrote the row; in `spill` a number of its own.
    pub(super) epoch: Epoch,
}

/// A row of `settled`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SettledKey {
    pub(super) queue: QueueId,
    pub(super) epoch: Epoch,
}

/// A row of `bodies`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BodyKey {
    pub(super) id: u64,
    /// The epoch that wrote the body: an id that comes back after its body was deleted gets a new key.
    pub(super) epoch: Epoch,
    pub(super) part: u32,
}

/// A row of `due`. The owner never uses a (time, seq) twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct DueKey {
    pub(super) owner: QueueId,
    pub(super) time_ms: u64,
    pub(super) seq: Seq,
}

impl OnceKey for DueKey {
    fn encode(&self) -> Vec<u8> {
        words([self.owner, self.time_ms, self.seq])
    }
}

impl OnceKey for RowKey {
    fn encode(&self) -> Vec<u8> {
        words([self.queue, self.first, self.epoch])
    }
}

impl OnceKey for SettledKey {
    fn encode(&self) -> Vec<u8> {
        words([self.queue, self.epoch])
    }
}

impl OnceKey for BodyKey {
    fn encode(&self) -> Vec<u8> {
        let mut key = words([self.id, self.epoch]);
        key.extend_from_slice(&self.part.to_be_bytes());
        key
    }
}

impl RowKey {
    /// `None` when `key` is not a row key.
    pub(super) fn decode(key: &[u8]) -> Option<Self> {
        let [queue, first, epoch] = parse(key)?;
        Some(Self {
            queue,
            first,
            epoch,
        })
    }
}

impl DueKey {
    /// `None` when `key` is not a key of `due`.
    pub(super) fn decode(key: &[u8]) -> Option<Self> {
        let [owner, time_ms, seq] = parse(key)?;
        Some(Self {
            owner,
            time_ms,
            seq,
        })
    }
}

impl SettledKey {
    /// `None` when `key` is not a key of `settled`.
    pub(super) fn decode(key: &[u8]) -> Option<Self> {
        let [queue, epoch] = parse(key)?;
        Some(Self { queue, epoch })
    }
}

#[cfg(test)]
impl BodyKey {
    /// `None` when `key` is not a key of `bodies`.
    pub(super) fn decode(key: &[u8]) -> Option<Self> {
        let [id, epoch] = parse(key.get(..16)?)?;
        let part = u32::from_be_bytes(key.get(16..)?.try_into().ok()?);
        Some(Self { id, epoch, part })
    }
}

/// All rows of `queue` in a family: `from..to`.
pub(super) fn queue_span(queue: QueueId) -> (Vec<u8>, Vec<u8>) {
    (
        queue.to_be_bytes().to_vec(),
        (queue + 1).to_be_bytes().to_vec(),
    )
}

fn words<const N: usize>(words: [u64; N]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn parse<const N: usize>(key: &[u8]) -> Option<[u64; N]> {
    let (chunks, rest) = key.as_chunks::<8>();
    if !rest.is_empty() || chunks.len() != N {
        return None;
    }
    let mut words = [0; N];
    for (word, chunk) in words.iter_mut().zip(chunks) {
        *word = u64::from_be_bytes(*chunk);
    }
    Some(words)
}

/// Keys of the `state` family. The store's own begin with 0, those of the broker are kept behind 1.
pub(super) mod state {
    use crate::message::QueueId;

    /// Format version and lowest reader version, two u32.
    pub(in crate::store) const FORMAT: &[u8] = b"\0format";
    /// Cluster id and node id, 16 bytes each.
    pub(in crate::store) const IDENTITY: &[u8] = b"\0identity";
    /// Last written epoch and the latest time given to a visit, two u64.
    pub(in crate::store) const EPOCH: &[u8] = b"\0epoch";
    /// Next queue id and next body id, two u64.
    pub(in crate::store) const IDS: &[u8] = b"\0ids";
    /// Begins the key of what is known of an owner of rows in `due`; its id follows. See `due::DueOwner`.
    const DUE: &[u8] = b"\0due/";

    /// Key of the row about the rows in `due` that `owner` has.
    pub(in crate::store) fn due(owner: QueueId) -> Vec<u8> {
        [DUE, &owner.to_be_bytes()].concat()
    }

    /// The owner that such a key names.
    pub(in crate::store) fn due_owner(stored: &[u8]) -> Option<QueueId> {
        let owner = stored.strip_prefix(DUE)?;
        Some(QueueId::from_be_bytes(owner.try_into().ok()?))
    }

    const BROKER: u8 = 1;

    /// Where a row of the broker is kept.
    pub(in crate::store) fn broker(key: &[u8]) -> Vec<u8> {
        let mut stored = Vec::with_capacity(key.len() + 1);
        stored.push(BROKER);
        stored.extend_from_slice(key);
        stored
    }

    /// The broker's own key of a stored one, `None` for the store's rows.
    pub(in crate::store) fn broker_key(stored: &[u8]) -> Option<&[u8]> {
        stored.strip_prefix(&[BROKER])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back_and_sort_by_queue_then_seq() {
        let low = RowKey {
            queue: 1,
            first: 255,
            epoch: 9,
        };
        let high = RowKey {
            queue: 1,
            first: 256,
            epoch: 1,
        };
        assert_eq!(RowKey::decode(&low.encode()), Some(low));
        assert!(low.encode() < high.encode());
        let (from, to) = queue_span(1);
        assert!(from <= low.encode() && high.encode() < to);
        let settled = SettledKey { queue: 7, epoch: 8 };
        assert_eq!(SettledKey::decode(&settled.encode()), Some(settled));
        assert_eq!(SettledKey::decode(&low.encode()), None);
        let body = BodyKey {
            id: 3,
            epoch: 4,
            part: 5,
        };
        assert_eq!(BodyKey::decode(&body.encode()), Some(body));
        assert_eq!(BodyKey::decode(&settled.encode()), None);
        assert_eq!(
            state::broker_key(&state::broker(b"vhost")),
            Some(&b"vhost"[..])
        );
        assert_eq!(state::broker_key(state::EPOCH), None);
        assert_eq!(state::due_owner(&state::due(77)), Some(77));
        assert_eq!(state::due_owner(state::EPOCH), None);
        let due = DueKey {
            owner: 7,
            time_ms: 255,
            seq: 9,
        };
        assert_eq!(DueKey::decode(&due.encode()), Some(due));
        let later = DueKey {
            time_ms: 256,
            seq: 1,
            ..due
        };
        assert!(due.encode() < later.encode());
    }
}
