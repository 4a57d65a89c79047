//! Courses that chance takes rarely: each was a fault once, or is what one would have looked like.

mod retries;

use std::sync::Arc;

use amq_protocol::types::{AMQPValue, FieldTable};
use tempfile::TempDir;

use super::clients::{Clients, Outbox};
use super::image::new_folder;
use super::ledger::Ledger;
use super::machine::{Machine, Setup, VirtualClock};
use super::message::{Found, Labels, Number};
use crate::broker::delivery::ConsumerId;
use crate::broker::queue::{ConsumerSpec, DeathReason, GetOutcome, Queue, Return, Whereabouts};
use crate::broker::vhost::{MoveTo, QueueDeclare};
use crate::message::Seq;
use crate::message::op::Counts;
use crate::message::record::{Body, NewMessage};
use crate::store::Step;

const ENOUGH_BYTES: usize = 64 * 1024 * 1024;

/// A broker whose threads are told what to do next.
struct Stage {
    folder: TempDir,
    clock: Arc<VirtualClock>,
    machine: Machine,
    clients: Clients,
}

impl Stage {
    fn new(memory_bytes: usize) -> Self {
        let (folder, clock) = (new_folder(), Arc::new(VirtualClock::new()));
        let (machine, _) = Machine::start(folder.path(), &clock, setup(memory_bytes));
        Self {
            folder,
            clock,
            machine,
            clients: Clients::default(),
        }
    }

    /// The broker dies with what it has not written, and another one starts.
    fn crash(self, memory_bytes: usize) -> Self {
        let Self {
            folder,
            clock,
            machine,
            ..
        } = self;
        drop(machine);
        let (machine, _) = Machine::start(folder.path(), &clock, setup(memory_bytes));
        Self {
            folder,
            clock,
            machine,
            clients: Clients::default(),
        }
    }

    /// A durable queue.
    fn declare(&self, name: &str, arguments: &[(&str, AMQPValue)]) -> Arc<Queue> {
        let mut table = FieldTable::default();
        for (name, value) in arguments {
            table.insert((*name).into(), value.clone());
        }
        let declare = QueueDeclare {
            name: name.into(),
            server_named: false,
            durable: true,
            exclusive: false,
            auto_delete: false,
            arguments: table,
            connection: 1,
        };
        let machine = &self.machine;
        let declared = machine.vhost.declare_queue(&machine.visit(), declare);
        declared.unwrap().queue
    }

    fn queue(&self, name: &str) -> Arc<Queue> {
        self.machine.vhost.queue(name).expect("it is durable")
    }

    /// A persistent message with this number, and what else it says.
    fn publish(&self, queue: &Arc<Queue>, labels: Labels) {
        let (properties, body) = (labels.properties(), labels.body());
        let visit = self.machine.visit();
        let message = NewMessage {
            properties: &properties,
            persistent: labels.persistent,
            body: Body::Inline(&body),
            expiry_ms: labels.ttl_ms.map_or(0, |ms| visit.now_ms() + ms),
            ..crate::broker::testing::message("", &queue.spec.name)
        };
        let more = queue.publish(&visit, std::iter::once(&message));
        drop((more, visit));
    }

    /// Everything so far is on the disk.
    fn commit(&mut self) {
        while self.machine.store.step() != Step::Idle {}
    }

    /// An epoch ends: what happens from now on belongs to the next.
    fn cut(&mut self) {
        assert!(matches!(self.machine.store.step(), Step::Cut(_)));
    }

    /// The epoch that ended is on the disk, and no other.
    fn finish_epoch(&mut self) {
        while !matches!(self.machine.store.step(), Step::Announced(_)) {}
    }

