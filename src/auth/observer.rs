//! Who wants to know of changes of users and permissions.

use std::fmt;
use std::sync::{Arc, OnceLock};

use super::{Permissions, UserLimits};

/// A change that was made.
#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    /// A user was added.
    UserCreated {
        /// Its name.
        user: &'a str,
    },
    /// A user was deleted.
    UserDeleted {
        /// Its name.
        user: &'a str,
    },
    /// A user has another password.
    PasswordChanged {
        /// Its name.
        user: &'a str,
    },
    /// A user has these tags.
    TagsSet {
        /// Its name.
        user: &'a str,
        /// All of them.
        tags: &'a [Arc<str>],
    },
    /// A user has these limits.
    LimitsSet {
        /// Its name.
        user: &'a str,
        /// All of them.
        limits: UserLimits,
    },
    /// A user has these permissions in a vhost.
    PermissionSet {
        /// Its name.
        user: &'a str,
        /// The vhost.
        vhost: &'a str,
        /// All three.
        permissions: &'a Permissions,
    },
    /// A user has no permissions in a vhost any more.
    PermissionCleared {
        /// Its name.
        user: &'a str,
        /// The vhost.
        vhost: &'a str,
    },
}

/// Hears of each change after it was made, without any lock.
pub type Observer = dyn Fn(&Change<'_>) + Send + Sync;

/// The observer, once there is one.
#[derive(Default)]
pub(super) struct Observed(OnceLock<Box<Observer>>);

impl Observed {
    pub(super) fn set(&self, observer: Box<Observer>) {
        // There is one at most: the first.
        let _ = self.0.set(observer);
    }

    pub(super) fn tell(&self, change: &Change<'_>) {
        if let Some(observer) = self.0.get() {
            observer(change);
        }
    }
}

impl fmt::Debug for Observed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("Observed")
            .field(&self.0.get().is_some())
            .finish()
    }
}
