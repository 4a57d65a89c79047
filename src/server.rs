//! The process around the broker: it opens the store, recovers the broker, listens, and stops gracefully.
//!
//! ```text
//! bind ─▶ open store ─▶ recover ─▶ listen ─▶ accept … ─▶ stop: 320 to all ─▶ commit what is pending
//! ```

mod accept;
mod alarms;
mod connection;
mod definitions;
mod descriptors;
mod listener;
mod opening;
mod socket;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, timeout_at};

use crate::auth::{ChangeError, MalformedRow};
use crate::broker::definitions::Selection;
use crate::broker::log_exchange::LogExchange;
use crate::broker::recovery::RecoverError;
use crate::config::Config;
use crate::store::{OpenError, Store, StoreOptions};
use accept::{Limits, accept_until};
use alarms::Monitor;
use connection::Shared;
pub use definitions::{FileError, PlannedFile, check as check_definitions};
use listener::Bound;

/// How long connections may take to close when the broker stops. Docker kills after ten seconds.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often connections are asked to close: one may have become open in the meantime.
const CLOSE_PAUSE: Duration = Duration::from_millis(100);

/// After this long a stop that waits for the disk says so.
const COMMIT_PATIENCE: Duration = Duration::from_secs(5);

/// RabbitMQ's words, behind `CONNECTION_FORCED - `.
const STOP_EXPLANATION: &str = "broker forced connection closure with reason 'shutdown'";

