//! How fast a queue takes and gives messages: where its rates are kept.

use std::sync::Arc;

use super::Queue;
use super::state::State;
use crate::rate::{RateLimits, Rates, Throttle};

impl Queue {
    /// What those who publish to it have to wait for, if there is a limit.
    pub fn publish_throttle(&self) -> Option<&Arc<Throttle>> {
        let throttle = &self.rates()?.publish;
        throttle.is_on().then_some(throttle)
    }

    /// What those who take from it have to wait for, if there is a limit.
    pub fn consume_throttle(&self) -> Option<&Arc<Throttle>> {
        let throttle = &self.rates()?.consume;
        throttle.is_on().then_some(throttle)
    }

    fn rates(&self) -> Option<&Rates> {
        self.extras.get()?.rates.get()
    }

    /// Nobody waits any longer for a queue that goes.
    pub(super) fn lift_rates(&self) {
        if let Some(rates) = self.rates() {
            rates.set(&RateLimits::default());
        }
    }

    /// These limits hold from now on.
    pub(super) fn obey_rates(&self, state: &mut State, limits: &RateLimits) {
        if *limits == RateLimits::default() && self.rates().is_none() {
            return;
        }
        let extras = self.extras.get_or_init(Box::default);
        let rates = extras.rates.get_or_init(Rates::default);
        rates.set(limits);
        state.throttle = limits.max_consume_rate.map(|_| rates.consume.clone());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::consumers::ConsumerSpec;
    use super::super::state::Effects;
    use super::super::{Settings, VISIT_MESSAGES_MAX};
    use super::*;
    use crate::broker::delivery::{Cancellation, Delivery, DeliverySink};
    use crate::broker::testing::message;
    use crate::message::run::Run;
    use crate::rate::WAIT_MS_MAX;

    /// Takes up to so many at once.
    struct Taker(AtomicUsize);

    impl DeliverySink for Taker {
        fn room_bytes(&self) -> usize {
            usize::MAX
        }

        fn deliver(&self, deliveries: &[Delivery<'_>]) -> usize {
            deliveries.len().min(self.0.load(Ordering::Relaxed))
        }

        fn stall(&self) -> bool {
            true
        }

        fn wake(&self) {}

        fn cancelled(&self, _: Cancellation) {}
    }

    struct World {
        state: State,
        rates: Rates,
        taker: Arc<Taker>,
    }

    impl World {
        /// A queue with messages and a consumer that has no limits of its own.
        fn new(messages: usize, per_second: u64) -> Self {
            let mut state = State::new(Arc::new(Settings::default()));
            for _ in 0..messages {
                state.append_run(0, Run::single(&message("", "q")), 1);
            }
            let taker = Arc::new(Taker(AtomicUsize::new(usize::MAX)));
            let id = state.consumers.add(ConsumerSpec {
                sink: taker.clone(),
                no_ack: true,
                exclusive: false,
                priority: 0,
                prefetch: 0,
                timeout_ms: None,
            });
            state.consumers.activate(id);
            let rates = Rates::default();
            state.throttle = Some(rates.consume.clone());
            let world = Self {
                state,
                rates,
                taker,
            };
            world.limit(Some(per_second));
            world
        }

        fn limit(&self, max_consume_rate: Option<u64>) {
            self.rates.set(&RateLimits {
                max_consume_rate,
                ..RateLimits::default()
            });
        }

        /// How many messages go at this time, whether more can go now, and otherwise in how many ms.
        fn dispatch(&mut self, now_ms: u64) -> (u64, bool, Option<u64>) {
            let before = self.state.ready();
            let mut effects = Effects::default();
            self.state.dispatch(now_ms, &mut effects);
            let went = before - self.state.ready();
            (went, effects.more, effects.throttled_ms)
        }
    }

    #[test]
    fn as_many_go_as_the_rate_allows_and_the_queue_says_when_to_go_on() {
        let mut world = World::new(23, 10);
        assert_eq!(world.dispatch(1_000), (10, false, Some(100)));
        assert_eq!(world.dispatch(1_099), (0, false, Some(1)));
        assert_eq!(world.dispatch(1_100), (1, false, Some(100)));
        assert_eq!(world.dispatch(9_000), (10, false, Some(100)));
        assert_eq!(world.dispatch(9_100), (1, false, Some(100)));
        // The last one: nobody waits any more.
        assert_eq!(world.dispatch(9_200), (1, false, None));
        assert_eq!(world.dispatch(9_201), (0, false, None));
    }

    #[test]
    fn a_visit_does_no_more_than_its_share_at_any_rate() {
        let share = VISIT_MESSAGES_MAX as u64;
        let mut world = World::new(3 * VISIT_MESSAGES_MAX, share + 5);
        assert_eq!(world.dispatch(0), (share, true, None));
        assert_eq!(world.dispatch(0), (5, false, Some(4)));
    }

    #[test]
    fn what_an_outbox_refuses_has_not_passed() {
        let mut world = World::new(20, 10);
        world.taker.0.store(4, Ordering::Relaxed);
        assert_eq!(world.dispatch(0).0, 4);
        assert_eq!(world.rates.consume.available(0), 6);
    }

    #[test]
    fn another_rate_holds_at_once() {
        let mut world = World::new(20, 0);
        assert_eq!(world.dispatch(0), (0, false, Some(WAIT_MS_MAX)));
        world.limit(Some(3));
        assert_eq!(world.dispatch(0), (3, false, Some(334)));
        world.limit(None);
        assert_eq!(world.dispatch(0), (17, false, None));
    }
}
