//! The rows of the state family that the broker writes: virtual hosts, durable exchanges, queues and bindings.
//!
//! | key | value after the version byte |
//! |---|---|
//! | `m/topology` | nothing: the directory has been set up |
//! | `v/` vhost | flags and what is set as JSON, or nothing; what is set is left out when nothing is |
//! | `x/` vhost name | flags, id of the messages that wait there (if it delays), type, arguments |
//! | `q/` vhost name | flags, queue id, arguments |
//! | `y/` vhost name | a policy, as JSON |
//! | `o/` vhost name | an operator policy, as JSON |
//! | `r/` vhost component name | a runtime parameter, as JSON |
//! | `g/` name | a global parameter, as JSON |
//! | `b/` vhost source kind destination key, and a digest of the arguments if there are any | arguments |
//! | `d/` vhost exchange, and 16 bytes of hash | when it came and when it is forgotten, ms |
//! | `i/` queue id, and 16 bytes of hash | when the message came and when its id is forgotten, ms, and its seq |
//!
//! Names are short strings, a length byte before the bytes, so that a key can be read back; arguments fill the rest
//! as an AMQP field table, or are left out. Integers are big-endian. `u/` and `p/` belong to `auth`.

#[cfg(test)]
mod tests;

use sha2::{Digest, Sha256};

use super::arguments::{Arguments, QueueArguments};
use super::binding::{Binding, Destination};
use super::deduplication::Hash;
use super::exchange::{ExchangeSpec, ExchangeType};
use super::policy::{Policy, PolicyKind};
use super::queue::{IdRow, QueueSpec};
use super::vhost::VHostSettings;
use crate::message::QueueId;
use crate::message::op::Op;

/// The version of all values. A reader refuses what is newer.
const VERSION: u8 = 1;

const SET_UP_KEY: &[u8] = b"m/topology";
const VHOST: &[u8; 2] = b"v/";
const EXCHANGE: &[u8; 2] = b"x/";
const QUEUE: &[u8; 2] = b"q/";
const BINDING: &[u8; 2] = b"b/";
const DEDUPLICATION: &[u8; 2] = b"d/";
const QUEUE_IDS: &[u8; 2] = b"i/";
const POLICY: &[u8; 2] = b"y/";
const OPERATOR_POLICY: &[u8; 2] = b"o/";
const PARAMETER: &[u8; 2] = b"r/";
const GLOBAL_PARAMETER: &[u8; 2] = b"g/";
const PREFIXES: [&[u8; 2]; 10] = [
    VHOST,
    EXCHANGE,
    QUEUE,
    BINDING,
    DEDUPLICATION,
    QUEUE_IDS,
    POLICY,
    OPERATOR_POLICY,
    PARAMETER,
    GLOBAL_PARAMETER,
];

/// The firehose of a virtual host is on.
const TRACED: u8 = 1;

const AUTO_DELETE: u8 = 1;
const INTERNAL: u8 = 2;
/// Of queues: consumers get nothing.
const PAUSED: u8 = 2;
/// An id follows the flags.
const DELAYS: u8 = 4;

const TO_QUEUE: u8 = b'q';
const TO_EXCHANGE: u8 = b'x';

