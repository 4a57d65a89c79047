//! Exchanges: where messages enter, and which bindings they take from there.
//!
//! A type is a [`RoutingTable`] and a line in [`TYPES`]. The bindings stand behind a read-write lock that publishers
//! take only when they do not remember a route; each change of what an exchange does raises its version, which makes
//! the remembered routes stale.

mod choices;
mod consistent_hash;
mod delayed;
mod destinations;
mod direct;
mod fanout;
mod hash;
mod headers;
mod message;
mod modulus_hash;
mod random;
mod recent_history;
pub mod sender_selected;
mod topic;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use amq_protocol::types::FieldTable;
use parking_lot::RwLock;

pub(super) use self::delayed::{DELAY, delay_header};
pub(super) use self::message::Message;
pub use self::recent_history::KeptMessage;
use super::arguments::{Arguments, QueueType};
use super::binding::{Binding, Destination};
use super::deduplication::{Deduplication, Settings};
use super::delays::Delays;
use super::error::Error;
use super::names::DEFAULT_EXCHANGE;
use crate::message::QueueId;

/// All exchange types.
const TYPES: &[&ExchangeType] = &[
    &direct::TYPE,
    &fanout::TYPE,
    &topic::TYPE,
    &headers::TYPE,
    &consistent_hash::TYPE,
    &modulus_hash::TYPE,
    &random::TYPE,
    &random::LOCAL_TYPE,
    &recent_history::TYPE,
    &fanout::DEDUPLICATION_TYPE,
    &delayed::TYPE,
];

/// The exchanges of every virtual host beside the default one, with their types; all durable.
pub(super) const PREDECLARED: &[(&str, &str)] = &[
    ("amq.direct", "direct"),
    ("amq.fanout", "fanout"),
    ("amq.headers", "headers"),
    ("amq.match", "headers"),
    (TRACE_EXCHANGE, "topic"),
    ("amq.topic", "topic"),
];

/// The internal exchange that the firehose publishes to.
pub(super) const TRACE_EXCHANGE: &str = "amq.rabbitmq.trace";

/// The internal exchange that events are published to, in the virtual host that is configured.
pub(super) const EVENT_EXCHANGE: &str = "amq.rabbitmq.event";

/// The internal exchange that the log is published to, in the default virtual host, if that is configured.
pub(super) const LOG_EXCHANGE: &str = "amq.rabbitmq.log";

/// What a binding leads to, as far as its source minds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeadsTo {
    /// A queue of this type.
    Queue(QueueType),
    /// An exchange.
    Exchange,
}

/// What makes exchanges of a type what they are.
pub struct ExchangeType {
    /// The name in exchange.declare.
    pub name: &'static str,
    /// An empty table for an exchange with these arguments.
    table: fn(&FieldTable) -> Box<dyn RoutingTable>,
    /// Refuses arguments that exchanges of this type cannot have.
    validate: fn(&FieldTable) -> Result<(), Error>,
    /// Refuses keys, arguments and destinations that bindings of this type cannot have.
    validate_binding: fn(&str, &FieldTable, LeadsTo) -> Result<(), Error>,
}

impl ExchangeType {
    /// The type called `name`.
    ///
    /// # Errors
    /// There is none.
    pub fn from_name(name: &str) -> Result<&'static Self, Error> {
        let found = TYPES.iter().find(|known| known.name == name);
        found
            .copied()
            .ok_or_else(|| Error::UnknownExchangeType(name.into()))
    }

    /// Refuses arguments of a declaration.
    ///
    /// # Errors
    /// Exchanges of this type cannot have them.
    pub(super) fn validate(&self, arguments: &FieldTable) -> Result<(), Error> {
        (self.validate)(arguments)
    }
}

impl fmt::Debug for ExchangeType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)
    }
}

/// The bindings of an exchange, arranged so that those of a message are found fast.
///
/// Bindings are added and removed once each: the exchange knows which there are.
trait RoutingTable: Send + Sync {
    /// A new binding.
    fn add(&mut self, binding: &Binding);
    /// A binding that was added before.
    fn remove(&mut self, binding: &Binding);
    /// Reports the destinations of all bindings that `message` takes; the same one may be reported again.
    fn route(&self, message: &mut Message<'_>, found: &mut dyn FnMut(&Destination));
    /// Messages that a new binding gets, oldest first.
    fn kept(&self) -> Vec<KeptMessage> {
        Vec::new()
    }
}

/// What an exchange is declared as. Never changes.
#[derive(Debug)]
pub struct ExchangeSpec {
    /// Name, up to 255 bytes; empty for the default exchange.
    pub name: Arc<str>,
    /// Its type.
    pub kind: &'static ExchangeType,
    /// Survives a restart.
    pub durable: bool,
    /// Goes with its last outgoing binding.
    pub auto_delete: bool,
    /// Clients cannot publish to it.
    pub internal: bool,
    /// Arguments of the declaration.
    pub arguments: Arguments,
    /// `alternate-exchange` of the arguments.
    pub alternate: Option<Box<str>>,
    /// Under which messages are stored that wait here; only of exchanges that delay.
    pub delays_id: Option<QueueId>,
}

impl ExchangeSpec {
    /// Refuses a binding from an exchange of this declaration.
    ///
    /// # Errors
    /// Its type does not have bindings with that key, those arguments or that destination.
    pub(super) fn validate_binding(
        &self,
        routing_key: &str,
        arguments: &FieldTable,
        leads_to: LeadsTo,
    ) -> Result<(), Error> {
        (self.routing_type().validate_binding)(routing_key, arguments, leads_to)
    }
}

/// An exchange.
pub struct Exchange {
    /// What it was declared as.
    pub spec: ExchangeSpec,
    /// What it remembers of the messages published to it, if it deduplicates.
    pub(super) deduplication: Option<Arc<Deduplication>>,
    /// Raised after every change of what a message does here.
    version: AtomicU64,
    /// Nobody finds it any more.
    deleted: AtomicBool,
    /// Gets what no binding takes: the argument's, or a policy's.
    alternate: RwLock<Option<Arc<str>>>,
    bindings: RwLock<Bindings>,
    /// What waits here, if its type delays messages.
    delays: Option<Arc<Delays>>,
}

struct Bindings {
    table: Box<dyn RoutingTable>,
    all: HashSet<Arc<Binding>>,
}

impl Exchange {
    /// An exchange without bindings.
    pub fn new(spec: ExchangeSpec) -> Self {
        let table = (spec.kind.table)(&spec.arguments.table());
        let bindings = RwLock::new(Bindings {
            table,
            all: HashSet::new(),
        });
        let alternate = spec.alternate.as_deref().map(Into::into);
        Self {
            spec,
            deduplication: None,
            version: AtomicU64::new(0),
            deleted: AtomicBool::new(false),
            alternate: RwLock::new(alternate),
            bindings,
            delays: None,
        }
    }

