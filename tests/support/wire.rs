//! AMQP's primitive types as bytes (specification 4.2.5), field tables included.

use std::io;

/// A field table, in wire order: order is part of what a broker has to preserve.
pub(crate) type Table = Vec<(String, Value)>;

/// A field value with RabbitMQ's type letters, which differ from the specification's in places
/// (`s` is a 16-bit integer, `l` and `L` are both signed 64-bit).
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Bool(bool),
    I8(i8),
    U8(u8),
    I16(i16),
    U16(u16),
    I32(i32),
    U32(u32),
    I64(i64),
    F32(f32),
    F64(f64),
    Decimal(u8, u32),
    Text(Vec<u8>),
    Bytes(Vec<u8>),
    Array(Vec<Self>),
    Timestamp(u64),
    Table(Table),
    Void,
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.as_bytes().to_vec())
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Self {
        Self::I32(number)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Bool(flag)
    }
}

/// Builds a table: `table([("x-max-length", 3.into())])`.
pub(crate) fn table<const N: usize>(fields: [(&str, Value); N]) -> Table {
    fields
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

/// Looks a key up in a table.
pub(crate) fn field<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    table
        .iter()
        .find(|(name, _)| name == key)
        .map(|(_, value)| value)
}

pub(crate) fn put_shortstr(out: &mut Vec<u8>, text: &[u8]) {
    let length = u8::try_from(text.len()).expect("a short string of a test fits in 255 bytes");
    out.push(length);
    out.extend_from_slice(text);
}

pub(crate) fn put_longstr(out: &mut Vec<u8>, text: &[u8]) {
    let length = u32::try_from(text.len()).expect("a long string of a test fits in 4 GiB");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text);
}

pub(crate) fn put_table(out: &mut Vec<u8>, table: &Table) {
    let mut fields = Vec::new();
    for (key, value) in table {
        put_shortstr(&mut fields, key.as_bytes());
        put_value(&mut fields, value);
    }
    put_longstr(out, &fields);
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Bool(flag) => out.extend([b't', u8::from(*flag)]),
        Value::I8(number) => put_number(out, b'b', &number.to_be_bytes()),
        Value::U8(number) => put_number(out, b'B', &number.to_be_bytes()),
        Value::I16(number) => put_number(out, b's', &number.to_be_bytes()),
        Value::U16(number) => put_number(out, b'u', &number.to_be_bytes()),
        Value::I32(number) => put_number(out, b'I', &number.to_be_bytes()),
        Value::U32(number) => put_number(out, b'i', &number.to_be_bytes()),
        Value::I64(number) => put_number(out, b'l', &number.to_be_bytes()),
        Value::F32(number) => put_number(out, b'f', &number.to_be_bytes()),
        Value::F64(number) => put_number(out, b'd', &number.to_be_bytes()),
        Value::Timestamp(seconds) => put_number(out, b'T', &seconds.to_be_bytes()),
        Value::Decimal(scale, number) => {
            out.extend([b'D', *scale]);
            out.extend(number.to_be_bytes());
        }
        Value::Text(text) => {
            out.push(b'S');
            put_longstr(out, text);
        }
        Value::Bytes(bytes) => {
            out.push(b'x');
            put_longstr(out, bytes);
        }
        Value::Array(values) => {
            let mut items = Vec::new();
            for item in values {
                put_value(&mut items, item);
            }
            out.push(b'A');
            put_longstr(out, &items);
        }
        Value::Table(table) => {
            out.push(b'F');
            put_table(out, table);
        }
        Value::Void => out.push(b'V'),
    }
}

fn put_number(out: &mut Vec<u8>, letter: u8, bytes: &[u8]) {
    out.push(letter);
    out.extend_from_slice(bytes);
}

/// Reads primitive values off a payload; running out of bytes is an error, never a panic.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, length: usize) -> io::Result<&'a [u8]> {
        if length > self.0.len() {
            return Err(malformed("payload ends too early"));
        }
        let (head, rest) = self.0.split_at(length);
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        Ok(bytes)
    }

    pub(crate) fn octet(&mut self) -> io::Result<u8> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(crate) fn short(&mut self) -> io::Result<u16> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(crate) fn long(&mut self) -> io::Result<u32> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn longlong(&mut self) -> io::Result<u64> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub(crate) fn shortstr(&mut self) -> io::Result<&'a [u8]> {
        let length = usize::from(self.octet()?);
        self.take(length)
    }

    pub(crate) fn longstr(&mut self) -> io::Result<&'a [u8]> {
        let length = usize::try_from(self.long()?).map_err(io::Error::other)?;
        self.take(length)
    }

    pub(crate) fn table(&mut self) -> io::Result<Table> {
        let mut fields = Reader(self.longstr()?);
        let mut table = Table::new();
        while !fields.0.is_empty() {
            let key = String::from_utf8_lossy(fields.shortstr()?).into_owned();
            table.push((key, fields.value()?));
        }
        Ok(table)
    }

    fn value(&mut self) -> io::Result<Value> {
        Ok(match self.octet()? {
            b't' => Value::Bool(self.octet()? != 0),
            b'b' => Value::I8(i8::from_be_bytes(self.array()?)),
            b'B' => Value::U8(self.octet()?),
            b's' => Value::I16(i16::from_be_bytes(self.array()?)),
            b'u' => Value::U16(self.short()?),
            b'I' => Value::I32(i32::from_be_bytes(self.array()?)),
            b'i' => Value::U32(self.long()?),
            b'l' | b'L' => Value::I64(i64::from_be_bytes(self.array()?)),
            b'f' => Value::F32(f32::from_be_bytes(self.array()?)),
            b'd' => Value::F64(f64::from_be_bytes(self.array()?)),
            b'T' => Value::Timestamp(self.longlong()?),
            b'D' => Value::Decimal(self.octet()?, self.long()?),
            b'S' => Value::Text(self.longstr()?.to_vec()),
            b'x' => Value::Bytes(self.longstr()?.to_vec()),
            b'F' => Value::Table(self.table()?),
            b'V' => Value::Void,
            b'A' => {
                let mut items = Reader(self.longstr()?);
                let mut values = Vec::new();
                while !items.0.is_empty() {
                    values.push(items.value()?);
                }
                Value::Array(values)
            }
            letter => return Err(malformed(&format!("unknown field type {letter:#x}"))),
        })
    }
}

pub(crate) fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}
