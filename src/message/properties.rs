//! The content header's properties, read in place.
//!
//! A broker passes properties on as they came. What it needs of them itself (delivery mode, priority, expiration,
//! user id, reply-to, the headers table) is found by walking the property list once (AMQP 0-9-1 section 4.2.6.1).

mod rewrite;
mod table;

use amq_protocol::types::FieldTable;
use amq_protocol::types::parsing::parse_field_table;

pub use self::rewrite::Rewrite;
pub use self::table::table;

const CONTENT_TYPE: u16 = 1 << 15;
const CONTENT_ENCODING: u16 = 1 << 14;
const HEADERS: u16 = 1 << 13;
const DELIVERY_MODE: u16 = 1 << 12;
const PRIORITY: u16 = 1 << 11;
const CORRELATION_ID: u16 = 1 << 10;
const REPLY_TO: u16 = 1 << 9;
const EXPIRATION: u16 = 1 << 8;
const MESSAGE_ID: u16 = 1 << 7;
const TIMESTAMP: u16 = 1 << 6;
const TYPE: u16 = 1 << 5;
const USER_ID: u16 = 1 << 4;
const APP_ID: u16 = 1 << 3;
const CLUSTER_ID: u16 = 1 << 2;

/// What the broker reads of a message's properties.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Properties<'a> {
    /// The encoded headers table, without its length.
    pub headers: Option<&'a [u8]>,
    /// delivery_mode is 2.
    pub persistent: bool,
    /// priority, 0 when absent.
    pub priority: u8,
    /// correlation-id.
    pub correlation_id: Option<&'a [u8]>,
    /// reply-to.
    pub reply_to: Option<&'a [u8]>,
    /// expiration: a decimal number of milliseconds.
    pub expiration: Option<&'a [u8]>,
    /// message-id.
    pub message_id: Option<&'a [u8]>,
    /// timestamp, seconds since the Unix epoch by convention.
    pub timestamp: Option<u64>,
    /// user-id.
    pub user_id: Option<&'a [u8]>,
}

/// The property list does not follow its flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl<'a> Properties<'a> {
    /// Reads `bytes`, which begin with the property flags.
    ///
    /// # Errors
    /// The list is shorter or longer than the flags say, or a property is no valid UTF-8 text.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (&flags, rest) = bytes.split_first_chunk::<2>().ok_or(Malformed)?;
        let flags = u16::from_be_bytes(flags);
        let mut properties = Self::default();
        if flags == 0 && rest.is_empty() {
            return Ok(properties);
        }
        if flags & 0b11 != 0 {
            // Continuation flags: class basic has no further properties.
            return Err(Malformed);
        }
        let mut reader = Reader { rest };
        for bit in [CONTENT_TYPE, CONTENT_ENCODING] {
            reader.short_string_if(flags & bit != 0)?;
        }
        if flags & HEADERS != 0 {
            properties.headers = Some(reader.table()?);
        }
        if flags & DELIVERY_MODE != 0 {
            properties.persistent = reader.octet()? == 2;
        }
        if flags & PRIORITY != 0 {
            properties.priority = reader.octet()?;
        }
        properties.correlation_id = reader.short_string_if(flags & CORRELATION_ID != 0)?;
        properties.reply_to = reader.short_string_if(flags & REPLY_TO != 0)?;
        properties.expiration = reader.short_string_if(flags & EXPIRATION != 0)?;
        properties.message_id = reader.short_string_if(flags & MESSAGE_ID != 0)?;
        if flags & TIMESTAMP != 0 {
            properties.timestamp = Some(reader.timestamp()?);
        }
        reader.short_string_if(flags & TYPE != 0)?;
        properties.user_id = reader.short_string_if(flags & USER_ID != 0)?;
        for bit in [APP_ID, CLUSTER_ID] {
            reader.short_string_if(flags & bit != 0)?;
        }
        if reader.rest.is_empty() {
            Ok(properties)
        } else {
            Err(Malformed)
        }
    }

    /// The headers as a table, `None` when there are none. [`Malformed`] when they cannot be decoded.
    ///
    /// # Errors
    /// The table is not well-formed.
    pub fn decode_headers(&self) -> Result<Option<FieldTable>, Malformed> {
        self.headers.map(decode_table).transpose()
    }
}

