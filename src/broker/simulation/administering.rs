//! Steps: what administration does with queues and what is in them.

use std::collections::BTreeMap;

use super::ledger::{Checked, Copy, promise, violated};
use super::oracle::MovedTo;
use super::plan::{self, ALL, GRAVES, LATER, ONCE};
use super::world::World;
use crate::broker::queue::{Removal, Whereabouts};
use crate::broker::vhost::MoveTo;

/// Most messages that are purged or moved at once.
const SHARE_MAX: u64 = 6;

/// With more copies than this none is moved to several queues.
const MANY: usize = 300;

impl World {
    /// Consumers of a queue get nothing from now on, or again.
    pub(super) fn pause(&mut self) -> bool {
        let Some(queue) = self.any_queue() else {
            return false;
        };
        self.pause_or_resume(&queue.spec.name, !queue.is_paused());
        self.facts.paused = Some(queue.spec.id);
        true
    }

    fn pause_or_resume(&self, name: &str, paused: bool) {
        let done = self.machine().vhost.pause_queue(name, paused);
        done.unwrap_or_else(|error| panic!("{error}"));
    }

    /// One queue goes on. False: all do.
    pub(super) fn resume_one(&mut self) -> bool {
        let queues = self.machine().queues();
        let Some(queue) = queues.iter().find(|queue| queue.is_paused()) else {
            return false;
        };
        self.pause_or_resume(&queue.spec.name, false);
        self.facts.paused = Some(queue.spec.id);
        true
    }

    pub(super) fn purge_first(&mut self) -> bool {
        let Some(queue) = self.any_queue() else {
            return false;
        };
        let count = self.chance.between(1, SHARE_MAX);
        let (purged, _) = queue.purge_first(&self.machine().visit(), count);
        self.facts.taken = Some((queue.spec.id, purged));
        true
    }

    /// One message goes, wherever it is.
    pub(super) fn remove(&mut self) -> Checked<bool> {
        let Some(queue) = self.any_queue() else {
            return Ok(false);
        };
        let id = queue.spec.id;
        let copies = self.oracle.ledger.books[&id].copies.iter();
        let copies: Vec<_> = copies.map(|(seq, copy)| (*seq, copy.clone())).collect();
        let Some((seq, copy)) = self.chance.one_of(&copies) else {
            return Ok(false);
        };
        let removal = queue.remove(&self.machine().visit(), *seq);
        self.facts.removed = (removal == Removal::Removed).then_some((id, *seq));
        let is_ready = copy.place == Whereabouts::Ready;
        let Copy { found, .. } = copy;
        match removal {
            Removal::Removed => promise!(is_ready, "{found:?} was not ready and is removed"),
            Removal::NotReady => promise!(!is_ready, "{found:?} is ready and stays"),
            Removal::Loading => {}
            Removal::Missing => violated!("{found:?} is there and not found"),
        }
        Ok(true)
    }

    /// Looks at all messages of a queue, page by page, as far as they are in memory.
    pub(super) fn browse(&mut self) -> Checked<bool> {
        let Some(queue) = self.any_queue() else {
            return Ok(false);
        };
        let count = self.chance.between(1, 9) as usize;
        let book = &self.oracle.ledger.books[&queue.spec.id];
        let mut missing: BTreeMap<_, _> = book.copies.iter().collect();
        let mut from = None;
        loop {
            let page = queue.browse(from, count);
            for message in page.messages {
                let copy = missing.remove(&message.seq);
                let place = copy.map(|copy| copy.place);
                promise!(
                    place == Some(message.whereabouts),
                    "{:x} of {} is {place:?}, and browsed {:?}",
                    message.seq,
                    book.name,
                    message.whereabouts
                );
            }
            if page.is_loading {
                return Ok(true);
            }
            from = page.next;
            if from.is_none() {
                break;
            }
        }
        promise!(
            missing.is_empty(),
            "{missing:?} of {} are on no page",
            book.name
        );
        Ok(true)
    }

    /// Some go to another queue or to an exchange.
    pub(super) fn move_some(&mut self) -> bool {
        let (Some(queue), Some(target)) = (self.any_queue(), self.any_queue()) else {
            return false;
        };
        let is_same = queue.spec.id == target.spec.id;
        let settings = queue.settings();
        let is_limited = settings.max_length.is_some() || settings.max_length_bytes.is_some();
        let kind = self.chance.below(8);
        // What it would drop and what it moves to itself could not be told apart.
        let to_itself = is_same || kind < 2;
        let multiplies = kind < 2 && self.oracle.ledger.count() > MANY;
        if (to_itself && is_limited) || (is_same && kind > 4) || multiplies {
            return false;
        }
        let key = target.spec.name.to_string();
        let exchange = [ALL, GRAVES, LATER, ONCE, ""].get(kind);
        let (to, seen) = match exchange {
            Some(exchange) => {
                let to = MoveTo::Exchange {
                    name: (*exchange).into(),
                    routing_key: Some(target.spec.name.clone()),
                };
                (to, MovedTo::Exchange(exchange, key))
            }
            None => {
                let to = MoveTo::Queue(target.spec.name.clone());
                (to, MovedTo::Queue(target.spec.id))
            }
        };
        let count = self.chance.between(1, SHARE_MAX);
        let machine = self.machine();
        let moved = machine
            .vhost
            .move_messages(&machine.visit(), &queue, &to, count);
        let (count, _) = moved.unwrap_or_else(|error| panic!("{error}"));
        self.facts.taken = Some((queue.spec.id, count));
        self.facts.moved_to = Some(seen);
        true
    }

    /// A queue gets other arguments, if it can have them now.
    pub(super) fn change_arguments(&mut self) -> bool {
        let Some(queue) = self.any_queue() else {
            return false;
        };
        let names: Vec<String> = self.plans.iter().map(|plan| plan.name.clone()).collect();
        let graves = self.plans.iter();
        let graves = graves
            .filter(|plan| plan.bound_to.contains(&GRAVES))
            .count();
        let at = names.iter().position(|name| **name == *queue.spec.name);
        let plan = &mut self.plans[at.expect("every queue has a plan")];
        let arguments = plan::other_arguments(&mut self.chance, &self.odds, &names, plan, graves);
        let machine = self.machine.as_ref().expect("it is running");
        let changed = machine
            .vhost
            .change_queue_arguments(&plan.name, arguments.clone());
        if changed.is_ok() {
            plan.arguments = arguments;
        }
        changed.is_ok()
    }
}
