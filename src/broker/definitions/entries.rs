//! The kinds of entries and what each one does.

use std::sync::Arc;

use amq_protocol::types::AMQPValue;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::json::table;
use super::limits;
use crate::auth::{ChangeError, HashingAlgorithm, PasswordHash, Permissions};
use crate::broker::arguments::QueueType;
use crate::broker::names::{NAME_BYTES_MAX, is_reserved};
use crate::broker::policy::{Policy, PolicyKind};
use crate::broker::vhost::{ExchangeBind, ExchangeDeclare, QueueBind, QueueDeclare, VHost};
use crate::broker::{Broker, NOBODY};
use crate::message::Ticket;
use crate::message::op::Op;

type Applied = Result<Ticket, String>;

#[derive(Deserialize)]
pub(super) struct UserEntry {
    name: String,
    password: Option<String>,
    password_hash: Option<String>,
    hashing_algorithm: Option<HashingAlgorithm>,
    #[serde(default)]
    tags: Tags,
    limits: Option<Value>,
}

/// A list, or as in older exports one text with commas.
#[derive(Deserialize)]
#[serde(untagged)]
enum Tags {
    List(Vec<String>),
    Text(String),
}

#[derive(Deserialize)]
pub(super) struct VHostEntry {
    name: String,
    #[serde(flatten)]
    own: VHostMetadata,
    #[serde(default)]
    metadata: VHostMetadata,
}

/// What is said of a virtual host: in the entry itself or, by newer exports, in its `metadata`.
#[derive(Default, Deserialize)]
struct VHostMetadata {
    description: Option<String>,
    tags: Option<Tags>,
    default_queue_type: Option<String>,
    protected_from_deletion: Option<bool>,
}

#[derive(Deserialize)]
pub(super) struct PermissionEntry {
    user: String,
    vhost: String,
    configure: String,
    write: String,
    read: String,
}

#[derive(Deserialize)]
pub(super) struct PolicyEntry {
    vhost: String,
    name: String,
    #[serde(flatten)]
    source: Map<String, Value>,
}

#[derive(Deserialize)]
pub(super) struct ParameterEntry {
    vhost: String,
    component: String,
    name: String,
    value: Value,
}

#[derive(Deserialize)]
pub(super) struct GlobalParameterEntry {
    name: String,
    value: Value,
}

#[derive(Deserialize)]
pub(super) struct ExchangeEntry {
    vhost: String,
    name: String,
    #[serde(rename = "type")]
    kind: String,
    durable: bool,
    auto_delete: bool,
    #[serde(default)]
    internal: bool,
    #[serde(default)]
    arguments: Map<String, Value>,
}

#[derive(Deserialize)]
pub(super) struct QueueEntry {
    vhost: String,
    name: String,
    durable: bool,
    auto_delete: bool,
    #[serde(rename = "type")]
    queue_type: Option<String>,
    #[serde(default)]
    arguments: Map<String, Value>,
}

#[derive(Deserialize)]
pub(super) struct BindingEntry {
    vhost: String,
    source: String,
    destination: String,
    destination_type: DestinationType,
    routing_key: String,
    #[serde(default)]
    arguments: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum DestinationType {
    Queue,
    Exchange,
}

impl UserEntry {
    pub(super) fn apply(broker: &Broker, entry: Self) -> Applied {
        let password = entry.password()?;
        let limits = entry.limits.as_ref().map(limits::of_user).transpose()?;
        let tags = entry.tags.list();
        let tags: Vec<_> = tags.iter().map(String::as_str).collect();
        let auth = &broker.auth;
        change(broker, |push| {
            match auth.add_user(push, &entry.name, password.clone(), &tags) {
                Err(ChangeError::UserExists(_)) => {
                    auth.change_password(push, &entry.name, password)?;
                    auth.set_tags(push, &entry.name, &tags)
                }
                added => added,
            }?;
            match limits {
                Some(limits) => auth.set_limits(push, &entry.name, limits),
                None => Ok(()),
            }
        })
    }

