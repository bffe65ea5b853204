//! Keys in responses, and the members of keys in requests (contract, admin API sections 2, 4.1 and 4.2).

use std::num::NonZeroU64;
use std::time::Duration;

use chrono::SecondsFormat;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::enums::{KeyStatus, KeyVisibility, RevocationReason};
use super::schemas::{CidrText, ScopeText};
use crate::admin::error::ApiError;
use crate::admin::json::Int64;
use crate::cidr::CidrSet;
use crate::clock::Timestamp;
use crate::duration::{format_go, parse_extended, parse_go};
use crate::key::{ApiKey, Metadata, check_ranges};
use crate::policy::RateLimitPolicy as Policy;

/// An issued key. Unset optional members are omitted.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::admin) struct IssuedApiKey {
    /// A UUID version 4 for an issued key, 64 hexadecimal digits for an imported one.
    #[schema(min_length = 1)]
    key_id: String,
    /// The display name.
    #[schema(max_length = 255)]
    name: String,
    /// The owner of the key.
    actor_id: String,
    /// The scopes, in the given order.
    #[schema(value_type = Vec<ScopeText>, inline, max_items = 100)]
    scopes: Vec<String>,
    /// Custom data; `null` if there is none.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Metadata>,
    status: KeyStatus,
    #[schema(format = DateTime)]
    create_time: String,
    #[schema(format = DateTime)]
    update_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime, nullable = false)]
    expire_time: Option<String>,
    /// Of a key that a rotation replaced and left active: it counts as revoked after this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime, nullable = false)]
    revoke_time: Option<String>,
    /// The key that replaced this one in a rotation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    replaced_by: Option<String>,
    /// The last use, with a resolution of one day.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime, nullable = false)]
    last_used_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    rate_limit_policy: Option<RateLimitPolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    revocation_reason: Option<RevocationReason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    revocation_description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    ip_restriction: Option<IpRestriction>,
    visibility: KeyVisibility,
}

/// An imported key, with the members of an issued one.
#[derive(Debug, Serialize, ToSchema)]
#[serde(transparent)]
pub(in crate::admin) struct ImportedApiKey(pub(super) IssuedApiKey);

/// The rate limit of a key.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(in crate::admin) struct RateLimitPolicy {
    /// The number of requests per window, greater than 0.
    #[schema(value_type = String, format = Int64, required = false, pattern = "^[1-9][0-9]*$")]
    quota: Option<Int64>,
    /// Always `requests`.
    #[schema(nullable = false, pattern = "^requests$")]
    unit: Option<String>,
    /// The window in decimal seconds with the suffix `s`, for example `60s`.
    #[schema(nullable = false, pattern = "^[0-9]+(\\.0+)?s$")]
    window: Option<String>,
}

/// The networks from which a key may be used.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = IPRestriction)]
pub(in crate::admin) struct IpRestriction {
    /// CIDR ranges such as `10.0.0.0/8`, at most 50.
    #[serde(alias = "allowedCidrs")]
    #[schema(value_type = Vec<CidrText>, inline, max_items = 50, required = false)]
    allowed_cidrs: Option<Vec<String>>,
}

impl IssuedApiKey {
    /// Converts a key, with its status at `now`.
    pub(in crate::admin) fn new(key: &ApiKey, now: Timestamp) -> Self {
        let revocation = key.revocation(now);
        let reason = revocation.as_ref().map(|revocation| revocation.reason);
        Self {
            key_id: key.id.to_string(),
            name: key.name.clone(),
            actor_id: key.actor_id.clone(),
            scopes: key.scopes.iter().map(str::to_owned).collect(),
            metadata: object_or_null(key.metadata.clone()),
            status: key.effective_status(now).into(),
            create_time: time_text(key.create_time),
            update_time: time_text(key.update_time),
            expire_time: key.expire_time.map(time_text),
            revoke_time: key.revoke_time.map(time_text),
            replaced_by: key.replaced_by.map(|id| id.to_string()),
            last_used_time: key.last_used_time.map(time_text),
            rate_limit_policy: key.rate_limit.map(RateLimitPolicy::from),
            revocation_reason: reason
                .filter(|reason| *reason != crate::key::RevocationReason::default())
                .map(Into::into),
            revocation_description: revocation.and_then(|revocation| revocation.description),
            ip_restriction: (!key.networks.is_empty()).then(|| IpRestriction::of(&key.networks)),
            visibility: key.visibility.into(),
        }
    }
}

