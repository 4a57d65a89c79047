//! A queue: its state behind a short lock, changed only in visits.
//!
//! - [`state`]: what a queue is; pure. [`lane`]: its messages of one precedence.
//! - [`log`], [`chunk`], [`loaded`]: where its records are. [`returned`]: what came back. [`expiry`], [`marks`]: what
//!   expires when.
//! - [`consumers`], [`loads`], [`dispatch`]: whose turn it is. [`groups`], [`blocked`]: who may not overtake whom.
//!   [`held`]: who takes too long. [`arriving`]: what nobody gets yet.
//! - [`backlog`]: how far consumers are behind.
//! - [`limits`]: what is too much or too old. [`retry`]: what waits for another try. [`delay`]: what waits to become
//!   visible.
//! - [`duplicates`]: what came before.
//! - [`dying`], [`dead`]: how messages die and leave.
//! - [`settings`]: what arguments and policies say. [`change`]: what it means when they say something else.
//! - [`throttle`]: how fast it may take and give.
//! - [`pending`], [`gather`]: what it owes to the store. [`evict`]: how it gives memory back.
//! - [`publish`], [`deliver`]: the visits of publishers and consumers. [`administration`], [`browse`], [`look`]: those
//!   of administration.
//! - [`stream`]: the other kind, whose messages stay.
//!
//! Whoever brings work does the work: a publisher appends and dispatches, a consumer that acknowledges dispatches into
//! its own window, a drained outbox resumes its stalled consumers. Lock order: gate (the visit) -> queue -> outbox.

mod administration;
mod arriving;
mod backlog;
mod blocked;
mod browse;
mod change;
mod chunk;
mod cold;
mod consumers;
#[cfg(test)]
mod consumers_test;
#[cfg(test)]
mod contents;
mod dead;
mod delay;
mod deliver;
mod dispatch;
pub(super) mod due_rows;
mod duplicates;
mod dying;
mod evict;
mod expiry;
mod gather;
mod groups;
mod held;
mod lane;
mod limits;
mod loaded;
mod loads;
mod log;
mod look;
mod marks;
#[cfg(test)]
mod model_test;
mod pending;
mod publish;
mod retry;
mod returned;
mod settings;
mod settle;
mod state;
#[cfg(test)]
mod state_test;
pub(super) mod stream;
mod throttle;
mod timed;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;

pub use self::administration::{Leaving, Progress, Removal};
pub use self::browse::{Browsed, PAGE_BYTES_MAX, PAGE_MESSAGES_MAX, Page, Whereabouts};
pub use self::change::Unchangeable;
pub use self::consumers::ConsumerSpec;
pub use self::dead::{Copied, Dead, DeadBatch};
pub(in crate::broker) use self::delay::is_delay_lane;
pub use self::deliver::{ConsumeRefused, GetOutcome};
pub use self::duplicates::IdRow;
pub use self::dying::DeathReason;
#[cfg(test)]
pub(super) use self::dying::REFUSED_MS;
pub use self::publish::Published;
pub(in crate::broker) use self::retry::retry_lane;
pub use self::retry::{RecoveredRetries, Retry};
pub use self::settings::{DeadLetter, Settings};
use self::state::{Effects, State};
pub use self::state::{RecoveredLanes, Return, VISIT_BYTES_MAX, VISIT_MESSAGES_MAX};
use self::stream::Stream;
pub use self::stream::{Filter, ReaderSpec, StartAt};
use super::arguments::{LiveArguments, QueueType};
use super::delays::Delays;
use super::delivery::Cancellation;
use super::state as broker_state;
use super::timers::Timer;
use super::vhost::VHost;
use super::{ConnectionId, Services};
use crate::message::op::{Counts, Op};
use crate::message::{QueueId, Seq, Ticket, lane_id};
use crate::rate::Rates;
use crate::store::{Loaded, Visit, Waiter};

/// What a queue is declared as. Only its arguments ever change.
#[derive(Debug)]
pub struct QueueSpec {
    /// Identity in the store.
    pub id: QueueId,
    /// Virtual host.
    pub vhost: Arc<str>,
    /// Name, up to 255 bytes.
    pub name: Arc<str>,
    /// Survives a restart, with its persistent messages. Never true for an exclusive queue.
    pub durable: bool,
    /// Goes with its last consumer.
    pub auto_delete: bool,
    /// The connection that alone may use it and with which it goes.
    pub exclusive_owner: Option<ConnectionId>,
    /// Arguments of the declaration, or what administration put in their place.
    pub arguments: LiveArguments,
}

