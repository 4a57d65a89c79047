//! What a queue does at a time: messages expire, consumers that hold a message for too long are cancelled, and a queue
//! that nobody uses goes.

use std::sync::Arc;

use super::{Inner, Queue};
use crate::broker::arguments::QueueType;
use crate::broker::delivery::Cancellation;
use crate::broker::timers::Timed;

impl Queue {
    /// The queue begins to count how long it is unused, and to expire what it brought along.
    pub(in crate::broker) fn started(self: &Arc<Self>, now_ms: u64) {
        if let Some(stream) = self.stream() {
            return stream.started(self, now_ms);
        }
        let mut inner = self.inner.lock();
        inner.used_ms = now_ms;
        self.set_timer(&inner);
        if inner.state.is_too_full() {
            // What was with consumers when the broker stopped, or about to be moved, is ready again.
            self.call_at(now_ms);
        }
    }

    /// The queue was declared again, passively or not: for `x-expires` it is in use (semantics row 78), unless it is a
    /// quorum queue, which in RabbitMQ does not hear of it.
    pub fn declared_again(&self, now_ms: u64) {
        if self.spec.arguments.get().queue_type() != QueueType::Quorum {
            self.inner.lock().used_ms = now_ms;
        }
    }

    /// The same when only consumers got something. Most have no timeout.
    pub(super) fn set_timer_for_consumers(self: &Arc<Self>, inner: &Inner) {
        if inner.state.consumers.deadline_ms().is_some() {
            self.set_timer(inner);
        }
    }

    /// Asks to be called when there is something to do. After every change that may bring an earlier time.
    pub(super) fn set_timer(self: &Arc<Self>, inner: &Inner) {
        let times_ms = [
            inner.state.deadline_ms(),
            inner.state.consumers.deadline_ms(),
            unused_deadline_ms(inner),
        ];
        let Some(next_ms) = times_ms.into_iter().flatten().min() else {
            return;
        };
        self.call_at(next_ms);
    }

    /// Calls [`Timed::due`] at this time at the latest.
    pub(super) fn call_at(self: &Arc<Self>, at_ms: u64) {
        let extras = self.extras.get_or_init(Box::default);
        let timer = extras.timer.get_or_init(|| {
            let me: Arc<dyn Timed> = self.clone();
            self.services.timers.register(Arc::downgrade(&me))
        });
        timer.set_by(at_ms);
    }
}

/// When the queue is to be deleted, if nobody uses it until then.
fn unused_deadline_ms(inner: &Inner) -> Option<u64> {
    let expires_ms = inner.state.settings.expires_ms?;
    (inner.state.consumers.count() == 0).then(|| inner.used_ms.saturating_add(expires_ms))
}

impl Timed for Queue {
    fn due(self: Arc<Self>, _now_ms: u64) {
        let visit = self.services.visit();
        if let Some(stream) = self.stream() {
            return stream.due(&self, &visit);
        }
        let now_ms = visit.now_ms();
        let mut inner = self.inner.lock();
        if inner.deleted {
            return;
        }
        if unused_deadline_ms(&inner).is_some_and(|deadline_ms| deadline_ms <= now_ms) {
            drop(inner);
            if let Some(vhost) = self.vhost.upgrade() {
                vhost.queue_expired(&visit, &self);
            }
            return;
        }
        for (sink, timeout_ms) in inner.state.consumers.stop_late(now_ms) {
            // Its channel gives back what it holds, and takes it off.
            sink.cancelled(Cancellation::TimedOut { timeout_ms });
        }
        let mut more = self.trim(&mut inner, &visit);
        more |= self.dispatch(&mut inner, &visit);
        self.report_memory(&mut inner);
        if more {
            self.call_at(now_ms);
        }
        // What is to be loaded first comes back with the load, and that sets the timer.
        if !super::is_loading(&inner) {
            self.set_timer(&inner);
        }
    }
}
