//! Messages that the broker itself puts into queues: dead letters, delayed messages that are due.

use std::sync::Arc;

use super::VHost;
use crate::broker::queue::{Published, Queue};
use crate::message::record::{Body, NewMessage};
use crate::store::Visit;

/// A message and where it goes.
pub struct Outgoing<'a> {
    /// The message.
    pub message: NewMessage<'a>,
    /// Queues, each once.
    pub targets: Vec<Arc<Queue>>,
}

impl VHost {
    /// Puts messages into their queues, in order, in one visit (so at most 256 of them). Answers the queues that have
    /// more to do: call [`Queue::pump`] for them in further visits. A queue that is too full for a message loses it.
    pub fn deliver(&self, visit: &Visit<'_>, mut outgoing: Vec<Outgoing<'_>>) -> Vec<Arc<Queue>> {
        for Outgoing { message, targets } in &mut outgoing {
            let shared = targets.iter().filter(|queue| queue.spec.durable).count() > 1;
            if let Body::Shared(body) = &mut message.body
                && body.id == 0
                && message.persistent
                && shared
            {
                body.id = self.services.store.next_body_id();
            }
        }
        let mut queues: Vec<&Arc<Queue>> = Vec::new();
        for queue in outgoing.iter().flat_map(|outgoing| &outgoing.targets) {
            if !queues.iter().any(|known| Arc::ptr_eq(known, queue)) {
                queues.push(queue);
            }
        }
        let mut crowded = Vec::new();
        for queue in queues {
            let messages = outgoing
                .iter()
                .filter(|outgoing| outgoing.targets.iter().any(|to| Arc::ptr_eq(to, queue)))
                .map(|outgoing| &outgoing.message);
            if let Published::Accepted { more: true, .. } = queue.publish(visit, messages) {
                crowded.push(queue.clone());
            }
        }
        crowded
    }
}
