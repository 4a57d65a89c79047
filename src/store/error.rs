//! What can go wrong with the store, by what the caller can do about it.

use std::path::PathBuf;

use crate::message::{Epoch, QueueId, Seq};

/// Why a store does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process works in the directory.
    #[error("data directory {dir} is in use by another process{}", pid_in_words(*owner))]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// Process id that the owner left, if it can be read.
        owner: Option<u32>,
    },
    /// The directory was written by a version that this one cannot read.
    #[error(
        "data directory {dir} has format {found} and needs a reader of at least {reader}; this version reads \
         up to {supported}: use the newer version that wrote it"
    )]
    NewerFormat {
        /// The directory.
        dir: PathBuf,
        /// Format version on disk.
        found: u32,
        /// Lowest format version that a reader of this directory must know.
        reader: u32,
        /// What this build knows.
        supported: u32,
    },
    /// Commits that were known to be on disk are gone: the write-ahead log is damaged.
    #[error(
        "data directory {dir} ends at epoch {found}, but epoch {durable} was known to be on disk: confirmed changes of \
         {} epochs are lost; `leveret store repair` accepts the loss",
        durable - found
    )]
    LostEpochs {
        /// The directory.
        dir: PathBuf,
        /// Last epoch that can be read.
        found: Epoch,
        /// Last epoch that was known to be synced.
        durable: Epoch,
    },
    /// There is no space left, even without the ballast file.
    #[error("no space left for data directory {dir}: {reason}")]
    NoSpace {
        /// The directory.
        dir: PathBuf,
        /// What RocksDB said.
        reason: String,
    },
    /// A row does not have the form that this version writes.
    #[error("data directory {dir} is damaged: {reason}")]
    Damaged {
        /// The directory.
        dir: PathBuf,
        /// Where.
        reason: String,
    },
    /// Anything else that the operating system or RocksDB reports.
    #[error("cannot open data directory {dir}: {reason}")]
    Failed {
        /// The directory.
        dir: PathBuf,
        /// What was reported.
        reason: String,
    },
}

/// Why records could not be read back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
    /// The records asked for are not on disk yet: only what is durable may be dropped from memory.
    #[error("records from {from} of queue {queue} are not written yet")]
    NotWritten {
        /// Whose records.
        queue: QueueId,
        /// First seq asked for.
        from: Seq,
    },
    /// A row is missing or malformed.
    #[error("rows of queue {queue} are damaged: {reason}")]
    Damaged {
        /// Whose rows.
        queue: QueueId,
        /// Which row, and how.
        reason: String,
    },
    /// RocksDB could not read.
    #[error("cannot read: {0}")]
    Failed(String),
}

/// Why transient records could not be spilled. They stay where they were.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpillError {
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
    /// The disk is full.
    #[error("no space left: {0}")]
    NoSpace(String),
    /// RocksDB could not write.
    #[error("cannot write: {0}")]
    Failed(String),
}

fn pid_in_words(owner: Option<u32>) -> String {
    owner.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}
