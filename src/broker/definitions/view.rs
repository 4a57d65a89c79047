//! What there is, with what the entries planned so far add: what an entry is checked against.
//!
//! It is made of a broker, or of the rows that a broker left, and changed by planning alone.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::sync::Arc;

use serde_json::Value;

use super::kind::{EntryName, Kind};
use crate::auth::{Auth, Permissions, UserEntry};
use crate::broker::Broker;
use crate::broker::arguments::{Arguments, QueueType};
use crate::broker::binding::{Binding, Destination};
use crate::broker::error::Error;
use crate::broker::exchange::{Exchange, ExchangeSpec};
use crate::broker::names::{Resource, ResourceKind};
use crate::broker::policy::PolicyKind;
use crate::broker::queue::{Queue, QueueSpec};
use crate::broker::state::{self, DestinationName, Row, RowError};
use crate::broker::vhost::{VHost, VHostSettings, builtin, predeclared};
use crate::config::NodeLimits;

/// Why an entry is not imported.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is wrong.
    Mistake(String),
    /// What it belongs to is left out.
    Follows,
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self::Mistake(reason)
    }
}

/// For errors of the broker, which say all in their text.
pub(super) fn mistake(error: impl Display) -> Refusal {
    Refusal::Mistake(error.to_string())
}

/// All that definitions can say something of.
#[derive(Default)]
pub(super) struct View {
    limits: NodeLimits,
    pub(super) default_queue_type: QueueType,
    pub(super) users: HashMap<Arc<str>, UserEntry>,
    /// By user and virtual host.
    pub(super) permissions: HashMap<(Arc<str>, Arc<str>), Permissions>,
    pub(super) global_parameters: HashMap<Arc<str>, Value>,
    pub(super) vhosts: HashMap<Arc<str>, VHostView>,
    /// Kind, virtual host and name of entries that are not imported: what belongs to them is not wrong.
    left_out: HashSet<(Kind, String, String)>,
    /// Exchanges for what the broker tells that are to be made where there is such a virtual host.
    expected: Vec<(Arc<str>, &'static str)>,
}

/// A virtual host and what is in it.
pub(super) struct VHostView {
    pub(super) name: Arc<str>,
    pub(super) settings: VHostSettings,
    pub(super) exchanges: HashMap<Arc<str>, ExchangeView>,
    pub(super) queues: HashMap<Arc<str>, QueueView>,
    /// Those that no live exchange knows.
    pub(super) bindings: HashSet<BindingView>,
    /// As JSON, by kind and name.
    pub(super) policies: HashMap<(PolicyKind, Arc<str>), Value>,
    /// By component and name.
    pub(super) parameters: HashMap<(Arc<str>, Arc<str>), Value>,
}

/// An exchange of the broker, or one that is planned or stored.
pub(super) enum ExchangeView {
    Live(Arc<Exchange>),
    Spec(Box<ExchangeSpec>),
}

/// A queue of the broker, or one that is planned or stored.
pub(super) enum QueueView {
    Live(Arc<Queue>),
    Spec(Box<QueueSpec>),
}

/// A binding by the names of its ends.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct BindingView {
    pub(super) source: Arc<str>,
    pub(super) kind: ResourceKind,
    pub(super) destination: Arc<str>,
    pub(super) routing_key: Arc<str>,
    pub(super) arguments: Arguments,
}

impl View {
    /// What `broker` has.
    pub(super) fn of(broker: &Broker) -> Self {
        let services = &broker.services;
        let mut view = Self {
            limits: *services.census.limits(),
            default_queue_type: services.default_queue_type,
            global_parameters: broker.global_parameters().into_iter().collect(),
            ..Self::default()
        };
        view.add_users(&broker.auth);
        let vhosts = broker.vhosts().into_iter();
        view.vhosts = vhosts
            .map(|vhost| (vhost.name.clone(), VHostView::of(&vhost)))
            .collect();
        view
    }

    /// What a broker finds in these rows.
    ///
    /// # Errors
    /// A row cannot be read.
    pub(super) fn stored(
        rows: &[(Vec<u8>, Vec<u8>)],
        auth: &Auth,
        limits: NodeLimits,
        default_queue_type: QueueType,
    ) -> Result<Self, RowError> {
        let mut view = Self {
            limits,
            default_queue_type,
            ..Self::default()
        };
        view.add_users(auth);
        let read = rows.iter().map(|(key, value)| state::read(key, value));
        let (vhosts, others): (Vec<_>, Vec<_>) = read
            .collect::<Result<Vec<_>, _>>()?
            .into_iter()
            .partition(|row| matches!(row, Row::VHost(_)));
        for row in vhosts.into_iter().chain(others) {
            view.add_row(row);
        }
        Ok(view)
    }

