//! Publisher confirms of one channel: sent in publish order, one frame per run.
//!
//! A run is a stretch of publishes with the same verdict that become durable together. Only the front run leaves, so a
//! confirm with `multiple` never covers a number that is not confirmed yet or was nacked (semantics row 47).

use std::collections::VecDeque;

use crate::message::Ticket;

/// What a publisher hears about its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// basic.ack: safe in every queue it was routed to.
    Ack,
    /// basic.nack: a queue refused it.
    Nack,
}

#[derive(Debug)]
struct Run {
    first: u64,
    last: u64,
    verdict: Verdict,
    ticket: Ticket,
}

/// One confirm frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirm {
    /// Publish sequence number, from 1 in the order of publishing on the channel.
    pub delivery_tag: u64,
    /// Covers all smaller numbers too.
    pub multiple: bool,
    /// Ack or nack.
    pub verdict: Verdict,
}

/// Confirms that a channel owes.
#[derive(Debug, Default)]
pub struct Confirms {
    published: u64,
    runs: VecDeque<Run>,
}

impl Confirms {
    /// The next message was published and is decided once `ticket` is durable.
    pub fn published(&mut self, verdict: Verdict, ticket: Ticket) {
        match verdict {
            Verdict::Ack => self.accepted(1, ticket),
            Verdict::Nack => self.push(1, verdict, ticket),
        }
    }

    /// The next `count` messages were published, and are safe once `ticket` is durable.
    pub fn accepted(&mut self, count: u64, ticket: Ticket) {
        match self.runs.back_mut() {
            // A message that waits for nothing waits with its predecessors: confirms leave in order.
            Some(run) if run.verdict == Verdict::Ack && ticket.position <= run.ticket.position => {
                self.published += count;
                run.last = self.published;
            }
            _ => self.push(count, Verdict::Ack, ticket),
        }
    }

    fn push(&mut self, count: u64, verdict: Verdict, ticket: Ticket) {
        let first = self.published + 1;
        self.published += count;
        self.runs.push_back(Run {
            first,
            last: self.published,
            verdict,
            ticket,
        });
    }

    /// Number of publishes so far: what the next one's number follows.
    pub const fn count(&self) -> u64 {
        self.published
    }

    /// No confirm is owed.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// What the front waits for.
    pub fn next_ticket(&self) -> Option<Ticket> {
        self.runs.front().map(|run| run.ticket)
    }

    /// Takes the confirms that can leave. Neighbouring runs with the same verdict leave as one frame.
    pub fn release(&mut self, is_durable: impl Fn(Ticket) -> bool, mut send: impl FnMut(Confirm)) {
        let mut ready: Option<Run> = None;
        while let Some(run) = self.runs.pop_front_if(|run| is_durable(run.ticket)) {
            match &mut ready {
                Some(before) if before.verdict == Verdict::Ack && run.verdict == Verdict::Ack => {
                    before.last = run.last
                }
                Some(before) => {
                    emit(before, &mut send);
                    ready = Some(run);
                }
                None => ready = Some(run),
            }
        }
        if let Some(run) = ready {
            emit(&run, &mut send);
        }
    }
}

/// `multiple` covers everything before the number, all of which has been confirmed: earlier runs have left.
fn emit(run: &Run, send: &mut impl FnMut(Confirm)) {
    send(Confirm {
        delivery_tag: run.last,
        multiple: run.first < run.last,
        verdict: run.verdict,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn released(confirms: &mut Confirms, durable: u64) -> Vec<(u64, bool, bool)> {
        let mut out = Vec::new();
        confirms.release(
            |ticket| ticket.position <= durable,
            |confirm| {
                out.push((
                    confirm.delivery_tag,
                    confirm.multiple,
                    confirm.verdict == Verdict::Ack,
                ))
            },
        );
        out
    }

    #[test]
    fn a_nack_waits_for_the_messages_before_it() {
        let mut confirms = Confirms::default();
        for _ in 0..2 {
            confirms.published(Verdict::Ack, Ticket::local(7));
        }
        confirms.published(Verdict::Nack, Ticket::IMMEDIATE);
        confirms.published(Verdict::Ack, Ticket::local(8));
        confirms.published(Verdict::Ack, Ticket::IMMEDIATE);
        assert_eq!(released(&mut confirms, 6), vec![]);
        assert_eq!(
            released(&mut confirms, 7),
            vec![(2, true, true), (3, false, false)]
        );
        assert_eq!(released(&mut confirms, 8), vec![(5, true, true)]);
        assert!(confirms.is_empty());
    }

    #[test]
    fn acks_of_several_epochs_leave_as_one_frame() {
        let mut confirms = Confirms::default();
        for epoch in 1..=10 {
            confirms.published(Verdict::Ack, Ticket::local(epoch));
        }
        assert_eq!(released(&mut confirms, 9), vec![(9, true, true)]);
        assert_eq!(released(&mut confirms, 10), vec![(10, false, true)]);
    }

    #[test]
    fn two_nacks_are_two_frames() {
        let mut confirms = Confirms::default();
        confirms.published(Verdict::Nack, Ticket::IMMEDIATE);
        confirms.published(Verdict::Nack, Ticket::IMMEDIATE);
        assert_eq!(
            released(&mut confirms, 0),
            vec![(1, false, false), (2, false, false)]
        );
    }
}