/// Numbers of messages and consumers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueCounts {
    /// Messages that wait for a consumer.
    pub ready: u64,
    /// Messages that were delivered and not acknowledged.
    pub unacked: u64,
    /// Messages that wait until they become visible, or for their retry.
    pub delayed: u64,
    /// Consumers.
    pub consumers: u32,
}

/// Under which conditions a queue is deleted.
#[derive(Debug, Clone, Copy, Default)]
pub struct DeleteCondition {
    /// Only without consumers.
    pub if_unused: bool,
    /// Only without messages that are ready or wait to become visible.
    pub if_empty: bool,
}

/// Why a conditional delete was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteRefused {
    /// It has consumers.
    InUse,
    /// It has ready messages.
    NotEmpty,
}

/// How far ahead of its deliveries a queue says that it has delivered, so that the mark is written rarely. A restart
/// takes any mark for all: see `Lane::recovered`.
const DELIVERED_AHEAD: Seq = 1 << 16;

struct Inner {
    state: State,
    load_waiters: Vec<Arc<dyn Waiter>>,
    loads_done: u64,
    /// Deliveries are marked.
    is_marked: bool,
    /// What waits to become visible; made with the first such message.
    delays: Option<Arc<Delays>>,
    /// When the queue was last used, for `x-expires`.
    used_ms: u64,
    /// Resident bytes as last reported to the memory budget.
    reported_bytes: usize,
    /// Someone is dead_lettering the dead of this queue, or is about to.
    dead_lettering: bool,
    deleted: bool,
    /// What a deleted queue owes to an epoch that is not gathered.
    left_behind: Vec<Op>,
}

/// What becomes of messages. A stream leaves `Queue::inner` empty: its public methods lead to [`Stream`].
enum Kind {
    /// They wait for one consumer.
    Queue,
    /// They stay.
    Stream(Box<Stream>),
}

/// What most queues do not have: made when it is needed, and kept.
#[derive(Default)]
struct Extras {
    /// Of a queue that has had a time to wait for.
    timer: OnceLock<Timer>,
    /// Of one that was given a rate.
    rates: OnceLock<Rates>,
}

/// A queue.
pub struct Queue {
    /// What it was declared as.
    pub spec: QueueSpec,
    services: Services,
    vhost: Weak<VHost>,
    /// Mirrors `Inner::deleted` for those who do not hold the lock (route caches).
    deleted: AtomicBool,
    extras: OnceLock<Box<Extras>>,
    kind: Kind,
    inner: Mutex<Inner>,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Queue")
            .field("vhost", &self.spec.vhost)
            .field("name", &self.spec.name)
            .finish()
    }
}

impl Queue {
    /// A queue as declared, or as the store remembers its messages: the lanes that have any, by number. `settings` is
    /// what its arguments and the policies come to.
    pub fn new(
        spec: QueueSpec,
        settings: Settings,
        services: &Services,
        vhost: Weak<VHost>,
        recovered: RecoveredLanes,
    ) -> Arc<Self> {
        let settings = settings.shared();
        let delayed = recovered.delayed;
        let (kind, mut state) = if spec.arguments.get().queue_type() == QueueType::Stream {
            let recovered = recovered.lanes.first().map(|(_, lane)| lane);
            let stream = Stream::new(settings.clone(), recovered);
            (Kind::Stream(Box::new(stream)), State::new(settings.clone()))
        } else {
            (Kind::Queue, State::recovered(settings.clone(), recovered))
        };
        state.is_durable = spec.durable;
        let inner = Inner {
            state,
            load_waiters: Vec::new(),
            loads_done: 0,
            is_marked: false,
            delays: None,
            used_ms: 0,
            reported_bytes: 0,
            dead_lettering: false,
            deleted: false,
            left_behind: Vec::new(),
        };
        let queue = Arc::new(Self {
            spec,
            services: services.clone(),
            vhost,
            deleted: AtomicBool::new(false),
            extras: OnceLock::new(),
            kind,
            inner: Mutex::new(inner),
        });
        if let Some(delayed) = delayed {
            queue.recover_delays(delayed);
        }
        queue.obey_rates(&mut queue.inner.lock().state, &settings.rates);
        queue
    }

