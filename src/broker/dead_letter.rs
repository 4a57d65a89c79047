//! Dead letters: messages that died in a queue go to its dead-letter exchange, in the order of their deaths.
//!
//! One thread moves them, in visits of its own: a queue that has dead messages names itself once and is served until it
//! has none, a batch at a time in turn with others. A cascade (a dead letter that makes another queue drop one) is
//! further work for the same thread, never recursion. What makes a dead letter different from the message that died
//! stands in [`letter`], the history of deaths in [`deaths`].

mod deaths;
mod letter;

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread;

use parking_lot::Mutex;

use self::letter::Letter;
use super::Broker;
use super::queue::{DeadBatch, Queue};
use super::vhost::publish::Outgoing;
use crate::store::Visit;

/// Where queues name themselves that have dead messages. Cheap to clone.
#[derive(Clone)]
pub struct DeadLetters {
    queues: Sender<Arc<Queue>>,
    /// The other end, until the thread takes it.
    inbox: Arc<Mutex<Option<Receiver<Arc<Queue>>>>>,
}

impl Default for DeadLetters {
    fn default() -> Self {
        let (queues, inbox) = channel();
        Self {
            queues,
            inbox: Arc::new(Mutex::new(Some(inbox))),
        }
    }
}

impl DeadLetters {
    pub(super) fn send(&self, queue: &Arc<Queue>) {
        // Without a thread the broker is about to end: what died is still in its queue.
        let _ = self.queues.send(queue.clone());
    }

    /// Whoever has the inbox serves the queues in it.
    pub(super) fn take_inbox(&self) -> Option<Receiver<Arc<Queue>>> {
        self.inbox.lock().take()
    }
}

/// Starts the thread, unless somebody else has the inbox. It ends with the broker.
///
/// # Errors
/// The system refuses a thread.
pub(super) fn start(broker: &Arc<Broker>) -> std::io::Result<()> {
    let Some(inbox) = broker.services.dead_letters.take_inbox() else {
        return Ok(());
    };
    let broker = Arc::downgrade(broker);
    thread::Builder::new()
        .name("dead-letter".to_owned())
        .spawn(move || run(&broker, &inbox))?;
    Ok(())
}

fn run(broker: &Weak<Broker>, inbox: &Receiver<Arc<Queue>>) {
    let mut waiting: VecDeque<Arc<Queue>> = VecDeque::new();
    loop {
        if waiting.is_empty() {
            match inbox.recv() {
                Ok(queue) => waiting.push_back(queue),
                Err(_) => return,
            }
        }
        waiting.extend(inbox.try_iter());
        let Some(queue) = waiting.pop_front() else {
            continue;
        };
        // A queue must not outlive the broker for being in this list.
        let Some(broker) = broker.upgrade() else {
            waiting.clear();
            continue;
        };
        if serve(&broker, &queue) {
            waiting.push_back(queue);
        }
    }
}

/// Whether a message with these annotations died in the queue `name`.
pub(super) fn died_in(annotations: &[u8], name: &str) -> bool {
    let deaths = deaths::Deaths::read(annotations).entries;
    deaths.iter().any(|death| *death.queue == *name)
}

/// Moves one visit's share. `false`: there is nothing left for now.
pub(super) fn serve(broker: &Broker, queue: &Arc<Queue>) -> bool {
    let visit = broker.services.visit();
    let Some(batch) = queue.take_dead(&visit) else {
        return false;
    };
    let mut crowded = send(broker, &visit, queue, &batch);
    queue.dead_lettered(&visit, &batch);
    drop(visit);
    while !crowded.is_empty() {
        crowded.retain(|queue| queue.pump(&broker.services.visit()));
    }
    true
}

/// Puts the dead letters into their queues and answers which of these have more to do. A dead-letter exchange that does
/// not exist loses them, without an error (semantics row 42).
fn send(
    broker: &Broker,
    visit: &Visit<'_>,
    queue: &Arc<Queue>,
    batch: &DeadBatch,
) -> Vec<Arc<Queue>> {
    let Some(settings) = &batch.dead_letter else {
        return Vec::new();
    };
    let exchange = broker
        .vhost(&queue.spec.vhost)
        .and_then(|vhost| Some((vhost.exchange(&settings.exchange)?, vhost)));
    let Some((exchange, vhost)) = exchange else {
        return Vec::new();
    };
    let letters: Vec<Letter<'_>> = batch
        .dead
        .iter()
        .filter_map(|dead| Letter::new(dead, &queue.spec.name, settings, visit.now_ms()))
        .collect();
    let outgoing = letters.iter().map(|letter| {
        let keys: Vec<&str> = letter.keys.iter().map(String::as_str).collect();
        let message = letter.message();
        let route = vhost.route(&exchange, &keys, &message);
        route.hold(visit, &message);
        let mut targets = route.queues;
        targets.retain(|target| !letter.deaths.is_cycle(&target.spec.name));
        if vhost.firehose.is_on() {
            letter.trace(&vhost, &queue.spec.name, &targets);
        }
        Outgoing { message, targets }
    });
    vhost.deliver(visit, outgoing.collect(), true).crowded
}
