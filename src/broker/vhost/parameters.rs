//! Runtime parameters of a virtual host: values that components such as federation keep under a name. The broker stores
//! them; limits and policies, which RabbitMQ keeps among them, are not here.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::VHost;
use crate::broker::error::Error;
use crate::broker::state;
use crate::message::Ticket;
use crate::message::op::Op;
use crate::store::Visit;

/// Names travel in the keys of the store with one byte of length.
pub(in crate::broker) const PARAMETER_NAME_BYTES_MAX: usize = 255;

/// A value takes at most this much as JSON.
pub(in crate::broker) const PARAMETER_BYTES_MAX: usize = 1024 * 1024;

/// Values by component and name.
pub(super) type Parameters = BTreeMap<(Arc<str>, Arc<str>), Value>;

/// A runtime parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// What it belongs to, for instance `federation-upstream`.
    pub component: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its value.
    pub value: Value,
}

impl VHost {
    /// All runtime parameters, by component and name.
    pub fn parameters(&self) -> Vec<Parameter> {
        let parameters = self.parameters.read();
        let parameters = parameters.iter();
        parameters
            .map(|((component, name), value)| Parameter {
                component: component.clone(),
                name: name.clone(),
                value: value.clone(),
            })
            .collect()
    }

    /// Sets a runtime parameter, in the place of one of its name.
    ///
    /// # Errors
    /// A name is empty or too long, the value is too large, or the virtual host was deleted.
    pub fn set_parameter(
        &self,
        visit: &Visit<'_>,
        component: &str,
        name: &str,
        value: Value,
    ) -> Result<Ticket, Error> {
        check_parameter(&[component, name], &value)?;
        let mut topology = self.topology.lock();
        if topology.deleted {
            return Err(Error::VHostDeleted(self.name.clone()));
        }
        let row = state::put_parameter(&self.name, component, name, &value);
        topology.latest = visit.push(row);
        self.services
            .tell_parameter(Some(&self.name), component, name, Some(&value));
        self.recover_parameter(component, name, value);
        Ok(topology.latest)
    }

    /// Clears a runtime parameter; `None`: there is none of that name.
    pub fn clear_parameter(
        &self,
        visit: &Visit<'_>,
        component: &str,
        name: &str,
    ) -> Option<Ticket> {
        let mut topology = self.topology.lock();
        let known = (Arc::from(component), Arc::from(name));
        self.parameters.write().remove(&known)?;
        topology.latest = visit.push(Op::DeleteState {
            key: state::parameter_key(&self.name, component, name),
        });
        self.services
            .tell_parameter(Some(&self.name), component, name, None);
        Some(topology.latest)
    }

    /// Puts a parameter back as the store remembers it.
    pub(in crate::broker) fn recover_parameter(&self, component: &str, name: &str, value: Value) {
        let key = (Arc::from(component), Arc::from(name));
        self.parameters.write().insert(key, value);
    }
}

/// Refuses names and values that cannot be stored.
pub(in crate::broker) fn check_parameter(names: &[&str], value: &Value) -> Result<(), Error> {
    let fits = |name: &&str| (1..=PARAMETER_NAME_BYTES_MAX).contains(&name.len());
    if names.iter().all(fits) && value.to_string().len() <= PARAMETER_BYTES_MAX {
        Ok(())
    } else {
        Err(Error::InvalidParameter)
    }
}
