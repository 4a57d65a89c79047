//! Export of definitions: what [`Broker::import_definitions`] reads, in the words of RabbitMQ's own exports.

use serde_json::{Map, Value, json};

use super::json::object;
use crate::broker::Broker;
use crate::broker::binding::{Binding, Destination};
use crate::broker::exchange::Exchange;
use crate::broker::names::{DEFAULT_EXCHANGE, is_reserved};
use crate::broker::policy::PolicyKind;
use crate::broker::queue::Queue;
use crate::broker::vhost::{VHost, VHostLimits};

impl Broker {
    /// All users, virtual hosts, permissions, parameters and policies, and what is declared: exclusive queues, which go
    /// with their connections, and predeclared exchanges are left out. `version` is the version of RabbitMQ that the
    /// broker claims to be. Sorted, so that the same definitions have the same text.
    pub fn export_definitions(&self, version: &str) -> Value {
        let mut definitions = head(version);
        definitions.insert("users".into(), self.users());
        let mut vhosts = self.vhosts();
        vhosts.sort_by(|a, b| a.name.cmp(&b.name));
        let entries = vhosts.iter().map(|vhost| vhost_entry(vhost));
        definitions.insert("vhosts".into(), entries.collect());
        definitions.insert("permissions".into(), self.permissions());
        definitions.insert("topic_permissions".into(), json!([]));
        let parameters = self.global_parameters().into_iter();
        let parameters = parameters.map(|(name, value)| json!({"name": &*name, "value": value}));
        definitions.insert("global_parameters".into(), parameters.collect());
        let mut all = Map::new();
        for vhost in &vhosts {
            for (category, entries) in contents(vhost) {
                let name = Value::from(&*vhost.name);
                let entries = entries.into_iter().map(|mut entry| {
                    entry.insert("vhost".into(), name.clone());
                    Value::Object(entry)
                });
                let list = all.entry(category).or_insert_with(|| json!([]));
                if let Value::Array(list) = list {
                    list.extend(entries);
                }
            }
        }
        definitions.extend(all);
        Value::Object(definitions)
    }

    fn users(&self) -> Value {
        let users = self.auth.users();
        let entries = users.iter().map(|user| {
            let mut entry = json!(user.password);
            entry["name"] = json!(&*user.name);
            entry["tags"] = user.tags.iter().map(|tag| json!(&**tag)).collect();
            entry["limits"] = json!(user.limits);
            entry
        });
        entries.collect()
    }

    fn permissions(&self) -> Value {
        let users = self.auth.users();
        let entries = users.iter().flat_map(|user| {
            let permissions = self.auth.permissions(&user.name).into_iter();
            permissions.map(|(vhost, permissions)| {
                let mut entry = json!(permissions);
                entry["user"] = json!(&*user.name);
                entry["vhost"] = json!(&*vhost);
                entry
            })
        });
        entries.collect()
    }
}

impl VHost {
    /// What [`Broker::export_definitions`] says of this virtual host alone, without its name in each entry.
    pub fn export_definitions(&self, version: &str) -> Value {
        let mut definitions = head(version);
        for (category, entries) in contents(self) {
            let entries = entries.into_iter().map(Value::Object);
            definitions.insert(category.into(), entries.collect());
        }
        Value::Object(definitions)
    }
}

fn head(version: &str) -> Map<String, Value> {
    let head = json!({
        "rabbit_version": version,
        "rabbitmq_version": version,
        "product_name": "Leveret",
        "product_version": env!("CARGO_PKG_VERSION"),
    });
    match head {
        Value::Object(head) => head,
        _ => Map::new(),
    }
}

fn vhost_entry(vhost: &VHost) -> Value {
    let settings = vhost.settings();
    let mut metadata = json!({"description": settings.description, "tags": settings.tags});
    if let Some(queue_type) = settings.default_queue_type {
        metadata["default_queue_type"] = queue_type.name().into();
    }
    if settings.protected_from_deletion {
        metadata["protected_from_deletion"] = true.into();
    }
    let mut entry = metadata.clone();
    entry["name"] = json!(&*vhost.name);
    entry["metadata"] = metadata;
    entry
}

type Entry = Map<String, Value>;

