//! Watches a run: starts its phases, ends it, and takes the figures.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::error::PerfError;
use super::interrupt::Interrupt;
use super::meter::{self, Counts, Meter, drain, histogram};
use super::report;
use super::settings::Settings;
use super::summary::{Cpu, Latency, Memory, Second, Summary};
use super::topology::Copies;
use super::usage::{self, Family, Usage};
use super::worker::{Phase, Shared};

const LOOK_INTERVAL: Duration = Duration::from_millis(10);
const SUBSCRIBE_PATIENCE: Duration = Duration::from_secs(60);
/// A last second shorter than this has no line of its own.
const SECOND_MIN: Duration = Duration::from_millis(200);
/// Silence after which a run of counted messages is over, when nobody knows how many must arrive.
const SILENCE: Duration = Duration::from_secs(1);

/// Watches one run.
pub(super) struct Monitor<'a> {
    settings: &'a Settings,
    meters: Vec<Arc<Meter>>,
    shared: Arc<Shared>,
    interrupt: Interrupt,
    broker: Option<Family>,
    started: Instant,
    second: Span,
    /// The measurement, once the warm-up is over.
    total: Option<Span>,
    resident_peak: u64,
    progress: Progress,
}

/// Figures from one moment on.
struct Span {
    since: Instant,
    counts: Counts,
    cpu: Duration,
    broker: Option<Usage>,
    delivery: Histogram<u64>,
    confirm: Histogram<u64>,
}

/// When a message was last seen to move.
struct Progress {
    at: Instant,
    counts: Counts,
}

impl<'a> Monitor<'a> {
    pub(super) fn new(
        settings: &'a Settings,
        meters: Vec<Arc<Meter>>,
        shared: Arc<Shared>,
        interrupt: Interrupt,
    ) -> Self {
        let now = Instant::now();
        Self {
            settings,
            meters,
            shared,
            interrupt,
            broker: None,
            started: now,
            second: Span::new(now, Counts::default(), None),
            total: None,
            resident_peak: 0,
            progress: Progress {
                at: now,
                counts: Counts::default(),
            },
        }
    }

    /// Takes the run from its first message to its last, and fills in the figures.
    pub(super) fn run(mut self, summary: &mut Summary) -> Result<(), PerfError> {
        self.broker = self.settings.broker_pid.map(Family::of).transpose()?;
        let before = self.broker()?;
        // Without publishers the subscription is the start: messages may be waiting.
        self.begin(before);
        self.wait_for_consumers()?;
        if self.settings.publishers > 0 {
            self.begin(before);
        }
        self.shared.enter(Phase::Publish);
        let end = self.watch(summary)?;
        self.close_second(end, summary)?;
        self.conclude(end, before, summary)?;
        if self.settings.check && !self.interrupt.wanted() {
            self.drain();
        }
        Ok(())
    }

    /// Takes this moment as the start.
    fn begin(&mut self, before: Option<Usage>) {
        let now = Instant::now();
        self.started = now;
        self.progress.at = now;
        self.second = Span::new(now, Counts::default(), before);
        if self.settings.timing.warm_up.is_zero() {
            self.total = Some(Span::new(now, Counts::default(), before));
        }
    }

    fn wait_for_consumers(&self) -> Result<(), PerfError> {
        let deadline = Instant::now() + SUBSCRIBE_PATIENCE;
        let ready = |monitor: &Self| {
            monitor.counts().consumers_ready as usize == monitor.settings.consumers
        };
        while !ready(self) && !self.shared.failed() && !self.interrupt.wanted() {
            if Instant::now() > deadline {
                let what = "the broker does not answer basic.consume".into();
                return Err(PerfError::Protocol {
                    role: "perf-consumer".into(),
                    what,
                });
            }
            thread::sleep(LOOK_INTERVAL);
        }
        Ok(())
    }

    /// Looks on until the run is over. Returns when it was over.
    fn watch(&mut self, summary: &mut Summary) -> Result<Instant, PerfError> {
        let warm_until = self.started + self.settings.timing.warm_up;
        let end = self
            .settings
            .timing
            .measure
            .map(|measure| warm_until + measure);
        loop {
            let now = Instant::now();
            self.look(now);
            if self.total.is_none() && now >= warm_until {
                self.absorb();
                self.total = Some(Span::new(now, self.counts(), self.broker()?));
            }
            if now.duration_since(self.second.since) >= Duration::from_secs(1) {
                self.close_second(now, summary)?;
            }
            if self.shared.failed() || self.interrupt.wanted() || end.is_some_and(|end| now >= end)
            {
                return Ok(now);
            }
            if self.through(now) {
                // The end was when the last message moved, not when the silence was noticed.
                return Ok(self.progress.at);
            }
            let next_second = self.second.since + Duration::from_secs(1);
            let next = [Some(next_second), end]
                .into_iter()
                .flatten()
                .min()
                .unwrap_or(next_second);
            thread::sleep(
                next.saturating_duration_since(Instant::now())
                    .min(LOOK_INTERVAL),
            );
        }
    }

    fn look(&mut self, now: Instant) {
        let counts = self.counts();
        let moved = |before: Counts| {
            counts.consumed != before.consumed
                || counts.published != before.published
                || counts.confirmed != before.confirmed
        };
        if moved(self.progress.counts) {
            self.progress = Progress { at: now, counts };
        }
    }

    /// Whether the counted messages, if they are counted, are all through.
    fn through(&self, now: Instant) -> bool {
        let settings = self.settings;
        let counts = self.progress.counts;
        let consumers_done = settings.consumers > 0
            && settings.consuming.messages.is_some()
            && counts.consumers_done as usize == settings.consumers;
        if consumers_done {
            return true;
        }
        let publishers_done = settings.publishers > 0
            && settings.publishing.messages.is_some()
            && self.counts().publishers_done as usize == settings.publishers;
        publishers_done && self.arrived(now)
    }

