//! Whether a declaration of an existing queue or exchange asks for what it is
//! (`rabbit_misc:assert_args_equivalence`, in the wording of 4.3).

use amq_protocol::types::{AMQPValue, FieldTable};

use super::term::{self, Plain};
use crate::broker::error::Error;
use crate::broker::names::Resource;

/// Compares a plain property of a declaration, for instance `durable`.
///
/// # Errors
/// They differ.
pub fn check_property<T: PartialEq + std::fmt::Display>(
    resource: &Resource,
    property: &'static str,
    received: T,
    current: T,
) -> Result<(), Error> {
    if received == current {
        return Ok(());
    }
    Err(Error::Inequivalent {
        argument: property,
        resource: resource.clone(),
        received: format!("'{received}'"),
        current: format!("'{current}'"),
    })
}

/// Compares the arguments called `known`; others never differ.
///
/// # Errors
/// The first of `known` that differs.
pub fn check_arguments(
    resource: &Resource,
    known: impl IntoIterator<Item = &'static str>,
    received: &FieldTable,
    current: &FieldTable,
) -> Result<(), Error> {
    for argument in known {
        let (new, old) = (
            received.inner().get(argument),
            current.inner().get(argument),
        );
        if !are_equivalent(argument, new, old) {
            return Err(Error::Inequivalent {
                argument,
                resource: resource.clone(),
                received: word(new),
                current: word(old),
            });
        }
    }
    Ok(())
}

fn are_equivalent(
    argument: &str,
    received: Option<&AMQPValue>,
    current: Option<&AMQPValue>,
) -> bool {
    match (received, current) {
        (None, None) => true,
        (Some(received), Some(current)) => are_equal(received, current),
        // A queue of the default type may or may not have been declared with it.
        (Some(only), None) | (None, Some(only)) => {
            argument == "x-queue-type"
                && matches!(only, AMQPValue::LongString(name) if name.as_bytes() == b"classic")
        }
    }
}

/// Integers of different width are equal when their numbers are; so are floats.
fn are_equal(left: &AMQPValue, right: &AMQPValue) -> bool {
    if let (Some(left), Some(right)) = (term::integer(left), term::integer(right)) {
        return left == right;
    }
    match (float(left), float(right)) {
        (Some(left), Some(right)) => left == right,
        _ => left == right,
    }
}

fn float(value: &AMQPValue) -> Option<f64> {
    match value {
        AMQPValue::Float(number) => Some((*number).into()),
        AMQPValue::Double(number) => Some(*number),
        _ => None,
    }
}

fn word(value: Option<&AMQPValue>) -> String {
    match value {
        None => "none".into(),
        Some(value) => format!(
            "the value '{}' of type '{}'",
            Plain(value),
            term::type_name(value)
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;

    fn table(entries: &[(&str, AMQPValue)]) -> FieldTable {
        entries
            .iter()
            .map(|(key, value)| ((*key).into(), value.clone()))
            .collect::<BTreeMap<_, _>>()
            .into()
    }

    fn check(received: &[(&str, AMQPValue)], current: &[(&str, AMQPValue)], expected: &str) {
        let vhost: Arc<str> = "/".into();
        let resource = Resource::queue(&vhost, "q");
        let known = ["x-message-ttl", "x-queue-type"];
        let found = check_arguments(&resource, known, &table(received), &table(current));
        let text = found.map_or_else(|error| error.to_string(), |()| "ok".to_owned());
        let prefix = "inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': received ";
        assert_eq!(text.strip_prefix(prefix).unwrap_or(&text), expected);
    }

    #[test]
    fn differences_are_worded_with_value_and_type() {
        let ttl = |number| ("x-message-ttl", AMQPValue::LongInt(number));
        check(
            &[ttl(2)],
            &[],
            "the value '2' of type 'signedint' but current is none",
        );
        check(
            &[],
            &[ttl(1000)],
            "none but current is the value '1000' of type 'signedint'",
        );
        check(
            &[ttl(2)],
            &[ttl(1000)],
            "the value '2' of type 'signedint' but current is the value '1000' of type 'signedint'",
        );
        check(
            &[("x-message-ttl", AMQPValue::LongString("1000".into()))],
            &[ttl(1000)],
            "the value '1000' of type 'longstr' but current is the value '1000' of type 'signedint'",
        );
    }

    #[test]
    fn width_and_unknown_arguments_make_no_difference() {
        let ttl = ("x-message-ttl", AMQPValue::LongInt(1000));
        check(
            &[("x-message-ttl", AMQPValue::LongLongInt(1000))],
            std::slice::from_ref(&ttl),
            "ok",
        );
        check(&[ttl.clone(), ("x-other", AMQPValue::Void)], &[ttl], "ok");
    }

    #[test]
    fn an_absent_type_equals_classic_and_nothing_else() {
        let of_type = |name: &str| ("x-queue-type", AMQPValue::LongString(name.into()));
        check(&[of_type("classic")], &[], "ok");
        check(&[], &[of_type("classic")], "ok");
        check(
            &[of_type("quorum")],
            &[],
            "inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': received the value 'quorum' of type \
             'longstr' but current is none",
        );
    }

    #[test]
    fn properties_are_worded_in_quotes() {
        let vhost: Arc<str> = "/".into();
        let error =
            check_property(&Resource::queue(&vhost, "q"), "durable", true, false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "inequivalent arg 'durable' for queue 'q' in vhost '/': received 'true' but current is 'false'"
        );
    }
}
