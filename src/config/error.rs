//! What is wrong with a configuration, with everything needed to mend it.

use std::fmt;
use std::path::PathBuf;

/// Every problem of one configuration, in the order of the file, then of the environment.
///
/// They are reported together, so that a file with three mistakes needs one correction and not three.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigErrors(pub Vec<ConfigError>);

/// One problem of a configuration: where it is, what is there and what should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {key}: expected {expected}, found {found}")]
pub struct ConfigError {
    pub origin: Origin,
    /// The setting, or the text in its place when the line is not `key = value`.
    pub key: String,
    /// What would be right, as a phrase: "a whole number from 0 to 65535".
    pub expected: String,
    /// What is there instead, in quotes; the text of a password is never shown.
    pub found: String,
}

/// Where a setting was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A line of the configuration file, counted from 1.
    Line { file: PathBuf, line: usize },
    /// The file as a whole: it cannot be read.
    File(PathBuf),
    /// An environment variable.
    Variable(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { file, line } => write!(formatter, "{}:{line}", file.display()),
            Self::File(file) => write!(formatter, "{}", file.display()),
            Self::Variable(name) => write!(formatter, "environment variable {name}"),
        }
    }
}
