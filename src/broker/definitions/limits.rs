//! Limits of users and virtual hosts as RabbitMQ writes them to JSON.

use serde_json::Value;

use crate::auth::UserLimits;
use crate::broker::policy::Term;
use crate::broker::vhost::VHostLimits;
use crate::rate::RateLimits;

/// Those that users and virtual hosts have: not in RabbitMQ.
const RATES: [&str; 3] = [
    "max-publish-rate",
    "max-publish-bytes-rate",
    "max-consume-rate",
];

/// A user's limits.
///
/// # Errors
/// What is wrong with them (`rabbit_auth_backend_internal:validate_user_limits`).
pub(super) fn of_user(value: &Value) -> Result<UserLimits, String> {
    // Older exports write no limits as an empty list.
    if value.as_array().is_some_and(Vec::is_empty) {
        return Ok(UserLimits::default());
    }
    let ([max_connections, max_channels], rates) =
        read(value, ["max-connections", "max-channels"])?;
    Ok(UserLimits {
        max_connections,
        max_channels,
        rates,
    })
}

/// The limits of a virtual host.
///
/// # Errors
/// What is wrong with them (`rabbit_vhost_limit:validate`).
pub(super) fn of_vhost(value: &Value) -> Result<VHostLimits, String> {
    if value.as_array().is_some_and(Vec::is_empty) {
        return Ok(VHostLimits::default());
    }
    let ([max_connections, max_queues], rates) = read(value, ["max-connections", "max-queues"])?;
    Ok(VHostLimits {
        max_connections,
        max_queues,
        rates,
    })
}

fn read(value: &Value, counts: [&str; 2]) -> Result<([Option<u64>; 2], RateLimits), String> {
    let Value::Object(limits) = value else {
        return Err(format!("limits should be a dictionary: {}", Term(value)));
    };
    let mut known = counts.iter().chain(&RATES);
    if let Some(unknown) = limits
        .keys()
        .find(|key| !known.clone().any(|known| known == key))
    {
        return Err(format!("unrecognised limit '{unknown}'"));
    }
    let mut next = || {
        let key = known.next().copied().unwrap_or_default();
        let limit = limits.get(key).map(|value| number(key, value)).transpose();
        limit.map(Option::flatten)
    };
    let counts = [next()?, next()?];
    let rates = RateLimits {
        max_publish_rate: next()?,
        max_publish_bytes_rate: next()?,
        max_consume_rate: next()?,
    };
    Ok((counts, rates))
}

/// A negative limit is none.
fn number(key: &str, value: &Value) -> Result<Option<u64>, String> {
    match (value.as_u64(), value.as_i64()) {
        (Some(limit), _) => Ok(Some(limit)),
        (None, Some(_)) => Ok(None),
        (None, None) => Err(format!(
            "{key} should be an integer, actually was {}",
            Term(value)
        )),
    }
}
