//! A reader takes what it can: from its own place, outside the lock of the stream.

use std::sync::Arc;

use super::ahead::AHEAD_BYTES_MAX;
use super::log::{Found, Piece};
use super::readers::{Progress, Reader};
use super::{Inner, Stream, filter};
use crate::broker::delivery::{ConsumerId, Delivery};
use crate::broker::queue::{Queue, VISIT_BYTES_MAX, VISIT_MESSAGES_MAX};
use crate::message::op::Counts;
use crate::message::record::RecordRef;
use crate::message::{Seq, Ticket};

/// Passing over a message costs a visit this part of delivering it.
const SKIPPED_DISCOUNT: usize = 8;

/// What a visit may still do.
struct Share {
    messages: usize,
    bytes: usize,
    /// Messages that the rate of the stream allows.
    allowed: usize,
}

impl Share {
    const fn is_used_up(&self) -> bool {
        self.messages == 0 || self.bytes == 0
    }
}

impl Stream {
    /// Gives a reader one visit's worth of what it may have. True: call again in a further visit. Otherwise it is
    /// woken or called by whatever it waits for.
    pub(super) fn pull(&self, queue: &Arc<Queue>, id: ConsumerId) -> bool {
        let Some(reader) = self.inner.lock().readers.get(id).cloned() else {
            return false;
        };
        let mut progress = reader.progress.lock();
        if !progress.begun {
            return false;
        }
        let mut share = Share {
            messages: VISIT_MESSAGES_MAX,
            bytes: VISIT_BYTES_MAX,
            allowed: usize::MAX,
        };
        while reader.window() > 0 {
            if share.is_used_up() {
                return true;
            }
            let Some(allowed) = self.allowed(queue, &reader) else {
                return false;
            };
            let room = reader.sink.room_bytes();
            if room == 0 {
                if reader.sink.stall() {
                    return false;
                }
                continue;
            }
            let Some(piece) = self.next_piece(queue, &reader, &mut progress) else {
                return false;
            };
            share.allowed = allowed;
            let goes_on = hand_out(&reader, &mut progress, &piece, &mut share, room);
            if let Some(throttle) = queue.consume_throttle() {
                let taken = allowed - share.allowed;
                throttle.spend(queue.services.now_ms(), taken as u64, 0);
            }
            if !goes_on {
                return false;
            }
        }
        false
    }

    /// How many messages the rate of the stream allows. `None`: none, and the reader is woken when there is one.
    fn allowed(&self, queue: &Arc<Queue>, reader: &Reader) -> Option<usize> {
        let Some(throttle) = queue.consume_throttle() else {
            return Some(usize::MAX);
        };
        let now_ms = queue.services.now_ms();
        let available = throttle.available(now_ms);
        if available > 0 {
            return Some(usize::try_from(available).unwrap_or(usize::MAX));
        }
        self.inner.lock().parked.insert(reader.id);
        queue.call_at(now_ms + throttle.wait_ms(now_ms));
        None
    }

    /// The piece with the next message that the reader may want. `None`: it waits for one.
    fn next_piece(
        &self,
        queue: &Arc<Queue>,
        reader: &Reader,
        progress: &mut Progress,
    ) -> Option<Arc<Piece>> {
        let services = &queue.services;
        let durable = services.store.durable();
        let mut inner = self.inner.lock();
        if inner.deleted {
            return None;
        }
        if inner.is_paused {
            inner.parked.insert(reader.id);
            return None;
        }
        let mut seq = progress.next.max(inner.directory.first());
        if let Some(filter) = &reader.filter {
            seq = inner.directory.skip(seq, filter);
        }
        progress.next = seq;
        let next = inner.directory.next();
        if seq >= next {
            inner.parked.insert(reader.id);
            return None;
        }
        match inner.log.find(seq, next, durable) {
            Found::Piece(piece) => {
                let before = progress.place.map(|(first, _)| first);
                if before != Some(piece.first) {
                    inner.read_ahead(queue, reader, piece.last + 1, progress.ahead_bytes);
                    progress.ahead_bytes = AHEAD_BYTES_MAX.min(2 * progress.ahead_bytes);
                    if let Some(left) = before {
                        inner.leave(queue, left);
                    }
                }
                Some(piece)
            }
            Found::Later(epoch) => {
                inner.parked.insert(reader.id);
                let subscribes = inner.arm();
                drop(inner);
                if subscribes {
                    self.subscribe(queue, Ticket::local(epoch));
                }
                None
            }
            Found::Cold(upto) => {
                let stretch = (seq, upto);
                let loading = inner.load(queue, stretch, reader.id, progress.ahead_bytes);
                if !loading.waiting.contains(&reader.id) {
                    loading.waiting.push(reader.id);
                }
                None
            }
        }
    }
}

impl Inner {
    /// A reader has read the piece that begins with `first`. If it was read back for this reader alone, nobody needs it
    /// any more.
    fn leave(&mut self, queue: &Arc<Queue>, first: Seq) {
        if self.readers.iter().nth(1).is_none() {
            self.log.drop_loaded(first);
            self.report_memory(queue);
        }
    }
}

/// Gives the reader what it wants of a piece, as far as its window, its outbox and the visit allow. `false`: the outbox
/// refused some, and calls when it has room.
fn hand_out(
    reader: &Reader,
    progress: &mut Progress,
    piece: &Piece,
    share: &mut Share,
    room: usize,
) -> bool {
    let (count_max, bytes_max) = (
        share.messages.min(reader.window()).min(share.allowed),
        share.bytes.min(room).max(1),
    );
    let begin = match progress.place {
        Some((first, at)) if first == piece.first => at,
        _ => 0,
    };
    let mut batch: Vec<Delivery<'_>> = Vec::new();
    let (mut bytes, mut skipped) = (0, 0);
    let (mut at, mut next) = (begin, progress.next);
    while batch.len() < count_max && bytes + skipped / SKIPPED_DISCOUNT < bytes_max {
        if at == piece.records.len() {
            next = piece.last + 1;
            break;
        }
        let record = RecordRef::at(&piece.records, at);
        if is_wanted(reader, progress, &record) {
            let delivery = Delivery {
                seq: record.seq(),
                redelivered: false,
                counts: Counts::default(),
                stream_offset: Some(record.seq() - 1),
                record,
                body: piece.body(&record),
            };
            bytes += delivery.cost_bytes();
            batch.push(delivery);
        } else {
            skipped += record.encoded_len();
        }
        next = next.max(record.seq() + 1);
        at += record.encoded_len();
    }
    let taken = if batch.is_empty() {
        0
    } else {
        reader.sink.deliver(&batch)
    };
    reader.delivered(progress, batch[..taken].iter().map(|delivery| delivery.seq));
    share.messages -= taken;
    share.allowed -= taken;
    share.bytes = share
        .bytes
        .saturating_sub(bytes + skipped / SKIPPED_DISCOUNT);
    let refused = batch.get(taken).map(|delivery| delivery.seq);
    progress.next = refused.unwrap_or(next);
    // Where the refused one stands was not noted: the reader finds it anew.
    let at = if refused.is_some() { begin } else { at };
    progress.place = Some((piece.first, at));
    refused.is_none()
}

fn is_wanted(reader: &Reader, progress: &Progress, record: &RecordRef<'_>) -> bool {
    record.seq() >= progress.next
        && record.arrival_ms() >= progress.since_ms
        && reader
            .filter
            .as_ref()
            .is_none_or(|wanted| wanted.takes(filter::value_of_record(record)))
}
