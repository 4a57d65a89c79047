//! Delay: a message becomes visible when it has waited for as long as the queue (`x-message-delay`) or its own header
//! `x-delay` says.
//!
//! Until then it is in no lane but in [`Delays`], where memory does not grow with what waits. It leaves that and is
//! appended in one epoch.

use std::sync::Arc;

use super::publish::Batch;
use super::state::Effects;
use super::{Inner, Published, Queue};
use crate::broker::arguments::EXPIRY_MS_MAX;
use crate::broker::delays::{Delays, Target};
use crate::broker::exchange::delay_header;
use crate::message::record::NewMessage;
use crate::message::run::Run;
use crate::message::{QueueId, lane_id};
use crate::store::{RecoveredDue, Visit};

/// The number of the lane under whose id the messages are stored that wait. There is no such lane.
const DELAY_LANE: u16 = 1 << 14;

/// Whether that is the number of a lane.
pub(in crate::broker) const fn is_delay_lane(number: u16) -> bool {
    number == DELAY_LANE
}

/// How long a message waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Delay {
    pub(super) ms: u64,
    /// Its header says so.
    pub(super) by_header: bool,
}

/// How long a message waits in a queue that delays by `queue_ms`; `None`: it does not wait. Its header `x-delay` comes
/// first if it is at least 0: a negative one says that the message was delayed before, by whomever.
pub(super) fn delay(queue_ms: u64, properties: &[u8]) -> Option<Delay> {
    let own_ms = delay_header(properties)
        .and_then(|ms| u64::try_from(ms).ok())
        .filter(|ms| *ms <= EXPIRY_MS_MAX);
    let delay = match own_ms {
        Some(ms) => Delay {
            ms,
            by_header: true,
        },
        None => Delay {
            ms: queue_ms,
            by_header: false,
        },
    };
    (delay.ms > 0).then_some(delay)
}

impl Inner {
    /// Number of messages that wait until they become visible.
    pub(super) fn delayed(&self) -> u64 {
        self.delays.as_ref().map_or(0, |delays| delays.len())
    }
}

impl Queue {
    /// The messages that wait, if any ever did. To be listed and removed.
    pub fn delays(&self) -> Option<Arc<Delays>> {
        self.inner.lock().delays.clone()
    }

    /// Puts the messages back that waited when the broker stopped. They go on with [`Delays::start`].
    pub(super) fn recover_delays(self: &Arc<Self>, found: RecoveredDue) {
        self.delays_or_new(&mut self.inner.lock(), found);
    }

    fn delays_or_new<'inner>(
        self: &Arc<Self>,
        inner: &'inner mut Inner,
        found: RecoveredDue,
    ) -> &'inner Arc<Delays> {
        inner.delays.get_or_insert_with(|| {
            let owner: QueueId = lane_id(self.spec.id, DELAY_LANE);
            let target = Target::Queue(Arc::downgrade(self));
            Delays::new(owner, target, &self.services, found)
        })
    }

    /// Lets a message wait.
    pub(super) fn wait(
        self: &Arc<Self>,
        inner: &mut Inner,
        visit: &Visit<'_>,
        message: &NewMessage<'_>,
        delay: Delay,
    ) {
        let Delay { ms, by_header } = delay;
        let delays = self.delays_or_new(inner, RecoveredDue::default());
        delays.hold(visit, message, &[], ms, by_header);
    }

    /// Messages have waited: they are appended and handed out.
    pub(in crate::broker) fn become_visible<'m>(
        self: &Arc<Self>,
        visit: &Visit<'_>,
        messages: impl Iterator<Item = &'m NewMessage<'m>>,
    ) -> Published {
        let mut inner = self.inner.lock();
        if inner.deleted {
            return Published::Deleted;
        }
        let mut batch = Batch::of_moved();
        for message in messages {
            let identity = inner.state.identity(visit.now_ms(), message);
            let run = Run::single(message);
            let (seq, _) = self.append(&mut inner, visit, run, &mut batch);
            if let Some(identity) = identity {
                let mut effects = Effects::default();
                inner.state.became_visible(&identity, seq, &mut effects);
                self.apply(&mut inner, visit, effects);
            }
        }
        self.finish(inner, visit, batch)
    }

    /// A message that waited was taken out.
    pub(in crate::broker) fn waits_no_more(
        self: &Arc<Self>,
        visit: &Visit<'_>,
        message: &NewMessage<'_>,
    ) {
        let mut inner = self.inner.lock();
        if let Some(identity) = inner.state.identity(visit.now_ms(), message) {
            let mut effects = Effects::default();
            inner.state.free_waiting_id(&identity, &mut effects);
            self.apply(&mut inner, visit, effects);
        }
    }

    /// How long a message waits here.
    pub(super) fn delay_of(inner: &Inner, message: &NewMessage<'_>) -> Option<Delay> {
        delay(inner.state.settings.delay_ms?, message.properties)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::field;
    use crate::message::properties::Rewrite;

    fn with_header(ms: i64) -> Vec<u8> {
        let mut value = Vec::new();
        field::put_long(&mut value, ms);
        let rewrite = Rewrite {
            headers: &[(b"x-delay", Some(&value))],
            ..Rewrite::default()
        };
        rewrite.apply(&[0, 0]).unwrap()
    }

    #[test]
    fn the_header_comes_before_the_queue_unless_it_says_that_the_message_has_waited() {
        let by = |ms, by_header| Some(Delay { ms, by_header });
        assert_eq!(delay(500, &[0, 0]), by(500, false));
        assert_eq!(delay(0, &[0, 0]), None);
        assert_eq!(delay(500, &with_header(7)), by(7, true));
        assert_eq!(delay(0, &with_header(7)), by(7, true));
        assert_eq!(delay(500, &with_header(0)), None);
        assert_eq!(delay(500, &with_header(-7)), by(500, false));
        assert_eq!(delay(500, &with_header(i64::MAX)), by(500, false));
    }

    #[test]
    fn the_lane_of_what_waits_is_no_other_lane() {
        assert!(is_delay_lane(DELAY_LANE));
        assert!(!(0..=255).any(is_delay_lane));
        assert_eq!(super::super::retry_lane(DELAY_LANE), None);
    }
}