    /// Takes the next message, to be acknowledged.
    fn get(&mut self, queue: &Arc<Queue>) -> Option<(Seq, Number, Counts)> {
        loop {
            let got = queue.get(&self.machine.visit(), false, |delivery, _| {
                let number = super::message::number(delivery.record.properties());
                (delivery.seq, number, delivery.counts)
            });
            match got {
                GetOutcome::Message(taken) => return Some(taken),
                GetOutcome::Loading => assert!(self.machine.load()),
                GetOutcome::Unsaved(_) => self.commit(),
                GetOutcome::Empty | GetOutcome::Deleted => return None,
            }
        }
    }

    fn requeue(&self, queue: &Arc<Queue>, seq: Seq, how: Return) {
        let more = queue.requeue(&self.machine.visit(), ConsumerId::NONE, &[seq], how);
        self.machine.pump(queue, more);
    }

    /// A consumer with any room, from when it is on the disk that there is one.
    fn consume(&mut self, queue: &Arc<Queue>, prefetch: u32) -> (ConsumerId, Arc<Outbox>) {
        let no_ack = prefetch == 0;
        let outbox = self.clients.outbox(queue.spec.id, no_ack, usize::MAX / 2);
        let spec = ConsumerSpec {
            sink: outbox.clone(),
            no_ack,
            exclusive: false,
            priority: 0,
            prefetch,
            timeout_ms: None,
        };
        let subscribed = queue.subscribe(&self.machine.visit(), spec);
        let (id, _) = subscribed.expect("nobody is exclusive");
        self.commit();
        let more = queue.activate(&self.machine.visit(), id);
        self.machine.pump(queue, more);
        (id, outbox)
    }

    /// The numbers of what was delivered since the last look.
    fn delivered(&self) -> Vec<Number> {
        let log = std::mem::take(&mut *self.clients.log.lock());
        log.deliveries.iter().map(|one| one.number).collect()
    }

    /// The threads do what there is to do.
    fn work(&mut self) {
        loop {
            let machine = &mut self.machine;
            let mut is_busy = machine.call_due() > 0;
            is_busy |= machine.load();
            is_busy |= machine.bury().is_some();
            is_busy |= machine.store.step() != Step::Idle;
            if !is_busy {
                return;
            }
        }
    }

    /// What is in a queue.
    fn contents(&self, name: &str) -> Vec<(Whereabouts, Found)> {
        let seen = self.machine.look(&Ledger::default());
        let mut queues = seen.queues.into_values();
        let queue = queues.find(|queue| queue.name == name);
        let messages = queue.expect("it is there").messages.into_values();
        messages
            .map(|(place, _, found)| (place, found.expect("nothing is known before")))
            .collect()
    }

    fn numbers(&self, name: &str) -> Vec<Number> {
        let contents = self.contents(name).into_iter();
        contents.map(|(_, found)| found.number).collect()
    }
}

fn setup(memory_bytes: usize) -> Setup {
    Setup {
        seed: 0,
        memory_bytes,
        no_sync: false,
    }
}

