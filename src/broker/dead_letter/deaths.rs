//! What a message has died of so far: kept in the broker's annotations of the record and shown as headers.
//!
//! A client cannot forge it: `x-death` in a published message is just a header (RabbitMQ since 4.0).

use crate::broker::queue::DeathReason;
use crate::message::field;

const ANNOTATION: u8 = 1;

/// Deaths beyond which the oldest are forgotten: annotations are limited to 64 KiB.
const ANNOTATION_BYTES_MAX: usize = 60_000;

/// Deaths of a message in one queue for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Death {
    pub(super) queue: Box<str>,
    pub(super) reason: DeathReason,
    pub(super) count: u64,
    /// When it died first, in ms since the Unix epoch.
    pub(super) time_ms: u64,
    pub(super) exchange: Vec<u8>,
    /// The message's own key and those of its CC header.
    pub(super) routing_keys: Vec<Vec<u8>>,
    /// The expiration that it was published with.
    pub(super) original_expiration: Option<Vec<u8>>,
}

/// All deaths of a message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Deaths {
    /// The last one first.
    pub(super) entries: Vec<Death>,
    /// Reason, queue and exchange of the first death.
    pub(super) first: Option<(DeathReason, Box<str>, Vec<u8>)>,
    /// The exchange that it was published to before its last death.
    pub(super) last_exchange: Vec<u8>,
    /// A dead-letter routing key took the place of all its keys: the CC header routes no more.
    pub(super) copies_dropped: bool,
}

impl Deaths {
    /// Adds a death: one more of its kind, which moves to the front (semantics row 37).
    pub(super) fn add(&mut self, death: Death) {
        self.first
            .get_or_insert_with(|| (death.reason, death.queue.clone(), death.exchange.clone()));
        self.last_exchange.clone_from(&death.exchange);
        let same = |other: &Death| other.queue == death.queue && other.reason == death.reason;
        let entry = match self.entries.iter().position(same) {
            Some(at) => {
                let mut before = self.entries.remove(at);
                before.count += 1;
                before
            }
            None => death,
        };
        self.entries.insert(0, entry);
    }

    /// Whether the message would go round without any consumer's doing if it came to `queue` (semantics row 41).
    pub(super) fn is_cycle(&self, queue: &str) -> bool {
        let Some(at) = self.entries.iter().position(|death| *death.queue == *queue) else {
            return false;
        };
        self.entries[..=at]
            .iter()
            .all(|death| death.reason != DeathReason::Rejected)
    }

    /// The value of the header `x-death`: tables with their fields in RabbitMQ's order.
    pub(super) fn header(&self) -> Vec<u8> {
        let mut tables = Vec::new();
        for death in &self.entries {
            field::put_table(&mut tables, &death.table());
        }
        let mut value = Vec::new();
        field::put_array(&mut value, &tables);
        value
    }

    /// Reads the annotations of a record.
    pub(super) fn read(annotations: &[u8]) -> Self {
        let mut reader = Reader(annotations);
        match reader.u8() {
            Some(ANNOTATION) => read_deaths(&mut reader).unwrap_or_default(),
            _ => Self::default(),
        }
    }

    /// The annotations of a record with these deaths.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![ANNOTATION, u8::from(self.copies_dropped)];
        if let Some((reason, queue, exchange)) = &self.first {
            out.push(code(*reason));
            put(&mut out, queue.as_bytes());
            put(&mut out, exchange);
        } else {
            out.push(0);
        }
        put(&mut out, &self.last_exchange);
        for death in &self.entries {
            let before = out.len();
            death.encode(&mut out);
            if out.len() > ANNOTATION_BYTES_MAX {
                out.truncate(before);
                break;
            }
        }
        out
    }
}

impl Death {
    fn table(&self) -> Vec<u8> {
        let mut table = Vec::new();
        if let Some(expiration) = &self.original_expiration {
            field::put_name(&mut table, b"original-expiration");
            field::put_long_string(&mut table, expiration);
        }
        field::put_name(&mut table, b"count");
        field::put_long(&mut table, self.count as i64);
        field::put_name(&mut table, b"reason");
        field::put_long_string(&mut table, self.reason.name().as_bytes());
        field::put_name(&mut table, b"queue");
        field::put_long_string(&mut table, self.queue.as_bytes());
        field::put_name(&mut table, b"time");
        field::put_timestamp(&mut table, self.time_ms / 1_000);
        field::put_name(&mut table, b"exchange");
        field::put_long_string(&mut table, &self.exchange);
        let mut keys = Vec::new();
        for key in &self.routing_keys {
            field::put_long_string(&mut keys, key);
        }
        field::put_name(&mut table, b"routing-keys");
        field::put_array(&mut table, &keys);
        table
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(code(self.reason));
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.time_ms.to_le_bytes());
        put(out, self.queue.as_bytes());
        put(out, &self.exchange);
        out.push(u8::from(self.original_expiration.is_some()));
        put(out, self.original_expiration.as_deref().unwrap_or_default());
        out.extend_from_slice(&(self.routing_keys.len().min(0xFFFF) as u16).to_le_bytes());
        for key in self.routing_keys.iter().take(0xFFFF) {
            put(out, key);
        }
    }
}

