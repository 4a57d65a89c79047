//! What survives: the broker is killed under load, loses power, and runs out of disk.
//!
//! `LEVERET_KILL_ROUNDS` sets how often the broker is killed in each of the kill tests,
//! `LEVERET_TEST_SEED` repeats the choices of a run (not the moments of its kills).

#[macro_use]
#[path = "../support/mod.rs"]
mod support;

mod body;
mod checker;
mod clock;
mod consumer;
mod dead_letters;
mod deduplication;
mod delayed;
mod disk_full;
mod graves;
mod image;
mod ledger;
mod mixed;
mod promises;
mod publisher;
mod rounds;
mod stream;
mod topology;
