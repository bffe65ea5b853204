//! Keys as JSON, both ways (contract, admin API sections 2, 4.1 and 5.1).

use std::num::NonZeroU64;
use std::time::Duration;

use chrono::SecondsFormat;
use serde_json::{Value, json};

use crate::admin::error::ApiError;
use crate::admin::json::Message;
use crate::cidr::CidrSet;
use crate::clock::Timestamp;
use crate::duration::format_go;
use crate::key::{ApiKey, KeyDraft, Metadata, RevocationReason, State, Status};
use crate::policy::{RateLimitPolicy, Visibility};

const VISIBILITIES: [(&str, Visibility); 3] = [
    // Unspecified counts as secret.
    ("KEY_VISIBILITY_UNSPECIFIED", Visibility::Secret),
    ("KEY_VISIBILITY_SECRET", Visibility::Secret),
    ("KEY_VISIBILITY_PUBLIC", Visibility::Public),
];

/// A key as callers see it. Members that are left out when unset come only when set; all others always.
pub(super) fn key_json(key: &ApiKey, now: Timestamp) -> Value {
    let mut object = json!({
        "key_id": key.id.to_string(),
        "name": key.name,
        "actor_id": key.actor_id,
        "scopes": key.scopes.as_slice(),
        "metadata": metadata_json(&key.metadata),
        "status": status_name(key.state(now)),
        "create_time": time_text(key.create_time),
        "update_time": time_text(key.update_time),
        "visibility": visibility_name(key.visibility),
    });
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            object[name] = value;
        }
    };
    set("expire_time", key.expire_time.map(|time| time_text(time).into()));
    set("last_used_time", key.last_used_time.map(|time| time_text(time).into()));
    set("rate_limit_policy", key.rate_limit.as_ref().map(rate_limit_json));
    let ranges = key.networks.texts();
    set("ip_restriction", (!ranges.is_empty()).then(|| json!({ "allowed_cidrs": ranges })));
    if let Status::Revoked(revocation) = &key.status {
        let given = revocation.reason != RevocationReason::Unspecified;
        set("revocation_reason", given.then(|| revocation.reason.name().into()));
        set("revocation_description", revocation.description.as_deref().map(Into::into));
    }
    object
}

/// Free-form data; nothing is `null`.
pub(super) fn metadata_json(metadata: &Metadata) -> Value {
    if metadata.is_empty() { Value::Null } else { Value::Object(metadata.clone()) }
}

/// A policy.
pub(super) fn rate_limit_json(policy: &RateLimitPolicy) -> Value {
    json!({ "quota": policy.quota.to_string(), "unit": "requests", "window": format!("{}s", policy.window.as_secs()) })
}

/// RFC 3339 in UTC with 0, 3, 6 or 9 fraction digits.
pub(super) fn time_text(time: Timestamp) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// The name of a state.
pub(super) fn status_name(state: State) -> &'static str {
    match state {
        State::Active => "KEY_STATUS_ACTIVE",
        State::Revoked => "KEY_STATUS_REVOKED",
        State::Expired => "KEY_STATUS_EXPIRED",
    }
}

/// The name of a visibility.
pub(super) fn visibility_name(visibility: Visibility) -> &'static str {
    match visibility {
        Visibility::Secret => "KEY_VISIBILITY_SECRET",
        Visibility::Public => "KEY_VISIBILITY_PUBLIC",
    }
}

/// The key that a message wants.
pub(super) fn read_draft(message: &Message) -> Result<KeyDraft, ApiError> {
    Ok(KeyDraft {
        name: message.string("name")?.unwrap_or_default(),
        actor_id: message.string("actor_id")?.unwrap_or_default(),
        scopes: message.strings("scopes")?,
        ttl: message.ttl("ttl")?,
        metadata: message.object("metadata")?,
        rate_limit: message.message("rate_limit_policy")?.as_ref().map(read_rate_limit).transpose()?,
        networks: read_networks(message)?,
        request_id: message.string("request_id")?,
        visibility: message.choice("visibility", &VISIBILITIES)?.unwrap_or_default(),
    })
}

fn read_rate_limit(message: &Message) -> Result<RateLimitPolicy, ApiError> {
    let quota = message.int64("quota")?.unwrap_or(0);
    let quota = u64::try_from(quota).ok().and_then(NonZeroU64::new);
    let quota = quota.ok_or_else(|| ApiError::invalid("rate_limit_policy.quota must be greater than 0"))?;
    let window = message.seconds("window")?.unwrap_or_default();
    if window < Duration::from_secs(1) {
        return Err(ApiError::invalid("rate limit window must be at least 1 second"));
    }
    if window.subsec_nanos() != 0 || i64::try_from(window.as_secs()).is_err() {
        let text = format_go(window);
        return Err(ApiError::invalid(format!("rate_limit_policy.window must be whole seconds, not {text}")));
    }
    match message.string("unit")?.as_deref() {
        None | Some("" | "requests") => Ok(RateLimitPolicy { quota, window }),
        Some(_) => Err(ApiError::invalid("rate_limit_policy.unit must be requests")),
    }
}

fn read_networks(message: &Message) -> Result<CidrSet, ApiError> {
    let ranges = match message.message("ip_restriction")? {
        Some(restriction) => restriction.strings("allowed_cidrs")?,
        None => Vec::new(),
    };
    CidrSet::parse(&ranges).map_err(|error| ApiError::invalid(error.to_string()))
}
