//! Micro-benchmarks of the path of a message: `cargo bench --bench hot_path`, all in one profile with the broker.
//!
//! What takes a batch is measured as the broker does it: 256 messages, the share of one visit. The figures are times
//! per message or per route; `cargo bench --bench hot_path -- --test` runs everything once.
//!
//! - [`frames`]: cutting what a publisher sends, writing what a consumer gets.
//! - [`records`]: what a message is in a chunk.
//! - [`routing`]: from exchange and key to queues, by type and number of bindings.
//! - [`queue`]: a visit that appends, delivers and settles.
//! - [`commit`]: the store makes it durable.

#![expect(
    clippy::unwrap_used,
    reason = "what cannot be set up cannot be measured"
)]

mod commit;
mod fixture;
mod frames;
mod queue;
mod records;
mod routing;
#[path = "../support/mod.rs"]
mod support;

/// The allocator of the broker.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    divan::main();
}