fn number(number: Number) -> Labels {
    Labels {
        number,
        persistent: true,
        ..Labels::default()
    }
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

const fn integer(value: i64) -> AMQPValue {
    AMQPValue::LongLongInt(value)
}

/// Arguments of a queue whose dead letters go to the queue `graves`.
fn with_graves() -> [(&'static str, AMQPValue); 2] {
    [
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text("graves")),
    ]
}

/// Without memory transient messages are put aside while the persistent ones around them are not written yet.
#[test]
fn what_stands_behind_spilled_messages_is_written() {
    let mut stage = Stage::new(Setup::LITTLE_BYTES);
    let queue = stage.declare("q", &[]);
    let publish = |stage: &Stage, count: u64, persistent: bool| {
        (0..count).for_each(|_| {
            let labels = Labels {
                persistent,
                body_bytes: 1_024,
                ..Labels::default()
            };
            stage.publish(&queue, labels);
        });
    };
    publish(&stage, 1, true);
    publish(&stage, 600, false);
    stage.machine.relieve();
    publish(&stage, 1, true);
    stage.commit();
    let stage = stage.crash(Setup::LITTLE_BYTES);
    assert_eq!(stage.queue("q").counts().ready, 2);
}

/// A deletion may be lost with a crash, but not what was settled before it: the store gathers an epoch when the queue is
/// gone already.
#[test]
fn what_was_settled_before_its_queue_was_deleted_does_not_come_back_without_the_deletion() {
    let mut stage = Stage::new(ENOUGH_BYTES);
    let queue = stage.declare("q", &[]);
    stage.publish(&queue, number(1));
    let (seq, ..) = stage.get(&queue).expect("it is there");
    queue.settle(&stage.machine.visit(), ConsumerId::NONE, &[seq]);
    stage.cut();
    let machine = &stage.machine;
    let deleted = machine
        .vhost
        .delete_queue(&machine.visit(), "q", Default::default(), 1);
    assert!(deleted.is_ok());
    stage.finish_epoch();
    let stage = stage.crash(ENOUGH_BYTES);
    assert_eq!(stage.queue("q").counts().ready, 0);
}

/// The visit that puts it back among the others hands out first, and no time is left to be called at.
#[test]
fn what_comes_back_from_its_retry_while_another_message_is_read_goes_out() {
    let mut stage = Stage::new(ENOUGH_BYTES);
    let queue = stage.declare(
        "q",
        &[
            ("x-delayed-retry-type", text("all")),
            ("x-delayed-retry-min", integer(10)),
            ("x-delayed-retry-max", integer(10)),
        ],
    );
    (1..=3).for_each(|at| stage.publish(&queue, number(at)));
    let (first, ..) = stage.get(&queue).expect("it is there");
    let (second, ..) = stage.get(&queue).expect("it is there");
    stage.requeue(&queue, first, Return::Released);
    stage.clock.advance(5);
    stage.requeue(&queue, second, Return::Released);
    stage.commit();
    let mut stage = stage.crash(ENOUGH_BYTES);
    let queue = stage.queue("q");
    let _consumer = stage.consume(&queue, 0);
    // When they are due; the third one has to be read too.
    assert!(stage.machine.load() && queue.is_loading());
    stage.clock.advance(5);
    assert_eq!(stage.machine.call_due(), 1);
    stage.clock.advance(5);
    stage.work();
    let mut delivered = stage.delivered();
    delivered.sort_unstable();
    assert_eq!(delivered, [1, 2, 3]);
}

#[test]
fn who_takes_over_from_the_single_active_consumer_gets_all_there_is() {
    let mut stage = Stage::new(ENOUGH_BYTES);
    let single = ("x-single-active-consumer", AMQPValue::Boolean(true));
    let queue = stage.declare("q", &[single]);
    (1..=600).for_each(|at| stage.publish(&queue, number(at)));
    let (first, _) = stage.consume(&queue, 1);
    let (_, _) = stage.consume(&queue, 0);
    assert_eq!(stage.delivered(), [1]);
    queue.cancel(&stage.machine.visit(), first);
    stage.work();
    assert_eq!(stage.delivered().len(), 599);
}

#[test]
fn what_was_refused_dies_again_if_a_crash_was_faster_than_its_letter() {
    let mut stage = Stage::new(ENOUGH_BYTES);
    let mut arguments = with_graves().to_vec();
    arguments.push(("x-max-length", integer(1)));
    arguments.push(("x-overflow", text("reject-publish-dlx")));
    stage.declare("graves", &[]);
    let queue = stage.declare("q", &arguments);
    stage.publish(&queue, number(1));
    stage.publish(&queue, number(2));
    stage.commit();
    let mut stage = stage.crash(ENOUGH_BYTES);
    let queue = stage.queue("q");
    let first = stage.get(&queue).map(|(_, number, _)| number);
    let second = stage.get(&queue).map(|(_, number, _)| number);
    assert_eq!((first, second), (Some(1), None));
    stage.work();
    assert_eq!(stage.numbers("q"), [1]);
    let graves = stage.contents("graves");
    let [(Whereabouts::Ready, letter)] = &graves[..] else {
        panic!("{graves:?}");
    };
    let reasons: Vec<_> = letter.deaths.iter().map(|death| death.reason).collect();
    assert_eq!(
        (letter.number, &reasons[..]),
        (2, &[DeathReason::MaxLen][..])
    );
}

/// The counts of an epoch are written with it, whatever became of their message since.
#[test]
fn a_message_whose_acknowledgement_is_lost_comes_back_with_its_counts() {
    let mut stage = Stage::new(ENOUGH_BYTES);
    let queue = stage.declare("q", &[("x-delivery-limit", integer(5))]);
    stage.publish(&queue, number(1));
    stage.commit();
    let (seq, ..) = stage.get(&queue).expect("it is there");
    stage.commit();
    stage.requeue(&queue, seq, Return::Failed);
    stage.cut();
    let (seq, ..) = stage.get(&queue).expect("it is there again");
    queue.settle(&stage.machine.visit(), ConsumerId::NONE, &[seq]);
    stage.finish_epoch();
    let mut stage = stage.crash(ENOUGH_BYTES);
    let queue = stage.queue("q");
    let (.., counts) = stage.get(&queue).expect("its acknowledgement is lost");
    assert_eq!((counts.delivered, counts.acquired), (1, 1));
}

/// What is read for its way to the dead-letter exchange stays in memory until it went.
#[test]
fn the_dead_leave_a_queue_that_has_no_memory() {
    let mut stage = Stage::new(0);
    stage.declare("graves", &[]);
    let queue = stage.declare("q", &with_graves());
    for at in 1..=2 {
        let brief = Labels {
            ttl_ms: Some(10),
            ..number(at)
        };
        stage.publish(&queue, brief);
    }
    stage.commit();
    let mut stage = stage.crash(0);
    let queue = stage.queue("q");
    stage.publish(&queue, number(3));
    stage.commit();
    stage.clock.advance(20);
    for _ in 0..10 {
        stage.machine.call_due();
        while stage.machine.load() {}
        // The cursor goes past them.
        let _ = stage.get(&queue);
        stage.machine.relieve();
        let _ = stage.machine.bury();
        stage.commit();
    }
    assert_eq!(stage.numbers("graves"), [1, 2]);
}

/// An epoch that is gathered after a message has moved out still writes it, and its id with it.
#[test]
fn a_message_whose_move_is_lost_keeps_repetitions_out() {
    let mut stage = Stage::new(ENOUGH_BYTES);
    let mut arguments = with_graves().to_vec();
    arguments.push(("x-message-deduplication", AMQPValue::Boolean(true)));
    stage.declare("graves", &[]);
    let queue = stage.declare("q", &arguments);
    stage.commit();
    let known = |at, ttl_ms| Labels {
        token: Some(7),
        ttl_ms,
        ..number(at)
    };
    stage.publish(&queue, known(1, Some(10)));
    stage.cut();
    stage.clock.advance(20);
    assert_eq!(stage.machine.call_due(), 1);
    assert!(stage.machine.bury().is_some());
    assert_eq!(
        (stage.numbers("q"), stage.numbers("graves")),
        (vec![], vec![1])
    );
    stage.finish_epoch();
    let stage = stage.crash(ENOUGH_BYTES);
    assert_eq!(
        (stage.numbers("q"), stage.numbers("graves")),
        (vec![1], vec![])
    );
    stage.publish(&stage.queue("q"), known(2, None));
    assert_eq!(stage.numbers("q"), [1]);
}

/// Persistent and transient messages come out in one order: while the first one has to be read, the timer has nothing
/// to ring for.
#[test]
fn nothing_rings_for_what_waits_behind_a_message_that_is_being_read() {
    let mut stage = Stage::new(ENOUGH_BYTES);
    let queue = stage.declare("q", &[("x-message-delay", integer(50))]);
    stage.publish(&queue, number(1));
    stage.commit();
    let mut stage = stage.crash(ENOUGH_BYTES);
    let queue = stage.queue("q");
    let transient = Labels {
        persistent: false,
        ..number(2)
    };
    stage.publish(&queue, transient);
    stage.clock.advance(60);
    let mut rings = (0..5).map(|_| stage.machine.call_due());
    assert!(rings.any(|count| count == 0), "it rings for ever");
    stage.work();
    assert_eq!(stage.numbers("q"), [1, 2]);
}

/// The store is told of the rule that is gone before it is told of what came under the new one.
#[test]
fn an_id_that_is_known_by_a_new_rule_is_known_after_a_restart() {
    let mut stage = Stage::new(ENOUGH_BYTES);
    let rule = ("x-message-deduplication", AMQPValue::Boolean(true));
    stage.declare("q", std::slice::from_ref(&rule));
    stage.commit();
    let mut arguments = FieldTable::default();
    arguments.insert(rule.0.into(), rule.1);
    arguments.insert("x-cache-size".into(), integer(5));
    let known = |at| Labels {
        token: Some(7),
        ..number(at)
    };
    let vhost = &stage.machine.vhost;
    vhost.change_queue_arguments("q", arguments).unwrap();
    stage.publish(&stage.queue("q"), known(1));
    stage.commit();
    let stage = stage.crash(ENOUGH_BYTES);
    stage.publish(&stage.queue("q"), known(2));
    assert_eq!(stage.numbers("q"), [1]);
}

/// Messages of the epoch that is being written when the rule changes keep their ids if the change is lost.
#[test]
fn an_id_is_known_where_the_end_of_its_rule_is_lost() {
    let mut stage = Stage::new(ENOUGH_BYTES);
    let rule = ("x-message-deduplication", AMQPValue::Boolean(true));
    let queue = stage.declare("q", &[rule]);
    let known = |at| Labels {
        token: Some(7),
        ..number(at)
    };
    stage.publish(&queue, known(1));
    stage.cut();
    let vhost = &stage.machine.vhost;
    vhost
        .change_queue_arguments("q", FieldTable::default())
        .unwrap();
    stage.finish_epoch();
    let stage = stage.crash(ENOUGH_BYTES);
    stage.publish(&stage.queue("q"), known(2));
    assert_eq!(stage.numbers("q"), [1]);
}

/// It has to be written in its old place yet, if its move is lost.
#[test]
fn what_went_elsewhere_is_on_no_page() {
    let mut stage = Stage::new(ENOUGH_BYTES);
    stage.declare("graves", &[]);
    let queue = stage.declare("q", &with_graves());
    let brief = Labels {
        ttl_ms: Some(10),
        ..number(1)
    };
    stage.publish(&queue, brief);
    stage.publish(&queue, number(2));
    stage.clock.advance(20);
    assert_eq!(stage.machine.call_due(), 1);
    assert!(stage.machine.bury().is_some());
    let page = queue.browse(None, 5).messages;
    let seqs: Vec<Seq> = page.iter().map(|message| message.seq).collect();
    assert_eq!(seqs, [2]);
}

/// As if it had died: the epoch that is written after administration moved it still has it.
#[test]
fn a_message_whose_move_by_hand_is_lost_keeps_repetitions_out() {
    let mut stage = Stage::new(ENOUGH_BYTES);
    let rule = ("x-message-deduplication", AMQPValue::Boolean(true));
    stage.declare("other", &[]);
    let queue = stage.declare("q", &[rule]);
    stage.commit();
    let known = |at| Labels {
        token: Some(7),
        ..number(at)
    };
    stage.publish(&queue, known(1));
    stage.cut();
    let (vhost, to) = (&stage.machine.vhost, MoveTo::Queue("other".into()));
    let moved = vhost.move_messages(&stage.machine.visit(), &queue, &to, 1);
    assert_eq!(moved.unwrap().0, 1);
    stage.finish_epoch();
    let stage = stage.crash(ENOUGH_BYTES);
    stage.publish(&stage.queue("q"), known(2));
    assert_eq!(stage.numbers("q"), [1]);
}