    fn password(&self) -> Result<PasswordHash, String> {
        match (&self.password_hash, &self.password) {
            // Such a user can only log in without a password.
            (Some(hash), _) if hash.is_empty() => Ok(PasswordHash::matching_nothing()),
            (Some(hash), _) => {
                let algorithm = self.hashing_algorithm.unwrap_or(HashingAlgorithm::Sha256);
                PasswordHash::decode(algorithm, hash)
                    .map_err(|error| format!("password_hash: {error}"))
            }
            (None, Some(password)) => {
                PasswordHash::new(password).map_err(|error| error.to_string())
            }
            (None, None) => Ok(PasswordHash::matching_nothing()),
        }
    }
}

impl Default for Tags {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl Tags {
    fn list(&self) -> Vec<String> {
        match self {
            Self::List(tags) => tags.clone(),
            Self::Text(tags) => {
                let tags = tags.split(',').map(str::trim);
                tags.filter(|tag| !tag.is_empty())
                    .map(str::to_owned)
                    .collect()
            }
        }
    }
}

impl VHostEntry {
    pub(super) fn apply(broker: &Broker, entry: Self) -> Applied {
        if entry.name.is_empty() || entry.name.len() > NAME_BYTES_MAX {
            return Err(format!("a name should have 1 to {NAME_BYTES_MAX} bytes"));
        }
        let VHostMetadata {
            description,
            tags,
            default_queue_type,
            protected_from_deletion,
        } = entry.own.or(entry.metadata);
        let named = default_queue_type.filter(|name| name != "undefined");
        let default_queue_type = named.as_deref().map(queue_type).transpose()?;
        let tags = tags.map(|tags| tags.list());
        let visit = broker.services.visit();
        let created = broker.create_vhost(&visit, &entry.name);
        let (vhost, ticket) = created.map_err(|error| error.to_string())?;
        let set = vhost.change_settings(&visit, |settings| {
            if let Some(description) = description {
                settings.description = description;
            }
            if let Some(tags) = tags {
                settings.tags = tags;
            }
            settings.default_queue_type = default_queue_type.or(settings.default_queue_type);
            let protected = settings.protected_from_deletion;
            settings.protected_from_deletion = protected_from_deletion.unwrap_or(protected);
        });
        set.map(|set| set.max(ticket))
            .map_err(|error| error.to_string())
    }
}

impl VHostMetadata {
    fn or(self, other: Self) -> Self {
        Self {
            description: self.description.or(other.description),
            tags: self.tags.or(other.tags),
            default_queue_type: self.default_queue_type.or(other.default_queue_type),
            protected_from_deletion: self
                .protected_from_deletion
                .or(other.protected_from_deletion),
        }
    }
}

impl PermissionEntry {
    pub(super) fn apply(broker: &Broker, entry: Self) -> Applied {
        find(broker, &entry.vhost)?;
        let permissions = Permissions {
            configure: entry.configure,
            write: entry.write,
            read: entry.read,
        };
        change(broker, |push| {
            broker
                .auth
                .set_permissions(push, &entry.user, &entry.vhost, &permissions)
        })
    }
}

impl PolicyEntry {
    pub(super) fn apply(broker: &Broker, entry: Self) -> Applied {
        set_policy(
            broker,
            PolicyKind::User,
            &entry.vhost,
            &entry.name,
            &entry.source,
        )
    }
}

impl ParameterEntry {
    pub(super) fn apply(broker: &Broker, entry: Self) -> Applied {
        match (entry.component.as_str(), &entry.value) {
            ("operator_policy", Value::Object(source)) => set_policy(
                broker,
                PolicyKind::Operator,
                &entry.vhost,
                &entry.name,
                source,
            ),
            ("vhost-limits", value) if entry.name == "limits" => {
                let limits = limits::of_vhost(value)?;
                let vhost = find(broker, &entry.vhost)?;
                let set = vhost.set_limits(&broker.services.visit(), limits);
                set.map_err(|error| error.to_string())
            }
            ("operator_policy", _) => Err("its value is not an object".into()),
            (component, _) => {
                let vhost = find(broker, &entry.vhost)?;
                let visit = broker.services.visit();
                let set = vhost.set_parameter(&visit, component, &entry.name, entry.value.clone());
                set.map_err(|error| error.to_string())
            }
        }
    }
}

impl GlobalParameterEntry {
    pub(super) fn apply(broker: &Broker, entry: Self) -> Applied {
        let visit = broker.services.visit();
        let set = broker.set_global_parameter(&visit, &entry.name, entry.value);
        set.map_err(|error| error.to_string())
    }
}

impl ExchangeEntry {
    pub(super) fn apply(broker: &Broker, entry: Self) -> Applied {
        let vhost = find(broker, &entry.vhost)?;
        if is_skipped("exchange", &entry.name, &entry.vhost)
            || vhost.exchange(&entry.name).is_some()
        {
            return Ok(Ticket::IMMEDIATE);
        }
        check_short("a name", &entry.name)?;
        let declare = ExchangeDeclare {
            name: entry.name.into(),
            kind: entry.kind.into(),
            durable: entry.durable,
            auto_delete: entry.auto_delete,
            internal: entry.internal,
            arguments: table(&entry.arguments)?,
            connection: NOBODY,
        };
        let declared = vhost.declare_exchange(&broker.services.visit(), declare);
        declared.map_err(|error| error.to_string())
    }
}

impl QueueEntry {
    pub(super) fn apply(broker: &Broker, entry: Self) -> Applied {
        let vhost = find(broker, &entry.vhost)?;
        if is_skipped("queue", &entry.name, &entry.vhost) || vhost.queue(&entry.name).is_some() {
            return Ok(Ticket::IMMEDIATE);
        }
        check_short("a name", &entry.name)?;
        let mut arguments = table(&entry.arguments)?;
        // Newer exports say the type beside the arguments. The default does not hold for every queue.
        let default = match entry.durable && !entry.auto_delete {
            true => vhost.default_queue_type(),
            false => QueueType::Classic,
        };
        if let Some(queue_type) = entry.queue_type.filter(|name| name != default.name())
            && !arguments.contains_key("x-queue-type")
        {
            let queue_type = AMQPValue::LongString(queue_type.into());
            arguments.insert("x-queue-type".into(), queue_type);
        }
        let declare = QueueDeclare {
            name: entry.name.into(),
            server_named: false,
            durable: entry.durable,
            exclusive: false,
            auto_delete: entry.auto_delete,
            arguments,
            connection: NOBODY,
        };
        let declared = vhost.declare_queue(&broker.services.visit(), declare);
        declared
            .map(|declared| declared.ticket)
            .map_err(|error| error.to_string())
    }
}

impl BindingEntry {
    pub(super) fn apply(broker: &Broker, entry: Self) -> Applied {
        let vhost = find(broker, &entry.vhost)?;
        // Every queue is bound there under its name.
        if entry.source.is_empty() {
            return Ok(Ticket::IMMEDIATE);
        }
        check_short("a routing key", &entry.routing_key)?;
        let arguments = table(&entry.arguments)?;
        let routing_key = entry.routing_key.into();
        let visit = broker.services.visit();
        let bound = match entry.destination_type {
            DestinationType::Queue => {
                let bind = QueueBind {
                    queue: entry.destination.into(),
                    exchange: entry.source.into(),
                    routing_key,
                    arguments,
                    connection: NOBODY,
                };
                vhost.bind_queue(&visit, bind)
            }
            DestinationType::Exchange => {
                let bind = ExchangeBind {
                    destination: entry.destination.into(),
                    source: entry.source.into(),
                    routing_key,
                    arguments,
                    connection: NOBODY,
                };
                vhost.bind_exchange(&visit, bind)
            }
        };
        bound.map_err(|error| error.to_string())
    }
}

/// Clients cannot say more than fits into a short string, and rows of the store have no room for it.
fn check_short(what: &str, text: &str) -> Result<(), String> {
    match text.len() {
        ..=NAME_BYTES_MAX => Ok(()),
        _ => Err(format!("{what} should have up to {NAME_BYTES_MAX} bytes")),
    }
}

/// A type by its name, or by that of RabbitMQ's module.
fn queue_type(name: &str) -> Result<QueueType, String> {
    let all = [QueueType::Classic, QueueType::Quorum, QueueType::Stream];
    all.into_iter()
        .find(|known| name == known.name() || name == known.module())
        .ok_or_else(|| format!("unsupported queue type '{name}'"))
}

fn find(broker: &Broker, vhost: &str) -> Result<Arc<VHost>, String> {
    let found = broker.vhost(vhost);
    found.ok_or_else(|| format!("virtual host '{vhost}' does not exist"))
}

/// Changes users or permissions in a visit.
fn change(
    broker: &Broker,
    act: impl FnOnce(&mut dyn FnMut(Op)) -> Result<(), ChangeError>,
) -> Applied {
    let visit = broker.services.visit();
    let mut ticket = Ticket::IMMEDIATE;
    let mut push = |op| ticket = visit.push(op);
    act(&mut push).map_err(|error| error.to_string())?;
    Ok(ticket)
}

fn set_policy(
    broker: &Broker,
    kind: PolicyKind,
    vhost: &str,
    name: &str,
    source: &Map<String, Value>,
) -> Applied {
    let vhost = find(broker, vhost)?;
    let policy = Policy::parse(kind, name, source).map_err(|refused| refused.0.join("; "))?;
    let set = vhost.set_policy(kind, policy);
    set.map_err(|error| error.to_string())
}

/// The default exchange and names of the broker are not imported, as in RabbitMQ.
fn is_skipped(what: &str, name: &str, vhost: &str) -> bool {
    let skipped = name.is_empty() || is_reserved(name);
    if skipped {
        tracing::warn!(
            name,
            vhost,
            "skipping import of an {what} with a reserved name"
        );
    }
    skipped
}
