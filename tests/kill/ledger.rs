//! What the clients did and saw, in one order, for the checker to judge.

use std::sync::{Mutex, PoisonError};

/// A message, by its publisher and the publisher's count.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MessageId {
    pub(crate) publisher: u32,
    pub(crate) number: u64,
}

/// The queues that take part, by their index in [`queue_name`].
pub(crate) type Queue = usize;

/// One life of a consumer: a channel, from its opening to its end.
pub(crate) type Session = u64;

/// Where a message is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Through the default exchange to one queue.
    Direct(Queue),
    /// Through the fanout exchange to the queues behind it.
    Fanout,
    /// On some way to one queue that does not keep the order of publishing.
    To(Queue),
}

pub(crate) const DIRECT_QUEUES: usize = 3;
pub(crate) const QUEUES: usize = 6;
pub(crate) const FANOUT_EXCHANGE: &str = "kill.fanout";

pub(crate) fn queue_name(queue: Queue) -> String {
    match queue {
        0..DIRECT_QUEUES => format!("kill.direct.{queue}"),
        DIRECT_QUEUES..QUEUES => format!("kill.fanout.{queue}"),
        _ => format!("kill.mixed.{queue}"),
    }
}

/// Whether messages come out of a queue as they were published.
pub(crate) const fn keeps_order(queue: Queue) -> bool {
    queue < QUEUES
}

impl Route {
    /// The queues that the message has to reach.
    pub(crate) fn queues(self) -> std::ops::Range<Queue> {
        match self {
            Self::Direct(queue) | Self::To(queue) => queue..queue + 1,
            Self::Fanout => DIRECT_QUEUES..QUEUES,
        }
    }
}

/// What happened. What a client does is noted before it does it, what it sees after.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Sent {
        message: MessageId,
        route: Route,
        persistent: bool,
    },
    /// basic.ack of the broker, or commit-ok of the message's transaction.
    Confirmed(MessageId),
    /// rollback-ok of the message's transaction.
    RolledBack(MessageId),
    Delivered {
        queue: Queue,
        /// `None` when the body is not one that was ever built.
        message: Option<MessageId>,
        session: Session,
        redelivered: bool,
    },
    Acknowledged {
        queue: Queue,
        message: MessageId,
    },
    Requeued {
        queue: Queue,
        message: MessageId,
    },
    /// The session is closed or dropped by its client: what it holds goes back.
    Ended(Session),
    /// From here on this session alone consumes its queue, and returns nothing.
    Draining(Session),
    /// The broker was killed, and every client has noticed.
    Crashed,
}

/// The one list of events.
#[derive(Default)]
pub(crate) struct Ledger(Mutex<Vec<Event>>);

impl Ledger {
    pub(crate) fn note(&self, event: Event) {
        self.note_all([event]);
    }

    pub(crate) fn note_all(&self, events: impl IntoIterator<Item = Event>) {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        list.extend(events);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        let list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        list.clone()
    }
}
