//! Tests of the store as a whole: real RocksDB in a temporary directory, queues that do what the broker's queues do.

mod bodies;
mod cleaning;
mod counts;
mod due;
mod elision;
mod epochs;
mod full_disk;
mod intents;
mod model;
mod own_work;
mod recovery;
mod rewriting;
mod spilling;
mod support;
mod throughput;
