//! Messages that wait for their group: held back by their lane, ready for everybody else.

use super::groups::Place;
use super::lane::Lane;
use crate::message::Seq;

/// A message that waits for its group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Blocked {
    pub(super) bytes: u64,
    /// It came back before.
    pub(super) was_returned: bool,
    pub(super) turn: Option<i64>,
    /// Its mark goes with it. 0: it never expires.
    pub(super) expiry_ms: u64,
}

impl Lane {
    /// The first ready message waits for its group from now on.
    pub(super) fn block(&mut self, seq: Seq, bytes: u64, expiry_ms: u64) {
        let entry = Blocked {
            bytes,
            was_returned: self.returned.contains(seq),
            turn: self.returned.turn(seq),
            expiry_ms,
        };
        self.take(seq, bytes);
        self.held.insert(seq);
        self.blocked.insert(seq, entry);
        self.blocked_bytes += bytes;
        if expiry_ms != 0 {
            self.expiry.mark(seq, expiry_ms, bytes);
        }
    }

    /// A message that waited for its group is ready, at its place.
    pub(super) fn release(&mut self, seq: Seq) {
        let Some(entry) = self.blocked.remove(&seq) else {
            return;
        };
        self.blocked_bytes -= entry.bytes;
        self.held.remove(seq);
        self.ready += 1;
        self.ready_bytes += entry.bytes;
        if entry.was_returned {
            self.returned.restore(seq, entry.turn);
        } else if seq < self.cursor {
            self.refused.insert(seq);
        }
    }

    /// Whether a message waits for its group.
    pub(super) fn is_blocked(&self, seq: Seq) -> bool {
        self.blocked.contains_key(&seq)
    }

    /// The message that would go first of those that wait for their group.
    pub(super) fn first_blocked(&self) -> Option<(Place, Seq, u64)> {
        let place =
            |(seq, entry): (&Seq, &Blocked)| (Place::new(*seq, entry.turn), *seq, entry.bytes);
        if self.returned.is_in_order() {
            self.blocked.iter().map(place).min()
        } else {
            self.blocked.first_key_value().map(place)
        }
    }

