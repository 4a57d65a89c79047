//! Streams: messages that stay. Consumers read without removing anything, each from its own offset.
//!
//! - [`log`]: the records in memory. [`directory`]: chunks, segments and retention. [`filter`]: who wants what.
//! - [`readers`], [`pull`], [`ahead`]: consumers and how they move. [`start`]: where they begin.
//! - [`tracking`]: where they go on.
//! - [`rows`], [`restore`]: what the store remembers besides the messages.
//!
//! Offsets count from 0 without gaps, over restarts and retention; the message with offset `n` has seq `n + 1`. Every
//! message is written, persistent or not, and shown to consumers once it is durable.
//!
//! A publisher's visit adds to the log and, if consumers wait at its end, asks the store once to wake them when the
//! epoch is durable; it costs the same however many consumers there are.

mod ahead;
#[cfg(test)]
mod ahead_test;
mod directory;
mod filter;
mod log;
mod pull;
#[cfg(test)]
mod pull_test;
mod readers;
pub(in crate::broker) mod restore;
pub(in crate::broker) mod rows;
mod start;
#[cfg(test)]
mod stream_test;
mod tracking;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use self::ahead::Loading;
use self::directory::{Directory, Limits, Note};
pub use self::filter::Filter;
use self::log::Log;
pub use self::readers::ReaderSpec;
use self::readers::Readers;
pub use self::start::StartAt;
use self::tracking::{Tracking, WRITE_PAUSE_MS};
use super::{ConsumeRefused, Published, Queue, QueueCounts, Settings};
use crate::broker::delivery::{Cancellation, ConsumerId, DeliverySink};
use crate::message::op::{Op, Settle, Slice};
use crate::message::record::NewMessage;
use crate::message::run::Run;
use crate::message::{Epoch, QueueId, Seq, Ticket};
use crate::store::{Loaded, RecoveredQueue, Visit, Waiter};

/// `x-stream-max-segment-size-bytes` when nothing else is said, as in RabbitMQ.
const SEGMENT_BYTES: u64 = 500_000_000;

/// `x-stream-filter-size-bytes` when nothing else is said.
const FILTER_BYTES: u8 = 16;

/// What is under the lock of a stream.
struct Inner {
    log: Log,
    directory: Directory,
    settings: Arc<Settings>,
    readers: Readers,
    /// Readers that wait at the end.
    parked: BTreeSet<ConsumerId>,
    /// Readers get nothing.
    is_paused: bool,
    /// The store was asked to wake the parked readers.
    armed: bool,
    /// Loads that are on their way, by the seq that they begin with.
    loading: BTreeMap<Seq, Loading>,
    tracking: Tracking,
    /// Messages that retention removed, with the epoch in which it did.
    retired: Vec<(Epoch, (Seq, Seq))>,
    /// The last epoch in which the store was told that there is work.
    dirty: Epoch,
    /// The seq after the last message that the store brought.
    recovered_end: Seq,
    reported_bytes: usize,
    deleted: bool,
}

/// The part of a queue that makes it a stream.
pub(super) struct Stream {
    inner: Mutex<Inner>,
}

/// Wakes the readers that wait at the end.
struct AtTheEnd(Weak<Queue>);

impl Waiter for AtTheEnd {
    fn wake(&self) {
        if let Some(queue) = self.0.upgrade()
            && let Some(stream) = queue.stream()
        {
            stream.wake_parked();
        }
    }
}

impl Stream {
    /// An empty stream, or one with the messages that the store remembers.
    pub(super) fn new(settings: Arc<Settings>, recovered: Option<&RecoveredQueue>) -> Self {
        // Without a message in the store there never was one: retention leaves the newest.
        let (first, end) = match recovered.filter(|recovered| recovered.live_count > 0) {
            Some(recovered) => (recovered.first_live, recovered.end),
            None => (1, 1),
        };
        Self {
            inner: Mutex::new(Inner {
                log: Log::default(),
                directory: Directory::new(first),
                settings,
                readers: Readers::default(),
                parked: BTreeSet::new(),
                is_paused: false,
                armed: false,
                loading: BTreeMap::new(),
                tracking: Tracking::default(),
                retired: Vec::new(),
                dirty: 0,
                recovered_end: end,
                reported_bytes: 0,
                deleted: false,
            }),
        }
    }

    pub(super) fn counts(&self) -> QueueCounts {
        let inner = self.inner.lock();
        QueueCounts {
            delayed: 0,
            ready: inner.directory.next() - inner.directory.first(),
            unacked: inner
                .readers
                .iter()
                .map(|reader| u64::from(reader.in_flight()))
                .sum(),
            consumers: inner.readers.iter().count() as u32,
        }
    }

