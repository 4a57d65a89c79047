//! Who exists and who may do what, in memory, and the rows that it is stored in.
//!
//! | key | value, as JSON |
//! |---|---|
//! | `u/<user>` | password hash, tags and limits, in the words of RabbitMQ's definitions |
//! | `p/<vhost>\0<user>` | the three patterns |

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::password::PasswordHash;
use super::pattern::Pattern;
use super::{ChangeError, Permission, Permissions, UserLimits};
use crate::occupancy::Occupancy;
use crate::rate::Rates;

/// The first bytes of the rows of users in the state family.
pub const USER_ROW_PREFIX: &[u8] = b"u/";
/// The first bytes of the rows of permissions in the state family.
pub const PERMISSION_ROW_PREFIX: &[u8] = b"p/";

/// All accounts by user name.
#[derive(Debug, Default)]
pub(super) struct Directory {
    pub(super) accounts: HashMap<Arc<str>, Account>,
}

/// A user and its permissions by vhost, which go when the user goes.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) login: Login,
    /// What it has open; a user that is deleted and added anew begins with none.
    pub(super) connections: Occupancy,
    pub(super) channels: Occupancy,
    pub(super) rates: Rates,
    pub(super) permissions: HashMap<Arc<str>, Arc<CompiledPermissions>>,
}

impl Account {
    /// A user without permissions.
    pub(super) fn new(login: Login) -> Self {
        let rates = Rates::default();
        rates.set(&login.limits.rates);
        Self {
            login,
            rates,
            connections: Occupancy::default(),
            channels: Occupancy::default(),
            permissions: HashMap::new(),
        }
    }
}

/// The stored part of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Login {
    /// Without one the user can log in by no mechanism that wants a password.
    #[serde(flatten)]
    pub(super) password: PasswordHash,
    pub(super) tags: Arc<[Arc<str>]>,
    #[serde(default, skip_serializing_if = "UserLimits::are_none")]
    pub(super) limits: UserLimits,
}

/// The permissions of a user in a vhost, ready to be checked.
#[derive(Debug)]
pub(super) struct CompiledPermissions {
    configure: Pattern,
    write: Pattern,
    read: Pattern,
}

impl CompiledPermissions {
    pub(super) fn compile(permissions: &Permissions) -> Result<Self, ChangeError> {
        let pattern = |permission, source: &str| {
            Pattern::new(source).map_err(|reason| ChangeError::InvalidPattern {
                permission,
                pattern: source.to_owned(),
                reason,
            })
        };
        Ok(Self {
            configure: pattern(Permission::Configure, &permissions.configure)?,
            write: pattern(Permission::Write, &permissions.write)?,
            read: pattern(Permission::Read, &permissions.read)?,
        })
    }

    pub(super) fn allow(&self, permission: Permission, name: &str) -> bool {
        match permission {
            Permission::Configure => self.configure.matches(name),
            Permission::Write => self.write.matches(name),
            Permission::Read => self.read.matches(name),
        }
    }

    pub(super) fn source(&self) -> Permissions {
        Permissions {
            configure: self.configure.source().to_owned(),
            write: self.write.source().to_owned(),
            read: self.read.source().to_owned(),
        }
    }
}

/// A row of users or permissions that cannot be read. The store has checked its bytes, so that it was
/// written by another version of the broker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unreadable row '{key}' of users and permissions: {reason}")]
pub struct MalformedRow {
    key: String,
    reason: String,
}

impl Directory {
    /// Takes the rows that are its own and leaves the others alone.
    pub(super) fn from_rows<'a>(
        rows: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
    ) -> Result<Self, MalformedRow> {
        let mut directory = Self::default();
        let own = |prefix: &'static [u8]| {
            let rows = rows.clone();
            rows.filter_map(move |(key, value)| Some((key, key.strip_prefix(prefix)?, value)))
        };
        for (key, user, value) in own(USER_ROW_PREFIX) {
            let account = read_user(user, value);
            let (user, account) = account.map_err(|reason| malformed(key, reason))?;
            directory.accounts.insert(user, account);
        }
        for (key, names, value) in own(PERMISSION_ROW_PREFIX) {
            let permissions = read_permissions(names, value);
            let (vhost, user, permissions) =
                permissions.map_err(|reason| malformed(key, reason))?;
            // A user's deletion removes both kinds of rows in one commit: there is always an account.
            if let Some(account) = directory.accounts.get_mut(user) {
                account.permissions.insert(vhost.into(), permissions.into());
            }
        }
        Ok(directory)
    }
}

pub(super) fn user_key(user: &str) -> Vec<u8> {
    [USER_ROW_PREFIX, user.as_bytes()].concat()
}

pub(super) fn permission_key(vhost: &str, user: &str) -> Vec<u8> {
    [
        PERMISSION_ROW_PREFIX,
        vhost.as_bytes(),
        b"\0",
        user.as_bytes(),
    ]
    .concat()
}

/// The value of a row.
pub(super) fn encode(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("strings and lists of strings always have a JSON form")
}

fn read_user(user: &[u8], value: &[u8]) -> Result<(Arc<str>, Account), String> {
    let login = serde_json::from_slice(value).map_err(|error| error.to_string())?;
    let account = Account::new(login);
    Ok((utf8(user)?.into(), account))
}

fn read_permissions<'a>(
    names: &'a [u8],
    value: &[u8],
) -> Result<(&'a str, &'a str, CompiledPermissions), String> {
    let (vhost, user) = utf8(names)?.split_once('\0').ok_or("no user in the key")?;
    let permissions = serde_json::from_slice(value).map_err(|error| error.to_string())?;
    let compiled = CompiledPermissions::compile(&permissions).map_err(|error| error.to_string())?;
    Ok((vhost, user, compiled))
}

fn utf8(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|error| error.to_string())
}

fn malformed(key: &[u8], reason: String) -> MalformedRow {
    MalformedRow {
        key: String::from_utf8_lossy(key).into_owned(),
        reason,
    }
}