    fn stream(&self) -> Option<&Stream> {
        match &self.kind {
            Kind::Queue => None,
            Kind::Stream(stream) => Some(stream),
        }
    }

    /// Messages stay in it, and consumers come with [`Self::attach`].
    pub fn is_stream(&self) -> bool {
        matches!(self.kind, Kind::Stream(_))
    }

    /// Whether it writes messages to disk, transient or `persistent` ones: only then a confirm waits for the disk. A
    /// stream writes all.
    pub fn writes(&self, persistent: bool) -> bool {
        self.is_stream() || (persistent && self.spec.durable)
    }

    /// Under which the store knows the lane of the message with this seq.
    pub(super) fn store_id(&self, seq: Seq) -> QueueId {
        lane_id(self.spec.id, lane::lane_of(seq))
    }

    /// True once the queue is deleted; publishers drop cached routes to it.
    pub fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// Counts at this moment.
    pub fn counts(&self) -> QueueCounts {
        if let Some(stream) = self.stream() {
            return stream.counts();
        }
        let inner = self.inner.lock();
        QueueCounts {
            ready: inner.state.ready(),
            unacked: inner.state.unacked(),
            delayed: inner.delayed() + inner.state.retries(),
            consumers: inner.state.consumers.count(),
        }
    }

    /// What holds for the queue at the moment.
    pub fn settings(&self) -> Arc<Settings> {
        if let Some(stream) = self.stream() {
            return stream.settings();
        }
        self.inner.lock().state.settings.clone()
    }

    /// Drops all ready messages and answers how many there were. What waits stays. A stream keeps them.
    pub fn purge(self: &Arc<Self>, visit: &Visit<'_>) -> u64 {
        let mut inner = self.inner.lock();
        let mut effects = Effects::default();
        let purged = inner.state.purge(&mut effects);
        self.apply(&mut inner, visit, effects);
        self.report_memory(&mut inner);
        purged
    }

    /// Deletes the queue with everything in it, if the conditions hold, and answers how many messages were ready.
    /// Its consumers are told through their sinks. Deleting twice answers 0. A stream goes whatever the conditions, and
    /// answers 0, as in RabbitMQ.
    ///
    /// # Errors
    /// A condition does not hold.
    pub fn delete(
        &self,
        visit: &Visit<'_>,
        condition: DeleteCondition,
    ) -> Result<u64, DeleteRefused> {
        if let Some(stream) = self.stream() {
            self.deleted.store(true, Ordering::Release);
            self.lift_rates();
            stream.delete(self, visit);
            return Ok(0);
        }
        let mut inner = self.inner.lock();
        if inner.deleted {
            return Ok(0);
        }
        let waiting = inner.delayed() + inner.state.retries();
        if condition.if_empty && (inner.state.ready() > 0 || waiting > 0) {
            return Err(DeleteRefused::NotEmpty);
        }
        if condition.if_unused && inner.state.consumers.count() > 0 {
            return Err(DeleteRefused::InUse);
        }
        inner.deleted = true;
        self.deleted.store(true, Ordering::Release);
        self.lift_rates();
        let ready = inner.state.ready();
        for sink in inner.state.consumers.take_all() {
            sink.cancelled(Cancellation::QueueDeleted);
        }
        for lane in inner.state.lanes() {
            if let Some(queue) = lane.expiry.marks_owner() {
                visit.push(Op::QueueDeleted { queue });
            }
            if self.spec.durable || lane.spilled {
                let queue = lane_id(self.spec.id, lane.number());
                visit.push(Op::QueueDeleted { queue });
                let queue = retry::owner_of_lane(self.spec.id, lane.number());
                visit.push(Op::QueueDeleted { queue });
            }
        }
        if let Some(delays) = &inner.delays {
            delays.delete(visit);
        }
        if self.spec.durable && inner.state.duplicates.is_some() {
            visit.push(broker_state::delete_queue_ids(self.spec.id));
        }
        inner.left_behind = gather::left_behind(self.spec.id, &mut inner.state, visit.epoch());
        inner.state = State::new(inner.state.settings.clone());
        inner.state.is_durable = self.spec.durable;
        wake_all(&mut inner);
        self.report_memory(&mut inner);
        Ok(ready)
    }

