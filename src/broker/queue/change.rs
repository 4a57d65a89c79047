//! Other settings for a queue that is in use: a policy came or went, or administration changed its arguments.

use std::sync::Arc;

use super::groups::Groups;
use super::state::State;
use super::{Queue, Settings};
use crate::broker::arguments::ConsumerChoice;
use crate::message::Epoch;
use crate::store::Visit;

/// Why a queue cannot have other arguments at the moment, or ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unchangeable {
    /// The argument that would have to change.
    pub argument: &'static str,
    /// Why it cannot.
    pub reason: &'static str,
}

impl Queue {
    /// Other settings hold from now on, also for what is in the queue: a policy came or went. True: call
    /// [`Self::pump`] in further visits.
    pub fn apply_settings(self: &Arc<Self>, visit: &Visit<'_>, settings: Arc<Settings>) -> bool {
        // Policies say nothing that a queue could refuse.
        self.change_settings(visit, settings).unwrap_or_default()
    }

    /// As [`Self::apply_settings`], for settings that follow from other arguments.
    ///
    /// # Errors
    /// What is in the queue does not allow it now. Nothing is changed.
    pub(in crate::broker) fn change_settings(
        self: &Arc<Self>,
        visit: &Visit<'_>,
        settings: Arc<Settings>,
    ) -> Result<bool, Unchangeable> {
        if let Some(stream) = self.stream() {
            self.obey_rates(&mut self.inner.lock().state, &settings.rates);
            stream.apply_settings(self, visit, settings);
            return Ok(false);
        }
        let mut inner = self.inner.lock();
        if inner.deleted {
            return Ok(false);
        }
        inner.state.check_change(&settings)?;
        self.obey_rates(&mut inner.state, &settings.rates);
        let epoch = visit.epoch();
        if inner.state.apply(settings, epoch)
            && self.spec.durable
            && let Some(lane) = inner.state.lanes_mut().first_mut()
        {
            lane.pending.dirty(epoch, || visit.mark_dirty(self.clone()));
        }
        let more = self.work(&mut inner, visit);
        self.set_timer(&inner);
        Ok(more)
    }
}

impl State {
    /// Whether these settings can hold from now on.
    fn check_change(&self, settings: &Settings) -> Result<(), Unchangeable> {
        let group = &settings.message_group;
        let regroups = group.is_some() && *group != self.settings.message_group;
        // Which groups are busy is not known of messages that were handed out without one, or in another one.
        if regroups && (self.unacked > 0 || self.retries() > 0) {
            return Err(Unchangeable {
                argument: "x-message-group",
                reason: "messages are with consumers or wait for a retry",
            });
        }
        Ok(())
    }

    /// Other settings hold from now on. What they mean for messages that are there shows when
    /// [`Self::enforce_limits`] and [`Self::expire`] are called next.
    ///
    /// Lanes stay as they are: other priorities are for messages that come. True: the ids that were known are
    /// forgotten, and have to be in the store too.
    pub(super) fn apply(&mut self, settings: Arc<Settings>, epoch: Epoch) -> bool {
        if settings.message_group != self.settings.message_group {
            self.regroup(settings.message_group.clone());
        }
        self.consumers
            .set_single_active(settings.single_active_consumer);
        let least_loaded = settings.consumer_choice == ConsumerChoice::LeastLoaded;
        self.consumers.set_least_loaded(least_loaded);
        let forgets = settings.deduplication != self.settings.deduplication
            && self.deduplicate(settings.deduplication.as_ref(), epoch);
        self.settings = settings;
        forgets
    }

    /// Groups are made by another header, or by none. Nothing waits for those before.
    fn regroup(&mut self, header: Option<Arc<str>>) {
        for lane in &mut self.lanes {
            let blocked: Vec<_> = lane.blocked.keys().copied().collect();
            for seq in blocked {
                lane.release(seq);
            }
        }
        self.groups = header.map(|header| Box::new(Groups::new(header)));
    }
}
