//! What an entry of each kind comes to: users, virtual hosts and what is set in them. What is declared in them is in
//! `declared.rs`.

use serde_json::{Map, Value, json};

use super::change::changes;
use super::fields::Fields;
use super::limits;
use super::plan::Outcome;
use super::step::{Step, VHostChange};
use super::view::{Refusal, VHostView, View, mistake};
use crate::auth::{
    ChangeError, HashingAlgorithm, PasswordHash, Permissions, UserEntry, check_name,
};
use crate::broker::arguments::QueueType;
use crate::broker::names::NAME_BYTES_MAX;
use crate::broker::policy::{Policy, PolicyKind};
use crate::broker::vhost::{VHostSettings, check_parameter};

/// What an entry does, and the step that does it, if anything is to be done.
pub(super) type Planned = Result<(Outcome, Option<Step>), Refusal>;

pub(super) fn user(view: &mut View, fields: &Fields<'_>) -> Planned {
    let name = fields.text("name")?;
    check_name(name).map_err(mistake)?;
    let before = view.users.get(name);
    let password = password(fields, before.map(|user| &user.password))?;
    let tags = fields.optional_tags("tags")?.unwrap_or_default();
    let limits = fields.find("limits").map(limits::of_user).transpose()?;
    let after = UserEntry {
        name: name.into(),
        password: password.clone(),
        tags: tags.iter().map(|tag| tag.as_str().into()).collect(),
        limits: limits.unwrap_or_else(|| before.map(|user| user.limits).unwrap_or_default()),
    };
    let outcome = before.map_or(Outcome::Created, |before| {
        let shown = |user: &UserEntry| {
            let tags: Vec<_> = user.tags.iter().map(|tag| &**tag).collect();
            json!({"tags": tags, "limits": user.limits})
        };
        let mut changed = changes(&shown(before), &shown(&after));
        if before.password != after.password {
            changed.push("another password".into());
        }
        Outcome::changed(changed)
    });
    view.users.insert(after.name.clone(), after);
    let name = name.to_owned();
    Ok(outcome.with(|| Step::User {
        name,
        password,
        tags,
        limits,
    }))
}

/// A password in clear keeps the hash that it has, if the user has it already.
fn password(fields: &Fields<'_>, before: Option<&PasswordHash>) -> Result<PasswordHash, String> {
    let hash = fields.optional_text("password_hash")?;
    match (hash, fields.optional_text("password")?) {
        // Such a user can only log in without a password.
        (Some(""), _) | (None, None) => Ok(PasswordHash::matching_nothing()),
        (Some(hash), _) => {
            let algorithm = fields.optional_one_of("hashing_algorithm")?;
            let algorithm = algorithm.unwrap_or(HashingAlgorithm::Sha256);
            PasswordHash::decode(algorithm, hash).map_err(|error| format!("password_hash: {error}"))
        }
        (None, Some(password)) => match before {
            Some(before) if before.matches(password.as_bytes()) => Ok(before.clone()),
            _ => PasswordHash::new(password).map_err(|error| error.to_string()),
        },
    }
}

pub(super) fn vhost(view: &mut View, fields: &Fields<'_>) -> Planned {
    let name = fields.text("name")?;
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(mistake(format!(
            "a name should have 1 to {NAME_BYTES_MAX} bytes"
        )));
    }
    let change = vhost_change(fields)?;
    let before = view.vhosts.get(name).map(|vhost| vhost.settings.clone());
    if before.is_none() {
        view.check_vhosts(name).map_err(mistake)?;
    }
    let new = || VHostSettings::of_new(view.default_queue_type);
    let mut after = before.clone().unwrap_or_else(new);
    change.apply(&mut after);
    let outcome = before.map_or(Outcome::Created, |before| {
        Outcome::changed(changes(&json!(before), &json!(after)))
    });
    match view.vhosts.get_mut(name) {
        Some(vhost) => vhost.settings = after,
        None => {
            let vhost = VHostView::new(name, after);
            view.vhosts.insert(vhost.name.clone(), vhost);
        }
    }
    let name = name.to_owned();
    Ok(outcome.with(|| Step::VHost { name, change }))
}

/// What is said of a virtual host, in the entry itself or, by newer exports, in its `metadata`.
fn vhost_change(fields: &Fields<'_>) -> Result<VHostChange, String> {
    let own = said_of_vhost(fields)?;
    let metadata = fields.optional_object("metadata")?;
    let Some(metadata) = metadata.as_ref().map(said_of_vhost).transpose()? else {
        return Ok(own);
    };
    Ok(VHostChange {
        description: own.description.or(metadata.description),
        tags: own.tags.or(metadata.tags),
        default_queue_type: own.default_queue_type.or(metadata.default_queue_type),
        protected_from_deletion: own
            .protected_from_deletion
            .or(metadata.protected_from_deletion),
    })
}

