//! A broker on a temporary directory, for the tests of this layer and those above.

use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::alarms::Alarms;
use super::arguments::QueueType;
use super::census::Census;
use super::dead_letter::DeadLetters;
use super::loader::Loader;
use super::memory::{QUEUE_MEMORY_BYTES_MAX, QueueMemory};
use super::recovery::RecoverError;
use super::timers::Timers;
use super::{Broker, Parts, Services};
use crate::auth::Auth;
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, NodeLimits, node_name};
use crate::message::Ticket;
use crate::message::record::{Body, NewMessage};
use crate::random::SeededRandom;
use crate::store::{Store, StoreOptions};

/// A message without properties and body.
pub(crate) fn message<'a>(exchange: &'a str, routing_key: &'a str) -> NewMessage<'a> {
    NewMessage {
        exchange: exchange.as_bytes(),
        routing_key: routing_key.as_bytes(),
        properties: &[0, 0],
        annotations: &[],
        body: Body::Inline(b""),
        persistent: false,
        priority: 0,
        expiry_ms: 0,
    }
}

/// A broker with the virtual host `/`, and the directory that it keeps its data in.
pub(crate) struct TestBroker {
    pub(crate) broker: Arc<Broker>,
    /// Whether there was nothing in the directory.
    pub(crate) is_first_start: bool,
    /// When what the start wrote is safe.
    pub(crate) ticket: Ticket,
    runtime: tokio::runtime::Runtime,
    dir: TempDir,
}

impl TestBroker {
    pub(crate) fn new() -> Self {
        Self::with_limits(NodeLimits::default())
    }

    /// A restart lifts them.
    pub(crate) fn with_limits(limits: NodeLimits) -> Self {
        Self::start_with(TempDir::new().unwrap(), limits, QUEUE_MEMORY_BYTES_MAX)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// With this budget for all queues, until a restart.
    pub(crate) fn with_memory(bytes: usize) -> Self {
        Self::start_with(TempDir::new().unwrap(), NodeLimits::default(), bytes)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// Stops it and starts another one on the same directory.
    pub(crate) fn restart(self) -> Self {
        self.try_restart().unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) fn try_restart(self) -> Result<Self, RecoverError> {
        let dir = self.stop();
        Self::start(dir)
    }

    pub(crate) fn wait(&self, ticket: Ticket) {
        self.runtime
            .block_on(self.broker.services.store.wait(ticket));
    }

    /// Stops it and starts another one, for which `loader` reads.
    pub(super) fn restart_with(self, loader: Loader) -> Self {
        let dir = self.stop();
        let limits = NodeLimits::default();
        Self::start_on(dir, limits, QUEUE_MEMORY_BYTES_MAX, |_, _| loader)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// Where its data is.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn stop(self) -> TempDir {
        let store = &self.broker.services.store;
        self.runtime.block_on(store.close());
        self.dir
    }

    fn start(dir: TempDir) -> Result<Self, RecoverError> {
        Self::start_with(dir, NodeLimits::default(), QUEUE_MEMORY_BYTES_MAX)
    }

    fn start_with(
        dir: TempDir,
        limits: NodeLimits,
        memory_bytes: usize,
    ) -> Result<Self, RecoverError> {
        Self::start_on(dir, limits, memory_bytes, |store, clock| {
            Loader::start(store, clock).unwrap()
        })
    }

    fn start_on(
        dir: TempDir,
        limits: NodeLimits,
        memory_bytes: usize,
        loader: impl FnOnce(&Store, &Arc<dyn Clock>) -> Loader,
    ) -> Result<Self, RecoverError> {
        let options = StoreOptions {
            ballast_bytes: 0,
            ..StoreOptions::new(dir.path())
        };
        let (store, recovered) = Store::open(options).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let services = Services::from(Parts {
            dead_letters: DeadLetters::default(),
            memory: Arc::new(QueueMemory::new(memory_bytes)),
            loader: loader(&store, &clock),
            timers: Timers::start(&clock).unwrap(),
            census: Arc::new(Census::new(limits)),
            events: Arc::default(),
            alarms: Arc::new(Alarms::default()),
            store,
            clock,
            random: Arc::new(SeededRandom::new(1)),
            node: node_name().into(),
            default_queue_type: QueueType::Classic,
        });
        let auth = Arc::new(Auth::recover(std::iter::empty(), &Config::default()).unwrap());
        let started = Broker::recover(services, auth, recovered, Some("/"))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        Ok(Self {
            broker: started.broker,
            is_first_start: started.is_first_start,
            ticket: started.ticket,
            runtime,
            dir,
        })
    }
}
