//! When the value of a header is that of an argument.

use std::hash::{Hash, Hasher};
use std::mem::discriminant;

use amq_protocol::types::AMQPValue;

use crate::broker::arguments::term;

/// Values are compared without their types: integers and timestamps are equal when their numbers are, floats likewise,
/// strings and byte arrays when their bytes are. An integer never equals a float (`=:=` since RabbitMQ 4). A void
/// header equals no value. Tables are equal when their entries are, in whatever order.
pub(super) fn are_equal(wanted: &AMQPValue, found: &AMQPValue) -> bool {
    if let (Some(wanted), Some(found)) = (whole_number(wanted), whole_number(found)) {
        return wanted == found;
    }
    if let (Some(wanted), Some(found)) = (term::bytes(wanted), term::bytes(found)) {
        return wanted == found;
    }
    match (wanted, found) {
        (AMQPValue::Float(wanted), AMQPValue::Double(found)) => f64::from(*wanted) == *found,
        (AMQPValue::Double(wanted), AMQPValue::Float(found)) => *wanted == f64::from(*found),
        _ => wanted == found,
    }
}

/// Equal values hash alike. The nesting of values is bounded where they are decoded.
pub(super) fn hash(value: &AMQPValue, state: &mut impl Hasher) {
    if let Some(number) = whole_number(value) {
        return number.hash(state);
    }
    if let Some(bytes) = term::bytes(value) {
        return bytes.hash(state);
    }
    match value {
        AMQPValue::Float(number) => hash_float(f64::from(*number), state),
        AMQPValue::Double(number) => hash_float(*number, state),
        AMQPValue::Boolean(value) => value.hash(state),
        AMQPValue::DecimalValue(decimal) => (decimal.scale, decimal.value).hash(state),
        AMQPValue::FieldArray(array) => {
            let values = array.as_slice();
            values.len().hash(state);
            values.iter().for_each(|value| hash(value, state));
        }
        AMQPValue::FieldTable(table) => {
            table.inner().len().hash(state);
            for (key, value) in table.inner() {
                key.as_str().hash(state);
                hash(value, state);
            }
        }
        other => discriminant(other).hash(state),
    }
}

fn hash_float(number: f64, state: &mut impl Hasher) {
    // Both zeros are equal.
    let number = if number == 0.0 { 0.0 } else { number };
    number.to_bits().hash(state);
}

fn whole_number(value: &AMQPValue) -> Option<i128> {
    match value {
        AMQPValue::Timestamp(seconds) => Some((*seconds).into()),
        value => term::integer(value).map(i128::from),
    }
}
