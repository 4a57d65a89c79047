//! Users, their passwords and what they may do: RabbitMQ's internal authentication and authorization.
//!
//! [`Auth`] is asked by connections ([`Auth::authenticate`], [`Auth::check_vhost`]) and by channels
//! ([`Auth::check`]), and changed by the first start and by administration (`change.rs`). All of it is
//! in memory; the rows in the store are read once, at the start.

mod change;
mod directory;
mod error;
mod limits;
mod mechanism;
mod observer;
mod password;
mod pattern;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::message::op::Op;
pub use change::check_name;
use directory::Directory;
pub use directory::{MalformedRow, PERMISSION_ROW_PREFIX, USER_ROW_PREFIX};
pub use error::{AccessRefused, ChangeError, LoginError, VHostRefused};
pub use limits::UserLimits;
pub use mechanism::Mechanism;
pub use observer::{Change, Observer};
pub use password::{HashingAlgorithm, MalformedHash, PasswordHash};
pub use pattern::Pattern;

/// What a permission pattern is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permission {
    /// To create and to delete.
    Configure,
    /// To put messages in, or to be the end of a binding where they come from.
    Write,
    /// To take messages out.
    Read,
}

/// What is accessed. The default exchange, whose name is empty, is checked as `amq.default`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resource<'a> {
    Queue(&'a str),
    Exchange(&'a str),
}

impl<'a> Resource<'a> {
    fn checked_name(self) -> &'a str {
        match self {
            Self::Exchange("") => "amq.default",
            Self::Exchange(name) | Self::Queue(name) => name,
        }
    }
}

/// The permissions of a user in a vhost: one unanchored regular expression for each kind of access, where
/// the empty one stands for `^$`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permissions {
    pub configure: String,
    pub write: String,
    pub read: String,
}

impl Permissions {
    /// Whether each is a regular expression.
    ///
    /// # Errors
    /// The first that is none.
    pub fn check(&self) -> Result<(), ChangeError> {
        directory::CompiledPermissions::compile(self).map(drop)
    }
}

/// Somebody who has logged in, with the tags of that moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    name: Arc<str>,
    tags: Arc<[Arc<str>]>,
}

impl User {
    /// The name, as in the user-id property.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether it has that tag, for instance `administrator` or `impersonator`.
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|own| **own == *tag)
    }
}

/// A user as administration sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserEntry {
    pub name: Arc<str>,
    pub password: PasswordHash,
    pub tags: Arc<[Arc<str>]>,
    pub limits: UserLimits,
}

/// All users and permissions of a broker.
#[derive(Debug)]
pub struct Auth {
    directory: RwLock<Directory>,
    version: AtomicU64,
    loopback_users: HashSet<String>,
    anonymous_login_user: Option<String>,
    observed: observer::Observed,
}

