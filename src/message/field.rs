//! Values of field tables, encoded by hand where order and types matter (AMQP 0-9-1 section 4.2.5.5, with RabbitMQ's
//! types). Each function appends the type octet and the value.

/// `S`: a long string.
pub fn put_long_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'S');
    put_block(out, text);
}

/// `l`: a signed 64-bit integer.
pub fn put_long(out: &mut Vec<u8>, value: i64) {
    out.push(b'l');
    out.extend_from_slice(&value.to_be_bytes());
}

/// `I`: a signed 32-bit integer.
pub fn put_int(out: &mut Vec<u8>, value: i32) {
    out.push(b'I');
    out.extend_from_slice(&value.to_be_bytes());
}

/// `T`: a time in seconds since the Unix epoch.
pub fn put_timestamp(out: &mut Vec<u8>, seconds: u64) {
    out.push(b'T');
    out.extend_from_slice(&seconds.to_be_bytes());
}

/// `t`: a truth value.
pub fn put_bool(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(&[b't', u8::from(value)]);
}

/// `d`: a floating point number of 64 bits.
pub fn put_double(out: &mut Vec<u8>, value: f64) {
    out.push(b'd');
    out.extend_from_slice(&value.to_be_bytes());
}

/// `A`: an array of encoded values.
pub fn put_array(out: &mut Vec<u8>, values: &[u8]) {
    out.push(b'A');
    put_block(out, values);
}

/// `F`: a table of encoded entries, see [`put_name`].
pub fn put_table(out: &mut Vec<u8>, entries: &[u8]) {
    out.push(b'F');
    put_block(out, entries);
}

/// The name of a table's entry (cut to 255 bytes): its value follows.
pub fn put_name(out: &mut Vec<u8>, name: &[u8]) {
    let name = &name[..name.len().min(255)];
    out.push(name.len() as u8);
    out.extend_from_slice(name);
}

fn put_block(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// The number in an encoded value, whatever its integer type.
pub fn integer(value: &[u8]) -> Option<i64> {
    let (kind, bytes) = value.split_first()?;
    Some(match (kind, bytes) {
        (b'b', [byte]) => i64::from(*byte as i8),
        (b'B', [byte]) => i64::from(*byte),
        (b's' | b'U', bytes) => i64::from(i16::from_be_bytes(bytes.try_into().ok()?)),
        (b'u', bytes) => i64::from(u16::from_be_bytes(bytes.try_into().ok()?)),
        (b'I', bytes) => i64::from(i32::from_be_bytes(bytes.try_into().ok()?)),
        (b'i', bytes) => i64::from(u32::from_be_bytes(bytes.try_into().ok()?)),
        (b'l' | b'L', bytes) => i64::from_be_bytes(bytes.try_into().ok()?),
        _ => return None,
    })
}

/// The text in an encoded long string.
pub fn long_string(value: &[u8]) -> Option<&[u8]> {
    let rest = value.strip_prefix(b"S")?;
    let (length, text) = rest.split_first_chunk::<4>()?;
    (u32::from_be_bytes(*length) as usize == text.len()).then_some(text)
}

#[cfg(test)]
mod tests {
    use amq_protocol::types::AMQPValue;
    use amq_protocol::types::parsing::parse_field_table;

    use super::*;

    #[test]
    fn a_table_written_by_hand_is_read_by_everybody() {
        let mut entries = Vec::new();
        put_name(&mut entries, b"count");
        put_long(&mut entries, 3);
        put_name(&mut entries, b"keys");
        let mut keys = Vec::new();
        put_long_string(&mut keys, b"a");
        put_array(&mut entries, &keys);
        put_name(&mut entries, b"time");
        put_timestamp(&mut entries, 9);
        put_name(&mut entries, b"yes");
        put_bool(&mut entries, true);
        let mut framed = Vec::new();
        put_block(&mut framed, &entries);
        let (_, table) = parse_field_table(&framed[..]).unwrap();
        let get = |name: &str| table.inner().get(name).cloned();
        assert_eq!(get("count"), Some(AMQPValue::LongLongInt(3)));
        assert_eq!(get("time"), Some(AMQPValue::Timestamp(9)));
        assert_eq!(get("yes"), Some(AMQPValue::Boolean(true)));
        let Some(AMQPValue::FieldArray(keys)) = get("keys") else {
            panic!("no array")
        };
        assert_eq!(keys.as_slice(), [AMQPValue::LongString("a".into())]);
    }

    #[test]
    fn numbers_and_texts_are_read_back() {
        let mut value = Vec::new();
        put_long(&mut value, -7);
        assert_eq!(integer(&value), Some(-7));
        assert_eq!(integer(b"I\x00\x00\x00\x05"), Some(5));
        assert_eq!(integer(b"B\xff"), Some(255));
        assert_eq!(integer(b"I\x00"), None);
        let mut value = Vec::new();
        put_long_string(&mut value, b"text");
        assert_eq!(long_string(&value), Some(&b"text"[..]));
        assert_eq!(long_string(&value[..5]), None);
    }
}
