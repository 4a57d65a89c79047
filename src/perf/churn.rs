//! Bindings that come and go while the load runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::client::Client;
use super::error::PerfError;
use super::settings::Settings;

/// Pairs of bind and unbind between two looks at the clock.
const PAIRS_PER_STEP_MAX: f64 = 100.0;
const STEP_MIN: Duration = Duration::from_millis(10);

/// A thread that makes and removes bindings at a rate.
pub(super) struct Churn {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<f64, PerfError>>,
}

impl Churn {
    /// Starts it, if the settings ask for it.
    pub(super) fn start(settings: &Settings) -> Result<Option<Self>, PerfError> {
        let Some(rate) = settings.topology.churn else {
            return Ok(None);
        };
        let mut client = Client::open(&settings.target.without_heartbeat(), "perf-churn")?;
        let topology = settings.topology.clone();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let step = Duration::from_secs_f64((PAIRS_PER_STEP_MAX / rate).min(1.0)).max(STEP_MIN);
        let pairs_per_step = (rate * step.as_secs_f64()).ceil() as u64;
        let run = move || {
            let (started, mut pairs) = (Instant::now(), 0);
            while !stopped.load(Ordering::Relaxed) {
                let numbers = pairs..pairs + pairs_per_step;
                client.call_all(
                    numbers
                        .filter_map(|number| topology.churn_pair(number))
                        .flatten(),
                )?;
                pairs += pairs_per_step;
                let due = Duration::from_secs_f64(pairs as f64 / rate);
                thread::sleep(
                    due.saturating_sub(started.elapsed())
                        .min(Duration::from_secs(1)),
                );
            }
            let reached = pairs as f64 / started.elapsed().as_secs_f64();
            client.close();
            Ok(reached)
        };
        let thread = thread::Builder::new()
            .name("perf-churn".into())
            .spawn(run)?;
        Ok(Some(Self { stop, thread }))
    }

    /// Ends it. Returns the pairs per second that it reached.
    pub(super) fn stop(self) -> Result<f64, PerfError> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}
