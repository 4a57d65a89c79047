//! What the integration tests share: a raw-frame AMQP peer, the broker as a process, and chance.
//!
//! Nothing here uses the broker's own code: the codec in [`wire`] and [`method`] is written from
//! the AMQP 0-9-1 specification a second time, so that a bug of the broker is not mirrored.

#![allow(
    dead_code,
    reason = "each test binary uses its own part of the support"
)]

pub(crate) mod broker;
pub(crate) mod content;
pub(crate) mod durable_image;
#[macro_use]
pub(crate) mod method;
pub(crate) mod peer;
pub(crate) mod random;
pub(crate) mod spec;
pub(crate) mod wire;
