//! What may happen next.

use std::sync::Arc;

use amq_protocol::types::{AMQPValue, FieldTable};
use serde_json::json;

use super::clients::{Clients, Consumer, seen};
use super::ledger::{Checked, promise};
use super::oracle::End;
use super::plan::{ALL, GRAVES, LATER, ONCE, REMEMBERED_MS};
use super::world::World;
use crate::broker::NOBODY;
use crate::broker::policy::{Policy, PolicyKind};
use crate::broker::queue::{ConsumerSpec, DeleteCondition, GetOutcome, Queue, Return};
use crate::broker::vhost::{ExchangeDeclare, QueueBind, QueueDeclare};
use crate::message::{QueueId, Seq};

/// Longest time that passes at once, in ms.
const PASSES_MS_MAX: u64 = 80;

/// Most consumers of a queue.
const CONSUMERS_MAX: usize = 3;

/// With more copies than this none is rejected: each rejection may bring several.
const MANY: usize = 300;

const POLICY: &str = "policy";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    // Clients.
    Declare,
    Publish,
    Consume,
    Cancel,
    Drain,
    Get,
    End,
    Purge,
    Delete,
    SetPolicy,
    ClearPolicy,
    // What the broker's threads do.
    Activate,
    Timers,
    Bury,
    Load,
    Relieve,
    Store,
    Upkeep,
    Flush,
    // The world.
    TimePasses,
    LosePower,
    Restart,
    // The beginning and the end of a run.
    DeclareExchanges,
    CancelAll,
    GiveAllBack,
    TakeAll,
}

impl Step {
    /// The steps of a run, by their weights.
    pub(super) const CHOICES: &[(usize, Self)] = &[
        (20, Self::Declare),
        (120, Self::Publish),
        (20, Self::Consume),
        (8, Self::Cancel),
        (30, Self::Drain),
        (25, Self::Get),
        (100, Self::End),
        (2, Self::Purge),
        (2, Self::Delete),
        (3, Self::SetPolicy),
        (3, Self::ClearPolicy),
        (30, Self::Activate),
        (60, Self::Timers),
        (60, Self::Bury),
        (40, Self::Load),
        (10, Self::Relieve),
        (200, Self::Store),
        (3, Self::Upkeep),
        (2, Self::Flush),
        (60, Self::TimePasses),
        (6, Self::LosePower),
        (3, Self::Restart),
    ];

    /// What is left to do when no client does anything. Memory is short whenever something was read.
    pub(super) const OF_THREADS: &[Self] = &[
        Self::Timers,
        Self::Load,
        Self::Relieve,
        Self::Bury,
        Self::Activate,
        Self::Store,
    ];
}

impl World {
    /// Does it. True: there was something to do.
    pub(super) fn take(&mut self, step: Step) -> Checked<bool> {
        match step {
            Step::Declare => Ok(self.declare()),
            Step::Publish => self.publish(),
            Step::Consume => Ok(self.consume()),
            Step::Cancel => Ok(self.cancel()),
            Step::Drain => Ok(self.drain_outbox()),
            Step::Get => Ok(self.get()),
            Step::End => Ok(self.end_some()),
            Step::Purge => self.purge(),
            Step::Delete => Ok(self.delete()),
            Step::SetPolicy => Ok(self.set_policy()),
            Step::ClearPolicy => Ok(self.clear_policy()),
            Step::Activate => Ok(self.activate()),
            Step::Timers => Ok(self.machine().call_due() > 0),
            Step::Bury => {
                self.facts.buried = self.machine_mut().bury();
                Ok(self.facts.buried.is_some())
            }
            Step::Load => Ok(self.machine().load()),
            Step::Relieve => {
                self.machine().relieve();
                Ok(false)
            }
            Step::Store => Ok(self.store_step()),
            Step::Upkeep => {
                self.machine_mut().store.upkeep();
                Ok(false)
            }
            Step::Flush => {
                self.flush();
                Ok(false)
            }
            Step::TimePasses => {
                let ms = self.chance.between(1, PASSES_MS_MAX);
                self.clock.advance(ms);
                Ok(true)
            }
            Step::LosePower => self.lose_power().map(|()| true),
            Step::Restart => self.restart().map(|()| true),
            Step::DeclareExchanges => Ok(self.declare_exchanges()),
            Step::CancelAll => Ok(self.cancel()),
            Step::GiveAllBack => Ok(self.end_all()),
            Step::TakeAll => Ok(self.take_all()),
        }
    }

