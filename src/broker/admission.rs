//! Who may open a virtual host: connection.open, in RabbitMQ's order of checks and in its words
//! (`rabbit_reader:handle_method0`). All refusals are 530.

use super::Broker;
use crate::auth::{User, VHostRefused};
use crate::occupancy::Place;

/// The right of a connection to be in its virtual host; it counts there, in the node and for its user until this is
/// dropped.
#[derive(Debug, Default)]
pub struct Admission {
    _places: Vec<Place>,
}

/// Why a connection cannot open a virtual host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdmissionRefused {
    /// There is no such virtual host.
    #[error("vhost {0} not found")]
    NoSuchVHost(String),
    /// The node has as many connections as it may have.
    #[error("connection refused: node connection limit ({limit}) is reached")]
    NodeLimit {
        /// `connection_max`.
        limit: u64,
    },
    /// The virtual host has as many connections as it may have.
    #[error(
        "access to vhost '{vhost}' refused for user '{user}': connection limit ({limit}) is reached"
    )]
    VHostLimit {
        /// The virtual host.
        vhost: String,
        /// Who asks.
        user: String,
        /// Its `max-connections`.
        limit: u64,
    },
    /// The user has as many connections as it may have, in all virtual hosts together.
    #[error("connection refused for user '{user}': user connection limit ({limit}) is reached")]
    UserLimit {
        /// The user.
        user: String,
        /// Its `max-connections`.
        limit: u64,
    },
    /// The user has no permissions there.
    #[error(transparent)]
    Access(#[from] VHostRefused),
}

impl Broker {
    /// Lets a user's connection into a virtual host.
    ///
    /// # Errors
    /// The virtual host does not exist, a limit is reached, or the user has no permissions there.
    pub fn admit(&self, user: &User, name: &str) -> Result<Admission, AdmissionRefused> {
        let in_node = self.services.census.count_connection();
        let in_node = in_node.map_err(|full| AdmissionRefused::NodeLimit { limit: full.limit })?;
        let vhost = self
            .vhost(name)
            .ok_or_else(|| AdmissionRefused::NoSuchVHost(name.to_owned()))?;
        let in_vhost = vhost.enter().map_err(|full| AdmissionRefused::VHostLimit {
            vhost: name.to_owned(),
            user: user.name().to_string(),
            limit: full.limit,
        })?;
        let of_user =
            self.auth
                .count_connection(user)
                .map_err(|full| AdmissionRefused::UserLimit {
                    user: user.name().to_string(),
                    limit: full.limit,
                })?;
        self.auth.check_vhost(user, name)?;
        Ok(Admission {
            _places: [Some(in_node), Some(in_vhost), of_user]
                .into_iter()
                .flatten()
                .collect(),
        })
    }
}
