//! AMQP 0-9-1: everything that knows its bytes and its rules.
//!
//! | module | what it knows |
//! |---|---|
//! | [`frame`] | frames, cut and written by hand |
//! | [`handshake`] | from the protocol header to connection.open-ok |
//! | [`connection`] | the task of an open connection |
//! | [`channel`] | one file per method group |
//! | [`content`] | messages on their way in |
//! | [`outbox`], [`consumer`] | messages on their way out, what is unacknowledged |
//! | [`confirms`] | what publishers hear |
//! | [`error`] | the one table from errors to reply codes and texts |

pub mod channel;
pub mod confirms;
pub mod connection;
pub mod consumer;
pub mod content;
pub mod error;
pub mod events;
pub mod frame;
pub mod handshake;
pub mod names;
mod nesting;
mod octets;
pub mod outbox;
pub mod read_buffer;
mod route_cache;
pub mod server_properties;
pub mod session;
mod short_strings;
