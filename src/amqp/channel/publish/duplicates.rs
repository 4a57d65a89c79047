//! Duplicates in a batch: found before the queues see the messages, remembered after they have answered.

use std::sync::Arc;

use super::gathered::Routed;
use crate::broker::deduplication::Deduplication;
use crate::broker::deduplication::batch::{Batch, Finding};
use crate::broker::vhost::Route;
use crate::store::Visit;

/// The memories that a batch goes through, locked until [`Self::finish`].
pub(super) struct Duplicates<'m> {
    batch: Batch<'m>,
    /// Places of messages that are the same as an earlier one of the batch, and the place of that one.
    repeats: Vec<(usize, usize)>,
}

impl<'m> Duplicates<'m> {
    /// Gives duplicates a route that leads nowhere. Where an exchange remembers, each message is one of `routed` alone.
    pub(super) fn set_aside(
        memories: &'m [Arc<Deduplication>],
        routes: &mut Vec<Arc<Route>>,
        routed: &mut [Routed<'_>],
        now_ms: u64,
    ) -> Self {
        let mut this = Self {
            batch: Batch::lock(memories.iter()),
            repeats: Vec::new(),
        };
        let nowhere = routes.len();
        routes.push(Arc::new(Route::of_duplicate()));
        for (place, routed) in routed.iter_mut().enumerate() {
            let route = &routes[routed.route];
            // What reaches nobody is not remembered: it may be routable when it is repeated.
            let Some(memory) = route.deduplication.as_ref().filter(|_| !route.is_empty()) else {
                continue;
            };
            match this
                .batch
                .look(memory, place, routed.message.properties, now_ms)
            {
                Finding::New => continue,
                Finding::Duplicate => {}
                Finding::Repeats(earlier) => this.repeats.push((place, earlier)),
            }
            routed.route = nowhere;
        }
        this
    }

    /// The queues have taken the messages, but for those at the places in `refused`: repetitions of these are refused
    /// too, the others are remembered.
    pub(super) fn finish(
        self,
        visit: &Visit<'_>,
        routes: &[Arc<Route>],
        routed: &[Routed<'_>],
        refused: &mut Vec<u32>,
    ) {
        for (place, earlier) in self.repeats {
            if refused.contains(&routed[earlier].place) {
                refused.push(routed[place].place);
            }
        }
        let is_durable = |place: usize| {
            let Routed { message, route, .. } = &routed[place];
            let route = &routes[*route];
            let is_stored =
                route.is_delayed() || route.queues.iter().any(|queue| queue.spec.durable);
            message.persistent && is_stored
        };
        let is_accepted = |place: usize| !refused.contains(&routed[place].place);
        self.batch.remember(visit, is_accepted, is_durable);
    }
}
