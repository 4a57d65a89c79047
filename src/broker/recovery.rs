//! From the rows of the store to a broker, and from nothing to a first one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::dead_letter;
use super::policy::{Policy, PolicyKind, ValidationFailed};
use super::queue::stream::restore::StoredRow;
use super::queue::stream::rows as stream_rows;
use super::queue::{IdRow, RecoveredLanes, Waiting, is_delay_lane, retry_lane};
use super::state::{self, Row, RowError};
use super::vhost::{VHost, VHostSettings};
use super::{Broker, Services};
use crate::auth::Auth;
use crate::message::op::Op;
use crate::message::{QUEUE_ID_BITS, QueueId, Ticket, base_id};
use crate::store::{LoadError, Recovered, RecoveredDue, RecoveredQueue, Store};

/// Waiting messages that are read at once.
const WAITING_COUNT_MAX: usize = 4_096;
const WAITING_BYTES_MAX: usize = 1024 * 1024;

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
        if let Some(name) = first {
            ops.extend([
                state::put_set_up(),
                state::put_vhost(name, false, &VHostSettings::default()),
            ]);
        }
        let first = first.map(|name| state::VHostRow {
            name,
            is_traced: false,
            settings: VHostSettings::default(),
        });
        for row in rows.vhosts.iter().copied().chain(first) {
            let vhost = VHost::new(row.name.into(), &services, Ticket::IMMEDIATE);
            vhost.recover_settings(row.settings);
            vhost.trace(row.is_traced)?;
            vhosts.insert(vhost.name.clone(), vhost);
        }
        let lanes = by_queue(&services.store, recovered.queues, &recovered.due)?;
        let known = rows.fill(&vhosts, lanes, &recovered.due, &mut ops)?;
        let broker = Self::new(services, auth, vhosts);
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
    /// What belongs to streams, by queue.
    streams: HashMap<QueueId, Vec<StoredRow<'a>>>,
}

/// What the store has of each queue: its lanes, what waits in them for a retry, and what waits to become visible.
fn by_queue(
    store: &Store,
    lanes: HashMap<QueueId, RecoveredQueue>,
    due: &HashMap<QueueId, RecoveredDue>,
) -> Result<HashMap<QueueId, RecoveredLanes>, RecoverError> {
    let mut queues: HashMap<QueueId, RecoveredLanes> = HashMap::new();
    for (id, lane) in lanes {
        let lanes = &mut queues.entry(base_id(id)).or_default().lanes;
        lanes.push((lane_number(id), lane));
    }
    for (owner, known) in due {
        if is_delay_lane(lane_number(*owner)) {
            queues.entry(base_id(*owner)).or_default().delayed = Some(*known);
        }
        if retry_lane(lane_number(*owner)).is_some() {
            let waiting = &mut queues.entry(base_id(*owner)).or_default().waiting;
            read_waiting(store, *owner, known.earliest_ms, waiting)?;
        }
    }
    Ok(queues)
}

const fn lane_number(id: QueueId) -> u16 {
    (id >> QUEUE_ID_BITS) as u16
}