    /// Rows of what is gone are passed over, as a start does.
    fn add_row(&mut self, row: Row<'_>) {
        let vhosts = &mut self.vhosts;
        match row {
            Row::VHost(row) => {
                let vhost = VHostView::new(row.name, row.settings);
                vhosts.insert(vhost.name.clone(), vhost);
            }
            Row::Exchange(row) => {
                if let (Some(vhost), Some(spec)) = (vhosts.get_mut(row.vhost), row.spec()) {
                    vhost.add_exchange(spec);
                }
            }
            Row::Queue(row) => {
                if let Some(vhost) = vhosts.get_mut(row.vhost) {
                    vhost.add_queue(row.spec());
                }
            }
            Row::Binding(row) => {
                if let Some(vhost) = vhosts.get_mut(row.vhost) {
                    vhost.bindings.insert(BindingView::stored(&row));
                }
            }
            Row::Policy(row) => {
                if let Some(vhost) = vhosts.get_mut(row.vhost) {
                    let key = (row.kind, row.name.into());
                    vhost.policies.insert(key, Value::Object(row.source));
                }
            }
            Row::Parameter(row) => {
                if let Some(vhost) = vhosts.get_mut(row.vhost) {
                    let key = (row.component.into(), row.name.into());
                    vhost.parameters.insert(key, row.value);
                }
            }
            Row::GlobalParameter(name, value) => {
                self.global_parameters.insert(name.into(), value);
            }
            Row::SetUp | Row::Deduplication(_) | Row::QueueId(..) | Row::Foreign => {}
        }
    }

    fn add_users(&mut self, auth: &Auth) {
        for user in auth.users() {
            for (vhost, permissions) in auth.permissions(&user.name) {
                let key = (user.name.clone(), vhost);
                self.permissions.insert(key, permissions);
            }
            self.users.insert(user.name.clone(), user);
        }
    }

    /// The broker will have this exchange of its own there.
    pub(super) fn expect_exchange(&mut self, vhost: &str, name: &'static str) {
        self.expected.push((vhost.into(), name));
    }

    /// Exchanges that were expected and can be made now.
    pub(super) fn make_expected(&mut self) -> Vec<(Arc<str>, &'static str)> {
        let vhosts = &mut self.vhosts;
        let can_be = |(vhost, _): &mut (Arc<str>, _)| vhosts.contains_key(vhost);
        let mut found: Vec<_> = self.expected.extract_if(.., can_be).collect();
        found.retain(|(vhost, name)| {
            let vhost = vhosts.get_mut(vhost);
            vhost.is_some_and(|vhost| vhost.add_own_exchange(name))
        });
        found
    }

    pub(super) fn vhost(&mut self, name: &str) -> Result<&mut VHostView, Refusal> {
        if !self.vhosts.contains_key(name) {
            return Err(self.missing(Kind::VHosts, "", name, || {
                format!("virtual host '{name}' does not exist")
            }));
        }
        self.vhosts.get_mut(name).ok_or(Refusal::Follows)
    }

    /// `name` does not exist: a mistake, unless an entry that would make it is left out.
    pub(super) fn missing(
        &self,
        kind: Kind,
        vhost: &str,
        name: &str,
        reason: impl FnOnce() -> String,
    ) -> Refusal {
        let key = (kind, vhost.to_owned(), name.to_owned());
        if self.left_out.contains(&key) {
            Refusal::Follows
        } else {
            Refusal::Mistake(reason())
        }
    }

    /// An entry is not imported.
    pub(super) fn leave_out(&mut self, entry: &EntryName) {
        if let Some(name) = &entry.name {
            let vhost = entry.vhost.clone().unwrap_or_default();
            self.left_out.insert((entry.kind, vhost, name.clone()));
        }
    }

    pub(super) fn check_vhosts(&self, name: &str) -> Result<(), Error> {
        let vhost = name.into();
        let room = check(self.limits.vhosts, || self.vhosts.len());
        room.map_err(|limit| Error::VHostLimit { vhost, limit })
    }

    pub(super) fn check_exchanges(&self, exchange: &Resource) -> Result<(), Error> {
        let count = || self.vhosts.values().map(|vhost| vhost.exchanges.len());
        let room = check(self.limits.exchanges, || count().sum());
        room.map_err(|limit| Error::NodeExchangeLimit {
            exchange: exchange.clone(),
            limit,
        })
    }

    pub(super) fn check_queues(&self, queue: &str) -> Result<(), Error> {
        let count = || self.vhosts.values().map(|vhost| vhost.queues.len());
        let room = check(self.limits.queues, || count().sum());
        room.map_err(|limit| Error::NodeQueueLimit {
            queue: queue.into(),
            limit,
        })
    }
}

