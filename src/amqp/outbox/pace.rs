//! How fast a connection may be given messages: the rates of its user and of its virtual host.
//!
//! A consumer that they hold up waits among those that found the outbox full. Who paces an outbox asks for them again
//! when [`Outbox::paced_ms`] says so.

use std::sync::Arc;

use super::Outbox;
use crate::clock::Clock;
use crate::rate::Throttle;

/// What the deliveries of a connection are held to.
pub struct Pace {
    /// Of its user and its virtual host.
    pub throttles: [Arc<Throttle>; 2],
    /// The time that the rates count by.
    pub clock: Arc<dyn Clock>,
}

impl Pace {
    fn is_on(&self) -> bool {
        self.throttles.iter().any(|throttle| throttle.is_on())
    }

    fn wait_ms(&self) -> u64 {
        let now_ms = self.clock.now_ms();
        let waits = self.throttles.iter();
        waits
            .map(|throttle| throttle.wait_ms(now_ms))
            .max()
            .unwrap_or(0)
    }
}

impl Outbox {
    /// Deliveries are held to a pace from now on.
    pub fn pace(&self, pace: Pace) {
        // Set once, by who opens the connection.
        let _ = self.pace.set(pace);
    }

    /// The pace, if it limits anything at the moment.
    fn current_pace(&self) -> Option<&Pace> {
        self.pace.get().filter(|pace| pace.is_on())
    }

    /// In how many ms the next delivery may go; 0 for now, and at most [`crate::rate::WAIT_MS_MAX`].
    pub(super) fn pace_ms(&self) -> u64 {
        self.current_pace().map_or(0, Pace::wait_ms)
    }

    /// In how many ms consumers go on that wait for the pace alone, if there are such. Those that wait for room too
    /// are looked at when there is some.
    pub fn paced_ms(&self) -> Option<u64> {
        if !self.has_stalled() || !self.is_half_empty() {
            return None;
        }
        self.current_pace().map(|pace| pace.wait_ms().max(1))
    }

    /// How many of `count` deliveries may go now.
    pub fn allowed(&self, count: usize) -> usize {
        let Some(pace) = self.current_pace() else {
            return count;
        };
        let now_ms = pace.clock.now_ms();
        pace.throttles.iter().fold(count, |count, throttle| {
            usize::try_from(throttle.available(now_ms)).map_or(count, |some| some.min(count))
        })
    }

    /// Books deliveries.
    pub fn spend(&self, count: usize) {
        if let Some(pace) = self.current_pace() {
            let now_ms = pace.clock.now_ms();
            for throttle in &pace.throttles {
                throttle.spend(now_ms, count as u64, 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use amq_protocol::types::FieldTable;

    use super::super::{OUTBOX_SOFT_BYTES_MAX, Stalled};
    use super::*;
    use crate::broker::delivery::ConsumerId;
    use crate::broker::testing::TestBroker;
    use crate::broker::vhost::QueueDeclare;
    use crate::rate::{RateLimits, Rates};

    /// A clock that is put forward by hand.
    #[derive(Debug)]
    struct Hand(AtomicU64);

    impl Clock for Hand {
        fn now_ms(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }
    }

    struct World {
        outbox: Arc<Outbox>,
        clock: Arc<Hand>,
        broker: TestBroker,
    }

    impl World {
        /// An outbox that is given as many messages per second.
        fn new(max_consume_rate: u64) -> Self {
            let (clock, rates) = (Arc::new(Hand(AtomicU64::new(0))), Rates::default());
            rates.set(&RateLimits {
                max_consume_rate: Some(max_consume_rate),
                ..RateLimits::default()
            });
            let outbox = Outbox::new(4096);
            outbox.pace(Pace {
                throttles: [rates.consume, Arc::default()],
                clock: clock.clone(),
            });
            Self {
                outbox,
                clock,
                broker: TestBroker::new(),
            }
        }

        fn pass(&self, ms: u64) {
            self.clock.0.fetch_add(ms, Ordering::Relaxed);
        }

        /// Something takes room that no rate holds up.
        fn fill(&self, bytes: usize) {
            let mut outbox = self.outbox.lock();
            let filled = outbox.buffer.bytes_mut().len() + bytes;
            outbox.buffer.bytes_mut().resize(filled, 0);
        }

        /// A consumer finds no room. `false`: there is some.
        fn stall(&self) -> bool {
            let broker = &self.broker.broker;
            let vhost = broker.vhost("/").expect("it is there");
            let declare = QueueDeclare {
                name: "q".into(),
                server_named: false,
                durable: false,
                exclusive: false,
                auto_delete: false,
                arguments: FieldTable::default(),
                connection: 1,
            };
            let declared = vhost.declare_queue(&broker.services.visit(), declare);
            self.outbox.stall(Stalled {
                queue: declared.expect("it may be declared").queue,
                consumer: ConsumerId::NONE,
            })
        }

        fn go_on(&self) -> usize {
            self.outbox.take_stalled().len()
        }
    }

    #[test]
    fn who_waits_for_the_pace_alone_goes_on_in_its_time() {
        let world = World::new(10);
        assert!(!world.stall(), "there is a second's worth");
        world.outbox.spend(10);
        assert!(world.stall());
        assert_eq!((world.go_on(), world.outbox.paced_ms()), (0, Some(100)));
        world.pass(100);
        assert_eq!((world.go_on(), world.outbox.paced_ms()), (1, None));
    }

    #[test]
    fn who_waits_for_room_and_for_the_pace_goes_on_when_there_are_both_whichever_comes_first() {
        let half = OUTBOX_SOFT_BYTES_MAX / 2;
        // The room comes first.
        let world = World::new(10);
        world.fill(OUTBOX_SOFT_BYTES_MAX);
        world.outbox.spend(10);
        assert!(world.stall());
        assert_eq!(world.outbox.paced_ms(), None, "time alone brings nothing");
        assert!(!world.outbox.written(half - 1));
        assert!(world.outbox.written(1));
        assert_eq!((world.go_on(), world.outbox.paced_ms()), (0, Some(100)));
        world.pass(100);
        assert_eq!(world.go_on(), 1);
        // The time comes first.
        world.fill(half);
        world.outbox.spend(1);
        assert!(world.stall());
        world.pass(100);
        assert_eq!((world.go_on(), world.outbox.paced_ms()), (0, None));
        assert!(world.outbox.written(half));
        assert_eq!(world.go_on(), 1);
    }
}
