//! Methods by name: `method!(queue.declare { queue: "orders", durable: true })`.
//!
//! Fields that are not named are zero when sent and are not looked at when expected.

use std::{fmt, io};

use super::spec::{self, MethodSpec};
use super::wire::{self, Reader, Table};

/// Writes a method as the specification names it; see the module.
macro_rules! method {
    ($class:ident . $name:tt) => {
        $crate::support::method::Method::new(concat!(stringify!($class), ".", stringify!($name)))
    };
    ($class:ident . $name:tt { $($field:tt : $value:expr),* $(,)? }) => {
        $crate::support::method::Method::new(concat!(stringify!($class), ".", stringify!($name)))
            $(.with(stringify!($field), $value))*
    };
}

/// The value of one field, before its width on the wire is known.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Arg {
    Bit(bool),
    Number(u64),
    Text(Vec<u8>),
    Table(Table),
}

macro_rules! arg_from {
    ($($from:ty => |$value:ident| $arg:expr;)*) => {
        $(impl From<$from> for Arg {
            fn from($value: $from) -> Self {
                $arg
            }
        })*
    };
}

arg_from! {
    bool => |value| Self::Bit(value);
    u16 => |value| Self::Number(u64::from(value));
    u32 => |value| Self::Number(u64::from(value));
    u64 => |value| Self::Number(value);
    i32 => |value| Self::Number(u64::try_from(value).expect("fields are unsigned"));
    &str => |value| Self::Text(value.as_bytes().to_vec());
    &String => |value| Self::Text(value.as_bytes().to_vec());
    String => |value| Self::Text(value.into_bytes());
    &[u8] => |value| Self::Text(value.to_vec());
    Vec<u8> => |value| Self::Text(value);
    Table => |value| Self::Table(value);
}

/// A method to send, one that is expected, or one that came.
#[derive(Clone)]
pub(crate) struct Method {
    pub(crate) spec: &'static MethodSpec,
    fields: Vec<(&'static str, Arg)>,
}

impl Method {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            spec: spec::by_name(name),
            fields: Vec::new(),
        }
    }

    /// Sets a field by its name.
    pub(crate) fn with(mut self, name: &str, value: impl Into<Arg>) -> Self {
        let known = self.field_names().find(|(known, _)| *known == name);
        let Some((known, _)) = known else {
            panic!("{} has no field {name}", self.spec.name);
        };
        self.fields.push((known, value.into()));
        self
    }

    /// Sets a field that was set before.
    pub(crate) fn with_replaced(mut self, name: &str, value: impl Into<Arg>) -> Self {
        self.fields.retain(|(known, _)| *known != name);
        self.with(name, value)
    }

    pub(crate) fn name(&self) -> &'static str {
        self.spec.name
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arg> {
        self.fields
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    }

    /// A string field; replacement characters stand for what is no UTF-8.
    pub(crate) fn text(&self, name: &str) -> String {
        match self.get(name) {
            Some(Arg::Text(text)) => String::from_utf8_lossy(text).into_owned(),
            other => panic!("{}: {name} is {other:?}, not a string", self.spec.name),
        }
    }

    pub(crate) fn number(&self, name: &str) -> u64 {
        match self.get(name) {
            Some(Arg::Number(number)) => *number,
            other => panic!("{}: {name} is {other:?}, not a number", self.spec.name),
        }
    }

    pub(crate) fn bit(&self, name: &str) -> bool {
        match self.get(name) {
            Some(Arg::Bit(bit)) => *bit,
            other => panic!("{}: {name} is {other:?}, not a bit", self.spec.name),
        }
    }

    pub(crate) fn table(&self, name: &str) -> &Table {
        match self.get(name) {
            Some(Arg::Table(table)) => table,
            other => panic!("{}: {name} is {other:?}, not a table", self.spec.name),
        }
    }

    /// Does this method, which came, have the name and the fields that `expected` names?
    pub(crate) fn matches(&self, expected: &Self) -> bool {
        std::ptr::eq(self.spec, expected.spec)
            && expected
                .fields
                .iter()
                .all(|(name, value)| self.get(name) == Some(value))
    }

    /// The payload of the method frame.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        out.extend(self.spec.class_id.to_be_bytes());
        out.extend(self.spec.method_id.to_be_bytes());
        let mut bits_used = 0;
        for (name, kind) in self.field_names() {
            let value = self.get(name);
            if kind == "bit" {
                put_bit(&mut out, &mut bits_used, value);
            } else {
                bits_used = 0;
                put_field(&mut out, kind, value);
            }
        }
        out
    }

    /// Reads the payload of a method frame; bytes left over are an error.
    pub(crate) fn decode(payload: &[u8]) -> io::Result<Self> {
        let mut reader = Reader(payload);
        let (class_id, method_id) = (reader.short()?, reader.short()?);
        let spec = spec::by_ids(class_id, method_id)
            .ok_or_else(|| wire::malformed(&format!("unknown method {class_id}.{method_id}")))?;
        let mut method = Self {
            spec,
            fields: Vec::new(),
        };
        let (mut bits, mut bits_used) = (0, 8);
        for (name, kind) in method.field_names() {
            let value = if kind == "bit" {
                if bits_used == 8 {
                    (bits, bits_used) = (reader.octet()?, 0);
                }
                bits_used += 1;
                Arg::Bit(bits >> (bits_used - 1) & 1 == 1)
            } else {
                bits_used = 8;
                read_field(&mut reader, kind)?
            };
            method.fields.push((name, value));
        }
        if !reader.0.is_empty() {
            return Err(wire::malformed(&format!("{} is too long", spec.name)));
        }
        Ok(method)
    }

    fn field_names(&self) -> impl Iterator<Item = (&'static str, &'static str)> + use<> {
        let words = self.spec.fields.split_whitespace();
        words.map(|word| word.split_once(':').expect("spec words are name:type"))
    }
}

