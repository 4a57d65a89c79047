//! The directory belongs to one process, and RocksDB in it opens, if it can.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::super::error::OpenError;
use super::super::families::Database;
use super::super::options::StoreOptions;
use super::super::space::{Ballast, is_no_space};

const LOCK: &str = "owner";

/// How often the lock is tried, and the pause in between. A process that is just ending may still hold it, and so does
/// a child of this one until it runs its own program.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(25);

/// Makes this process the only one that works in `dir`. The lock goes with the file, at the latest with the process.
pub(super) fn own(dir: &Path) -> Result<File, OpenError> {
    let failed = |error: std::io::Error| OpenError::Failed {
        dir: dir.to_path_buf(),
        reason: error.to_string(),
    };
    let path = dir.join(LOCK);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(failed)?;
    match lock(&file) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            // The owner may be just about to write its id: then the message does without.
            let _ = file.read_to_string(&mut text);
            return Err(OpenError::InUse {
                dir: dir.to_path_buf(),
                owner: text.trim().parse().ok(),
            });
        }
        Err(error) => return Err(failed(error.into())),
    }
    // On a full disk the id is left out: it only makes another process's message better.
    let _ = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| write!(file, "{}", std::process::id()));
    Ok(file)
}

fn lock(file: &File) -> rustix::io::Result<()> {
    for _ in 1..LOCK_TRIES {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(LOCK_PAUSE),
            other => return other,
        }
    }
    flock(file, FlockOperation::NonBlockingLockExclusive)
}

/// Opens RocksDB; on a full disk once more without the ballast.
pub(super) fn open_database(
    options: &StoreOptions,
    ballast: &Ballast,
) -> Result<Database, OpenError> {
    let dir = options.dir.join("journal");
    let error = match Database::open(&dir) {
        Ok(database) => return Ok(database),
        Err(error) => error,
    };
    if options.accept_loss && error.kind() == rocksdb::ErrorKind::Corruption {
        tracing::warn!(%error, "the journal is damaged, opening what can be read");
        return Database::salvage(&dir).map_err(|error| open_error(options, error));
    }
    if !is_no_space(&error) {
        return Err(open_error(options, error));
    }
    if ballast.release() {
        tracing::warn!("the disk is full, the ballast was given up to start");
        return Database::open(&dir).map_err(|error| open_error(options, error));
    }
    Err(OpenError::NoSpace {
        dir: options.dir.clone(),
        reason: error.into_string(),
    })
}

pub(super) fn open_error(options: &StoreOptions, error: rocksdb::Error) -> OpenError {
    let dir = options.dir.clone();
    if is_no_space(&error) {
        return OpenError::NoSpace {
            dir,
            reason: error.into_string(),
        };
    }
    match error.kind() {
        rocksdb::ErrorKind::Corruption => OpenError::Damaged {
            dir,
            reason: error.into_string(),
        },
        _ => OpenError::Failed {
            dir,
            reason: error.into_string(),
        },
    }
}
