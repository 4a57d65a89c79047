//! Arguments as they are kept: the encoded table, a fraction of the size of a decoded one.

use std::hash::{Hash, Hasher};

use amq_protocol::types::FieldTable;
use amq_protocol::types::generation::gen_field_table;
use amq_protocol::types::parsing::parse_field_table;

/// The arguments of a declaration or a binding. Equal when keys, types and values are.
///
/// A table sorts its keys, so that the order in which a client sent them makes no difference (as in RabbitMQ).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arguments {
    /// The table on the wire with its length; nothing for the empty table.
    encoded: Option<Box<[u8]>>,
}

impl Arguments {
    /// Keeps `table`.
    pub fn new(table: &FieldTable) -> Self {
        if table.inner().is_empty() {
            return Self::default();
        }
        let encoded = gen_field_table(table)(Vec::new().into()).expect(
            "writing to a vector fails only for tables of 4 GiB, and frames are far smaller",
        );
        Self {
            encoded: Some(encoded.write.into_boxed_slice()),
        }
    }

    /// The table that `encoded` holds, if it is one; empty bytes stand for the empty table.
    pub fn from_bytes(encoded: &[u8]) -> Option<Self> {
        if encoded.is_empty() {
            return Some(Self::default());
        }
        let (rest, table) = parse_field_table(encoded).ok()?;
        rest.is_empty().then(|| Self::new(&table))
    }

    /// The encoded table; empty for the empty one.
    pub fn as_bytes(&self) -> &[u8] {
        self.encoded.as_deref().unwrap_or_default()
    }

    /// True without any argument.
    pub const fn is_empty(&self) -> bool {
        self.encoded.is_none()
    }

    /// The decoded table.
    pub fn table(&self) -> FieldTable {
        match parse_field_table(self.as_bytes()) {
            Ok((_, table)) => table,
            Err(_) => FieldTable::default(),
        }
    }
}

impl Hash for Arguments {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use amq_protocol::types::AMQPValue;

    use super::*;

    #[test]
    fn a_table_is_kept_with_its_types() {
        let mut table = FieldTable::default();
        table.insert("x-b".into(), AMQPValue::ShortShortInt(-1));
        table.insert(
            "x-a".into(),
            AMQPValue::FieldArray(vec![AMQPValue::Void, AMQPValue::Double(0.5)].into()),
        );
        let arguments = Arguments::new(&table);
        assert_eq!(arguments.table(), table);
        assert_eq!(Arguments::from_bytes(arguments.as_bytes()), Some(arguments));
    }

    #[test]
    fn types_make_a_difference() {
        let with = |value| {
            let mut table = FieldTable::default();
            table.insert("x".into(), value);
            Arguments::new(&table)
        };
        assert_eq!(with(AMQPValue::LongInt(1)), with(AMQPValue::LongInt(1)));
        assert_ne!(with(AMQPValue::LongInt(1)), with(AMQPValue::LongLongInt(1)));
    }

    #[test]
    fn no_arguments_take_no_space() {
        let arguments = Arguments::new(&FieldTable::default());
        assert!(arguments.is_empty() && arguments.as_bytes().is_empty());
        assert_eq!(Arguments::from_bytes(&[]), Some(arguments));
        assert_eq!(Arguments::from_bytes(&[0, 0, 0, 9, 1]), None, "truncated");
    }
}