    fn any_queue(&mut self) -> Option<Arc<Queue>> {
        let queues = self.machine().queues();
        self.chance.one_of(&queues).cloned()
    }

    /// The exchanges, and the moment in which they are durable.
    fn declare_exchanges(&mut self) -> bool {
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
    fn declare(&mut self) -> bool {
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
            exclusive: false,
            auto_delete: false,
            arguments: plan.arguments.clone(),
            connection: 1,
        };
        let declared = machine.vhost.declare_queue(&visit, declare);
        let declared = declared.unwrap_or_else(|error| panic!("{error}: {:?}", plan.arguments));
        self.facts.declared.insert(declared.queue.spec.id);
        for exchange in &plan.bound_to {
            let bind = QueueBind {
                queue: plan.name.as_str().into(),
                exchange: (*exchange).into(),
                routing_key: plan.name.as_str().into(),
                arguments: FieldTable::default(),
                connection: 1,
            };
            let bound = machine.vhost.bind_queue(&visit, bind);
            bound.unwrap_or_else(|error| panic!("{error}"));
            let bound = self.oracle.ledger.bound.entry(exchange).or_default();
            bound.insert(plan.name.clone());
        }
        true
    }

    fn delete(&mut self) -> bool {
        let Some(queue) = self.any_queue() else {
            return false;
        };
        let machine = self.machine();
        let condition = DeleteCondition::default();
        let deleted = machine
            .vhost
            .delete_queue(&machine.visit(), &queue.spec.name, condition, 1);
        deleted.unwrap_or_else(|error| panic!("{error}"));
        self.facts.deleted.insert(queue.spec.id);
        self.clients.forget(queue.spec.id);
        for queues in self.oracle.ledger.bound.values_mut() {
            queues.remove(&*queue.spec.name);
        }
        true
    }

