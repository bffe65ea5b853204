//! The members of a key in `before` and `after`, named as on the wire. The last use and the version are not among them: the
//! first is no mutation, the second is implied.

use chrono::SecondsFormat;
use serde_json::{Map, Value, json};

use crate::clock::Timestamp;
use crate::key::{ApiKey, EffectiveStatus, Status};
use crate::policy::Visibility;

/// All members of a key.
pub(super) fn members(key: &ApiKey) -> Map<String, Value> {
    let (status, revocation) = match &key.status {
        Status::Active => (EffectiveStatus::Active, None),
        Status::Revoked(revocation) => (EffectiveStatus::Revoked, Some(revocation)),
    };
    let visibility = match key.visibility {
        Visibility::Secret => "KEY_VISIBILITY_SECRET",
        Visibility::Public => "KEY_VISIBILITY_PUBLIC",
    };
    let mut members = Map::new();
    let mut add = |name: &str, value: Value| members.insert(name.to_owned(), value);
    add("name", key.name.as_str().into());
    add("actor_id", key.actor_id.as_str().into());
    add("scopes", json!(key.scopes.as_slice()));
    add("metadata", Value::Object(key.metadata.clone()));
    add("status", status.name().into());
    add("visibility", visibility.into());
    add("create_time", time(key.create_time));
    if let Some(expiry) = key.expire_time {
        add("expire_time", time(expiry));
    }
    if let Some(time_to_revoke) = key.revoke_time {
        add("revoke_time", time(time_to_revoke));
    }
    if let Some(new) = key.replaced_by {
        add("replaced_by", new.to_string().into());
    }
    if let Some(limit) = key.rate_limit {
        add(
            "rate_limit_policy",
            json!({"quota": limit.quota.to_string(), "window": format!("{}s", limit.window.as_secs())}),
        );
    }
    if !key.networks.texts().is_empty() {
        add("ip_restriction", json!({"allowed_cidrs": key.networks.texts()}));
    }
    if let Some(revocation) = revocation {
        add("revocation_reason", revocation.reason.name().into());
        if let Some(description) = &revocation.description {
            add("revocation_description", description.as_str().into());
        }
    }
    members
}

/// The members that differ, with their values before and after.
pub(crate) fn changed(before: &ApiKey, after: &ApiKey) -> (Map<String, Value>, Map<String, Value>) {
    let (mut before, mut after) = (members(before), members(after));
    let equal: Vec<String> =
        before.iter().filter(|(name, value)| after.get(*name) == Some(value)).map(|(name, _)| name.clone()).collect();
    for name in equal {
        before.remove(&name);
        after.remove(&name);
    }
    (before, after)
}

fn time(time: Timestamp) -> Value {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true).into()
}
