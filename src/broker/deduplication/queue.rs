//! The arguments of a queue that deduplicates. They were validated when it was declared.

use amq_protocol::types::{AMQPValue, FieldTable};

use super::{
    CACHE_PERSISTENCE, CACHE_SIZE, CACHE_TTL, DEDUPLICATION, ENTRIES_DEFAULT, ENTRIES_MAX, HEADER,
    Settings, positive,
};
use crate::broker::arguments::term;

/// How a queue deduplicates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSettings {
    /// What messages are known by, and what is remembered.
    pub(in crate::broker) settings: Settings,
    /// `x-cache-size` or `x-cache-ttl` is given: ids are remembered for that long, as LavinMQ's queues do. Otherwise as
    /// long as their messages are in the queue, as the queues of RabbitMQ's plugin do.
    pub(in crate::broker) is_cache: bool,
}

impl QueueSettings {
    /// What the arguments of a queue say; `None` if it does not deduplicate.
    pub fn from_arguments(arguments: &FieldTable) -> Option<Self> {
        let argument = |name| arguments.inner().get(name);
        if argument(DEDUPLICATION) != Some(&AMQPValue::Boolean(true)) {
            return None;
        }
        let size = positive(argument(CACHE_SIZE));
        let ttl_ms = positive(argument(CACHE_TTL));
        let is_cache = size.is_some() || ttl_ms.is_some();
        let entries_max = match size {
            Some(size) => usize::try_from(size).unwrap_or(ENTRIES_MAX),
            None if is_cache => ENTRIES_DEFAULT,
            None => ENTRIES_MAX,
        };
        let header = match argument(HEADER) {
            Some(AMQPValue::LongString(name)) => String::from_utf8_lossy(name.as_bytes()).into(),
            _ => HEADER.into(),
        };
        let in_memory = argument(CACHE_PERSISTENCE).and_then(term::bytes) == Some(b"memory");
        Some(Self {
            settings: Settings {
                header,
                entries_max: entries_max.min(ENTRIES_MAX),
                ttl_ms,
                is_persistent: !in_memory,
            },
            is_cache,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(entries: &[(&str, AMQPValue)]) -> Option<QueueSettings> {
        let mut table = FieldTable::default();
        for (name, value) in entries {
            table.insert((*name).into(), value.clone());
        }
        QueueSettings::from_arguments(&table)
    }

    #[test]
    fn a_size_or_a_time_makes_it_a_cache() {
        let on = (DEDUPLICATION, AMQPValue::Boolean(true));
        assert_eq!(settings(&[(CACHE_SIZE, AMQPValue::LongInt(5))]), None);
        let found = |more: &[(&'static str, AMQPValue)]| {
            let mut entries = vec![on.clone()];
            entries.extend_from_slice(more);
            let found = settings(&entries).unwrap();
            (
                found.is_cache,
                found.settings.entries_max,
                found.settings.ttl_ms,
            )
        };
        assert_eq!(found(&[]), (false, ENTRIES_MAX, None));
        assert_eq!(
            found(&[(CACHE_SIZE, AMQPValue::LongInt(5))]),
            (true, 5, None)
        );
        let ttl = (CACHE_TTL, AMQPValue::LongLongInt(9));
        assert_eq!(found(&[ttl]), (true, ENTRIES_DEFAULT, Some(9)));
        let huge = (CACHE_SIZE, AMQPValue::LongLongInt(i64::MAX));
        assert_eq!(found(&[huge]), (true, ENTRIES_MAX, None));
    }
}
