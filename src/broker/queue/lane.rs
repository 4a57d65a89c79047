//! A lane: messages of one precedence in a queue, with a log and seqs of their own.
//!
//! A queue without priorities has one. The lane's number stands in the upper bits of its seqs, so that a seq alone says
//! where its message is, and in those of its id in the store, for which each lane is a queue.
//!
//! Within a lane a message is ready (in the log at or after the cursor and not held, or `returned`, or `refused`),
//! held by a channel, or held back here (`held`: dying, or `blocked`: waiting for its group).

mod pick;
mod reads;

use std::collections::BTreeMap;

pub(super) use self::pick::{Offer, Pick};
use self::reads::Reads;
use super::arriving::Arriving;
use super::blocked::Blocked;
use super::expiry::Expiry;
use super::log::{Log, Lookup, Next};
use super::pending::Pending;
use super::retry::Retries;
use super::returned::Returned;
use crate::message::op::Counts;
use crate::message::ranges::RangeSet;
use crate::message::record::SharedBody;
use crate::message::run::Run;
use crate::message::{Epoch, Seq};
use crate::store::RecoveredQueue;

/// Bits of a seq that count; the lane's number stands above them.
const SEQ_BITS: u32 = 48;

/// The lane that a seq belongs to.
pub(super) const fn lane_of(seq: Seq) -> u16 {
    (seq >> SEQ_BITS) as u16
}

const fn first_seq(number: u16) -> Seq {
    (number as Seq) << SEQ_BITS | 1
}

/// The first ready message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Head {
    /// In memory.
    At {
        /// Where.
        seq: Seq,
        /// It was delivered before.
        redelivered: bool,
    },
    /// Only in the store.
    Cold(Seq),
    /// Nothing is ready.
    None,
}

/// Messages of one precedence.
pub(super) struct Lane {
    number: u16,
    pub(super) log: Log,
    /// Everything below was delivered at least once, or is gone or held.
    pub(super) cursor: Seq,
    /// Ready again, delivered before: below the cursor.
    pub(super) returned: Returned,
    /// Ready again without ever having been delivered (an outbox refused them): below the cursor.
    pub(super) refused: RangeSet,
    /// Neither ready nor with a channel.
    pub(super) held: RangeSet,
    /// Those of `held` that wait for their group: for everybody else they are ready.
    pub(super) blocked: BTreeMap<Seq, Blocked>,
    pub(super) blocked_bytes: u64,
    /// Came back while they were only in the store: neither in `ready_bytes` nor in `expiry` before they are loaded.
    unread: RangeSet,
    /// A message that expires may be here.
    may_expire: bool,
    /// Seqs below were delivered before the last restart.
    delivered_before: Seq,
    pub(super) ready: u64,
    pub(super) ready_bytes: u64,
    /// Deliveries of messages that came back.
    pub(super) counts: BTreeMap<Seq, Counts>,
    pub(super) expiry: Expiry,
    /// What waits for its retry, held.
    pub(super) retries: Option<Box<Retries>>,
    /// What it owes to the store.
    pub(super) pending: Pending,
    /// Seqs below are marked as delivered in the store, or will be with the epoch that is open.
    pub(super) delivered_mark: Seq,
    /// The epoch of its first mark of deliveries. A restart takes any mark for all, so none but this is waited for.
    pub(super) marked_in: Epoch,
    /// What was moved here and nobody gets yet.
    pub(super) arriving: Option<Box<Arriving>>,
    /// What is on its way from the store.
    pub(super) reads: Reads,
    /// Transient records went to the store: their settlements must go there too.
    pub(super) spilled: bool,
}

impl Lane {
    pub(super) fn new(number: u16, in_order: bool) -> Self {
        let first = first_seq(number);
        Self::over(number, in_order, Log::new(first), first)
    }

    /// Gives back the memory that an empty lane has no use for: sets that were emptied keep some.
    pub(super) fn shrink(&mut self) {
        self.log.shrink();
        if self.refused.is_empty() {
            self.refused = RangeSet::new();
        }
        self.returned.shrink();
    }

