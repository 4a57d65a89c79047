//! Files with definitions that a start imports.

use std::io;
use std::path::{Path, PathBuf};

use super::StartError;
use crate::broker::Broker;
use crate::message::Ticket;

/// Imports a file, or all files of a directory in the order of their names.
pub(super) fn load(broker: &Broker, path: &Path) -> Result<Ticket, StartError> {
    let unreadable = |path: &Path, error| StartError::UnreadableDefinitions {
        path: path.to_owned(),
        error,
    };
    let mut latest = Ticket::IMMEDIATE;
    for file in files(path).map_err(|error| unreadable(path, error))? {
        let text = std::fs::read(&file).map_err(|error| unreadable(&file, error))?;
        tracing::info!(file = %file.display(), "importing definitions");
        let imported = broker.import_definitions(&text);
        let ticket = imported.map_err(|error| StartError::Definitions { path: file, error })?;
        latest = latest.max(ticket);
    }
    Ok(latest)
}

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
