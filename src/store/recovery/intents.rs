//! What stands in the intent log and not in RocksDB is written again.

use rocksdb::{WriteBatch, WriteOptions};

use super::super::error::OpenError;
use super::super::intent_log::{self, Intent};
use super::Recovery;
use super::own_state::OwnState;
use crate::message::Epoch;

impl Recovery<'_> {
    /// Writes what is missing. Answers the store's own rows after that, and the last epoch that the intent log holds:
    /// if that is a later one, epochs between the two are lost.
    pub(super) fn replay_intents(&self) -> Result<(OwnState, Epoch), OpenError> {
        let own_state = self.own_state()?;
        let intents = intent_log::read(&self.options.dir).map_err(|error| OpenError::Failed {
            dir: self.options.dir.clone(),
            reason: format!("the intent log cannot be read: {error}"),
        })?;
        let Some(last) = intents.last().map(|intent| intent.epoch) else {
            return Ok((own_state, 0));
        };
        let mut at = own_state.epoch;
        let missing = intents
            .into_iter()
            .filter(|intent| intent.epoch > own_state.epoch);
        let fits = |intent: &Intent| {
            // Where a loss is accepted, what is behind it is better than nothing.
            let fits = intent.previous == at || self.options.accept_loss;
            at = intent.epoch;
            fits
        };
        let missing: Vec<Intent> = missing.take_while(fits).collect();
        if missing.is_empty() {
            return Ok((own_state, last));
        }
        for (position, intent) in missing.iter().enumerate() {
            self.write_intent(intent, position + 1 == missing.len())?;
        }
        tracing::info!(epochs = missing.len(), "written again from the intent log");
        Ok((self.own_state()?, last))
    }

    fn write_intent(&self, intent: &Intent, is_last: bool) -> Result<(), OpenError> {
        let mut options = WriteOptions::default();
        options.set_sync(is_last && !self.options.no_sync);
        let batch = WriteBatch::from_data(&intent.batch);
        let written = self.database.db().write_opt(batch, &options);
        written.map_err(|error| self.failed(error))
    }
}