impl VHostView {
    /// With the exchanges that each has.
    pub(super) fn new(name: &str, settings: VHostSettings) -> Self {
        let mut vhost = Self {
            name: name.into(),
            settings,
            exchanges: HashMap::new(),
            queues: HashMap::new(),
            bindings: HashSet::new(),
            policies: HashMap::new(),
            parameters: HashMap::new(),
        };
        predeclared().for_each(|spec| vhost.add_exchange(spec));
        vhost
    }

    fn of(vhost: &VHost) -> Self {
        let mut view = Self::new(&vhost.name, vhost.settings());
        for exchange in vhost.exchanges() {
            let name = exchange.spec.name.clone();
            view.exchanges.insert(name, ExchangeView::Live(exchange));
        }
        for queue in vhost.queues() {
            let name = queue.spec.name.clone();
            view.queues.insert(name, QueueView::Live(queue));
        }
        for kind in [PolicyKind::User, PolicyKind::Operator] {
            for policy in vhost.policies(kind) {
                let key = (kind, policy.name.clone());
                view.policies.insert(key, policy.to_json());
            }
        }
        for parameter in vhost.parameters() {
            let key = (parameter.component, parameter.name);
            view.parameters.insert(key, parameter.value);
        }
        view
    }

    /// False: it is there.
    fn add_own_exchange(&mut self, name: &str) -> bool {
        let is_new = !self.exchanges.contains_key(name);
        if is_new {
            self.add_exchange(builtin(name, "topic"));
        }
        is_new
    }

    pub(super) fn add_exchange(&mut self, spec: ExchangeSpec) {
        let name = spec.name.clone();
        let exchange = ExchangeView::Spec(Box::new(spec));
        self.exchanges.insert(name, exchange);
    }

    pub(super) fn add_queue(&mut self, spec: QueueSpec) {
        let name = spec.name.clone();
        self.queues.insert(name, QueueView::Spec(Box::new(spec)));
    }

    pub(super) fn has_binding(&self, binding: &BindingView) -> bool {
        self.bindings.contains(binding) || self.is_live(binding) == Some(true)
    }

    /// Whether a live exchange has that binding; `None` if one of the ends is not live.
    fn is_live(&self, binding: &BindingView) -> Option<bool> {
        let exchange = |name: &str| match self.exchanges.get(name) {
            Some(ExchangeView::Live(exchange)) => Some(exchange),
            _ => None,
        };
        let destination = match binding.kind {
            ResourceKind::Exchange => {
                Destination::Exchange(Arc::clone(exchange(&binding.destination)?))
            }
            ResourceKind::Queue => match self.queues.get(&binding.destination) {
                Some(QueueView::Live(queue)) => Destination::Queue(Arc::clone(queue)),
                _ => return None,
            },
        };
        let source = exchange(&binding.source)?;
        Some(source.contains(&Binding {
            source: binding.source.clone(),
            destination,
            routing_key: (*binding.routing_key).into(),
            arguments: binding.arguments.clone(),
        }))
    }

    pub(super) fn check_queues(&self, queue: &str) -> Result<(), Error> {
        let room = check(self.settings.limits.max_queues, || self.queues.len());
        room.map_err(|limit| Error::QueueLimit {
            queue: queue.into(),
            vhost: self.name.clone(),
            limit,
        })
    }
}

impl ExchangeView {
    pub(super) fn spec(&self) -> &ExchangeSpec {
        match self {
            Self::Live(exchange) => &exchange.spec,
            Self::Spec(spec) => spec,
        }
    }
}

impl QueueView {
    pub(super) fn spec(&self) -> &QueueSpec {
        match self {
            Self::Live(queue) => &queue.spec,
            Self::Spec(spec) => spec,
        }
    }
}

impl BindingView {
    fn stored(row: &state::BindingRow<'_>) -> Self {
        let (kind, destination) = match row.destination {
            DestinationName::Queue(name) => (ResourceKind::Queue, name),
            DestinationName::Exchange(name) => (ResourceKind::Exchange, name),
        };
        Self {
            source: row.source.into(),
            kind,
            destination: destination.into(),
            routing_key: row.routing_key.into(),
            arguments: row.arguments.clone(),
        }
    }
}

/// Refuses one more where there are as many as there may be.
fn check(limit: Option<u64>, count: impl FnOnce() -> usize) -> Result<(), u64> {
    match limit {
        Some(limit) if count() as u64 >= limit => Err(limit),
        _ => Ok(()),
    }
}
