//! The judge: which promises does a history of events break?
//!
//! A copy of a message in a queue goes through these places; any other step is a violation:
//!
//! ```text
//!            delivered             acknowledged
//!  waiting ------------> out(s) -----------------> gone
//!     ^                    |                         |
//!     +--------------------+                         |
//!     |  requeued, s ended, crash                    |
//!     +----------------------------------------------+
//!        crash only: the acknowledgement was not durable
//! ```

use std::collections::HashMap;

use crate::ledger::{Event, MessageId, Queue, Route, Session, keeps_order};

/// A broken promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// A confirmed, persistent message was never there to be acknowledged.
    Lost(MessageId, Queue),
    /// A body came that nobody built.
    Corrupt(Queue),
    /// A message came that was never sent.
    NeverSent(MessageId, Queue),
    /// A message came out of a queue that it was not sent to.
    Misrouted(MessageId, Queue),
    /// A message of a transaction that was rolled back came.
    RolledBack(MessageId, Queue),
    /// A transient message outlived a crash.
    TransientSurvived(MessageId, Queue),
    /// An acknowledged message came again although nothing had crashed.
    CameBack(MessageId, Queue),
    /// A message was delivered while another delivery of it was outstanding.
    DeliveredTwice(MessageId, Queue),
    /// A message that had been delivered before came without the redelivered flag.
    NotMarkedRedelivered(MessageId, Queue),
    /// The same, with a crash in between.
    NotMarkedAfterCrash(MessageId, Queue),
    /// A message overtook an earlier one of its publisher.
    OutOfOrder(MessageId, Queue),
}

/// Judges a whole history; the order of the violations is that of the events.
pub(crate) fn check(events: &[Event]) -> Vec<Violation> {
    let mut checker = Checker::default();
    for event in events {
        checker.apply(event);
    }
    checker.finish()
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Waiting,
    Out(Session),
    Gone,
}

/// A message's copy in one queue.
#[derive(Default)]
struct Copy {
    place: Place,
    /// How many crashes there had been when it was delivered last.
    delivered_after: Option<u32>,
    acknowledged: bool,
}

struct Sent {
    route: Route,
    persistent: bool,
    crashes_before: u32,
    confirmed: bool,
    rolled_back: bool,
}

#[derive(Default)]
struct Checker {
    sent: HashMap<MessageId, Sent>,
    copies: HashMap<(MessageId, Queue), Copy>,
    /// The last number of each publisher that a session saw for the first time.
    last: HashMap<(Session, Queue, u32), u64>,
    draining: Vec<Session>,
    crashes: u32,
    violations: Vec<Violation>,
}

impl Checker {
    fn apply(&mut self, event: &Event) {
        match *event {
            Event::Sent {
                message,
                route,
                persistent,
            } => {
                let sent = Sent {
                    route,
                    persistent,
                    crashes_before: self.crashes,
                    confirmed: false,
                    rolled_back: false,
                };
                if self.sent.insert(message, sent).is_some() {
                    self.sent_again(message, route);
                }
            }
            Event::Confirmed(message) => {
                if let Some(sent) = self.sent.get_mut(&message) {
                    sent.confirmed = true;
                }
            }
            Event::RolledBack(message) => {
                if let Some(sent) = self.sent.get_mut(&message) {
                    sent.rolled_back = true;
                }
            }
            Event::Delivered {
                queue,
                message: Some(message),
                session,
                redelivered,
            } => self.delivered(queue, message, session, redelivered),
            Event::Delivered { queue, .. } => self.violations.push(Violation::Corrupt(queue)),
            Event::Acknowledged { queue, message } => {
                let copy = self.copies.entry((message, queue)).or_default();
                copy.place = Place::Gone;
                copy.acknowledged = true;
            }
            Event::Requeued { queue, message } => {
                self.copies.entry((message, queue)).or_default().place = Place::Waiting;
            }
            Event::Ended(session) => self.put_back(|place| place == Place::Out(session)),
            Event::Draining(session) => self.draining.push(session),
            Event::Crashed => {
                self.crashes += 1;
                self.put_back(|_| true);
            }
        }
    }

    /// The publisher does not know whether a message survived the crash. If it did not, what comes is as new as the first.
    fn sent_again(&mut self, message: MessageId, route: Route) {
        for queue in route.queues() {
            if let Some(copy) = self.copies.get_mut(&(message, queue)) {
                copy.delivered_after = None;
            }
        }
    }

    fn put_back(&mut self, which: impl Fn(Place) -> bool) {
        for copy in self.copies.values_mut() {
            if which(copy.place) {
                copy.place = Place::Waiting;
            }
        }
    }

