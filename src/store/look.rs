//! A look at the broker's rows in a directory, in which another process may work meanwhile. Nothing in it is changed.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::OpenError;
use super::families::Database;
use super::keys::state;
use super::recovery::{StateRows, check_format};

/// The broker's rows of family `state`, by key, as far as RocksDB has them: after a loss of power the last changes may
/// stand in the intent log only, until the next start. `None` where no store was ever opened.
///
/// # Errors
/// The directory cannot be read, or a newer version wrote it.
pub(super) fn broker_rows(dir: &Path) -> Result<Option<StateRows>, OpenError> {
    let journal = dir.join("journal");
    // RocksDB's own file, with which a database begins.
    if !journal.join("CURRENT").exists() {
        return Ok(None);
    }
    let failed = |reason: String| OpenError::Failed {
        dir: dir.to_path_buf(),
        reason,
    };
    let scratch = Scratch::new().map_err(|error| failed(error.to_string()))?;
    let read = || -> Result<(Option<Vec<u8>>, StateRows), rocksdb::Error> {
        let db = Database::look(&journal, &scratch.0)?;
        let mut format = None;
        let mut rows = Vec::new();
        for row in db.rows() {
            let (key, value) = row?;
            if &*key == state::FORMAT {
                format = Some(value.into_vec());
            } else if let Some(key) = state::broker_key(&key) {
                rows.push((key.to_vec(), value.into_vec()));
            }
        }
        Ok((format, rows))
    };
    let (format, rows) = read().map_err(|error| failed(error.into_string()))?;
    match format {
        Some(format) => check_format(dir, &format).map(|_| Some(rows)),
        // The first opening was interrupted.
        None => Ok(None),
    }
}

/// A folder for the log that RocksDB insists on, elsewhere. It goes when this is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> std::io::Result<Self> {
        let name = format!("leveret-look-{}", std::process::id());
        let mut number = 0;
        loop {
            let path = std::env::temp_dir().join(format!("{name}-{number}"));
            match fs::create_dir(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
                created => return created.map(|()| Self(path)),
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left is a small file in the folder for such.
        let _ = fs::remove_dir_all(&self.0);
    }
}