    /// The same exchange in `vhost`, which deduplicates if its arguments say so.
    pub(super) fn deduplicating(mut self, vhost: &Arc<str>) -> Self {
        // What was declared was valid.
        let settings = Settings::from_arguments(self.spec.kind.name, &self.spec.arguments.table());
        self.deduplication = settings
            .unwrap_or_default()
            .map(|settings| Arc::new(Deduplication::new(settings, vhost, &self.spec.name)));
        self
    }

    /// Messages that it remembers in order to drop them when they come again; `None` if it does not deduplicate.
    pub fn remembered(&self) -> Option<usize> {
        self.deduplication.as_ref().map(|memory| memory.len())
    }

    /// The exchange, with the messages that wait in it.
    #[must_use]
    pub(super) fn with_delays(mut self, delays: Arc<Delays>) -> Self {
        self.delays = Some(delays);
        self
    }

    /// The messages that wait here, if this exchange delays messages.
    pub const fn delays(&self) -> Option<&Arc<Delays>> {
        self.delays.as_ref()
    }

    /// Whether this is the default exchange, to which every queue is bound under its own name.
    pub fn is_default(&self) -> bool {
        *self.spec.name == *DEFAULT_EXCHANGE
    }

    /// Number of outgoing bindings.
    pub fn binding_count(&self) -> usize {
        self.bindings.read().all.len()
    }

    /// Its outgoing bindings, in no particular order.
    pub fn bindings(&self) -> Vec<Arc<Binding>> {
        self.bindings.read().all.iter().cloned().collect()
    }

    /// The alternate exchange: gets what no binding takes.
    pub fn alternate(&self) -> Option<Arc<str>> {
        self.alternate.read().clone()
    }

    /// A policy came or went.
    pub(super) fn set_alternate(&self, alternate: Option<Arc<str>>) {
        *self.alternate.write() = alternate;
        self.changed();
    }

    /// Rises whenever a message may take another way from here than before.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Makes remembered routes through here stale.
    pub(super) fn changed(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    /// Adds a binding that has this exchange as its source, and answers the messages that it gets at once. `None` if it
    /// is there already.
    pub(super) fn bind(&self, binding: &Arc<Binding>) -> Option<Vec<KeptMessage>> {
        let mut bindings = self.bindings.write();
        if !bindings.all.insert(binding.clone()) {
            return None;
        }
        bindings.table.add(binding);
        self.changed();
        // Under the lock: a message is either among these or takes the new binding.
        Some(bindings.table.kept())
    }

    /// Removes a binding; false if there is none like it.
    pub(super) fn unbind(&self, binding: &Binding) -> bool {
        let mut bindings = self.bindings.write();
        if !bindings.all.remove(binding) {
            return false;
        }
        bindings.table.remove(binding);
        self.changed();
        true
    }

    pub(super) fn contains(&self, binding: &Binding) -> bool {
        self.bindings.read().all.contains(binding)
    }

    /// True once it is deleted: publishers that remember it look for another one of its name.
    pub fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// It was deleted.
    pub(super) fn mark_deleted(&self) {
        self.deleted.store(true, Ordering::Release);
    }

    /// Takes all outgoing bindings away, at once.
    pub(super) fn unbind_all(&self) -> Vec<Arc<Binding>> {
        let mut bindings = self.bindings.write();
        bindings.table = (self.spec.kind.table)(&self.spec.arguments.table());
        let all = bindings.all.drain().collect();
        self.changed();
        all
    }

    /// Reports where `message` goes from here; the same destination may be reported again.
    pub(super) fn route(&self, message: &mut Message<'_>, found: &mut dyn FnMut(&Destination)) {
        self.bindings.read().table.route(message, found);
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Exchange")
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}

/// For types that know no arguments of their own.
#[expect(clippy::unnecessary_wraps, reason = "the signature of a check")]
fn any_arguments(_arguments: &FieldTable) -> Result<(), Error> {
    Ok(())
}

/// For types whose bindings may have any key, any arguments and any destination.
#[expect(clippy::unnecessary_wraps, reason = "the signature of a check")]
fn any_binding(
    _routing_key: &str,
    _arguments: &FieldTable,
    _leads_to: LeadsTo,
) -> Result<(), Error> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_predeclared_exchange_has_a_type() {
        for (name, kind) in PREDECLARED {
            assert!(ExchangeType::from_name(kind).is_ok(), "{name}");
        }
    }

    #[test]
    fn unknown_types_are_refused() {
        let error = ExchangeType::from_name("x-unknown").unwrap_err();
        assert_eq!(error, Error::UnknownExchangeType("x-unknown".into()));
    }
}
