//! Properties with some of them changed: everything else stays byte for byte as the publisher sent it.

use super::{
    CONTENT_ENCODING, CONTENT_TYPE, CORRELATION_ID, DELIVERY_MODE, EXPIRATION, HEADERS, MESSAGE_ID,
    Malformed, PRIORITY, REPLY_TO, Reader, TIMESTAMP,
};

/// Changes to a property list, made in one pass.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rewrite<'a> {
    /// Leaves out `expiration`.
    pub remove_expiration: bool,
    /// Sets `reply-to` (up to 255 bytes).
    pub reply_to: Option<&'a [u8]>,
    /// Sets `timestamp`, seconds since the Unix epoch.
    pub timestamp: Option<u64>,
    /// Headers by name (up to 255 bytes): the encoded value (type octet first, see [`crate::message::field`]) that
    /// takes the place of any value of that name, or `None` to leave the header out.
    pub headers: &'a [(&'a [u8], Option<&'a [u8]>)],
}

impl Rewrite<'_> {
    /// The changed list. `properties` begin with the property flags, as on the wire.
    ///
    /// # Errors
    /// The list does not follow its flags.
    pub fn apply(&self, properties: &[u8]) -> Result<Vec<u8>, Malformed> {
        let (&flags, rest) = properties.split_first_chunk::<2>().ok_or(Malformed)?;
        let mut flags = u16::from_be_bytes(flags);
        let mut reader = Reader { rest };
        let mut out = Vec::with_capacity(properties.len() + 64);
        out.extend_from_slice(&[0, 0]);
        for bit in [CONTENT_TYPE, CONTENT_ENCODING] {
            copy(&mut out, &mut reader, flags & bit != 0, short_string)?;
        }
        let entries = if flags & HEADERS != 0 {
            reader.table()?
        } else {
            &[]
        };
        let headers = self.merge_headers(entries)?;
        if flags & HEADERS != 0 || !headers.is_empty() {
            flags |= HEADERS;
            out.extend_from_slice(&(headers.len() as u32).to_be_bytes());
            out.extend_from_slice(&headers);
        }
        for bit in [DELIVERY_MODE, PRIORITY] {
            copy(&mut out, &mut reader, flags & bit != 0, octet)?;
        }
        copy(
            &mut out,
            &mut reader,
            flags & CORRELATION_ID != 0,
            short_string,
        )?;
        let reply_to = reader.short_string_if(flags & REPLY_TO != 0)?;
        if let Some(reply_to) = self.reply_to.or(reply_to) {
            flags |= REPLY_TO;
            out.push(reply_to.len().min(255) as u8);
            out.extend_from_slice(&reply_to[..reply_to.len().min(255)]);
        }
        let removes = self.remove_expiration && flags & EXPIRATION != 0;
        if removes {
            reader.short_string_if(true)?;
            flags &= !EXPIRATION;
        }
        if let Some(timestamp) = self.timestamp {
            for bit in [EXPIRATION, MESSAGE_ID] {
                copy(&mut out, &mut reader, flags & bit != 0, short_string)?;
            }
            if flags & TIMESTAMP != 0 {
                reader.timestamp()?;
            }
            flags |= TIMESTAMP;
            out.extend_from_slice(&timestamp.to_be_bytes());
        }
        out.extend_from_slice(reader.rest);
        out[..2].copy_from_slice(&flags.to_be_bytes());
        Ok(out)
    }

    /// Changed and new headers go last, in the order given.
    fn merge_headers(&self, entries: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut headers = Vec::with_capacity(entries.len() + 64);
        let mut reader = Reader { rest: entries };
        while !reader.rest.is_empty() {
            let entry = reader.rest;
            let name = reader.octets_with_octet_length()?;
            reader.skip_value(0)?;
            if !self.headers.iter().any(|(changed, _)| *changed == name) {
                headers.extend_from_slice(&entry[..entry.len() - reader.rest.len()]);
            }
        }
        for (name, value) in self.headers {
            if let Some(value) = value {
                headers.push(name.len().min(255) as u8);
                headers.extend_from_slice(&name[..name.len().min(255)]);
                headers.extend_from_slice(value);
            }
        }
        Ok(headers)
    }
}

fn copy(
    out: &mut Vec<u8>,
    reader: &mut Reader<'_>,
    present: bool,
    skip: fn(&mut Reader<'_>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    if present {
        let before = reader.rest;
        skip(reader)?;
        out.extend_from_slice(&before[..before.len() - reader.rest.len()]);
    }
    Ok(())
}