/// Why the broker does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {address}: {error}")]
    Listen {
        address: SocketAddr,
        error: io::Error,
    },
    #[error("cannot create the data directory {path}: {error}", path = path.display())]
    DataDir {
        path: std::path::PathBuf,
        error: io::Error,
    },
    #[error(transparent)]
    Store(#[from] OpenError),
    #[error(transparent)]
    Recover(#[from] RecoverError),
    #[error(transparent)]
    Users(#[from] MalformedRow),
    #[error("cannot create the default user: {0}")]
    DefaultUser(#[from] ChangeError),
    #[error("cannot read the definitions {path}: {error}", path = path.display())]
    UnreadableDefinitions {
        path: std::path::PathBuf,
        error: io::Error,
    },
    #[error("{}", lines(.0))]
    Definitions(Vec<FileError>),
    #[error("log.exchange: virtual host '{0}' does not exist")]
    NoLogVHost(String),
    #[error("event_exchange.vhost: virtual host '{0}' does not exist")]
    NoEventVHost(String),
    #[error("cannot start a thread: {0}")]
    Threads(io::Error),
    #[error("cannot handle signals: {0}")]
    Signals(io::Error),
}

fn lines(errors: &[FileError]) -> String {
    let lines: Vec<_> = errors.iter().map(FileError::to_string).collect();
    lines.join("\n")
}

/// Imports the configured definitions, or the entries of them that are chosen, into a data directory and commits them.
///
/// # Errors
/// A broker runs on that directory, or would not start with these definitions.
pub async fn import_definitions(
    config: Config,
    options: StoreOptions,
    selection: &Selection,
) -> Result<(), StartError> {
    let broker = opening::open(Arc::new(config), options, selection.clone()).await?;
    commit(&broker.services.store).await;
    Ok(())
}

/// Runs a broker until SIGTERM or SIGINT, and stops it gracefully: every connection is closed with 320, everything
/// pending is committed.
///
/// With the environment variable `LEVERET_UNSAFE_NO_SYNC=1` nothing is synced to disk: it is there to prove that the
/// durability tests notice.
///
/// What is logged to `log` is published from the start on, if there is one.
///
/// # Errors
/// The broker does not start.
pub async fn run(config: Config, log: Option<Arc<LogExchange>>) -> Result<(), StartError> {
    let stop = stop_signal().map_err(StartError::Signals)?;
    let no_sync = std::env::var_os("LEVERET_UNSAFE_NO_SYNC").is_some_and(|value| value == "1");
    if no_sync {
        tracing::warn!(
            "LEVERET_UNSAFE_NO_SYNC is set: confirmed messages will be lost when the machine fails"
        );
    }
    let options = StoreOptions {
        no_sync,
        ..StoreOptions::new(config.data_dir.clone())
    };
    let log_vhost = config.default_vhost.clone();
    let server = Server::start(config, options).await?;
    if let Some(log) = log {
        server.publish_log(&log, &log_vhost).await?;
    }
    server.run_until(stop).await;
    Ok(())
}

/// Completes at SIGTERM or SIGINT.
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// A broker that listens. There may be several in one process.
pub struct Server {
    listeners: Vec<TcpListener>,
    limits: Arc<Limits>,
    shared: Arc<Shared>,
    store: Store,
    monitor: Monitor,
}

impl Server {
    /// Opens the store, recovers the broker and begins to listen. Nothing is accepted until [`Self::run_until`].
    ///
    /// # Errors
    /// An address is taken, the store does not open, or what is in it is not understood.
    pub async fn start(config: Config, options: StoreOptions) -> Result<Self, StartError> {
        let limits = Arc::new(Limits::new(descriptors::connections_max()));
        let bound = bind(&config)?;
        let config = Arc::new(config);
        let everything = Selection::default();
        let broker = opening::open(Arc::clone(&config), options, everything).await?;
        let store = broker.services.store.clone();
        let mut monitor = Monitor::new(&config, broker.services.clone());
        monitor.look();
        let shared = Arc::new(Shared::new(config, broker));
        let mut listeners = Vec::new();
        for (address, bound) in bound {
            let listener = bound
                .listen()
                .map_err(|error| StartError::Listen { address, error })?;
            let address = listener.local_addr().unwrap_or(address);
            tracing::info!("started TCP listener on {address}");
            listeners.push(listener);
        }
        Ok(Self {
            listeners,
            limits,
            shared,
            store,
            monitor,
        })
    }

    /// From now on what is logged to `log` is published in this virtual host.
    ///
    /// # Errors
    /// It does not exist, or the system refuses a thread.
    pub async fn publish_log(&self, log: &LogExchange, vhost: &str) -> Result<(), StartError> {
        let switched = self.shared.broker.switch_log_on(vhost, log);
        let ticket = switched
            .map_err(StartError::Threads)?
            .ok_or_else(|| StartError::NoLogVHost(vhost.to_owned()))?;
        self.store.wait(ticket).await;
        Ok(())
    }

    /// Where it listens: the port that was found where 0 was configured.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners
            .iter()
            .filter_map(|listener| listener.local_addr().ok())
            .collect()
    }

    /// Serves connections until `stop` completes, then stops gracefully. What was confirmed or pending is committed
    /// when this returns.
    pub async fn run_until(self, stop: impl Future<Output = ()>) {
        let Self {
            listeners,
            limits,
            shared,
            store,
            monitor,
        } = self;
        let monitoring = tokio::spawn(monitor.run());
        let (stopping, _) = watch::channel(false);
        let accepting: Vec<_> = listeners
            .into_iter()
            .map(|listener| {
                let (shared, stopping) = (Arc::clone(&shared), stopping.subscribe());
                let in_handshake = stopping.clone();
                let serve = move |stream, peer, slot| {
                    Arc::clone(&shared).serve(stream, peer, slot, in_handshake.clone())
                };
                tokio::spawn(accept_until(listener, Arc::clone(&limits), stopping, serve))
            })
            .collect();

        stop.await;
        tracing::info!(connections = shared.connections.count(), "stopping");
        stopping.send_replace(true);
        let deadline = Instant::now() + CLOSE_TIMEOUT;
        for accepting in accepting {
            let connections = accepting
                .await
                .expect("accepting is not cancelled, and a panic ends the process");
            close(&shared, connections, deadline).await;
        }
        monitoring.abort();
        commit(&store).await;
        tracing::info!("stopped");
    }
}

fn bind(config: &Config) -> Result<Vec<(SocketAddr, Bound)>, StartError> {
    let addresses = config.listeners.iter();
    addresses
        .map(|&address| {
            let bound = Bound::bind(address, &config.listeners);
            bound
                .and_then(|bound| bound.with_buffers(config))
                .map(|bound| (address, bound))
                .map_err(|error| StartError::Listen { address, error })
        })
        .collect()
}

/// Asks all connections to close, and after the deadline ends those that have not.
async fn close(shared: &Shared, mut connections: JoinSet<()>, deadline: Instant) {
    let mut asking = interval(CLOSE_PAUSE);
    let all_closed = async {
        loop {
            tokio::select! {
                _ = asking.tick() => shared.connections.close_all(STOP_EXPLANATION),
                ended = connections.join_next() => if ended.is_none() { return },
            }
        }
    };
    if timeout_at(deadline, all_closed).await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "connections did not close in time"
        );
        connections.shutdown().await;
    }
}

/// Waits until everything is on disk. On a full disk that is when there is space again: a process that is killed then
/// has lost nothing that was confirmed.
async fn commit(store: &Store) {
    let closing = store.close();
    tokio::pin!(closing);
    tokio::select! {
        () = &mut closing => return,
        () = sleep(COMMIT_PATIENCE) => tracing::warn!("waiting for the disk to commit what is pending"),
    }
    closing.await;
}
