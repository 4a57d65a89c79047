//! Whether a method was refused for a short string that is no text: RabbitMQ says so in words of its own.

/// What precedes the short strings of a method, in octets, and how many follow one another. For methods that clients
/// send and that have any.
const fn layout(class: u16, method: u16) -> Option<(usize, usize)> {
    Some(match (class, method) {
        // channel.close: reply code
        (20, 40) => (2, 1),
        // access.request
        (30, 10) => (0, 1),
        // exchange.declare: ticket, exchange, type
        (40, 10) => (2, 2),
        // exchange.delete
        (40, 20) => (2, 1),
        // exchange.bind and unbind, queue.bind and unbind: ticket, two ends, routing key
        (40, 30 | 40) | (50, 20 | 50) => (2, 3),
        // queue.declare, purge, delete
        (50, 10 | 30 | 40) => (2, 1),
        // basic.consume: ticket, queue, consumer tag; basic.publish: ticket, exchange, routing key
        (60, 20 | 40) => (2, 2),
        // basic.cancel
        (60, 30) => (0, 1),
        // basic.get
        (60, 70) => (2, 1),
        // connection.open; connection.close: reply code
        (10, 40) => (0, 1),
        (10, 50) => (2, 1),
        _ => return None,
    })
}

/// Whether one of the short strings in the payload of a method frame is no valid UTF-8. `false` also where they end too
/// early.
pub(crate) fn has_malformed_utf8(payload: &[u8]) -> bool {
    let Some((&[a, b, c, d], arguments)) = payload.split_first_chunk() else {
        return false;
    };
    let Some((before, count)) = layout(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
    else {
        return false;
    };
    let Some(mut rest) = arguments.get(before..) else {
        return false;
    };
    for _ in 0..count {
        let Some((&length, after)) = rest.split_first() else {
            return false;
        };
        let Some((text, after)) = after.split_at_checked(usize::from(length)) else {
            return false;
        };
        if std::str::from_utf8(text).is_err() {
            return true;
        }
        rest = after;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_short_string_of_a_method_is_looked_at() {
        for (ids, before, count) in [
            ([0, 40, 0, 10], 2, 2),
            ([0, 50, 0, 20], 2, 3),
            ([0, 60, 0, 30], 0, 1),
            ([0, 60, 0, 20], 2, 2),
            ([0, 10, 0, 50], 2, 1),
        ] {
            for malformed in 0..count {
                let strings: Vec<&[u8]> = (0..count)
                    .map(|at| {
                        if at == malformed {
                            &b"\x02\xc3("[..]
                        } else {
                            b"\x02\xc3\xa4"
                        }
                    })
                    .collect();
                let payload = [&ids[..], &vec![0; before], &strings.concat()].concat();
                assert!(has_malformed_utf8(&payload), "{ids:?} {malformed}");
            }
            let text = [
                &ids[..],
                &vec![0; before],
                &b"\x02\xc3\xa4".repeat(count),
                b"\xff",
            ]
            .concat();
            assert!(!has_malformed_utf8(&text), "{ids:?}");
            for end in 0..text.len() {
                assert!(!has_malformed_utf8(&text[..end]), "{ids:?} {end}");
            }
        }
    }

    #[test]
    fn other_methods_have_none() {
        assert!(!has_malformed_utf8(&[0, 90, 0, 10, 2, 0xc3, b'(']));
        assert!(!has_malformed_utf8(&[]));
    }
}
