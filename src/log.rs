//! Where the log goes: to the console, and if that is configured to the exchange `amq.rabbitmq.log`.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use leveret::broker::log_exchange::LogExchange;
use leveret::clock::{Clock, SystemClock};
use leveret::config::LogLevel;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;

/// Writes the log to the console.
pub(crate) fn start(level: LogLevel) {
    let log = tracing_subscriber::fmt().with_max_level(level_filter(level));
    log.with_target(false)
        .with_ansi(io::stdout().is_terminal())
        .init();
}

/// The same, and what is important enough also to the exchange, in the same form.
pub(crate) fn start_with_exchange(console: LogLevel, exchange: LogLevel) -> Arc<LogExchange> {
    let log = Arc::new(LogExchange::default());
    let to_console = tracing_subscriber::fmt::layer()
        .with_target(false)
        .with_ansi(io::stdout().is_terminal())
        .with_filter(level_filter(console));
    let lines = Lines {
        log: log.clone(),
        clock: Arc::default(),
    };
    let to_exchange = tracing_subscriber::fmt::layer()
        .with_target(false)
        .with_ansi(false)
        .with_writer(lines)
        .with_filter(level_filter(exchange));
    tracing_subscriber::registry()
        .with(to_console)
        .with(to_exchange)
        .init();
    log
}

const fn level_filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warning => LevelFilter::WARN,
        LogLevel::Error | LogLevel::Critical => LevelFilter::ERROR,
        LogLevel::None => LevelFilter::OFF,
    }
}

/// Makes a writer for each line.
struct Lines {
    log: Arc<LogExchange>,
    clock: Arc<SystemClock>,
}

/// Takes one line, in one piece.
struct Line<'a> {
    level: &'static str,
    lines: &'a Lines,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line {
            level: level_name(Level::INFO),
            lines: self,
        }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line<'a> {
        Line {
            level: level_name(*metadata.level()),
            lines: self,
        }
    }
}

/// RabbitMQ's names of the levels.
const fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "info",
        Level::DEBUG | Level::TRACE => "debug",
    }
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let Lines { log, clock } = self.lines;
        log.put(self.level, line, clock.now_ms());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
