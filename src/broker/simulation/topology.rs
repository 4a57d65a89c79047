//! Steps: queues and policies that come and go.

use std::sync::Arc;

use amq_protocol::types::{AMQPValue, FieldTable};
use serde_json::{Map, Value, json};

use super::ledger::{Checked, promise};
use super::plan::{ALL, GRAVES, LATER, ONCE, REMEMBERED_MS};
use super::world::World;
use crate::broker::policy::{Policy, PolicyKind};
use crate::broker::queue::{DeleteCondition, Queue};
use crate::broker::vhost::{ExchangeDeclare, QueueBind, QueueDeclare};
use crate::broker::{ConnectionId, NOBODY};
use crate::clock::Clock;

/// The connection of all clients.
const CLIENT: ConnectionId = 1;

/// Policies, and who sets them.
const POLICIES: [(PolicyKind, &str); 3] = [
    (PolicyKind::User, "policy"),
    (PolicyKind::User, "another policy"),
    (PolicyKind::Operator, "operator"),
];

impl World {
    pub(super) fn any_queue(&mut self) -> Option<Arc<Queue>> {
        let queues = self.machine().queues();
        self.chance.one_of(&queues).cloned()
    }

    /// The exchanges, and the moment in which they are durable.
    pub(super) fn declare_exchanges(&mut self) -> bool {
        let text = |text: &str| AMQPValue::LongString(text.into());
        let arguments = |entries: &[(&str, AMQPValue)]| {
            let mut table = FieldTable::default();
            for (name, value) in entries {
                table.insert((*name).into(), value.clone());
            }
            table
        };
        let declared = [
            (ALL, "fanout", arguments(&[])),
            (GRAVES, "fanout", arguments(&[])),
            (
                LATER,
                "x-delayed-message",
                arguments(&[("x-delayed-type", text("direct"))]),
            ),
            (
                ONCE,
                "direct",
                arguments(&[
                    ("x-message-deduplication", AMQPValue::Boolean(true)),
                    ("x-cache-ttl", AMQPValue::LongLongInt(REMEMBERED_MS as i64)),
                    (
                        "x-cache-size",
                        AMQPValue::LongLongInt(self.remembered_max as i64),
                    ),
                ]),
            ),
        ];
        for (name, kind, arguments) in declared {
            let declare = ExchangeDeclare {
                name: name.into(),
                kind: kind.into(),
                durable: true,
                auto_delete: false,
                internal: false,
                arguments,
                connection: NOBODY,
            };
            let machine = self.machine();
            let declared = machine.vhost.declare_exchange(&machine.visit(), declare);
            declared.unwrap_or_else(|error| panic!("{error}"));
        }
        while self.store_step() {}
        true
    }

    /// Declares a queue that is not there, with its bindings.
    pub(super) fn declare(&mut self) -> bool {
        let machine = self.machine();
        let is_missing = |plan: &usize| machine.vhost.queue(&self.plans[*plan].name).is_none();
        let missing: Vec<usize> = (0..self.plans.len()).filter(is_missing).collect();
        let Some(at) = self.chance.one_of(&missing).copied() else {
            return false;
        };
        let plan = &self.plans[at];
        let machine = self.machine.as_ref().expect("it is running");
        let visit = machine.visit();
        let declare = QueueDeclare {
            name: plan.name.as_str().into(),
            server_named: false,
            durable: plan.durable,
            exclusive: plan.is_exclusive,
            auto_delete: plan.auto_delete,
            arguments: plan.arguments.clone(),
            connection: CLIENT,
        };
        let declared = machine.vhost.declare_queue(&visit, declare);
        let declared = declared.unwrap_or_else(|error| panic!("{error}: {:?}", plan.arguments));
        let id = declared.queue.spec.id;
        self.facts.declared.insert(id);
        self.used.insert(id, self.facts.now_ms);
        for exchange in &plan.bound_to {
            let bind = QueueBind {
                queue: plan.name.as_str().into(),
                exchange: (*exchange).into(),
                routing_key: plan.name.as_str().into(),
                arguments: FieldTable::default(),
                connection: CLIENT,
            };
            let bound = machine.vhost.bind_queue(&visit, bind);
            bound.unwrap_or_else(|error| panic!("{error}"));
            let bound = self.oracle.ledger.bound.entry(exchange).or_default();
            bound.insert(plan.name.clone());
        }
        true
    }

    pub(super) fn delete(&mut self) -> bool {
        let Some(queue) = self.any_queue() else {
            return false;
        };
        let machine = self.machine();
        let condition = DeleteCondition::default();
        let deleted =
            machine
                .vhost
                .delete_queue(&machine.visit(), &queue.spec.name, condition, CLIENT);
        deleted.unwrap_or_else(|error| panic!("{error}"));
        self.queue_went(&queue);
        true
    }

    /// A queue is deleted: its consumers and its bindings went with it.
    pub(super) fn queue_went(&mut self, queue: &Queue) {
        self.facts.deleted.insert(queue.spec.id);
        self.clients.forget(queue.spec.id);
        for queues in self.oracle.ledger.bound.values_mut() {
            queues.remove(&*queue.spec.name);
        }
    }

    /// The connection that declared them goes, and its exclusive queues with it.
    pub(super) fn hang_up(&mut self) -> bool {
        let machine = self.machine();
        let mut queues = machine.queues();
        while machine
            .vhost
            .delete_exclusive_queues(&machine.visit(), CLIENT)
        {}
        queues.retain(|queue| queue.spec.exclusive_owner.is_some());
        for queue in &queues {
            self.queue_went(queue);
        }
        !queues.is_empty()
    }