fn said_of_vhost(fields: &Fields<'_>) -> Result<VHostChange, String> {
    let named = fields.optional_text("default_queue_type")?;
    let named = named.filter(|name| *name != "undefined");
    Ok(VHostChange {
        description: fields.optional_text("description")?.map(str::to_owned),
        tags: fields.optional_tags("tags")?,
        default_queue_type: named.map(queue_type).transpose()?,
        protected_from_deletion: fields.optional_flag("protected_from_deletion")?,
    })
}

/// A type by its name, or by that of RabbitMQ's module.
fn queue_type(name: &str) -> Result<QueueType, String> {
    let all = [QueueType::Classic, QueueType::Quorum, QueueType::Stream];
    all.into_iter()
        .find(|known| name == known.name() || name == known.module())
        .ok_or_else(|| format!("unsupported queue type '{name}'"))
}

pub(super) fn permission(view: &mut View, fields: &Fields<'_>) -> Planned {
    let (user, vhost) = (fields.text("user")?, fields.text("vhost")?);
    let permissions = Permissions {
        configure: fields.text("configure")?.to_owned(),
        write: fields.text("write")?.to_owned(),
        read: fields.text("read")?.to_owned(),
    };
    view.vhost(vhost)?;
    check_name(vhost).map_err(mistake)?;
    permissions.check().map_err(mistake)?;
    if !view.users.contains_key(user) {
        let missing = || ChangeError::NoSuchUser(user.to_owned()).to_string();
        return Err(view.missing(super::Kind::Users, "", user, missing));
    }
    let key = (user.into(), vhost.into());
    let before = view.permissions.insert(key, permissions.clone());
    let outcome = before.map_or(Outcome::Created, |before| {
        Outcome::changed(changes(&json!(before), &json!(permissions)))
    });
    Ok(outcome.with(|| Step::Permissions {
        user: user.to_owned(),
        vhost: vhost.to_owned(),
        permissions,
    }))
}

pub(super) fn global_parameter(view: &mut View, fields: &Fields<'_>) -> Planned {
    let (name, value) = (fields.text("name")?, fields.value("value")?);
    check_parameter(&[name], value).map_err(mistake)?;
    let before = view.global_parameters.insert(name.into(), value.clone());
    Ok(set(before.as_ref(), value).with(|| Step::GlobalParameter {
        name: name.to_owned(),
        value: value.clone(),
    }))
}

pub(super) fn policy(view: &mut View, fields: &Fields<'_>) -> Planned {
    let (vhost, name) = (fields.text("vhost")?, fields.text("name")?);
    let mut source = fields.all().clone();
    source.retain(|key, _| !["vhost", "name"].contains(&key.as_str()));
    set_policy(view, PolicyKind::User, vhost, name, &source)
}

pub(super) fn parameter(view: &mut View, fields: &Fields<'_>) -> Planned {
    let (vhost, name) = (fields.text("vhost")?, fields.text("name")?);
    let (component, value) = (fields.text("component")?, fields.value("value")?);
    match (component, value) {
        ("operator_policy", Value::Object(source)) => {
            set_policy(view, PolicyKind::Operator, vhost, name, source)
        }
        ("operator_policy", _) => Err(mistake("its value is not an object")),
        ("vhost-limits", value) if name == "limits" => set_vhost_limits(view, vhost, value),
        (component, value) => {
            let found = view.vhost(vhost)?;
            check_parameter(&[component, name], value).map_err(mistake)?;
            let key = (component.into(), name.into());
            let before = found.parameters.insert(key, value.clone());
            Ok(set(before.as_ref(), value).with(|| Step::Parameter {
                vhost: vhost.to_owned(),
                component: component.to_owned(),
                name: name.to_owned(),
                value: value.clone(),
            }))
        }
    }
}

fn set_vhost_limits(view: &mut View, vhost: &str, value: &Value) -> Planned {
    let limits = limits::of_vhost(value)?;
    let settings = &mut view.vhost(vhost)?.settings;
    let outcome = Outcome::changed(changes(&json!(settings.limits), &json!(limits)));
    settings.limits = limits;
    let vhost = vhost.to_owned();
    Ok(outcome.with(|| Step::VHostLimits { vhost, limits }))
}

fn set_policy(
    view: &mut View,
    kind: PolicyKind,
    vhost: &str,
    name: &str,
    source: &Map<String, Value>,
) -> Planned {
    let found = view.vhost(vhost)?;
    let policy = Policy::parse(kind, name, source).map_err(|refused| refused.0.join("; "))?;
    let after = policy.to_json();
    let key = (kind, policy.name.clone());
    let before = found.policies.insert(key, after.clone());
    let vhost = vhost.to_owned();
    Ok(set(before.as_ref(), &after).with(|| Step::Policy {
        vhost,
        kind,
        policy,
    }))
}

/// What it means to set a value.
fn set(before: Option<&Value>, after: &Value) -> Outcome {
    before.map_or(Outcome::Created, |before| {
        Outcome::changed(changes(before, after))
    })
}
