//! From the rows of the store to a broker, and from nothing to a first one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::state::{self, Row, RowError};
use super::vhost::VHost;
use super::{Broker, Services};
use crate::auth::Auth;
use crate::message::op::Op;
use crate::message::{QueueId, Ticket};
use crate::store::{Recovered, RecoveredQueue};

/// Why a broker cannot be built from what is stored.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// A row of the topology cannot be read. To go on without it would lose queues.
    #[error(transparent)]
    Row(#[from] RowError),
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
    /// There was nothing in the directory: the broker has been given its default virtual host, and the caller adds the
    /// default user.
    pub is_first_start: bool,
    /// When what the recovery wrote is safe.
    pub ticket: Ticket,
}

impl Broker {
    /// Builds the broker from what the store remembers; on the first start, with `default_vhost` in it. Rows whose
    /// virtual host, exchange or queue is gone are deleted: only an interrupted deletion leaves such.
    ///
    /// # Errors
    /// The rows are damaged or from a newer version.
    pub fn recover(
        services: Services,
        auth: Arc<Auth>,
        recovered: Recovered,
        default_vhost: &str,
    ) -> Result<RecoveredBroker, RecoverError> {
        let rows = read_rows(&recovered.state)?;
        let mut ops = Vec::new();
        let is_first_start = !rows.is_set_up;
        let mut vhosts: HashMap<Arc<str>, Arc<VHost>> = HashMap::new();
        if is_first_start {
            ops.extend([state::put_set_up(), state::put_vhost(default_vhost)]);
        }
        let first = is_first_start.then_some(default_vhost);
        for name in rows.vhosts.iter().copied().chain(first) {
            let name: Arc<str> = name.into();
            vhosts.insert(name.clone(), Arc::new(VHost::new(name, &services, Ticket::IMMEDIATE)));
        }
        let known = rows.fill(&vhosts, recovered.queues, &mut ops)?;
        let broker = Self::new(services, auth, vhosts);
        let ticket = broker.services.store.forget_unknown(&known, broker.services.now_ms()).max(broker.push_all(ops));
        Ok(RecoveredBroker { broker, is_first_start, ticket })
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
    vhosts: Vec<&'a str>,
    exchanges: Vec<(&'a [u8], state::ExchangeRow<'a>)>,
    queues: Vec<(&'a [u8], state::QueueRow<'a>)>,
    bindings: Vec<(&'a [u8], state::BindingRow<'a>)>,
}

fn read_rows(rows: &[(Vec<u8>, Vec<u8>)]) -> Result<Rows<'_>, RowError> {
    let mut read = Rows::default();
    for (key, value) in rows {
        match state::read(key, value)? {
            Row::SetUp => read.is_set_up = true,
            Row::VHost(name) => read.vhosts.push(name),
            Row::Exchange(row) => read.exchanges.push((key, row)),
            Row::Queue(row) => read.queues.push((key, row)),
            Row::Binding(row) => read.bindings.push((key, row)),
            Row::Foreign => {}
        }
    }
    Ok(read)
}

impl Rows<'_> {
    /// Puts exchanges, queues and then bindings into the virtual hosts, and answers which queues there are.
    fn fill(
        self,
        vhosts: &HashMap<Arc<str>, Arc<VHost>>,
        mut messages: HashMap<QueueId, RecoveredQueue>,
        ops: &mut Vec<Op>,
    ) -> Result<HashSet<QueueId>, RecoverError> {
        let mut orphan = |key: &[u8]| {
            tracing::warn!(key = %String::from_utf8_lossy(key), "deleting a row that belongs to nothing");
            ops.push(Op::DeleteState { key: key.to_vec() });
        };
        for (key, row) in self.exchanges {
            let Some(vhost) = vhosts.get(row.vhost) else {
                orphan(key);
                continue;
            };
            let spec = row.spec().ok_or_else(|| RecoverError::UnknownExchangeType {
                name: row.name.to_owned(),
                vhost: row.vhost.to_owned(),
                kind: row.kind.to_owned(),
            })?;
            vhost.recover_exchange(spec);
        }
        let mut known = HashSet::with_capacity(self.queues.len());
        for (key, row) in self.queues {
            let Some(vhost) = vhosts.get(row.vhost) else {
                orphan(key);
                continue;
            };
            known.insert(row.id);
            vhost.recover_queue(row.spec(), messages.remove(&row.id));
        }
        for (key, row) in self.bindings {
            if !vhosts.get(row.vhost).is_some_and(|vhost| vhost.recover_binding(&row)) {
                orphan(key);
            }
        }
        Ok(known)
    }
}