    /// Whether all that was published has arrived, or will not arrive any more.
    fn arrived(&self, now: Instant) -> bool {
        let counts = self.progress.counts;
        let silence = now.duration_since(self.progress.at);
        let accepted = counts
            .published
            .saturating_sub(counts.nacked + counts.returned);
        let expected = match self.settings.topology.copies() {
            _ if self.settings.consumers == 0 => return true,
            Copies::One => accepted,
            Copies::EachQueue => accepted * self.settings.topology.queues.len() as u64,
            Copies::Unknown => return silence >= SILENCE,
        };
        counts.consumed - counts.foreign >= expected || silence >= self.settings.timing.drain
    }

    /// Lets everything arrive that is on its way.
    fn drain(&mut self) {
        self.shared.enter(Phase::Drain);
        self.progress.at = Instant::now();
        loop {
            let now = Instant::now();
            self.look(now);
            let silent = now.duration_since(self.progress.at) >= self.settings.timing.drain;
            let done = self.counts().publishers_done as usize == self.settings.publishers;
            if silent
                || self.shared.failed()
                || self.interrupt.wanted()
                || done && self.arrived(now)
            {
                return;
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }

    fn counts(&self) -> Counts {
        meter::read(&self.meters)
    }

    fn broker(&self) -> Result<Option<Usage>, PerfError> {
        self.broker.as_ref().map(Family::usage).transpose()
    }

    /// Collects the latencies measured since the last time.
    fn absorb(&mut self) {
        for meter in &self.meters {
            let mut parts = [
                (&meter.delivery, histogram()),
                (&meter.confirm, histogram()),
            ];
            for (from, to) in &mut parts {
                drain(from, to);
            }
            let [(_, delivery), (_, confirm)] = parts;
            self.second.add(&delivery, &confirm);
            if let Some(total) = &mut self.total {
                total.add(&delivery, &confirm);
            }
        }
    }

    /// Closes the running second at `now`, shows it, and begins the next one.
    fn close_second(&mut self, now: Instant, summary: &mut Summary) -> Result<(), PerfError> {
        let length = now.saturating_duration_since(self.second.since);
        if length < SECOND_MIN {
            return Ok(());
        }
        self.absorb();
        let counts = self.counts();
        let broker = self.broker()?;
        self.resident_peak = self
            .resident_peak
            .max(broker.map_or(0, |broker| broker.resident));
        let second = std::mem::replace(&mut self.second, Span::new(now, counts, broker));
        let grown = counts - second.counts;
        let per_second = |count: u64| count as f64 / length.as_secs_f64();
        let second = Second {
            at: now.duration_since(self.started).as_secs_f64(),
            warm_up: self.total.is_none(),
            published_per_second: per_second(grown.published),
            confirmed_per_second: per_second(grown.confirmed),
            consumed_per_second: per_second(grown.consumed),
            nacked: grown.nacked,
            returned: grown.returned,
            blocked: grown.blocked,
            latency: Latency::new(&second.delivery),
            confirm_latency: Latency::new(&second.confirm),
            broker_resident: broker.map(|broker| broker.resident),
        };
        self.show(&second)?;
        summary.series.push(second);
        Ok(())
    }

    fn show(&self, second: &Second) -> Result<(), PerfError> {
        if self.settings.quiet {
            return Ok(());
        }
        let line = report::line(second);
        // The standard output belongs to the JSON when it goes there.
        if self.settings.json.as_deref() == Some(Path::new("-")) {
            writeln!(io::stderr(), "{line}")?;
        } else {
            writeln!(io::stdout().lock(), "{line}")?;
        }
        Ok(())
    }

    /// Fills in the figures of the measurement, which ended at `end`.
    fn conclude(
        &mut self,
        end: Instant,
        before: Option<Usage>,
        summary: &mut Summary,
    ) -> Result<(), PerfError> {
        self.absorb();
        let counts = self.counts();
        let broker = self.broker()?;
        let cpu = usage::own_cpu();
        // A run that ended within its warm-up has measured nothing but its last second.
        let total = self.total.as_ref().unwrap_or(&self.second);
        summary.count(
            counts - total.counts,
            end.saturating_duration_since(total.since).as_secs_f64(),
        );
        let messages = summary.messages();
        summary.latency = Latency::new(&total.delivery);
        summary.confirm_latency = Latency::new(&total.confirm);
        summary.perf_cpu = Cpu::new(cpu.saturating_sub(total.cpu).as_secs_f64(), messages);
        if let (Some(before), Some(then), Some(now)) = (before, total.broker, broker) {
            let seconds = now.cpu.saturating_sub(then.cpu).as_secs_f64();
            summary.broker_cpu = Some(Cpu::new(seconds, messages));
            let peak = self.resident_peak.max(now.resident);
            summary.broker_memory = Some(Memory {
                before: before.resident,
                after: now.resident,
                peak,
            });
        }
        Ok(())
    }
}

impl Span {
    fn new(since: Instant, counts: Counts, broker: Option<Usage>) -> Self {
        Self {
            since,
            counts,
            cpu: usage::own_cpu(),
            broker,
            delivery: histogram(),
            confirm: histogram(),
        }
    }

    fn add(&mut self, delivery: &Histogram<u64>, confirm: &Histogram<u64>) {
        for (to, from) in [(&mut self.delivery, delivery), (&mut self.confirm, confirm)] {
            // All histograms here have the same bounds, the only thing that could be wrong.
            to.add(from).expect("histograms of one kind");
        }
    }
}