    pub(super) fn settings(&self) -> Arc<Settings> {
        self.inner.lock().settings.clone()
    }

    pub(super) fn apply_settings(
        &self,
        queue: &Arc<Queue>,
        visit: &Visit<'_>,
        settings: Arc<Settings>,
    ) {
        let mut inner = self.inner.lock();
        inner.settings = settings;
        inner.retain(queue, visit);
        inner.set_timer(queue, visit);
        drop(inner);
        // They may have waited for a rate that is lifted.
        self.wake_parked();
    }

    /// Appends a batch.
    pub(super) fn publish<'m>(
        &self,
        queue: &Arc<Queue>,
        visit: &Visit<'_>,
        runs: impl Iterator<Item = Run<'m>>,
    ) -> Published {
        let mut inner = self.inner.lock();
        if inner.deleted {
            return Published::Deleted;
        }
        let (mut bytes, mut closed) = (0, false);
        for message in runs.flat_map(|run| run.messages()) {
            let (added, closes) = inner.append(queue, visit, &message);
            bytes += added;
            closed |= closes;
        }
        inner.mark_dirty(queue, visit);
        if closed {
            inner.retain(queue, visit);
            inner.set_timer(queue, visit);
        }
        let wakes = !inner.parked.is_empty() && inner.arm();
        inner.report_memory(queue);
        inner.keep_within_budget(queue);
        drop(inner);
        visit.add_pending(bytes);
        if wakes {
            self.subscribe(queue, visit.ticket());
        }
        Published::Accepted {
            ticket: visit.ticket(),
            more: false,
            backlog_pause_ms: 0,
            refused: Vec::new(),
        }
    }

    /// Registers a consumer; [`Self::activate`] lets it begin.
    pub(super) fn attach(
        &self,
        queue: QueueId,
        visit: &Visit<'_>,
        spec: ReaderSpec,
    ) -> Result<ConsumerId, ConsumeRefused> {
        let mut inner = self.inner.lock();
        if inner.deleted {
            return Err(ConsumeRefused::Deleted);
        }
        let known = spec
            .track
            .as_ref()
            .and_then(|tag| inner.tracking.position(tag));
        let (next, since_ms) = match known {
            Some(seq) => (seq, 0),
            None => inner.start(spec.start, visit.now_ms()),
        };
        if known.is_none()
            && since_ms == 0
            && let Some(tag) = &spec.track
        {
            // What it gets and does not settle is to come again, be it the first message.
            inner.tracking.moved(tag, next);
            inner.write_positions(queue, visit);
        }
        Ok(inner.readers.add(spec, next, since_ms))
    }

    pub(super) fn activate(&self, queue: &Arc<Queue>, id: ConsumerId) {
        let reader = self.inner.lock().readers.get(id).cloned();
        if let Some(reader) = reader {
            reader.progress.lock().begun = true;
            self.go_on(queue, id);
        }
    }

    /// A first visit's share; the rest when the connection comes to it.
    fn go_on(&self, queue: &Arc<Queue>, id: ConsumerId) {
        if self.pull(queue, id) {
            self.wake([id]);
        }
    }

    pub(super) fn resume(&self, queue: &Arc<Queue>, id: ConsumerId) -> bool {
        self.pull(queue, id)
    }

    /// Deliveries are settled, in whatever way: nothing comes back, the consumer may have others (RabbitMQ 4).
    pub(super) fn settle(
        &self,
        queue: &Arc<Queue>,
        visit: &Visit<'_>,
        id: ConsumerId,
        seqs: &[Seq],
    ) {
        let Some(reader) = self.inner.lock().readers.get(id).cloned() else {
            return;
        };
        let position = reader.settled(&mut reader.progress.lock(), seqs);
        if let (Some(tag), Some(seq)) = (&reader.track, position) {
            let mut inner = self.inner.lock();
            if inner.tracking.moved(tag, seq) {
                queue.call_at(visit.now_ms() + WRITE_PAUSE_MS);
            }
        }
        self.go_on(queue, id);
    }

    /// Removes a consumer.
    pub(super) fn cancel(&self, queue: &Queue, visit: &Visit<'_>, id: ConsumerId) {
        let removed = {
            let mut inner = self.inner.lock();
            inner.parked.remove(&id);
            inner.readers.remove(id)
        };
        let Some(reader) = removed else {
            return;
        };
        if let Some(tag) = &reader.track {
            let unsettled = reader.first_unsettled();
            let mut inner = self.inner.lock();
            if let Some(seq) = unsettled
                && inner.tracking.position(tag).is_none()
            {
                inner.tracking.moved(tag, seq);
            }
            inner.write_positions(queue.spec.id, visit);
        }
    }

    /// Deletes everything. False when that was done before.
    pub(super) fn delete(&self, queue: &Queue, visit: &Visit<'_>) -> bool {
        let mut inner = self.inner.lock();
        if std::mem::replace(&mut inner.deleted, true) {
            return false;
        }
        let readers = inner.readers.take_all();
        inner.parked.clear();
        inner.loading.clear();
        inner.log = Log::default();
        inner.report_memory(queue);
        drop(inner);
        let id = queue.spec.id;
        visit.push(Op::QueueDeleted { queue: id });
        visit.push(rows::delete_all(id));
        for reader in readers {
            reader.sink.cancelled(Cancellation::QueueDeleted);
        }
        true
    }

    /// A stretch was read back.
    pub(super) fn install(&self, queue: &Queue, from: Seq, loaded: Loaded) {
        let mut inner = self.inner.lock();
        let loading = inner.loading.remove(&from);
        let waiting = loading.map(|loading| loading.waiting).unwrap_or_default();
        if !inner.deleted && from >= inner.directory.first() {
            let awaited = waiting.len() as u32;
            let covered = (from, loaded.covered_upto);
            inner
                .log
                .install(covered, loaded.records, loaded.bodies, awaited);
        }
        inner.report_memory(queue);
        if queue.services.memory.is_over() {
            // Not what was just read: its readers would ask for it again, and again.
            inner.evict(queue, false);
            inner.report_memory(queue);
        }
        drop(inner);
        self.wake(waiting);
    }

    /// The time has come for something: retention, or positions to write.
    pub(super) fn due(&self, queue: &Arc<Queue>, visit: &Visit<'_>) {
        let mut inner = self.inner.lock();
        if inner.deleted {
            return;
        }
        inner.write_positions(queue.spec.id, visit);
        inner.retain(queue, visit);
        inner.set_timer(queue, visit);
        drop(inner);
        if queue.consume_throttle().is_some() {
            self.wake_parked();
        }
    }

    pub(super) fn started(&self, queue: &Arc<Queue>, now_ms: u64) {
        let inner = self.inner.lock();
        if let Some(deadline_ms) = inner.directory.deadline_ms(&inner.limits()) {
            queue.call_at(deadline_ms.max(now_ms));
        }
    }

    /// What epochs up to `epoch` changed.
    pub(super) fn gather(&self, queue: QueueId, epoch: Epoch, durable: Epoch, ops: &mut Vec<Op>) {
        let mut inner = self.inner.lock();
        if inner.deleted {
            return;
        }
        inner.log.join_small(durable);
        for piece in inner.log.take_unwritten(epoch) {
            ops.push(Op::Append(Slice {
                queue,
                first: piece.first,
                last: piece.last,
                count: (piece.last - piece.first + 1) as u32,
                records: piece.records.clone(),
                bodies: piece.bodies.clone(),
            }));
        }
        let (now, later) = std::mem::take(&mut inner.retired)
            .into_iter()
            .partition::<Vec<_>, _>(|(of, _)| *of <= epoch);
        inner.retired = later;
        if !now.is_empty() {
            ops.push(Op::Settle(Settle {
                queue,
                ranges: now.into_iter().map(|(_, range)| range).collect(),
                next_seq: inner.directory.next(),
                delivered_upto: 0,
                counts: Vec::new(),
            }));
        }
    }

    pub(super) fn evict(&self, queue: &Queue) -> usize {
        let mut inner = self.inner.lock();
        let freed = inner.evict(queue, queue.services.memory.is_far_over());
        inner.report_memory(queue);
        freed
    }

    pub(super) fn shrink(&self, queue: &Queue) {
        let mut inner = self.inner.lock();
        inner.log.shrink();
        inner.report_memory(queue);
    }

    pub(super) fn reported_bytes(&mut self) -> usize {
        self.inner.get_mut().reported_bytes
    }

    fn subscribe(&self, queue: &Arc<Queue>, ticket: Ticket) {
        let waiter = Arc::new(AtTheEnd(Arc::downgrade(queue)));
        queue.services.store.subscribe(ticket, waiter);
    }

    pub(super) fn is_paused(&self) -> bool {
        self.inner.lock().is_paused
    }

    /// Keeps readers from getting anything, or no more.
    pub(super) fn set_paused(&self, paused: bool) {
        self.inner.lock().is_paused = paused;
        if !paused {
            self.wake_parked();
        }
    }

    fn wake_parked(&self) {
        let parked = {
            let mut inner = self.inner.lock();
            inner.armed = false;
            std::mem::take(&mut inner.parked)
        };
        self.wake(parked);
    }

    /// The connections of these readers call [`Self::resume`] for them.
    fn wake(&self, readers: impl IntoIterator<Item = ConsumerId>) {
        let sinks: Vec<Arc<dyn DeliverySink>> = {
            let inner = self.inner.lock();
            let readers = readers.into_iter();
            readers
                .filter_map(|id| Some(inner.readers.get(id)?.sink.clone()))
                .collect()
        };
        for sink in sinks {
            sink.wake();
        }
    }
}

