//! A rate as a timetable: message n is due at start + n / rate.
//!
//! Who falls behind catches up, but only a little: what was missed longer ago than the burst is
//! not made up for, so that a stall is not followed by a flood. Time is a parameter.

/// Most of the timetable, in time, that is caught up on.
const BURST_NS: f64 = 100e6;
/// Shortest sleep worth its price. Faster rates send several messages at once.
const QUANTUM_NS: u64 = 100_000;

/// Spreads messages evenly over time.
#[derive(Clone, Debug)]
pub(super) struct Limiter {
    interval_ns: f64,
    /// When the next message is due, in nanoseconds of the run.
    next_ns: f64,
}

impl Limiter {
    /// `rate` messages per second, the first at `start_ns`.
    pub(super) fn new(rate: f64, start_ns: u64) -> Self {
        Self {
            interval_ns: 1e9 / rate,
            next_ns: start_ns as f64,
        }
    }

    /// Messages that are due at `now_ns`.
    pub(super) fn due(&mut self, now_ns: u64) -> u64 {
        let late = now_ns as f64 - self.next_ns;
        if late < 0.0 {
            return 0;
        }
        let burst = BURST_NS.max(self.interval_ns);
        if late > burst {
            self.next_ns = now_ns as f64 - burst;
        }
        ((now_ns as f64 - self.next_ns) / self.interval_ns) as u64 + 1
    }

    /// Takes `messages` off the timetable.
    pub(super) fn take(&mut self, messages: u64) {
        self.next_ns += self.interval_ns * messages as f64;
    }

    /// When it makes sense to ask again.
    pub(super) fn wake_ns(&self, now_ns: u64) -> u64 {
        let next_ns = self.next_ns.ceil() as u64;
        if self.interval_ns < QUANTUM_NS as f64 {
            next_ns.max(now_ns + QUANTUM_NS)
        } else {
            next_ns
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages sent from 0 to `until_ns` by one who asks whenever the limiter says so.
    fn run(limiter: &mut Limiter, until_ns: u64) -> u64 {
        let (mut now_ns, mut sent) = (0, 0);
        while now_ns < until_ns {
            let due = limiter.due(now_ns);
            limiter.take(due);
            sent += due;
            let wake_ns = limiter.wake_ns(now_ns);
            assert!(
                wake_ns > now_ns || limiter.due(now_ns) > 0,
                "asks in vain at {now_ns}"
            );
            now_ns = wake_ns;
        }
        sent
    }

    #[test]
    fn a_second_holds_as_many_messages_as_the_rate_says() {
        for rate in [1.0, 3.0, 1000.0, 5000.0, 33_333.0, 1e6, 7.7e6] {
            let sent = run(&mut Limiter::new(rate, 0), 10_000_000_000) as f64;
            assert!(
                (sent - 10.0 * rate).abs() <= 1.0 + rate * 2e-4,
                "{rate}: {sent}"
            );
        }
    }

    #[test]
    fn slow_rates_send_one_message_at_a_time() {
        let mut limiter = Limiter::new(1000.0, 500);
        assert_eq!((limiter.due(499), limiter.wake_ns(499)), (0, 500));
        assert_eq!(limiter.due(500), 1);
        limiter.take(1);
        assert_eq!((limiter.due(501), limiter.wake_ns(501)), (0, 1_000_500));
    }

    #[test]
    fn a_long_stall_is_not_made_up_for() {
        let mut limiter = Limiter::new(1000.0, 0);
        limiter.take(1);
        let due = limiter.due(60_000_000_000);
        assert!((100..=101).contains(&due), "{due}");
    }

    #[test]
    fn a_message_in_two_seconds_comes_alone_after_a_stall() {
        let mut limiter = Limiter::new(0.5, 0);
        limiter.take(1);
        assert!(limiter.due(60_000_000_000) <= 2);
    }
}
