//! How fast something may go: token buckets, and the limits that users, virtual hosts and queues have.
//!
//! A bucket holds what may pass in one second and fills at its rate. What comes is never refused and never cut: it is
//! taken as a whole, into debt if need be, and whoever brought it waits until the debt is paid. So the rate holds on
//! average whatever the size of what comes at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// Whoever waits asks again after this time at the latest, so that another limit holds soon.
pub const WAIT_MS_MAX: u64 = 1_000;

/// A token in the units in which buckets count: what a rate of one per second brings in a second, in ms.
const TOKEN: i128 = 1_000;

/// Rates per second; `None` for no limit, and with 0 nothing passes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RateLimits {
    /// Messages that are published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_publish_rate: Option<u64>,
    /// Bytes of their bodies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_publish_bytes_rate: Option<u64>,
    /// Messages that are delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_consume_rate: Option<u64>,
}

/// A token bucket: pure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    per_second: u64,
    /// Thousandths of a token; negative while there is a debt.
    level: i128,
    filled_ms: u64,
}

impl Bucket {
    /// A full one.
    pub const fn new(per_second: u64) -> Self {
        Self {
            per_second,
            level: per_second as i128 * TOKEN,
            filled_ms: 0,
        }
    }

    /// Its rate.
    pub const fn per_second(&self) -> u64 {
        self.per_second
    }

    /// Takes tokens, more than there are if need be.
    pub fn take(&mut self, now_ms: u64, count: u64) {
        self.fill(now_ms);
        self.level -= i128::from(count) * TOKEN;
    }

    /// How many tokens there are.
    pub fn available(&mut self, now_ms: u64) -> u64 {
        self.fill(now_ms);
        u64::try_from(self.level / TOKEN).unwrap_or(0)
    }

    /// In how many ms there will be a token; at most [`WAIT_MS_MAX`].
    pub fn wait_ms(&mut self, now_ms: u64) -> u64 {
        self.fill(now_ms);
        let missing = TOKEN - self.level;
        if missing <= 0 {
            return 0;
        }
        let rate = i128::from(self.per_second);
        let wait_ms = missing.saturating_add(rate - 1).checked_div(rate);
        wait_ms.map_or(WAIT_MS_MAX, |wait_ms| {
            u64::try_from(wait_ms).map_or(WAIT_MS_MAX, |wait_ms| wait_ms.min(WAIT_MS_MAX))
        })
    }

    /// A clock that was put back costs the time until then, and no more.
    fn fill(&mut self, now_ms: u64) {
        let rate = i128::from(self.per_second);
        let came = rate * i128::from(now_ms.saturating_sub(self.filled_ms));
        self.level = (self.level + came).min(rate * TOKEN);
        self.filled_ms = now_ms;
    }
}

/// Messages and bytes on one way, held to their limits by all who go there.
#[derive(Debug, Default)]
pub struct Throttle {
    /// Mirrors whether there is any limit, for those who do not take the lock.
    is_on: AtomicBool,
    buckets: Mutex<Buckets>,
}

#[derive(Debug, Default)]
struct Buckets {
    messages: Option<Bucket>,
    bytes: Option<Bucket>,
}

impl Throttle {
    /// Whether there is any limit.
    pub fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// Books messages that pass, with the bytes of their bodies.
    pub fn spend(&self, now_ms: u64, count: u64, bytes: u64) {
        let mut buckets = self.buckets.lock();
        for (bucket, taken) in buckets.with(count, bytes) {
            bucket.take(now_ms, taken);
        }
    }

    /// How many messages may pass without debt.
    pub fn available(&self, now_ms: u64) -> u64 {
        let mut buckets = self.buckets.lock();
        let all = buckets.with(0, 0);
        all.map(|(bucket, _)| bucket.available(now_ms))
            .min()
            .unwrap_or(u64::MAX)
    }

    /// How long to wait before the next one, ms; at most [`WAIT_MS_MAX`], and then ask again.
    pub fn wait_ms(&self, now_ms: u64) -> u64 {
        let mut buckets = self.buckets.lock();
        let all = buckets.with(0, 0);
        all.map(|(bucket, _)| bucket.wait_ms(now_ms))
            .max()
            .unwrap_or(0)
    }

    fn set(&self, messages: Option<u64>, bytes: Option<u64>) {
        let mut buckets = self.buckets.lock();
        change(&mut buckets.messages, messages);
        change(&mut buckets.bytes, bytes);
        let is_on = messages.is_some() || bytes.is_some();
        self.is_on.store(is_on, Ordering::Relaxed);
    }
}

impl Buckets {
    fn with(&mut self, count: u64, bytes: u64) -> impl Iterator<Item = (&mut Bucket, u64)> {
        let pairs = [(&mut self.messages, count), (&mut self.bytes, bytes)];
        pairs
            .into_iter()
            .filter_map(|(bucket, taken)| Some((bucket.as_mut()?, taken)))
    }
}

/// Another limit begins with a full bucket; what was spent or owed is forgotten.
fn change(bucket: &mut Option<Bucket>, per_second: Option<u64>) {
    if bucket.as_ref().map(|bucket| bucket.per_second) != per_second {
        *bucket = per_second.map(Bucket::new);
    }
}

