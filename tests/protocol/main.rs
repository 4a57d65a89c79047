//! Raw-frame conversations for the rules of AMQP 0-9-1 as RabbitMQ applies them.
//!
//! They run against a broker of ours, or against the one whose address is in `LEVERET_TEST_ADDR`:
//! every expectation here was held against RabbitMQ 3.10 that way. Where RabbitMQ 4.3 answers
//! otherwise, [`check::since_4`] says both.

#[macro_use]
#[path = "../support/mod.rs"]
mod support;

mod acknowledge;
mod alarms;
mod bad_input;
mod bind;
mod channel;
mod check;
mod confirm;
mod consume;
mod consumer_timeout;
mod content;
mod dead_letters;
mod deduplication;
mod definitions;
mod delayed;
mod delayed_retry;
mod deprecated;
mod direct_reply;
mod events;
mod exchange;
mod exchange_types;
mod expiry;
mod framing;
mod get;
mod handshake;
mod heartbeat;
mod idle;
mod interceptors;
mod limits;
mod log_exchange;
mod message_groups;
mod names;
mod node_limits;
mod permissions;
mod policies;
mod publish;
mod qos;
mod queue;
mod queue_arguments;
mod queue_deduplication;
mod queue_delay;
mod rates;
mod routing;
mod stream;
mod tx;
