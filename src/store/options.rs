//! What the store is told when it is opened, and the limits that it keeps.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::message::Epoch;

/// Bytes that may wait for their commit; above this publishers wait between visits.
pub const EPOCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A busy store commits early when this many bytes wait.
pub const EPOCH_BYTES_EARLY: usize = 256 * 1024;

/// Appended records of at least this size become a chunk at once, smaller ones a slice.
pub const CHUNK_BYTES_MIN: usize = 64 * 1024;

/// What a chunk aims at. A larger append is split evenly into chunks of three quarters to one and a half of it; a
/// single larger record makes a larger chunk.
pub const CHUNK_BYTES: usize = 256 * 1024;

/// The slices of one queue are sealed into a chunk when there are this many.
pub const SLICES_MAX: usize = 64;

/// The slices of the largest queues are sealed when those of all queues take this much: it bounds what a start reads.
pub const TAIL_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Bodies are stored in parts of this size.
pub const BODY_PART_BYTES: usize = 1024 * 1024;

/// Dead blob bytes that are tolerated besides as many dead bytes as live ones.
pub const BLOB_SLACK_BYTES: u64 = 256 * 1024 * 1024;

/// Size of the file that is given up when the disk is full, so that acknowledgements and a restart still succeed.
pub const BALLAST_BYTES: u64 = 256 * 1024 * 1024;

/// Who this data directory belongs to. Written once, when the directory is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The cluster that the node is part of; a single node is a cluster of its own.
    pub cluster: [u8; 16],
    /// This node.
    pub node: [u8; 16],
}

/// Asked before each write of an epoch; an error stands for what the disk would have said. Only for tests.
pub type WriteHook = Arc<dyn Fn(Epoch) -> std::io::Result<()> + Send + Sync>;

/// How to open a store.
#[derive(Clone)]
pub struct StoreOptions {
    /// The data directory; created when missing.
    pub dir: PathBuf,
    /// Identity of a new directory. `None` draws a random one. Ignored when the directory already has one.
    pub identity: Option<Identity>,
    /// Start although epochs that were known to be durable are missing (`leveret store repair`).
    pub accept_loss: bool,
    /// Do not sync commits. Loses confirmed messages at a power failure: it exists to prove the durability tests.
    pub no_sync: bool,
    /// Size of the ballast file in bytes, 0 for none.
    pub ballast_bytes: u64,
    /// Dead blob bytes that the cleaner tolerates, see [`BLOB_SLACK_BYTES`].
    pub blob_slack_bytes: u64,
    /// Size of all slices at which the largest queues are sealed, see [`TAIL_BYTES_MAX`].
    pub tail_bytes_max: u64,
    /// See [`WriteHook`].
    #[doc(hidden)]
    pub write_hook: Option<WriteHook>,
}

impl StoreOptions {
    /// The defaults for a store in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            identity: None,
            accept_loss: false,
            no_sync: false,
            ballast_bytes: BALLAST_BYTES,
            blob_slack_bytes: BLOB_SLACK_BYTES,
            tail_bytes_max: TAIL_BYTES_MAX,
            write_hook: None,
        }
    }
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("StoreOptions")
            .field("dir", &self.dir)
            .field("accept_loss", &self.accept_loss)
            .field("no_sync", &self.no_sync)
            .field("ballast_bytes", &self.ballast_bytes)
            .finish_non_exhaustive()
    }
}
