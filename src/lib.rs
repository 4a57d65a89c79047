//! Leveret: a RabbitMQ-compatible AMQP 0-9-1 broker. `docs/ARCHITECTURE.md` is the map.

pub mod amqp;
pub mod auth;
pub mod broker;
pub mod clock;
pub mod config;
pub mod message;
pub mod occupancy;
pub mod perf;
pub mod random;
pub mod rate;
pub mod server;
pub mod store;
