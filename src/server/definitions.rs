//! Files with definitions that a start imports, or that are only looked through.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::StartError;
use crate::auth::Auth;
use crate::broker::Broker;
use crate::broker::arguments::QueueType;
use crate::broker::definitions::{
    DefinitionsError, ENTRIES_LISTED_MAX, Outcome, Plan, Planner, Selection,
};
use crate::broker::parameters::CLUSTER_NAME;
use crate::config::Config;
use crate::message::Ticket;
use crate::store::Store;

/// A file and what its import comes to.
pub struct PlannedFile {
    /// Where it is.
    pub path: PathBuf,
    /// What is to be done, or that it holds no definitions.
    pub plan: Result<Plan, DefinitionsError>,
}

/// What is wrong with a file; a line for each mistake.
#[derive(Debug)]
pub struct FileError {
    /// Where it is.
    pub path: PathBuf,
    /// What is wrong.
    pub error: DefinitionsError,
}

impl fmt::Display for FileError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, line) in self.error.to_string().lines().enumerate() {
            let separator = if index > 0 { "\n" } else { "" };
            let path = self.path.display();
            write!(
                formatter,
                "{separator}cannot import the definitions {path}: {line}"
            )?;
        }
        Ok(())
    }
}

/// Plans the import of the configured files against the data directory as it is on disk, and changes nothing. A broker
/// may work in the directory meanwhile: what counts then is what it has committed.
///
/// # Errors
/// A file or the data directory cannot be read.
pub fn check(config: &Config, selection: &Selection) -> Result<Vec<PlannedFile>, StartError> {
    let rows = Store::look(&config.data_dir)?.unwrap_or_default();
    let of_auth = rows.iter().map(|(key, value)| (&key[..], &value[..]));
    let auth = Auth::recover(of_auth, config)?;
    let default = QueueType::from_name(config.default_queue_type.as_bytes()).unwrap_or_default();
    let planner = Planner::stored(&rows, &auth, config.node_limits, default);
    let mut planner = planner.map_err(|error| StartError::Recover(error.into()))?;
    plan(config, &mut planner, selection)
}

/// Plans the import of the configured files.
pub(super) fn plan(
    config: &Config,
    planner: &mut Planner,
    selection: &Selection,
) -> Result<Vec<PlannedFile>, StartError> {
    if let Some(name) = config.cluster_name.as_deref() {
        planner.expect_global_parameter(CLUSTER_NAME, name.into());
    }
    if let Some(vhost) = &config.event_exchange_vhost {
        planner.expect_events(vhost);
    }
    if config.log_exchange_level.is_some() {
        planner.expect_log(&config.default_vhost);
    }
    let mut planned = Vec::new();
    for path in &config.definitions {
        let unreadable = |error| StartError::UnreadableDefinitions {
            path: path.clone(),
            error,
        };
        for path in files(path).map_err(unreadable)? {
            let text = std::fs::read(&path).map_err(unreadable)?;
            let plan = planner.plan(&text, selection);
            planned.push(PlannedFile { path, plan });
        }
    }
    Ok(planned)
}

/// All plans, if there is no mistake in any of them.
pub(super) fn without_mistakes(
    files: Vec<PlannedFile>,
) -> Result<Vec<(PathBuf, Plan)>, StartError> {
    let mut plans = Vec::new();
    let mut errors = Vec::new();
    for PlannedFile { path, plan } in files {
        match plan {
            Ok(plan) if plan.mistakes.is_empty() => plans.push((path, plan)),
            Ok(plan) => {
                let error = DefinitionsError::Mistakes(plan.mistakes);
                errors.push(FileError { path, error });
            }
            Err(error) => errors.push(FileError { path, error }),
        }
    }
    match errors.is_empty() {
        true => Ok(plans),
        false => Err(StartError::Definitions(errors)),
    }
}

/// Does what was planned.
pub(super) fn execute(broker: &Broker, plans: Vec<(PathBuf, Plan)>) -> Result<Ticket, StartError> {
    let mut latest = Ticket::IMMEDIATE;
    for (path, plan) in plans {
        let file = path.display();
        let is_left =
            |outcome: &Outcome| matches!(outcome, Outcome::Differs(_) | Outcome::Skipped(_));
        let left = plan.entries.iter().filter(|entry| is_left(&entry.outcome));
        for entry in left.take(ENTRIES_LISTED_MAX) {
            tracing::warn!(%file, "definitions that are not imported: {entry}");
        }
        for list in &plan.unknown_lists {
            tracing::warn!(%file, list, "a list that is none of definitions is passed over");
        }
        tracing::info!(%file, "importing definitions: {}", plan.counts());
        let done = broker.execute_plan(plan);
        let ticket = done.map_err(|error| StartError::Definitions(vec![FileError { path, error }]));
        latest = latest.max(ticket?);
    }
    Ok(latest)
}

/// A file, or all files of a directory in the order of their names.
fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let file = entry?.path();
        if file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}
