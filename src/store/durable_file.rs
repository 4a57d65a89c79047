//! The file `durable`: the last epoch that is known to be on disk.
//!
//! RocksDB cannot tell a write-ahead log that was damaged in the middle from one that ends there: both open, with what
//! comes before. So what must be there is also said elsewhere: u64 epoch, u32 version (1), u32 CRC-32 of the first 12
//! bytes, little-endian, in one sector, written about once a second when the epoch moved.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::message::Epoch;

const NAME: &str = "durable";
const VERSION: u32 = 1;
const BYTES: usize = 16;

/// The open file.
pub(super) struct DurableFile {
    file: File,
    written: Epoch,
}

impl DurableFile {
    /// Opens the file and reads the epoch; 0 when nothing is known.
    pub(super) fn open(dir: &Path) -> io::Result<(Self, Epoch)> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(dir.join(NAME))?;
        // The name has to survive too, or the first statement would be lost with it.
        File::open(dir)?.sync_all()?;
        let mut bytes = [0; BYTES];
        let known = match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => decode(&bytes),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Some(0),
            Err(error) => return Err(error),
        };
        if known.is_none() {
            tracing::warn!(file = %dir.join(NAME).display(), "the last durable epoch cannot be read, \
                the check for lost epochs is skipped");
        }
        let epoch = known.unwrap_or(0);
        Ok((
            Self {
                file,
                written: epoch,
            },
            epoch,
        ))
    }

    /// States that everything up to `epoch` is on disk.
    pub(super) fn write(&mut self, epoch: Epoch) -> io::Result<()> {
        if epoch == self.written {
            return Ok(());
        }
        self.file.write_all_at(&encode(epoch), 0)?;
        self.file.sync_data()?;
        self.written = epoch;
        Ok(())
    }
}

fn encode(epoch: Epoch) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    bytes[..8].copy_from_slice(&epoch.to_le_bytes());
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    let sum = crc32fast::hash(&bytes[..12]);
    bytes[12..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; BYTES]) -> Option<Epoch> {
    let epoch = u64::from_le_bytes(bytes[..8].try_into().ok()?);
    (encode(epoch) == *bytes).then_some(epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_epoch_reads_back_and_damage_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, known) = DurableFile::open(dir.path()).unwrap();
        assert_eq!(known, 0);
        file.write(77).unwrap();
        assert_eq!(DurableFile::open(dir.path()).unwrap().1, 77);
        let mut bytes = std::fs::read(dir.path().join(NAME)).unwrap();
        bytes[0] ^= 1;
        std::fs::write(dir.path().join(NAME), bytes).unwrap();
        assert_eq!(DurableFile::open(dir.path()).unwrap().1, 0);
    }
}
