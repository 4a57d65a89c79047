//! What the import of an entry does, once it is planned.

use std::sync::Arc;

use serde_json::Value;

use crate::auth::{ChangeError, PasswordHash, Permissions, UserLimits};
use crate::broker::Broker;
use crate::broker::arguments::QueueType;
use crate::broker::policy::{Policy, PolicyKind};
use crate::broker::vhost::{
    ExchangeBind, ExchangeDeclare, QueueBind, QueueDeclare, VHost, VHostLimits, VHostSettings,
};
use crate::message::Ticket;
use crate::message::op::Op;

/// A change of the broker that was found right against what there was.
pub(super) enum Step {
    User {
        name: String,
        password: PasswordHash,
        tags: Vec<String>,
        limits: Option<UserLimits>,
    },
    VHost {
        name: String,
        change: VHostChange,
    },
    Permissions {
        user: String,
        vhost: String,
        permissions: Permissions,
    },
    GlobalParameter {
        name: String,
        value: Value,
    },
    Policy {
        vhost: String,
        kind: PolicyKind,
        policy: Policy,
    },
    VHostLimits {
        vhost: String,
        limits: VHostLimits,
    },
    Parameter {
        vhost: String,
        component: String,
        name: String,
        value: Value,
    },
    OwnExchange {
        vhost: String,
        name: &'static str,
    },
    Exchange {
        vhost: String,
        declare: ExchangeDeclare,
    },
    Queue {
        vhost: String,
        declare: QueueDeclare,
    },
    QueueBinding {
        vhost: String,
        bind: QueueBind,
    },
    ExchangeBinding {
        vhost: String,
        bind: ExchangeBind,
    },
}

/// What an entry says of a virtual host.
pub(super) struct VHostChange {
    pub(super) description: Option<String>,
    pub(super) tags: Option<Vec<String>>,
    pub(super) default_queue_type: Option<QueueType>,
    pub(super) protected_from_deletion: Option<bool>,
}

impl VHostChange {
    /// Replaces what it says something of.
    pub(super) fn apply(&self, settings: &mut VHostSettings) {
        if let Some(description) = &self.description {
            settings.description.clone_from(description);
        }
        if let Some(tags) = &self.tags {
            settings.tags.clone_from(tags);
        }
        settings.default_queue_type = self.default_queue_type.or(settings.default_queue_type);
        let protected = settings.protected_from_deletion;
        settings.protected_from_deletion = self.protected_from_deletion.unwrap_or(protected);
    }
}

impl Step {
    /// Does it. Opens visits: the caller must have none open.
    ///
    /// # Errors
    /// What it was planned for is not there any more.
    pub(super) fn execute(self, broker: &Broker) -> Result<Ticket, String> {
        let find = |vhost: &str| find(broker, vhost);
        let visit = || broker.services.visit();
        let done = match self {
            Self::User {
                name,
                password,
                tags,
                limits,
            } => return set_user(broker, &name, password, &tags, limits),
            Self::Permissions {
                user,
                vhost,
                permissions,
            } => {
                find(&vhost)?;
                let auth = &broker.auth;
                return change(broker, |push| {
                    auth.set_permissions(push, &user, &vhost, &permissions)
                });
            }
            Self::VHost { name, change } => {
                let visit = visit();
                let created = broker.create_vhost(&visit, &name);
                created.and_then(|(vhost, ticket)| {
                    let set = vhost.change_settings(&visit, |settings| change.apply(settings));
                    set.map(|set| set.max(ticket))
                })
            }
            Self::GlobalParameter { name, value } => {
                broker.set_global_parameter(&visit(), &name, value)
            }
            Self::Policy {
                vhost,
                kind,
                policy,
            } => find(&vhost)?.set_policy(kind, policy),
            Self::VHostLimits { vhost, limits } => find(&vhost)?.set_limits(&visit(), limits),
            Self::Parameter {
                vhost,
                component,
                name,
                value,
            } => find(&vhost)?.set_parameter(&visit(), &component, &name, value),
            Self::OwnExchange { vhost, name } => {
                return Ok(find(&vhost)?.own_exchange(&visit(), name).1);
            }
            Self::Exchange { vhost, declare } => find(&vhost)?.declare_exchange(&visit(), declare),
            Self::Queue { vhost, declare } => {
                let declared = find(&vhost)?.declare_queue(&visit(), declare);
                declared.map(|declared| declared.ticket)
            }
            Self::QueueBinding { vhost, bind } => find(&vhost)?.bind_queue(&visit(), bind),
            Self::ExchangeBinding { vhost, bind } => find(&vhost)?.bind_exchange(&visit(), bind),
        };
        done.map_err(|error| error.to_string())
    }
}

fn find(broker: &Broker, vhost: &str) -> Result<Arc<VHost>, String> {
    let found = broker.vhost(vhost);
    found.ok_or_else(|| format!("virtual host '{vhost}' does not exist"))
}

fn set_user(
    broker: &Broker,
    name: &str,
    password: PasswordHash,
    tags: &[String],
    limits: Option<UserLimits>,
) -> Result<Ticket, String> {
    let tags: Vec<_> = tags.iter().map(String::as_str).collect();
    let auth = &broker.auth;
    change(broker, |push| {
        match auth.add_user(push, name, password.clone(), &tags) {
            Err(ChangeError::UserExists(_)) => {
                auth.change_password(push, name, password)?;
                auth.set_tags(push, name, &tags)
            }
            added => added,
        }?;
        match limits {
            Some(limits) => auth.set_limits(push, name, limits),
            None => Ok(()),
        }
    })
}

/// Changes users or permissions in a visit.
fn change(
    broker: &Broker,
    act: impl FnOnce(&mut dyn FnMut(Op)) -> Result<(), ChangeError>,
) -> Result<Ticket, String> {
    let visit = broker.services.visit();
    let mut ticket = Ticket::IMMEDIATE;
    let mut push = |op| ticket = visit.push(op);
    act(&mut push).map_err(|error| error.to_string())?;
    Ok(ticket)
}
