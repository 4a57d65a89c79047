//! How much a user may have open.

use serde::{Deserialize, Serialize};

use super::{Auth, User};
use crate::occupancy::{Full, Place};
use crate::rate::{RateLimits, Rates};

/// Limits of a user over all virtual hosts; `None` for no limit. One that is lowered closes nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct UserLimits {
    /// Open connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u64>,
    /// Open channels, those of all its connections together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_channels: Option<u64>,
    /// What it publishes and is given, over all its connections.
    #[serde(flatten)]
    pub rates: RateLimits,
}

impl UserLimits {
    /// Whether nothing is limited.
    pub(super) fn are_none(&self) -> bool {
        *self == Self::default()
    }
}

impl Auth {
    /// Counts one more connection of a user, until the place is dropped; `None` for a user that was deleted meanwhile.
    ///
    /// # Errors
    /// It has as many as it may have.
    pub fn count_connection(&self, user: &User) -> Result<Option<Place>, Full> {
        let directory = self.directory.read();
        let account = directory.accounts.get(&user.name);
        account
            .map(|account| {
                let limit = account.login.limits.max_connections;
                account.connections.enter(limit)
            })
            .transpose()
    }

    /// What holds a user to its rates, whatever they are; nothing for a user that was deleted meanwhile.
    pub fn rates(&self, user: &User) -> Rates {
        let directory = self.directory.read();
        let account = directory.accounts.get(&user.name);
        account
            .map(|account| account.rates.clone())
            .unwrap_or_default()
    }

    /// Counts one more channel of a user, likewise.
    ///
    /// # Errors
    /// It has as many as it may have.
    pub fn count_channel(&self, user: &User) -> Result<Option<Place>, Full> {
        let directory = self.directory.read();
        let account = directory.accounts.get(&user.name);
        account
            .map(|account| {
                let limit = account.login.limits.max_channels;
                account.channels.enter(limit)
            })
            .transpose()
    }
}