impl Auth {
    /// Reads users and permissions from the rows of the state family; rows of others are passed over.
    ///
    /// # Errors
    /// A row was written by a broker that is too new.
    pub fn recover<'a>(
        rows: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
        config: &Config,
    ) -> Result<Self, MalformedRow> {
        Ok(Self {
            directory: RwLock::new(Directory::from_rows(rows)?),
            version: AtomicU64::new(0),
            loopback_users: config.loopback_users.clone(),
            anonymous_login_user: config.anonymous_login_user.clone(),
            observed: observer::Observed::default(),
        })
    }

    /// From now on `observer` hears of each change. There is one at most: the first.
    pub fn observe(&self, observer: Box<Observer>) {
        self.observed.set(observer);
    }

    /// Creates the default user of the configuration, with its permissions in the default vhost. The
    /// first start on an empty data directory does so.
    ///
    /// # Errors
    /// The configuration has an impossible name or pattern, or the user exists.
    pub fn add_default_user(
        &self,
        push: &mut dyn FnMut(Op),
        config: &Config,
    ) -> Result<(), ChangeError> {
        let password = PasswordHash::new(&config.default_pass)
            .map_err(|error| ChangeError::NoRandomness(error.to_string()))?;
        let tags: Vec<_> = config
            .default_user_tags
            .iter()
            .map(String::as_str)
            .collect();
        let permissions = Permissions {
            configure: config.default_permissions.configure.clone(),
            write: config.default_permissions.write.clone(),
            read: config.default_permissions.read.clone(),
        };
        self.add_user(push, &config.default_user, password, &tags)?;
        self.set_permissions(
            push,
            &config.default_user,
            &config.default_vhost,
            &permissions,
        )
    }

    /// Whether there is no user at all.
    pub fn is_empty(&self) -> bool {
        self.directory.read().accounts.is_empty()
    }

    /// Rises with each change: what a channel remembers of its checks holds while this stays the same.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The mechanisms that connection.start offers.
    pub fn mechanisms(&self) -> &'static [Mechanism] {
        const ALL: [Mechanism; 3] = [Mechanism::Plain, Mechanism::AmqPlain, Mechanism::Anonymous];
        match self.anonymous_login_user {
            Some(_) => &ALL,
            None => &ALL[..2],
        }
    }

    /// Logs a peer in. `response` is the one of connection.start-ok; `peer_is_loopback` says that the
    /// peer's address is on this host, which `loopback_users` must have.
    ///
    /// # Errors
    /// The peer is not who it claims to be, or not from where that user may come.
    pub fn authenticate(
        &self,
        mechanism: Mechanism,
        response: &[u8],
        peer_is_loopback: bool,
    ) -> Result<User, LoginError> {
        let user = match mechanism {
            Mechanism::Plain => self.verify(mechanism::plain(response)),
            Mechanism::AmqPlain => self.verify(mechanism::amq_plain(response)),
            Mechanism::Anonymous => self.anonymous(),
        }?;
        if !peer_is_loopback && self.loopback_users.contains(&*user.name) {
            let user = user.name.to_string();
            return Err(LoginError::NotFromLoopback { user });
        }
        Ok(user)
    }

    /// The user as it is now: with the tags of this moment. One that was deleted keeps its name and has no tags; it
    /// has no permissions either.
    pub fn refreshed(&self, user: &User) -> User {
        let found = self.find(&user.name).map(|(_, user)| user);
        found.unwrap_or_else(|| User {
            name: user.name.clone(),
            tags: Arc::default(),
        })
    }

    /// Whether the user may enter the vhost: it may when it has permissions there, whatever they allow.
    ///
    /// # Errors
    /// It may not: 530 at connection.open.
    pub fn check_vhost(&self, user: &User, vhost: &str) -> Result<(), VHostRefused> {
        let directory = self.directory.read();
        let account = directory.accounts.get(&user.name);
        if account.is_some_and(|account| account.permissions.contains_key(vhost)) {
            return Ok(());
        }
        Err(VHostRefused {
            vhost: vhost.to_owned(),
            user: user.name.to_string(),
        })
    }

    /// Whether the user may do that with the resource.
    ///
    /// # Errors
    /// It may not: 403, with RabbitMQ's text.
    pub fn check(
        &self,
        user: &User,
        vhost: &str,
        permission: Permission,
        resource: Resource<'_>,
    ) -> Result<(), AccessRefused> {
        let permissions = {
            let directory = self.directory.read();
            let account = directory.accounts.get(&user.name);
            account.and_then(|account| account.permissions.get(vhost).cloned())
        };
        // Matched outside the lock: a pattern can be slow.
        match permissions {
            Some(permissions) if permissions.allow(permission, resource.checked_name()) => Ok(()),
            _ => Err(AccessRefused::new(permission, resource, vhost, &user.name)),
        }
    }

    /// All users, by name.
    pub fn users(&self) -> Vec<UserEntry> {
        let directory = self.directory.read();
        let users = directory.accounts.iter().map(|(name, account)| UserEntry {
            name: name.clone(),
            password: account.login.password.clone(),
            tags: account.login.tags.clone(),
            limits: account.login.limits,
        });
        let mut users: Vec<_> = users.collect();
        users.sort_by(|a, b| a.name.cmp(&b.name));
        users
    }

    /// The permissions of a user by vhost; empty for a user that does not exist.
    pub fn permissions(&self, user: &str) -> Vec<(Arc<str>, Permissions)> {
        let directory = self.directory.read();
        let account = directory.accounts.get(user);
        let permissions = account.into_iter().flat_map(|account| &account.permissions);
        let permissions = permissions.map(|(vhost, entry)| (vhost.clone(), entry.source()));
        let mut permissions: Vec<_> = permissions.collect();
        permissions.sort_by(|a, b| a.0.cmp(&b.0));
        permissions
    }

    fn verify(&self, credentials: Option<mechanism::Credentials<'_>>) -> Result<User, LoginError> {
        let credentials = credentials.ok_or(LoginError::Malformed)?;
        let name = String::from_utf8_lossy(credentials.user);
        if credentials.password.is_empty() {
            let user = name.into_owned();
            return Err(LoginError::BlankPassword { user });
        }
        let found = self.find(&name);
        // An unknown user costs the same time as a known one: names cannot be told by it.
        let (password, user) = found
            .map(|(password, user)| (password, Some(user)))
            .unwrap_or_else(|| (PasswordHash::matching_nothing(), None));
        let matching = password.matches(credentials.password);
        user.filter(|_| matching)
            .ok_or_else(|| LoginError::InvalidCredentials {
                user: name.into_owned(),
            })
    }

    fn anonymous(&self) -> Result<User, LoginError> {
        // Not offered without the setting, and a peer that asks all the same has no user to become.
        let name = self.anonymous_login_user.as_deref().unwrap_or_default();
        let found = self.find(name);
        found
            .map(|(_, user)| user)
            .ok_or_else(|| LoginError::NoAnonymousUser {
                user: name.to_owned(),
            })
    }

    fn find(&self, name: &str) -> Option<(PasswordHash, User)> {
        let directory = self.directory.read();
        let (name, account) = directory.accounts.get_key_value(name)?;
        let user = User {
            name: name.clone(),
            tags: account.login.tags.clone(),
        };
        Some((account.login.password.clone(), user))
    }

    fn count_change(&self) {
        self.version.fetch_add(1, Ordering::Release);
    }
}
