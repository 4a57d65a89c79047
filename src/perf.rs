//! `leveret perf`: loads a broker with plain AMQP 0-9-1, measures it, and checks what it delivers.
//!
//! ```text
//! args -> scenarios -> settings          what to do
//! topology, client                       declaring, opening, closing: blocking, not timed
//! worker -> link -> publisher, consumer  the load: a few threads, a poller each
//! meter -> monitor -> summary            what came out
//! report, plot                           telling it
//! ```
//!
//! The load must cost far less than what it loads. Publishes are encoded once and copied to the
//! socket in large pieces (`image`), deliveries are read in large pieces and cut by hand (`frame`);
//! nothing is allocated per message, no lock is taken and no clock is read per message. Publishers
//! and consumers know no socket and no clock, so that their tests need neither.

mod acks;
mod alarm;
mod args;
mod check;
mod churn;
mod client;
mod confirms;
mod consumer;
mod error;
mod frame;
mod image;
mod interrupt;
mod limiter;
mod link;
mod meter;
mod monitor;
mod open;
mod plot;
mod publisher;
mod range;
mod report;
mod scenarios;
mod session;
mod settings;
mod stamp;
mod summary;
mod topology;
mod usage;
mod worker;

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

pub use args::PerfArgs;

use error::PerfError;
use settings::Settings;
use summary::Summary;

/// The load could not run to its end.
const EXIT_ERROR: u8 = 1;
/// The load ran, and messages were lost, duplicated or reordered.
const EXIT_CHECK_FAILED: u8 = 3;

/// Runs `leveret perf`. Exit codes: 0 when the load ran and its check passed, 1 for an error on the
/// way (a wrong option, no broker, a channel that the broker closed), 3 for a check that failed.
pub fn run(args: PerfArgs) -> ExitCode {
    match perform(args) {
        Ok(summary) if !summary.errors.is_empty() => ExitCode::from(EXIT_ERROR),
        Ok(summary) if !summary.passed() => ExitCode::from(EXIT_CHECK_FAILED),
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "leveret perf: {error}");
            ExitCode::from(EXIT_ERROR)
        }
    }
}

fn perform(args: PerfArgs) -> Result<Summary, PerfError> {
    if args.list_scenarios {
        scenarios::list(&mut io::stdout().lock())?;
        return Ok(Summary::default());
    }
    let settings = Settings::new(scenarios::resolve(args)?)?;
    let summary = session::run(&settings)?;
    tell(&settings, &summary)?;
    Ok(summary)
}

/// Writes the summary where the options want it.
fn tell(settings: &Settings, summary: &Summary) -> Result<(), PerfError> {
    if let Some(path) = &settings.plot {
        plot::draw(path, summary)?;
    }
    let Some(path) = &settings.json else {
        report::text(summary, &mut io::stdout().lock())?;
        return Ok(());
    };
    // A summary holds numbers, strings and lists: nothing that JSON has no word for.
    let json = serde_json::to_string_pretty(summary).expect("a summary is JSON") + "\n";
    if path == Path::new("-") {
        io::stdout().lock().write_all(json.as_bytes())?;
    } else {
        let failed = |source| PerfError::Write {
            path: path.clone(),
            source,
        };
        fs::write(path, json).map_err(failed)?;
        report::text(summary, &mut io::stdout().lock())?;
    }
    Ok(())
}