fn short_string(reader: &mut Reader<'_>) -> Result<(), Malformed> {
    reader.octets_with_octet_length().map(drop)
}

fn octet(reader: &mut Reader<'_>) -> Result<(), Malformed> {
    reader.octet().map(drop)
}

#[cfg(test)]
mod tests {
    use super::super::{Properties, header};
    use super::*;

    /// content-type, headers `a` and `b`, delivery mode, expiration, user-id.
    fn sample() -> Vec<u8> {
        let headers = b"\x01aI\x00\x00\x00\x05\x01bt\x01";
        let flags = CONTENT_TYPE | HEADERS | DELIVERY_MODE | EXPIRATION | super::super::USER_ID;
        let mut bytes = flags.to_be_bytes().to_vec();
        bytes.extend_from_slice(b"\x04json");
        bytes.extend_from_slice(&(headers.len() as u32).to_be_bytes());
        bytes.extend_from_slice(headers);
        bytes.extend_from_slice(b"\x02\x041000\x05guest");
        bytes
    }

    #[test]
    fn no_change_changes_nothing() {
        assert_eq!(Rewrite::default().apply(&sample()), Ok(sample()));
        assert_eq!(Rewrite::default().apply(&[0, 0]), Ok(vec![0, 0]));
    }

    #[test]
    fn headers_are_set_replaced_and_removed() {
        let rewrite = Rewrite {
            remove_expiration: true,
            reply_to: Some(b"back"),
            timestamp: None,
            headers: &[(b"a", Some(b"t\x00")), (b"b", None), (b"c", Some(b"V"))],
        };
        let changed = rewrite.apply(&sample()).unwrap();
        let read = Properties::read(&changed).unwrap();
        assert_eq!((read.expiration, read.reply_to), (None, Some(&b"back"[..])));
        assert_eq!((read.persistent, read.user_id), (true, Some(&b"guest"[..])));
        let headers = read.headers.unwrap();
        assert_eq!(header(headers, b"a"), Some(&b"t\x00"[..]));
        assert_eq!(header(headers, b"b"), None);
        assert_eq!(header(headers, b"c"), Some(&b"V"[..]));
    }

    #[test]
    fn a_timestamp_is_added_or_replaced_in_its_place() {
        let stamp = |timestamp| Rewrite {
            timestamp: Some(timestamp),
            ..Rewrite::default()
        };
        let added = stamp(7).apply(&sample()).unwrap();
        let replaced = stamp(8).apply(&added).unwrap();
        assert_eq!(added.len(), sample().len() + 8);
        assert_eq!(replaced.len(), added.len());
        for (bytes, timestamp) in [(added, 7), (replaced, 8)] {
            let read = Properties::read(&bytes).unwrap();
            assert_eq!(read.timestamp, Some(timestamp));
            assert_eq!(read.user_id, Some(&b"guest"[..]));
        }
        let mut bytes = (MESSAGE_ID | TIMESTAMP).to_be_bytes().to_vec();
        bytes.extend_from_slice(b"\x02id\0\0\0\0\0\0\0\x09");
        let replaced = stamp(10).apply(&bytes).unwrap();
        let read = Properties::read(&replaced).unwrap();
        assert_eq!(
            (read.message_id, read.timestamp),
            (Some(&b"id"[..]), Some(10))
        );
    }

    #[test]
    fn a_message_without_headers_gets_some() {
        let rewrite = Rewrite {
            headers: &[(b"c", Some(b"V"))],
            ..Rewrite::default()
        };
        let changed = rewrite.apply(&[0, 0]).unwrap();
        let read = Properties::read(&changed).unwrap();
        assert_eq!(read.headers, Some(&b"\x01cV"[..]));
    }

    #[test]
    fn every_truncation_is_refused() {
        let bytes = sample();
        let headers = &[(&b"a"[..], None)];
        let rewrite = Rewrite {
            headers,
            remove_expiration: true,
            ..Rewrite::default()
        };
        // Behind the expiration the list is copied as it is: it was checked when it arrived.
        let checked = bytes.len() - b"\x05guest".len();
        for length in 0..checked {
            assert_eq!(
                rewrite.apply(&bytes[..length]),
                Err(Malformed),
                "{length} bytes"
            );
        }
    }
}