impl From<Policy> for RateLimitPolicy {
    fn from(policy: Policy) -> Self {
        Self {
            quota: Some(Int64(policy.quota.get().cast_signed())),
            unit: Some("requests".into()),
            window: Some(format!("{}s", policy.window.as_secs())),
        }
    }
}

impl RateLimitPolicy {
    /// Validates and converts the policy.
    pub(in crate::admin) fn read(&self) -> Result<Policy, ApiError> {
        let quota = self.quota.and_then(|quota| u64::try_from(quota.0).ok()).and_then(NonZeroU64::new);
        let quota = quota.ok_or_else(|| ApiError::invalid("rate_limit_policy.quota must be greater than 0"))?;
        let window = self.window.as_deref().map_or(Ok(Duration::ZERO), seconds)?;
        if window < Duration::from_secs(1) {
            return Err(ApiError::invalid("rate limit window must be at least 1 second"));
        }
        if window.subsec_nanos() != 0 || i64::try_from(window.as_secs()).is_err() {
            let text = format_go(window);
            return Err(ApiError::invalid(format!("rate_limit_policy.window must be whole seconds, not {text}")));
        }
        match self.unit.as_deref() {
            None | Some("" | "requests") => Ok(Policy { quota, window }),
            Some(_) => Err(ApiError::invalid("rate_limit_policy.unit must be requests")),
        }
    }
}

impl IpRestriction {
    /// The ranges of a set.
    pub(in crate::admin) fn of(networks: &CidrSet) -> Self {
        Self { allowed_cidrs: Some(networks.texts().iter().map(ToString::to_string).collect()) }
    }

    /// Validates and converts the ranges.
    pub(in crate::admin) fn read(&self) -> Result<CidrSet, ApiError> {
        let ranges = self.allowed_cidrs.as_deref().unwrap_or_default();
        // The length is checked before parsing, because a parse error contains the invalid text.
        check_ranges(ranges).map_err(|error| ApiError::invalid(error.0))?;
        CidrSet::parse(ranges).map_err(|error| ApiError::invalid(error.to_string()))
    }
}

/// Parses decimal seconds with the suffix `s`.
fn seconds(text: &str) -> Result<Duration, ApiError> {
    let number = text.strip_suffix('s');
    let number = number.filter(|number| number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'));
    number
        .and_then(|_| parse_go(text).ok())
        .ok_or_else(|| ApiError::invalid("rate_limit_policy.window must be decimal seconds and s, for example 60s"))
}

/// Parses a duration in the grammar of `ttl` (contract, admin API section 2.1).
pub(in crate::admin) fn read_ttl(text: Option<&str>) -> Result<Option<Duration>, ApiError> {
    read_duration("ttl", text)
}

/// Parses the duration in a member, in the grammar of `ttl`.
pub(super) fn read_duration(member: &str, text: Option<&str>) -> Result<Option<Duration>, ApiError> {
    let read = |text| parse_extended(text).map_err(|error| ApiError::invalid(format!("{member} {error}")));
    text.map(read).transpose()
}

/// The object, or `None` (`null`) if it is empty.
pub(super) fn object_or_null(object: Metadata) -> Option<Metadata> {
    (!object.is_empty()).then_some(object)
}

/// Formats a time by RFC 3339, in UTC with 0, 3, 6 or 9 fraction digits.
pub(in crate::admin) fn time_text(time: Timestamp) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_must_be_in_seconds() {
        for (text, is_valid) in
            [("60s", true), ("1.5s", true), ("1m", false), ("60", false), ("1m30s", false), ("s", false)]
        {
            assert_eq!(seconds(text).is_ok(), is_valid, "{text}");
        }
    }
}
