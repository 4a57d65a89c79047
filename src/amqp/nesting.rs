//! A guard for field tables: how deep they are nested.
//!
//! The codec reads tables and arrays by recursion. Five bytes open one more level, so that a single frame
//! could drive it out of its stack, which ends the process. Whoever decodes a table that came from the
//! network asks [`is_bounded`] first; it walks over the bytes without recursion.

/// How deep a table may be nested: ten times what any client is known to send.
pub(crate) const NESTING_LEVELS_MAX: usize = 64;

/// Whether the field table at the start of `bytes`, its length included, has at most
/// [`NESTING_LEVELS_MAX`] levels. `false` also where it is plainly malformed; that it is well-formed is
/// for the codec to say.
pub(crate) fn is_bounded(bytes: &[u8]) -> bool {
    walk(bytes).is_some()
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
