//! Events of users, permissions, virtual hosts, policies and parameters.

use serde_json::{Value, json};

use super::Facts;
use crate::auth::{Change, UserLimits};
use crate::broker::policy::{Policy, PolicyKind};
use crate::broker::vhost::{VHost, VHostLimits};
use crate::broker::{NOBODY, Services};

/// RabbitMQ's component of operator policies among the parameters.
const OPERATOR_POLICY: &str = "operator_policy";

impl Services {
    /// A change of users or permissions.
    pub(in crate::broker) fn tell_auth(&self, change: &Change<'_>) {
        match *change {
            Change::UserCreated { user } => self.tell_user("user.created", user),
            Change::UserDeleted { user } => self.tell_user("user.deleted", user),
            Change::PasswordChanged { user } => self.tell_user("user.password.changed", user),
            Change::TagsSet { user, tags } => self.tell_internal("user.tags.set", |facts| {
                facts.text("name", user).texts("tags", tags.iter());
            }),
            Change::LimitsSet { user, limits } if limits == UserLimits::default() => {
                self.tell_internal("user.limits.cleared", |facts| {
                    facts.text("name", "limits").text("username", user);
                });
            }
            Change::LimitsSet { user, limits } => self.tell_internal("user.limits.set", |facts| {
                facts.text("name", "limits").text("username", user);
                each(facts, &json!(limits));
            }),
            Change::PermissionSet {
                user,
                vhost,
                permissions,
            } => self.tell_internal("permission.created", |facts| {
                facts.text("user", user).text("vhost", vhost);
                each(facts, &json!(permissions));
            }),
            Change::PermissionCleared { user, vhost } => {
                self.tell_internal("permission.deleted", |facts| {
                    facts.text("user", user).text("vhost", vhost);
                });
            }
        }
    }

    fn tell_user(&self, event: &str, user: &str) {
        self.tell_internal(event, |facts| {
            facts.text("name", user);
        });
    }

    /// A virtual host was deleted.
    pub(in crate::broker) fn tell_vhost_deleted(&self, name: &str) {
        self.tell_internal("vhost.deleted", |facts| {
            facts.text("name", name);
        });
    }

    /// A parameter was set, or cleared where it has no value. Global ones are in no virtual host.
    pub(in crate::broker) fn tell_parameter(
        &self,
        vhost: Option<&str>,
        component: &str,
        name: &str,
        value: Option<&Value>,
    ) {
        let event = match value {
            Some(_) => "parameter.set",
            None => "parameter.cleared",
        };
        self.tell_internal(event, |facts| {
            facts.text("component", component).text("name", name);
            if let Some(vhost) = vhost {
                facts.text("vhost", vhost);
            }
            if let Some(value) = value {
                facts.json("value", value);
            }
        });
    }

    /// Something that no connection asked for.
    fn tell_internal(&self, event: &str, say: impl FnOnce(&mut Facts)) {
        self.tell(event, |facts| {
            let user = self.events.user_of(NOBODY);
            facts.text("user_who_performed_action", &user);
            say(facts);
        });
    }
}

impl VHost {
    /// It was created.
    pub(in crate::broker) fn tell_created(&self) {
        for exchange in self.exchanges() {
            self.tell_exchange_created(&exchange, NOBODY);
        }
        let settings = self.settings();
        self.services.tell_internal("vhost.created", |facts| {
            let queue_type = settings.default_queue_type;
            facts
                .text("name", &self.name)
                .flag("tracing", self.firehose.is_on())
                .text(
                    "default_queue_type",
                    queue_type.map_or("undefined", |queue_type| queue_type.name()),
                );
        });
    }

    /// It has these limits.
    pub(in crate::broker) fn tell_limits(&self, limits: VHostLimits) {
        let value = json!(limits);
        let services = &self.services;
        services.tell_parameter(Some(&self.name), "vhost-limits", "limits", Some(&value));
        services.tell_internal("vhost.limits.set", |facts| {
            facts.text("name", "limits").text("vhost", &self.name);
            each(facts, &value);
        });
    }

    /// A policy was set. As in RabbitMQ those of operators are parameters as well.
    pub(in crate::broker) fn tell_policy_set(&self, kind: PolicyKind, policy: &Policy) {
        let services = &self.services;
        let value = policy.to_json();
        if kind == PolicyKind::Operator {
            let vhost = Some(&*self.name);
            services.tell_parameter(vhost, OPERATOR_POLICY, &policy.name, Some(&value));
        }
        services.tell_internal("policy.set", |facts| {
            facts.text("name", &policy.name).text("vhost", &self.name);
            each(facts, &value);
        });
    }

    /// A policy was deleted.
    pub(in crate::broker) fn tell_policy_cleared(&self, kind: PolicyKind, name: &str) {
        let services = &self.services;
        let event = match kind {
            PolicyKind::User => "policy.cleared",
            PolicyKind::Operator => {
                services.tell_parameter(Some(&self.name), OPERATOR_POLICY, name, None);
                "operator.policy.cleared"
            }
        };
        services.tell_internal(event, |facts| {
            facts.text("name", name).text("vhost", &self.name);
        });
    }
}

/// Each entry of an object as a fact of its own.
fn each(facts: &mut Facts, object: &Value) {
    for (name, value) in object.as_object().into_iter().flatten() {
        facts.json(name, value);
    }
}
