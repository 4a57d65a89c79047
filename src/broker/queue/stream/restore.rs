//! A stream after a restart: the rows of its chunks, and the messages since the last one.

use std::sync::Arc;

use super::directory::Note;
use super::rows::{self, Row};
use super::{Inner, Stream, filter};
use crate::broker::queue::Queue;
use crate::message::op::Op;
use crate::message::record;
use crate::store::LoadError;

/// A row as it is stored: key and value.
pub(in crate::broker) type StoredRow<'a> = (&'a [u8], &'a [u8]);

impl Queue {
    /// A stream takes over what the store remembers of it, before anybody uses it; other queues have no rows. Answers
    /// what is to be written.
    ///
    /// # Errors
    /// The newest messages cannot be read.
    pub(in crate::broker) fn restore_stream(
        self: &Arc<Self>,
        rows: &[StoredRow<'_>],
    ) -> Result<Vec<Op>, LoadError> {
        let Some(stream) = self.stream() else {
            return Ok(Vec::new());
        };
        let ops = stream.restore(self, rows)?;
        stream.started(self, self.services.now_ms());
        Ok(ops)
    }
}

impl Stream {
    /// Takes over what the store remembers, before anybody uses the stream. Only messages behind the last chunk that
    /// has a row are read, at most a chunk's worth unless rows are missing. Answers what is to be written.
    fn restore(&self, queue: &Arc<Queue>, rows: &[StoredRow<'_>]) -> Result<Vec<Op>, LoadError> {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let end = inner.recovered_end;
        let mut ops = Vec::new();
        for (key, value) in rows {
            match rows::read(key, value) {
                Some(Row::Chunk(chunk))
                    if chunk.first == inner.directory.next() && chunk.last < end =>
                {
                    let limits = inner.limits();
                    inner.directory.restore(chunk, &limits);
                }
                // Settled in part, or not there: what is left of it is read below.
                Some(Row::Chunk(_)) => ops.push(Op::DeleteState { key: key.to_vec() }),
                Some(Row::Position(tag, seq)) => inner.tracking.restore(tag, seq),
                None => {
                    let spec = &queue.spec;
                    tracing::warn!(queue = %spec.name, vhost = %spec.vhost, "a row of a stream cannot be read");
                    ops.push(Op::DeleteState { key: key.to_vec() });
                }
            }
        }
        read_rest(queue, inner, &mut ops)?;
        inner.report_memory(queue);
        Ok(ops)
    }
}

/// Reads the messages that no row tells of.
fn read_rest(queue: &Arc<Queue>, inner: &mut Inner, ops: &mut Vec<Op>) -> Result<(), LoadError> {
    let end = inner.recovered_end;
    let store = &queue.services.store;
    while inner.directory.next() < end {
        let from = inner.directory.next();
        let loaded = store.load(queue.spec.id, from, end - 1)?;
        for record in record::records(&loaded.records) {
            if record.seq() != inner.directory.next() {
                // A gap: an older version settled messages one by one.
                inner.directory.leap(record.seq());
            }
            let outside = if record.has_external_body() {
                record.body_len()
            } else {
                0
            };
            let note = Note {
                seq: record.seq(),
                arrival_ms: record.arrival_ms(),
                bytes: (record.encoded_len() + outside) as u64,
                filter_value: filter::value_of_record(&record),
            };
            let limits = inner.limits();
            if let Some(chunk) = inner.directory.add(note, &limits) {
                ops.push(rows::put_chunk(queue.spec.id, chunk));
            }
        }
        if inner.directory.next() <= loaded.covered_upto {
            inner.directory.leap(loaded.covered_upto + 1);
        }
        let covered = (from, loaded.covered_upto);
        inner.log.install(covered, loaded.records, loaded.bodies, 0);
        if queue.services.memory.is_over() {
            inner.log.evict(usize::MAX, store.durable(), true);
        }
    }
    Ok(())
}
