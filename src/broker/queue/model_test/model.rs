//! The model: what should become of each message.

use std::collections::BTreeSet;

use super::steps::{CACHE_SIZE, CACHE_TTL_MS};
use super::world::{Seen, World};
use crate::broker::arguments::Overflow;
use crate::broker::queue::dying::DeathReason;
use crate::broker::queue::lane::lane_of;
use crate::broker::queue::state::Return;
use crate::message::Seq;
use crate::message::op::Counts;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Ready,
    Unacked(usize),
    Dying(DeathReason),
}

#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) bytes: u64,
    pub(super) arrival_ms: u64,
    /// 0: never.
    pub(super) expiry_ms: u64,
    pub(super) group: Option<u8>,
    /// The id that it has taken: nobody else may have it while it is there.
    pub(super) id: Option<u8>,
    pub(super) place: Place,
    pub(super) delivered: bool,
    pub(super) counts: Counts,
    /// When it came back, in a queue that returns in that order.
    pub(super) turn: Option<u64>,
}

impl World {
    /// The size and the time of the cache; `None`: ids are taken by what is in the queue.
    pub(super) fn cache(&self) -> Option<(usize, u64)> {
        let rules = self.settings.deduplication.as_ref()?;
        rules.is_cache.then_some((CACHE_SIZE, CACHE_TTL_MS))
    }

    pub(super) fn is_duplicate_model(&self, id: u8) -> bool {
        match self.cache() {
            Some(_) => {
                let known = |(known, until): &(_, u64)| *known == Some(id) && *until > self.now_ms;
                self.remembered.iter().any(known)
            }
            None => self.messages.values().any(|taken| taken.id == Some(id)),
        }
    }

    pub(super) fn remember_model(&mut self, id: u8) {
        let Some((size, ttl_ms)) = self.cache() else {
            return;
        };
        while self
            .remembered
            .first()
            .is_some_and(|(known, until_ms)| known.is_none() || *until_ms <= self.now_ms)
        {
            self.remembered.remove(0);
        }
        for (known, _) in &mut self.remembered {
            known.take_if(|known| *known == id);
        }
        if self.remembered.len() == size {
            self.remembered.remove(0);
        }
        self.remembered.push((Some(id), self.now_ms + ttl_ms));
    }

    /// Ready messages in the order in which they are to go.
    pub(super) fn ready(&self) -> Vec<Seq> {
        let mut ready: Vec<_> = self
            .messages
            .iter()
            .filter(|(_, message)| message.place == Place::Ready)
            .map(|(seq, message)| {
                let turn = message.turn.map_or((1, 0), |turn| (0, turn));
                (std::cmp::Reverse(lane_of(*seq)), turn, *seq)
            })
            .collect();
        ready.sort_unstable();
        ready.into_iter().map(|(.., seq)| seq).collect()
    }

    /// Groups that have a message with a consumer.
    pub(super) fn busy(&self) -> BTreeSet<u8> {
        let unacked = self
            .messages
            .values()
            .filter(|message| matches!(message.place, Place::Unacked(_)));
        unacked.filter_map(|message| message.group).collect()
    }

    /// Ready messages that may go now: of each idle group the first.
    pub(super) fn eligible(&self) -> Vec<Seq> {
        let mut busy = self.busy();
        let mut ready = self.ready();
        ready.retain(|seq| {
            self.messages[seq]
                .group
                .is_none_or(|group| busy.insert(group))
        });
        ready
    }

    pub(super) fn kill(&mut self, seq: Seq, reason: DeathReason) {
        if self.settings.dead_letter.is_some() {
            if let Some(message) = self.messages.get_mut(&seq) {
                message.place = Place::Dying(reason);
            }
        } else {
            self.messages.remove(&seq);
        }
    }

    pub(super) fn ready_bytes(&self) -> u64 {
        self.ready()
            .iter()
            .map(|seq| self.messages[seq].bytes)
            .sum()
    }

    /// What is too old goes; before dispatch only what came before this moment.
    pub(super) fn expire_model(&mut self, arrived_before_ms: u64) {
        for seq in self.ready() {
            let Message {
                expiry_ms,
                arrival_ms,
                ..
            } = self.messages[&seq];
            if expiry_ms != 0 && expiry_ms <= self.now_ms && arrival_ms < arrived_before_ms {
                self.kill(seq, DeathReason::Expired);
            }
        }
    }

    /// What is too old or too much goes.
    pub(super) fn trim_model(&mut self) {
        self.expire_model(u64::MAX);
        while self.settings.overflow == Overflow::DropHead
            && self
                .settings
                .is_over(self.ready().len() as u64, self.ready_bytes())
        {
            let head = self.ready()[0];
            self.kill(head, DeathReason::MaxLen);
        }
    }

    pub(super) fn held_by(&self, holder: usize) -> Vec<Seq> {
        let held = self.messages.iter();
        held.filter(|(_, message)| message.place == Place::Unacked(holder))
            .map(|(seq, _)| *seq)
            .collect()
    }

    /// A delivery must be of a message that may go now, and say of it what is so.
    pub(super) fn deliver_model(
        &mut self,
        holder: usize,
        no_ack: bool,
        (seq, redelivered, counts): Seen,
    ) {
        assert!(self.eligible().contains(&seq), "{seq} may not go now");
        let message = self.messages.get_mut(&seq).unwrap();
        assert_eq!(
            (redelivered, counts),
            (message.delivered, message.counts),
            "{seq}"
        );
        message.delivered = true;
        message.turn = None;
        message.place = Place::Unacked(holder);
        if no_ack {
            self.messages.remove(&seq);
        }
    }

    pub(super) fn requeue_model(&mut self, seq: Seq, how: Return) {
        let message = self.messages.get_mut(&seq).unwrap();
        message.place = Place::Ready;
        if self.settings.returns_in_order {
            self.turn += 1;
            message.turn = Some(self.turn);
        }
        if !self.settings.counts_deliveries {
            return;
        }
        message.counts.acquired += 1;
        message.counts.delivered += u32::from(how == Return::Failed);
        let over = |limit| how == Return::Failed && message.counts.delivered > limit;
        if self.settings.delivery_limit.is_some_and(over) {
            message.turn = None;
            self.kill(seq, DeathReason::DeliveryLimit);
        }
    }

    pub(super) fn next_expiry_ms(&self) -> Option<u64> {
        let ready = self.messages.values();
        let ready = ready.filter(|message| message.place == Place::Ready);
        ready
            .map(|message| message.expiry_ms)
            .filter(|ms| *ms != 0)
            .min()
    }
}
