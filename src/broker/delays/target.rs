//! Where messages go that have waited: through the exchange in which they waited, or into their queue.

use std::sync::{Arc, Weak};

use super::Delays;
use super::held::{Held, HeldRef};
use crate::broker::queue::{Published, Queue};
use crate::broker::vhost::VHost;
use crate::broker::vhost::publish::Outgoing;
use crate::store::Visit;

/// See the module.
pub(in crate::broker) enum Target {
    /// By the bindings of the exchange of this name.
    Exchange {
        /// Its name.
        name: Arc<str>,
        /// Its virtual host.
        vhost: Weak<VHost>,
    },
    /// Into this queue.
    Queue(Weak<Queue>),
}

impl Target {
    /// False: it is gone, and what waits goes nowhere.
    pub(super) fn exists(&self, delays: &Delays) -> bool {
        match self {
            Self::Exchange { name, vhost } => {
                let exchange = vhost.upgrade().and_then(|vhost| vhost.exchange(name));
                // Not one that was declared after this one was deleted.
                exchange.is_some_and(|exchange| {
                    let own = exchange.delays();
                    own.is_some_and(|own| std::ptr::eq(Arc::as_ptr(own), delays))
                })
            }
            Self::Queue(queue) => queue.upgrade().is_some_and(|queue| !queue.is_deleted()),
        }
    }

    /// Delivers messages, in order. Answers the queues that have more to do.
    pub(super) fn deliver(&self, visit: &Visit<'_>, held: &[HeldRef<'_>]) -> Vec<Arc<Queue>> {
        let now_ms = visit.now_ms();
        match self {
            Self::Exchange { name, vhost } => {
                let Some(vhost) = vhost.upgrade() else {
                    return Vec::new();
                };
                let Some(exchange) = vhost.exchange(name) else {
                    return Vec::new();
                };
                let outgoing = held.iter().map(|held| {
                    let message = held.message(now_ms);
                    let route = vhost.route(&exchange, &held.routing_keys, &message);
                    Outgoing {
                        message,
                        targets: route.queues,
                    }
                });
                vhost.deliver(visit, outgoing.collect(), true).crowded
            }
            Self::Queue(queue) => {
                let Some(queue) = queue.upgrade() else {
                    return Vec::new();
                };
                let messages: Vec<_> = held.iter().map(|held| held.message(now_ms)).collect();
                match queue.become_visible(visit, messages.iter()) {
                    Published::Accepted { more: true, .. } => vec![queue],
                    _ => Vec::new(),
                }
            }
        }
    }

    /// A message was taken out before its time.
    pub(super) fn removed(&self, visit: &Visit<'_>, held: &Held) {
        if let Self::Queue(queue) = self
            && let Some(queue) = queue.upgrade()
            && let Some(held) = held.read()
        {
            queue.waits_no_more(visit, &held.message(visit.now_ms()));
        }
    }

    /// For logs.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Exchange { name, .. } => format!("exchange '{name}'"),
            Self::Queue(queue) => match queue.upgrade() {
                Some(queue) => format!("queue '{}'", queue.spec.name),
                None => "a queue that is gone".to_owned(),
            },
        }
    }
}
