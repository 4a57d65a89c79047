//! Global parameters: values under a name that belong to no virtual host. `cluster_name` is one.

use std::sync::Arc;

use serde_json::Value;

use super::Broker;
use super::error::Error;
use super::state;
use super::vhost::check_parameter;
use crate::message::Ticket;
use crate::message::op::Op;
use crate::store::Visit;

/// The parameter that names the cluster, also to clients.
pub const CLUSTER_NAME: &str = "cluster_name";

/// RabbitMQ's component of global parameters.
const GLOBAL: &str = "global";

impl Broker {
    /// The value of a global parameter.
    pub fn global_parameter(&self, name: &str) -> Option<Value> {
        self.global_parameters.read().get(name).cloned()
    }

    /// All global parameters, by name.
    pub fn global_parameters(&self) -> Vec<(Arc<str>, Value)> {
        let parameters = self.global_parameters.read();
        let parameters = parameters.iter();
        parameters
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// Sets a global parameter, in the place of one of its name.
    ///
    /// # Errors
    /// The name is empty or too long, or the value is too large.
    pub fn set_global_parameter(
        &self,
        visit: &Visit<'_>,
        name: &str,
        value: Value,
    ) -> Result<Ticket, Error> {
        check_parameter(&[name], &value)?;
        let mut parameters = self.global_parameters.write();
        let ticket = visit.push(state::put_global_parameter(name, &value));
        self.services
            .tell_parameter(None, GLOBAL, name, Some(&value));
        parameters.insert(name.into(), value);
        Ok(ticket)
    }

    /// Clears a global parameter; `None`: there is none of that name.
    pub fn clear_global_parameter(&self, visit: &Visit<'_>, name: &str) -> Option<Ticket> {
        let mut parameters = self.global_parameters.write();
        parameters.remove(name)?;
        let key = state::global_parameter_key(name);
        let ticket = visit.push(Op::DeleteState { key });
        self.services.tell_parameter(None, GLOBAL, name, None);
        Some(ticket)
    }

    /// Puts a global parameter back as the store remembers it.
    pub(super) fn recover_global_parameter(&self, name: &str, value: Value) {
        self.global_parameters.write().insert(name.into(), value);
    }
}
