//! AMQP values as RabbitMQ prints them in its error texts: the Erlang terms that it keeps them as.

use std::fmt::{self, Write};

use amq_protocol::types::{AMQPValue, FieldArray, FieldTable};

/// RabbitMQ's name of the type of a value (`rabbit_binary_parser`).
pub fn type_name(value: &AMQPValue) -> &'static str {
    match value {
        AMQPValue::Boolean(_) => "bool",
        AMQPValue::ShortShortInt(_) => "byte",
        AMQPValue::ShortShortUInt(_) => "unsignedbyte",
        AMQPValue::ShortInt(_) => "short",
        AMQPValue::ShortUInt(_) => "unsignedshort",
        AMQPValue::LongInt(_) => "signedint",
        AMQPValue::LongUInt(_) => "unsignedint",
        AMQPValue::LongLongInt(_) => "long",
        AMQPValue::Float(_) => "float",
        AMQPValue::Double(_) => "double",
        AMQPValue::DecimalValue(_) => "decimal",
        AMQPValue::ShortString(_) | AMQPValue::LongString(_) => "longstr",
        AMQPValue::FieldArray(_) => "array",
        AMQPValue::Timestamp(_) => "timestamp",
        AMQPValue::FieldTable(_) => "table",
        AMQPValue::ByteArray(_) => "binary",
        AMQPValue::Void => "void",
    }
}

/// The bytes of a string or byte array.
pub fn bytes(value: &AMQPValue) -> Option<&[u8]> {
    match value {
        AMQPValue::LongString(text) => Some(text.as_bytes()),
        AMQPValue::ShortString(text) => Some(text.as_str().as_bytes()),
        AMQPValue::ByteArray(bytes) => Some(bytes.as_slice()),
        _ => None,
    }
}

/// The number in an integer of any width. Timestamps are not integers here, as in RabbitMQ's validation.
pub fn integer(value: &AMQPValue) -> Option<i64> {
    match value {
        AMQPValue::ShortShortInt(number) => Some((*number).into()),
        AMQPValue::ShortShortUInt(number) => Some((*number).into()),
        AMQPValue::ShortInt(number) => Some((*number).into()),
        AMQPValue::ShortUInt(number) => Some((*number).into()),
        AMQPValue::LongInt(number) => Some((*number).into()),
        AMQPValue::LongUInt(number) => Some((*number).into()),
        AMQPValue::LongLongInt(number) => Some(*number),
        _ => None,
    }
}

/// A value as an Erlang term (`~p`): `5`, `<<"text">>`, `[{<<"key">>,long,1}]`, `undefined`.
pub struct Term<'a>(pub &'a AMQPValue);

impl fmt::Display for Term<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(bytes) = bytes(self.0) {
            return binary(formatter, bytes);
        }
        match self.0 {
            AMQPValue::Boolean(value) => write!(formatter, "{value}"),
            AMQPValue::Float(number) => write!(formatter, "{:?}", f64::from(*number)),
            AMQPValue::Double(number) => write!(formatter, "{number:?}"),
            AMQPValue::DecimalValue(decimal) => {
                write!(formatter, "{{{},{}}}", decimal.scale, decimal.value)
            }
            AMQPValue::Timestamp(seconds) => write!(formatter, "{seconds}"),
            AMQPValue::FieldArray(array) => list(formatter, array),
            AMQPValue::FieldTable(table) => entries(formatter, table),
            value => match integer(value) {
                Some(number) => write!(formatter, "{number}"),
                None => formatter.write_str("undefined"),
            },
        }
    }
}

fn list(formatter: &mut fmt::Formatter<'_>, array: &FieldArray) -> fmt::Result {
    formatter.write_char('[')?;
    for (index, value) in array.as_slice().iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        write!(formatter, "{comma}{{{},{}}}", type_name(value), Term(value))?;
    }
    formatter.write_char(']')
}

fn entries(formatter: &mut fmt::Formatter<'_>, table: &FieldTable) -> fmt::Result {
    formatter.write_char('[')?;
    for (index, (key, value)) in table.inner().iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        write!(formatter, "{comma}{}", Entry(key.as_str(), value))?;
    }
    formatter.write_char(']')
}

/// An entry of a table as an Erlang term: `{<<"key">>,long,1}`.
pub struct Entry<'a>(pub &'a str, pub &'a AMQPValue);

impl fmt::Display for Entry<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_char('{')?;
        binary(formatter, self.0.as_bytes())?;
        write!(formatter, ",{},{}}}", type_name(self.1), Term(self.1))
    }
}

