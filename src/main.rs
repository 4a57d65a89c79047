//! The `leveret` command: runs the broker, or one of its tools.
//!
//! Thin on purpose: arguments, log and panic hook are set up here, everything else is in the library.

mod definitions;
mod log;
mod ping;

use std::backtrace::Backtrace;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use leveret::config::{Config, ConfigErrors};
use leveret::server;
use leveret::store::{OpenError, Store, StoreOptions};

/// Serves RocksDB too: returns freed memory to the system, and stays fast with many threads.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A RabbitMQ-compatible AMQP 0-9-1 broker.
///
/// Without a command the broker runs until SIGTERM or SIGINT.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Settings in the syntax of rabbitmq.conf [default: the file that $LEVERET_CONFIG names, if any]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Where everything is stored [default: $LEVERET_DATA_DIR, or else ./data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Succeed if a broker answers an AMQP 0-9-1 client
    Ping(ping::PingArgs),
    /// Load a broker, measure it, and check what it delivers
    Perf(Box<leveret::perf::PerfArgs>),
    /// Look through definitions, or import them
    #[command(subcommand)]
    Definitions(definitions::DefinitionsCommand),
    /// Work on the data of a broker that is not running
    #[command(subcommand)]
    Store(StoreCommand),
}

#[derive(Subcommand)]
enum StoreCommand {
    /// Accept that a damaged store has lost commits that it had confirmed, so that the broker starts again
    Repair {
        /// Where everything is stored [default: $LEVERET_DATA_DIR, or else ./data]
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
    },
}

/// Why a command failed. Several lines where there are several reasons.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the configuration is wrong:\n{0}")]
    Config(#[from] ConfigErrors),
    #[error("this processor lacks SSE 4.2 or PCLMULQDQ, for which RocksDB was compiled")]
    Processor,
    #[error("cannot start the runtime: {0}")]
    Runtime(io::Error),
    #[error("cannot start: {0}")]
    Start(#[from] server::StartError),
    #[error(transparent)]
    Definitions(#[from] definitions::DefinitionsFailure),
    #[error(transparent)]
    Ping(#[from] ping::PingError),
    #[error("cannot repair the store: {0}")]
    Repair(#[from] OpenError),
}

fn main() -> ExitCode {
    let Arguments {
        command,
        config,
        data_dir,
    } = Arguments::parse();
    let env = |name: &str| std::env::var(name).ok();
    let load = || Config::load(config.as_deref(), &env);
    let result = match command {
        None => load()
            .map_err(Failure::from)
            .and_then(|config| run(config, data_dir)),
        Some(Command::Ping(args)) => ping::run(&args, load).map_err(Failure::from),
        Some(Command::Perf(args)) => return leveret::perf::run(*args),
        Some(Command::Definitions(command)) => load()
            .map_err(Failure::from)
            .and_then(|config| run_definitions(command, config)),
        Some(Command::Store(StoreCommand::Repair { data_dir })) => load()
            .map_err(Failure::from)
            .and_then(|config| repair(config, data_dir)),
    };
    let Err(failure) = result else {
        return ExitCode::SUCCESS;
    };
    failure
        .to_string()
        .lines()
        .for_each(|line| eprintln!("leveret: {line}"));
    ExitCode::FAILURE
}

/// RocksDB is compiled for instructions that not every x86-64 processor has: see `.cargo/config.toml`.
fn check_processor() -> Result<(), Failure> {
    #[cfg(target_arch = "x86_64")]
    if !is_x86_feature_detected!("sse4.2") || !is_x86_feature_detected!("pclmulqdq") {
        return Err(Failure::Processor);
    }
    Ok(())
}

/// Opens the store with its losses accepted, which the log names, and closes it again.
fn repair(config: Config, data_dir: Option<PathBuf>) -> Result<(), Failure> {
    log::start(config.log_level);
    check_processor()?;
    let options = StoreOptions {
        accept_loss: true,
        ..StoreOptions::new(data_dir.unwrap_or(config.data_dir))
    };
    let (store, recovered) = Store::open(options)?;
    drop(store);
    tracing::info!(queues = recovered.queues.len(), "the store can be opened");
    Ok(())
}

fn run_definitions(
    command: definitions::DefinitionsCommand,
    config: Config,
) -> Result<(), Failure> {
    if command.logs() {
        log::start(config.log_level);
        abort_on_panic();
    }
    check_processor()?;
    let runtime = start_runtime()?;
    Ok(runtime.block_on(command.run(config))?)
}

fn start_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all().build().map_err(Failure::Runtime)
}

fn run(mut config: Config, data_dir: Option<PathBuf>) -> Result<(), Failure> {
    if let Some(data_dir) = data_dir {
        config.data_dir = data_dir;
    }
    let log = match config.log_exchange_level {
        None => {
            log::start(config.log_level);
            None
        }
        Some(level) => Some(log::start_with_exchange(config.log_level, level)),
    };
    check_processor()?;
    abort_on_panic();
    let runtime = start_runtime()?;
    Ok(runtime.block_on(server::run(config, log))?)
}

/// A panic may leave a queue half changed behind its lock, and the runtime would swallow it. The process
/// ends instead, and recovers as after any crash.
fn abort_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("unnamed");
        let backtrace = Backtrace::force_capture();
        tracing::error!(thread, "{panic}: the process ends\n{backtrace}");
        std::process::abort();
    }));
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
