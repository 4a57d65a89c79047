//! The messages of the simulation: what a publisher writes into one, and what is read from one wherever it turns up.

use amq_protocol::types::{AMQPValue, FieldTable};

use crate::broker::queue::DeathReason;
use crate::message::field;
use crate::message::properties::Properties;
use crate::message::record::RecordRef;

/// Names a published message: rises from publish to publish.
pub(super) type Number = u64;

pub(super) const GROUP: &str = "x-group";
pub(super) const TOKEN: &str = "x-deduplication-header";
const DELAY: &str = "x-delay";

/// What a publisher says of a message.
#[derive(Debug, Clone, Default)]
pub(super) struct Labels {
    pub(super) number: Number,
    pub(super) persistent: bool,
    pub(super) priority: u8,
    pub(super) ttl_ms: Option<u64>,
    pub(super) delay_ms: Option<u64>,
    /// What keeps it behind others.
    pub(super) group: Option<i64>,
    /// What it is known by to those who drop what comes again.
    pub(super) token: Option<i64>,
    /// By which readers of a stream choose it.
    pub(super) value: Option<&'static str>,
    pub(super) body_bytes: usize,
}

/// A death, as `x-death` tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Death {
    pub(super) queue: String,
    pub(super) reason: DeathReason,
    pub(super) count: u64,
}

/// A message as it is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) number: Number,
    pub(super) persistent: bool,
    pub(super) priority: u8,
    pub(super) expiry_ms: u64,
    pub(super) group: Option<i64>,
    pub(super) token: Option<i64>,
    /// How long its publisher lets it live.
    pub(super) ttl_ms: Option<u64>,
    /// How long its header lets it wait; negative where that was followed.
    pub(super) delay_ms: Option<i64>,
    pub(super) body_bytes: u64,
    /// The last one first.
    pub(super) deaths: Vec<Death>,
}

impl Labels {
    /// The property list.
    pub(super) fn properties(&self) -> Vec<u8> {
        const HEADERS: u16 = 1 << 13;
        const DELIVERY_MODE: u16 = 1 << 12;
        const PRIORITY: u16 = 1 << 11;
        const EXPIRATION: u16 = 1 << 8;
        const MESSAGE_ID: u16 = 1 << 7;
        let mut flags = HEADERS | DELIVERY_MODE | PRIORITY | MESSAGE_ID;
        if self.ttl_ms.is_some() {
            flags |= EXPIRATION;
        }
        let mut out = flags.to_be_bytes().to_vec();
        let mut table = Vec::new();
        let delay_ms = self.delay_ms.map(|ms| ms as i64);
        let headers = [(GROUP, self.group), (TOKEN, self.token), (DELAY, delay_ms)];
        for (name, value) in headers {
            if let Some(value) = value {
                field::put_name(&mut table, name.as_bytes());
                field::put_long(&mut table, value);
            }
        }
        if let Some(value) = self.value {
            field::put_name(&mut table, b"x-stream-filter-value");
            field::put_long_string(&mut table, value.as_bytes());
        }
        out.extend((table.len() as u32).to_be_bytes());
        out.extend(table);
        out.push(if self.persistent { 2 } else { 1 });
        out.push(self.priority);
        let mut text = |text: String| {
            out.push(text.len() as u8);
            out.extend(text.into_bytes());
        };
        if let Some(ttl_ms) = self.ttl_ms {
            text(ttl_ms.to_string());
        }
        text(self.number.to_string());
        out
    }

    pub(super) fn body(&self) -> Vec<u8> {
        body(self.number, self.body_bytes)
    }
}

/// The body of a message tells whose it is at every place.
pub(super) fn body(number: Number, bytes: usize) -> Vec<u8> {
    let pattern = number.to_be_bytes();
    (0..bytes).map(|at| pattern[at % 8] ^ at as u8).collect()
}

/// The number in a property list.
pub(super) fn number(properties: &[u8]) -> Number {
    let read = Properties::read(properties).expect("what was written is well-formed");
    let text = read.message_id.map(String::from_utf8_lossy);
    let text = text.expect("every message of the simulation has an id");
    text.parse().expect("it is a number")
}

impl Found {
    pub(super) fn read(record: RecordRef<'_>) -> Self {
        let mut found = Self::of(record.properties());
        found.persistent = record.is_persistent();
        found.priority = record.priority();
        found.expiry_ms = record.expiry_ms();
        found.body_bytes = record.body_len() as u64;
        found
    }

    /// What the properties say.
    pub(super) fn of(properties: &[u8]) -> Self {
        let read = Properties::read(properties).expect("what was written is well-formed");
        let headers = read.decode_headers().expect("a table").unwrap_or_default();
        let integer = |name: &str| match headers.inner().get(name) {
            Some(AMQPValue::LongLongInt(value)) => Some(*value),
            Some(AMQPValue::LongInt(value)) => Some(i64::from(*value)),
            _ => None,
        };
        Self {
            number: number(properties),
            persistent: read.persistent,
            priority: read.priority,
            expiry_ms: 0,
            group: integer(GROUP),
            token: integer(TOKEN),
            ttl_ms: read.expiration.map(|text| {
                let text = String::from_utf8_lossy(text);
                text.parse().expect("it is a number")
            }),
            delay_ms: integer(DELAY),
            body_bytes: 0,
            deaths: deaths(&headers),
        }
    }

    /// The value of a header that may make groups.
    pub(super) fn group_by(&self, header: &str) -> Option<i64> {
        match header {
            TOKEN => self.token,
            _ => self.group,
        }
    }

    /// How long it waits in a queue that delays by so much.
    pub(super) fn waits_ms(&self, queue_ms: u64) -> Option<u64> {
        let own_ms = self.delay_ms.and_then(|ms| u64::try_from(ms).ok());
        Some(own_ms.unwrap_or(queue_ms)).filter(|ms| *ms > 0)
    }

    /// It waits for so long: a header that said so is negative from now on.
    pub(super) fn wait(&mut self, ms: u64) {
        let said = self.delay_ms.as_mut().filter(|said| **said >= 0);
        if let Some(said) = said {
            *said = -(ms as i64);
        }
    }
}

fn deaths(headers: &FieldTable) -> Vec<Death> {
    let Some(AMQPValue::FieldArray(deaths)) = headers.inner().get("x-death") else {
        return Vec::new();
    };
    let tables = deaths.as_slice().iter().map(|death| match death {
        AMQPValue::FieldTable(death) => death,
        other => panic!("a death is no table: {other:?}"),
    });
    tables.map(death).collect()
}

fn death(table: &FieldTable) -> Death {
    let text = |name: &str| match table.inner().get(name) {
        Some(AMQPValue::LongString(text)) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
        other => panic!("{name} of a death is {other:?}"),
    };
    let reasons = [
        DeathReason::Rejected,
        DeathReason::Expired,
        DeathReason::MaxLen,
        DeathReason::DeliveryLimit,
    ];
    let reason = reasons
        .into_iter()
        .find(|reason| reason.name() == text("reason"));
    let Some(AMQPValue::LongLongInt(count)) = table.inner().get("count") else {
        panic!("a death has no count: {table:?}");
    };
    Death {
        queue: text("queue"),
        reason: reason.expect("a reason that exists"),
        count: *count as u64,
    }
}