    fn delivered(&mut self, queue: Queue, message: MessageId, session: Session, redelivered: bool) {
        let Some(sent) = self.sent.get(&message) else {
            self.violations.push(Violation::NeverSent(message, queue));
            return;
        };
        if !sent.route.queues().contains(&queue) {
            self.violations.push(Violation::Misrouted(message, queue));
        }
        if sent.rolled_back {
            self.violations.push(Violation::RolledBack(message, queue));
        }
        if !sent.persistent && sent.crashes_before < self.crashes {
            let survived = Violation::TransientSurvived(message, queue);
            self.violations.push(survived);
        }
        let copy = self.copies.entry((message, queue)).or_default();
        match copy.place {
            Place::Waiting => {}
            Place::Out(_) => self
                .violations
                .push(Violation::DeliveredTwice(message, queue)),
            Place::Gone => self.violations.push(Violation::CameBack(message, queue)),
        }
        match copy.delivered_after {
            Some(_) if redelivered => {}
            Some(crashes) if crashes < self.crashes => {
                let unmarked = Violation::NotMarkedAfterCrash(message, queue);
                self.violations.push(unmarked);
            }
            Some(_) => {
                let unmarked = Violation::NotMarkedRedelivered(message, queue);
                self.violations.push(unmarked);
            }
            None => {}
        }
        copy.place = Place::Out(session);
        copy.delivered_after = Some(self.crashes);
        self.check_order(queue, message, session, redelivered);
    }

    /// Messages that were delivered before come out of turn; a draining session has all to itself
    /// and sees even those in their order.
    fn check_order(
        &mut self,
        queue: Queue,
        message: MessageId,
        session: Session,
        redelivered: bool,
    ) {
        if !keeps_order(queue) || redelivered && !self.draining.contains(&session) {
            return;
        }
        let last = self
            .last
            .entry((session, queue, message.publisher))
            .or_default();
        if message.number <= *last {
            self.violations.push(Violation::OutOfOrder(message, queue));
        }
        *last = message.number.max(*last);
    }

