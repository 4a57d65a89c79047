//! Reading ahead: what a reader comes to next is read while it reads what is before.
//!
//! What a load brings is known when a loader thread begins it ([`Stream::load_begins`]). The one behind it is asked for
//! at that moment, so that another thread reads it meanwhile: the disk has always something to do, and no reader waits
//! for the answer to each piece. The more pieces in a row a reader has read, the more is read ahead for it, so that one
//! that wants a single message costs no more than a piece.

use std::sync::Arc;

use super::readers::Reader;
use super::{Inner, Stream};
use crate::broker::delivery::ConsumerId;
use crate::broker::queue::Queue;
use crate::message::Seq;

/// What is read ahead for a reader that begins.
pub(super) const AHEAD_BYTES_MIN: usize = 256 * 1024;

/// What is read ahead for a reader at most, to the end of the load that exceeds it.
pub(super) const AHEAD_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A load that is on its way.
#[derive(Debug)]
pub(super) struct Loading {
    /// What it will bring, once that is known: the last seq, and how many bytes.
    stretch: Option<(Seq, usize)>,
    /// So many bytes are wanted from where it begins.
    wanted_bytes: usize,
    /// The reader that wants them.
    reader: ConsumerId,
    /// Readers that wait for it.
    pub(super) waiting: Vec<ConsumerId>,
}

impl Stream {
    /// A loader thread begins to read what was asked for from `from` on, and it will be what there is up to
    /// `covered_upto`, some `bytes`.
    pub(in crate::broker::queue) fn load_begins(
        &self,
        queue: &Arc<Queue>,
        from: Seq,
        covered_upto: Seq,
        bytes: usize,
    ) {
        let mut inner = self.inner.lock();
        let Some(loading) = inner.loading.get_mut(&from) else {
            return;
        };
        loading.stretch = Some((covered_upto, bytes));
        let wanted_bytes = loading.wanted_bytes.saturating_sub(bytes);
        let reader = loading.reader;
        let reader = inner.readers.get(reader).cloned();
        if let Some(reader) = reader {
            inner.read_ahead(queue, &reader, covered_upto + 1, wanted_bytes);
        }
    }
}

impl Inner {
    /// Asks for what of the next `bytes` from `seq` on is in the store only, unless memory is short.
    pub(super) fn read_ahead(
        &mut self,
        queue: &Arc<Queue>,
        reader: &Reader,
        mut seq: Seq,
        mut bytes: usize,
    ) {
        let next = self.directory.next();
        while bytes > 0 && !queue.services.memory.is_over() {
            if let Some(filter) = &reader.filter {
                seq = self.directory.skip(seq, filter);
            }
            if seq >= next {
                return;
            }
            let stretch = match self.loading.get_mut(&seq) {
                Some(loading) => {
                    loading.wanted_bytes = loading.wanted_bytes.max(bytes);
                    loading.stretch
                }
                None => self.log.resident_at(seq),
            };
            if let Some((last, size)) = stretch {
                seq = last + 1;
                bytes = bytes.saturating_sub(size);
                continue;
            }
            if let Some(upto) = self.log.cold_at(seq, next) {
                self.load(queue, (seq, upto), reader.id, bytes);
            }
            return;
        }
    }

    /// Asks for a stretch that is in the store only, unless it is on its way, and for what is behind it: in all, so
    /// many bytes.
    pub(super) fn load(
        &mut self,
        queue: &Arc<Queue>,
        (from, upto): (Seq, Seq),
        reader: ConsumerId,
        wanted_bytes: usize,
    ) -> &mut Loading {
        self.loading.entry(from).or_insert_with(|| {
            queue.services.loader.request(queue, from, upto);
            Loading {
                stretch: None,
                wanted_bytes,
                reader,
                waiting: Vec::new(),
            }
        })
    }
}
