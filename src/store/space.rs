//! A full disk: how it is recognized, and the ballast that is given up for it.
//!
//! Everything that frees space (an acknowledgement, a deleted queue, a start that replays the log) first needs some. So
//! a file of no use is kept and removed at the moment when the disk is full.

use std::fs::{File, remove_file};
use std::io;
use std::path::{Path, PathBuf};

use rocksdb::ErrorKind;
use rustix::fs::{FallocateFlags, fallocate, statvfs};

const NAME: &str = "ballast";

/// Free space, in units of the ballast's size, that is left over when it is made.
const PLENTY: u64 = 4;

/// Whether commits find room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SpaceState {
    /// Commits succeed.
    #[default]
    Ok,
    /// The disk is full: commits are tried again until they succeed, confirms wait.
    Full,
}

/// The ballast file.
pub(super) struct Ballast {
    path: PathBuf,
    dir: PathBuf,
    bytes: u64,
}

impl Ballast {
    pub(super) fn new(dir: &Path, bytes: u64) -> Self {
        Self {
            path: dir.join(NAME),
            dir: dir.to_path_buf(),
            bytes,
        }
    }

    /// Makes the file, unless it exists or the disk has not plenty of room. Returns whether it exists.
    pub(super) fn make(&self) -> io::Result<bool> {
        if self.bytes == 0 {
            return Ok(false);
        }
        if self.path.exists() {
            return Ok(true);
        }
        if free_bytes(&self.dir)? < self.bytes.saturating_mul(PLENTY) {
            return Ok(false);
        }
        let file = File::create(&self.path)?;
        if let Err(error) = fallocate(&file, FallocateFlags::empty(), 0, self.bytes) {
            // Some file systems reserve nothing. A part of a ballast would be of no use either.
            drop(file);
            remove_file(&self.path)?;
            return match error {
                rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSPC => Ok(false),
                error => Err(error.into()),
            };
        }
        file.sync_all()?;
        Ok(true)
    }

    /// Gives the space back. True if there was a file.
    pub(super) fn release(&self) -> bool {
        remove_file(&self.path).is_ok()
    }
}

/// Bytes that an unprivileged process can still write in `dir`.
pub(super) fn free_bytes(dir: &Path) -> io::Result<u64> {
    let space = statvfs(dir)?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

/// Whether a write failed for want of space, so that the same write can succeed later.
///
/// RocksDB keeps the kind and the operating system's own words, not its number. Any other failed write, and above all a
/// failed sync, must not be repeated: the pages that it concerned may be gone.
pub(super) fn is_no_space(error: &rocksdb::Error) -> bool {
    error.kind() == ErrorKind::IOError
        && [libc::ENOSPC, libc::EDQUOT]
            .iter()
            .any(|code| error.as_ref().contains(&message_of(*code)))
}

/// What the operating system calls an error.
fn message_of(code: i32) -> String {
    let message = io::Error::from_raw_os_error(code).to_string();
    match message.split_once(" (os error") {
        Some((words, _)) => words.to_owned(),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ballast_takes_space_and_gives_it_back() {
        let dir = tempfile::tempdir().unwrap();
        let ballast = Ballast::new(dir.path(), 1 << 20);
        assert!(ballast.make().unwrap());
        assert_eq!(
            std::fs::metadata(dir.path().join(NAME)).unwrap().len(),
            1 << 20
        );
        assert!(ballast.make().unwrap(), "it is made once");
        assert!(ballast.release());
        assert!(!ballast.release());
        assert!(!Ballast::new(dir.path(), 0).make().unwrap());
        assert!(
            !Ballast::new(dir.path(), u64::MAX / 8).make().unwrap(),
            "no disk has plenty of room for that"
        );
    }

    #[test]
    fn the_words_for_a_full_disk_are_known() {
        assert_eq!(message_of(libc::ENOSPC), "No space left on device");
    }
}
