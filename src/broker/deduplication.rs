//! Deduplication: an exchange or a queue remembers what was published to it and drops what comes again. Here is what
//! exchanges do and what both share; what queues do is in `queue/duplicates.rs`.
//!
//! A message is known by the value of one of its headers. It is checked, put into its queues and remembered in one
//! visit under the lock of the cache (gate -> cache -> queue), and remembered only if every queue took it: a publish
//! that was refused can be repeated. An entry that must survive a restart is written in the epoch of its message, so
//! that a crash keeps both or neither.
//!
//! - [`cache`]: what is remembered; pure.
//! - [`batch`]: the messages of one visit.

pub mod batch;
mod cache;
mod queue;

use std::sync::Arc;

use amq_protocol::types::{AMQPValue, FieldTable};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

pub(super) use self::cache::Cache;
pub(super) use self::queue::QueueSettings;
use super::arguments::term;
use super::error::Error;
use super::state;
use crate::message::field;
use crate::message::op::Op;
use crate::message::properties::{self, Properties};
use crate::store::Visit;

/// The argument that turns deduplication on, and the exchange type that has it on.
pub const DEDUPLICATION: &str = "x-message-deduplication";

const HEADER: &str = "x-deduplication-header";
const CACHE_SIZE: &str = "x-cache-size";
const CACHE_TTL: &str = "x-cache-ttl";
const CACHE_PERSISTENCE: &str = "x-cache-persistence";

/// Entries of a cache, where `x-cache-size` does not say.
const ENTRIES_DEFAULT: usize = 65_536;

/// No cache holds more entries: their rows go in one visit when the exchange is deleted.
pub const ENTRIES_MAX: usize = 1_048_576;

/// What is remembered of a message: half of a SHA-256 of the header's value.
pub type Hash = [u8; 16];

/// The arguments of an exchange or a queue that deduplicates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Name of the header that messages are known by.
    header: Box<str>,
    /// At most this many entries: the oldest goes for a new one.
    entries_max: usize,
    /// How long a message is remembered, unless it says otherwise.
    ttl_ms: Option<u64>,
    /// Entries of messages that survive a restart survive it too.
    is_persistent: bool,
}

impl Settings {
    /// What the arguments of an exchange say; `None` if it does not deduplicate. Exchanges of the type
    /// `x-message-deduplication` do, and must have `x-cache-size`.
    ///
    /// # Errors
    /// An argument has a value that does not fit, in the words of the RabbitMQ plugin.
    pub fn from_arguments(kind: &str, arguments: &FieldTable) -> Result<Option<Self>, Error> {
        let is_own_type = kind == DEDUPLICATION;
        let argument = |name| arguments.inner().get(name);
        let is_on = match argument(DEDUPLICATION) {
            None => false,
            Some(AMQPValue::Boolean(is_on)) => *is_on,
            Some(_) => {
                return Err(refused(
                    "Invalid argument, 'x-message-deduplication' must be a boolean",
                ));
            }
        };
        if !is_own_type && !is_on {
            return Ok(None);
        }
        let entries_max = match (argument(CACHE_SIZE), is_own_type) {
            (None, false) => ENTRIES_DEFAULT,
            (size, _) => positive(size).ok_or_else(|| {
                refused(
                    "Missing or invalid argument, 'x-cache-size' must be an integer greater than 0",
                )
            })? as usize,
        };
        let ttl_ms = match argument(CACHE_TTL) {
            None => None,
            ttl => Some(positive(ttl).ok_or_else(|| {
                refused("Invalid argument, 'x-cache-ttl' must be an integer greater than 0")
            })?),
        };
        let is_persistent = match argument(CACHE_PERSISTENCE).map(term::bytes) {
            None | Some(Some(b"disk")) => true,
            Some(Some(b"memory")) => false,
            Some(_) => {
                return Err(refused(
                    "Invalid argument, 'x-cache-persistence' must be either 'memory' or 'disk'",
                ));
            }
        };
        let header = match argument(HEADER) {
            None => HEADER.into(),
            Some(AMQPValue::LongString(name)) => String::from_utf8_lossy(name.as_bytes()).into(),
            Some(_) => {
                return Err(refused(
                    "Invalid argument, 'x-deduplication-header' must be a string",
                ));
            }
        };
        Ok(Some(Self {
            header,
            entries_max: entries_max.min(ENTRIES_MAX),
            ttl_ms,
            is_persistent,
        }))
    }

