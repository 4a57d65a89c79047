//! What the broker itself has to tell: messages that it publishes to an exchange of a virtual host.
//!
//! Whoever has something to tell holds locks: notices wait in a list of their own, from which one thread publishes
//! them in order. What comes faster than it can be published is lost and counted: telling must not slow down what is
//! told of.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread;

use bytes::Bytes;
use parking_lot::Mutex;

use super::vhost::VHost;
use super::vhost::publish::Outgoing;
use crate::message::BODY_SHARED_BYTES_MIN;
use crate::message::record::{Body, NewMessage, SharedBody};

/// Notices that wait take at most this much.
pub(super) const OUTLET_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Notices that are published in one visit.
const VISIT_NOTICES_MAX: usize = 64;

/// Where notices go.
pub(super) struct Outlet {
    exchange: &'static str,
    waiting_bytes: AtomicUsize,
    lost: AtomicU64,
    inbox: Mutex<Option<Sender<Notice>>>,
}

/// A message of the broker.
pub(super) struct Notice {
    pub(super) routing_key: String,
    /// Begin with their flags, as on the wire.
    pub(super) properties: Vec<u8>,
    pub(super) body: Bytes,
    pub(super) persistent: bool,
}

impl Notice {
    fn bytes(&self) -> usize {
        self.routing_key.len() + self.properties.len() + self.body.len()
    }
}

impl Outlet {
    /// An outlet to the exchange of this name that is closed.
    pub(super) const fn new(exchange: &'static str) -> Self {
        Self {
            exchange,
            waiting_bytes: AtomicUsize::new(0),
            lost: AtomicU64::new(0),
            inbox: Mutex::new(None),
        }
    }

    /// Begins to publish in `vhost`, in a thread of this name. One that is open stays as it is.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub(super) fn open(self: &Arc<Self>, thread: &str, vhost: &Weak<VHost>) -> std::io::Result<()> {
        let mut inbox = self.inbox.lock();
        if inbox.is_none() {
            let (sender, notices) = channel();
            let (outlet, vhost) = (Arc::downgrade(self), vhost.clone());
            thread::Builder::new()
                .name(thread.to_owned())
                .spawn(move || run(&outlet, &vhost, &notices))?;
            *inbox = Some(sender);
        }
        Ok(())
    }

    /// Takes nothing more. What waits is still published.
    pub(super) fn close(&self) {
        *self.inbox.lock() = None;
    }

    /// Notices that were lost.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Counts a notice that could not be made.
    pub(super) fn lose(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// Publishes a notice soon. A closed outlet takes none.
    pub(super) fn put(&self, notice: Notice) {
        let inbox = self.inbox.lock();
        let Some(inbox) = &*inbox else {
            return;
        };
        let bytes = notice.bytes();
        if self.waiting_bytes.load(Ordering::Relaxed) + bytes > OUTLET_BYTES_MAX {
            self.lose();
            return;
        }
        self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        // Without a receiver the virtual host is gone.
        let _ = inbox.send(notice);
    }
}

fn run(outlet: &Weak<Outlet>, vhost: &Weak<VHost>, notices: &Receiver<Notice>) {
    while let Ok(first) = notices.recv() {
        let (Some(outlet), Some(vhost)) = (outlet.upgrade(), vhost.upgrade()) else {
            return;
        };
        let mut batch = vec![first];
        batch.extend(notices.try_iter().take(VISIT_NOTICES_MAX - 1));
        let bytes = batch.iter().map(Notice::bytes).sum();
        vhost.publish_notices(outlet.exchange, &batch);
        outlet.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl VHost {
    fn publish_notices(&self, name: &str, notices: &[Notice]) {
        let Some(exchange) = self.exchange(name) else {
            return;
        };
        let visit = self.services.visit();
        let outgoing = notices.iter().map(|notice| {
            let message = NewMessage {
                exchange: name.as_bytes(),
                routing_key: notice.routing_key.as_bytes(),
                properties: &notice.properties,
                annotations: &[],
                body: if notice.body.len() < BODY_SHARED_BYTES_MIN {
                    Body::Inline(&notice.body)
                } else {
                    Body::Shared(SharedBody {
                        id: 0,
                        bytes: notice.body.clone(),
                    })
                },
                persistent: notice.persistent,
                priority: 0,
                expiry_ms: 0,
            };
            let targets = self
                .route(&exchange, &[&notice.routing_key], &message)
                .queues;
            Outgoing { message, targets }
        });
        let mut crowded = self.deliver(&visit, outgoing.collect(), true).crowded;
        drop(visit);
        while !crowded.is_empty() {
            crowded.retain(|queue| queue.pump(&self.services.visit()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_too_fast_is_lost_and_counted() {
        let outlet = Outlet::new("x");
        // Nobody takes anything out.
        let (sender, _notices) = channel();
        *outlet.inbox.lock() = Some(sender);
        let notice = || Notice {
            routing_key: String::new(),
            properties: Vec::new(),
            body: Bytes::from(vec![0; OUTLET_BYTES_MAX / 2]),
            persistent: false,
        };
        for _ in 0..3 {
            outlet.put(notice());
        }
        assert_eq!(outlet.lost(), 1);
        outlet.close();
        outlet.put(notice());
        assert_eq!(outlet.lost(), 1);
    }
}
