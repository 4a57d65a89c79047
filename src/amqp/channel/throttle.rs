//! What a channel publishes and gets is booked where rates are limited, and its connection waits for what is owed.

use std::sync::Arc;

use super::Channel;
use crate::amqp::session::Session;
use crate::broker::queue::Queue;
use crate::message::run::Run;
use crate::rate::Throttle;

impl Channel {
    /// Messages that were published count for whoever's they are.
    pub(super) fn spend<'m>(
        &mut self,
        throttle: &Arc<Throttle>,
        now_ms: u64,
        runs: impl Iterator<Item = Run<'m>>,
    ) {
        let (count, bytes) = runs.fold((0, 0), |(count, bytes), run| {
            (count + run.count(), bytes + run.body_bytes())
        });
        throttle.spend(now_ms, count as u64, bytes as u64);
        self.owes(throttle, now_ms);
    }

    /// A message that was got counts as a delivery. It was there, so it is given at once: the next request waits.
    pub(super) fn spend_got(&mut self, session: &Session, queue: &Queue) {
        let throttles = session.throttles.iter().map(|rates| &rates.consume);
        let throttles = throttles.filter(|throttle| throttle.is_on());
        let throttles: Vec<_> = throttles.chain(queue.consume_throttle()).collect();
        if throttles.is_empty() {
            return;
        }
        let now_ms = session.broker.services.now_ms();
        for throttle in throttles {
            throttle.spend(now_ms, 1, 0);
            self.owes(throttle, now_ms);
        }
    }

    fn owes(&mut self, throttle: &Arc<Throttle>, now_ms: u64) {
        let is_known = |known: &Arc<Throttle>| Arc::ptr_eq(known, throttle);
        if throttle.wait_ms(now_ms) > 0 && !self.owed.iter().any(is_known) {
            self.owed.push(throttle.clone());
        }
    }

    /// The rates that were exceeded since the last call: nothing more is to be read until they allow it.
    pub fn take_owed(&mut self) -> Vec<Arc<Throttle>> {
        std::mem::take(&mut self.owed)
    }

    /// Whether there are any.
    pub const fn owes_any(&self) -> bool {
        !self.owed.is_empty()
    }
}
