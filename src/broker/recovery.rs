//! From the rows of the store to a broker, and from nothing to a first one.

mod retries;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::dead_letter;
use super::policy::{Policy, PolicyKind, ValidationFailed};
use super::queue::stream::restore::StoredRow;
use super::queue::stream::rows as stream_rows;
use super::queue::{IdRow, RecoveredLanes, is_delay_lane, retry_lane};
use super::state::{self, Row, RowError};
use super::vhost::{VHost, VHostSettings};
use super::{Broker, Services};
use crate::auth::Auth;
use crate::message::op::Op;
use crate::message::{QUEUE_ID_BITS, QueueId, Ticket, base_id, lane_id};
use crate::store::{LoadError, Recovered, RecoveredDue, RecoveredQueue, Store};

/// Why a broker cannot be built from what is stored.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// A row of the topology cannot be read. To go on without it would lose queues.
    #[error(transparent)]
    Row(#[from] RowError),
    /// What waits for a retry, or the newest messages of a stream, cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A policy says what this version does not know.
    #[error("{kind} '{name}' in vhost '{vhost}': {refused}")]
    Policy {
        /// A user's or an operator's.
        kind: PolicyKind,
        /// Its name.
        name: String,
        /// Its virtual host.
        vhost: String,
        /// What is wrong with it.
        refused: ValidationFailed,
    },
    /// The system refuses a thread.
    #[error("cannot start a thread: {0}")]
    Threads(#[from] std::io::Error),
    /// An exchange has a type that this version does not have.
    #[error("exchange '{name}' in vhost '{vhost}' has the unknown type '{kind}'")]
    UnknownExchangeType {
        /// Its name.
        name: String,
        /// Its virtual host.
        vhost: String,
        /// Its type.
        kind: String,
    },
}

/// A recovered broker.
pub struct RecoveredBroker {
    /// It.
    pub broker: Arc<Broker>,
    /// The directory had not been set up: the broker has been given its default virtual host.
    pub is_first_start: bool,
    /// When what the recovery wrote is safe.
    pub ticket: Ticket,
}

impl Broker {
    /// Builds the broker from what the store remembers; on the first start, with `default_vhost` in it. Without one the
    /// first start is over with [`Self::set_up`]. Rows whose
    /// virtual host, exchange or queue is gone are deleted: only an interrupted deletion leaves such.
    ///
    /// # Errors
    /// The rows are damaged or from a newer version.
    pub fn recover(
        services: Services,
        auth: Arc<Auth>,
        recovered: Recovered,
        default_vhost: Option<&str>,
    ) -> Result<RecoveredBroker, RecoverError> {
        let rows = read_rows(&recovered.state)?;
        let mut ops = Vec::new();
        let is_first_start = !rows.is_set_up;
        let mut vhosts: HashMap<Arc<str>, Arc<VHost>> = HashMap::new();
        let first = default_vhost.filter(|_| is_first_start);
        let settings = VHostSettings::of_new(services.default_queue_type);
        if let Some(name) = first {
            ops.extend([
                state::put_set_up(),
                state::put_vhost(name, false, &settings),
            ]);
        }
        let first = first.map(|name| state::VHostRow {
            name,
            is_traced: false,
            settings,
        });
        for row in rows.vhosts.iter().cloned().chain(first) {
            let vhost = VHost::new(row.name.into(), &services, Ticket::IMMEDIATE);
            vhost.recover_settings(row.settings);
            vhost.trace(row.is_traced)?;
            vhosts.insert(vhost.name.clone(), vhost);
        }
        let lanes = by_queue(&services.store, recovered.queues, &recovered.due, &mut ops)?;
        let global_parameters = rows.global_parameters.clone();
        let known = rows.fill(&vhosts, lanes, &recovered.due, &mut ops)?;
        let broker = Self::new(services, auth, vhosts);
        for (name, value) in global_parameters {
            broker.recover_global_parameter(name, value);
        }
        for vhost in broker.vhosts() {
            let exchanges = vhost.exchanges();
            let of_exchanges = exchanges.iter().filter_map(|exchange| exchange.delays());
            of_exchanges.for_each(|delays| delays.start());
            let queues = vhost.queues();
            let of_queues = queues.iter().filter_map(|queue| queue.delays());
            of_queues.for_each(|delays| delays.start());
        }
        dead_letter::start(&broker)?;
        let ticket = broker
            .services
            .store
            .forget_unknown(&known, broker.services.now_ms())
            .max(broker.push_all(ops));
        Ok(RecoveredBroker {
            broker,
            is_first_start,
            ticket,
        })
    }

    /// The first start is over: later ones create nothing by themselves.
    pub fn set_up(&self) -> Ticket {
        self.services.visit().push(state::put_set_up())
    }

    fn push_all(&self, ops: Vec<Op>) -> Ticket {
        if ops.is_empty() {
            return Ticket::IMMEDIATE;
        }
        let visit = self.services.visit();
        for op in ops {
            visit.push(op);
        }
        visit.ticket()
    }
}

/// The rows of the broker by kind, each with its key.
#[derive(Default)]
struct Rows<'a> {
    is_set_up: bool,
    vhosts: Vec<state::VHostRow<'a>>,
    exchanges: Vec<(&'a [u8], state::ExchangeRow<'a>)>,
    queues: Vec<(&'a [u8], state::QueueRow<'a>)>,
    bindings: Vec<(&'a [u8], state::BindingRow<'a>)>,
    deduplication: Vec<(&'a [u8], state::DeduplicationRow<'a>)>,
    policies: Vec<(&'a [u8], state::PolicyRow<'a>)>,
    /// The ids that queues remember.
    ids: HashMap<QueueId, Vec<IdRow>>,
    parameters: Vec<(&'a [u8], state::ParameterRow<'a>)>,
    global_parameters: Vec<(&'a str, serde_json::Value)>,
    /// What belongs to streams, by queue.
    streams: HashMap<QueueId, Vec<StoredRow<'a>>>,
}

/// What the store has of each queue: its lanes, what waits in them for a retry, and what waits to become visible.
fn by_queue(
    store: &Store,
    lanes: HashMap<QueueId, RecoveredQueue>,
    due: &HashMap<QueueId, RecoveredDue>,
    ops: &mut Vec<Op>,
) -> Result<HashMap<QueueId, RecoveredLanes>, RecoverError> {
    let mut queues: HashMap<QueueId, RecoveredLanes> = HashMap::new();
    let written = lanes.iter();
    let written: HashMap<_, _> = written
        .map(|(id, lane)| (*id, lane.written_before))
        .collect();
    for (id, lane) in lanes {
        let lanes = &mut queues.entry(base_id(id)).or_default().lanes;
        lanes.push((lane_number(id), lane));
    }
    for (owner, known) in due {
        if is_delay_lane(lane_number(*owner)) {
            queues.entry(base_id(*owner)).or_default().delayed = Some(*known);
        }
        if let Some(lane) = retry_lane(lane_number(*owner)) {
            let written = written.get(&lane_id(base_id(*owner), lane));
            let written = written.copied().unwrap_or_default();
            let retries = retries::read(store, (*owner, lane), *known, written, ops)?;
            let found = queues.entry(base_id(*owner)).or_default();
            found.retries.push(retries);
        }
    }
    Ok(queues)
}

const fn lane_number(id: QueueId) -> u16 {
    (id >> QUEUE_ID_BITS) as u16
}

fn read_rows(rows: &[(Vec<u8>, Vec<u8>)]) -> Result<Rows<'_>, RowError> {
    let mut read = Rows::default();
    for (key, value) in rows {
        match state::read(key, value)? {
            Row::SetUp => read.is_set_up = true,
            Row::VHost(row) => read.vhosts.push(row),
            Row::Exchange(row) => read.exchanges.push((key, row)),
            Row::Queue(row) => read.queues.push((key, row)),
            Row::Binding(row) => read.bindings.push((key, row)),
            Row::Deduplication(row) => read.deduplication.push((key, row)),
            Row::QueueId(queue, row) => read.ids.entry(queue).or_default().push(row),
            Row::Policy(row) => read.policies.push((key, row)),
            Row::Parameter(row) => read.parameters.push((key, row)),
            Row::GlobalParameter(name, value) => read.global_parameters.push((name, value)),
            Row::Foreign => {
                if let Some(queue) = stream_rows::owner(key) {
                    read.streams.entry(queue).or_default().push((key, value));
                }
            }
        }
    }
    Ok(read)
}

