//! Limits of users and virtual hosts as RabbitMQ writes them to JSON.

use serde_json::Value;

use crate::auth::UserLimits;
use crate::broker::policy::Term;
use crate::broker::vhost::VHostLimits;

/// A user's limits.
///
/// # Errors
/// What is wrong with them (`rabbit_auth_backend_internal:validate_user_limits`).
pub(super) fn of_user(value: &Value) -> Result<UserLimits, String> {
    // Older exports write no limits as an empty list.
    if value.as_array().is_some_and(Vec::is_empty) {
        return Ok(UserLimits::default());
    }
    let [max_connections, max_channels] = read(value, ["max-connections", "max-channels"])?;
    Ok(UserLimits {
        max_connections,
        max_channels,
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
    let [max_connections, max_queues] = read(value, ["max-connections", "max-queues"])?;
    Ok(VHostLimits {
        max_connections,
        max_queues,
    })
}

fn read(value: &Value, known: [&str; 2]) -> Result<[Option<u64>; 2], String> {
    let Value::Object(limits) = value else {
        return Err(format!("limits should be a dictionary: {}", Term(value)));
    };
    if let Some(unknown) = limits.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(format!("unrecognised limit '{unknown}'"));
    }
    let mut read = [None; 2];
    for (limit, key) in read.iter_mut().zip(known) {
        *limit = limits
            .get(key)
            .map(|value| number(key, value))
            .transpose()?
            .flatten();
    }
    Ok(read)
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