/// Whether a property list, which begins with its flags, has a priority at all.
pub fn has_priority(properties: &[u8]) -> bool {
    let flags = properties.first_chunk::<2>().copied().unwrap_or_default();
    u16::from_be_bytes(flags) & PRIORITY != 0
}

/// Where the headers end in a property list that has some, in octets from its flags on.
pub fn headers_end(properties: &[u8]) -> Option<usize> {
    let (&flags, rest) = properties.split_first_chunk::<2>()?;
    let flags = u16::from_be_bytes(flags);
    let mut reader = Reader { rest };
    for bit in [CONTENT_TYPE, CONTENT_ENCODING] {
        if flags & bit != 0 {
            reader.octets_with_octet_length().ok()?;
        }
    }
    if flags & HEADERS == 0 {
        return None;
    }
    let length = reader.length().ok()?;
    reader.take(length).ok()?;
    Some(properties.len() - reader.rest.len())
}

/// Decodes a table given without its length.
fn decode_table(entries: &[u8]) -> Result<FieldTable, Malformed> {
    let mut framed = Vec::with_capacity(entries.len() + 4);
    framed.extend_from_slice(&(entries.len() as u32).to_be_bytes());
    framed.extend_from_slice(entries);
    match parse_field_table(&framed[..]) {
        Ok(([], table)) => Ok(table),
        _ => Err(Malformed),
    }
}

/// The encoded value (type octet first) of the entry `name` on the first level of an encoded table. `None` when there
/// is none, or the table is malformed before it.
pub fn header<'a>(entries: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut reader = Reader { rest: entries };
    while !reader.rest.is_empty() {
        let found = reader.octets_with_octet_length().ok()?;
        let value = reader.rest;
        reader.skip_value(0).ok()?;
        if found == name {
            return Some(&value[..value.len() - reader.rest.len()]);
        }
    }
    None
}

/// Whether the encoded table has an entry with one of these names on its first level. Cheap: names are compared in
/// place and values are skipped.
pub fn has_any_key(entries: &[u8], names: &[&[u8]]) -> bool {
    let mut reader = Reader { rest: entries };
    while !reader.rest.is_empty() {
        let Ok(name) = reader.octets_with_octet_length() else {
            return false;
        };
        if names.contains(&name) {
            return true;
        }
        if reader.skip_value(0).is_err() {
            return false;
        }
    }
    false
}

/// The properties without the header `name`: what is stored when BCC is stripped.
pub fn without_header(properties: &[u8], headers: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    let mut kept = Vec::with_capacity(headers.len());
    let mut reader = Reader { rest: headers };
    while !reader.rest.is_empty() {
        let entry = reader.rest;
        let found = reader.octets_with_octet_length().ok()?;
        reader.skip_value(0).ok()?;
        if found != name {
            kept.extend_from_slice(&entry[..entry.len() - reader.rest.len()]);
        }
    }
    let start = headers
        .as_ptr()
        .addr()
        .checked_sub(properties.as_ptr().addr())?;
    let (before, after) = (
        properties.get(..start.checked_sub(4)?)?,
        properties.get(start + headers.len()..)?,
    );
    let mut out = Vec::with_capacity(properties.len());
    out.extend_from_slice(before);
    out.extend_from_slice(&(kept.len() as u32).to_be_bytes());
    out.extend_from_slice(&kept);
    out.extend_from_slice(after);
    Some(out)
}

