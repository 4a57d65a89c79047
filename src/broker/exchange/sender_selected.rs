//! Sender-selected distribution: the headers CC and BCC of a message name further routing keys (semantics row 80).
//!
//! RabbitMQ routes by all keys together, removes BCC from the message, and keeps the first key as the routing key.

use amq_protocol::types::{AMQPValue, FieldTable};

use crate::broker::arguments::term;
use crate::broker::error::Error;

/// The headers, in the order in which their keys follow the message's own.
pub const HEADERS: [&str; 2] = ["CC", "BCC"];

/// The routing keys in the header called `name`; none without it. Elements that are no strings are passed over, as in
/// RabbitMQ.
///
/// # Errors
/// The header is not an array.
pub fn keys(headers: &FieldTable, name: &'static str) -> Result<Vec<String>, Error> {
    match headers.inner().get(name) {
        None => Ok(Vec::new()),
        Some(AMQPValue::FieldArray(keys)) => Ok(keys.as_slice().iter().filter_map(key).collect()),
        Some(other) => Err(Error::InvalidSenderSelectedHeader {
            header: name,
            found: term::type_name(other),
        }),
    }
}

fn key(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(key) => Some(String::from_utf8_lossy(key.as_bytes()).into_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: AMQPValue) -> FieldTable {
        let mut headers = FieldTable::default();
        headers.insert("CC".into(), value);
        headers
    }

    #[test]
    fn an_array_of_strings_names_routing_keys() {
        let array = vec![
            AMQPValue::LongString("a".into()),
            AMQPValue::LongInt(5),
            AMQPValue::LongString("b".into()),
        ];
        let headers = headers(AMQPValue::FieldArray(array.into()));
        assert_eq!(
            keys(&headers, "CC"),
            Ok(vec!["a".to_owned(), "b".to_owned()])
        );
        assert_eq!(keys(&headers, "BCC"), Ok(vec![]));
    }

    #[test]
    fn anything_but_an_array_is_refused() {
        let error = keys(&headers(AMQPValue::LongString("a".into())), "CC").unwrap_err();
        assert_eq!(
            error.to_string(),
            "invalid message: {unacceptable_type_in_header,\"CC\",longstr}"
        );
    }
}