    /// The lane after a restart: all its messages are only in the store.
    pub(super) fn recovered(number: u16, in_order: bool, found: RecoveredQueue) -> Self {
        let next_seq = found.next_seq.max(first_seq(number));
        let first = found.first_live.clamp(first_seq(number), next_seq);
        let live = found.live_count;
        let cursor = if live > 0 { first } else { next_seq };
        let log = Log::cold(first, next_seq, live);
        Self {
            // The last deliveries before a crash may be ahead of any mark that reached the disk: a lane that ever had a
            // consumer counts as delivered throughout.
            delivered_before: if found.delivered_upto > 0 {
                next_seq
            } else {
                0
            },
            ready: live,
            ready_bytes: found.live_bytes,
            expiry: Expiry::recovered(&found.expiring),
            counts: found.counts,
            may_expire: true,
            ..Self::over(number, in_order, log, cursor)
        }
    }

    fn over(number: u16, in_order: bool, log: Log, cursor: Seq) -> Self {
        Self {
            number,
            log,
            cursor,
            returned: Returned::new(in_order),
            refused: RangeSet::new(),
            held: RangeSet::new(),
            blocked: BTreeMap::new(),
            blocked_bytes: 0,
            unread: RangeSet::new(),
            may_expire: false,
            delivered_before: 0,
            ready: 0,
            ready_bytes: 0,
            counts: BTreeMap::new(),
            expiry: Expiry::default(),
            retries: None,
            pending: Pending::default(),
            delivered_mark: 0,
            marked_in: 0,
            arriving: None,
            reads: Reads::default(),
            spilled: false,
        }
    }

    pub(super) const fn number(&self) -> u16 {
        self.number
    }

    /// The least seq that a message of it can have.
    pub(super) const fn first_seq(&self) -> Seq {
        first_seq(self.number)
    }

    pub(super) const fn ready(&self) -> u64 {
        self.ready
    }

    pub(super) const fn ready_bytes(&self) -> u64 {
        self.ready_bytes
    }

    /// Messages that wait for their group.
    pub(super) fn blocked(&self) -> u64 {
        self.blocked.len() as u64
    }

    pub(super) const fn blocked_bytes(&self) -> u64 {
        self.blocked_bytes
    }

    /// Messages that ever arrived, give or take those of restarts.
    pub(super) const fn arrived(&self) -> u64 {
        self.log.next_seq() & ((1 << SEQ_BITS) - 1)
    }

    /// Messages that were never delivered are only in the store.
    pub(super) fn has_cold_ready(&self) -> bool {
        self.log.has_cold_from(self.cursor)
    }

    pub(super) const fn cursor(&self) -> Seq {
        self.cursor
    }

    /// Seqs below may have been delivered.
    pub(super) fn delivered_upto(&self) -> Seq {
        self.cursor.max(self.delivered_before)
    }

    /// Seqs below are delivered with the next `count` deliveries at the latest, if seqs are dense. A short lane counts
    /// as delivered as a whole: a restart leaves gaps in its seqs.
    pub(super) fn delivered_soon(&self, count: u64) -> Seq {
        if self.ready <= count {
            self.log.next_seq()
        } else {
            self.delivered_upto() + count
        }
    }

    /// Where reading goes on: chunks around it stay in memory.
    pub(super) fn head(&self) -> Seq {
        let returned = self.returned.lowest().unwrap_or(self.cursor);
        self.refused
            .first()
            .unwrap_or(self.cursor)
            .min(returned)
            .min(self.cursor)
    }

    /// Adds messages in a row and answers the first and the last seq. `epoch`: as in `Log::append`.
    pub(super) fn append_run(&mut self, now_ms: u64, run: Run<'_>, epoch: Epoch) -> (Seq, Seq) {
        let (first, last) = self.log.append_run(now_ms, run, epoch);
        self.ready += last - first + 1;
        self.ready_bytes += run.body_bytes() as u64;
        let expiry_ms = run.first.expiry_ms;
        if expiry_ms != 0 {
            self.may_expire = true;
            let others = run.repeated.iter().map(|body| body.len());
            let sizes = std::iter::once(run.first.body.len()).chain(others);
            for (seq, bytes) in (first..=last).zip(sizes) {
                self.expiry.appended(seq, expiry_ms, bytes as u64);
            }
        }
        (first, last)
    }

    /// An outbox would not take a message that was picked.
    pub(super) fn put_back(&mut self, seq: Seq, was_delivered: bool, bytes: u64) {
        self.ready += 1;
        self.ready_bytes += bytes;
        if was_delivered && seq >= self.delivered_before {
            self.returned.insert_first(seq);
        } else {
            self.refused.insert(seq);
        }
        self.mark_expiry(seq);
    }