impl Rows<'_> {
    /// Puts policies, exchanges, queues and then bindings into the virtual hosts, and answers which ids in the store
    /// they have.
    fn fill(
        mut self,
        vhosts: &HashMap<Arc<str>, Arc<VHost>>,
        mut messages: HashMap<QueueId, RecoveredLanes>,
        due: &HashMap<QueueId, RecoveredDue>,
        ops: &mut Vec<Op>,
    ) -> Result<HashSet<QueueId>, RecoverError> {
        let mut known = HashSet::with_capacity(self.queues.len());
        for (key, row) in self.policies {
            match vhosts.get(row.vhost) {
                Some(vhost) => recover_policy(vhost, &row)?,
                None => delete_orphan(ops, key),
            }
        }
        for (key, row) in self.parameters {
            match vhosts.get(row.vhost) {
                Some(vhost) => vhost.recover_parameter(row.component, row.name, row.value),
                None => delete_orphan(ops, key),
            }
        }
        // The predeclared exchanges are there.
        vhosts.values().for_each(|vhost| vhost.apply_policies());
        for (key, row) in self.exchanges {
            let Some(vhost) = vhosts.get(row.vhost) else {
                delete_orphan(ops, key);
                continue;
            };
            let spec = row
                .spec()
                .ok_or_else(|| RecoverError::UnknownExchangeType {
                    name: row.name.to_owned(),
                    vhost: row.vhost.to_owned(),
                    kind: row.kind.to_owned(),
                })?;
            known.extend(spec.delays_id);
            let waiting = spec.delays_id.and_then(|id| due.get(&id));
            vhost.recover_exchange(spec, waiting.copied().unwrap_or_default());
        }
        // In the order in which they came, so that the oldest go first.
        let mut remembered = self.deduplication;
        remembered.sort_unstable_by_key(|(_, row)| (row.inserted_ms, row.hash));
        for (key, row) in remembered {
            let exchange = vhosts
                .get(row.vhost)
                .and_then(|vhost| vhost.exchange(row.exchange));
            match exchange.and_then(|exchange| exchange.deduplication.clone()) {
                Some(memory) => ops.extend(memory.recover(&row)),
                None => ops.push(Op::DeleteState { key: key.to_vec() }),
            }
        }
        for (key, row) in self.queues {
            let Some(vhost) = vhosts.get(row.vhost) else {
                delete_orphan(ops, key);
                continue;
            };
            known.insert(row.id);
            let queue =
                vhost.recover_queue(row.spec(), messages.remove(&row.id).unwrap_or_default());
            let stream = self.streams.remove(&row.id).unwrap_or_default();
            ops.extend(queue.restore_stream(&stream)?);
            if let Some(mut ids) = self.ids.remove(&row.id) {
                ids.sort_unstable_by_key(|id| (id.inserted_ms, id.hash));
                ops.extend(queue.recover_ids(&ids));
            }
            queue.recover_pause(row.is_paused);
        }
        ops.extend(self.ids.into_keys().map(state::delete_queue_ids));
        for queue in self.streams.into_keys() {
            ops.push(stream_rows::delete_all(queue));
        }
        for (key, row) in self.bindings {
            if !vhosts
                .get(row.vhost)
                .is_some_and(|vhost| vhost.recover_binding(&row))
            {
                delete_orphan(ops, key);
            }
        }
        Ok(known)
    }
}

fn recover_policy(vhost: &VHost, row: &state::PolicyRow<'_>) -> Result<(), RecoverError> {
    let policy = Policy::parse(row.kind, row.name, &row.source);
    let policy = policy.map_err(|refused| RecoverError::Policy {
        kind: row.kind,
        name: row.name.to_owned(),
        vhost: row.vhost.to_owned(),
        refused,
    })?;
    vhost.recover_policy(row.kind, policy);
    Ok(())
}

fn delete_orphan(ops: &mut Vec<Op>, key: &[u8]) {
    tracing::warn!(key = %String::from_utf8_lossy(key), "deleting a row that belongs to nothing");
    ops.push(Op::DeleteState { key: key.to_vec() });
}