fn read_deaths(reader: &mut Reader<'_>) -> Option<Deaths> {
    let mut deaths = Deaths {
        copies_dropped: reader.u8()? != 0,
        ..Deaths::default()
    };
    if let Some(reason) = reason(reader.u8()?) {
        deaths.first = Some((reason, reader.text()?, reader.bytes()?.to_vec()));
    }
    deaths.last_exchange = reader.bytes()?.to_vec();
    while !reader.0.is_empty() {
        let reason = reason(reader.u8()?)?;
        let (count, time_ms) = (reader.u64()?, reader.u64()?);
        let (queue, exchange) = (reader.text()?, reader.bytes()?.to_vec());
        let expires = reader.u8()? != 0;
        let expiration = reader.bytes()?.to_vec();
        let number = reader.u16()?;
        let routing_keys = (0..number).map(|_| reader.bytes().map(<[u8]>::to_vec));
        deaths.entries.push(Death {
            queue,
            reason,
            count,
            time_ms,
            exchange,
            routing_keys: routing_keys.collect::<Option<_>>()?,
            original_expiration: expires.then_some(expiration),
        });
    }
    Some(deaths)
}

const fn code(reason: DeathReason) -> u8 {
    match reason {
        DeathReason::Rejected => 1,
        DeathReason::Expired => 2,
        DeathReason::MaxLen => 3,
        DeathReason::DeliveryLimit => 4,
    }
}

const fn reason(code: u8) -> Option<DeathReason> {
    Some(match code {
        1 => DeathReason::Rejected,
        2 => DeathReason::Expired,
        3 => DeathReason::MaxLen,
        4 => DeathReason::DeliveryLimit,
        _ => return None,
    })
}

/// Names, keys and expirations are short strings.
fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(255)];
    out.push(bytes.len() as u8);
    out.extend_from_slice(bytes);
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(self.take(2)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.u8()?);
        self.take(length)
    }

    fn text(&mut self) -> Option<Box<str>> {
        std::str::from_utf8(self.bytes()?).ok().map(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn death(queue: &str, reason: DeathReason, time_ms: u64) -> Death {
        Death {
            queue: queue.into(),
            reason,
            count: 1,
            time_ms,
            exchange: b"x".to_vec(),
            routing_keys: vec![b"k".to_vec(), b"copy".to_vec()],
            original_expiration: None,
        }
    }

    #[test]
    fn deaths_of_a_kind_are_counted_and_the_last_stands_first() {
        let mut deaths = Deaths::default();
        deaths.add(death("a", DeathReason::Expired, 1_000));
        deaths.add(death("b", DeathReason::Rejected, 2_000));
        deaths.add(death("a", DeathReason::Expired, 3_000));
        let told: Vec<_> = deaths
            .entries
            .iter()
            .map(|death| (&*death.queue, death.count, death.time_ms))
            .collect();
        assert_eq!(
            told,
            [("a", 2, 1_000), ("b", 1, 2_000)],
            "the time is that of the first death"
        );
        let first = deaths.first.as_ref().unwrap();
        assert_eq!((first.0, &*first.1), (DeathReason::Expired, "a"));
    }

    #[test]
    fn a_cycle_has_no_rejection_in_it() {
        let mut deaths = Deaths::default();
        deaths.add(death("a", DeathReason::Expired, 1));
        deaths.add(death("b", DeathReason::MaxLen, 2));
        assert!(deaths.is_cycle("a") && deaths.is_cycle("b"));
        assert!(!deaths.is_cycle("c"), "it has not been there");
        deaths.add(death("c", DeathReason::Rejected, 3));
        assert!(!deaths.is_cycle("a"), "a consumer was involved since");
        assert!(!deaths.is_cycle("c"), "and here it was the consumer");
    }

    #[test]
    fn annotations_read_back_and_damage_reads_as_nothing() {
        let mut deaths = Deaths {
            copies_dropped: true,
            ..Deaths::default()
        };
        deaths.add(death("a", DeathReason::Expired, 1));
        let mut second = death("b", DeathReason::DeliveryLimit, 2);
        second.original_expiration = Some(b"500".to_vec());
        deaths.add(second);
        let encoded = deaths.encode();
        assert_eq!(Deaths::read(&encoded), deaths);
        assert_eq!(Deaths::read(&[]), Deaths::default());
        assert_eq!(
            Deaths::read(&encoded[..encoded.len() - 1]),
            Deaths::default()
        );
    }

    #[test]
    fn a_long_history_forgets_its_beginning() {
        let mut deaths = Deaths::default();
        for number in 0..2_000 {
            let queue = format!("{number:0>200}");
            deaths.add(death(&queue, DeathReason::Expired, 1));
        }
        let encoded = deaths.encode();
        assert!(encoded.len() <= ANNOTATION_BYTES_MAX);
        let read = Deaths::read(&encoded);
        assert_eq!(read.entries[..], deaths.entries[..read.entries.len()]);
        assert!(read.entries.len() > 200);
    }
}
