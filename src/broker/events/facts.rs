//! The headers of an event, typed as RabbitMQ types them: texts are long strings, numbers 64 bits wide.

use std::net::IpAddr;

use amq_protocol::types::FieldTable;
use serde_json::Value;

use crate::broker::arguments::term;
use crate::message::field;

/// The flags of headers, delivery mode and timestamp.
const FLAGS: u16 = 1 << 13 | 1 << 12 | 1 << 6;

/// What is said of an event.
#[derive(Debug, Default)]
pub struct Facts {
    entries: Vec<u8>,
}

impl Facts {
    /// A text.
    pub fn text(&mut self, name: &str, value: &str) -> &mut Self {
        field::put_name(&mut self.entries, name.as_bytes());
        field::put_long_string(&mut self.entries, value.as_bytes());
        self
    }

    /// A number.
    pub fn number(&mut self, name: &str, value: i64) -> &mut Self {
        field::put_name(&mut self.entries, name.as_bytes());
        field::put_long(&mut self.entries, value);
        self
    }

    /// A truth value.
    pub fn flag(&mut self, name: &str, value: bool) -> &mut Self {
        field::put_name(&mut self.entries, name.as_bytes());
        field::put_bool(&mut self.entries, value);
        self
    }

    /// A list of texts.
    pub fn texts<T: AsRef<str>>(
        &mut self,
        name: &str,
        values: impl Iterator<Item = T>,
    ) -> &mut Self {
        let mut list = Vec::new();
        values.for_each(|text| field::put_long_string(&mut list, text.as_ref().as_bytes()));
        field::put_name(&mut self.entries, name.as_bytes());
        field::put_array(&mut self.entries, &list);
        self
    }

    /// Arguments or client properties: a list of Erlang terms, as RabbitMQ shows them.
    pub fn arguments(&mut self, name: &str, table: &FieldTable) -> &mut Self {
        let entries = table.inner().iter();
        let terms = entries.map(|(key, value)| term::Entry(key.as_str(), value).to_string());
        self.texts(name, terms)
    }

    /// An address, as the Erlang term `{127,0,0,1}`.
    pub fn address(&mut self, name: &str, address: IpAddr) -> &mut Self {
        let parts: Vec<String> = match address.to_canonical() {
            IpAddr::V4(address) => address.octets().map(|part| part.to_string()).into(),
            IpAddr::V6(address) => address.segments().map(|part| part.to_string()).into(),
        };
        self.text(name, &format!("{{{}}}", parts.join(",")))
    }

    /// A value of JSON.
    pub fn json(&mut self, name: &str, value: &Value) -> &mut Self {
        field::put_name(&mut self.entries, name.as_bytes());
        put_json(&mut self.entries, value);
        self
    }

    /// Completes the properties of the event's message, which happened at this time.
    pub(super) fn into_properties(mut self, now_ms: u64) -> Vec<u8> {
        self.number("timestamp_in_ms", i64::try_from(now_ms).unwrap_or(i64::MAX));
        let mut properties = FLAGS.to_be_bytes().to_vec();
        properties.extend_from_slice(&(self.entries.len() as u32).to_be_bytes());
        properties.append(&mut self.entries);
        // delivery-mode 2, timestamp in seconds.
        properties.push(2);
        properties.extend_from_slice(&(now_ms / 1000).to_be_bytes());
        properties
    }
}

fn put_json(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.push(b'V'),
        Value::Bool(value) => field::put_bool(out, *value),
        Value::Number(number) => match number.as_i64() {
            Some(number) => field::put_long(out, number),
            None => field::put_double(out, number.as_f64().unwrap_or(f64::MAX)),
        },
        Value::String(text) => field::put_long_string(out, text.as_bytes()),
        Value::Array(values) => {
            let mut list = Vec::new();
            values.iter().for_each(|value| put_json(&mut list, value));
            field::put_array(out, &list);
        }
        Value::Object(object) => {
            let mut entries = Vec::new();
            for (name, value) in object {
                field::put_name(&mut entries, name.as_bytes());
                put_json(&mut entries, value);
            }
            field::put_table(out, &entries);
        }
    }
}

#[cfg(test)]
mod tests {
    use amq_protocol::types::AMQPValue;

    use super::*;
    use crate::message::properties::Properties;

    #[test]
    fn facts_become_the_properties_of_a_persistent_message() {
        let mut facts = Facts::default();
        let mut arguments = FieldTable::default();
        arguments.insert("x-max-length".into(), AMQPValue::LongInt(5));
        facts
            .text("name", "q")
            .flag("durable", true)
            .arguments("arguments", &arguments)
            .address("host", "::ffff:127.0.0.1".parse().unwrap())
            .json(
                "definition",
                &serde_json::json!({"max-length": 5, "l": [1.5, null]}),
            );
        let bytes = facts.into_properties(7_001);
        let properties = Properties::read(&bytes).unwrap();
        assert!(properties.persistent);
        assert_eq!(properties.timestamp, Some(7));
        let headers = properties.decode_headers().unwrap().unwrap();
        let get = |name: &str| headers.inner().get(name).cloned().unwrap();
        let text = |text: &str| AMQPValue::LongString(text.into());
        assert_eq!(get("name"), text("q"));
        assert_eq!(get("durable"), AMQPValue::Boolean(true));
        assert_eq!(get("host"), text("{127,0,0,1}"));
        assert_eq!(get("timestamp_in_ms"), AMQPValue::LongLongInt(7_001));
        let terms = vec![text("{<<\"x-max-length\">>,signedint,5}")];
        assert_eq!(get("arguments"), AMQPValue::FieldArray(terms.into()));
        let AMQPValue::FieldTable(definition) = get("definition") else {
            panic!("no table");
        };
        let list = vec![AMQPValue::Double(1.5), AMQPValue::Void];
        assert_eq!(
            definition.inner().get("l"),
            Some(&AMQPValue::FieldArray(list.into()))
        );
    }
}
