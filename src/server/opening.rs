//! From a data directory to a running broker.

use std::sync::Arc;

use super::{StartError, definitions};
use crate::auth::Auth;
use crate::broker::alarms::Alarms;
use crate::broker::arguments::QueueType;
use crate::broker::dead_letter::DeadLetters;
use crate::broker::loader::Loader;
use crate::broker::memory::{QUEUE_MEMORY_BYTES_MAX, QueueMemory};
use crate::broker::timers::Timers;
use crate::broker::{Broker, Services, keeper};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::random::SystemRandom;
use crate::store::{Recovered, Store, StoreOptions};

/// Opens the store and recovers the broker. When this returns, what the first start creates is on disk.
pub(super) async fn open(
    config: Arc<Config>,
    options: StoreOptions,
) -> Result<Arc<Broker>, StartError> {
    // RocksDB blocks.
    let opening = tokio::task::spawn_blocking(move || open_blocking(&config, options));
    let (broker, ticket) = opening
        .await
        .expect("opening is not cancelled, and a panic ends the process")?;
    broker.services.store.wait(ticket).await;
    Ok(broker)
}

fn open_blocking(
    config: &Config,
    options: StoreOptions,
) -> Result<(Arc<Broker>, crate::message::Ticket), StartError> {
    let path = &options.dir;
    std::fs::create_dir_all(path).map_err(|error| StartError::DataDir {
        path: path.clone(),
        error,
    })?;
    let (store, recovered) = Store::open(options)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::not_before(recovered.clock_ms));
    let services = Services {
        dead_letters: DeadLetters::default(),
        memory: Arc::new(QueueMemory::new(QUEUE_MEMORY_BYTES_MAX)),
        loader: Loader::start(&store, &clock).map_err(StartError::Threads)?,
        timers: Timers::start(&clock).map_err(StartError::Threads)?,
        alarms: Arc::new(Alarms::default()),
        store,
        clock,
        random: Arc::new(SystemRandom),
        default_queue_type: QueueType::from_name(config.default_queue_type.as_bytes())
            .unwrap_or_default(),
    };
    let auth = recover_auth(config, &services, &recovered)?;
    // As in RabbitMQ definitions take the place of what a first start creates.
    let default_vhost = config
        .definitions
        .is_empty()
        .then_some(config.default_vhost.as_str());
    let recovered = Broker::recover(services, auth, recovered, default_vhost)?;
    keeper::start(&recovered.broker).map_err(StartError::Threads)?;
    let mut ticket = recovered.ticket;
    for path in &config.definitions {
        ticket = ticket.max(definitions::load(&recovered.broker, path)?);
    }
    if recovered.is_first_start && default_vhost.is_none() {
        ticket = ticket.max(recovered.broker.set_up());
        tracing::info!(
            "first start on an empty data directory: created what the definitions say, no default user and vhost"
        );
    } else if recovered.is_first_start {
        tracing::info!(
            user = %config.default_user, vhost = %config.default_vhost,
            "first start on an empty data directory: created the default user and vhost"
        );
    }
    Ok((recovered.broker, ticket))
}

/// Reads users and permissions, and creates the default user in an empty directory. The user comes before the vhost,
/// with which the directory counts as set up: a crash in between is made good by the next start.
fn recover_auth(
    config: &Config,
    services: &Services,
    recovered: &Recovered,
) -> Result<Arc<Auth>, StartError> {
    let rows = recovered
        .state
        .iter()
        .map(|(key, value)| (&key[..], &value[..]));
    let auth = Auth::recover(rows, config)?;
    if recovered.state.is_empty() && config.definitions.is_empty() {
        let visit = services.visit();
        let mut push = |op| {
            visit.push(op);
        };
        auth.add_default_user(&mut push, config)?;
    }
    Ok(Arc::new(auth))
}
