//! Bindings: from an exchange to a queue or to another exchange.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::arguments::Arguments;
use super::exchange::{Exchange, LeadsTo};
use super::names::ResourceKind;
use super::queue::Queue;

/// Where a binding leads.
#[derive(Debug, Clone)]
pub enum Destination {
    /// To a queue.
    Queue(Arc<Queue>),
    /// To another exchange.
    Exchange(Arc<Exchange>),
}

impl Destination {
    /// What kind of thing it is.
    pub const fn kind(&self) -> ResourceKind {
        match self {
            Self::Queue(_) => ResourceKind::Queue,
            Self::Exchange(_) => ResourceKind::Exchange,
        }
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        match self {
            Self::Queue(queue) => &queue.spec.name,
            Self::Exchange(exchange) => &exchange.spec.name,
        }
    }

    /// What it is to the exchange that a binding comes from.
    pub(super) fn leads_to(&self) -> LeadsTo {
        match self {
            Self::Queue(queue) => LeadsTo::Queue(queue.spec.arguments.get().queue_type()),
            Self::Exchange(_) => LeadsTo::Exchange,
        }
    }

    /// Whether it survives a restart.
    pub fn is_durable(&self) -> bool {
        match self {
            Self::Queue(queue) => queue.spec.durable,
            Self::Exchange(exchange) => exchange.spec.durable,
        }
    }

    /// A number that no other destination has while this one lives.
    pub(super) fn address(&self) -> usize {
        match self {
            Self::Queue(queue) => Arc::as_ptr(queue).addr(),
            Self::Exchange(exchange) => Arc::as_ptr(exchange).addr(),
        }
    }
}

/// A binding. Its identity is source, destination, routing key and arguments: binding the same twice is binding once.
#[derive(Debug, Clone)]
pub struct Binding {
    /// Name of the exchange that messages come from.
    pub source: Arc<str>,
    /// Where they go.
    pub destination: Destination,
    /// Binding key, up to 255 bytes; what it means is up to the type of the source.
    pub routing_key: Box<str>,
    /// Arguments; only headers exchanges read them.
    pub arguments: Arguments,
}

impl PartialEq for Binding {
    fn eq(&self, other: &Self) -> bool {
        self.destination.address() == other.destination.address()
            && self.routing_key == other.routing_key
            && self.source == other.source
            && self.arguments == other.arguments
    }
}

impl Eq for Binding {}

impl Hash for Binding {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.source.hash(state);
        self.destination.address().hash(state);
        self.routing_key.hash(state);
        self.arguments.hash(state);
    }
}