    fn purge(&mut self) -> Checked<bool> {
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

    fn set_policy(&mut self) -> bool {
        let pattern = ["^q[01]", "^q[2-9]", "^q"][self.chance.below(3)];
        // Dead letters that multiply at every death would be too many.
        let graves = self
            .plans
            .iter()
            .filter(|plan| plan.bound_to.contains(&GRAVES));
        let kinds = if graves.count() > 1 { 2 } else { 3 };
        let definition = match self.chance.below(kinds) {
            0 => json!({ "message-ttl": self.chance.between(1, 200) }),
            1 => json!({ "max-length": self.chance.between(0, 8) }),
            _ => json!({ "dead-letter-exchange": GRAVES }),
        };
        let source = json!({ "pattern": pattern, "definition": definition, "apply-to": "queues" });
        let source = source.as_object().expect("it is one");
        let policy = Policy::parse(PolicyKind::User, POLICY, source);
        let policy = policy.unwrap_or_else(|refused| panic!("{refused}"));
        let set = self.machine().vhost.set_policy(PolicyKind::User, policy);
        set.unwrap_or_else(|error| panic!("{error}"));
        true
    }

    fn clear_policy(&self) -> bool {
        let vhost = &self.machine().vhost;
        vhost.delete_policy(PolicyKind::User, POLICY).is_ok()
    }

    fn consume(&mut self) -> bool {
        let Some(queue) = self.any_queue() else {
            return false;
        };
        let consumers = self.clients.consumers.values();
        let of_it = consumers.filter(|consumer| consumer.queue.spec.id == queue.spec.id);
        if of_it.count() >= CONSUMERS_MAX {
            return false;
        }
        let no_ack = self.chance.percent(15);
        let prefetch = self.chance.below(5) as u32;
        let room = self.chance.below(12);
        let outbox = self.clients.outbox(queue.spec.id, no_ack, room);
        let spec = ConsumerSpec {
            sink: outbox.clone(),
            no_ack,
            exclusive: false,
            priority: 0,
            prefetch,
            timeout_ms: None,
        };
        let subscribed = queue.subscribe(&self.machine().visit(), spec);
        let (id, ticket) = subscribed.expect("nobody is exclusive");
        self.clients.add(Consumer {
            number: Clients::number_of(&outbox),
            queue,
            id,
            outbox,
            prefetch: if no_ack { 0 } else { prefetch },
            waits_for: Some(ticket),
        });
        true
    }

    /// Deliveries begin to a consumer whose queue has its mark on the disk.
    fn activate(&mut self) -> bool {
        let store = self.machine().services.store.clone();
        let mut consumers = self.clients.consumers.values_mut();
        let may_begin = |consumer: &&mut Consumer| {
            consumer
                .waits_for
                .is_some_and(|ticket| store.is_durable(ticket))
        };
        let Some(consumer) = consumers.find(may_begin) else {
            return false;
        };
        consumer.waits_for = None;
        let (queue, id) = (consumer.queue.clone(), consumer.id);
        let more = queue.activate(&self.machine().visit(), id);
        self.machine().pump(&queue, more);
        true
    }

    /// A consumer goes. What it holds stays with its channel.
    fn cancel(&mut self) -> bool {
        let numbers: Vec<usize> = self.clients.consumers.keys().copied().collect();
        let Some(number) = self.chance.one_of(&numbers) else {
            return false;
        };
        let consumer = self.clients.consumers.remove(number).expect("it is there");
        consumer.queue.cancel(&self.machine().visit(), consumer.id);
        self.machine().pump(&consumer.queue, true);
        true
    }

    /// An outbox is written to its socket.
    fn drain_outbox(&mut self) -> bool {
        let numbers: Vec<usize> = self.clients.consumers.keys().copied().collect();
        let Some(number) = self.chance.one_of(&numbers) else {
            return false;
        };
        let room = self.chance.between(1, 12) as usize;
        let consumer = &self.clients.consumers[number];
        if consumer.outbox.drain(room) {
            let more = consumer.queue.resume(&self.machine().visit(), consumer.id);
            self.machine().pump(&consumer.queue, more);
        }
        true
    }

    fn get(&mut self) -> bool {
        let no_ack = self.chance.percent(30);
        let queue = self.any_queue();
        queue.is_some_and(|queue| self.get_from(&queue, no_ack))
    }

    fn get_from(&self, queue: &Arc<Queue>, no_ack: bool) -> bool {
        let id = queue.spec.id;
        let machine = self.machine();
        let got = queue.get(&machine.visit(), no_ack, |delivery, _| {
            seen(None, id, no_ack, &delivery)
        });
        machine.pump(queue, true);
        let GetOutcome::Message(delivered) = got else {
            return false;
        };
        // Before what the pump delivered.
        self.clients.log.lock().deliveries.insert(0, delivered);
        true
    }

    /// Some deliveries of one consumer come to an end.
    fn end_some(&mut self) -> bool {
        let holders = self.clients.holders();
        let Some((queue, number)) = self.chance.one_of(&holders).copied() else {
            return false;
        };
        let held = self.clients.held_by(queue, number);
        let count = self.chance.between(1, held.len() as u64) as usize;
        let from = self.chance.below(held.len() - count + 1);
        let discards = match self.oracle.ledger.count() {
            0..MANY => 20,
            _ => 0,
        };
        let how = self.chance.weighted(&[
            (50, End::Ack),
            (discards, End::Discard),
            (20, End::Requeue(Return::Released)),
            (20, End::Requeue(Return::Failed)),
        ]);
        self.end(queue, &held[from..from + count], how);
        true
    }

    fn end_all(&mut self) -> bool {
        let holders = self.clients.holders();
        let Some((queue, number)) = holders.first().copied() else {
            return false;
        };
        let held = self.clients.held_by(queue, number);
        self.end(queue, &held, End::Requeue(Return::Failed));
        true
    }

    fn end(&mut self, queue: QueueId, seqs: &[Seq], how: End) {
        let id = self.clients.end(queue, seqs);
        let queues = self.machine().queues();
        let queue = queues.into_iter().find(|known| known.spec.id == queue);
        let queue = queue.expect("what is held of a queue goes with it");
        let visit = self.machine().visit();
        let more = match how {
            End::Ack => queue.settle(&visit, id, seqs),
            End::Discard => queue.discard(&visit, id, seqs),
            End::Requeue(how) => queue.requeue(&visit, id, seqs, how),
        };
        drop(visit);
        self.machine().pump(&queue, more);
        let copies = seqs.iter().map(|seq| (queue.spec.id, *seq));
        self.facts.ended.extend(copies.map(|copy| (copy, how)));
    }

    /// Takes everything out of all queues that is ready.
    fn take_all(&self) -> bool {
        for queue in self.machine().queues() {
            while self.get_from(&queue, true) || self.machine().load() {}
        }
        true
    }
}
