//! A stream by chance: messages that stay, readers that each go their own way, retention, remembered positions, and
//! losses of power.
//!
//! The book is the list of all that was published. A reader gets the messages that it wants, each once and in order,
//! as soon as they are on the disk; what retention removed it passes over.

mod book;
mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use amq_protocol::types::{AMQPValue, FieldTable};
use tempfile::TempDir;

use self::book::{Book, Reader};
use super::chance::Chance;
use super::clients::Clients;
use super::image::{Disk, new_folder};
use super::ledger::{Checked, promise, violated};
use super::machine::{Machine, Setup, VirtualClock};
use crate::broker::queue::Queue;
use crate::broker::vhost::QueueDeclare;
use crate::clock::Clock;
use crate::message::Epoch;
use crate::store;

/// Rounds after which a broker that nobody uses has nothing left to do.
const ROUNDS_MAX: usize = 2_000;

/// Remembered by these names. Who has one always wants the same.
const TAGS: [&str; 2] = ["all", "a"];

struct World {
    chance: Chance,
    clock: Arc<VirtualClock>,
    machine: Option<Machine>,
    setup: Setup,
    folder: TempDir,
    disk: Disk,
    /// The last epoch that the store called durable.
    announced: Epoch,
    clients: Clients,
    readers: BTreeMap<usize, Reader>,
    book: Book,
    /// Where those with a name go on, as far as that is certain.
    positions: BTreeMap<&'static str, u64>,
    /// Where they may ever have been: a loss of power may bring any of these back, or none.
    ever: BTreeMap<&'static str, BTreeSet<u64>>,
    max_age_ms: Option<u64>,
    has_max_bytes: bool,
    history: Vec<String>,
}

impl World {
    fn new(setup: Setup) -> Self {
        let mut chance = Chance::new(setup.seed);
        let (folder, clock) = (new_folder(), Arc::new(VirtualClock::new()));
        let (machine, start) = Machine::start(folder.path(), &clock, setup);
        let has_max_age = chance.percent(40);
        let mut world = Self {
            disk: Disk::at_start(folder.path(), start),
            machine: Some(machine),
            announced: start,
            max_age_ms: has_max_age.then_some(1_000),
            has_max_bytes: chance.percent(40),
            chance,
            clock,
            setup,
            folder,
            clients: Clients::default(),
            readers: BTreeMap::new(),
            book: Book::default(),
            positions: BTreeMap::new(),
            ever: BTreeMap::new(),
            history: Vec::new(),
        };
        world.declare();
        while world.store_step() {}
        world
    }

    fn declare(&mut self) {
        let mut arguments = FieldTable::default();
        let mut put = |name: &str, value| {
            arguments.insert(name.into(), value);
        };
        put("x-queue-type", AMQPValue::LongString("stream".into()));
        let segment = self.chance.between(500, 6_000) as i64;
        put(
            "x-stream-max-segment-size-bytes",
            AMQPValue::LongLongInt(segment),
        );
        if self.max_age_ms.is_some() {
            put("x-max-age", AMQPValue::LongString("1s".into()));
        }
        if self.has_max_bytes {
            let bytes = self.chance.between(1_000, 30_000) as i64;
            put("x-max-length-bytes", AMQPValue::LongLongInt(bytes));
        }
        let declare = QueueDeclare {
            name: "s".into(),
            server_named: false,
            durable: true,
            exclusive: false,
            auto_delete: false,
            arguments,
            connection: 1,
        };
        let machine = self.machine();
        let declared = machine.vhost.declare_queue(&machine.visit(), declare);
        declared.unwrap_or_else(|error| panic!("{error}"));
    }

    fn machine(&self) -> &Machine {
        self.machine.as_ref().expect("it is running")
    }

    fn stream(&self) -> Arc<Queue> {
        self.machine().vhost.queue("s").expect("it is durable")
    }

    fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    fn run(&mut self, steps: usize) -> Checked {
        for _ in 0..steps {
            let step = self.chance.weighted(steps::Step::CHOICES);
            self.step(step)?;
        }
        self.rest()?;
        self.step(steps::Step::LosePower)?;
        self.pause(false);
        self.rest()
    }

    fn step(&mut self, step: steps::Step) -> Checked<bool> {
        let was_paused = self.stream().is_paused();
        let busy = self.take(step)?;
        let is_paused = was_paused && self.stream().is_paused();
        let log = self.clients.take_log(self.now_ms());
        if busy {
            self.history.push(format!("{step:?} at {}", self.now_ms()));
        }
        for delivered in log.deliveries {
            promise!(!is_paused, "the stream is paused and delivers");
            let number = delivered.consumer.expect("nobody gets from a stream");
            let offset = delivered.seq - 1;
            self.history.push(format!("    {offset} to {number}"));
            let message = self.book.messages.get(offset as usize);
            let Some(message) = message else {
                violated!("{offset} was never published");
            };
            promise!(
                delivered.is_body_right && delivered.number == message.number,
                "{offset} is message {}, not {}",
                delivered.number,
                message.number
            );
            promise!(
                message.epoch <= self.announced,
                "{offset} is not on the disk and was delivered"
            );
            let reader = self.readers.get_mut(&number);
            let reader = reader.expect("who is gone gets nothing");
            self.book.follow(reader, offset)?;
        }
        self.check_retention()?;
        Ok(busy)
    }