    /// The timers that are due ring. Queues go with that which nobody used for as long as they say. True: some rang.
    pub(super) fn ring(&mut self) -> bool {
        let before = self.machine().queues();
        let rang = self.machine().call_due() > 0;
        let unused: Vec<_> = before
            .iter()
            .filter(|queue| queue.is_deleted())
            .filter(|queue| self.is_overdue(queue))
            .cloned()
            .collect();
        for queue in unused {
            self.queue_went(&queue);
        }
        rang
    }

    /// Nobody has used the queue for as long as it says.
    pub(super) fn is_overdue(&self, queue: &Queue) -> bool {
        let id = queue.spec.id;
        let used_ms = self.used.get(&id).copied().unwrap_or_default();
        let is_used = self.clients.of(id).count() > 0;
        let expires_ms = queue.settings().expires_ms;
        !is_used && expires_ms.is_some_and(|ms| used_ms + ms <= self.clock.now_ms())
    }

    pub(super) fn purge(&mut self) -> Checked<bool> {
        let Some(queue) = self.any_queue() else {
            return Ok(false);
        };
        let ready = queue.counts().ready;
        let purged = queue.purge(&self.machine().visit());
        promise!(
            purged == ready,
            "purged {purged} of {ready} in {}",
            queue.spec.name
        );
        self.facts.purged.insert(queue.spec.id);
        Ok(true)
    }

    pub(super) fn set_policy(&mut self) -> bool {
        let pattern = ["^q[01]", "^q[2-9]", "^q"][self.chance.below(3)];
        // Dead letters that multiply at every death would be too many.
        let graves = self
            .plans
            .iter()
            .filter(|plan| plan.bound_to.contains(&GRAVES));
        let may_bury = graves.count() <= 1;
        let (kind, name) = POLICIES[self.chance.below(3)];
        let count = self.chance.between(1, 3);
        let mut definition = Map::new();
        for _ in 0..count {
            match kind {
                PolicyKind::User => self.draw_keys(may_bury, &mut definition),
                PolicyKind::Operator => self.draw_limits(&mut definition),
            }
        }
        let priority = self.chance.below(3);
        let targets = ["queues", "classic_queues", "quorum_queues"];
        let target = targets[self.chance.below(3)];
        let source = json!({
            "pattern": pattern, "definition": definition, "apply-to": target, "priority": priority,
        });
        let source = source.as_object().expect("it is one");
        let policy = Policy::parse(kind, name, source);
        let policy = policy.unwrap_or_else(|refused| panic!("{refused}: {source:?}"));
        let set = self.machine().vhost.set_policy(kind, policy);
        set.unwrap_or_else(|error| panic!("{error}"));
        true
    }

    /// One thing that a policy says. `may_bury`: also that what dies goes to all graves.
    fn draw_keys(&mut self, may_bury: bool, definition: &mut Map<String, Value>) {
        let names: Vec<String> = self.plans.iter().map(|plan| plan.name.clone()).collect();
        let chance = &mut self.chance;
        let mut put = |name: &str, value: Value| drop(definition.insert(name.into(), value));
        match chance.below(if may_bury { 14 } else { 13 }) {
            0 => {
                put("dead-letter-exchange", "".into());
                let target = chance.one_of(&names).expect("there are queues");
                put("dead-letter-routing-key", target.as_str().into());
            }
            1 | 2 => {
                put("message-deduplication", chance.percent(80).into());
                match chance.below(4) {
                    0 => put("cache-size", chance.between(1, 8).into()),
                    1 => put("cache-ttl", chance.between(50, 600).into()),
                    _ => {}
                }
            }
            3..13 => self.draw_limits(definition),
            _ => put("dead-letter-exchange", GRAVES.into()),
        }
    }

    /// One thing that operators may say too.
    fn draw_limits(&mut self, definition: &mut Map<String, Value>) {
        let chance = &mut self.chance;
        let mut put = |name: &str, value: Value| drop(definition.insert(name.into(), value));
        match chance.below(9) {
            0 => put("message-ttl", chance.between(1, 200).into()),
            1 => put("max-length", chance.between(0, 8).into()),
            2 => put("max-length-bytes", chance.between(0, 3_000).into()),
            3 => {
                let overflows = ["drop-head", "reject-publish", "reject-publish-dlx"];
                put("overflow", overflows[chance.below(3)].into());
            }
            4 => put("delivery-limit", chance.between(0, 3).into()),
            5 => {
                let types = ["disabled", "all", "failed", "returned"];
                put("delayed-retry-type", types[chance.below(4)].into());
                put("delayed-retry-min", chance.between(20, 100).into());
                put("delayed-retry-max", 300.into());
            }
            6 => put("consumer-timeout", chance.between(40, 300).into()),
            7 => put("expires", chance.between(200, 1_000).into()),
            _ if chance.percent(self.odds.rate) => {
                put("max-consume-rate", chance.between(0, 30).into());
            }
            _ => put("message-delay", chance.between(0, 100).into()),
        }
    }

    pub(super) fn clear_policy(&mut self) -> bool {
        let (kind, name) = POLICIES[self.chance.below(3)];
        self.machine().vhost.delete_policy(kind, name).is_ok()
    }
}