    /// Puts ids into it that the store remembers, the oldest first. Answers what removes rows that it has no use for.
    pub(super) fn recover_ids(&self, rows: &[IdRow]) -> Vec<Op> {
        let mut inner = self.inner.lock();
        let Some(duplicates) = &mut inner.state.duplicates else {
            return vec![broker_state::delete_queue_ids(self.spec.id)];
        };
        let mut changes = Vec::new();
        for row in rows {
            duplicates.recover(row, &mut changes);
        }
        let ops = changes.iter();
        ops.map(|change| gather::id_op(self.spec.id, change))
            .collect()
    }

    /// Ids that the queue remembers because it drops what comes again; `None`: it drops nothing.
    pub fn ids(&self) -> Option<usize> {
        let inner = self.inner.lock();
        inner.state.duplicates.as_ref().map(|known| known.len())
    }

    /// A loader thread begins to read from `from` on, and will bring what there is up to `covered_upto`, some `bytes`.
    pub(super) fn load_begins(self: &Arc<Self>, from: Seq, covered_upto: Seq, bytes: usize) {
        if let Some(stream) = self.stream() {
            return stream.load_begins(self, from, covered_upto, bytes);
        }
        let mut inner = self.inner.lock();
        let lane = inner.state.lane_mut(from);
        // What a reader skips, browsing or looking for what is due, tells nothing of what is read next.
        let is_at_head = from >= lane.cursor() && lane.ready() > 0;
        if lane.reads.begins(from, covered_upto) && is_at_head {
            self.load(&mut inner, from);
        }
    }

    /// A piece of a cold stretch was read. True: call [`Self::pump`].
    pub(super) fn install(self: &Arc<Self>, visit: &Visit<'_>, from: Seq, loaded: Loaded) -> bool {
        if let Some(stream) = self.stream() {
            stream.install(self, from, loaded);
            return false;
        }
        let mut inner = self.inner.lock();
        let lane = inner.state.lane_mut(from);
        lane.reads.ends(from);
        let upto = loaded.covered_upto.max(from);
        lane.install(from, upto, loaded.records, loaded.bodies);
        inner.loads_done += 1;
        wake_all(&mut inner);
        if !inner.state.dying.is_empty() {
            self.ask_for_dead_lettering(&mut inner);
        }
        let more = self.work(&mut inner, visit);
        self.keep_within_budget(&mut inner);
        self.set_timer(&inner);
        more
    }

    /// Whether a load of a cold stretch is on its way.
    pub fn is_loading(&self) -> bool {
        is_loading(&self.inner.lock())
    }

    /// Wakes `waiter` when a load that is on its way has come: [`Self::loads_done`] is more then than what this
    /// answers. `None`: none is.
    pub fn when_loaded(&self, waiter: Arc<dyn Waiter>) -> Option<u64> {
        let mut inner = self.inner.lock();
        is_loading(&inner).then(|| {
            inner.load_waiters.push(waiter);
            inner.loads_done
        })
    }

    /// Loads that have come so far.
    pub fn loads_done(&self) -> u64 {
        self.inner.lock().loads_done
    }

    /// Goes on with whatever there is to do. True: call again in a further visit.
    pub fn pump(self: &Arc<Self>, visit: &Visit<'_>) -> bool {
        let mut inner = self.inner.lock();
        self.work(&mut inner, visit)
    }

    /// One visit's share of everything that happens by itself: dispatch, expiry, limits. True: there is more.
    fn work(self: &Arc<Self>, inner: &mut Inner, visit: &Visit<'_>) -> bool {
        let mut more = self.dispatch(inner, visit);
        more |= self.trim(inner, visit);
        more
    }

    fn dispatch(self: &Arc<Self>, inner: &mut Inner, visit: &Visit<'_>) -> bool {
        self.open(inner);
        let mut effects = Effects::default();
        inner.state.dispatch(visit.now_ms(), &mut effects);
        let more = effects.more;
        let (held, throttled_ms) = (effects.held, effects.throttled_ms);
        self.apply(inner, visit, effects);
        if held {
            self.set_timer_for_consumers(inner);
        }
        if let Some(wait_ms) = throttled_ms {
            self.call_at(visit.now_ms() + wait_ms);
        }
        self.report_memory(inner);
        more
    }

