//! Reads cold stretches of queues and what is due back from the store, outside all locks.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use super::due::PageRequest;
use super::queue::Queue;
use crate::clock::Clock;
use crate::message::{QueueId, Seq};
use crate::store::{DuePage, LoadError, Loaded, Store};

/// Threads that read. RocksDB calls block, so they must not run on the runtime's workers; and a disk gives more when it
/// is asked for several things at a time.
const LOADER_THREADS: usize = 6;

/// Pause before a failed read is tried again. The queue stands still meanwhile; nothing is skipped.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Something that has entries in the store which are due at a time.
pub trait DueOwner: Send + Sync {
    /// Takes the page that was asked for of what is stored under `id` ([`super::due::DueIndex::install`]) and does what
    /// that allows, in visits of its own. Called outside all locks.
    fn install_due(self: Arc<Self>, id: QueueId, page: DuePage);
}

enum Request {
    Records {
        queue: Weak<Queue>,
        from: Seq,
        upto: Seq,
    },
    Due {
        owner: Weak<dyn DueOwner>,
        id: QueueId,
        page: PageRequest,
    },
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
        let _ = self.requests.send(Request::Records {
            queue: Arc::downgrade(queue),
            from,
            upto,
        });
    }

    /// Reads what is due of the owner with this id in the store, and gives it to `owner` once.
    pub fn load_due(&self, owner: Weak<dyn DueOwner>, id: QueueId, page: PageRequest) {
        // As above.
        let _ = self.requests.send(Request::Due { owner, id, page });
    }
}

fn run(store: &Store, clock: &dyn Clock, inbox: &Mutex<Receiver<Request>>) {
    loop {
        let request = inbox.lock().recv();
        let Ok(request) = request else { return };
        if let Some(answer) = request.read(store) {
            answer.install(store, clock);
        }
    }
}

/// What was read for a request.
enum Answer {
    Records {
        queue: Arc<Queue>,
        from: Seq,
        loaded: Loaded,
    },
    Due {
        owner: Arc<dyn DueOwner>,
        id: QueueId,
        page: DuePage,
    },
}

impl Request {
    /// Reads what is asked for. `None`: nobody wants it any more.
    fn read(self, store: &Store) -> Option<Answer> {
        match self {
            Self::Records { queue, from, upto } => read_records(store, &queue, from, upto),
            Self::Due { owner, id, page } => read_due(store, &owner, id, page),
        }
    }
}

impl Answer {
    /// Gives it to who has asked.
    fn install(self, store: &Store, clock: &dyn Clock) {
        match self {
            Self::Records {
                queue,
                from,
                loaded,
            } => {
                let mut more = queue.install(&store.visit(clock.now_ms()), from, loaded);
                while more {
                    more = queue.pump(&store.visit(clock.now_ms()));
                }
            }
            Self::Due { owner, id, page } => owner.install_due(id, page),
        }
    }
}

fn read_records(store: &Store, queue: &Weak<Queue>, from: Seq, upto: Seq) -> Option<Answer> {
    loop {
        let queue = queue.upgrade().filter(|queue| !queue.is_deleted())?;
        let id = queue.store_id(from);
        if let Some((covered_upto, bytes)) = store.load_extent(id, from, upto) {
            queue.load_begins(from, covered_upto, bytes);
        }
        match store.load(id, from, upto) {
            Ok(loaded) => {
                return Some(Answer::Records {
                    queue,
                    from,
                    loaded,
                });
            }
            Err(error) => {
                tracing::error!(queue = %queue.spec.name, vhost = %queue.spec.vhost, %error, "cannot read messages");
            }
        }
        drop(queue);
        thread::sleep(RETRY_PAUSE);
    }
}

fn read_due(
    store: &Store,
    owner: &Weak<dyn DueOwner>,
    id: QueueId,
    page: PageRequest,
) -> Option<Answer> {
    let from = (page.from.time_ms, page.from.seq);
    loop {
        let owner = owner.upgrade()?;
        match store.due(id, from, page.rows, page.bytes) {
            Ok(page) => return Some(Answer::Due { owner, id, page }),
            Err(LoadError::Closed) => return None,
            Err(error) => {
                tracing::error!(owner = id, %error, "cannot read what is due");
            }
        }
        drop(owner);
        thread::sleep(RETRY_PAUSE);
    }
}

/// The requests of a [`Loader`] without threads, for who serves them when it suits.
#[cfg(test)]
pub(super) struct LoaderByHand {
    inbox: Receiver<Request>,
    /// Read and not given to who has asked, as a thread may be held up.
    read: std::cell::RefCell<Vec<Answer>>,
}

#[cfg(test)]
impl LoaderByHand {
    pub(super) fn new() -> (Loader, Self) {
        let (requests, inbox) = channel();
        let read = std::cell::RefCell::default();
        (Loader { requests }, Self { inbox, read })
    }

    /// Reads for the request that waits longest. `false`: there is none, or no thread for it.
    pub(super) fn read_one(&self, store: &Store) -> bool {
        if self.read.borrow().len() == LOADER_THREADS {
            return false;
        }
        let request = self.inbox.try_recv();
        request.is_ok_and(|request| {
            let answer = request.read(store);
            self.read.borrow_mut().extend(answer);
            true
        })
    }

    /// Gives one that was read to who has asked, the one that was read last if `last`. `false`: there is none.
    pub(super) fn install_one(&self, last: bool, store: &Store, clock: &dyn Clock) -> bool {
        let answer = {
            let mut read = self.read.borrow_mut();
            if read.is_empty() {
                return false;
            }
            let at = if last { read.len() - 1 } else { 0 };
            read.remove(at)
        };
        answer.install(store, clock);
        true
    }

    /// Serves the request that waits longest. `false`: there is none.
    pub(super) fn serve_one(&self, store: &Store, clock: &dyn Clock) -> bool {
        self.install_one(false, store, clock)
            || (self.read_one(store) && {
                self.install_one(false, store, clock);
                true
            })
    }
}