impl Inner {
    fn limits(&self) -> Limits {
        let settings = &self.settings;
        Limits {
            segment_bytes: settings
                .stream_segment_bytes
                .unwrap_or(SEGMENT_BYTES)
                .max(1),
            filter_bytes: settings.stream_filter_bytes.unwrap_or(FILTER_BYTES),
            max_bytes: settings.max_length_bytes,
            max_age_ms: settings.max_age_ms,
        }
    }

    /// Adds a message. Answers its bytes, and whether it closed a chunk.
    fn append(
        &mut self,
        queue: &Queue,
        visit: &Visit<'_>,
        message: &NewMessage<'_>,
    ) -> (usize, bool) {
        let seq = self.directory.next();
        let bytes = self.log.append(seq, visit.now_ms(), message, visit.epoch());
        let note = Note {
            seq,
            arrival_ms: visit.now_ms(),
            bytes: bytes as u64,
            filter_value: filter::value_of(message.properties),
        };
        let limits = self.limits();
        let closed = self.directory.add(note, &limits);
        if let Some(chunk) = closed {
            visit.push(rows::put_chunk(queue.spec.id, chunk));
        }
        (bytes, closed.is_some())
    }

    fn mark_dirty(&mut self, queue: &Arc<Queue>, visit: &Visit<'_>) {
        if self.dirty != visit.epoch() {
            self.dirty = visit.epoch();
            visit.mark_dirty(queue.clone());
        }
    }

