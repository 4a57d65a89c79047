//! A guard for field tables: how deep they are nested.
//!
//! The codec reads tables and arrays by recursion. Five bytes open one more level, so that a single frame
//! could drive it out of its stack, which ends the process. Whoever decodes a table that came from the
//! network asks [`is_bounded`] or [`method_is_bounded`] first; they walk over the bytes without recursion.

/// How deep a table may be nested: ten times what any client is known to send.
pub(crate) const NESTING_LEVELS_MAX: usize = 64;

/// Whether the field table at the start of `bytes`, its length included, has at most
/// [`NESTING_LEVELS_MAX`] levels. `false` also where it is plainly malformed; that it is well-formed is
/// for the codec to say.
pub(crate) fn is_bounded(bytes: &[u8]) -> bool {
    walk(bytes).is_some()
}

/// Whether the table in the arguments of a method, if it has one, is bounded. `payload` is that of a method
/// frame. `true` where the arguments end before the table would begin: the codec refuses them.
pub(crate) fn method_is_bounded(payload: &[u8]) -> bool {
    let Some((&[0, class, 0, method], arguments)) = payload.split_first_chunk() else {
        return true;
    };
    // What precedes the table: fixed bytes, then short strings, then fixed bytes.
    let (before, short_strings, after) = match (class, method) {
        // connection.start-ok: client-properties
        (10, 11) => (0, 0, 0),
        // exchange.declare: ticket, exchange, type, bits
        (40, 10) => (2, 2, 1),
        // exchange.bind and unbind, queue.bind: ticket, two ends, routing key, no-wait
        (40, 30 | 40) | (50, 20) => (2, 3, 1),
        // queue.declare: ticket, queue, bits
        (50, 10) => (2, 1, 1),
        // queue.unbind: ticket, queue, exchange, routing key
        (50, 50) => (2, 3, 0),
        // basic.consume: ticket, queue, consumer tag, bits
        (60, 20) => (2, 2, 1),
        _ => return true,
    };
    let mut at = before;
    for _ in 0..short_strings {
        let Some(&bytes) = arguments.get(at) else {
            return true;
        };
        at += 1 + usize::from(bytes);
    }
    arguments.get(at + after..).is_none_or(is_bounded)
}

/// What an open level holds: entries with names, or values alone.
#[derive(Clone, Copy)]
enum Level {
    Table { end: usize },
    Array { end: usize },
}

fn walk(bytes: &[u8]) -> Option<()> {
    let mut at = 4_usize;
    let end = at.checked_add(length(bytes, 0)?)?;
    if end > bytes.len() {
        return None;
    }
    let mut levels = vec![Level::Table { end }];
    while let Some(&level) = levels.last() {
        let (Level::Table { end } | Level::Array { end }) = level;
        if at >= end {
            levels.pop();
            continue;
        }
        if let Level::Table { .. } = level {
            at += 1 + usize::from(*bytes.get(at)?);
        }
        let kind = *bytes.get(at)?;
        at += 1;
        match kind {
            b'F' | b'A' => {
                let inner = at.checked_add(4)?.checked_add(length(bytes, at)?)?;
                at += 4;
                if inner > end || levels.len() == NESTING_LEVELS_MAX {
                    return None;
                }
                levels.push(match kind {
                    b'F' => Level::Table { end: inner },
                    _ => Level::Array { end: inner },
                });
            }
            b'S' | b'x' => at = at.checked_add(4)?.checked_add(length(bytes, at)?)?,
            _ => at += fixed_bytes(kind)?,
        }
    }
    Some(())
}

/// The four-byte length at that place.
fn length(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    usize::try_from(u32::from_be_bytes(*bytes)).ok()
}

