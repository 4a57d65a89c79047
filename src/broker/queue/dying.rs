//! Messages that died and wait for their way to the dead-letter exchange, in the order of their deaths.

use std::collections::VecDeque;

use crate::message::Seq;

/// Why a message died, as `x-death` says it (semantics row 39).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeathReason {
    /// basic.reject or basic.nack without requeue.
    Rejected,
    /// Its time to live ended.
    Expired,
    /// The queue was full.
    MaxLen,
    /// It was delivered in vain too often.
    DeliveryLimit,
}

impl DeathReason {
    /// As it stands in `x-death`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::MaxLen => "maxlen",
            Self::DeliveryLimit => "delivery_limit",
        }
    }
}

/// When a message that was refused expired: before it came. A crash may find it before its letter moved, and then it is
/// ready with the others, but nobody gets it and it dies again.
pub(in crate::broker) const REFUSED_MS: u64 = 1;

/// Seqs of dying messages, consecutive ones together.
#[derive(Debug, Default)]
pub(super) struct Dying {
    runs: VecDeque<(Seq, Seq, DeathReason)>,
}

impl Dying {
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub(super) fn push(&mut self, seq: Seq, reason: DeathReason) {
        match self.runs.back_mut() {
            Some((_, last, same)) if *last + 1 == seq && *same == reason => *last = seq,
            _ => self.runs.push_back((seq, seq, reason)),
        }
    }

    /// Whether this one is among them.
    pub(super) fn contains(&self, seq: Seq) -> bool {
        let mut runs = self.runs.iter();
        runs.any(|(first, last, _)| (*first..=*last).contains(&seq))
    }

    /// The one whose turn it is.
    pub(super) fn first(&self) -> Option<(Seq, DeathReason)> {
        self.runs
            .front()
            .map(|(first, _, reason)| (*first, *reason))
    }

    pub(super) fn pop(&mut self) {
        if let Some((first, last, _)) = self.runs.front_mut() {
            if first == last {
                self.runs.pop_front();
            } else {
                *first += 1;
            }
        }
    }
}
