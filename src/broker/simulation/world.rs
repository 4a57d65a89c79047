//! A run: steps by chance, each followed by the oracle.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tempfile::TempDir;

use super::chance::Chance;
use super::clients::Clients;
use super::image::{Disk, new_folder};
use super::ledger::{Checked, promise};
use super::machine::{Machine, Setup, VirtualClock};
use super::odds::Odds;
use super::oracle::{Facts, Oracle, Seen};
use super::plan::{self, QueuePlan};
use super::steps::Step;
use crate::clock::Clock;
use crate::message::{Epoch, QueueId};
use crate::store;

/// Rounds after which a broker that nobody uses has nothing left to do.
const ROUNDS_MAX: usize = 2_000;

/// More copies than ever come together as long as messages do not multiply.
const COPIES_MAX: usize = 2_000;

/// How far time goes in the end: beyond all that waits for a time.
const HOUR_MS: u64 = 3_600_000;

pub(super) struct World {
    pub(super) chance: Chance,
    pub(super) clock: Arc<VirtualClock>,
    /// `None` only while it starts again.
    pub(super) machine: Option<Machine>,
    pub(super) setup: Setup,
    folder: TempDir,
    disk: Disk,
    /// The last epoch that the store called durable.
    announced: Epoch,
    pub(super) odds: Odds,
    pub(super) plans: Vec<QueuePlan>,
    pub(super) clients: Clients,
    pub(super) oracle: Oracle,
    /// What happens in this step.
    pub(super) facts: Facts,
    pub(super) last_number: u64,
    /// How many messages the deduplicating exchange remembers.
    pub(super) remembered_max: usize,
    /// When queues were last used, for those that go when they are not.
    pub(super) used: BTreeMap<QueueId, u64>,
    /// Queues that had a consumer since the start.
    pub(super) consumed: BTreeSet<QueueId>,
    /// What was done, for those who look for a fault.
    pub(super) history: Vec<String>,
}

impl World {
    pub(super) fn new(setup: Setup) -> Self {
        let mut chance = Chance::new(setup.seed);
        let clock = Arc::new(VirtualClock::new());
        let folder = new_folder();
        let (machine, start) = Machine::start(folder.path(), &clock, setup);
        let odds = Odds::draw(&mut chance);
        let plans = plan::draw(&mut chance, &odds);
        let remembered_max = [4, 1_000][chance.below(2)];
        Self {
            disk: Disk::at_start(folder.path(), start),
            announced: start,
            oracle: Oracle::new(start),
            machine: Some(machine),
            chance,
            clock,
            setup,
            folder,
            odds,
            plans,
            clients: Clients::default(),
            facts: Facts::default(),
            last_number: 0,
            remembered_max,
            used: BTreeMap::new(),
            consumed: BTreeSet::new(),
            history: Vec::new(),
        }
    }

    pub(super) fn machine(&self) -> &Machine {
        self.machine.as_ref().expect("it is running")
    }

    pub(super) fn machine_mut(&mut self) -> &mut Machine {
        self.machine.as_mut().expect("it is running")
    }

    /// Runs so many steps and then to the end of everything.
    pub(super) fn run(&mut self, steps: usize) -> Checked {
        self.step(Step::DeclareExchanges)?;
        for _ in 0..steps {
            let step = self.chance.weighted(Step::CHOICES);
            self.step(step)?;
        }
        self.rest()?;
        self.check_rest()?;
        self.step(Step::Restart)?;
        self.rest()?;
        self.check_rest()?;
        self.drain()?;
        self.step(Step::LosePower)?;
        self.check_empty()
    }

    /// Takes a step and lets the oracle follow it. True: there was something to do.
    pub(super) fn step(&mut self, step: Step) -> Checked<bool> {
        self.facts = Facts {
            now_ms: self.clock.now_ms(),
            ..Facts::default()
        };
        let busy = self.take(step)?;
        if matches!(step, Step::LosePower | Step::Restart) {
            return Ok(true);
        }
        let log = self.clients.take_log(self.facts.now_ms);
        self.time_out(&log.timed_out)?;
        self.facts.deliveries = log.deliveries;
        self.facts.refused = log.refused;
        if busy {
            self.history.push(format!("{step:?} {}", self.facts.told()));
        }
        let seen = self.look();
        let accounted = self.oracle.account(&self.facts, &seen);
        self.history.append(&mut self.oracle.changes);
        let count = self.oracle.ledger.count();
        promise!(
            count < COPIES_MAX,
            "{count} copies of messages are too many"
        );
        accounted?;
        self.check_precedence()?;
        self.check_counts()?;
        Ok(busy)
    }

