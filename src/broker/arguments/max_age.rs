//! `x-max-age` and the intervals of `x-stream-offset`: a positive number and one of the units `Y M D h m s`
//! (`rabbit_amqqueue:check_max_age`).

const SECOND_MS: u64 = 1000;
const DAY_MS: u64 = 86_400 * SECOND_MS;

/// The interval in ms; `None` if it is malformed. Years have 365 days and months 30, as in RabbitMQ.
pub fn max_age_ms(interval: &[u8]) -> Option<u64> {
    let (unit, number) = interval.split_last()?;
    if !number.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let unit_ms = match unit {
        b'Y' => 365 * DAY_MS,
        b'M' => 30 * DAY_MS,
        b'D' => DAY_MS,
        b'h' => 3600 * SECOND_MS,
        b'm' => 60 * SECOND_MS,
        b's' => SECOND_MS,
        _ => return None,
    };
    let number = number.iter().fold(0u64, |number, digit| {
        number
            .saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    });
    (number > 0).then(|| number.saturating_mul(unit_ms))
}

#[cfg(test)]
mod tests {
    use super::max_age_ms;

    #[test]
    fn a_positive_number_and_a_unit_make_an_interval() {
        let expected = [
            ("1s", Some(1000)),
            ("2m", Some(120_000)),
            ("3h", Some(10_800_000)),
            ("7D", Some(604_800_000)),
            ("1M", Some(2_592_000_000)),
            ("1Y", Some(31_536_000_000)),
            ("99999999999999999999Y", Some(u64::MAX)),
            ("0s", None),
            ("s", None),
            ("5", None),
            ("", None),
            ("-5s", None),
            ("5 s", None),
            ("5d", None),
        ];
        for (interval, ms) in expected {
            assert_eq!(max_age_ms(interval.as_bytes()), ms, "{interval}");
        }
    }
}