    /// The first ready message.
    pub(super) fn first_ready(&mut self) -> Head {
        while let Some((seq, was_delivered)) = first_again(&self.returned, &self.refused) {
            match self.log.lookup(seq) {
                Lookup::Found(..) => {
                    let redelivered = was_delivered || seq < self.delivered_before;
                    return Head::At { seq, redelivered };
                }
                Lookup::Cold => return Head::Cold(seq),
                Lookup::Gone => {
                    self.ready = self.ready.saturating_sub(1);
                    if !self.returned.remove(seq) {
                        self.refused.remove(seq);
                    }
                }
            }
        }
        loop {
            match self.log.next(self.cursor) {
                Next::At(seq) => {
                    self.cursor = seq;
                    if self.held.contains(seq) {
                        self.cursor = seq + 1;
                        continue;
                    }
                    let redelivered = seq < self.delivered_before;
                    return Head::At { seq, redelivered };
                }
                Next::Cold(seq) => {
                    self.cursor = seq;
                    return Head::Cold(seq);
                }
                Next::End => {
                    self.cursor = self.log.next_seq();
                    self.ready = 0;
                    self.ready_bytes = 0;
                    return Head::None;
                }
            }
        }
    }

    /// Earlier deliveries of a message.
    pub(super) fn counts(&self, seq: Seq) -> Counts {
        counts_of(&self.counts, seq)
    }

    /// Up to `count_max` ready messages whose time is up, from `expiry`; the seq of one that has to be loaded first to
    /// know.
    pub(super) fn expired(
        &mut self,
        now_ms: u64,
        count_max: usize,
    ) -> (Vec<(Seq, u64)>, Option<Seq>) {
        let mut expiry = std::mem::take(&mut self.expiry);
        let found = expiry.expired(now_ms, count_max, self);
        self.expiry = expiry;
        found
    }

    /// A ready message is not ready any more: it goes to a channel, or dies.
    pub(super) fn take(&mut self, seq: Seq, bytes: u64) {
        if let Some(entry) = self.blocked.remove(&seq) {
            // It stays held.
            self.blocked_bytes -= entry.bytes;
            self.expiry.unmark(seq, entry.expiry_ms);
            return;
        }
        self.ready = self.ready.saturating_sub(1);
        self.ready_bytes = self.ready_bytes.saturating_sub(bytes);
        if let Lookup::Found(record, _) = self.log.lookup(seq) {
            self.expiry.unmark(seq, record.expiry_ms());
        }
        if self.returned.remove(seq) || self.refused.remove(seq) {
            return;
        }
        if seq == self.cursor {
            self.cursor = seq + 1;
        } else if seq > self.cursor {
            self.held.insert(seq);
        }
    }

    /// Whether a message that is in memory waits for a consumer.
    pub(super) fn is_ready(&self, seq: Seq) -> bool {
        if self.held.contains(seq) {
            return false;
        }
        seq >= self.cursor || self.returned.contains(seq) || self.refused.contains(seq)
    }

    /// Whether a message came back from a delivery, or may have been delivered before the last restart.
    pub(super) fn came_back(&self, seq: Seq) -> bool {
        seq < self.delivered_before || self.returned.contains(seq)
    }

    /// Keeps a message that is not ready from becoming so when the cursor passes.
    pub(super) fn hold(&mut self, seq: Seq) {
        if seq >= self.cursor {
            self.held.insert(seq);
        }
    }

    /// A message with a channel is ready again. `false`: it is gone.
    pub(super) fn give_back(&mut self, seq: Seq) -> bool {
        let is_cold = match self.log.lookup(seq) {
            Lookup::Found(..) => false,
            Lookup::Cold => true,
            Lookup::Gone => return false,
        };
        let was_held = self.held.remove(seq);
        // What a restart found waiting has not passed the cursor yet.
        let is_new = if seq >= self.cursor {
            was_held
        } else {
            self.returned.insert(seq)
        };
        if is_new {
            self.ready += 1;
            if is_cold {
                self.unread.insert(seq);
            } else {
                self.count_in(seq);
            }
        }
        true
    }

    /// A message in memory that came back counts with its size and its time.
    fn count_in(&mut self, seq: Seq) {
        if let Lookup::Found(record, _) = self.log.lookup(seq) {
            self.ready_bytes += record.body_len() as u64;
        }
        self.mark_expiry(seq);
    }