/// Tables and arrays nest at most this deep.
const NESTING_MAX: usize = 64;

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    fn octet(&mut self) -> Result<u8, Malformed> {
        let (&first, rest) = self.rest.split_first().ok_or(Malformed)?;
        self.rest = rest;
        Ok(first)
    }

    fn timestamp(&mut self) -> Result<u64, Malformed> {
        let (&seconds, rest) = self.rest.split_first_chunk::<8>().ok_or(Malformed)?;
        self.rest = rest;
        Ok(u64::from_be_bytes(seconds))
    }

    fn length(&mut self) -> Result<usize, Malformed> {
        let (&length, rest) = self.rest.split_first_chunk::<4>().ok_or(Malformed)?;
        self.rest = rest;
        Ok(u32::from_be_bytes(length) as usize)
    }

    fn octets_with_octet_length(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::from(self.octet()?);
        self.take(length)
    }

    fn short_string_if(&mut self, present: bool) -> Result<Option<&'a [u8]>, Malformed> {
        if !present {
            return Ok(None);
        }
        let text = self.octets_with_octet_length()?;
        if text.is_ascii() || std::str::from_utf8(text).is_ok() {
            Ok(Some(text))
        } else {
            Err(Malformed)
        }
    }

    /// A table's entries, checked to be well-formed to the end.
    fn table(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.length()?;
        let entries = self.take(length)?;
        Reader { rest: entries }.skip_entries(0)?;
        Ok(entries)
    }

    fn skip_entries(&mut self, depth: usize) -> Result<(), Malformed> {
        while !self.rest.is_empty() {
            self.octets_with_octet_length()?;
            self.skip_value(depth)?;
        }
        Ok(())
    }

    fn skip_value(&mut self, depth: usize) -> Result<(), Malformed> {
        if depth > NESTING_MAX {
            return Err(Malformed);
        }
        let fixed = match self.octet()? {
            b't' | b'b' | b'B' => 1,
            b's' | b'U' | b'u' => 2,
            b'I' | b'i' | b'f' => 4,
            b'D' => 5,
            b'l' | b'L' | b'd' | b'T' => 8,
            b'V' => 0,
            b'S' | b'x' => self.length()?,
            b'F' => {
                let length = self.length()?;
                return Reader {
                    rest: self.take(length)?,
                }
                .skip_entries(depth + 1);
            }
            b'A' => {
                let length = self.length()?;
                let mut values = Reader {
                    rest: self.take(length)?,
                };
                while !values.rest.is_empty() {
                    values.skip_value(depth + 1)?;
                }
                return Ok(());
            }
            _ => return Err(Malformed),
        };
        self.take(fixed).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut headers = Vec::new();
        headers.extend_from_slice(b"\x03BCCA\x00\x00\x00\x07S\x00\x00\x00\x02q1");
        headers.extend_from_slice(b"\x01nI\x00\x00\x00\x05");
        let mut bytes = (CONTENT_TYPE | HEADERS | DELIVERY_MODE | PRIORITY | EXPIRATION | USER_ID)
            .to_be_bytes()
            .to_vec();
        bytes.extend_from_slice(b"\x04json");
        bytes.extend_from_slice(&(headers.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&headers);
        bytes.extend_from_slice(b"\x02\x07\x041000\x05guest");
        bytes
    }

    #[test]
    fn the_properties_that_the_broker_needs_are_found() {
        let bytes = sample();
        let properties = Properties::read(&bytes).unwrap();
        assert!(properties.persistent);
        assert_eq!(properties.priority, 7);
        assert!(has_priority(&bytes) && !has_priority(&[0, 0]));
        assert_eq!(
            (properties.expiration, properties.user_id),
            (Some(&b"1000"[..]), Some(&b"guest"[..]))
        );
        assert_eq!(
            properties.decode_headers().unwrap().unwrap().inner().len(),
            2
        );
        let headers = properties.headers.unwrap();
        let end = headers_end(&bytes).unwrap();
        assert!(bytes[..end].ends_with(headers));
        assert_eq!(bytes[end..], b"\x02\x07\x041000\x05guest"[..]);
        assert_eq!(headers_end(&[0, 0]), None);
        assert!(has_any_key(headers, &[b"CC", b"BCC"]));
        assert!(!has_any_key(headers, &[b"CC"]));
    }

    #[test]
    fn a_header_can_be_stripped() {
        let bytes = sample();
        let headers = Properties::read(&bytes).unwrap().headers.unwrap();
        let stripped = without_header(&bytes, headers, b"BCC").unwrap();
        let properties = Properties::read(&stripped).unwrap();
        assert!(!has_any_key(properties.headers.unwrap(), &[b"BCC"]));
        assert_eq!(
            properties.user_id,
            Some(&b"guest"[..]),
            "what follows the headers is kept"
        );
    }

    #[test]
    fn every_truncation_is_refused() {
        let bytes = sample();
        for length in 0..bytes.len() {
            assert_eq!(
                Properties::read(&bytes[..length]),
                Err(Malformed),
                "{length} bytes"
            );
        }
        let mut longer = bytes;
        longer.push(0);
        assert_eq!(Properties::read(&longer), Err(Malformed));
    }
}
