//! Where a consumer of a stream begins: `x-stream-offset`.

use amq_protocol::types::AMQPValue;

use crate::broker::arguments::max_age_ms;

/// Where a consumer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StartAt {
    /// With the oldest message.
    First,
    /// With the newest message. RabbitMQ's chunks hold what was published at once; here the last one is one message.
    Last,
    /// With what is published from now on.
    #[default]
    Next,
    /// With this offset, or the oldest one that is there after it. One that is still to come is waited for.
    Offset(u64),
    /// With the first message that arrived at this time (ms since the Unix epoch) or later.
    Time(u64),
    /// With the first message that is not older than this, in ms.
    Age(u64),
}

impl StartAt {
    /// What the value of `x-stream-offset` says. `None`: nothing that RabbitMQ takes.
    pub fn from_value(value: &AMQPValue) -> Option<Self> {
        match value {
            AMQPValue::LongString(text) => match text.as_bytes() {
                b"first" => Some(Self::First),
                b"last" => Some(Self::Last),
                b"next" => Some(Self::Next),
                interval => max_age_ms(interval).map(Self::Age),
            },
            AMQPValue::Timestamp(seconds) => Some(Self::Time(seconds.saturating_mul(1000))),
            // As in RabbitMQ, a negative number is before everything.
            number => crate::broker::arguments::term::integer(number)
                .map(|number| Self::Offset(u64::try_from(number).unwrap_or(0))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_numbers_times_and_intervals_are_understood_and_nothing_else() {
        let text = |text: &str| StartAt::from_value(&AMQPValue::LongString(text.into()));
        assert_eq!(text("first"), Some(StartAt::First));
        assert_eq!(text("last"), Some(StartAt::Last));
        assert_eq!(text("next"), Some(StartAt::Next));
        assert_eq!(text("7D"), Some(StartAt::Age(7 * 86_400_000)));
        assert_eq!(text("90s"), Some(StartAt::Age(90_000)));
        for wrong in ["", "7 days", "0D", "beginning", "D", "7"] {
            assert_eq!(text(wrong), None, "{wrong}");
        }
        let of = |value: &AMQPValue| StartAt::from_value(value);
        assert_eq!(of(&AMQPValue::LongInt(7)), Some(StartAt::Offset(7)));
        assert_eq!(of(&AMQPValue::LongLongInt(-1)), Some(StartAt::Offset(0)));
        assert_eq!(of(&AMQPValue::Timestamp(3)), Some(StartAt::Time(3000)));
        assert_eq!(of(&AMQPValue::Boolean(true)), None);
        assert_eq!(of(&AMQPValue::Double(1.5)), None);
    }
}
