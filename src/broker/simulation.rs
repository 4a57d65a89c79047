//! The whole broker in one thread, driven by chance: queues with every feature, dead-letter chains, delays, retries,
//! consumers of every kind, crashes and restarts, and a clock that is put forward by hand.
//!
//! ```text
//! steps (clients, timers, the dead-letter thread, loaders, the store: cut | gather one queue | write | announce)
//!    in any order, by chance
//! each step -> what was done (Facts) and what there is (Seen) -> the oracle: does the one follow from the other?
//! loss of power -> a copy of the files with the log cut off behind what was synced -> the books of the last epoch in it
//! ```
//!
//! The broker and the store are the real ones; only their threads are not there, so that their steps can be taken
//! between any two others. The same seed takes the same course: `LEVERET_TEST_SEED` repeats one.
//!
//! - [`plan`]: which queues there are. [`steps`], [`publishing`]: what can happen. [`clients`]: who has what.
//! - [`machine`]: the broker without threads. [`image`]: what the disk keeps.
//! - [`message`], [`ledger`]: every copy of every message. [`oracle`]: what may become of it.
//! - [`world`]: a run.

mod chance;
mod clients;
mod image;
mod ledger;
mod machine;
mod message;
mod oracle;
mod plan;
mod publishing;
mod steps;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use amq_protocol::types::FieldTable;

use self::image::new_folder;
use self::machine::{Machine, Setup, VirtualClock};
use self::world::World;
use super::delivery::ConsumerId;
use super::queue::{GetOutcome, Queue};
use super::vhost::QueueDeclare;
use crate::message::record::{Body, NewMessage};
use crate::store::Step;

/// Repeats one run.
const SEED: &str = "LEVERET_TEST_SEED";

const RUNS: u64 = 24;
const STEPS: usize = 1_200;

/// Lines that are shown of a run that failed; of one that was asked for all are.
const SHOWN: usize = 40;

fn setup(seed: u64) -> Setup {
    Setup {
        seed,
        memory_bytes: match seed % 3 {
            0 => Setup::LITTLE_BYTES,
            _ => 64 * 1024 * 1024,
        },
        no_sync: false,
    }
}

/// Runs it. What it violated, if anything.
fn run(setup: Setup, steps: usize) -> Result<World, String> {
    let mut world = World::new(setup);
    let result = catch_unwind(AssertUnwindSafe(|| world.run(steps)));
    let violation = match result {
        Ok(Ok(())) => return Ok(world),
        Ok(Err(violation)) => violation.to_string(),
        Err(_) => "it panicked".to_owned(),
    };
    let is_asked_for = std::env::var(SEED).is_ok();
    let shown = if is_asked_for { usize::MAX } else { SHOWN };
    let from = world.history.len().saturating_sub(shown);
    let history = world.history[from..].join("\n");
    Err(format!("{history}\n{violation}\n{SEED}={}", setup.seed))
}

#[test]
fn whatever_happens_every_copy_of_every_message_is_accounted_for() {
    let given = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok());
    let seeds = match given {
        Some(seed) => vec![seed],
        None => (0..RUNS).map(|_| fastrand::u64(..1 << 48)).collect(),
    };
    for seed in seeds {
        if let Err(report) = run(setup(seed), STEPS) {
            panic!("{report}");
        }
    }
}

#[test]
fn a_store_that_does_not_wait_for_the_disk_is_found_out() {
    let caught = (0..10).filter(|seed| {
        let setup = Setup {
            no_sync: true,
            ..setup(*seed)
        };
        run(setup, STEPS).is_err()
    });
    assert!(caught.count() > 0);
}

/// A durable queue.
fn declare(machine: &Machine) -> Arc<Queue> {
    let declare = QueueDeclare {
        name: "q".into(),
        server_named: false,
        durable: true,
        exclusive: false,
        auto_delete: false,
        arguments: FieldTable::default(),
        connection: 1,
    };
    let declared = machine.vhost.declare_queue(&machine.visit(), declare);
    declared.unwrap().queue
}

/// Without memory transient messages are put aside while the persistent ones around them are not written yet.
#[test]
fn what_stands_behind_spilled_messages_is_written() {
    let (folder, clock) = (new_folder(), Arc::new(VirtualClock::new()));
    let (mut machine, _) = Machine::start(folder.path(), &clock, setup(0));
    let queue = declare(&machine);
    let body = vec![0; 1_024];
    let publish = |count: usize, persistent: bool| {
        let message = NewMessage {
            persistent,
            body: Body::Inline(&body),
            ..super::testing::message("", "q")
        };
        queue.publish(&machine.visit(), std::iter::repeat_n(&message, count));
    };
    publish(1, true);
    publish(600, false);
    machine.relieve();
    publish(1, true);
    while machine.store.step() != Step::Idle {}
    drop((queue, machine));
    let (machine, _) = Machine::start(folder.path(), &clock, setup(0));
    let queue = machine.vhost.queue("q").expect("it is durable");
    assert_eq!(queue.counts().ready, 2);
}

/// A deletion may be lost with a crash, but not what was settled before it: the store gathers an epoch when the queue is
/// gone already.
#[test]
fn what_was_settled_before_its_queue_was_deleted_does_not_come_back_without_the_deletion() {
    let (folder, clock) = (new_folder(), Arc::new(VirtualClock::new()));
    let (mut machine, _) = Machine::start(folder.path(), &clock, setup(1));
    let queue = declare(&machine);
    let message = NewMessage {
        persistent: true,
        ..super::testing::message("", "q")
    };
    queue.publish(&machine.visit(), std::iter::once(&message));
    let seq = loop {
        let got = queue.get(&machine.visit(), false, |delivery, _| delivery.seq);
        if let GetOutcome::Message(seq) = got {
            break seq;
        }
        while machine.store.step() != Step::Idle {}
    };
    queue.settle(&machine.visit(), ConsumerId::NONE, &[seq]);
    assert!(matches!(machine.store.step(), Step::Cut(_)));
    let deleted = machine
        .vhost
        .delete_queue(&machine.visit(), "q", Default::default(), 1);
    assert!(deleted.is_ok());
    while !matches!(machine.store.step(), Step::Announced(_)) {}
    drop((queue, machine));
    let (machine, _) = Machine::start(folder.path(), &clock, setup(1));
    let queue = machine.vhost.queue("q").expect("the deletion is lost");
    assert_eq!(queue.counts().ready, 0);
}

#[test]
fn the_same_seed_takes_the_same_course() {
    let course = |seed| run(setup(seed), 400).map(|world| world.history);
    let (first, second) = (course(7), course(7));
    assert!(first == second, "two runs of one seed differ");
}
