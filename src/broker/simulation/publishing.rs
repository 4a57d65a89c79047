//! Publishing, in the way of a channel: where a message goes, what is dropped because it came before, and then all of
//! a batch into its queues in one visit.

use std::sync::Arc;

use super::ledger::{Checked, Held, Kept, Ledger, promise, violated};
use super::machine::Machine;
use super::message::{Found, Labels};
use super::oracle::caches::make_room;
use super::oracle::{Arrival, Cause};
use super::plan::{ALL, LATER, ONCE, REMEMBERED_MS};
use super::world::World;
use crate::broker::deduplication::Deduplication;
use crate::broker::deduplication::batch::{Batch, Finding};
use crate::broker::queue::{Published, Queue};
use crate::broker::vhost::Route;
use crate::message::BODY_SHARED_BYTES_MIN;
use crate::message::QueueId;
use crate::message::record::{Body, NewMessage, SharedBody};
use crate::store::Visit;

/// Most messages of a batch.
const BATCH_MAX: u64 = 4;

/// A message of a batch.
struct Outgoing {
    labels: Labels,
    properties: Vec<u8>,
    body: Vec<u8>,
    route: Route,
    /// It came before.
    is_duplicate: bool,
    /// The queues that were too full.
    refused_by: Vec<QueueId>,
}

impl World {
    pub(super) fn publish(&mut self) -> Checked<bool> {
        let names: Vec<String> = self.plans.iter().map(|plan| plan.name.clone()).collect();
        let exchange = self
            .chance
            .weighted(&[(50, ""), (20, ALL), (15, LATER), (25, ONCE)]);
        let key = self
            .chance
            .one_of(&names)
            .expect("there are queues")
            .clone();
        let count = self.chance.between(1, BATCH_MAX);
        let labels = (0..count).map(|_| self.draw_labels(exchange)).collect();
        self.publish_batch(exchange, &key, labels)?;
        Ok(true)
    }

    fn draw_labels(&mut self, exchange: &str) -> Labels {
        self.last_number += 1;
        let chance = &mut self.chance;
        let tokens = chance.percent(50);
        Labels {
            number: self.last_number,
            persistent: chance.percent(80),
            priority: chance.below(5) as u8,
            ttl_ms: chance
                .percent(self.odds.expiration)
                .then(|| chance.between(0, 150)),
            delay_ms: match exchange == LATER {
                true => chance.percent(85).then(|| chance.between(1, 150)),
                false => chance
                    .percent(self.odds.own_delay)
                    .then(|| chance.between(0, 150)),
            },
            group: chance.percent(70).then(|| chance.below(3) as i64),
            token: (exchange == ONCE || tokens).then(|| chance.below(12) as i64),
            value: None,
            body_bytes: match chance.below(20) {
                0 => 20_000,
                1 | 2 => 3_000,
                bytes => bytes * 5,
            },
        }
    }

    fn publish_batch(&mut self, exchange: &'static str, key: &str, labels: Vec<Labels>) -> Checked {
        let machine = self.machine.as_ref().expect("it is running");
        let visit = machine.visit();
        let publish = Publish {
            machine,
            visit: &visit,
            exchange,
            key,
            remembered_max: self.remembered_max,
        };
        let mut batch = publish.route(labels);
        let ledger = &mut self.oracle.ledger;
        publish.check_routes(ledger, &batch)?;
        let memory = batch[0].route.deduplication.clone();
        let looked = memory
            .as_ref()
            .map(|memory| publish.look(ledger, memory, &mut batch));
        let looked = looked.transpose()?;
        let mut crowded = publish.deliver(&mut batch)?;
        if let Some(looked) = looked {
            publish.remember(ledger, looked, &batch);
        }
        drop(visit);
        while !crowded.is_empty() {
            crowded.retain(|queue| queue.pump(&machine.visit()));
        }
        for outgoing in batch {
            self.expect(key, outgoing);
        }
        Ok(())
    }

    /// What the oracle has to find.
    fn expect(&mut self, key: &str, outgoing: Outgoing) {
        if outgoing.is_duplicate {
            return;
        }
        let mut found = Found::of(&outgoing.properties);
        found.expiry_ms = 0;
        found.body_bytes = outgoing.body.len() as u64;
        if outgoing.route.is_delayed() {
            let held = Held {
                found,
                routing_key: key.to_owned(),
                has_id: true,
            };
            self.facts
                .delayed
                .push((held, outgoing.labels.delay_ms.unwrap_or_default()));
            return;
        }
        for queue in &outgoing.route.queues {
            let id = queue.spec.id;
            let cause = match outgoing.refused_by.contains(&id) {
                true => Cause::Refused,
                false => Cause::Published,
            };
            self.facts.arrivals.push(Arrival {
                queue: id,
                found: found.clone(),
                histories: vec![Vec::new()],
                cause,
                has_id: true,
            });
        }
    }
}

