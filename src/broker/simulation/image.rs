//! What the disk would hold if the power went now.
//!
//! RocksDB's log is a file that grows; what was written to it after the last sync is on the disk in part or not at all.
//! So the image is a copy of all files with the log cut off somewhere behind its synced length. Everything else RocksDB
//! syncs before it relies on it. What it has not synced the intent log has: each epoch that the store waited for is there
//! again, whatever the log has lost.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::chance::Chance;
use crate::message::Epoch;
use crate::store::StoreByHand;

/// Files are made here where there is such a place: nothing has to be safe from a real loss of power.
const MEMORY_DISK: &str = "/dev/shm";

pub(super) fn new_folder() -> TempDir {
    let in_memory = tempfile::tempdir_in(MEMORY_DISK);
    in_memory.unwrap_or_else(|_| TempDir::new().unwrap())
}

/// How far RocksDB's log had come when epochs were written, and how much of it the disk has for certain.
#[derive(Default)]
pub(super) struct Disk {
    /// Its length after each epoch.
    written: BTreeMap<Epoch, u64>,
    synced: u64,
    /// The last epoch that the store has waited for, at whichever log.
    durable: Epoch,
    /// The log that these are lengths of.
    log: PathBuf,
}

impl Disk {
    /// What is there after a start is on the disk: the start itself synced it.
    pub(super) fn at_start(folder: &Path, epoch: Epoch) -> Self {
        let bytes = log_bytes(folder);
        Self {
            written: BTreeMap::from([(epoch, bytes)]),
            synced: bytes,
            durable: epoch,
            log: log(folder),
        }
    }

    /// The store has taken an epoch to the disk, if it was not empty.
    pub(super) fn epoch_written(&mut self, folder: &Path, epoch: Epoch, store: &StoreByHand) {
        self.follow(folder);
        let bytes = log_bytes(folder);
        self.written.insert(epoch, bytes);
        if store.synced() == epoch {
            self.durable = epoch;
        }
        if store.covered() == epoch {
            self.synced = bytes;
        }
    }

    /// Whether nothing would be lost.
    pub(super) fn is_durable(&self, folder: &Path) -> bool {
        self.written.get(&self.durable) == Some(&log_bytes(folder))
    }

    /// RocksDB begins a new log now and then: everything before is in other files.
    fn follow(&mut self, folder: &Path) {
        if log(folder) != self.log {
            self.log_changed(folder);
        }
    }

    /// The log begins anew, everything before is in other files.
    pub(super) fn log_changed(&mut self, folder: &Path) {
        self.log = log(folder);
        let bytes = log_bytes(folder);
        for written in self.written.values_mut() {
            *written = bytes;
        }
        self.synced = bytes;
    }

    /// The power fails: a copy of the folder as the disk has it, and the last epoch that is in it.
    pub(super) fn lose_power(&mut self, folder: &Path, chance: &mut Chance) -> (TempDir, Epoch) {
        self.follow(folder);
        let whole = log_bytes(folder);
        let unsynced = whole - self.synced;
        // Often all or nothing of it.
        let lost = match chance.below(3) {
            0 => 0,
            1 => unsynced,
            _ => chance.below(unsynced as usize + 1) as u64,
        };
        let kept = whole - lost;
        let epochs = self.written.iter().rev();
        let last = epochs.into_iter().find(|(_, bytes)| **bytes <= kept);
        let (epoch, _) = last.expect("what was there at the start stays");
        let epoch = *epoch.max(&self.durable);
        let image = new_folder();
        copy(folder, image.path());
        if lost > 0 {
            let log = fs::OpenOptions::new().write(true).open(log(image.path()));
            log.unwrap().set_len(kept).unwrap();
        }
        (image, epoch)
    }
}

/// The log that RocksDB writes to: those before it are in other files by now.
fn log(folder: &Path) -> PathBuf {
    let files = files(&folder.join("journal")).into_iter();
    let logs = files.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.max().expect("RocksDB always has a log")
}

fn log_bytes(folder: &Path) -> u64 {
    fs::metadata(log(folder)).unwrap().len()
}

/// RocksDB adds and removes files in the background: a copy during which that happened is none.
fn copy(from: &Path, to: &Path) {
    loop {
        let before = files(from);
        let copied = before.iter().all(|path| {
            let target = to.join(path.strip_prefix(from).unwrap());
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::copy(path, target).is_ok()
        });
        if copied && files(from) == before {
            return;
        }
        for path in files(to) {
            fs::remove_file(path).unwrap();
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&entry.path())),
            _ => found.push(entry.path()),
        }
    }
    found.sort();
    found
}