    /// What is too old or too much goes. True: there is more.
    fn trim(self: &Arc<Self>, inner: &mut Inner, visit: &Visit<'_>) -> bool {
        let mut effects = Effects::default();
        inner.state.trim(visit.now_ms(), &mut effects);
        let more = effects.more;
        self.apply(inner, visit, effects);
        more
    }

    /// Carries out what a change of state asks for.
    fn apply(self: &Arc<Self>, inner: &mut Inner, visit: &Visit<'_>, effects: Effects) {
        let epoch = visit.epoch();
        self.remember_waiting(inner, visit, &effects);
        for (first, last) in effects.settled {
            let lane = inner.state.lane_mut(first);
            if self.spec.durable || lane.spilled {
                lane.pending
                    .settled(epoch, first, last, || visit.mark_dirty(self.clone()));
            }
        }
        if self.spec.durable
            && !effects.ids.is_empty()
            && let Some(duplicates) = &mut inner.state.duplicates
        {
            duplicates.changed(epoch, effects.ids);
            let lanes = inner.state.lanes_mut().first_mut();
            if let Some(lane) = lanes {
                lane.pending.dirty(epoch, || visit.mark_dirty(self.clone()));
            }
        }
        if self.spec.durable {
            for seq in effects.counted {
                let lane = inner.state.lane_mut(seq);
                let counts = lane.counts(seq);
                // One that is gone by now has none.
                if counts != Counts::default() {
                    lane.pending
                        .counted(epoch, seq, counts, || visit.mark_dirty(self.clone()));
                }
            }
        }
        if effects.delivered {
            self.mark_delivered(inner, visit);
        }
        self.keep_due(inner, visit);
        if effects.died {
            self.ask_for_dead_lettering(inner);
        }
        if let Some(from) = effects.load {
            self.load(inner, from);
        }
    }

    /// Asks the store for what is cold from `seq` on, or, if that is on its way, for what is behind it.
    fn load(self: &Arc<Self>, inner: &mut Inner, seq: Seq) {
        let lane = inner.state.lane_mut(seq);
        let Some(from) = lane.reads.next(seq) else {
            return;
        };
        if from > seq && self.services.memory.is_over() {
            return;
        }
        if let Some(upto) = lane.log.cold_end(from) {
            lane.reads.asked(from);
            self.services.loader.request(self, from, upto);
        }
    }

    /// Tells the store ahead of time that messages are delivered: the mark must not wait for a commit of its own, and a
    /// message whose mark is lost with a crash would come back as new.
    fn mark_delivered(self: &Arc<Self>, inner: &mut Inner, visit: &Visit<'_>) {
        if !self.spec.durable {
            return;
        }
        let epoch = visit.epoch();
        for lane in inner.state.lanes_mut() {
            let soon = lane.delivered_soon(DELIVERED_AHEAD / 2);
            if soon > lane.delivered_mark {
                if lane.delivered_mark == 0 {
                    lane.marked_in = epoch;
                }
                lane.delivered_mark = soon + DELIVERED_AHEAD / 2;
                lane.pending
                    .delivered(epoch, || visit.mark_dirty(self.clone()));
            }
        }
        inner.is_marked = true;
    }

    /// When the marks of all that is ready are on disk. What arrives later is there no sooner than its mark.
    fn marked(&self, inner: &Inner) -> Ticket {
        let lanes = inner.state.lanes().iter();
        let filled = lanes.filter(|lane| lane.ready() > 0);
        Ticket::local(filled.map(|lane| lane.marked_in).max().unwrap_or_default())
    }

    fn report_memory(&self, inner: &mut Inner) {
        let now = inner.state.resident_bytes();
        if now != inner.reported_bytes {
            self.services.memory.moved(inner.reported_bytes, now);
            inner.reported_bytes = now;
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let mut reported = self.inner.get_mut().reported_bytes;
        if let Kind::Stream(stream) = &mut self.kind {
            reported += stream.reported_bytes();
        }
        self.services.memory.moved(reported, 0);
    }
}

fn is_loading(inner: &Inner) -> bool {
    let mut lanes = inner.state.lanes().iter();
    lanes.any(|lane| !lane.reads.is_empty())
}

fn wake_all(inner: &mut Inner) {
    for waiter in std::mem::take(&mut inner.load_waiters) {
        waiter.wake();
    }
}