/// A batch on its way into its queues.
struct Publish<'a> {
    machine: &'a Machine,
    visit: &'a Visit<'a>,
    exchange: &'static str,
    key: &'a str,
    remembered_max: usize,
}

impl Publish<'_> {
    fn route(&self, labels: Vec<Labels>) -> Vec<Outgoing> {
        let vhost = &self.machine.vhost;
        let exchange = vhost.exchange(self.exchange).expect("it was declared");
        let route = |labels: Labels| {
            let properties = labels.properties();
            let bare = self.message(&labels, &properties, Body::Inline(b""));
            let route = vhost.route(&exchange, &[self.key], &bare);
            Outgoing {
                body: labels.body(),
                properties,
                route,
                labels,
                is_duplicate: false,
                refused_by: Vec::new(),
            }
        };
        labels.into_iter().map(route).collect()
    }

    /// The broker and the books find the same ways.
    fn check_routes(&self, ledger: &Ledger, batch: &[Outgoing]) -> Checked {
        let mut bound = ledger.targets(self.exchange, self.key);
        bound.sort_unstable();
        for outgoing in batch {
            let waits = self.exchange == LATER && outgoing.labels.delay_ms.is_some();
            let queues = outgoing.route.queues.iter();
            let mut found: Vec<QueueId> = queues.map(|queue| queue.spec.id).collect();
            found.sort_unstable();
            let expected = if waits { Vec::new() } else { bound.clone() };
            promise!(
                found == expected && outgoing.route.is_delayed() == waits,
                "{} {} leads to {found:?}, not {expected:?}",
                self.exchange,
                self.key
            );
        }
        Ok(())
    }

    /// Marks what came before.
    fn look<'m>(
        &self,
        ledger: &Ledger,
        memory: &'m Arc<Deduplication>,
        batch: &mut [Outgoing],
    ) -> Checked<Batch<'m>> {
        let now_ms = self.visit.now_ms();
        let mut looked = Batch::lock(std::iter::once(memory));
        for (place, outgoing) in batch.iter_mut().enumerate() {
            if outgoing.route.is_empty() {
                continue;
            }
            let token = outgoing.labels.token;
            let mut remembered = ledger.remembered.iter().rev();
            let known = token.and_then(|token| remembered.find(|kept| kept.token == token));
            let known = known.filter(|kept| kept.until_ms > now_ms);
            let is_known = known.is_some();
            let is_sure = known.is_none_or(|kept| kept.is_sure);
            let number = outgoing.labels.number;
            match looked.look(memory, place, &outgoing.properties, now_ms) {
                Finding::New => promise!(
                    !is_known || !is_sure,
                    "message {number} is a repetition and let in"
                ),
                Finding::Duplicate => {
                    promise!(
                        is_known,
                        "message {number} is new and taken for a repetition"
                    );
                    outgoing.is_duplicate = true;
                }
                Finding::Repeats(_) => outgoing.is_duplicate = true,
            }
        }
        Ok(looked)
    }

    /// Puts the batch into its queues. Answers those that have more to do.
    fn deliver(&self, batch: &mut [Outgoing]) -> Checked<Vec<Arc<Queue>>> {
        let bodies: Vec<Option<SharedBody>> = batch
            .iter()
            .map(|outgoing| self.shared_body(outgoing))
            .collect();
        let messages: Vec<NewMessage<'_>> = batch
            .iter()
            .zip(&bodies)
            .map(|(outgoing, shared)| {
                let body = match shared {
                    Some(shared) => Body::Shared(shared.clone()),
                    None => Body::Inline(&outgoing.body),
                };
                self.message(&outgoing.labels, &outgoing.properties, body)
            })
            .collect();
        for (outgoing, message) in batch.iter().zip(&messages) {
            outgoing.route.hold(self.visit, message);
        }
        let mut queues: Vec<Arc<Queue>> = Vec::new();
        for queue in batch.iter().flat_map(|outgoing| &outgoing.route.queues) {
            if !queues.iter().any(|known| Arc::ptr_eq(known, queue)) {
                queues.push(queue.clone());
            }
        }
        let mut crowded = Vec::new();
        let mut refused: Vec<(usize, QueueId)> = Vec::new();
        for queue in queues {
            let places = places_of(&queue, batch);
            if !places.is_empty() && self.fill(&queue, &messages, &places, &mut refused)? {
                crowded.push(queue);
            }
        }
        drop(messages);
        for (place, queue) in refused {
            batch[place].refused_by.push(queue);
        }
        Ok(crowded)
    }

    /// Publishes the messages at these places. True: the queue has more to do.
    fn fill(
        &self,
        queue: &Arc<Queue>,
        messages: &[NewMessage<'_>],
        places: &[usize],
        refused: &mut Vec<(usize, QueueId)>,
    ) -> Checked<bool> {
        let own = places.iter().map(|place| &messages[*place]);
        let published = queue.publish(self.visit, own);
        let Published::Accepted {
            ticket,
            more,
            refused: not_taken,
            ..
        } = published
        else {
            violated!("{} is deleted and found", queue.spec.name);
        };
        let is_taken = |at: &usize| !not_taken.contains(&(*at as u32));
        let mut taken = (0..places.len()).filter(is_taken);
        let must_wait = queue.spec.durable && taken.any(|at| messages[places[at]].persistent);
        promise!(
            !must_wait || ticket == self.visit.ticket(),
            "{} confirms before it is safe",
            queue.spec.name
        );
        let not_taken = not_taken.iter().map(|at| places[*at as usize]);
        refused.extend(not_taken.map(|place| (place, queue.spec.id)));
        Ok(more)
    }

    /// What all queues took is not taken again.
    fn remember(&self, ledger: &mut Ledger, looked: Batch<'_>, batch: &[Outgoing]) {
        let is_durable = |place: usize| {
            let mut queues = batch[place].route.queues.iter();
            batch[place].labels.persistent && queues.any(|queue| queue.spec.durable)
        };
        let is_accepted = |place: usize| batch[place].refused_by.is_empty();
        looked.remember(self.visit, is_accepted, is_durable);
        for (place, outgoing) in batch.iter().enumerate() {
            let is_remembered =
                is_accepted(place) && !outgoing.is_duplicate && !outgoing.route.is_empty();
            if let Some(token) = outgoing.labels.token.filter(|_| is_remembered) {
                ledger.remembered.push(Kept {
                    token,
                    since: outgoing.labels.number,
                    since_ms: self.visit.now_ms(),
                    until_ms: self.visit.now_ms() + REMEMBERED_MS,
                    persistent: is_durable(place),
                    is_sure: true,
                });
                make_room(&mut ledger.remembered, self.remembered_max, u64::MAX);
            }
        }
    }

    /// A large body travels by reference, and has an id if several durable queues keep it.
    fn shared_body(&self, outgoing: &Outgoing) -> Option<SharedBody> {
        if outgoing.body.len() < BODY_SHARED_BYTES_MIN {
            return None;
        }
        let queues = outgoing.route.queues.iter();
        let durable = queues.filter(|queue| queue.spec.durable).count();
        let id = match durable > 1 && outgoing.labels.persistent {
            true => self.machine.services.store.next_body_id(),
            false => 0,
        };
        let bytes = outgoing.body.clone().into();
        Some(SharedBody { id, bytes })
    }

    fn message<'m>(
        &'m self,
        labels: &Labels,
        properties: &'m [u8],
        body: Body<'m>,
    ) -> NewMessage<'m> {
        let expiry_ms = |ttl_ms| self.visit.now_ms() + ttl_ms;
        NewMessage {
            exchange: self.exchange.as_bytes(),
            routing_key: self.key.as_bytes(),
            properties,
            annotations: &[],
            body,
            persistent: labels.persistent,
            priority: labels.priority,
            expiry_ms: labels.ttl_ms.map_or(0, expiry_ms),
        }
    }
}

/// The places of the messages that go to a queue.
fn places_of(queue: &Arc<Queue>, batch: &[Outgoing]) -> Vec<usize> {
    let is_for_it = |place: &usize| {
        let outgoing = &batch[*place];
        let mut targets = outgoing.route.queues.iter();
        !outgoing.is_duplicate && targets.any(|target| Arc::ptr_eq(target, queue))
    };
    (0..batch.len()).filter(is_for_it).collect()
}
