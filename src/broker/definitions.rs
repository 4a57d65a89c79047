//! Definitions: users, virtual hosts and what is in them, as RabbitMQ exports them to JSON
//! (`rabbitmqctl export_definitions`, `GET /api/definitions`).
//!
//! An import adds and never removes, as in RabbitMQ (`rabbit_definitions:apply_defs`): users, permissions, policies and
//! parameters are set anew, queues, exchanges and bindings that exist stay as they are. It is planned as a whole before
//! any of it is done: with a mistake in it nothing is.
//!
//! - [`plan`]: a file, entry by entry. [`entries`], [`declared`]: what an entry of each kind comes to; pure.
//! - [`kind`]: the kinds, and which entries are chosen. [`fields`], [`json`], [`limits`]: how entries are read.
//! - [`view`]: what there is, and what the entries before will have made of it.
//! - [`step`]: what is done. [`change`]: what is different then, in words.
//! - [`export`]: the way back.

mod change;
mod declared;
mod entries;
mod export;
mod fields;
mod json;
mod kind;
mod limits;
mod plan;
mod step;
#[cfg(test)]
mod tests;
mod view;

use serde_json::Value;

pub use self::kind::{EntryName, Kind, Selection, UnknownKind};
pub use self::plan::{Mistake, Outcome, Plan, PlanCounts, PlannedEntry};
use self::view::View;
use super::Broker;
use super::arguments::QueueType;
use super::exchange::{EVENT_EXCHANGE, LOG_EXCHANGE};
use super::state::RowError;
use crate::auth::Auth;
use crate::config::NodeLimits;
use crate::message::Ticket;

/// So many mistakes of a file are listed, and other entries that deserve a word; of more mistakes their number is said.
pub const ENTRIES_LISTED_MAX: usize = 100;

/// Why definitions cannot be imported. Nothing was.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionsError {
    /// They are no JSON.
    #[error("no JSON: {0}")]
    Malformed(serde_json::Error),
    /// They are JSON, and something else than definitions.
    #[error("not a JSON object")]
    NoObject,
    /// Entries are wrong.
    #[error("{}", listed(.0))]
    Mistakes(Vec<Mistake>),
}

/// A line for each, and no more lines than can be read.
fn listed(mistakes: &[Mistake]) -> String {
    let listed = mistakes.iter().take(ENTRIES_LISTED_MAX);
    let mut lines: Vec<_> = listed.map(Mistake::to_string).collect();
    let more = mistakes.len().saturating_sub(ENTRIES_LISTED_MAX);
    if more > 0 {
        lines.push(format!("and {more} more mistakes"));
    }
    lines.join("\n")
}

/// Plans imports without doing them. Each file is planned against what the files before it will have made.
pub struct Planner {
    view: View,
}

impl Planner {
    /// Against a broker as it is now.
    pub fn new(broker: &Broker) -> Self {
        Self {
            view: View::of(broker),
        }
    }

    /// Against what a broker finds in these rows of its store, if it is started with these limits and this type of
    /// queues; `auth` was read from the same rows. Without rows: as a first start.
    ///
    /// # Errors
    /// A row cannot be read.
    pub fn stored(
        rows: &[(Vec<u8>, Vec<u8>)],
        auth: &Auth,
        limits: NodeLimits,
        default_queue_type: QueueType,
    ) -> Result<Self, RowError> {
        let view = View::stored(rows, auth, limits, default_queue_type)?;
        Ok(Self { view })
    }

    /// This global parameter is set before the import begins.
    pub fn expect_global_parameter(&mut self, name: &str, value: Value) {
        self.view.global_parameters.insert(name.into(), value);
    }

    /// The exchange for events is made in this virtual host before anything is bound.
    pub fn expect_events(&mut self, vhost: &str) {
        self.view.expect_exchange(vhost, EVENT_EXCHANGE);
    }

    /// The exchange for the log, likewise.
    pub fn expect_log(&mut self, vhost: &str) {
        self.view.expect_exchange(vhost, LOG_EXCHANGE);
    }

    /// Plans the import of a file, from its JSON text.
    ///
    /// # Errors
    /// It is no JSON, or no object. What is wrong with its entries is in the plan.
    pub fn plan(&mut self, text: &[u8], selection: &Selection) -> Result<Plan, DefinitionsError> {
        Plan::of(&mut self.view, text, selection)
    }
}

impl Broker {
    /// Imports definitions from their JSON text. Opens visits: the caller must have none open. What was imported is
    /// safe with the ticket.
    ///
    /// # Errors
    /// What [`Planner::plan`] or [`Self::execute_plan`] refuses.
    pub fn import_definitions(
        &self,
        text: &[u8],
        selection: &Selection,
    ) -> Result<Ticket, DefinitionsError> {
        let plan = Planner::new(self).plan(text, selection)?;
        self.execute_plan(plan)
    }

    /// Does what a plan says. Opens visits: the caller must have none open. What was imported is safe with the ticket.
    ///
    /// # Errors
    /// There are mistakes in the plan: nothing is done. Or somebody changed the broker since it was made, so that an
    /// entry is refused: what stood before it is done.
    pub fn execute_plan(&self, plan: Plan) -> Result<Ticket, DefinitionsError> {
        if !plan.mistakes.is_empty() {
            return Err(DefinitionsError::Mistakes(plan.mistakes));
        }
        let mut latest = Ticket::IMMEDIATE;
        for (name, step) in plan.steps {
            let done = step.execute(self).map_err(|reason| {
                let entry = name;
                DefinitionsError::Mistakes(vec![Mistake { entry, reason }])
            })?;
            latest = latest.max(done);
        }
        Ok(latest)
    }
}
