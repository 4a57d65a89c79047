//! Steps: consumers, and what becomes of what they hold.

use std::sync::Arc;

use super::clients::{Clients, Consumer, seen};
use super::ledger::{Checked, promise};
use super::oracle::End;
use super::world::World;
use crate::broker::queue::{ConsumerSpec, GetOutcome, Queue, Return};
use crate::message::{QueueId, Seq};

/// Most consumers of a queue.
const CONSUMERS_MAX: usize = 3;

/// With more copies than this none is rejected: each rejection may bring several.
const MANY: usize = 300;

impl World {
    pub(super) fn consume(&mut self) -> Checked<bool> {
        let Some(queue) = self.any_queue() else {
            return Ok(false);
        };
        let id = queue.spec.id;
        if self.clients.of(id).count() >= CONSUMERS_MAX {
            return Ok(false);
        }
        let chance = &mut self.chance;
        let no_ack = chance.percent(15);
        let prefetch = chance.below(5) as u32;
        let room = chance.below(12);
        let exclusive = chance.percent(6);
        let priority = match chance.percent(self.odds.ranked) {
            true => chance.below(3) as i32 - 1,
            false => 0,
        };
        let own_timeout_ms = chance.percent(10).then(|| chance.between(0, 200));
        let settings = queue.settings();
        let outbox = self.clients.outbox(id, no_ack, room);
        let spec = ConsumerSpec {
            sink: outbox.clone(),
            no_ack,
            exclusive,
            priority,
            prefetch,
            timeout_ms: own_timeout_ms,
        };
        let subscribed = queue.subscribe(&self.machine().visit(), spec);
        let is_taken = self.clients.of(id).any(|other| other.is_exclusive);
        let is_shared = self.clients.of(id).count() > 0 || settings.single_active_consumer;
        promise!(
            subscribed.is_err() == (is_taken || (exclusive && is_shared)),
            "a consumer of {} (exclusive: {exclusive}) comes to {subscribed:?}",
            queue.spec.name
        );
        let Ok((id, ticket)) = subscribed else {
            return Ok(true);
        };
        self.consumed.insert(queue.spec.id);
        let timeout_ms = own_timeout_ms.or(settings.consumer_timeout_ms);
        let number = Clients::number_of(&outbox);
        self.history
            .push(format!("consumer {number} of {}", queue.spec.id));
        self.clients.add(Consumer {
            number: Clients::number_of(&outbox),
            queue,
            id,
            outbox,
            prefetch: if no_ack { 0 } else { prefetch },
            priority,
            is_exclusive: exclusive,
            timeout_ms: timeout_ms.filter(|ms| *ms > 0),
            is_late: false,
            waits_for: Some(ticket),
        });
        Ok(true)
    }

    /// Deliveries begin to a consumer whose queue has its mark on the disk.
    pub(super) fn activate(&mut self) -> bool {
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
    pub(super) fn cancel(&mut self) -> Checked<bool> {
        let consumers = self.clients.consumers.values();
        let numbers: Vec<usize> = consumers
            .filter(|consumer| !consumer.is_late)
            .map(|consumer| consumer.number)
            .collect();
        let Some(number) = self.chance.one_of(&numbers) else {
            return Ok(false);
        };
        self.take_off(*number).map(|()| true)
    }

    fn take_off(&mut self, number: usize) -> Checked {
        let consumer = self.clients.consumers.remove(&number);
        let Consumer { queue, id, .. } = consumer.expect("it is there");
        let others = self.clients.of(queue.spec.id).count();
        let machine = self.machine();
        let visit = machine.visit();
        let is_unused = queue.cancel(&visit, id);
        promise!(
            is_unused == (queue.spec.auto_delete && others == 0),
            "{} has {others} consumers left; it is unused: {is_unused}",
            queue.spec.name
        );
        if is_unused {
            machine.vhost.queue_became_unused(&visit, &queue);
            promise!(queue.is_deleted(), "{} stays", queue.spec.name);
        }
        drop(visit);
        self.used.insert(queue.spec.id, self.facts.now_ms);
        if is_unused {
            self.queue_went(&queue);
        }
        Ok(())
    }

    /// A consumer that took too long gives back what it holds and goes, as its channel does with it.
    pub(super) fn give_back_late(&mut self) -> Checked<bool> {
        let Some(late) = self.clients.late() else {
            return Ok(false);
        };
        let (queue, number) = (late.queue.spec.id, late.number);
        let held = self.clients.held_by(queue, Some(number));
        if !held.is_empty() {
            self.end(queue, &held, End::Requeue(Return::Failed));
        }
        self.take_off(number).map(|()| true)
    }

    /// These are told that they held something for too long, and only those that did.
    pub(super) fn time_out(&mut self, numbers: &[usize]) -> Checked {
        for number in numbers {
            let since_ms = self.clients.holds_since_ms(*number);
            let consumer = self.clients.consumers.get_mut(number);
            let consumer = consumer.expect("it is there until its channel takes it off");
            let deadline_ms = since_ms.zip(consumer.timeout_ms);
            let deadline_ms = deadline_ms.map(|(since, ms)| since + ms);
            promise!(
                deadline_ms.is_some_and(|at_ms| at_ms <= self.facts.now_ms),
                "consumer {number} is cancelled; its time is up at {deadline_ms:?}"
            );
            promise!(!consumer.is_late, "consumer {number} is cancelled again");
            consumer.is_late = true;
        }
        Ok(())
    }

    /// An outbox is written to its socket.
    pub(super) fn drain_outbox(&mut self) -> bool {
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

    pub(super) fn get(&mut self) -> bool {
        let no_ack = self.chance.percent(30);
        let Some(queue) = self.any_queue() else {
            return false;
        };
        self.used.insert(queue.spec.id, self.facts.now_ms);
        self.get_from(&queue, no_ack)
    }

    pub(super) fn get_from(&self, queue: &Arc<Queue>, no_ack: bool) -> bool {
        let id = queue.spec.id;
        let machine = self.machine();
        let got = queue.get(&machine.visit(), no_ack, |delivery, _| {
            seen(None, id, no_ack, &delivery)
        });
        let GetOutcome::Message(delivered) = got else {
            return false;
        };
        // Before what a consumer got then.
        self.clients.log.lock().deliveries.insert(0, delivered);
        true
    }

    /// Some deliveries of one consumer come to an end.
    pub(super) fn end_some(&mut self) -> bool {
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

    pub(super) fn end_all(&mut self) -> bool {
        let holders = self.clients.holders();
        let Some((queue, number)) = holders.first().copied() else {
            return false;
        };
        let held = self.clients.held_by(queue, number);
        self.end(queue, &held, End::Requeue(Return::Failed));
        true
    }

    pub(super) fn end(&mut self, queue: QueueId, seqs: &[Seq], how: End) {
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
    pub(super) fn take_all(&mut self) -> bool {
        for queue in self.machine().queues() {
            self.used.insert(queue.spec.id, self.facts.now_ms);
            while self.get_from(&queue, true) || self.machine().load() {}
        }
        true
    }
}
