//! A property list as the entries of a field table, for those who want to see it as data (the firehose).

use super::{
    APP_ID, CLUSTER_ID, CONTENT_ENCODING, CONTENT_TYPE, CORRELATION_ID, DELIVERY_MODE, EXPIRATION,
    HEADERS, MESSAGE_ID, Malformed, PRIORITY, REPLY_TO, Reader, TIMESTAMP, TYPE, USER_ID,
};
use crate::message::field;

/// The properties that are there, under their names in RabbitMQ: texts as long strings, numbers as integers, the
/// headers as a table.
///
/// # Errors
/// The list does not follow its flags.
pub fn table(properties: &[u8]) -> Result<Vec<u8>, Malformed> {
    let (&flags, rest) = properties.split_first_chunk::<2>().ok_or(Malformed)?;
    let flags = u16::from_be_bytes(flags);
    let mut reader = Reader { rest };
    let mut out = Vec::new();
    texts(
        &mut out,
        &mut reader,
        flags,
        &[
            (CONTENT_TYPE, "content_type"),
            (CONTENT_ENCODING, "content_encoding"),
        ],
    )?;
    if flags & HEADERS != 0 {
        field::put_name(&mut out, b"headers");
        field::put_table(&mut out, reader.table()?);
    }
    for (bit, name) in [(DELIVERY_MODE, "delivery_mode"), (PRIORITY, "priority")] {
        if flags & bit != 0 {
            field::put_name(&mut out, name.as_bytes());
            field::put_int(&mut out, reader.octet()?.into());
        }
    }
    let before_time = [
        (CORRELATION_ID, "correlation_id"),
        (REPLY_TO, "reply_to"),
        (EXPIRATION, "expiration"),
        (MESSAGE_ID, "message_id"),
    ];
    texts(&mut out, &mut reader, flags, &before_time)?;
    if flags & TIMESTAMP != 0 {
        field::put_name(&mut out, b"timestamp");
        let seconds = reader.timestamp()?;
        match i32::try_from(seconds) {
            Ok(seconds) => field::put_int(&mut out, seconds),
            // Where RabbitMQ's 32 bits end.
            Err(_) => field::put_long(&mut out, seconds as i64),
        }
    }
    let after_time = [
        (TYPE, "type"),
        (USER_ID, "user_id"),
        (APP_ID, "app_id"),
        (CLUSTER_ID, "cluster_id"),
    ];
    texts(&mut out, &mut reader, flags, &after_time)?;
    Ok(out)
}

fn texts(
    out: &mut Vec<u8>,
    reader: &mut Reader<'_>,
    flags: u16,
    names: &[(u16, &str)],
) -> Result<(), Malformed> {
    for (bit, name) in names {
        if let Some(text) = reader.short_string_if(flags & bit != 0)? {
            field::put_name(out, name.as_bytes());
            field::put_long_string(out, text);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::properties::{Rewrite, header};

    #[test]
    fn every_property_has_its_name() {
        // All fourteen, texts named after their place.
        let mut properties = vec![0xff, 0xfc];
        properties.extend_from_slice(b"\x01a\x01b\0\0\0\0\x02\x07\x01c\x01d\x01e\x01f");
        properties.extend_from_slice(&1_700_000_000u64.to_be_bytes());
        properties.extend_from_slice(b"\x01g\x01h\x01i\x01j");
        let table = table(&properties).unwrap();
        let text =
            |name: &str| field::long_string(header(&table, name.as_bytes()).unwrap()).unwrap();
        for (name, value) in [
            ("content_type", b"a"),
            ("content_encoding", b"b"),
            ("correlation_id", b"c"),
            ("reply_to", b"d"),
            ("expiration", b"e"),
            ("message_id", b"f"),
            ("type", b"g"),
            ("user_id", b"h"),
            ("app_id", b"i"),
            ("cluster_id", b"j"),
        ] {
            assert_eq!(text(name), value, "{name}");
        }
        let number = |name: &str| header(&table, name.as_bytes()).and_then(field::integer);
        assert_eq!(number("delivery_mode"), Some(2));
        assert_eq!(number("priority"), Some(7));
        assert_eq!(number("timestamp"), Some(1_700_000_000));
        assert_eq!(header(&table, b"headers"), Some(&b"F\0\0\0\0"[..]));
    }

    #[test]
    fn what_is_absent_is_left_out() {
        assert_eq!(table(&[0, 0]), Ok(Vec::new()));
        let with_headers = Rewrite {
            headers: &[(b"a", Some(b"V"))],
            ..Rewrite::default()
        };
        let entries = table(&with_headers.apply(&[0, 0]).unwrap()).unwrap();
        assert_eq!(entries, b"\x07headersF\0\0\0\x03\x01aV");
        assert_eq!(table(&[0x80, 0, 5]), Err(Malformed));
    }
}
