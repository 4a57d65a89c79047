//! JSON values as RabbitMQ prints them in its refusals: the Erlang terms that it decodes them to.

use std::fmt::{self, Write};

use serde_json::Value;

use crate::broker::arguments::term::binary;

/// A value as an Erlang term: `5`, `<<"text">>`, `[1,2]`, `#{<<"key">> => 1}`.
pub(in crate::broker) struct Term<'a>(pub(in crate::broker) &'a Value);

impl fmt::Display for Term<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Null => formatter.write_str("null"),
            Value::Bool(value) => write!(formatter, "{value}"),
            Value::Number(number) => write!(formatter, "{number}"),
            Value::String(text) => binary(formatter, text.as_bytes()),
            Value::Array(values) => {
                formatter.write_char('[')?;
                for (index, value) in values.iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    write!(formatter, "{comma}{}", Term(value))?;
                }
                formatter.write_char(']')
            }
            Value::Object(object) => {
                let mut entries: Vec<_> = object.iter().collect();
                entries.sort_by_key(|(key, _)| *key);
                formatter.write_str("#{")?;
                for (index, (key, value)) in entries.into_iter().enumerate() {
                    formatter.write_str(if index > 0 { "," } else { "" })?;
                    binary(formatter, key.as_bytes())?;
                    write!(formatter, " => {}", Term(value))?;
                }
                formatter.write_char('}')
            }
        }
    }
}

/// Keys with their values as a list of pairs: `[{<<"key">>,1}]`.
pub(in crate::broker) struct Pairs<'a>(pub(in crate::broker) &'a [(&'a String, &'a Value)]);

impl fmt::Display for Pairs<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_char('[')?;
        for (index, (key, value)) in self.0.iter().enumerate() {
            formatter.write_str(if index > 0 { ",{" } else { "{" })?;
            binary(formatter, key.as_bytes())?;
            write!(formatter, ",{}}}", Term(value))?;
        }
        formatter.write_char(']')
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_printed_as_erlang_prints_them() {
        let cases = [
            (json!(null), "null"),
            (json!(true), "true"),
            (json!(-1), "-1"),
            (json!(1.5), "1.5"),
            (json!("a"), "<<\"a\">>"),
            (json!("é"), "<<\"é\"/utf8>>"),
            (json!(""), "<<>>"),
            (json!(["a", true, null]), "[<<\"a\">>,true,null]"),
            (
                json!({"b": [1, 2], "a": 1}),
                "#{<<\"a\">> => 1,<<\"b\">> => [1,2]}",
            ),
        ];
        for (value, text) in cases {
            assert_eq!(Term(&value).to_string(), text);
        }
    }
}
