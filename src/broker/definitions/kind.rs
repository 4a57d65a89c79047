//! The kinds of entries, how an entry is called, and which of them are chosen.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

/// A kind of entries: a list of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `users`.
    Users,
    /// `vhosts`.
    VHosts,
    /// `permissions`.
    Permissions,
    /// `topic_permissions`, which have no effect.
    TopicPermissions,
    /// `global_parameters`.
    GlobalParameters,
    /// `exchanges`.
    Exchanges,
    /// `policies`.
    Policies,
    /// `parameters`: operator policies and limits of virtual hosts among them.
    Parameters,
    /// `queues`.
    Queues,
    /// `bindings`.
    Bindings,
}

impl Kind {
    /// All kinds in RabbitMQ's order: what comes later needs what came before.
    pub const ALL: [Self; 10] = [
        Self::Users,
        Self::VHosts,
        Self::Permissions,
        Self::TopicPermissions,
        Self::GlobalParameters,
        Self::Exchanges,
        Self::Policies,
        Self::Parameters,
        Self::Queues,
        Self::Bindings,
    ];

    /// The key of the list.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::VHosts => "vhosts",
            Self::Permissions => "permissions",
            Self::TopicPermissions => "topic_permissions",
            Self::GlobalParameters => "global_parameters",
            Self::Exchanges => "exchanges",
            Self::Policies => "policies",
            Self::Parameters => "parameters",
            Self::Queues => "queues",
            Self::Bindings => "bindings",
        }
    }

    /// The virtual host that an entry is in, or is; `None` for what belongs to none.
    fn vhost(self, entry: &Value) -> Option<&str> {
        match self {
            Self::Users | Self::GlobalParameters => None,
            Self::VHosts => text(entry, "name"),
            _ => text(entry, "vhost"),
        }
    }

    /// What tells entries of one virtual host apart. Two bindings that differ are two bindings.
    fn entry_name(self, entry: &Value) -> Option<String> {
        let one = |key| text(entry, key).map(str::to_owned);
        match self {
            Self::Permissions | Self::TopicPermissions => one("user"),
            Self::Bindings => {
                let (source, destination) = (text(entry, "source")?, text(entry, "destination")?);
                Some(format!("{source} -> {destination}"))
            }
            Self::Parameters => match (text(entry, "component"), text(entry, "name")?) {
                (Some(component), name) => Some(format!("{component}/{name}")),
                (None, name) => Some(name.to_owned()),
            },
            _ => one("name"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// No list has that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "one of users, vhosts, permissions, global_parameters, exchanges, policies, parameters, queues, bindings"
)]
pub struct UnknownKind;

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Self, UnknownKind> {
        let mut all = Self::ALL.into_iter();
        all.find(|kind| kind.name() == name).ok_or(UnknownKind)
    }
}

/// How an entry is called: `queues[3] 'q' in vhost '/'`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryName {
    /// The list that it is in.
    pub kind: Kind,
    /// Its place in that list, from 0.
    pub index: usize,
    /// Its virtual host, if it says one; of a virtual host itself, none.
    pub vhost: Option<String>,
    /// Its name, if it has one: the user of permissions, both ends of a binding, component and name of a parameter.
    pub name: Option<String>,
}

impl EntryName {
    pub(super) fn of(kind: Kind, index: usize, entry: &Value) -> Self {
        Self {
            kind,
            index,
            vhost: text(entry, "vhost").map(str::to_owned),
            name: kind.entry_name(entry),
        }
    }
}

impl fmt::Display for EntryName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}[{}]", self.kind, self.index)?;
        if let Some(name) = &self.name {
            write!(formatter, " '{name}'")?;
        }
        match &self.vhost {
            Some(vhost) => write!(formatter, " in vhost '{vhost}'"),
            None => Ok(()),
        }
    }
}

/// Which entries are imported.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Those of these kinds only; all if there is none.
    pub kinds: Vec<Kind>,
    /// These virtual hosts and what is in them only, which leaves out users and global parameters; all entries if there
    /// is none.
    pub vhosts: Vec<String>,
}

impl Selection {
    pub(super) fn has(&self, kind: Kind, entry: &Value) -> bool {
        let in_vhost = || {
            let vhost = kind.vhost(entry);
            vhost.is_some_and(|vhost| self.vhosts.iter().any(|chosen| chosen == vhost))
        };
        self.has_kind(kind) && (self.vhosts.is_empty() || in_vhost())
    }

    pub(super) fn has_kind(&self, kind: Kind) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&kind)
    }
}

fn text<'a>(entry: &'a Value, key: &str) -> Option<&'a str> {
    entry.get(key).and_then(Value::as_str)
}
