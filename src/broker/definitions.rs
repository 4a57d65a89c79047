//! Definitions: users, virtual hosts and what is in them, as RabbitMQ exports them to JSON
//! (`rabbitmqctl export_definitions`, `GET /api/definitions`).
//!
//! An import adds and never removes, as in RabbitMQ (`rabbit_definitions:apply_defs`): users, permissions, policies and
//! parameters are set anew, queues, exchanges and bindings that exist stay as they are. It stops at the first entry
//! that is refused; what came before it stays.

mod entries;
mod export;
mod json;
mod limits;
#[cfg(test)]
mod tests;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use self::entries::{
    BindingEntry, ExchangeEntry, GlobalParameterEntry, ParameterEntry, PermissionEntry,
    PolicyEntry, QueueEntry, UserEntry, VHostEntry,
};
use super::Broker;
use crate::message::Ticket;

/// Why definitions cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionsError {
    /// They are no JSON.
    #[error("no JSON: {0}")]
    Malformed(serde_json::Error),
    /// They are JSON, and something else than definitions.
    #[error("{0}")]
    Unexpected(String),
    /// An entry is malformed or refused.
    #[error("{category}[{index}]{name}: {reason}")]
    Entry {
        /// The list that it is in.
        category: &'static str,
        /// Its place in that list, from 0.
        index: usize,
        /// Its name, if it has one: ` 'name' in vhost 'vhost'`.
        name: String,
        /// What is wrong.
        reason: String,
    },
}

/// What applies one kind of entry: the latest ticket, or what is wrong.
type Apply<T> = fn(&Broker, T) -> Result<Ticket, String>;

impl Broker {
    /// Imports definitions from their JSON text. Opens visits: the caller must have none open. What was imported is
    /// safe with the ticket.
    ///
    /// # Errors
    /// The first entry that cannot be applied. Those before it are.
    pub fn import_definitions(&self, text: &[u8]) -> Result<Ticket, DefinitionsError> {
        let definitions: Value = match text.trim_ascii() {
            // As in RabbitMQ an empty file is no definitions.
            [] => return Ok(Ticket::IMMEDIATE),
            text => serde_json::from_slice(text).map_err(DefinitionsError::Malformed)?,
        };
        let Value::Object(definitions) = definitions else {
            return Err(DefinitionsError::Unexpected("not a JSON object".into()));
        };
        let category = "topic_permissions";
        let count = list(&definitions, category)?.len();
        if count > 0 {
            tracing::warn!(
                category,
                count,
                "definitions that have no effect are skipped"
            );
        }
        // RabbitMQ's order: what comes later needs what came before.
        let tickets = [
            self.import(&definitions, "users", UserEntry::apply)?,
            self.import(&definitions, "vhosts", VHostEntry::apply)?,
            self.import(&definitions, "permissions", PermissionEntry::apply)?,
            self.import(
                &definitions,
                "global_parameters",
                GlobalParameterEntry::apply,
            )?,
            self.import(&definitions, "exchanges", ExchangeEntry::apply)?,
            self.import(&definitions, "policies", PolicyEntry::apply)?,
            self.import(&definitions, "parameters", ParameterEntry::apply)?,
            self.import(&definitions, "queues", QueueEntry::apply)?,
            self.import(&definitions, "bindings", BindingEntry::apply)?,
        ];
        Ok(tickets.into_iter().fold(Ticket::IMMEDIATE, Ticket::max))
    }

    fn import<T: DeserializeOwned>(
        &self,
        definitions: &Map<String, Value>,
        category: &'static str,
        apply: Apply<T>,
    ) -> Result<Ticket, DefinitionsError> {
        let entries = list(definitions, category)?;
        let mut latest = Ticket::IMMEDIATE;
        for (index, entry) in entries.iter().enumerate() {
            let parsed = serde_json::from_value(entry.clone()).map_err(|error| error.to_string());
            let applied = parsed.and_then(|parsed| apply(self, parsed));
            let ticket = applied.map_err(|reason| DefinitionsError::Entry {
                category,
                index,
                name: described(entry),
                reason,
            })?;
            latest = latest.max(ticket);
        }
        if !entries.is_empty() {
            tracing::info!(category, count = entries.len(), "imported definitions");
        }
        Ok(latest)
    }
}

/// The entries of a category; none if it is absent.
fn list<'a>(
    definitions: &'a Map<String, Value>,
    category: &str,
) -> Result<&'a [Value], DefinitionsError> {
    match definitions.get(category) {
        None => Ok(&[]),
        Some(Value::Array(entries)) => Ok(entries),
        Some(_) => {
            let reason = format!("'{category}' is not a list");
            Err(DefinitionsError::Unexpected(reason))
        }
    }
}

/// How an entry is called in an error.
fn described(entry: &Value) -> String {
    let text = |key: &str| entry.get(key).and_then(Value::as_str);
    let name = text("name")
        .or_else(|| text("user"))
        .or_else(|| text("source"));
    let name = name.map(|name| format!(" '{name}'")).unwrap_or_default();
    let vhost = text("vhost").map(|vhost| format!(" in vhost '{vhost}'"));
    name + &vhost.unwrap_or_default()
}