/// Both ways of a user, a virtual host or a queue. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Rates {
    /// Messages in.
    pub publish: Arc<Throttle>,
    /// Messages out.
    pub consume: Arc<Throttle>,
}

impl Rates {
    /// These limits hold from now on, also for those who wait.
    pub fn set(&self, limits: &RateLimits) {
        self.publish
            .set(limits.max_publish_rate, limits.max_publish_bytes_rate);
        self.consume.set(limits.max_consume_rate, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_may_pass_at_once_and_then_as_much_as_comes() {
        let mut bucket = Bucket::new(10);
        assert_eq!(bucket.available(1_000), 10);
        bucket.take(1_000, 10);
        assert_eq!((bucket.available(1_000), bucket.wait_ms(1_000)), (0, 100));
        assert_eq!((bucket.available(1_099), bucket.wait_ms(1_099)), (0, 1));
        assert_eq!((bucket.available(1_100), bucket.wait_ms(1_100)), (1, 0));
        assert_eq!(bucket.available(1_750), 7);
        assert_eq!(bucket.available(60_000), 10, "no more than a second's");
    }

    #[test]
    fn what_comes_at_once_is_taken_whole_and_paid_for_later() {
        let mut bucket = Bucket::new(100);
        bucket.take(0, 250);
        assert_eq!(bucket.available(0), 0);
        assert_eq!(bucket.wait_ms(0), 1_000, "asked again before all is paid");
        assert_eq!(bucket.wait_ms(1_000), 510);
        assert_eq!(bucket.wait_ms(1_509), 1);
        assert_eq!(bucket.wait_ms(1_510), 0);
    }

    #[test]
    fn with_a_rate_of_zero_nothing_passes() {
        let mut bucket = Bucket::new(0);
        assert_eq!((bucket.available(0), bucket.wait_ms(0)), (0, WAIT_MS_MAX));
        assert_eq!(bucket.wait_ms(u64::MAX), WAIT_MS_MAX);
    }

    #[test]
    fn the_largest_numbers_and_a_clock_that_is_put_back_do_no_harm() {
        let mut bucket = Bucket::new(u64::MAX);
        for now_ms in [0, u64::MAX, 4_000] {
            bucket.take(now_ms, u64::MAX);
            bucket.take(now_ms, u64::MAX);
            assert!(bucket.wait_ms(now_ms) <= WAIT_MS_MAX);
        }
        let mut bucket = Bucket::new(10);
        bucket.take(5_000, 10);
        assert_eq!(bucket.wait_ms(4_000), 100);
        assert_eq!(bucket.available(4_100), 1);
    }

    /// Whatever comes and whenever: what passed is at most a second's worth, what the time brought, and the last one.
    #[test]
    fn the_rate_holds_on_average_for_whoever_waits() {
        let mut random = 88_172_645_463_325_252_u64;
        let mut next = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        for rate in [1, 7, 100, 12_345] {
            let mut bucket = Bucket::new(rate);
            let (mut now_ms, mut passed) = (0, 0);
            for _ in 0..2_000 {
                let count = 1 + next(2 * rate);
                bucket.take(now_ms, count);
                let brought = rate + rate * now_ms / 1_000;
                assert!(passed <= brought, "{passed} of {brought} at {now_ms} ms");
                passed += count;
                now_ms += next(30);
                while bucket.wait_ms(now_ms) > 0 {
                    now_ms += bucket.wait_ms(now_ms);
                }
            }
            let brought = rate * now_ms / 1_000;
            assert!(passed + 3 * rate > brought / 2, "nobody waits for too long");
        }
    }

    #[test]
    fn another_limit_holds_at_once_and_forgets_the_debt() {
        let rates = Rates::default();
        let limit = |rate| RateLimits {
            max_publish_rate: rate,
            ..RateLimits::default()
        };
        assert!(!rates.publish.is_on());
        assert_eq!(rates.publish.available(0), u64::MAX);
        rates.set(&limit(Some(5)));
        rates.publish.spend(0, 50, 0);
        rates.set(&limit(Some(5)));
        assert_eq!(
            rates.publish.wait_ms(0),
            WAIT_MS_MAX,
            "the same one does not"
        );
        rates.set(&limit(Some(6)));
        assert_eq!(rates.publish.available(0), 6);
        rates.publish.spend(0, 50, 0);
        rates.set(&limit(None));
        assert_eq!(rates.publish.wait_ms(0), 0);
        assert!(!rates.publish.is_on() && !rates.consume.is_on());
    }

    #[test]
    fn of_messages_and_bytes_the_scarcer_ones_count() {
        let rates = Rates::default();
        let limits = RateLimits {
            max_publish_rate: Some(1_000),
            max_publish_bytes_rate: Some(500),
            max_consume_rate: Some(2),
        };
        rates.set(&limits);
        rates.publish.spend(0, 1, 600);
        assert_eq!(rates.publish.wait_ms(0), 202);
        rates.publish.spend(0, 1_999, 0);
        assert_eq!(rates.publish.wait_ms(0), WAIT_MS_MAX);
        assert_eq!(rates.consume.available(0), 2);
    }
}