fn read_waiting(
    store: &Store,
    owner: QueueId,
    earliest_ms: u64,
    waiting: &mut Vec<(Waiting, u64)>,
) -> Result<(), RecoverError> {
    let mut from = (earliest_ms, 0);
    loop {
        let page = store.due(owner, from, WAITING_COUNT_MAX, WAITING_BYTES_MAX)?;
        for entry in &page.entries {
            let bytes = entry.record.first_chunk().copied().unwrap_or_default();
            let until = Waiting {
                until_ms: entry.time_ms,
                seq: entry.seq,
            };
            waiting.push((until, u64::from_le_bytes(bytes)));
            from = (entry.time_ms, entry.seq + 1);
        }
        if !page.more || page.entries.is_empty() {
            return Ok(());
        }
    }
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

#[cfg(test)]
mod tests {
    use amq_protocol::types::{AMQPValue, FieldTable};

    use super::*;
    use crate::broker::testing::TestBroker;
    use crate::broker::vhost::{ExchangeBind, ExchangeDeclare, QueueBind, QueueDeclare};
    use crate::message::record::{Body, NewMessage};

    fn queue(name: &str, durable: bool) -> QueueDeclare {
        let mut arguments = FieldTable::default();
        arguments.insert("x-max-length".into(), AMQPValue::LongInt(5));
        QueueDeclare {
            name: name.into(),
            server_named: false,
            durable,
            exclusive: false,
            auto_delete: false,
            arguments,
            connection: 1,
        }
    }

    fn exchange(name: &str, durable: bool) -> ExchangeDeclare {
        let mut arguments = FieldTable::default();
        arguments.insert(
            "alternate-exchange".into(),
            AMQPValue::LongString("amq.fanout".into()),
        );
        ExchangeDeclare {
            name: name.into(),
            kind: "topic".into(),
            durable,
            auto_delete: false,
            internal: true,
            arguments,
        }
    }

    fn bind(queue: &str, exchange: &str, routing_key: &str) -> QueueBind {
        QueueBind {
            queue: queue.into(),
            exchange: exchange.into(),
            routing_key: routing_key.into(),
            arguments: FieldTable::default(),
            connection: 1,
        }
    }

    /// Names of queues and exchanges, and bindings, all sorted.
    fn inventory(vhost: &VHost) -> Vec<String> {
        let queues = vhost
            .queues()
            .into_iter()
            .map(|queue| format!("queue {}", queue.spec.name));
        let exchanges = vhost
            .exchanges()
            .into_iter()
            .map(|exchange| format!("exchange {}", exchange.spec.name));
        let bindings = vhost.bindings().into_iter().map(|binding| {
            format!(
                "{} -{}-> {}",
                binding.source,
                binding.routing_key,
                binding.destination.name()
            )
        });
        let all: Vec<_> = queues.chain(exchanges).chain(bindings).collect();
        let mut all: Vec<_> = all
            .into_iter()
            .filter(|line| !line.starts_with("exchange amq."))
            .collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn the_first_start_creates_the_default_vhost_and_later_ones_do_not() {
        let test = TestBroker::new();
        assert!(test.is_first_start);
        test.wait(test.ticket);
        let test = test.restart();
        assert!(!test.is_first_start);
        assert_eq!(test.ticket, Ticket::IMMEDIATE, "nothing was written");
        assert!(test.broker.vhost("/").is_some());
        let visit = test.broker.services.visit();
        test.broker.delete_vhost(&visit, "/").unwrap();
        drop(visit);
        let test = test.restart();
        assert!(test.broker.vhosts().is_empty(), "deleted is deleted");
    }

    #[test]
    fn durable_topology_survives_a_restart_and_transient_does_not() {
        let test = TestBroker::new();
        let vhost = test.broker.vhost("/").unwrap();
        {
            let visit = test.broker.services.visit();
            vhost.declare_queue(&visit, queue("durable", true)).unwrap();
            vhost
                .declare_queue(&visit, queue("transient", false))
                .unwrap();
            vhost.declare_exchange(&visit, exchange("x", true)).unwrap();
            vhost
                .declare_exchange(&visit, exchange("passing", false))
                .unwrap();
            for name in ["durable", "transient"] {
                vhost.bind_queue(&visit, bind(name, "x", "a.*")).unwrap();
                vhost
                    .bind_queue(&visit, bind(name, "passing", "#"))
                    .unwrap();
            }
            let mut arguments = FieldTable::default();
            arguments.insert("note".into(), AMQPValue::Void);
            vhost
                .bind_queue(
                    &visit,
                    QueueBind {
                        arguments,
                        ..bind("durable", "amq.headers", "")
                    },
                )
                .unwrap();
            let to_exchange = ExchangeBind {
                destination: "x".into(),
                source: "amq.topic".into(),
                routing_key: "b".into(),
                arguments: FieldTable::default(),
            };
            vhost.bind_exchange(&visit, to_exchange).unwrap();
        }
        let id = vhost.queue("durable").unwrap().spec.id;
        drop(vhost);
        let test = test.restart();
        let vhost = test.broker.vhost("/").unwrap();
        let expected = [
            "amq.headers --> durable",
            "amq.topic -b-> x",
            "exchange ",
            "exchange x",
            "queue durable",
            "x -a.*-> durable",
        ];
        assert_eq!(inventory(&vhost), expected);
        let queue = vhost.queue("durable").unwrap();
        assert_eq!(
            (queue.spec.id, queue.spec.arguments.max_length()),
            (id, Some(5))
        );
        let exchange = vhost.exchange("x").unwrap();
        assert_eq!(exchange.spec.alternate.as_deref(), Some("amq.fanout"));
        assert!(exchange.spec.internal && exchange.spec.durable);
        let message = crate::broker::testing::message("x", "a.b");
        assert_eq!(vhost.route(&exchange, &["a.b"], &message).queues.len(), 1);
    }

    #[test]
    fn what_was_deleted_stays_deleted() {
        let test = TestBroker::new();
        let vhost = test.broker.vhost("/").unwrap();
        {
            let visit = test.broker.services.visit();
            for name in ["q1", "q2", "q3"] {
                vhost.declare_queue(&visit, queue(name, true)).unwrap();
                vhost
                    .bind_queue(&visit, bind(name, "amq.topic", name))
                    .unwrap();
            }
            vhost.declare_exchange(&visit, exchange("x", true)).unwrap();
            vhost.bind_queue(&visit, bind("q1", "x", "k")).unwrap();
        }
        {
            let visit = test.broker.services.visit();
            vhost
                .delete_queue(&visit, "q2", Default::default(), 1)
                .unwrap();
            vhost
                .unbind_queue(&visit, &bind("q3", "amq.topic", "q3"))
                .unwrap();
            vhost.delete_exchange(&visit, "x", false).unwrap();
        }
        drop(vhost);
        let test = test.restart();
        let vhost = test.broker.vhost("/").unwrap();
        assert_eq!(
            inventory(&vhost),
            ["amq.topic -q1-> q1", "exchange ", "queue q1", "queue q3"]
        );
    }

    #[test]
    fn a_vhost_of_the_same_name_begins_empty() {
        let test = TestBroker::new();
        let old = test.broker.vhost("/").unwrap();
        let visit = test.broker.services.visit();
        old.declare_queue(&visit, queue("q", true)).unwrap();
        old.bind_queue(&visit, bind("q", "amq.topic", "k")).unwrap();
        test.broker.delete_vhost(&visit, "/").unwrap();
        let (new, _) = test.broker.create_vhost(&visit, "/");
        new.declare_queue(&visit, queue("q", true)).unwrap();
        assert!(!test.broker.clear_vhost(&visit, &old));
        let late = old.declare_queue(&visit, queue("late", true)).unwrap_err();
        assert_eq!(late.to_string(), "vhost '/' is deleted");
        drop((visit, old, new));
        let test = test.restart();
        assert_eq!(
            inventory(&test.broker.vhost("/").unwrap()),
            ["exchange ", "queue q"]
        );
    }

    #[test]
    fn rows_without_their_ends_are_deleted_and_newer_rows_stop_the_start() {
        let test = TestBroker::new();
        let visit = test.broker.services.visit();
        visit.push(Op::PutState {
            key: state::queue_key("gone", "q"),
            value: vec![1, 0, 0, 0, 0, 0, 0, 0, 0, 9],
        });
        drop(visit);
        let test = test.restart();
        assert_ne!(test.ticket, Ticket::IMMEDIATE, "the row was deleted");
        let test = test.restart();
        assert_eq!(test.ticket, Ticket::IMMEDIATE);
        let visit = test.broker.services.visit();
        visit.push(Op::PutState {
            key: state::vhost_key("new"),
            value: vec![2],
        });
        drop(visit);
        let error = test.try_restart().err().map(|error| error.to_string());
        let expected = "the row \"v/\\u{3}new\" has version 2, and this broker reads up to 1";
        assert_eq!(error.as_deref(), Some(expected));
    }

    /// Waits for something that other threads bring about.
    fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
        for _ in 0..1_000 {
            if holds() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("{what}: not within ten seconds");
    }

    #[test]
    fn what_was_to_expire_expires_after_a_restart_and_dies_as_it_should() {
        let test = TestBroker::new();
        let vhost = test.broker.vhost("/").unwrap();
        let mut arguments = FieldTable::default();
        arguments.insert(
            "x-dead-letter-exchange".into(),
            AMQPValue::LongString("".into()),
        );
        arguments.insert(
            "x-dead-letter-routing-key".into(),
            AMQPValue::LongString("dead".into()),
        );
        let visit = test.broker.services.visit();
        let source = QueueDeclare {
            arguments,
            ..queue("source", true)
        };
        let source = vhost.declare_queue(&visit, source).unwrap().queue;
        let dead = QueueDeclare {
            arguments: FieldTable::default(),
            ..queue("dead", true)
        };
        vhost.declare_queue(&visit, dead).unwrap();
        let message = |lives_ms: u64| NewMessage {
            exchange: b"",
            routing_key: b"source",
            properties: &[0x10, 0, 2],
            annotations: &[],
            body: Body::Inline(b"body"),
            persistent: true,
            priority: 0,
            expiry_ms: if lives_ms == 0 {
                0
            } else {
                visit.now_ms() + lives_ms
            },
        };
        // In no order, and with one that stays at the head.
        let messages = [0, 700, 400, 600, 0, 500].map(message);
        source.publish(&visit, messages.iter());
        let ticket = visit.ticket();
        drop((visit, source, vhost));
        test.wait(ticket);
        let test = test.restart();
        let vhost = test.broker.vhost("/").unwrap();
        let ready = |name: &str| vhost.queue(name).unwrap().counts().ready;
        eventually("four messages expire", || ready("dead") == 4);
        assert_eq!(ready("source"), 2);
    }
}