/// A binary as Erlang prints it: quoted when all of it can be printed, else byte by byte.
///
/// # Errors
/// Those of the formatter.
pub fn binary(formatter: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && text.chars().all(is_printable) => {
            formatter.write_str("<<")?;
            quoted(formatter, text)?;
            formatter.write_str(if text.is_ascii() { ">>" } else { "/utf8>>" })
        }
        _ => {
            formatter.write_str("<<")?;
            for (index, byte) in bytes.iter().enumerate() {
                let comma = if index > 0 { "," } else { "" };
                write!(formatter, "{comma}{byte}")?;
            }
            formatter.write_str(">>")
        }
    }
}

/// A string as Erlang prints it: `"expected integer"`.
pub fn quoted(out: &mut impl Write, text: &str) -> fmt::Result {
    out.write_char('"')?;
    for character in text.chars() {
        match character {
            '"' => out.write_str("\\\"")?,
            '\\' => out.write_str("\\\\")?,
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            '\u{8}' => out.write_str("\\b")?,
            '\u{b}' => out.write_str("\\v")?,
            '\u{c}' => out.write_str("\\f")?,
            '\u{1b}' => out.write_str("\\e")?,
            other => out.write_char(other)?,
        }
    }
    out.write_char('"')
}

/// What `io_lib:printable_list` accepts.
fn is_printable(character: char) -> bool {
    matches!(character, ' '..='~' | '\u{8}'..='\u{d}' | '\u{1b}' | '\u{a0}'..)
}

/// A value in the wording of an inequivalence: strings as they are, everything else as a term.
pub struct Plain<'a>(pub &'a AMQPValue);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match bytes(self.0) {
            Some(bytes) => formatter.write_str(&String::from_utf8_lossy(bytes)),
            None => Term(self.0).fmt(formatter),
        }
    }
}

#[cfg(test)]
mod tests {
    use amq_protocol::types::DecimalValue;

    use super::*;

    fn table(entries: impl IntoIterator<Item = (&'static str, AMQPValue)>) -> FieldTable {
        entries
            .into_iter()
            .map(|(key, value)| (key.into(), value))
            .collect::<std::collections::BTreeMap<_, _>>()
            .into()
    }

    #[test]
    fn values_are_printed_as_erlang_prints_them() {
        let array: FieldArray =
            vec![AMQPValue::LongInt(1), AMQPValue::LongString("a".into())].into();
        let cases: &[(AMQPValue, &str)] = &[
            (AMQPValue::LongInt(-5), "-5"),
            (AMQPValue::LongLongInt(i64::MAX), "9223372036854775807"),
            (AMQPValue::Boolean(true), "true"),
            (AMQPValue::Double(1.5), "1.5"),
            (AMQPValue::Double(1.0), "1.0"),
            (AMQPValue::Void, "undefined"),
            (AMQPValue::Timestamp(7), "7"),
            (
                AMQPValue::DecimalValue(DecimalValue {
                    scale: 2,
                    value: 314,
                }),
                "{2,314}",
            ),
            (AMQPValue::LongString("bad".into()), "<<\"bad\">>"),
            (AMQPValue::LongString("b\"d\\".into()), "<<\"b\\\"d\\\\\">>"),
            (AMQPValue::LongString("é".into()), "<<\"é\"/utf8>>"),
            (AMQPValue::LongString("".into()), "<<>>"),
            (
                AMQPValue::LongString("bad\u{1}\n".into()),
                "<<98,97,100,1,10>>",
            ),
            (AMQPValue::ByteArray(vec![0xff, 1].into()), "<<255,1>>"),
            (
                AMQPValue::FieldArray(array),
                "[{signedint,1},{longstr,<<\"a\">>}]",
            ),
            (
                AMQPValue::FieldTable(table([("a", AMQPValue::LongInt(1))])),
                "[{<<\"a\">>,signedint,1}]",
            ),
            (AMQPValue::FieldTable(FieldTable::default()), "[]"),
        ];
        for (value, text) in cases {
            assert_eq!(Term(value).to_string(), *text);
        }
    }

    #[test]
    fn strings_are_plain_in_inequivalences() {
        assert_eq!(
            Plain(&AMQPValue::LongString("nope".into())).to_string(),
            "nope"
        );
        assert_eq!(
            Plain(&AMQPValue::ByteArray(b"bin".to_vec().into())).to_string(),
            "bin"
        );
        assert_eq!(Plain(&AMQPValue::LongInt(2)).to_string(), "2");
    }
}