    /// What is gone was too old or too much, and does not come back.
    fn check_retention(&mut self) -> Checked {
        let ready = self.stream().counts().ready;
        let count = self.book.messages.len() as u64;
        promise!(ready <= count, "{ready} of {count} are there");
        let first = count - ready;
        let before = self.book.first;
        promise!(first >= before, "{before} was gone and is there again");
        promise!(count == 0 || ready > 0, "even the newest is gone");
        if first > before && !self.has_max_bytes {
            let last = &self.book.messages[first as usize - 1];
            let is_old = |age_ms| last.arrival_ms + age_ms <= self.now_ms();
            promise!(
                self.max_age_ms.is_some_and(is_old),
                "{} is gone and was not old",
                first - 1
            );
        }
        self.book.first = first;
        Ok(())
    }

    /// The store goes one step further.
    fn store_step(&mut self) -> bool {
        let step = self.machine.as_mut().expect("it is running").store.step();
        match step {
            store::Step::Idle => return false,
            store::Step::Cut(epoch) => {
                self.book.firsts.insert(epoch, self.book.first);
            }
            store::Step::Gathered => {}
            store::Step::Written(epoch) => {
                let machine = self.machine.as_ref().expect("it is running");
                self.disk
                    .epoch_written(self.folder.path(), epoch, &machine.store);
            }
            store::Step::Announced(epoch) => self.announced = epoch,
        }
        true
    }

    fn lose_power(&mut self) -> Checked {
        let (image, kept) = self.disk.lose_power(self.folder.path(), &mut self.chance);
        self.machine = None;
        self.folder = image;
        let kept = kept.max(self.announced);
        self.history.push(format!("epochs up to {kept} are kept"));
        self.start();
        self.book.lose_after(kept);
        let ready = self.stream().counts().ready;
        let count = self.book.messages.len() as u64;
        let first = count.checked_sub(ready);
        let least = self.book.first_at(kept);
        promise!(
            first.is_some_and(|first| least <= first && first <= self.book.first.max(least)),
            "{ready} of {count} are there, and the first one was {least} or {}",
            self.book.first
        );
        // What was removed and that was lost is there again.
        self.book.first = first.unwrap_or_default();
        // Of the epochs that are lost nothing counts any more.
        let start = (self.announced, self.book.first);
        self.book.firsts = BTreeMap::from([start]);
        Ok(())
    }

    fn restart(&mut self) {
        let machine = self.machine.take().expect("it is running");
        machine.store.close();
        self.start();
    }

    fn start(&mut self) {
        self.clients = Clients::default();
        self.readers.clear();
        self.positions.clear();
        let (machine, start) = Machine::start(self.folder.path(), &self.clock, self.setup);
        self.machine = Some(machine);
        self.disk = Disk::at_start(self.folder.path(), start);
        self.announced = start;
    }

    /// Goes on until nothing is left to do at this time.
    fn rest(&mut self) -> Checked {
        for _ in 0..ROUNDS_MAX {
            let mut busy = false;
            for step in steps::Step::OF_THREADS {
                let mut times = 0;
                while times < ROUNDS_MAX && self.step(*step)? {
                    times += 1;
                }
                promise!(times < ROUNDS_MAX, "{step:?} never ends");
                busy |= times > 0;
            }
            if !busy {
                return self.check_rest();
            }
        }
        violated!("the broker does not come to rest");
    }

    /// Who has room has everything.
    fn check_rest(&self) -> Checked {
        for (number, reader) in self.readers.iter().filter(|_| !self.stream().is_paused()) {
            let missing = self.book.missing(reader);
            promise!(
                !reader.has_room() || missing.is_none(),
                "reader {number} waits, and {missing:?} is there"
            );
        }
        Ok(())
    }
}

#[test]
fn readers_of_a_stream_get_what_they_want_once_and_in_order_whatever_happens() {
    let given = std::env::var(super::SEED).ok();
    let given = given.and_then(|seed| seed.parse().ok());
    let seeds: Vec<u64> = match given {
        Some(seed) => vec![seed],
        None => (0..super::RUNS).map(|_| fastrand::u64(..1 << 48)).collect(),
    };
    for seed in seeds {
        let mut world = World::new(super::setup(seed));
        if let Err(violation) = world.run(super::steps()) {
            let shown = if given.is_some() {
                usize::MAX
            } else {
                super::SHOWN
            };
            let from = world.history.len().saturating_sub(shown);
            let history = world.history[from..].join("\n");
            panic!("{history}\n{violation}\n{}={seed}", super::SEED);
        }
    }
}
