//! The firehose: a copy of every message that is published to a virtual host or delivered from it, for debugging.
//!
//! While it is on, copies go to the exchange `amq.rabbitmq.trace` of the virtual host, with the routing key
//! `publish.` and the name of the exchange, or `deliver.` and the name of the queue, and RabbitMQ's headers
//! (`rabbit_trace`); [`tap`] makes them. Beyond RabbitMQ it says how deliveries end: `ack.`, `reject.`, `requeue.` and
//! `dead_letter.` with the name of the queue. What comes from that exchange is not copied again.
//!
//! Copies take the way of everything that the broker tells ([`super::outlet`]). While it is off, the firehose costs one
//! relaxed load for each batch of messages.

mod tap;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

pub use self::tap::{Settled, Tap, Traced, dead_lettered};
use super::exchange::TRACE_EXCHANGE;
use super::outlet::Outlet;
use super::vhost::VHost;

/// The firehose of a virtual host.
pub struct Firehose {
    on: AtomicBool,
    outlet: Arc<Outlet>,
}

impl Default for Firehose {
    fn default() -> Self {
        Self {
            on: AtomicBool::new(false),
            outlet: Arc::new(Outlet::new(TRACE_EXCHANGE)),
        }
    }
}

impl Firehose {
    /// Whether messages are copied at the moment.
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Copies that were lost: they came faster than they could be published, or the message of a settled delivery was
    /// no longer in memory.
    pub fn lost(&self) -> u64 {
        self.outlet.lost()
    }

    /// Begins to copy messages to the trace exchange of `vhost`.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub(super) fn turn_on(&self, vhost: &Weak<VHost>) -> std::io::Result<()> {
        self.outlet.open("firehose", vhost)?;
        self.on.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Copies no more. What waits is still published.
    pub(super) fn turn_off(&self) {
        self.on.store(false, Ordering::Relaxed);
        self.outlet.close();
    }
}