/// The categories of what is in a virtual host.
fn contents(vhost: &VHost) -> [(&'static str, Vec<Entry>); 5] {
    [
        ("parameters", parameters(vhost)),
        ("policies", policies(vhost)),
        ("queues", queues(vhost)),
        ("exchanges", exchanges(vhost)),
        ("bindings", bindings(vhost)),
    ]
}

fn parameters(vhost: &VHost) -> Vec<Entry> {
    let entry = |component: &str, name: &str, value: Value| {
        let entry = [("component", component.into()), ("name", name.into())];
        let entry = entry.into_iter().chain([("value", value)]);
        entry.map(|(key, value)| (key.to_owned(), value)).collect()
    };
    let limits = vhost.settings().limits;
    let limits =
        (limits != VHostLimits::default()).then(|| entry("vhost-limits", "limits", json!(limits)));
    let mut operators = vhost.policies(PolicyKind::Operator);
    operators.sort_by(|a, b| a.name.cmp(&b.name));
    let operators = operators
        .iter()
        .map(|policy| entry("operator_policy", &policy.name, policy.to_json()));
    let others = vhost.parameters();
    let others = others
        .into_iter()
        .map(|parameter| entry(&parameter.component, &parameter.name, parameter.value));
    limits.into_iter().chain(operators).chain(others).collect()
}

fn policies(vhost: &VHost) -> Vec<Entry> {
    let mut policies = vhost.policies(PolicyKind::User);
    policies.sort_by(|a, b| a.name.cmp(&b.name));
    let entries = policies.iter().map(|policy| {
        let mut entry = fields(policy.to_json());
        entry.insert("name".into(), json!(&*policy.name));
        entry
    });
    entries.collect()
}

fn queues(vhost: &VHost) -> Vec<Entry> {
    let mut queues = vhost.queues();
    queues.retain(|queue| is_exported(queue));
    queues.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
    let entries = queues.iter().map(|queue| {
        let spec = &queue.spec;
        let arguments = spec.arguments.get();
        fields(json!({
            "name": &*spec.name,
            "durable": spec.durable,
            "auto_delete": spec.auto_delete,
            "type": arguments.queue_type().name(),
            "arguments": object(&arguments.table()),
        }))
    });
    entries.collect()
}

fn exchanges(vhost: &VHost) -> Vec<Entry> {
    let is_declared = |exchange: &Exchange| {
        let name = &exchange.spec.name;
        **name != *DEFAULT_EXCHANGE && !is_reserved(name)
    };
    let mut exchanges = vhost.exchanges();
    exchanges.retain(|exchange| is_declared(exchange));
    exchanges.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
    let entries = exchanges.iter().map(|exchange| {
        let spec = &exchange.spec;
        fields(json!({
            "name": &*spec.name,
            "type": spec.kind.name,
            "durable": spec.durable,
            "auto_delete": spec.auto_delete,
            "internal": spec.internal,
            "arguments": object(&spec.arguments.table()),
        }))
    });
    entries.collect()
}

fn bindings(vhost: &VHost) -> Vec<Entry> {
    let order = |binding: &Binding| {
        let destination = &binding.destination;
        (
            binding.source.clone(),
            destination.kind(),
            destination.name().clone(),
            binding.routing_key.clone(),
            binding.arguments.clone(),
        )
    };
    let mut bindings = vhost.bindings();
    bindings.retain(|binding| match &binding.destination {
        Destination::Queue(queue) => is_exported(queue),
        Destination::Exchange(_) => true,
    });
    bindings.sort_by_cached_key(|binding| order(binding));
    let entries = bindings.iter().map(|binding| {
        fields(json!({
            "source": &*binding.source,
            "destination": &**binding.destination.name(),
            "destination_type": binding.destination.kind().to_string(),
            "routing_key": &*binding.routing_key,
            "arguments": object(&binding.arguments.table()),
        }))
    });
    entries.collect()
}

/// An exclusive queue is its connection's alone, and one with a name of the broker cannot be declared by it.
fn is_exported(queue: &Queue) -> bool {
    queue.spec.exclusive_owner.is_none() && !is_reserved(&queue.spec.name)
}

fn fields(value: Value) -> Entry {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}
