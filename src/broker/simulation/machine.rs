//! A broker without threads on a folder: it does what it is told to do next, and nothing by itself.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;

use crate::auth::Auth;
use crate::broker::alarms::Alarms;
use crate::broker::arguments::QueueType;
use crate::broker::census::Census;
use crate::broker::dead_letter::{self, DeadLetters};
use crate::broker::due::DueKey;
use crate::broker::loader::LoaderByHand;
use crate::broker::memory::QueueMemory;
use crate::broker::queue::{Queue, Whereabouts};
use crate::broker::timers::Timers;
use crate::broker::vhost::VHost;
use crate::broker::{Broker, Parts, Services, keeper};
use crate::clock::Clock;
use crate::config::{Config, NodeLimits};
use crate::message::{Epoch, QueueId};
use crate::random::SeededRandom;
use crate::store::{StoreByHand, StoreOptions, Visit};

use super::chance::Chance;
use super::ledger::{Holder, Ledger};
use super::message::{Found, number};
use super::oracle::{Seen, SeenQueue};
use super::plan::LATER;

/// More messages than ever wait in one place.
const LISTED_MAX: usize = 100_000;

/// A clock that is put forward by hand.
#[derive(Debug)]
pub(super) struct VirtualClock(AtomicU64);

impl VirtualClock {
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(1_000_000_000_000))
    }

    pub(super) fn advance(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Clock for VirtualClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a run sets once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setup {
    pub(super) seed: u64,
    /// The budget of the queues' memory.
    pub(super) memory_bytes: usize,
    /// The store does not wait for the disk: to see that the simulation notices.
    pub(super) no_sync: bool,
}

impl Setup {
    /// Brokers with so little memory evict all the time.
    pub(super) const LITTLE_BYTES: usize = 8 * 1024;

    pub(super) const fn is_short_of_memory(self) -> bool {
        self.memory_bytes <= Self::LITTLE_BYTES
    }
}

/// See the module.
pub(super) struct Machine {
    pub(super) services: Services,
    pub(super) vhost: Arc<VHost>,
    pub(super) store: StoreByHand,
    broker: Arc<Broker>,
    loads: LoaderByHand,
    dead: Receiver<Arc<Queue>>,
    /// Queues that have dead messages.
    dying: VecDeque<Arc<Queue>>,
}

impl Machine {
    /// Starts on a folder. With the last epoch that it found.
    pub(super) fn start(folder: &Path, clock: &Arc<VirtualClock>, setup: Setup) -> (Self, Epoch) {
        let options = StoreOptions {
            ballast_bytes: 0,
            no_sync: setup.no_sync,
            // Small, so that slices are sealed and chunks rewritten.
            tail_bytes_max: 64 * 1024,
            ..StoreOptions::new(folder)
        };
        let opened = StoreByHand::open(options);
        let (by_hand, store, recovered) = opened.unwrap_or_else(|error| panic!("{error}"));
        let start = store.durable();
        let (loader, loads) = LoaderByHand::new();
        let dead_letters = DeadLetters::default();
        let dead = dead_letters.take_inbox().expect("nobody took it before");
        let services = Services::from(Parts {
            dead_letters,
            memory: Arc::new(QueueMemory::new(setup.memory_bytes)),
            loader,
            timers: Timers::by_hand(),
            census: Arc::new(Census::new(NodeLimits::default())),
            events: Arc::default(),
            alarms: Arc::new(Alarms::default()),
            store,
            clock: clock.clone(),
            random: Arc::new(SeededRandom::new(setup.seed)),
            node: "simulation".into(),
            default_queue_type: QueueType::Classic,
        });
        let auth = Auth::recover(std::iter::empty(), &Config::default());
        let auth = Arc::new(auth.expect("nothing is stored"));
        let recovered = Broker::recover(services.clone(), auth, recovered, Some("/"));
        let broker = recovered.unwrap_or_else(|error| panic!("{error}")).broker;
        let machine = Self {
            services,
            vhost: broker.vhost("/").expect("it is made at the first start"),
            store: by_hand,
            broker,
            loads,
            dead,
            dying: VecDeque::new(),
        };
        (machine, start)
    }

    pub(super) fn visit(&self) -> Visit<'_> {
        self.services.visit()
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.services.now_ms()
    }

    /// Lets a queue go on until it has nothing more to do by itself.
    pub(super) fn pump(&self, queue: &Arc<Queue>, mut more: bool) {
        while more {
            more = queue.pump(&self.visit());
        }
    }

    /// The timers that are due ring. How many did?
    pub(super) fn call_due(&self) -> usize {
        self.services.timers.call_due(self.now_ms())
    }

    /// Moves dead messages of one queue. Which one?
    pub(super) fn bury(&mut self) -> Option<QueueId> {
        self.dying.extend(self.dead.try_iter());
        let queue = self.dying.pop_front()?;
        if dead_letter::serve(&self.broker, &queue) {
            self.dying.push_back(queue.clone());
        }
        Some(queue.spec.id)
    }

    /// A loader thread takes a step, reading or giving what it read to who has asked for it: they may overtake each
    /// other.
    pub(super) fn load_step(&self, chance: &mut Chance) -> bool {
        let Services(parts) = &self.services;
        let install = |last| self.loads.install_one(last, &parts.store, &*parts.clock);
        match chance.below(4) {
            0 => install(false) || self.loads.read_one(&parts.store),
            1 => install(true) || self.loads.read_one(&parts.store),
            _ => self.loads.read_one(&parts.store) || install(false),
        }
    }

    /// Reads back what waits longest to be read. `false`: nothing does.
    pub(super) fn load(&self) -> bool {
        let Services(parts) = &self.services;
        self.loads.serve_one(&parts.store, &*parts.clock)
    }

    /// Brings the memory of the queues within its budget, and takes back what idle ones have to spare.
    pub(super) fn relieve(&self) {
        keeper::relieve(&self.broker);
        self.broker.for_each_queue(|queue| queue.shrink());
    }

    pub(super) fn queues(&self) -> Vec<Arc<Queue>> {
        let mut queues = self.vhost.queues();
        queues.sort_by_key(|queue| queue.spec.id);
        queues
    }

    /// Everything that there is. What the ledger knows is not read again.
    pub(super) fn look(&self, ledger: &Ledger) -> Seen {
        let mut seen = Seen::default();
        let from = DueKey { time_ms: 0, seq: 0 };
        let mut list = |holder: Holder, delays: &crate::broker::delays::Delays| {
            let pending = delays.list(from, LISTED_MAX).expect("a store that is open");
            let held = pending.into_iter().map(|pending| {
                let mut found = Found::of(&pending.properties);
                found.persistent = pending.persistent;
                found.body_bytes = pending.body_bytes;
                ((holder.clone(), pending.key), found)
            });
            seen.held.extend(held);
        };
        if let Some(later) = self.vhost.exchange(LATER)
            && let Some(delays) = later.delays()
        {
            list(Holder::Exchange(LATER), delays);
        }
        let queues = self.queues();
        for queue in &queues {
            if let Some(delays) = queue.delays() {
                list(Holder::Queue(queue.spec.id), &delays);
            }
        }
        for queue in queues {
            let id = queue.spec.id;
            let mut one = SeenQueue {
                name: queue.spec.name.to_string(),
                durable: queue.spec.durable,
                is_paused: queue.is_paused(),
                settings: queue.settings(),
                messages: Default::default(),
                ready_bytes: 0,
                is_counted: queue.counted_bytes().is_some(),
            };
            queue.for_each_message(|place, record| {
                if place == Whereabouts::Ready {
                    one.ready_bytes += record.body_len() as u64;
                }
                let is_known = ledger.copy((id, record.seq())).is_some();
                let found = (!is_known).then(|| Found::read(record));
                let number = number(record.properties());
                one.messages.insert(record.seq(), (place, number, found));
            });
            seen.queues.insert(id, one);
        }
        seen
    }
}
