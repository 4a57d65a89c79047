//! A broker in a temporary directory, for benchmarks.

use std::sync::Arc;

use leveret::auth::Auth;
use leveret::broker::alarms::Alarms;
use leveret::broker::dead_letter::DeadLetters;
use leveret::broker::loader::Loader;
use leveret::broker::memory::{QUEUE_MEMORY_BYTES_MAX, QueueMemory};
use leveret::broker::timers::Timers;
use leveret::broker::{Broker, Parts, Services};
use leveret::clock::{Clock, SystemClock};
use leveret::config::Config;
use leveret::random::SystemRandom;
use leveret::store::{Store, StoreOptions};
use tempfile::TempDir;

/// A broker as `config` describes it, with its default user and virtual host. The store must be closed before the
/// process ends.
pub(crate) fn open(dir: &TempDir, config: &Config) -> Arc<Broker> {
    let (store, recovered) = Store::open(StoreOptions {
        ballast_bytes: 0,
        ..StoreOptions::new(dir.path())
    })
    .unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let services = Services::from(Parts {
        dead_letters: DeadLetters::default(),
        memory: Arc::new(QueueMemory::new(QUEUE_MEMORY_BYTES_MAX)),
        loader: Loader::start(&store, &clock).unwrap(),
        timers: Timers::start(&clock).unwrap(),
        census: Arc::default(),
        events: Arc::default(),
        alarms: Arc::new(Alarms::default()),
        store,
        clock,
        random: Arc::new(SystemRandom),
        node: "leveret@localhost".into(),
        default_queue_type: leveret::broker::arguments::QueueType::Classic,
    });
    let auth = Auth::recover(std::iter::empty(), config).unwrap();
    auth.add_default_user(&mut drop, config).unwrap();
    Broker::recover(
        services,
        Arc::new(auth),
        recovered,
        Some(&config.default_vhost),
    )
    .unwrap()
    .broker
}
