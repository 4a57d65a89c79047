//! Reads cold stretches of queues back from the store, outside all locks.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use super::queue::Queue;
use crate::clock::Clock;
use crate::message::Seq;
use crate::store::Store;

/// Threads that read. RocksDB calls block, so they must not run on the runtime's workers.
const LOADER_THREADS: usize = 2;

/// Pause before a failed read is tried again. The queue stands still meanwhile; nothing is skipped.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

struct Request {
    queue: Weak<Queue>,
    from: Seq,
    upto: Seq,
}

/// Handle of the reading threads. They end with the last handle.
#[derive(Clone)]
pub struct Loader {
    requests: Sender<Request>,
}

impl Loader {
    /// Starts the threads.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(store: &Store, clock: &Arc<dyn Clock>) -> std::io::Result<Self> {
        let (requests, inbox) = channel();
        let inbox = Arc::new(Mutex::new(inbox));
        for index in 0..LOADER_THREADS {
            let (store, clock, inbox) = (store.clone(), clock.clone(), inbox.clone());
            thread::Builder::new()
                .name(format!("loader-{index}"))
                .spawn(move || run(&store, &*clock, &inbox))?;
        }
        Ok(Self { requests })
    }

    /// Reads what `queue` has from `from` on, at most up to `upto`, and gives it to the queue.
    pub(super) fn request(&self, queue: &Arc<Queue>, from: Seq, upto: Seq) {
        // The threads live as long as this sender.
        let _ = self.requests.send(Request {
            queue: Arc::downgrade(queue),
            from,
            upto,
        });
    }
}

fn run(store: &Store, clock: &dyn Clock, inbox: &Mutex<Receiver<Request>>) {
    loop {
        let request = inbox.lock().recv();
        let Ok(request) = request else { return };
        serve(store, clock, &request);
    }
}

fn serve(store: &Store, clock: &dyn Clock, request: &Request) {
    while let Some(queue) = request.queue.upgrade() {
        if queue.is_deleted() {
            return;
        }
        match store.load(queue.store_id(request.from), request.from, request.upto) {
            Ok(loaded) => {
                let mut more = queue.install(&store.visit(clock.now_ms()), request.from, loaded);
                while more {
                    more = queue.pump(&store.visit(clock.now_ms()));
                }
                return;
            }
            Err(error) => {
                tracing::error!(queue = %queue.spec.name, vhost = %queue.spec.vhost, %error, "cannot read messages");
                drop(queue);
                thread::sleep(RETRY_PAUSE);
            }
        }
    }
}