    /// At most this many messages are remembered.
    pub(super) const fn entries_max(&self) -> usize {
        self.entries_max
    }

    /// How long a message is remembered, unless it says otherwise.
    #[cfg(test)]
    pub(super) const fn ttl_ms(&self) -> Option<u64> {
        self.ttl_ms
    }

    /// Whether a restart remembers.
    pub(super) const fn is_persistent(&self) -> bool {
        self.is_persistent
    }

    /// How a message with these properties is known; `None` without the header, such a message is never a duplicate.
    pub(super) fn identity(&self, encoded: &[u8], now_ms: u64) -> Option<Identity> {
        let headers = Properties::read(encoded).ok()?.headers?;
        let value = properties::header(headers, self.header.as_bytes())?;
        let ttl_ms = properties::header(headers, CACHE_TTL.as_bytes())
            .and_then(field::integer)
            .and_then(|ttl_ms| u64::try_from(ttl_ms).ok())
            .filter(|ttl_ms| *ttl_ms > 0)
            .or(self.ttl_ms);
        Some(Identity {
            hash: hash(value),
            expires_ms: ttl_ms.map_or(u64::MAX, |ttl_ms| now_ms.saturating_add(ttl_ms)),
        })
    }
}

fn positive(value: Option<&AMQPValue>) -> Option<u64> {
    let number = u64::try_from(term::integer(value?)?).ok()?;
    (number > 0).then_some(number)
}

fn refused(text: &str) -> Error {
    Error::InvalidExchange(text.into())
}

/// The memory of an exchange.
#[derive(Debug)]
pub struct Deduplication {
    settings: Settings,
    vhost: Arc<str>,
    exchange: Arc<str>,
    cache: Mutex<Cache>,
}

/// How a message is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// What stands for it.
    pub hash: Hash,
    /// When it is forgotten, ms since the Unix epoch; `u64::MAX` for never.
    pub expires_ms: u64,
}

impl Deduplication {
    /// An empty memory for `exchange`.
    pub(super) fn new(settings: Settings, vhost: &Arc<str>, exchange: &Arc<str>) -> Self {
        let cache = Mutex::new(Cache::new(settings.entries_max));
        Self {
            settings,
            vhost: vhost.clone(),
            exchange: exchange.clone(),
            cache,
        }
    }

