//! Keeps the memory of all queues within its budget, without any client's help.
//!
//! One thread: while the budget is exceeded it evicts what is stored and spills what is not; now and then it takes
//! back the spare buffers of queues that nobody uses.

use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use super::Broker;
use super::queue::Queue;

/// How often the budget is looked at.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// Looks between two rounds over idle queues.
const LOOKS_PER_SHRINK: u32 = 100;

/// Starts the thread. It ends with the broker.
///
/// # Errors
/// The system refuses a thread.
pub fn start(broker: &Arc<Broker>) -> std::io::Result<()> {
    let broker = Arc::downgrade(broker);
    thread::Builder::new()
        .name("keeper".to_owned())
        .spawn(move || run(&broker))?;
    Ok(())
}

fn run(broker: &Weak<Broker>) {
    let mut looks = 0;
    loop {
        thread::sleep(LOOK_PAUSE);
        let Some(broker) = broker.upgrade() else {
            return;
        };
        looks += 1;
        if broker.services.memory.is_over() {
            relieve(&broker);
        }
        if looks == LOOKS_PER_SHRINK {
            looks = 0;
            broker.for_each_queue(|queue| queue.shrink());
        }
    }
}

/// Evicts and spills until the budget holds or nothing more can be given back at the moment.
pub(super) fn relieve(broker: &Broker) {
    let memory = &broker.services.memory;
    broker.for_each_queue(|queue| {
        if memory.is_over() {
            queue.evict();
        }
        while memory.is_over() && spill_one(broker, queue) {
            queue.evict();
        }
    });
}

/// Spills one chunk of transient records. `false`: there was none, or the store could not take it.
fn spill_one(broker: &Broker, queue: &Arc<Queue>) -> bool {
    let Some(unsaved) = queue.unsaved() else {
        return false;
    };
    let result = broker.services.store.spill(unsaved.slice.clone());
    if let Err(error) = &result {
        tracing::warn!(queue = %queue.spec.name, vhost = %queue.spec.vhost, %error, "cannot spill messages");
    }
    queue.spilled(&broker.services.visit(), &unsaved, result.is_ok());
    result.is_ok()
}
