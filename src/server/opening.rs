//! From a data directory to a running broker.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use super::{StartError, definitions};
use crate::auth::Auth;
use crate::broker::alarms::Alarms;
use crate::broker::arguments::QueueType;
use crate::broker::census::Census;
use crate::broker::dead_letter::DeadLetters;
use crate::broker::definitions::{Plan, Planner, Selection};
use crate::broker::loader::Loader;
use crate::broker::memory::{QUEUE_MEMORY_BYTES_MAX, QueueMemory};
use crate::broker::parameters::CLUSTER_NAME;
use crate::broker::timers::Timers;
use crate::broker::{Broker, Parts, Services, keeper};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, node_name};
use crate::message::Ticket;
use crate::random::SystemRandom;
use crate::store::{Recovered, Store, StoreOptions};

/// Opens the store and recovers the broker. When this returns, what the first start creates is on disk.
pub(super) async fn open(
    config: Arc<Config>,
    options: StoreOptions,
    selection: Selection,
) -> Result<Arc<Broker>, StartError> {
    // RocksDB blocks.
    let opening = tokio::task::spawn_blocking(move || open_blocking(&config, options, &selection));
    let (broker, ticket) = opening
        .await
        .expect("opening is not cancelled, and a panic ends the process")?;
    broker.services.store.wait(ticket).await;
    Ok(broker)
}

fn open_blocking(
    config: &Config,
    options: StoreOptions,
    selection: &Selection,
) -> Result<(Arc<Broker>, Ticket), StartError> {
    let path = &options.dir;
    std::fs::create_dir_all(path).map_err(|error| StartError::DataDir {
        path: path.clone(),
        error,
    })?;
    let (store, recovered) = Store::open(options)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::not_before(recovered.clock_ms));
    let services = Services::from(Parts {
        dead_letters: DeadLetters::default(),
        memory: Arc::new(QueueMemory::new(QUEUE_MEMORY_BYTES_MAX)),
        loader: Loader::start(&store, &clock).map_err(StartError::Threads)?,
        timers: Timers::start(&clock).map_err(StartError::Threads)?,
        census: Arc::new(Census::new(config.node_limits)),
        events: Arc::default(),
        alarms: Arc::new(Alarms::default()),
        store,
        clock,
        random: Arc::new(SystemRandom),
        node: node_name().into(),
        default_queue_type: QueueType::from_name(config.default_queue_type.as_bytes())
            .unwrap_or_default(),
    });
    let auth = recover_auth(config, &services, &recovered)?;
    // As in RabbitMQ definitions take the place of what a first start creates.
    let default_vhost = config
        .definitions
        .is_empty()
        .then_some(config.default_vhost.as_str());
    let recovered = Broker::recover(services, auth, recovered, default_vhost)?;
    keeper::start(&recovered.broker).map_err(StartError::Threads)?;
    // Before anything is changed: with a mistake nothing is.
    let plans = plan_definitions(config, &recovered.broker, selection)?;
    let mut ticket = recovered.ticket;
    ticket = ticket.max(name_cluster(config, &recovered.broker));
    ticket = ticket.max(switch_events_on(config, &recovered.broker)?);
    ticket = ticket.max(definitions::execute(&recovered.broker, plans)?);
    // Its virtual host may have come with the definitions.
    ticket = ticket.max(switch_events_on(config, &recovered.broker)?);
    if let Some(vhost) = &config.event_exchange_vhost
        && !recovered.broker.services.events.are_on()
    {
        return Err(StartError::NoEventVHost(vhost.clone()));
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

/// What the definitions come to, all files together.
fn plan_definitions(
    config: &Config,
    broker: &Broker,
    selection: &Selection,
) -> Result<Vec<(PathBuf, Plan)>, StartError> {
    if config.definitions.is_empty() {
        return Ok(Vec::new());
    }
    let files = definitions::plan(config, &mut Planner::new(broker), selection)?;
    definitions::without_mistakes(files)
}

/// As in RabbitMQ a configured name takes the place of the parameter at each start.
fn name_cluster(config: &Config, broker: &Broker) -> Ticket {
    let configured = config.cluster_name.as_deref().map(Value::from);
    let changed =
        configured.filter(|name| broker.global_parameter(CLUSTER_NAME).as_ref() != Some(name));
    let set = changed.map(|name| {
        let visit = broker.services.visit();
        broker.set_global_parameter(&visit, CLUSTER_NAME, name)
    });
    // The configuration takes names that fit only.
    set.and_then(Result::ok).unwrap_or(Ticket::IMMEDIATE)
}

/// Switches events on if they are configured, not on yet, and their virtual host exists.
fn switch_events_on(config: &Config, broker: &Broker) -> Result<Ticket, StartError> {
    let vhost = config.event_exchange_vhost.as_deref();
    let vhost = vhost.filter(|_| !broker.services.events.are_on());
    let switched = vhost.map(|vhost| broker.switch_events_on(vhost));
    let switched = switched.transpose().map_err(StartError::Threads)?;
    Ok(switched.flatten().unwrap_or(Ticket::IMMEDIATE))
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