    /// Remembered messages, those that are forgotten at their next turn included.
    pub fn len(&self) -> usize {
        self.cache.lock().len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts an entry into it that the store remembers; they come oldest first. Answers what removes the rows of those
    /// that it has no room for.
    pub(super) fn recover(&self, row: &state::DeduplicationRow<'_>) -> Vec<Op> {
        let forgotten = self.cache.lock().insert(row.hash, row.expires_ms, true);
        let forget = |hash| Op::DeleteState {
            key: state::deduplication_key(&self.vhost, &self.exchange, hash),
        };
        forgotten.into_iter().map(forget).collect()
    }

    /// Removes all rows and remembers nothing any more: the exchange goes.
    pub(super) fn retire(&self, visit: &Visit<'_>) {
        let rows = self.cache.lock().close();
        self.forget_rows(visit, rows);
    }

    fn forget_rows(&self, visit: &Visit<'_>, hashes: Vec<Hash>) {
        for hash in hashes {
            visit.push(Op::DeleteState {
                key: state::deduplication_key(&self.vhost, &self.exchange, hash),
            });
        }
    }

    fn put_row(&self, visit: &Visit<'_>, identity: Identity) {
        let row = state::DeduplicationRow {
            vhost: &self.vhost,
            exchange: &self.exchange,
            hash: identity.hash,
            inserted_ms: visit.now_ms(),
            expires_ms: identity.expires_ms,
        };
        visit.push(state::put_deduplication(&row));
    }
}

/// Integers are the same whatever their width; all else differs by type and value.
fn hash(value: &[u8]) -> Hash {
    let digest = match field::integer(value) {
        Some(number) => Sha256::new()
            .chain_update(b"l")
            .chain_update(number.to_be_bytes()),
        None => Sha256::new().chain_update(value),
    };
    let mut hash = Hash::default();
    hash.copy_from_slice(&digest.finalize()[..16]);
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(entries: &[(&str, AMQPValue)]) -> FieldTable {
        let mut table = FieldTable::default();
        for (name, value) in entries {
            table.insert((*name).into(), value.clone());
        }
        table
    }

    fn text(text: &str) -> AMQPValue {
        AMQPValue::LongString(text.into())
    }

    #[test]
    fn an_argument_turns_it_on_for_any_type() {
        let on = (DEDUPLICATION, AMQPValue::Boolean(true));
        let settings = |entries: &[_]| Settings::from_arguments("topic", &table(entries)).unwrap();
        assert_eq!(settings(&[]), None);
        assert_eq!(
            settings(&[(DEDUPLICATION, AMQPValue::Boolean(false))]),
            None
        );
        let default = settings(std::slice::from_ref(&on)).unwrap();
        assert_eq!(
            (default.entries_max, default.ttl_ms, default.is_persistent),
            (ENTRIES_DEFAULT, None, true)
        );
        assert_eq!(&*default.header, "x-deduplication-header");
        let all = settings(&[
            on,
            (CACHE_SIZE, AMQPValue::LongInt(5)),
            (CACHE_TTL, AMQPValue::LongLongInt(1_000)),
            (CACHE_PERSISTENCE, text("memory")),
            (HEADER, text("id")),
        ]);
        let expected = Settings {
            header: "id".into(),
            entries_max: 5,
            ttl_ms: Some(1_000),
            is_persistent: false,
        };
        assert_eq!(all, Some(expected));
    }

    #[test]
    fn what_is_no_boolean_turns_nothing_on_in_silence() {
        for value in [text("true"), AMQPValue::LongInt(1), AMQPValue::Void] {
            let refused = Settings::from_arguments("topic", &table(&[(DEDUPLICATION, value)]));
            assert_eq!(
                refused.unwrap_err().to_string(),
                "Invalid argument, 'x-message-deduplication' must be a boolean"
            );
        }
    }

    #[test]
    fn the_type_of_the_plugin_needs_a_size() {
        let refused = |entries: &[_]| {
            Settings::from_arguments(DEDUPLICATION, &table(entries))
                .unwrap_err()
                .to_string()
        };
        let size = "Missing or invalid argument, 'x-cache-size' must be an integer greater than 0";
        assert_eq!(refused(&[]), size);
        assert_eq!(refused(&[(CACHE_SIZE, AMQPValue::LongInt(0))]), size);
        let sized = (CACHE_SIZE, AMQPValue::LongInt(5));
        let with = |name, value| refused(&[sized.clone(), (name, value)]);
        assert_eq!(
            with(CACHE_TTL, text("5")),
            "Invalid argument, 'x-cache-ttl' must be an integer greater than 0"
        );
        assert_eq!(
            with(CACHE_PERSISTENCE, text("tape")),
            "Invalid argument, 'x-cache-persistence' must be either 'memory' or 'disk'"
        );
        assert_eq!(
            with(HEADER, AMQPValue::Void),
            "Invalid argument, 'x-deduplication-header' must be a string"
        );
    }

    #[test]
    fn values_are_known_by_type_and_value_and_integers_by_value() {
        assert_eq!(hash(b"I\0\0\0\x05"), hash(b"b\x05"));
        assert_ne!(hash(b"I\0\0\0\x05"), hash(b"I\0\0\0\x06"));
        assert_ne!(hash(b"S\0\0\0\x015"), hash(b"b\x05"));
        assert_ne!(hash(b"S\0\0\0\x01a"), hash(b"S\0\0\0\x01b"));
    }
}
