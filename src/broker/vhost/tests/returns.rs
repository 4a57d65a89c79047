//! Messages that come back in several visits, and who comes in between.

use parking_lot::Mutex;

use super::*;
use crate::broker::delivery::ConsumerId;
use crate::broker::queue::{ConsumerSpec, Return, VISIT_MESSAGES_MAX};
use crate::message::Seq;

/// Remembers the order.
#[derive(Default)]
struct Reader(Mutex<Vec<Seq>>);

impl Reader {
    fn take(&self) -> Vec<Seq> {
        std::mem::take(&mut *self.0.lock())
    }
}

impl DeliverySink for Reader {
    fn room_bytes(&self) -> usize {
        usize::MAX
    }

    fn deliver(&self, deliveries: &[Delivery<'_>]) -> usize {
        let seqs = deliveries.iter().map(|delivery| delivery.seq);
        self.0.lock().extend(seqs);
        deliveries.len()
    }

    fn stall(&self) -> bool {
        false
    }

    fn wake(&self) {}

    fn cancelled(&self, _: Cancellation) {}
}

fn publish(fixture: &Fixture, queue: &Arc<Queue>, count: usize) {
    for _ in 0..count {
        fixture.visit(|_, visit| queue.publish(visit, std::iter::once(&message("", "q"))));
    }
}

fn pump(fixture: &Fixture, queue: &Arc<Queue>) {
    while fixture.visit(|_, visit| queue.pump(visit)) {}
}

fn consume_exclusively(fixture: &Fixture, queue: &Arc<Queue>) -> (Arc<Reader>, ConsumerId) {
    let reader = Arc::new(Reader::default());
    let spec = ConsumerSpec {
        sink: reader.clone(),
        no_ack: false,
        exclusive: true,
        priority: 0,
        prefetch: 0,
        timeout_ms: None,
    };
    let (id, _) = fixture
        .visit(|_, visit| queue.subscribe(visit, spec))
        .unwrap();
    fixture.visit(|_, visit| queue.activate(visit, id));
    pump(fixture, queue);
    (reader, id)
}

#[test]
fn what_comes_back_in_several_visits_is_overtaken_neither_by_what_arrives_nor_by_what_is_there() {
    const HELD: usize = 2 * VISIT_MESSAGES_MAX + 1;
    let fixture = Fixture::new();
    let queue = fixture.queue("q");
    let (first, first_id) = consume_exclusively(&fixture, &queue);
    publish(&fixture, &queue, HELD);
    pump(&fixture, &queue);
    let held = first.take();
    assert_eq!(held.len(), HELD);

    fixture.visit(|_, visit| queue.begin_return(visit));
    fixture.visit(|_, visit| queue.cancel(visit, first_id));
    publish(&fixture, &queue, 1);
    let (next, _) = consume_exclusively(&fixture, &queue);
    // The later ones come back first: a client may get its messages in any order.
    let mut parts: Vec<_> = held.chunks(VISIT_MESSAGES_MAX).collect();
    parts.reverse();
    for part in parts {
        assert!(next.take().is_empty());
        fixture.visit(|_, visit| queue.requeue(visit, first_id, part, Return::Failed));
        publish(&fixture, &queue, 1);
        pump(&fixture, &queue);
    }
    assert!(next.take().is_empty());

    fixture.visit(|_, visit| queue.end_return(visit));
    pump(&fixture, &queue);
    let got = next.take();
    assert_eq!(got[..HELD], held);
    assert_eq!(got.len(), HELD + 4);
    assert!(got.is_sorted());
}

#[test]
fn a_queue_that_was_deleted_meanwhile_has_nothing_to_end() {
    let fixture = Fixture::new();
    let queue = fixture.queue("q");
    fixture.visit(|_, visit| queue.begin_return(visit));
    fixture.delete_queue("q").unwrap();
    assert!(!fixture.visit(|_, visit| queue.end_return(visit)));
}