/// The size of a value of that type, as RabbitMQ reads it; `None` for one without a fixed size.
fn fixed_bytes(kind: u8) -> Option<usize> {
    Some(match kind {
        b'V' => 0,
        b't' | b'b' | b'B' => 1,
        b's' | b'U' | b'u' => 2,
        b'I' | b'i' | b'f' => 4,
        b'D' => 5,
        b'l' | b'L' | b'd' | b'T' => 8,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An empty array inside `levels` arrays inside a table.
    fn nested(levels: usize) -> Vec<u8> {
        let mut value = Vec::new();
        for _ in 0..levels {
            value = [
                b"A",
                &u32::try_from(value.len()).unwrap().to_be_bytes()[..],
                &value,
            ]
            .concat();
        }
        table(&[&b"\x01a"[..], &value].concat())
    }

    fn table(entries: &[u8]) -> Vec<u8> {
        [
            &u32::try_from(entries.len()).unwrap().to_be_bytes()[..],
            entries,
        ]
        .concat()
    }

    #[test]
    fn nesting_is_limited() {
        assert!(is_bounded(&nested(NESTING_LEVELS_MAX - 1)));
        assert!(!is_bounded(&nested(NESTING_LEVELS_MAX)));
        assert!(!is_bounded(&nested(20_000)));
    }

    #[test]
    fn siblings_are_no_nesting() {
        let entry = b"\x01aF\0\0\0\x07\x01bA\0\0\0\0".repeat(200);
        assert!(is_bounded(&table(&entry)));
        assert!(is_bounded(&table(b"")));
    }

    #[test]
    fn all_types_are_stepped_over() {
        let entries =
            b"\x01atx\x01ab1\x01aB1\x01as12\x01aU12\x01au12\x01aI1234\x01ai1234\x01af1234\
            \x01aD12345\x01al12345678\x01aL12345678\x01ad12345678\x01aT12345678\x01aV\
            \x01aS\0\0\0\x02AA\x01ax\0\0\0\x02FF\x01aA\0\0\0\x03VtA\x01aF\0\0\0\x03\x01aV";
        assert!(is_bounded(&table(entries)));
        // The walk ends exactly at the end of the table, whatever follows it.
        assert!(is_bounded(&[&table(entries)[..], b"\xff\xff"].concat()));
    }

    #[test]
    fn methods_with_a_table_are_checked_where_it_begins() {
        use amq_protocol::protocol::{AMQPClass, basic, connection, exchange, parse_class, queue};
        use amq_protocol::types::{AMQPValue, FieldArray, FieldTable, ShortString};

        let table_with = |levels: usize| {
            let mut value = AMQPValue::Void;
            for _ in 0..levels {
                value = AMQPValue::FieldArray(FieldArray::from(vec![value]));
            }
            let mut table = FieldTable::default();
            table.insert("a".into(), value);
            table
        };
        let name = || ShortString::from("some name");
        let methods = |arguments: FieldTable| {
            let arguments = || arguments.clone();
            [
                AMQPClass::Connection(connection::AMQPMethod::StartOk(connection::StartOk {
                    client_properties: arguments(),
                    mechanism: name(),
                    ..Default::default()
                })),
                AMQPClass::Exchange(exchange::AMQPMethod::Declare(exchange::Declare {
                    exchange: name(),
                    kind: name(),
                    arguments: arguments(),
                    ..Default::default()
                })),
                AMQPClass::Exchange(exchange::AMQPMethod::Bind(exchange::Bind {
                    destination: name(),
                    source: name(),
                    routing_key: name(),
                    arguments: arguments(),
                    ..Default::default()
                })),
                AMQPClass::Exchange(exchange::AMQPMethod::Unbind(exchange::Unbind {
                    destination: name(),
                    source: name(),
                    routing_key: name(),
                    arguments: arguments(),
                    ..Default::default()
                })),
                AMQPClass::Queue(queue::AMQPMethod::Declare(queue::Declare {
                    queue: name(),
                    arguments: arguments(),
                    ..Default::default()
                })),
                AMQPClass::Queue(queue::AMQPMethod::Bind(queue::Bind {
                    queue: name(),
                    exchange: name(),
                    routing_key: name(),
                    arguments: arguments(),
                    ..Default::default()
                })),
                AMQPClass::Queue(queue::AMQPMethod::Unbind(queue::Unbind {
                    queue: name(),
                    exchange: name(),
                    routing_key: name(),
                    arguments: arguments(),
                })),
                AMQPClass::Basic(basic::AMQPMethod::Consume(basic::Consume {
                    queue: name(),
                    consumer_tag: name(),
                    arguments: arguments(),
                    ..Default::default()
                })),
            ]
        };
        let payload = |method: &AMQPClass| {
            let mut frame = Vec::new();
            crate::amqp::frame::put_method(&mut frame, 1, method);
            frame[7..frame.len() - 1].to_vec()
        };
        for method in methods(table_with(NESTING_LEVELS_MAX - 1)) {
            let payload = payload(&method);
            assert!(method_is_bounded(&payload), "{method:?}");
            assert!(parse_class(&payload[..]).is_ok());
            for end in 0..payload.len() {
                method_is_bounded(&payload[..end]);
            }
        }
        for method in methods(table_with(NESTING_LEVELS_MAX)) {
            assert!(!method_is_bounded(&payload(&method)), "{method:?}");
        }
        assert!(method_is_bounded(b"\0\x3c\0\x28\0\0\0\0\0"));
        assert!(method_is_bounded(b"\0"));
    }

    #[test]
    fn no_bytes_at_all_panic() {
        for bytes in [
            &b""[..],
            b"\0\0",
            b"\0\0\0\x05a",
            b"\xff\xff\xff\xff",
            b"\0\0\0\x01\xff",
        ] {
            assert!(!is_bounded(bytes), "{bytes:?}");
        }
        let entries = b"\x01aS\xff\xff\xff\xff";
        assert!(
            is_bounded(&table(entries)),
            "its length is for the codec to check"
        );
        assert!(!is_bounded(&table(b"\x01aF\xff\xff\xff\xff")));
        assert!(!is_bounded(&table(b"\x01a?")));
    }
}
