//! Arguments as JSON, in both directions (`rabbit_misc:to_amqp_table`, `rabbit_misc:amqp_table`).
//!
//! JSON knows fewer types: an integer comes back as one of 64 bits, a timestamp as an integer, a byte array as a text.

use amq_protocol::types::{AMQPValue, FieldTable};
use serde_json::{Map, Value};

use crate::broker::arguments::term;

/// Arguments from JSON.
pub(super) fn table(arguments: &Map<String, Value>) -> Result<FieldTable, String> {
    let mut table = FieldTable::default();
    for (key, value) in arguments {
        if key.len() > 255 {
            return Err("the name of an argument should have up to 255 bytes".into());
        }
        table.insert(key.as_str().into(), amqp_value(value)?);
    }
    Ok(table)
}

fn amqp_value(value: &Value) -> Result<AMQPValue, String> {
    Ok(match value {
        Value::Null => AMQPValue::Void,
        Value::Bool(value) => AMQPValue::Boolean(*value),
        Value::Number(number) => match number.as_i64() {
            Some(number) => AMQPValue::LongLongInt(number),
            None => AMQPValue::Double(number.as_f64().unwrap_or(f64::MAX)),
        },
        Value::String(text) => AMQPValue::LongString(text.as_str().into()),
        Value::Array(values) => {
            let values: Result<Vec<_>, _> = values.iter().map(amqp_value).collect();
            AMQPValue::FieldArray(values?.into())
        }
        Value::Object(object) => AMQPValue::FieldTable(table(object)?),
    })
}

/// Arguments to JSON.
pub(super) fn object(table: &FieldTable) -> Map<String, Value> {
    let entries = table.inner().iter();
    entries
        .map(|(key, value)| (key.to_string(), json_value(value)))
        .collect()
}

fn json_value(value: &AMQPValue) -> Value {
    if let Some(number) = term::integer(value) {
        return number.into();
    }
    if let Some(bytes) = term::bytes(value) {
        return String::from_utf8_lossy(bytes).into();
    }
    match value {
        AMQPValue::Boolean(value) => (*value).into(),
        AMQPValue::Float(number) => f64::from(*number).into(),
        AMQPValue::Double(number) => (*number).into(),
        AMQPValue::DecimalValue(decimal) => {
            let scale = f64::from(decimal.scale);
            (f64::from(decimal.value) / 10_f64.powf(scale)).into()
        }
        AMQPValue::Timestamp(seconds) => (*seconds).into(),
        AMQPValue::FieldArray(values) => values.as_slice().iter().map(json_value).collect(),
        AMQPValue::FieldTable(table) => Value::Object(object(table)),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use amq_protocol::types::DecimalValue;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_json_knows_comes_back_as_it_was() {
        let arguments = json!({
            "s": "text", "n": -5, "f": 1.5, "b": true, "v": null, "l": [1, "b", [false]], "t": {"in": {"n": 1}},
        });
        let arguments = arguments.as_object().unwrap();
        assert_eq!(object(&table(arguments).unwrap()), *arguments);
    }

    #[test]
    fn other_types_become_the_nearest_that_json_has() {
        let decimal = DecimalValue {
            scale: 2,
            value: 275,
        };
        for (value, expected) in [
            (AMQPValue::ShortShortUInt(7), json!(7)),
            (AMQPValue::Timestamp(8), json!(8)),
            (AMQPValue::Float(0.5), json!(0.5)),
            (AMQPValue::DecimalValue(decimal), json!(2.75)),
            (
                AMQPValue::ByteArray(b"bytes".to_vec().into()),
                json!("bytes"),
            ),
            (AMQPValue::Double(f64::NAN), json!(null)),
        ] {
            assert_eq!(json_value(&value), expected, "{value:?}");
        }
    }
}