/// A row, read.
#[derive(Debug, PartialEq, Eq)]
pub enum Row<'a> {
    /// The directory has been set up: there was a first start.
    SetUp,
    /// A virtual host.
    VHost(VHostRow<'a>),
    /// A durable exchange.
    Exchange(ExchangeRow<'a>),
    /// A durable queue.
    Queue(QueueRow<'a>),
    /// A binding between durable ends.
    Binding(BindingRow<'a>),
    /// A message that an exchange remembers.
    Deduplication(DeduplicationRow<'a>),
    /// The id of a message that a queue remembers.
    QueueId(QueueId, IdRow),
    /// A policy or operator policy.
    Policy(PolicyRow<'a>),
    /// A runtime parameter of a virtual host.
    Parameter(ParameterRow<'a>),
    /// A global parameter: its name and value.
    GlobalParameter(&'a str, serde_json::Value),
    /// Somebody else's.
    Foreign,
}

/// A virtual host as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VHostRow<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its firehose is on.
    pub is_traced: bool,
    /// Limits and defaults.
    pub settings: VHostSettings,
}

/// A durable exchange as stored.
#[derive(Debug, PartialEq, Eq)]
pub struct ExchangeRow<'a> {
    /// Its virtual host.
    pub vhost: &'a str,
    /// Its name.
    pub name: &'a str,
    /// The name of its type.
    pub kind: &'a str,
    /// Goes with its last outgoing binding.
    pub auto_delete: bool,
    /// Clients cannot publish to it.
    pub internal: bool,
    /// Under which messages are stored that wait there.
    pub delays_id: Option<QueueId>,
    /// Arguments of the declaration.
    pub arguments: Arguments,
}

/// A durable queue as stored.
#[derive(Debug, PartialEq, Eq)]
pub struct QueueRow<'a> {
    /// Its virtual host.
    pub vhost: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Under which its messages are stored.
    pub id: QueueId,
    /// Goes with its last consumer.
    pub auto_delete: bool,
    /// Consumers get nothing.
    pub is_paused: bool,
    /// Arguments of the declaration.
    pub arguments: Arguments,
}

/// A binding as stored.
#[derive(Debug, PartialEq, Eq)]
pub struct BindingRow<'a> {
    /// Its virtual host.
    pub vhost: &'a str,
    /// The exchange that it leads from.
    pub source: &'a str,
    /// Where it leads.
    pub destination: DestinationName<'a>,
    /// Binding key.
    pub routing_key: &'a str,
    /// Arguments.
    pub arguments: Arguments,
}

/// A message that an exchange remembers in order to drop it when it comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeduplicationRow<'a> {
    /// The virtual host of the exchange.
    pub vhost: &'a str,
    /// Name of the exchange.
    pub exchange: &'a str,
    /// What the message is known by.
    pub hash: Hash,
    /// When it was published, ms since the Unix epoch.
    pub inserted_ms: u64,
    /// When it is forgotten, likewise; `u64::MAX` for never.
    pub expires_ms: u64,
}

/// A policy as stored.
#[derive(Debug, PartialEq, Eq)]
pub struct PolicyRow<'a> {
    /// Its virtual host.
    pub vhost: &'a str,
    /// A user's or an operator's.
    pub kind: PolicyKind,
    /// Its name.
    pub name: &'a str,
    /// All else, as JSON.
    pub source: serde_json::Map<String, serde_json::Value>,
}

/// A runtime parameter as stored.
#[derive(Debug, PartialEq, Eq)]
pub struct ParameterRow<'a> {
    /// Its virtual host.
    pub vhost: &'a str,
    /// What it belongs to.
    pub component: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its value.
    pub value: serde_json::Value,
}

/// The destination of a stored binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DestinationName<'a> {
    /// A queue.
    Queue(&'a str),
    /// An exchange.
    Exchange(&'a str),
}

/// Why a row cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// Written by a newer version.
    #[error("the row {key:?} has version {version}, and this broker reads up to {VERSION}")]
    TooNew {
        /// Its key.
        key: String,
        /// Its version.
        version: u8,
    },
    /// Not what was written.
    #[error("the row {0:?} is damaged")]
    Damaged(String),
}

/// Marks the directory as set up.
pub fn put_set_up() -> Op {
    put(SET_UP_KEY.to_vec(), &[])
}

/// Remembers a virtual host.
pub fn put_vhost(name: &str, is_traced: bool, settings: &VHostSettings) -> Op {
    let mut value = vec![flag(is_traced, TRACED)];
    if *settings != VHostSettings::default() {
        let json = serde_json::to_vec(settings).expect("numbers and names always have a JSON form");
        value.extend(json);
    } else if !is_traced {
        value.clear();
    }
    put(vhost_key(name), &value)
}

/// Remembers a durable exchange.
pub fn put_exchange(vhost: &str, spec: &ExchangeSpec) -> Op {
    let flags = flag(spec.auto_delete, AUTO_DELETE)
        | flag(spec.internal, INTERNAL)
        | flag(spec.delays_id.is_some(), DELAYS);
    let mut value = vec![flags];
    value.extend(spec.delays_id.into_iter().flat_map(QueueId::to_be_bytes));
    put_name(&mut value, spec.kind.name);
    value.extend_from_slice(spec.arguments.as_bytes());
    put(exchange_key(vhost, &spec.name), &value)
}

/// Remembers a durable queue.
pub fn put_queue(spec: &QueueSpec, is_paused: bool) -> Op {
    let mut value = vec![flag(spec.auto_delete, AUTO_DELETE) | flag(is_paused, PAUSED)];
    value.extend_from_slice(&spec.id.to_be_bytes());
    value.extend_from_slice(spec.arguments.get().as_bytes());
    put(queue_key(&spec.vhost, &spec.name), &value)
}

