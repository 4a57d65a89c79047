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
//! between any two others. The same seed takes the same course: `LEVERET_TEST_SEED` repeats one, and
//! `LEVERET_TEST_STEPS` makes them longer.
//!
//! - [`plan`], [`odds`]: which queues there are. [`steps`], [`topology`], [`publishing`], [`consuming`], [`administering`]: what
//!   can happen. [`clients`]: who has what.
//! - [`machine`]: the broker without threads. [`image`]: what the disk keeps.
//! - [`message`], [`ledger`]: every copy of every message. [`oracle`]: what may become of it.
//! - [`world`]: a run. [`rest`]: what must be so when nothing is left to do. [`streams`]: those of a stream.
//! - [`scenes`]: what happened once, told as a test.

mod administering;
mod chance;
mod clients;
mod consuming;
mod image;
mod ledger;
mod machine;
mod message;
mod odds;
mod oracle;
mod plan;
mod publishing;
mod rest;
mod scenes;
mod steps;
mod streams;
mod topology;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use self::machine::Setup;
use self::world::World;

/// Repeats one run.
const SEED: &str = "LEVERET_TEST_SEED";

/// Longer runs, or shorter ones.
const STEPS_GIVEN: &str = "LEVERET_TEST_STEPS";

const RUNS: u64 = 24;
const STEPS: usize = 1_200;

/// Lines that are shown of a run that failed; of one that was asked for all are.
const SHOWN: usize = 40;

fn steps() -> usize {
    let given = std::env::var(STEPS_GIVEN).ok();
    given.and_then(|steps| steps.parse().ok()).unwrap_or(STEPS)
}

fn setup(seed: u64) -> Setup {
    Setup {
        seed,
        memory_bytes: match seed % 6 {
            0 => Setup::LITTLE_BYTES,
            3 => 0,
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
        if let Err(report) = run(setup(seed), steps()) {
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

#[test]
fn the_same_seed_takes_the_same_course() {
    let course = |seed| run(setup(seed), 400).map(|world| world.history);
    let (first, second) = (course(7), course(7));
    assert!(first == second, "two runs of one seed differ");
}