/// Adjacent bits share octets, the first in the lowest place.
fn put_bit(out: &mut Vec<u8>, bits_used: &mut u32, value: Option<&Arg>) {
    if bits_used.is_multiple_of(8) {
        out.push(0);
    }
    if value == Some(&Arg::Bit(true)) {
        *out.last_mut().expect("an octet was just pushed") |= 1 << (*bits_used % 8);
    }
    *bits_used += 1;
}

fn put_field(out: &mut Vec<u8>, kind: &str, value: Option<&Arg>) {
    let number = match value {
        Some(Arg::Number(number)) => *number,
        _ => 0,
    };
    let text = match value {
        Some(Arg::Text(text)) => text.as_slice(),
        _ => b"",
    };
    let bytes = number.to_be_bytes();
    match (kind, value) {
        ("octet", _) => out.extend_from_slice(&bytes[7..]),
        ("short", _) => out.extend_from_slice(&bytes[6..]),
        ("long", _) => out.extend_from_slice(&bytes[4..]),
        ("longlong", _) => out.extend_from_slice(&bytes),
        ("shortstr", _) => wire::put_shortstr(out, text),
        ("longstr", _) => wire::put_longstr(out, text),
        ("table", Some(Arg::Table(table))) => wire::put_table(out, table),
        ("table", _) => wire::put_table(out, &Table::new()),
        _ => panic!("unknown field type {kind}"),
    }
}

fn read_field(reader: &mut Reader<'_>, kind: &str) -> io::Result<Arg> {
    Ok(match kind {
        "octet" => Arg::Number(u64::from(reader.octet()?)),
        "short" => Arg::Number(u64::from(reader.short()?)),
        "long" => Arg::Number(u64::from(reader.long()?)),
        "longlong" => Arg::Number(reader.longlong()?),
        "shortstr" => Arg::Text(reader.shortstr()?.to_vec()),
        "longstr" => Arg::Text(reader.longstr()?.to_vec()),
        "table" => Arg::Table(reader.table()?),
        _ => panic!("unknown field type {kind}"),
    })
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {{", self.spec.name)?;
        for (name, value) in &self.fields {
            match value {
                Arg::Bit(bit) => write!(f, " {name}: {bit}")?,
                Arg::Number(number) => write!(f, " {name}: {number}")?,
                Arg::Text(text) => write!(f, " {name}: {:?}", String::from_utf8_lossy(text))?,
                Arg::Table(table) => write!(f, " {name}: {table:?}")?,
            }
        }
        write!(f, " }}")
    }
}