/// Remembers a binding.
pub fn put_binding(vhost: &str, binding: &Binding) -> Op {
    put(binding_key(vhost, binding), binding.arguments.as_bytes())
}

/// Remembers a message that an exchange has passed on.
pub fn put_deduplication(row: &DeduplicationRow<'_>) -> Op {
    let mut value = row.inserted_ms.to_be_bytes().to_vec();
    value.extend_from_slice(&row.expires_ms.to_be_bytes());
    put(deduplication_key(row.vhost, row.exchange, row.hash), &value)
}

/// The key of a message that an exchange remembers.
pub fn deduplication_key(vhost: &str, exchange: &str, hash: Hash) -> Vec<u8> {
    let mut key = key(DEDUPLICATION, &[vhost, exchange]);
    key.extend_from_slice(&hash);
    key
}

/// Remembers the id of a message in a queue.
pub fn put_queue_id(queue: QueueId, row: &IdRow) -> Op {
    let words = [row.inserted_ms, row.expires_ms, row.seq];
    let value: Vec<u8> = words.into_iter().flat_map(u64::to_be_bytes).collect();
    put(queue_id_key(queue, &row.hash), &value)
}

/// The key of an id that a queue remembers.
pub fn queue_id_key(queue: QueueId, hash: &Hash) -> Vec<u8> {
    let mut key = queue_ids_key(queue);
    key.extend_from_slice(hash);
    key
}

/// Forgets all ids of a queue.
pub fn delete_queue_ids(queue: QueueId) -> Op {
    Op::DeleteStateSpan {
        from: queue_ids_key(queue),
        to: queue_ids_key(queue + 1),
    }
}

fn queue_ids_key(queue: QueueId) -> Vec<u8> {
    let mut key = QUEUE_IDS.to_vec();
    key.extend_from_slice(&queue.to_be_bytes());
    key
}

/// Remembers a policy.
pub fn put_policy(vhost: &str, kind: PolicyKind, policy: &Policy) -> Op {
    let source = policy.to_json().to_string();
    put(policy_key(vhost, kind, &policy.name), source.as_bytes())
}

/// The key of a policy.
pub fn policy_key(vhost: &str, kind: PolicyKind, name: &str) -> Vec<u8> {
    let prefix = match kind {
        PolicyKind::User => POLICY,
        PolicyKind::Operator => OPERATOR_POLICY,
    };
    key(prefix, &[vhost, name])
}

/// Remembers a runtime parameter.
pub fn put_parameter(vhost: &str, component: &str, name: &str, value: &serde_json::Value) -> Op {
    put_json(parameter_key(vhost, component, name), value)
}

/// The key of a runtime parameter.
pub fn parameter_key(vhost: &str, component: &str, name: &str) -> Vec<u8> {
    key(PARAMETER, &[vhost, component, name])
}

/// Remembers a global parameter.
pub fn put_global_parameter(name: &str, value: &serde_json::Value) -> Op {
    put_json(global_parameter_key(name), value)
}

/// The key of a global parameter.
pub fn global_parameter_key(name: &str) -> Vec<u8> {
    key(GLOBAL_PARAMETER, &[name])
}

fn put_json(key: Vec<u8>, value: &serde_json::Value) -> Op {
    put(key, value.to_string().as_bytes())
}

/// The key of a virtual host.
pub fn vhost_key(name: &str) -> Vec<u8> {
    key(VHOST, &[name])
}

/// The key of an exchange.
pub fn exchange_key(vhost: &str, name: &str) -> Vec<u8> {
    key(EXCHANGE, &[vhost, name])
}

/// The key of a queue.
pub fn queue_key(vhost: &str, name: &str) -> Vec<u8> {
    key(QUEUE, &[vhost, name])
}

/// The key of a binding.
pub fn binding_key(vhost: &str, binding: &Binding) -> Vec<u8> {
    let mut key = key(BINDING, &[vhost, &binding.source]);
    key.push(match binding.destination {
        Destination::Queue(_) => TO_QUEUE,
        Destination::Exchange(_) => TO_EXCHANGE,
    });
    put_name(&mut key, binding.destination.name());
    put_name(&mut key, &binding.routing_key);
    if !binding.arguments.is_empty() {
        // Arguments can be as large as a frame; a key should not.
        key.extend_from_slice(&Sha256::digest(binding.arguments.as_bytes()));
    }
    key
}

