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

/// What became of a batch.
#[derive(Debug)]
pub struct Delivered {
    /// Queues that have more to do: call [`Queue::pump`] for them in further visits.
    pub crowded: Vec<Arc<Queue>>,
    /// Of each message, whether a queue took it.
    pub taken: Vec<bool>,
}

impl VHost {
    /// Puts messages into their queues, in order, in one visit (so at most 256 of them), which also takes them away
    /// where they were. A queue that is too full for a message does not take it; `refused_die`: there it dies of that,
    /// if that is what the queue does.
    pub fn deliver(
        &self,
        visit: &Visit<'_>,
        mut outgoing: Vec<Outgoing<'_>>,
        refused_die: bool,
    ) -> Delivered {
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
        let mut taken = vec![false; outgoing.len()];
        for queue in queues {
            let is_for_it = |outgoing: &Outgoing<'_>| {
                let mut targets = outgoing.targets.iter();
                targets.any(|to| Arc::ptr_eq(to, queue))
            };
            let places = (0..outgoing.len()).filter(|place| is_for_it(&outgoing[*place]));
            let places: Vec<usize> = places.collect();
            let messages = places.iter().map(|place| &outgoing[*place].message);
            let published = queue.take_over(visit, messages, refused_die);
            let Published::Accepted { more, refused, .. } = published else {
                continue;
            };
            for (index, place) in places.iter().enumerate() {
                taken[*place] |= refused.binary_search(&(index as u32)).is_err();
            }
            if more {
                crowded.push(queue.clone());
            }
        }
        Delivered { crowded, taken }
    }
}
