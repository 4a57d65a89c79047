//! Content: the properties of class basic and a message as a peer sees it.

use std::io;

use super::method::Method;
use super::wire::{self, Reader, Table};

/// The fourteen properties of class basic (specification 4.2.6.1), each absent unless set.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Properties {
    pub(crate) content_type: Option<String>,
    pub(crate) content_encoding: Option<String>,
    pub(crate) headers: Option<Table>,
    pub(crate) delivery_mode: Option<u8>,
    pub(crate) priority: Option<u8>,
    pub(crate) correlation_id: Option<String>,
    pub(crate) reply_to: Option<String>,
    pub(crate) expiration: Option<String>,
    pub(crate) message_id: Option<String>,
    pub(crate) timestamp: Option<u64>,
    pub(crate) kind: Option<String>,
    pub(crate) user_id: Option<String>,
    pub(crate) app_id: Option<String>,
    pub(crate) cluster_id: Option<String>,
}

impl Properties {
    pub(crate) fn persistent() -> Self {
        Self {
            delivery_mode: Some(2),
            ..Self::default()
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![0, 0];
        let mut flags = 0_u16;
        let strings = |out: &mut Vec<u8>, text: &String| wire::put_shortstr(out, text.as_bytes());
        let octet = |out: &mut Vec<u8>, number: &u8| out.push(*number);
        put(&mut out, &mut flags, 15, &self.content_type, strings);
        put(&mut out, &mut flags, 14, &self.content_encoding, strings);
        put(&mut out, &mut flags, 13, &self.headers, wire::put_table);
        put(&mut out, &mut flags, 12, &self.delivery_mode, octet);
        put(&mut out, &mut flags, 11, &self.priority, octet);
        put(&mut out, &mut flags, 10, &self.correlation_id, strings);
        put(&mut out, &mut flags, 9, &self.reply_to, strings);
        put(&mut out, &mut flags, 8, &self.expiration, strings);
        put(&mut out, &mut flags, 7, &self.message_id, strings);
        put(&mut out, &mut flags, 6, &self.timestamp, |out, seconds| {
            out.extend(seconds.to_be_bytes());
        });
        put(&mut out, &mut flags, 5, &self.kind, strings);
        put(&mut out, &mut flags, 4, &self.user_id, strings);
        put(&mut out, &mut flags, 3, &self.app_id, strings);
        put(&mut out, &mut flags, 2, &self.cluster_id, strings);
        out[..2].copy_from_slice(&flags.to_be_bytes());
        out
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> io::Result<Self> {
        let flags = reader.short()?;
        let text = |bit: u16, reader: &mut Reader<'_>| -> io::Result<Option<String>> {
            if flags >> bit & 1 == 0 {
                return Ok(None);
            }
            Ok(Some(
                String::from_utf8_lossy(reader.shortstr()?).into_owned(),
            ))
        };
        let has = |bit: u16| flags >> bit & 1 == 1;
        Ok(Self {
            content_type: text(15, reader)?,
            content_encoding: text(14, reader)?,
            headers: has(13).then(|| reader.table()).transpose()?,
            delivery_mode: has(12).then(|| reader.octet()).transpose()?,
            priority: has(11).then(|| reader.octet()).transpose()?,
            correlation_id: text(10, reader)?,
            reply_to: text(9, reader)?,
            expiration: text(8, reader)?,
            message_id: text(7, reader)?,
            timestamp: has(6).then(|| reader.longlong()).transpose()?,
            kind: text(5, reader)?,
            user_id: text(4, reader)?,
            app_id: text(3, reader)?,
            cluster_id: text(2, reader)?,
        })
    }
}

/// Appends a property if it is set, and its flag.
fn put<T>(
    out: &mut Vec<u8>,
    flags: &mut u16,
    bit: u16,
    value: &Option<T>,
    write: impl Fn(&mut Vec<u8>, &T),
) {
    if let Some(value) = value {
        *flags |= 1 << bit;
        write(out, value);
    }
}

/// A whole message that came: the method that announced it, its properties, its body.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) method: Method,
    pub(crate) properties: Properties,
    pub(crate) body: Vec<u8>,
}

impl Message {
    pub(crate) fn delivery_tag(&self) -> u64 {
        self.method.number("delivery_tag")
    }

    pub(crate) fn redelivered(&self) -> bool {
        self.method.bit("redelivered")
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}