    fn finish(mut self) -> Vec<Violation> {
        let mut lost = Vec::new();
        for (&message, sent) in &self.sent {
            if !(sent.confirmed && sent.persistent) {
                continue;
            }
            for queue in sent.route.queues() {
                let copy = self.copies.get(&(message, queue));
                if !copy.is_some_and(|copy| copy.acknowledged) {
                    lost.push((message, queue));
                }
            }
        }
        lost.sort_unstable();
        let lost = lost.into_iter();
        self.violations
            .extend(lost.map(|(message, queue)| Violation::Lost(message, queue)));
        self.violations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn message(number: u64) -> MessageId {
        MessageId {
            publisher: 7,
            number,
        }
    }

    fn sent(number: u64) -> Event {
        Event::Sent {
            message: message(number),
            route: Route::Direct(0),
            persistent: true,
        }
    }

    fn confirmed(number: u64) -> Event {
        Event::Confirmed(message(number))
    }

    fn delivered(number: u64, session: Session, redelivered: bool) -> Event {
        Event::Delivered {
            queue: 0,
            message: Some(message(number)),
            session,
            redelivered,
        }
    }

    fn acknowledged(number: u64) -> Event {
        Event::Acknowledged {
            queue: 0,
            message: message(number),
        }
    }

    #[track_caller]
    fn check_history(events: &[Event], expected: &[Violation]) {
        assert_eq!(check(events), expected);
    }

    #[test]
    fn a_message_that_goes_its_way_is_fine() {
        check_history(
            &[
                sent(1),
                confirmed(1),
                delivered(1, 1, false),
                acknowledged(1),
            ],
            &[],
        );
    }

    #[test]
    fn a_confirmed_message_that_never_comes_is_lost() {
        let lost = Violation::Lost(message(1), 0);
        check_history(&[sent(1), confirmed(1), Event::Crashed], &[lost]);
        let delivered_only = [
            sent(1),
            confirmed(1),
            delivered(1, 1, false),
            Event::Crashed,
        ];
        check_history(&delivered_only, &[lost]);
    }

    #[test]
    fn a_message_for_several_queues_is_lost_if_one_misses_it() {
        let fanout = Event::Sent {
            message: message(1),
            route: Route::Fanout,
            persistent: true,
        };
        let mut events = vec![fanout, confirmed(1)];
        for queue in [3, 5] {
            events.push(Event::Acknowledged {
                queue,
                message: message(1),
            });
        }
        check_history(&events, &[Violation::Lost(message(1), 4)]);
    }

    #[test]
    fn what_is_sent_again_after_a_crash_may_be_as_new() {
        let again = [
            sent(1),
            delivered(1, 1, false),
            Event::Crashed,
            sent(1),
            delivered(1, 2, false),
            acknowledged(1),
        ];
        check_history(&again, &[]);
    }

    #[test]
    fn an_unconfirmed_message_may_vanish_or_appear() {
        check_history(&[sent(1), Event::Crashed], &[]);
        check_history(
            &[
                sent(1),
                Event::Crashed,
                delivered(1, 1, false),
                acknowledged(1),
            ],
            &[],
        );
    }

    #[test]
    fn what_nobody_sent_must_not_come() {
        check_history(
            &[delivered(1, 1, false)],
            &[Violation::NeverSent(message(1), 0)],
        );
        let corrupt = Event::Delivered {
            queue: 0,
            message: None,
            session: 1,
            redelivered: false,
        };
        check_history(&[corrupt], &[Violation::Corrupt(0)]);
    }

    #[test]
    fn a_message_must_not_come_out_of_another_queue() {
        let elsewhere = Event::Delivered {
            queue: 1,
            message: Some(message(1)),
            session: 1,
            redelivered: false,
        };
        check_history(
            &[sent(1), elsewhere],
            &[Violation::Misrouted(message(1), 1)],
        );
    }

    #[test]
    fn what_was_rolled_back_must_not_come() {
        let events = [
            sent(1),
            Event::RolledBack(message(1)),
            delivered(1, 1, false),
        ];
        check_history(&events, &[Violation::RolledBack(message(1), 0)]);
    }

    #[test]
    fn a_transient_message_ends_with_the_crash() {
        let transient = Event::Sent {
            message: message(1),
            route: Route::Direct(0),
            persistent: false,
        };
        check_history(&[transient.clone(), confirmed(1), Event::Crashed], &[]);
        let survived = Violation::TransientSurvived(message(1), 0);
        check_history(
            &[transient, Event::Crashed, delivered(1, 1, true)],
            &[survived],
        );
    }

    #[test]
    fn an_acknowledged_message_comes_back_only_after_a_crash_and_once_for_each() {
        let first = [sent(1), delivered(1, 1, false), acknowledged(1)];
        let again = [first.as_slice(), &[delivered(1, 1, true)]].concat();
        check_history(&again, &[Violation::CameBack(message(1), 0)]);
        let crash = [Event::Crashed, delivered(1, 2, true), acknowledged(1)];
        let after_crash = [first.as_slice(), &crash].concat();
        check_history(&after_crash, &[]);
        let twice = [after_crash.as_slice(), &[delivered(1, 2, true)]].concat();
        check_history(&twice, &[Violation::CameBack(message(1), 0)]);
    }

    #[test]
    fn a_message_is_with_one_consumer_at_a_time() {
        let twice = [sent(1), delivered(1, 1, false), delivered(1, 2, true)];
        check_history(&twice, &[Violation::DeliveredTwice(message(1), 0)]);
        let requeued = Event::Requeued {
            queue: 0,
            message: message(1),
        };
        for between in [requeued, Event::Ended(1), Event::Crashed] {
            let events = [
                sent(1),
                delivered(1, 1, false),
                between,
                delivered(1, 2, true),
            ];
            check_history(&events, &[]);
        }
    }

    #[test]
    fn a_second_delivery_has_to_be_marked() {
        let cases = [
            (
                Event::Ended(1),
                Violation::NotMarkedRedelivered(message(1), 0),
            ),
            (
                Event::Crashed,
                Violation::NotMarkedAfterCrash(message(1), 0),
            ),
        ];
        for (between, unmarked) in cases {
            let events = [
                sent(1),
                delivered(1, 1, false),
                between,
                delivered(1, 2, false),
            ];
            check_history(&events, &[unmarked]);
        }
    }

    #[test]
    fn first_deliveries_keep_the_publishers_order() {
        let out_of_order = Violation::OutOfOrder(message(1), 0);
        let events = [
            sent(1),
            sent(2),
            delivered(2, 1, false),
            delivered(1, 1, false),
        ];
        check_history(&events, &[out_of_order]);
        let redelivered = [
            sent(1),
            sent(2),
            delivered(2, 1, false),
            delivered(1, 1, true),
        ];
        check_history(&redelivered, &[]);
        let draining = [
            sent(1),
            sent(2),
            Event::Draining(1),
            delivered(2, 1, true),
            delivered(1, 1, true),
        ];
        check_history(&draining, &[out_of_order]);
    }
}
