//! What is told of the things in a virtual host as they come and go, in RabbitMQ's words.

use super::VHost;
use crate::broker::ConnectionId;
use crate::broker::binding::Binding;
use crate::broker::exchange::Exchange;
use crate::broker::queue::Queue;

impl VHost {
    pub(super) fn tell_queue_created(&self, queue: &Queue, by: ConnectionId) {
        let (services, spec) = (&self.services, &queue.spec);
        services.tell("queue.created", |facts| {
            let owner = spec.exclusive_owner.map(|id| services.connection_pid(id));
            facts
                .text("user_who_performed_action", &services.events.user_of(by))
                .flag("exclusive", spec.exclusive_owner.is_some())
                .text("owner_pid", owner.as_deref().unwrap_or_default())
                .arguments("arguments", &spec.arguments.get().table())
                .flag("auto_delete", spec.auto_delete)
                .flag("durable", spec.durable)
                .text("name", &spec.name)
                .text("vhost", &self.name);
        });
    }

    pub(super) fn tell_queue_deleted(&self, queue: &Queue, by: ConnectionId) {
        self.tell_deleted("queue.deleted", &queue.spec.name, by);
    }

    pub(in crate::broker) fn tell_exchange_created(&self, exchange: &Exchange, by: ConnectionId) {
        let (services, spec) = (&self.services, &exchange.spec);
        services.tell("exchange.created", |facts| {
            let policy = self.policies_of_exchange(exchange).policy;
            let policy = policy.as_deref().map(|policy| &*policy.name);
            facts
                .text("user_who_performed_action", &services.events.user_of(by))
                .text("policy", policy.unwrap_or_default())
                .arguments("arguments", &spec.arguments.table())
                .flag("internal", spec.internal)
                .flag("auto_delete", spec.auto_delete)
                .flag("durable", spec.durable)
                .text("type", spec.kind.name)
                .text("name", &spec.name)
                .text("vhost", &self.name);
        });
    }

    pub(super) fn tell_exchange_deleted(&self, exchange: &Exchange, by: ConnectionId) {
        self.tell_deleted("exchange.deleted", &exchange.spec.name, by);
    }

    pub(super) fn tell_binding_created(&self, binding: &Binding, by: ConnectionId) {
        self.tell_binding("binding.created", binding, by);
    }

    pub(super) fn tell_binding_deleted(&self, binding: &Binding, by: ConnectionId) {
        self.tell_binding("binding.deleted", binding, by);
    }

    fn tell_deleted(&self, event: &str, name: &str, by: ConnectionId) {
        self.services.tell(event, |facts| {
            let user = self.services.events.user_of(by);
            facts
                .text("user_who_performed_action", &user)
                .text("name", name)
                .text("vhost", &self.name);
        });
    }

    fn tell_binding(&self, event: &str, binding: &Binding, by: ConnectionId) {
        self.services.tell(event, |facts| {
            let user = self.services.events.user_of(by);
            facts
                .text("user_who_performed_action", &user)
                .text("vhost", &self.name)
                .arguments("arguments", &binding.arguments.table())
                .text("routing_key", &binding.routing_key)
                .text("destination_kind", &binding.destination.kind().to_string())
                .text("destination_name", binding.destination.name())
                .text("source_kind", "exchange")
                .text("source_name", &binding.source);
        });
    }
}
