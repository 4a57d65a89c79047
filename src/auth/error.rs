//! What can go wrong with a login, an access or a change of users.

use std::fmt;

use super::{Permission, Resource};

/// Why a login failed. What it says is for the log: a peer that is not logged in learns nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// The response does not have the form of the mechanism. RabbitMQ counts it as a syntax error.
    #[error("malformed response to the authentication mechanism")]
    Malformed,
    /// Unknown user or wrong password: not told apart, so that names cannot be tried out.
    #[error("user '{user}' - invalid credentials")]
    InvalidCredentials { user: String },
    /// A user without a password could otherwise be anybody.
    #[error("user '{user}' attempted to log in with a blank password")]
    BlankPassword { user: String },
    /// One of `loopback_users`, from elsewhere.
    #[error("user '{user}' can only connect via localhost")]
    NotFromLoopback { user: String },
    /// ANONYMOUS, while the user that it stands for does not exist.
    #[error("user '{user}' of anonymous_login_user does not exist")]
    NoAnonymousUser { user: String },
}

impl LoginError {
    /// Whom the peer claimed to be, as far as it said so.
    pub fn user(&self) -> Option<&str> {
        match self {
            Self::Malformed => None,
            Self::InvalidCredentials { user }
            | Self::BlankPassword { user }
            | Self::NotFromLoopback { user }
            | Self::NoAnonymousUser { user } => Some(user),
        }
    }
}

/// A user lacks a permission: 403, a channel error. The text is RabbitMQ's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{permission} access to {resource} in vhost '{vhost}' refused for user '{user}'")]
pub struct AccessRefused {
    permission: Permission,
    resource: String,
    vhost: String,
    user: String,
}

impl AccessRefused {
    #[cold]
    pub(super) fn new(
        permission: Permission,
        resource: Resource<'_>,
        vhost: &str,
        user: &str,
    ) -> Self {
        Self {
            permission,
            resource: resource.to_string(),
            vhost: vhost.to_owned(),
            user: user.to_owned(),
        }
    }
}

/// A user has no permissions in a vhost at all: 530 at connection.open. The text is RabbitMQ's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("access to vhost '{vhost}' refused for user '{user}'")]
pub struct VHostRefused {
    pub(super) vhost: String,
    pub(super) user: String,
}

/// Why users or permissions were not changed. Nothing was changed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    #[error("user '{0}' does not exist")]
    NoSuchUser(String),
    #[error("user '{0}' already exists")]
    UserExists(String),
    #[error("a name must not be empty or contain a null character")]
    InvalidName,
    #[error("invalid {permission} pattern '{pattern}': {reason}")]
    InvalidPattern {
        permission: Permission,
        pattern: String,
        reason: String,
    },
    #[error("no random numbers for a salt: {0}")]
    NoRandomness(String),
}

impl fmt::Display for Permission {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Configure => "configure",
            Self::Write => "write",
            Self::Read => "read",
        })
    }
}

/// `queue 'q'`, as in RabbitMQ's messages.
impl fmt::Display for Resource<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queue(name) => write!(formatter, "queue '{name}'"),
            Self::Exchange(_) => write!(formatter, "exchange '{}'", self.checked_name()),
        }
    }
}