/// Reads a row.
///
/// # Errors
/// It is newer than this version, or damaged.
pub fn read<'a>(key: &'a [u8], value: &'a [u8]) -> Result<Row<'a>, RowError> {
    if key != SET_UP_KEY && !PREFIXES.iter().any(|prefix| key.starts_with(*prefix)) {
        return Ok(Row::Foreign);
    }
    let shown = || String::from_utf8_lossy(key).into_owned();
    match value.split_first() {
        Some((&VERSION, value)) => read_known(key, value).ok_or_else(|| RowError::Damaged(shown())),
        Some((&version, _)) if version > VERSION => Err(RowError::TooNew {
            key: shown(),
            version,
        }),
        _ => Err(RowError::Damaged(shown())),
    }
}

fn read_known<'a>(key: &'a [u8], value: &'a [u8]) -> Option<Row<'a>> {
    if key == SET_UP_KEY {
        return Some(Row::SetUp);
    }
    let (prefix, rest) = key.split_first_chunk::<2>()?;
    if prefix == QUEUE_IDS {
        return read_queue_id(rest, value);
    }
    let (vhost, rest) = take_name(rest)?;
    match prefix {
        VHOST => read_vhost(vhost, rest, value).map(Row::VHost),
        EXCHANGE => read_exchange(vhost, rest, value).map(Row::Exchange),
        QUEUE => read_queue(vhost, rest, value).map(Row::Queue),
        BINDING => read_binding(vhost, rest, value).map(Row::Binding),
        DEDUPLICATION => read_deduplication(vhost, rest, value).map(Row::Deduplication),
        POLICY => read_policy(vhost, PolicyKind::User, rest, value).map(Row::Policy),
        OPERATOR_POLICY => read_policy(vhost, PolicyKind::Operator, rest, value).map(Row::Policy),
        PARAMETER => read_parameter(vhost, rest, value).map(Row::Parameter),
        // The first name of this key is its own.
        GLOBAL_PARAMETER if rest.is_empty() => {
            let value = serde_json::from_slice(value).ok()?;
            Some(Row::GlobalParameter(vhost, value))
        }
        _ => None,
    }
}

fn read_vhost<'a>(name: &'a str, key: &[u8], value: &[u8]) -> Option<VHostRow<'a>> {
    let (flags, settings) = value.split_first().unwrap_or((&0, &[]));
    let settings = match settings {
        [] => VHostSettings::default(),
        json => serde_json::from_slice(json).ok()?,
    };
    key.is_empty().then_some(VHostRow {
        name,
        is_traced: flags & TRACED != 0,
        settings,
    })
}

fn read_parameter<'a>(vhost: &'a str, key: &'a [u8], value: &[u8]) -> Option<ParameterRow<'a>> {
    let (component, key) = take_name(key)?;
    let (name, _) = take_name(key)?;
    Some(ParameterRow {
        vhost,
        component,
        name,
        value: serde_json::from_slice(value).ok()?,
    })
}

fn read_exchange<'a>(vhost: &'a str, key: &'a [u8], value: &'a [u8]) -> Option<ExchangeRow<'a>> {
    let (name, _) = take_name(key)?;
    let (flags, mut value) = value.split_first()?;
    let mut delays_id = None;
    if flags & DELAYS != 0 {
        let (id, rest) = value.split_first_chunk()?;
        (delays_id, value) = (Some(QueueId::from_be_bytes(*id)), rest);
    }
    let (kind, value) = take_name(value)?;
    Some(ExchangeRow {
        vhost,
        name,
        kind,
        auto_delete: flags & AUTO_DELETE != 0,
        internal: flags & INTERNAL != 0,
        delays_id,
        arguments: Arguments::from_bytes(value)?,
    })
}

fn read_queue<'a>(vhost: &'a str, key: &'a [u8], value: &'a [u8]) -> Option<QueueRow<'a>> {
    let (name, _) = take_name(key)?;
    let (flags, value) = value.split_first()?;
    let (id, value) = value.split_first_chunk()?;
    Some(QueueRow {
        vhost,
        name,
        id: QueueId::from_be_bytes(*id),
        auto_delete: flags & AUTO_DELETE != 0,
        is_paused: flags & PAUSED != 0,
        arguments: Arguments::from_bytes(value)?,
    })
}

