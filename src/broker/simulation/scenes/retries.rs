//! Restarts while messages wait for their retry.

use super::*;

/// Arguments of a queue in which all that comes back waits for its retry.
fn with_retries() -> [(&'static str, AMQPValue); 3] {
    [
        ("x-delayed-retry-type", text("all")),
        ("x-delayed-retry-min", integer(10)),
        ("x-delayed-retry-max", integer(10)),
    ]
}

/// The first of many messages waits for its retry, came back after memory had no room for it any more, and the broker
/// has died since.
fn come_back_unread(persistent: bool) -> Stage {
    let mut stage = Stage::new(0);
    let queue = stage.declare("q", &with_retries());
    for at in 1..=601 {
        let labels = Labels {
            persistent: persistent || at > 1,
            body_bytes: 1_024,
            ..number(at)
        };
        stage.publish(&queue, labels);
    }
    let (first, ..) = stage.get(&queue).expect("it is there");
    // What stands beside the next one stays in memory.
    (0..300).for_each(|_| assert!(stage.get(&queue).is_some()));
    stage.commit();
    stage.machine.relieve();
    stage.requeue(&queue, first, Return::Failed);
    stage.commit();
    stage.crash(0)
}

/// Without memory nothing is known of a message that comes back before it is read again: neither its size nor whether
/// it survives a restart.
#[test]
fn what_waits_for_its_retry_counts_for_nothing_after_a_restart_although_it_was_not_read() {
    let mut stage = come_back_unread(true);
    let queue = stage.queue("q");
    let counts = queue.counts();
    assert_eq!((counts.ready, counts.delayed), (600, 1));
    assert_eq!(queue.counted_bytes(), Some(600 * 1_024));
    stage.clock.advance(10);
    stage.work();
    assert_eq!(queue.counts().ready, 601);
}

#[test]
fn what_waits_for_its_retry_and_does_not_survive_a_restart_leaves_nothing_behind() {
    let mut stage = come_back_unread(false);
    let counts = stage.queue("q").counts();
    assert_eq!((counts.ready, counts.delayed), (600, 0));
    stage.work();
    assert_eq!(stage.machine.services.store.statistics().due, 0);
}

/// It was settled before its epoch was written, which has its retry: the end of that is lost.
#[test]
fn what_was_settled_before_it_was_written_does_not_wait_for_its_retry_after_a_crash() {
    let mut stage = Stage::new(ENOUGH_BYTES);
    let queue = stage.declare("q", &with_retries());
    let labels = |at| Labels {
        body_bytes: 100,
        ..number(at)
    };
    stage.publish(&queue, labels(1));
    let (seq, ..) = stage.get(&queue).expect("it is there");
    queue.settle(&stage.machine.visit(), ConsumerId::NONE, &[seq]);
    stage.commit();
    (2..=3).for_each(|at| stage.publish(&queue, labels(at)));
    let (seq, ..) = stage.get(&queue).expect("it is there");
    stage.requeue(&queue, seq, Return::Failed);
    stage.cut();
    stage.clock.advance(10);
    assert_eq!(stage.machine.call_due(), 1);
    assert_eq!(stage.get(&queue).map(|(again, ..)| again), Some(seq));
    queue.settle(&stage.machine.visit(), ConsumerId::NONE, &[seq]);
    stage.finish_epoch();
    let mut stage = stage.crash(ENOUGH_BYTES);
    let counts = stage.queue("q").counts();
    assert_eq!((counts.ready, counts.delayed), (1, 0));
    stage.work();
    assert_eq!(stage.machine.services.store.statistics().due, 0);
}
