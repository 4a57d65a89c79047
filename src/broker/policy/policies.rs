//! All policies of a virtual host.

use std::sync::Arc;

use super::{Applied, Policy, PolicyKind, Target};

/// The policies and operator policies of a virtual host. Few, and asked for each declaration: the first that matches
/// wins.
#[derive(Debug, Default)]
pub struct Policies {
    /// Sorted: the one that wins comes first.
    user: Vec<Arc<Policy>>,
    operator: Vec<Arc<Policy>>,
}

impl Policies {
    /// Sets a policy, in the place of one with its name.
    pub(in crate::broker) fn set(&mut self, kind: PolicyKind, policy: Policy) {
        self.remove(kind, &policy.name);
        let policies = self.of_mut(kind);
        let at = policies.partition_point(|other| other.order(&policy).is_lt());
        policies.insert(at, Arc::new(policy));
    }

    /// Removes a policy. `false`: there is none of that name.
    pub(in crate::broker) fn remove(&mut self, kind: PolicyKind, name: &str) -> bool {
        let policies = self.of_mut(kind);
        let count = policies.len();
        policies.retain(|policy| *policy.name != *name);
        policies.len() < count
    }

    /// Those of one kind; the one that wins comes first.
    pub fn of(&self, kind: PolicyKind) -> &[Arc<Policy>] {
        match kind {
            PolicyKind::User => &self.user,
            PolicyKind::Operator => &self.operator,
        }
    }

    /// The policies that hold for a queue or exchange.
    pub fn applied(&self, target: Target, name: &str) -> Applied {
        let first = |policies: &[Arc<Policy>]| {
            policies
                .iter()
                .find(|policy| policy.matches(target, name))
                .cloned()
        };
        Applied {
            policy: first(&self.user),
            operator_policy: first(&self.operator),
        }
    }

    fn of_mut(&mut self, kind: PolicyKind) -> &mut Vec<Arc<Policy>> {
        match kind {
            PolicyKind::User => &mut self.user,
            PolicyKind::Operator => &mut self.operator,
        }
    }
}