    /// Removes what is too much or too old.
    fn retain(&mut self, queue: &Arc<Queue>, visit: &Visit<'_>) {
        let limits = self.limits();
        if let Some(range) = self.directory.retain(&limits, visit.now_ms()) {
            let first = self.directory.first();
            self.log.forget_before(first);
            self.retired.push((visit.epoch(), range));
            self.mark_dirty(queue, visit);
            visit.push(rows::delete_chunks_before(queue.spec.id, first));
            self.report_memory(queue);
        }
    }

    fn set_timer(&self, queue: &Arc<Queue>, visit: &Visit<'_>) {
        if let Some(deadline_ms) = self.directory.deadline_ms(&self.limits()) {
            queue.call_at(deadline_ms);
        }
        if self.tracking.has_changes() {
            queue.call_at(visit.now_ms() + WRITE_PAUSE_MS);
        }
    }

    fn write_positions(&mut self, queue: QueueId, visit: &Visit<'_>) {
        for op in self.tracking.take_changes(queue) {
            visit.push(op);
        }
    }

    /// Where a consumer begins, and the time before which messages are not for it.
    fn start(&self, start: StartAt, now_ms: u64) -> (Seq, u64) {
        let directory = &self.directory;
        // A time to come is the end, as in RabbitMQ: nothing published until then is passed over.
        let since = |time_ms: u64| (directory.since(time_ms), time_ms.min(now_ms));
        match start {
            StartAt::First => (directory.first(), 0),
            StartAt::Last => {
                let last = directory.next().saturating_sub(1);
                (last.max(directory.first()), 0)
            }
            StartAt::Next => (directory.next(), 0),
            StartAt::Offset(offset) => (offset.saturating_add(1), 0),
            StartAt::Time(time_ms) => since(time_ms),
            StartAt::Age(age_ms) => since(now_ms.saturating_sub(age_ms)),
        }
    }

    /// True: the caller asks the store to wake the parked readers when what they wait for is durable.
    const fn arm(&mut self) -> bool {
        !std::mem::replace(&mut self.armed, true)
    }

    fn report_memory(&mut self, queue: &Queue) {
        let now = self.log.resident_bytes();
        if now != self.reported_bytes {
            queue.services.memory.moved(self.reported_bytes, now);
            self.reported_bytes = now;
        }
    }

    fn keep_within_budget(&mut self, queue: &Queue) {
        let memory = &queue.services.memory;
        if memory.is_over() {
            self.evict(queue, memory.is_far_over());
            self.report_memory(queue);
        }
    }

    /// `hard`: also what readers wait for.
    fn evict(&mut self, queue: &Queue, hard: bool) -> usize {
        let memory = &queue.services.memory;
        let durable = queue.services.store.durable();
        self.log.evict(memory.excess_bytes(), durable, hard)
    }
}
