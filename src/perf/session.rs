//! One run from the first connection to the last.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::check::Verdict;
use super::churn::Churn;
use super::client::{self, Client};
use super::error::PerfError;
use super::interrupt::Interrupt;
use super::link::Remains;
use super::meter::Meter;
use super::monitor::Monitor;
use super::open;
use super::settings::Settings;
use super::stamp::Clock;
use super::summary::{Idle, Summary};
use super::usage;
use super::worker::{Phase, Shared, Worker};

/// Time for the connections to close in: a broker may have much to read before it sees the close.
const CLOSE_PATIENCE: Duration = Duration::from_secs(30);
/// Time for a broker's memory to settle before it is read.
const SETTLE: Duration = Duration::from_secs(1);

/// Runs the load that `settings` describe. Errors of single connections while it runs are in the
/// summary; an error before that ends it.
pub(super) fn run(settings: &Settings) -> Result<Summary, PerfError> {
    open::raise_file_limit();
    let mut control = Client::open(&settings.target.without_heartbeat(), "perf-control")?;
    let mut summary = Summary {
        scenario: settings.scenario.clone(),
        arguments: std::env::args().skip(1).collect(),
        broker: control.product().to_owned(),
        warm_up_seconds: settings.timing.warm_up.as_secs_f64(),
        ..Summary::default()
    };
    settings.topology.declare(&mut control)?;
    let idle = open_idle(settings, &mut summary)?;
    if settings.publishers + settings.consumers > 0 {
        let loaded = load(settings, &mut summary);
        if let Err(error) = loaded {
            summary.errors.push(error.to_string());
        }
    }
    client::close_all(
        idle.into_iter().map(Client::into_rest).collect(),
        CLOSE_PATIENCE,
    );
    if let Err(error) = settings.topology.delete(&mut control) {
        summary.errors.push(error.to_string());
    }
    control.close();
    Ok(summary)
}

/// Opens the connections that do nothing, and says what they cost.
fn open_idle(settings: &Settings, summary: &mut Summary) -> Result<Vec<Client>, PerfError> {
    let connections = settings.idle_connections;
    if connections == 0 {
        return Ok(Vec::new());
    }
    let family = settings.broker_pid.map(usage::Family::of).transpose()?;
    let resident = || {
        family
            .as_ref()
            .map(|family| family.usage().map(|usage| usage.resident))
    };
    let before = resident().transpose()?;
    let started = Instant::now();
    let target = settings.target.without_heartbeat();
    let idle = open::many(connections, |number| {
        Client::open(&target, format!("perf-idle-{number}"))
    })?;
    let open_seconds = started.elapsed().as_secs_f64();
    thread::sleep(SETTLE);
    let after = resident().transpose()?;
    let grown = before
        .zip(after)
        .map(|(before, after)| after as i64 - before as i64);
    let broker_bytes_each = grown.map(|bytes| bytes / connections as i64);
    summary.idle = Some(Idle {
        connections,
        open_seconds,
        broker_bytes_each,
    });
    Ok(idle)
}

/// Opens publishers and consumers, lets them run, and fills in what came out.
fn load(settings: &Settings, summary: &mut Summary) -> Result<(), PerfError> {
    let run = RandomState::new().hash_one(std::process::id()) as u16;
    let threads = settings
        .threads
        .min(settings.publishers + settings.consumers);
    let meters: Vec<_> = (0..threads).map(|_| Arc::new(Meter::new())).collect();
    let links = open::links(settings, run, &meters)?;
    let shared = Arc::new(Shared::new(Clock::start()));
    let churn = Churn::start(settings)?;
    let workers = start(links, &shared)?;

    let interrupt = Interrupt::listen()?;
    let measured = Monitor::new(settings, meters, shared.clone(), interrupt).run(summary);
    shared.enter(Phase::Stop);
    summary.churned_per_second = churn.map(Churn::stop).transpose()?;
    let remains: Vec<Remains> = workers.into_iter().flat_map(join).collect();
    summary
        .errors
        .extend(shared.take_errors().iter().map(PerfError::to_string));

    let mut closing = Vec::new();
    let (mut sent, mut seen) = (Vec::new(), Vec::new());
    for remains in remains {
        closing.push((remains.stream, remains.unwritten));
        sent.extend(remains.sent);
        seen.extend(remains.seen);
    }
    client::close_all(closing, CLOSE_PATIENCE);
    if settings.check {
        let queues = settings.topology.queues.len() as u32;
        summary.check = Some(Verdict::new(
            &sent,
            seen,
            settings.topology.copies(),
            queues,
        ));
    }
    measured
}

fn start(
    links: Vec<Vec<super::link::Link>>,
    shared: &Arc<Shared>,
) -> Result<Vec<JoinHandle<Vec<Remains>>>, PerfError> {
    let mut workers = Vec::new();
    for (number, links) in links.into_iter().enumerate() {
        let worker = Worker::new(links, shared.clone())?;
        let thread = thread::Builder::new().name(format!("perf-{number}"));
        workers.push(thread.spawn(move || worker.run())?);
    }
    Ok(workers)
}

/// What a thread left behind; a panic in it is one here.
fn join(worker: JoinHandle<Vec<Remains>>) -> Vec<Remains> {
    worker
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