    /// Puts a loaded piece `from..=upto` in its place, see `Log::install`.
    pub(super) fn install(
        &mut self,
        from: Seq,
        upto: Seq,
        records: Vec<u8>,
        bodies: Vec<(Seq, SharedBody)>,
    ) -> bool {
        let installed = self.log.install(from, upto, records, bodies);
        let mut at = from;
        while let Some(seq) = self.unread.first_from(at).filter(|seq| *seq <= upto) {
            at = seq + 1;
            // Where another piece came first this one may be too late for some.
            if !matches!(self.log.lookup(seq), Lookup::Cold) {
                self.unread.remove(seq);
                self.count_in(seq);
            }
        }
        installed
    }

    /// A message that came back and has to be loaded before its size and its time are known; `sizes` says whether these
    /// matter.
    pub(super) fn unread(&self, sizes: bool) -> Option<Seq> {
        self.unread.first().filter(|_| sizes || self.may_expire)
    }

    /// What stands before the cursor is in no run of `expiry`.
    pub(super) fn mark_expiry(&mut self, seq: Seq) {
        if let Lookup::Found(record, _) = self.log.lookup(seq)
            && record.expiry_ms() != 0
        {
            let (expiry_ms, bytes) = (record.expiry_ms(), record.body_len() as u64);
            self.expiry.mark(seq, expiry_ms, bytes);
        }
    }

    /// Forgets a message. Answers whether the store may hold it and so must be told; `None` when it was gone already.
    pub(super) fn settle(&mut self, seq: Seq) -> Option<bool> {
        if !self.held.is_empty() {
            self.held.remove(seq);
            if let Some(entry) = self.blocked.remove(&seq) {
                self.blocked_bytes -= entry.bytes;
            }
        }
        if !self.unread.is_empty() {
            self.unread.remove(seq);
        }
        if !self.counts.is_empty() {
            self.counts.remove(&seq);
        }
        self.log.settle(seq)
    }

    /// Forgets messages in a row, see `Log::settle_run`.
    pub(super) fn settle_run(&mut self, first: Seq, last: Seq, mut stored: impl FnMut(Seq)) {
        if self.held.is_empty() && self.unread.is_empty() && self.counts.is_empty() {
            return self.log.settle_run(first, last, stored);
        }
        for seq in first..=last {
            if self.settle(seq) == Some(true) {
                stored(seq);
            }
        }
    }

    /// Drops every ready message; answers the ranges that the store may hold.
    pub(super) fn purge(&mut self) -> Vec<(Seq, Seq)> {
        let mut settled = RangeSet::new();
        let blocked: Vec<Seq> = self.blocked.keys().copied().collect();
        for seq in blocked {
            if self.settle(seq) == Some(true) {
                settled.insert(seq);
            }
        }
        for (first, last) in self.returned.take().into_iter().chain(self.refused.take()) {
            for seq in first..=last {
                if self.settle(seq) == Some(true) {
                    settled.insert(seq);
                }
            }
        }
        self.purge_from_cursor(&mut settled);
        // What is unacknowledged gets a mark when it comes back.
        self.expiry.clear();
        self.cursor = self.log.next_seq();
        self.ready = 0;
        self.ready_bytes = 0;
        settled.take()
    }

    /// The messages between cursor and end, but not those that are held.
    fn purge_from_cursor(&mut self, settled: &mut RangeSet) {
        let end = self.log.next_seq();
        let mut from = self.cursor;
        for (first, last) in self.held.iter().collect::<Vec<_>>() {
            if last < self.cursor {
                continue;
            }
            if from < first {
                self.log.settle_range(from, first - 1);
                settled.insert_range(from, first - 1);
            }
            from = from.max(last + 1);
        }
        if from < end {
            self.log.settle_range(from, end - 1);
            settled.insert_range(from, end - 1);
        }
    }

    /// Nothing is ready: stretches whose records are all gone do not linger because their count was an estimate.
    pub(super) fn forget_cold(&mut self) {
        if self.held.is_empty() {
            self.log.drop_cold_from(0);
        }
    }
}

fn counts_of(counts: &BTreeMap<Seq, Counts>, seq: Seq) -> Counts {
    if counts.is_empty() {
        Counts::default()
    } else {
        counts.get(&seq).copied().unwrap_or_default()
    }
}

/// The first of the messages that are ready again, and whether it was delivered.
fn first_again(returned: &Returned, refused: &RangeSet) -> Option<(Seq, bool)> {
    match (returned.first(), refused.first()) {
        (Some(returned_first), Some(refused_first))
            if refused_first < returned_first && !returned.is_in_order() =>
        {
            Some((refused_first, false))
        }
        (Some(first), _) => Some((first, true)),
        (None, first) => first.map(|seq| (seq, false)),
    }
}
