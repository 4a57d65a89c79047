//! The judge of dead letters: what was published, and what came out at the end of the chain.
//!
//! Everything that is published dies its way to one queue, in which each message arrives once. Who takes it there may
//! see it again only after a crash, and not once its acknowledgement is known to be durable.

use std::collections::{BTreeSet, HashSet};

use crate::ledger::MessageId;

/// A broken promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// A confirmed message never arrived.
    Lost(MessageId),
    /// A message arrived twice although nothing had crashed, or after its acknowledgement was durable.
    Doubled(MessageId),
    /// A message arrived that was never sent.
    NeverSent(MessageId),
}

/// What a publisher did: it numbers its messages from 1.
#[derive(Clone, Debug, Default)]
pub(crate) struct Published {
    pub(crate) id: u32,
    pub(crate) sent: u64,
    pub(crate) confirmed: BTreeSet<u64>,
}

/// What came out between two crashes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Life {
    /// In the order of their arrival.
    pub(crate) arrived: Vec<MessageId>,
    /// How many of these, from the first, have been acknowledged.
    pub(crate) acknowledged: usize,
    /// How many of these, from the first, are gone for good.
    pub(crate) gone: usize,
}

/// What has become of all messages so far.
#[derive(Debug, Default)]
pub(crate) struct Graves {
    gone: HashSet<MessageId>,
    /// Acknowledged, and nobody knows whether that was durable.
    perhaps_gone: HashSet<MessageId>,
    violations: Vec<Violation>,
}

impl Graves {
    /// Judges what arrived until a crash.
    pub(crate) fn crashed(&mut self, life: &Life, published: &[Published]) {
        let mut seen = HashSet::new();
        for &message in &life.arrived {
            let publisher = published
                .iter()
                .find(|published| published.id == message.publisher);
            if publisher.is_none_or(|publisher| publisher.sent < message.number) {
                self.violations.push(Violation::NeverSent(message));
            }
            if !seen.insert(message) || self.gone.contains(&message) {
                self.violations.push(Violation::Doubled(message));
            }
            // It is back: its acknowledgement was lost.
            self.perhaps_gone.remove(&message);
        }
        self.gone.extend(&life.arrived[..life.gone]);
        let perhaps = &life.arrived[life.gone..life.acknowledged];
        self.perhaps_gone.extend(perhaps);
    }

    /// Judges the last life, and what is missing now that nothing else can come.
    pub(crate) fn finish(mut self, life: &Life, published: &[Published]) -> Vec<Violation> {
        self.crashed(life, published);
        for publisher in published {
            for &number in &publisher.confirmed {
                let message = MessageId {
                    publisher: publisher.id,
                    number,
                };
                if !self.gone.contains(&message) && !self.perhaps_gone.contains(&message) {
                    self.violations.push(Violation::Lost(message));
                }
            }
        }
        self.violations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn message(number: u64) -> MessageId {
        MessageId {
            publisher: 1,
            number,
        }
    }

    fn life(arrived: &[u64], acknowledged: usize, gone: usize) -> Life {
        Life {
            arrived: arrived.iter().copied().map(message).collect(),
            acknowledged,
            gone,
        }
    }

    /// Three messages were sent, the first two are confirmed.
    #[track_caller]
    fn check(lives: &[Life], expected: &[Violation]) {
        let published = [Published {
            id: 1,
            sent: 3,
            confirmed: BTreeSet::from([1, 2]),
        }];
        let (last, crashed) = lives.split_last().expect("there is a last life");
        let mut graves = Graves::default();
        for life in crashed {
            graves.crashed(life, &published);
        }
        assert_eq!(graves.finish(last, &published), expected);
    }

    #[test]
    fn who_arrives_once_is_neither_lost_nor_doubled() {
        check(&[life(&[1, 2], 2, 2)], &[]);
        check(&[life(&[1, 2, 3], 3, 3)], &[]);
        check(&[life(&[1], 1, 1), life(&[2], 1, 1)], &[]);
    }

    #[test]
    fn who_never_arrives_is_lost() {
        check(&[life(&[1, 3], 2, 2)], &[Violation::Lost(message(2))]);
        let unacknowledged = [life(&[1, 2], 1, 1), life(&[], 0, 0)];
        check(&unacknowledged, &[Violation::Lost(message(2))]);
    }

    #[test]
    fn an_acknowledgement_that_may_be_lost_allows_one_to_come_back() {
        let first = life(&[1, 2], 2, 1);
        check(&[first.clone(), life(&[], 0, 0)], &[]);
        check(&[first.clone(), life(&[2], 1, 1)], &[]);
        let doubled = Violation::Doubled(message(1));
        check(&[first, life(&[1], 1, 1)], &[doubled]);
    }

    #[test]
    fn who_arrives_twice_between_two_crashes_is_doubled() {
        let doubled = Violation::Doubled(message(2));
        check(&[life(&[1, 2, 2], 3, 3)], &[doubled]);
    }

    #[test]
    fn who_was_never_sent_must_not_arrive() {
        let never = Violation::NeverSent(message(4));
        check(&[life(&[1, 2, 4], 3, 3)], &[never]);
    }
}
