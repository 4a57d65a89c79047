//! The `expiration` property of a message: a decimal number of milliseconds in a string.

use super::EXPIRY_MS_MAX;
use crate::broker::error::Error;

/// The milliseconds that an expiration property stands for, 0 to ten years.
///
/// # Errors
/// It is no number, has something behind the number, or is out of range (`rabbit_basic:parse_expiration`).
pub fn parse(value: &str) -> Result<u64, Error> {
    parse_number(value).map_err(|reason| Error::InvalidExpiration {
        value: value.to_owned(),
        reason,
    })
}

fn parse_number(value: &str) -> Result<u64, String> {
    let unsigned = value.strip_prefix(['+', '-']).unwrap_or(value);
    let digits = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 {
        return Err("no_integer".into());
    }
    let (number, rest) = value.split_at(value.len() - unsigned.len() + digits);
    if !rest.is_empty() {
        let mut reason = "{leftover_string,".to_owned();
        // Writing to a string cannot fail.
        let _ = super::term::quoted(&mut reason, rest);
        reason.push('}');
        return Err(reason);
    }
    match number.parse::<i128>() {
        Ok(number) => check_expiry(number),
        // More digits than fit: only its sign matters. The property has at most 255 bytes.
        Err(_) if number.starts_with('-') => Err(format!("{{value_negative,{number}}}")),
        Err(_) => Err(format!(
            "{{value_too_large,{}}}",
            unsigned.trim_start_matches('0')
        )),
    }
}

/// A time to live in its range, or what is wrong with it as an Erlang term (`rabbit_misc:check_expiry`).
pub(super) fn check_expiry(number: i128) -> Result<u64, String> {
    match u64::try_from(number) {
        Ok(number) if number <= EXPIRY_MS_MAX => Ok(number),
        _ if number < 0 => Err(format!("{{value_negative,{number}}}")),
        _ => Err(format!("{{value_too_large,{number}}}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_milliseconds() {
        assert_eq!(parse("0"), Ok(0));
        assert_eq!(parse("60000"), Ok(60_000));
        assert_eq!(parse("+5"), Ok(5));
        assert_eq!(parse("315360000000"), Ok(EXPIRY_MS_MAX));
    }

    #[test]
    fn anything_else_is_refused_in_rabbitmqs_words() {
        for (value, reason) in [
            ("abc", "no_integer"),
            ("", "no_integer"),
            ("-", "no_integer"),
            (" 5", "no_integer"),
            ("10ms", "{leftover_string,\"ms\"}"),
            ("1.5", "{leftover_string,\".5\"}"),
            ("-1", "{value_negative,-1}"),
            ("315360000001", "{value_too_large,315360000001}"),
            (
                &"9".repeat(50),
                &format!("{{value_too_large,{}}}", "9".repeat(50)),
            ),
        ] {
            let text = parse(value).unwrap_err().to_string();
            assert_eq!(text, format!("invalid expiration '{value}': {reason}"));
        }
    }
}