    fn look(&self) -> Seen {
        let consumers = self.clients.consumers.values();
        Seen {
            with_consumers: self.clients.held(),
            consumers: consumers.map(|one| (one.number, one.priority)).collect(),
            ..self.machine().look(&self.oracle.ledger)
        }
    }

    /// The store goes one step further.
    pub(super) fn store_step(&mut self) -> bool {
        let step = self.machine_mut().store.step();
        match step {
            store::Step::Idle => return false,
            store::Step::Cut(epoch) => self.oracle.epoch_ended(epoch),
            store::Step::Gathered => {}
            store::Step::Written(epoch) => {
                let machine = self.machine.as_ref().expect("it is running");
                self.disk
                    .epoch_written(self.folder.path(), epoch, &machine.store);
            }
            store::Step::Announced(epoch) => {
                self.announced = epoch;
                self.oracle.epoch_announced(epoch);
            }
        }
        self.history.push(format!("{step:?}"));
        true
    }

    /// RocksDB writes its memory to files.
    pub(super) fn flush(&mut self) {
        if self.disk.is_durable(self.folder.path()) {
            self.machine().store.flush();
            self.disk.log_changed(self.folder.path());
        }
    }

    pub(super) fn lose_power(&mut self) -> Checked {
        let (image, kept) = self.disk.lose_power(self.folder.path(), &mut self.chance);
        self.history.push(format!(
            "power fails: epochs up to {kept} are kept, {} was announced",
            self.announced
        ));
        self.machine = None;
        self.folder = image;
        let announced = self.announced;
        let start = self.start();
        let seen = self.look();
        self.oracle.power_failed(kept, announced, start, &seen)
    }

    pub(super) fn restart(&mut self) -> Checked {
        self.history.push("restart".into());
        let machine = self.machine.take().expect("it is running");
        machine.store.close();
        let start = self.start();
        let seen = self.look();
        self.oracle.closed(start, &seen)
    }

    fn start(&mut self) -> Epoch {
        self.clients = Clients::default();
        let (machine, start) = Machine::start(self.folder.path(), &self.clock, self.setup);
        self.machine = Some(machine);
        self.disk = Disk::at_start(self.folder.path(), start);
        self.announced = start;
        self.consumed.clear();
        let queues = self.machine().queues();
        let now_ms = self.clock.now_ms();
        self.used = queues.iter().map(|queue| (queue.spec.id, now_ms)).collect();
        start
    }

    /// Goes on until nothing is left to do at this time.
    fn rest(&mut self) -> Checked {
        for _ in 0..ROUNDS_MAX {
            let mut busy = false;
            for step in Step::OF_THREADS {
                let mut times = 0;
                while times < ROUNDS_MAX && self.step(*step)? {
                    times += 1;
                }
                promise!(times < ROUNDS_MAX, "{step:?} never ends");
                busy |= times > 0;
            }
            if !busy {
                return Ok(());
            }
        }
        super::ledger::violated!("the broker does not come to rest");
    }

    /// Takes everything out: nothing may be left anywhere.
    fn drain(&mut self) -> Checked {
        for _ in 0..ROUNDS_MAX {
            while self.step(Step::Resume)? {}
            while self.step(Step::CancelAll)? {}
            while self.step(Step::GiveAllBack)? {}
            self.rest()?;
            self.step(Step::TakeAll)?;
            self.rest()?;
            let ledger = &self.oracle.ledger;
            let is_empty = ledger.books.values().all(|book| book.copies.is_empty());
            if is_empty && ledger.held.is_empty() {
                self.check_rest()?;
                return self.check_empty();
            }
            self.clock.advance(HOUR_MS);
        }
        super::ledger::violated!("messages are left");
    }

    /// The store has nothing left.
    fn check_empty(&mut self) -> Checked {
        self.rest()?;
        let statistics = self.machine().services.store.statistics();
        promise!(
            (statistics.due, statistics.bodies, statistics.rows) == (0, 0, 0),
            "the store keeps {statistics:?}"
        );
        let resident = self.machine().services.memory.resident_bytes();
        promise!(resident == 0, "queues keep {resident} bytes in memory");
        let left = self
            .oracle
            .ledger
            .books
            .values()
            .find(|book| !book.copies.is_empty());
        promise!(left.is_none(), "{left:?} is left");
        Ok(())
    }
}
