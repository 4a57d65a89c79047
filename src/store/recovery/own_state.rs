//! The store's own rows of family `state`: format, identity, epoch, ids.

use std::path::Path;

use rocksdb::WriteOptions;

use super::super::batch::Batch;
use super::super::commit::epoch_row;
use super::super::error::OpenError;
use super::super::families::Mutable;
use super::super::keys::state;
use super::super::options::Identity;
use super::{FORMAT, READER, Recovery};
use crate::message::{Epoch, QueueId};

/// The store's own rows of family `state`.
pub(super) struct OwnState {
    pub(super) epoch: Epoch,
    pub(super) clock_ms: u64,
    pub(super) next_queue: QueueId,
    pub(super) next_body: u64,
    pub(super) identity: Identity,
}

impl Recovery<'_> {
    pub(super) fn state_row(&self, key: &[u8]) -> Result<Option<Vec<u8>>, OpenError> {
        self.database
            .db()
            .get_cf(self.database.state(), key)
            .map_err(|error| self.failed(error))
    }

    pub(super) fn own_state(&self) -> Result<OwnState, OpenError> {
        let Some(format) = self.state_row(state::FORMAT)? else {
            return self.new_directory();
        };
        if check_format(&self.options.dir, &format)? < FORMAT {
            self.write_format()?;
        }
        let identity = match self
            .state_row(state::IDENTITY)?
            .as_deref()
            .map(<[u8]>::as_chunks::<16>)
        {
            Some(([cluster, node], _)) => Identity {
                cluster: *cluster,
                node: *node,
            },
            _ => return Err(self.damaged("the identity is missing or malformed".into())),
        };
        let (epoch, clock_ms) = self.pair(state::EPOCH)?.unwrap_or((0, 0));
        let (next_queue, next_body) = self.pair(state::IDS)?.unwrap_or((1, 1));
        Ok(OwnState {
            epoch,
            clock_ms,
            next_queue,
            next_body,
            identity,
        })
    }

    /// From now on rows are written that older versions cannot read.
    pub(super) fn write_format(&self) -> Result<(), OpenError> {
        let mut batch = Batch::new(self.database.ids());
        batch.put(Mutable::State, state::FORMAT, &format_row());
        self.write(&batch)
    }

    pub(super) fn pair(&self, key: &[u8]) -> Result<Option<(u64, u64)>, OpenError> {
        match self.state_row(key)?.as_deref().map(<[u8]>::as_chunks::<8>) {
            None => Ok(None),
            Some(([one, two], _)) => Ok(Some((u64::from_le_bytes(*one), u64::from_le_bytes(*two)))),
            Some(_) => Err(self.damaged(format!("state row {} is malformed", key.escape_ascii()))),
        }
    }

    pub(super) fn new_directory(&self) -> Result<OwnState, OpenError> {
        let identity = match self.options.identity {
            Some(identity) => identity,
            None => random_identity().map_err(|reason| OpenError::Failed {
                dir: self.options.dir.clone(),
                reason,
            })?,
        };
        let mut batch = Batch::new(self.database.ids());
        batch.put(Mutable::State, state::FORMAT, &format_row());
        batch.put(
            Mutable::State,
            state::IDENTITY,
            &[identity.cluster, identity.node].concat(),
        );
        batch.put(Mutable::State, state::EPOCH, &epoch_row(0, 0));
        self.write(&batch)?;
        Ok(OwnState {
            epoch: 0,
            clock_ms: 0,
            next_queue: 1,
            next_body: 1,
            identity,
        })
    }

    pub(super) fn write(&self, batch: &Batch) -> Result<(), OpenError> {
        let mut options = WriteOptions::default();
        options.set_sync(!self.options.no_sync);
        self.database
            .db()
            .write_opt(batch.to_write(), &options)
            .map_err(|error| self.failed(error))
    }

    /// What is lost is known now: the next start does not complain about it again.
    pub(super) fn accept_loss(&self, durable: Epoch, clock_ms: u64) -> Result<(), OpenError> {
        let mut batch = Batch::new(self.database.ids());
        batch.put(Mutable::State, state::EPOCH, &epoch_row(durable, clock_ms));
        self.write(&batch)
    }
}

fn format_row() -> Vec<u8> {
    [FORMAT.to_le_bytes(), READER.to_le_bytes()].concat()
}

fn random_identity() -> Result<Identity, String> {
    let mut identity = Identity {
        cluster: [0; 16],
        node: [0; 16],
    };
    getrandom::fill(&mut identity.cluster).map_err(|error| error.to_string())?;
    getrandom::fill(&mut identity.node).map_err(|error| error.to_string())?;
    Ok(identity)
}

/// The format that a directory was written in, from its row.
///
/// # Errors
/// Only a newer version can read it, or the row is malformed.
pub(in crate::store) fn check_format(dir: &Path, row: &[u8]) -> Result<u32, OpenError> {
    let dir = || dir.to_path_buf();
    let ([found, reader, ..], _) = row.as_chunks::<4>() else {
        return Err(OpenError::Damaged {
            dir: dir(),
            reason: "the format version is malformed".into(),
        });
    };
    let (found, reader) = (u32::from_le_bytes(*found), u32::from_le_bytes(*reader));
    if reader > FORMAT {
        return Err(OpenError::NewerFormat {
            dir: dir(),
            found,
            reader,
            supported: FORMAT,
        });
    }
    Ok(found)
}