    /// Where a message stands.
    pub(super) fn place(&self, seq: Seq) -> Place {
        Place::new(seq, self.returned.turn(seq))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::super::consumers::ConsumerSpec;
    use super::super::settings::Settings;
    use super::super::state::{Effects, Return, State};
    use super::*;
    use crate::broker::delivery::{Cancellation, ConsumerId, Delivery, DeliverySink};
    use crate::message::record::{Body, NewMessage};
    use crate::message::run::Run;

    /// Takes everything, or nothing.
    #[derive(Default)]
    struct Taker {
        refuses: AtomicBool,
    }

    impl DeliverySink for Taker {
        fn room_bytes(&self) -> usize {
            1 << 20
        }
        fn deliver(&self, deliveries: &[Delivery<'_>]) -> usize {
            if self.refuses.load(Ordering::Relaxed) {
                return 0;
            }
            deliveries.len()
        }
        fn stall(&self) -> bool {
            false
        }
        fn wake(&self) {}
        fn cancelled(&self, _: Cancellation) {}
    }

    fn queue(max_length: Option<u64>) -> State {
        State::new(Arc::new(Settings {
            message_group: Some("group".into()),
            max_length,
            ..Settings::default()
        }))
    }

    /// A message of the one group that there is.
    fn append(state: &mut State, now_ms: u64, expiry_ms: u64) -> Seq {
        let message = NewMessage {
            exchange: b"",
            routing_key: b"q",
            properties: b"\x20\x00\0\0\0\x0c\x05groupS\0\0\0\x01a",
            annotations: &[],
            body: Body::Inline(b"body"),
            persistent: true,
            priority: 0,
            expiry_ms,
        };
        state.append_run(now_ms, Run::single(&message), 1).0
    }

    fn consume(state: &mut State, no_ack: bool) -> ConsumerId {
        subscribe(state, Arc::new(Taker::default()), no_ack)
    }

    fn subscribe(state: &mut State, sink: Arc<Taker>, no_ack: bool) -> ConsumerId {
        let id = state.consumers.add(ConsumerSpec {
            sink,
            no_ack,
            exclusive: false,
            priority: 0,
            prefetch: 0,
            timeout_ms: None,
        });
        state.consumers.activate(id);
        id
    }

    /// Whether there is more to do after a dispatch.
    fn dispatch(state: &mut State, now_ms: u64) -> bool {
        let mut effects = Effects::default();
        state.dispatch(now_ms, &mut effects);
        effects.more
    }

    #[test]
    fn the_next_of_a_group_is_offered_when_the_one_before_it_needs_no_acknowledgement() {
        let mut state = queue(None);
        for _ in 0..3 {
            append(&mut state, 100, 0);
        }
        consume(&mut state, true);
        for left in [2, 1] {
            assert!(dispatch(&mut state, 100), "there is a next one");
            assert_eq!(state.ready(), left);
        }
        dispatch(&mut state, 100);
        assert_eq!(state.ready(), 0);
    }

    #[test]
    fn the_next_of_a_group_is_offered_when_the_one_before_it_has_expired() {
        let mut state = queue(None);
        let first = append(&mut state, 100, 110);
        append(&mut state, 100, 0);
        let consumer = consume(&mut state, false);
        assert!(!dispatch(&mut state, 100), "the group is busy");
        let effects = &mut Effects::default();
        state.requeue(105, consumer, &[first], Return::Released, effects);
        assert!(dispatch(&mut state, 110), "only the first was in its way");
        assert_eq!((state.ready(), state.unacked()), (1, 0));
        dispatch(&mut state, 110);
        assert_eq!((state.ready(), state.unacked()), (0, 1));
    }

    #[test]
    fn nothing_overtakes_what_waits_when_the_one_before_it_expires() {
        let mut state = queue(None);
        let first = append(&mut state, 100, 110);
        let second = append(&mut state, 100, 0);
        let consumer = consume(&mut state, false);
        dispatch(&mut state, 100);
        append(&mut state, 100, 0);
        let effects = &mut Effects::default();
        state.requeue(105, consumer, &[first], Return::Released, effects);
        // The third one was not looked at before.
        while dispatch(&mut state, 110) {}
        assert_eq!((state.ready(), state.unacked()), (1, 1));
        assert!(!state.is_ready(second), "it is the one that went out");
    }

    #[test]
    fn what_an_outbox_refuses_does_not_keep_its_group_busy() {
        let mut state = queue(None);
        for _ in 0..2 {
            append(&mut state, 100, 0);
        }
        let sink = Arc::new(Taker::default());
        sink.refuses.store(true, Ordering::Relaxed);
        let consumer = subscribe(&mut state, sink.clone(), false);
        assert!(!dispatch(&mut state, 100), "nobody else is there");
        assert_eq!((state.ready(), state.unacked()), (2, 0));
        sink.refuses.store(false, Ordering::Relaxed);
        state.consumers.resume(consumer);
        dispatch(&mut state, 100);
        assert_eq!((state.ready(), state.unacked()), (1, 1));
    }

    #[test]
    fn what_is_dropped_while_it_waits_for_its_group_leaves_no_mark() {
        let mut state = queue(Some(1));
        append(&mut state, 100, 0);
        append(&mut state, 100, 9_000);
        append(&mut state, 100, 0);
        consume(&mut state, false);
        dispatch(&mut state, 100);
        assert_eq!((state.ready(), state.unacked()), (2, 1));
        state.enforce_limits(&mut Effects::default());
        assert_eq!(state.ready(), 1);
        let marks = state.lanes_mut()[0].expiry.marks();
        assert!(marks.unwrap().is_empty());
    }
}
