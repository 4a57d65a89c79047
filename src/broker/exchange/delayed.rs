//! `x-delayed-message`, as RabbitMQ's plugin of that name: routes as the type that `x-delayed-type` names, but a
//! message whose header `x-delay` is a positive number of milliseconds only when that time has passed. Where it
//! waits is [`crate::broker::delays`].

use amq_protocol::types::FieldTable;

use super::{ExchangeSpec, ExchangeType};
use crate::broker::error::Error;
use crate::message::field;
use crate::message::properties::{self, Properties};

pub(super) const TYPE: ExchangeType = ExchangeType {
    name: NAME,
    table: |arguments| match routing_type(arguments) {
        Ok(kind) => (kind.table)(arguments),
        // What was declared was valid.
        Err(_) => (super::direct::TYPE.table)(arguments),
    },
    validate: |arguments| routing_type(arguments)?.validate(arguments),
    // Asked of the type that routes instead.
    validate_binding: super::any_binding,
};

const NAME: &str = "x-delayed-message";
const DELAYED_TYPE: &str = "x-delayed-type";

/// The header that says how long a message waits, in ms.
pub(in crate::broker) const DELAY: &[u8] = b"x-delay";

/// Longer delays are none, as in the plugin: what an Erlang timer can take, some 49 days.
const DELAY_MS_MAX: i64 = u32::MAX as i64;

impl ExchangeType {
    /// Whether exchanges of this type make messages wait.
    pub(in crate::broker) fn delays(&self) -> bool {
        self.name == NAME
    }
}

impl ExchangeSpec {
    /// The type by which messages are routed.
    pub(super) fn routing_type(&self) -> &'static ExchangeType {
        let delayed = self
            .kind
            .delays()
            .then(|| routing_type(&self.arguments.table()));
        delayed.and_then(Result::ok).unwrap_or(self.kind)
    }
}

fn routing_type(arguments: &FieldTable) -> Result<&'static ExchangeType, Error> {
    let name = arguments
        .inner()
        .get(DELAYED_TYPE)
        .and_then(|value| value.as_long_string())
        .and_then(|name| std::str::from_utf8(name.as_bytes()).ok());
    match name {
        Some(NAME) => Err(refused(
            "'x-delayed-message' can't be used for 'x-delayed-type'",
        )),
        Some(name) => ExchangeType::from_name(name),
        None => Err(refused(
            "'x-delayed-type' must be an existing exchange type",
        )),
    }
}

fn refused(reason: &str) -> Error {
    Error::InvalidExchange(format!("Invalid argument, {reason}"))
}

/// How long a message with these properties is to wait, in ms. `None`: it goes at once. A delay is an integer of any
/// type, a floating-point number or a string of decimal digits.
pub(super) fn delay_ms(properties: &[u8]) -> Option<u64> {
    let delay_ms = delay_header(properties)?;
    (1..=DELAY_MS_MAX)
        .contains(&delay_ms)
        .then_some(delay_ms.unsigned_abs())
}

/// The number in the header `x-delay`.
pub(in crate::broker) fn delay_header(properties: &[u8]) -> Option<i64> {
    let headers = Properties::read(properties).ok()?.headers?;
    let value = properties::header(headers, DELAY)?;
    field::integer(value).or_else(|| converted(value))
}

fn converted(value: &[u8]) -> Option<i64> {
    let float = match value {
        [b'f', bytes @ ..] => f64::from(f32::from_be_bytes(bytes.try_into().ok()?)),
        [b'd', bytes @ ..] => f64::from_be_bytes(bytes.try_into().ok()?),
        _ => {
            return std::str::from_utf8(field::long_string(value)?)
                .ok()?
                .parse()
                .ok();
        }
    };
    // Saturates; what is no number becomes 0.
    Some(float as i64)
}

#[cfg(test)]
mod tests {
    use amq_protocol::types::AMQPValue;

    use super::*;
    use crate::message::properties::Rewrite;

    fn with_delay(value: &[u8]) -> Vec<u8> {
        let headers: &[(&[u8], Option<&[u8]>)] = &[(DELAY, Some(value))];
        let rewrite = Rewrite {
            headers,
            ..Rewrite::default()
        };
        rewrite.apply(&[0, 0]).unwrap()
    }

    #[test]
    fn delays_are_positive_numbers_of_milliseconds_of_any_type() {
        let cases: [(&[u8], Option<u64>); 12] = [
            (b"I\x00\x00\x13\x88", Some(5000)),
            (b"i\xff\xff\xff\xff", Some(4_294_967_295)),
            (b"l\x00\x00\x00\x01\x00\x00\x00\x00", None),
            (b"b\x07", Some(7)),
            (b"s\x01\x00", Some(256)),
            (b"I\x00\x00\x00\x00", None),
            (b"I\xff\xff\xff\xff", None),
            (b"S\x00\x00\x00\x03250", Some(250)),
            (b"S\x00\x00\x00\x0325x", None),
            (b"d\x40\x24\xcc\xcc\xcc\xcc\xcc\xcd", Some(10)),
            (b"t\x01", None),
            (b"V", None),
        ];
        for (value, expected) in cases {
            assert_eq!(delay_ms(&with_delay(value)), expected, "{value:?}");
        }
        assert_eq!(delay_ms(&[0, 0]), None);
    }

    #[test]
    fn the_type_that_routes_has_to_be_named_and_must_not_delay_itself() {
        let named = |value: Option<AMQPValue>| {
            let mut arguments = FieldTable::default();
            if let Some(value) = value {
                arguments.insert(DELAYED_TYPE.into(), value);
            }
            TYPE.validate(&arguments).map_err(|error| error.to_string())
        };
        let text = |name: &str| Some(AMQPValue::LongString(name.into()));
        assert_eq!(named(text("topic")), Ok(()));
        let missing = "Invalid argument, 'x-delayed-type' must be an existing exchange type";
        assert_eq!(named(None), Err(missing.into()));
        assert_eq!(named(Some(AMQPValue::LongInt(1))), Err(missing.into()));
        let itself = "Invalid argument, 'x-delayed-message' can't be used for 'x-delayed-type'";
        assert_eq!(named(text("x-delayed-message")), Err(itself.into()));
        let unknown = Error::UnknownExchangeType("x-none".into()).to_string();
        assert_eq!(named(text("x-none")), Err(unknown));
    }
}
