//! Writing and reading past the page cache.
//!
//! What RocksDB flushes is read once much later, if ever: it need not push other files out of memory, and a copy into
//! fresh pages of the kernel costs more than all else that a flush or a read does. Readers of a stream that are close
//! to each other share what is in memory; those that are not read the disk again. Not every file system can do without
//! the page cache.

use std::fs::{OpenOptions, remove_file};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

const NAME: &str = "probe";

#[repr(align(4096))]
struct Page([u8; 4096]);

/// Whether files in `dir` can be written and read past the page cache. Tries it, in a directory that is there.
pub(super) fn is_possible(dir: &Path) -> bool {
    let path = dir.join(NAME);
    let tried = write_page(&path);
    // It is empty or one page; a start that cannot remove it now does so next time.
    let _ = remove_file(&path);
    match tried {
        Ok(()) => true,
        Err(error) => {
            tracing::debug!(dir = %dir.display(), %error, "no direct writes");
            false
        }
    }
}

fn write_page(path: &Path) -> io::Result<()> {
    let direct = OFlags::DIRECT.bits().cast_signed();
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(direct)
        .open(path)?;
    file.write_all(&Page([0; 4096]).0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        is_possible(dir.path());
        assert_eq!(dir.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn what_cannot_be_opened_so_is_written_as_ever() {
        // A file system that knows nothing of it.
        assert!(!is_possible(Path::new("/proc/self")));
    }
}