fn read_binding<'a>(vhost: &'a str, key: &'a [u8], value: &'a [u8]) -> Option<BindingRow<'a>> {
    let (source, key) = take_name(key)?;
    let (kind, key) = key.split_first()?;
    let (destination, key) = take_name(key)?;
    let (routing_key, _digest) = take_name(key)?;
    let destination = match *kind {
        TO_QUEUE => DestinationName::Queue(destination),
        TO_EXCHANGE => DestinationName::Exchange(destination),
        _ => return None,
    };
    Some(BindingRow {
        vhost,
        source,
        destination,
        routing_key,
        arguments: Arguments::from_bytes(value)?,
    })
}

fn read_deduplication<'a>(
    vhost: &'a str,
    key: &'a [u8],
    value: &'a [u8],
) -> Option<DeduplicationRow<'a>> {
    let (exchange, hash) = take_name(key)?;
    let (inserted_ms, value) = value.split_first_chunk()?;
    let (expires_ms, _) = value.split_first_chunk()?;
    Some(DeduplicationRow {
        vhost,
        exchange,
        hash: hash.try_into().ok()?,
        inserted_ms: u64::from_be_bytes(*inserted_ms),
        expires_ms: u64::from_be_bytes(*expires_ms),
    })
}

fn read_queue_id<'a>(key: &[u8], value: &[u8]) -> Option<Row<'a>> {
    let (queue, hash) = key.split_first_chunk()?;
    let [inserted_ms, expires_ms, seq] = value.as_chunks().0 else {
        return None;
    };
    let row = IdRow {
        hash: hash.try_into().ok()?,
        inserted_ms: u64::from_be_bytes(*inserted_ms),
        expires_ms: u64::from_be_bytes(*expires_ms),
        seq: u64::from_be_bytes(*seq),
    };
    Some(Row::QueueId(QueueId::from_be_bytes(*queue), row))
}

fn read_policy<'a>(
    vhost: &'a str,
    kind: PolicyKind,
    key: &'a [u8],
    value: &[u8],
) -> Option<PolicyRow<'a>> {
    let (name, _) = take_name(key)?;
    Some(PolicyRow {
        vhost,
        kind,
        name,
        source: serde_json::from_slice(value).ok()?,
    })
}

impl ExchangeRow<'_> {
    /// What it says, typed. `None`: this version does not have its type.
    pub(super) fn spec(&self) -> Option<ExchangeSpec> {
        let table = self.arguments.table();
        let alternate = table
            .inner()
            .get("alternate-exchange")
            .and_then(|value| value.as_long_string());
        Some(ExchangeSpec {
            name: self.name.into(),
            kind: ExchangeType::from_name(self.kind).ok()?,
            durable: true,
            auto_delete: self.auto_delete,
            internal: self.internal,
            delays_id: self.delays_id,
            alternate: alternate.map(|name| String::from_utf8_lossy(name.as_bytes()).into()),
            arguments: self.arguments.clone(),
        })
    }
}

impl QueueRow<'_> {
    /// What it says, typed.
    pub(super) fn spec(&self) -> QueueSpec {
        QueueSpec {
            id: self.id,
            vhost: self.vhost.into(),
            name: self.name.into(),
            durable: true,
            auto_delete: self.auto_delete,
            exclusive_owner: None,
            arguments: QueueArguments::recovered(&self.arguments).into(),
        }
    }
}

fn put(key: Vec<u8>, value: &[u8]) -> Op {
    let mut versioned = Vec::with_capacity(1 + value.len());
    versioned.push(VERSION);
    versioned.extend_from_slice(value);
    Op::PutState {
        key,
        value: versioned,
    }
}

fn key(prefix: &[u8; 2], names: &[&str]) -> Vec<u8> {
    let mut key = prefix.to_vec();
    for name in names {
        put_name(&mut key, name);
    }
    key
}

fn put_name(out: &mut Vec<u8>, name: &str) {
    debug_assert!(name.len() <= 255, "names are short strings");
    out.push(name.len() as u8);
    out.extend_from_slice(name.as_bytes());
}

fn take_name(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*length))?;
    Some((std::str::from_utf8(name).ok()?, rest))
}

const fn flag(value: bool, bit: u8) -> u8 {
    if value { bit } else { 0 }
}
