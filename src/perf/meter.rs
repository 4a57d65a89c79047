//! Counters and latencies, written by the threads that drive connections, read by the reporter.

use std::iter::Sum;
use std::ops::{Add, Sub};
use std::sync::atomic::{AtomicU64, Ordering};

use hdrhistogram::Histogram;
use parking_lot::Mutex;

/// Longest latency that is told apart: one hour. What is longer counts as one hour.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counters of one thread.
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $($(#[$doc])* pub(super) $name: AtomicU64,)*
        }

        /// The counters of all threads at one moment, or what they grew by.
        #[derive(Clone, Copy, Debug, Default)]
        pub(super) struct Counts {
            $($(#[$doc])* pub(super) $name: u64,)*
        }

        impl Counters {
            fn read(&self) -> Counts {
                Counts { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }

        impl Add for Counts {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self { $($name: self.$name + other.$name,)* }
            }
        }

        impl Sub for Counts {
            type Output = Self;
            fn sub(self, before: Self) -> Self {
                Self { $($name: self.$name.saturating_sub(before.$name),)* }
            }
        }
    };
}

counters! {
    published,
    published_bytes,
    confirmed,
    /// Refused by the broker with basic.nack.
    nacked,
    /// Sent back as unroutable.
    returned,
    consumed,
    consumed_bytes,
    /// Deliveries that carry a stamp of another run, or none.
    foreign,
    /// Times that the broker sent connection.blocked.
    blocked,
    /// Publishers that have nothing more to send and nothing to wait for.
    publishers_done,
    /// Consumers that have what they wanted.
    consumers_done,
    /// Consumers whose subscriptions have been confirmed.
    consumers_ready,
}

impl Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), Add::add)
    }
}

/// Adds to a counter that only one thread writes.
pub(super) fn count(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

/// What one thread measures.
#[derive(Debug)]
pub(super) struct Meter {
    pub(super) counters: Counters,
    /// From publishing to delivery, in nanoseconds.
    pub(super) delivery: Mutex<Histogram<u64>>,
    /// From publishing to the confirm, in nanoseconds.
    pub(super) confirm: Mutex<Histogram<u64>>,
}

impl Meter {
    pub(super) fn new() -> Self {
        Self {
            counters: Counters::default(),
            delivery: Mutex::new(histogram()),
            confirm: Mutex::new(histogram()),
        }
    }
}

/// The sum of all counters.
pub(super) fn read(meters: &[std::sync::Arc<Meter>]) -> Counts {
    meters.iter().map(|meter| meter.counters.read()).sum()
}

/// Latencies of several messages, collected without a lock and handed over at once. Messages with
/// the same latency next to each other, as those of one batch are, cost one entry.
#[derive(Debug, Default)]
pub(super) struct Latencies {
    runs: Vec<(u64, u64)>,
}

impl Latencies {
    pub(super) fn note(&mut self, latency_ns: u64, messages: u64) {
        match self.runs.last_mut() {
            Some((last_ns, count)) if *last_ns == latency_ns => *count += messages,
            _ => self.runs.push((latency_ns, messages)),
        }
    }

    pub(super) fn hand_over(&mut self, histogram: &Mutex<Histogram<u64>>) {
        if self.runs.is_empty() {
            return;
        }
        let mut histogram = histogram.lock();
        for (latency_ns, messages) in self.runs.drain(..) {
            histogram.saturating_record_n(latency_ns, messages);
        }
    }
}

/// An empty histogram of the kind that all of them are.
pub(super) fn histogram() -> Histogram<u64> {
    // The bounds are constants that the library accepts.
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, SIGNIFICANT_DIGITS).expect("valid bounds")
}

/// Moves what `from` holds to `to`, and leaves it empty.
pub(super) fn drain(from: &Mutex<Histogram<u64>>, to: &mut Histogram<u64>) {
    let mut from = from.lock();
    if !from.is_empty() {
        // Both have the same bounds, the only thing that could be wrong.
        to.add(&*from).expect("histograms of one kind");
        from.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_over_threads_and_differ_over_time() {
        let (a, b) = (Counters::default(), Counters::default());
        count(&a.published, 3);
        count(&b.published, 4);
        count(&b.consumed, 5);
        let sum: Counts = [a.read(), b.read()].into_iter().sum();
        assert_eq!((sum.published, sum.consumed), (7, 5));
        let grown = sum - a.read();
        assert_eq!((grown.published, grown.consumed), (4, 5));
    }

    #[test]
    fn latencies_are_handed_over_once() {
        let mut latencies = Latencies::default();
        for latency_ns in [1000, 1000, 2000, 1000, u64::MAX] {
            latencies.note(latency_ns, 2);
        }
        let meter = Meter::new();
        latencies.hand_over(&meter.delivery);
        latencies.hand_over(&meter.delivery);
        let mut total = histogram();
        drain(&meter.delivery, &mut total);
        drain(&meter.delivery, &mut total);
        assert_eq!((total.len(), total.count_at(1000)), (10, 6));
        assert!(total.max() >= LATENCY_NS_MAX);
    }
}
