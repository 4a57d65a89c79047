//! What was published to the stream, and what each reader is still to get of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::clients::Outbox;
use super::super::ledger::{Checked, promise};
use super::super::message::Number;
use crate::broker::delivery::ConsumerId;
use crate::message::Epoch;

/// A message: its offset is its place in the book.
pub(super) struct Message {
    pub(super) number: Number,
    pub(super) arrival_ms: u64,
    pub(super) value: Option<&'static str>,
    pub(super) epoch: Epoch,
}

#[derive(Default)]
pub(super) struct Book {
    pub(super) messages: Vec<Message>,
    /// The offset of the oldest one that is there.
    pub(super) first: u64,
    /// The same at the ends of epochs.
    pub(super) firsts: BTreeMap<Epoch, u64>,
    pub(super) last_number: Number,
}

/// A consumer.
pub(super) struct Reader {
    pub(super) id: ConsumerId,
    pub(super) outbox: Arc<Outbox>,
    pub(super) prefetch: u32,
    pub(super) has_begun: bool,
    /// Messages with one of these values, and whether those without any; `None`: all.
    pub(super) wants: Option<(Vec<&'static str>, bool)>,
    /// What arrived before is not for it.
    pub(super) since_ms: u64,
    pub(super) tag: Option<&'static str>,
    /// It goes on with the first message that it wants from here on. Several where a loss of power left that open.
    pub(super) next: Vec<u64>,
    /// Offsets that it has and has not settled.
    pub(super) held: BTreeSet<u64>,
}

impl Reader {
    fn wants(&self, message: &Message) -> bool {
        let is_its = self.wants.as_ref().is_none_or(|(values, others)| {
            message
                .value
                .map_or(*others, |value| values.contains(&value))
        });
        is_its && message.arrival_ms >= self.since_ms
    }

    pub(super) fn has_room(&self) -> bool {
        self.has_begun && self.outbox.room() > 0 && self.held.len() < self.prefetch as usize
    }
}

impl Book {
    pub(super) fn count(&self) -> u64 {
        self.messages.len() as u64
    }

    /// The first message that it wants from an offset on.
    fn wanted_from(&self, reader: &Reader, offset: u64) -> Option<u64> {
        let from = offset.max(self.first);
        (from..self.count()).find(|at| reader.wants(&self.messages[*at as usize]))
    }

    /// It got the message with this offset.
    pub(super) fn follow(&self, reader: &mut Reader, offset: u64) -> Checked {
        let nexts = reader.next.iter();
        let expected: Vec<_> = nexts.map(|next| self.wanted_from(reader, *next)).collect();
        promise!(
            expected.contains(&Some(offset)),
            "{offset} was delivered and {expected:?} was to come"
        );
        reader.next = vec![offset + 1];
        reader.held.insert(offset);
        promise!(
            reader.held.len() <= reader.prefetch as usize,
            "{:?} are more than {} deliveries",
            reader.held,
            reader.prefetch
        );
        Ok(())
    }

    /// What it should have got by now.
    pub(super) fn missing(&self, reader: &Reader) -> Option<u64> {
        let nexts = reader.next.iter();
        let wanted: Option<Vec<u64>> = nexts.map(|next| self.wanted_from(reader, *next)).collect();
        wanted.and_then(|wanted| wanted.into_iter().max())
    }

    /// Only epochs up to `kept` are left.
    pub(super) fn lose_after(&mut self, kept: Epoch) {
        self.messages.retain(|message| message.epoch <= kept);
        for message in &mut self.messages {
            // Whatever epochs come now.
            message.epoch = 0;
        }
    }

    /// The oldest offset as of the end of an epoch.
    pub(super) fn first_at(&self, epoch: Epoch) -> u64 {
        let firsts = self.firsts.range(..=epoch).next_back();
        firsts.map_or(0, |(_, first)| *first)
    }
}
