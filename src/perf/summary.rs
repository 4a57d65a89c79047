//! The result of a run, as it is written to JSON.

use hdrhistogram::Histogram;
use serde::Serialize;

use super::check::Verdict;
use super::meter::Counts;

/// All that a run found out.
#[derive(Debug, Default, Serialize)]
pub(super) struct Summary {
    pub(super) scenario: Option<String>,
    /// The command's arguments as typed.
    pub(super) arguments: Vec<String>,
    /// Product and version as the broker names itself.
    pub(super) broker: String,
    pub(super) warm_up_seconds: f64,
    pub(super) seconds: f64,
    pub(super) published: u64,
    pub(super) confirmed: u64,
    pub(super) nacked: u64,
    pub(super) returned: u64,
    pub(super) consumed: u64,
    /// Deliveries whose stamp is missing or of another run: not timed, not checked.
    pub(super) foreign: u64,
    /// Times that the broker asked publishers for silence.
    pub(super) blocked: u64,
    pub(super) published_per_second: f64,
    pub(super) confirmed_per_second: f64,
    pub(super) consumed_per_second: f64,
    pub(super) published_mib_per_second: f64,
    pub(super) consumed_mib_per_second: f64,
    /// From publishing to delivery.
    pub(super) latency: Option<Latency>,
    /// From publishing to the confirm.
    pub(super) confirm_latency: Option<Latency>,
    pub(super) perf_cpu: Cpu,
    pub(super) broker_cpu: Option<Cpu>,
    pub(super) broker_memory: Option<Memory>,
    pub(super) idle: Option<Idle>,
    /// Bindings made and removed beside the load, per second.
    pub(super) churned_per_second: Option<f64>,
    pub(super) check: Option<Verdict>,
    pub(super) errors: Vec<String>,
    pub(super) series: Vec<Second>,
}

/// A distribution of latencies, in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Latency {
    pub(super) count: u64,
    pub(super) min: f64,
    pub(super) mean: f64,
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    pub(super) p99_9: f64,
    pub(super) p99_99: f64,
    pub(super) max: f64,
}

/// CPU time over the measurement.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Cpu {
    pub(super) seconds: f64,
    /// Per message delivered, or per message published when nothing is consumed.
    pub(super) us_per_message: Option<f64>,
}

/// Resident memory of the broker, in bytes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Memory {
    pub(super) before: u64,
    pub(super) after: u64,
    pub(super) peak: u64,
}

/// Connections that do nothing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Idle {
    pub(super) connections: usize,
    pub(super) open_seconds: f64,
    /// What each added to the broker's resident memory.
    pub(super) broker_bytes_each: Option<i64>,
}

/// One second of a run, or what there was of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Second {
    /// Seconds since the start at the end of this one, the warm-up included.
    pub(super) at: f64,
    pub(super) warm_up: bool,
    pub(super) published_per_second: f64,
    pub(super) confirmed_per_second: f64,
    pub(super) consumed_per_second: f64,
    pub(super) nacked: u64,
    pub(super) returned: u64,
    pub(super) blocked: u64,
    pub(super) latency: Option<Latency>,
    pub(super) confirm_latency: Option<Latency>,
    pub(super) broker_resident: Option<u64>,
}

impl Summary {
    /// Notes what was counted within `seconds`.
    pub(super) fn count(&mut self, counts: Counts, seconds: f64) {
        let per_second = |count: u64| {
            if seconds > 0.0 {
                count as f64 / seconds
            } else {
                0.0
            }
        };
        let mib = |bytes: u64| per_second(bytes) / f64::from(1 << 20);
        self.seconds = seconds;
        self.published = counts.published;
        self.confirmed = counts.confirmed;
        self.nacked = counts.nacked;
        self.returned = counts.returned;
        self.consumed = counts.consumed;
        self.foreign = counts.foreign;
        self.blocked = counts.blocked;
        self.published_per_second = per_second(counts.published);
        self.confirmed_per_second = per_second(counts.confirmed);
        self.consumed_per_second = per_second(counts.consumed);
        self.published_mib_per_second = mib(counts.published_bytes);
        self.consumed_mib_per_second = mib(counts.consumed_bytes);
    }

    /// The messages that CPU time is divided by.
    pub(super) fn messages(&self) -> u64 {
        if self.consumed > 0 {
            self.consumed
        } else {
            self.published
        }
    }

    /// Whether the run did what it should, as far as was asked.
    pub(super) fn passed(&self) -> bool {
        self.check.as_ref().is_none_or(Verdict::passed)
    }
}

impl Cpu {
    pub(super) fn new(seconds: f64, messages: u64) -> Self {
        let us_per_message = (messages > 0).then(|| seconds * 1e6 / messages as f64);
        Self {
            seconds,
            us_per_message,
        }
    }
}

impl Latency {
    /// The distribution in `histogram`, which counts nanoseconds; `None` when it is empty.
    pub(super) fn new(histogram: &Histogram<u64>) -> Option<Self> {
        if histogram.is_empty() {
            return None;
        }
        let us = |ns: u64| ns as f64 / 1e3;
        let at = |percentile| us(histogram.value_at_percentile(percentile));
        Some(Self {
            count: histogram.len(),
            min: us(histogram.min()),
            mean: histogram.mean() / 1e3,
            p50: at(50.0),
            p90: at(90.0),
            p99: at(99.0),
            p99_9: at(99.9),
            p99_99: at(99.99),
            max: us(histogram.max()),
        })
    }
}
