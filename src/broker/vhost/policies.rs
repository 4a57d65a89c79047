//! Policies of a virtual host: set, deleted, and applied to what is there.

use std::sync::Arc;

use super::{Topology, VHost};
use crate::broker::arguments::QueueArguments;
use crate::broker::error::Error;
use crate::broker::exchange::Exchange;
use crate::broker::policy::{Applied, Policy, PolicyKind, Target, queue_settings};
use crate::broker::queue::{Queue, QueueSpec, Settings};
use crate::broker::state;
use crate::message::Ticket;
use crate::message::op::Op;
use crate::store::Visit;

impl VHost {
    /// The policies of one kind; the one that wins comes first.
    pub fn policies(&self, kind: PolicyKind) -> Vec<Arc<Policy>> {
        self.policies.read().of(kind).to_vec()
    }

    /// The policies that hold for a queue.
    pub fn policies_of_queue(&self, queue: &Queue) -> Applied {
        self.policies_for(&queue.spec)
    }

    /// The policies that hold for an exchange.
    pub fn policies_of_exchange(&self, exchange: &Exchange) -> Applied {
        let policies = self.policies.read();
        policies.applied(Target::Exchange, &exchange.spec.name)
    }

    /// Sets a policy, in the place of one of its name, and applies it to what is there. Opens visits: the caller must
    /// have none open. With very many queues it takes its time.
    ///
    /// # Errors
    /// The virtual host was deleted.
    pub fn set_policy(&self, kind: PolicyKind, policy: Policy) -> Result<Ticket, Error> {
        if policy.definition.asks_for_mirrors() {
            tracing::warn!(
                policy = %policy.name, vhost = %self.name,
                "queues are not mirrored: the ha- keys of the policy have no effect"
            );
        }
        self.change_policies(|visit, topology| {
            topology.latest = visit.push(state::put_policy(&self.name, kind, &policy));
            self.tell_policy_set(kind, &policy);
            self.policies.write().set(kind, policy);
            true
        })
    }

    /// Deletes a policy and applies the others to what it held for. Opens visits: the caller must have none open.
    ///
    /// # Errors
    /// The virtual host was deleted, or there is no policy of that name.
    pub fn delete_policy(&self, kind: PolicyKind, name: &str) -> Result<Ticket, Error> {
        let mut found = false;
        let ticket = self.change_policies(|visit, topology| {
            found = self.policies.write().remove(kind, name);
            if found {
                topology.latest = visit.push(Op::DeleteState {
                    key: state::policy_key(&self.name, kind, name),
                });
            }
            found
        })?;
        if found {
            self.tell_policy_cleared(kind, name);
            Ok(ticket)
        } else {
            Err(Error::NoSuchPolicy {
                kind,
                name: name.into(),
                vhost: self.name.clone(),
            })
        }
    }

    /// Puts a policy into the virtual host as the store remembers it; [`Self::apply_policies`] is due.
    pub(in crate::broker) fn recover_policy(&self, kind: PolicyKind, policy: Policy) {
        self.policies.write().set(kind, policy);
    }

    /// Makes everything in the virtual host obey the policies as they are.
    pub(in crate::broker) fn apply_policies(&self) {
        for exchange in self.exchanges() {
            self.apply_to_exchange(&exchange);
        }
        for queue in self.queues() {
            let settings = self.settings_for(&queue.spec);
            if *queue.settings() == settings {
                continue;
            }
            let mut more = queue.apply_settings(&self.services.visit(), settings.shared());
            while more {
                more = queue.pump(&self.services.visit());
            }
        }
    }

    /// What holds for a queue of this declaration at the moment.
    pub(super) fn settings_for(&self, spec: &QueueSpec) -> Settings {
        self.settings_with(spec, &spec.arguments.get())
    }

    /// The same if it had these arguments, which are of its type.
    pub(super) fn settings_with(&self, spec: &QueueSpec, arguments: &QueueArguments) -> Settings {
        let applied = self.policies_for(spec);
        queue_settings(arguments, &applied.effective())
    }

    /// The alternate exchange of an exchange at the moment: its argument's, else its policy's
    /// (`rabbit_policy:get_arg`). The default exchange has none, as in RabbitMQ.
    pub(super) fn alternate_for(&self, exchange: &Exchange) -> Option<Arc<str>> {
        if let Some(alternate) = &exchange.spec.alternate {
            return Some(alternate.as_ref().into());
        }
        if exchange.is_default() {
            return None;
        }
        let effective = self.policies_of_exchange(exchange).effective();
        effective.text("alternate-exchange").map(Into::into)
    }

    /// One change at a time, so that the last one is the last to be applied.
    fn change_policies(
        &self,
        change: impl FnOnce(&Visit<'_>, &mut Topology) -> bool,
    ) -> Result<Ticket, Error> {
        let _changing = self.policy_changes.lock();
        let (changed, ticket) = {
            let visit = self.services.visit();
            let mut topology = self.topology.lock();
            if topology.deleted {
                return Err(Error::VHostDeleted(self.name.clone()));
            }
            (change(&visit, &mut topology), topology.latest)
        };
        // What was declared meanwhile obeys already.
        if changed {
            self.apply_policies();
        }
        Ok(ticket)
    }

    fn apply_to_exchange(&self, exchange: &Arc<Exchange>) {
        let mut topology = self.topology.lock();
        let name = &exchange.spec.name;
        let is_there = self
            .exchange(name)
            .is_some_and(|current| Arc::ptr_eq(&current, exchange));
        let (before, after) = (exchange.alternate(), self.alternate_for(exchange));
        if !is_there || before == after {
            return;
        }
        if let Some(before) = before {
            topology.remove_alternate(&before, name);
        }
        if let Some(after) = &after {
            topology.add_alternate(after, name);
        }
        exchange.set_alternate(after);
    }

    fn policies_for(&self, spec: &QueueSpec) -> Applied {
        let target = Target::Queue(spec.arguments.get().queue_type());
        self.policies.read().applied(target, &spec.name)
    }
}
