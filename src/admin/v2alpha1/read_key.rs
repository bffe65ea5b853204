//! Reads keys as an API of this contract returns them (admin API section 4.1), with everything that a stored key has.

use chrono::{SubsecRound, Utc};
use serde::Deserialize;
use serde_json::Value;

use super::enums::{KeyStatus, KeyVisibility, RevocationReason};
use super::key::{IpRestriction, RateLimitPolicy};
use crate::admin::error::ApiError;
use crate::admin::json::{EnumOrUnknown, read};
use crate::cidr::CidrSet;
use crate::clock::Timestamp;
use crate::id::{KeyId, KeyKind, TenantId};
use crate::key::{ApiKey, Metadata, Revocation, Status, check_key};

/// A key in a response.
#[derive(Deserialize)]
struct ReturnedKey {
    key_id: String,
    name: Option<String>,
    actor_id: Option<String>,
    scopes: Option<Vec<String>>,
    metadata: Option<Metadata>,
    status: Option<EnumOrUnknown<KeyStatus>>,
    create_time: Option<String>,
    update_time: Option<String>,
    expire_time: Option<String>,
    revoke_time: Option<String>,
    replaced_by: Option<String>,
    last_used_time: Option<String>,
    rate_limit_policy: Option<RateLimitPolicy>,
    revocation_reason: Option<EnumOrUnknown<RevocationReason>>,
    revocation_description: Option<String>,
    ip_restriction: Option<IpRestriction>,
    visibility: Option<EnumOrUnknown<KeyVisibility>>,
}

/// The record of a key that another installation returned. `now` gives its version, so that it replaces an earlier key of this id in caches.
///
/// # Errors
/// The member that is missing or not valid; the text never has its value.
pub fn read_key(tenant: TenantId, kind: KeyKind, key: Value, now: Timestamp) -> Result<ApiKey, String> {
    let Value::Object(members) = key else { return Err("the key is not a JSON object".into()) };
    let returned: ReturnedKey = read(members).map_err(|error| error.message().to_owned())?;
    returned.record(tenant, kind, now)
}

impl ReturnedKey {
    fn record(self, tenant: TenantId, kind: KeyKind, now: Timestamp) -> Result<ApiKey, String> {
        let message = |error: ApiError| error.message().to_owned();
        let create_time = required("create_time", time("create_time", self.create_time.as_deref())?)?;
        let key = ApiKey {
            tenant,
            id: KeyId::parse(kind, &self.key_id).ok_or("key_id is not the id of such a key")?,
            status: self.status()?,
            visibility: required("visibility", known(self.visibility).and_then(KeyVisibility::read))?,
            create_time,
            update_time: time("update_time", self.update_time.as_deref())?.unwrap_or(create_time),
            expire_time: time("expire_time", self.expire_time.as_deref())?,
            revoke_time: time("revoke_time", self.revoke_time.as_deref())?,
            replaced_by: match &self.replaced_by {
                Some(id) => Some(KeyId::parse_issued(id).ok_or("replaced_by is not the id of an issued key")?),
                None => None,
            },
            last_used_time: time("last_used_time", self.last_used_time.as_deref())?,
            rate_limit: self.rate_limit_policy.as_ref().map(RateLimitPolicy::read).transpose().map_err(message)?,
            networks: self
                .ip_restriction
                .as_ref()
                .map_or(Ok(CidrSet::default()), IpRestriction::read)
                .map_err(message)?,
            name: self.name.unwrap_or_default(),
            actor_id: self.actor_id.unwrap_or_default(),
            scopes: self.scopes.unwrap_or_default().into_iter().collect(),
            metadata: self.metadata.unwrap_or_default(),
            version: ApiKey::first_version(now),
        };
        check_key(&key).map_err(|error| error.to_string())?;
        Ok(key)
    }

    /// The stored status. A key with a time to be revoked is stored as active, also after that time.
    fn status(&self) -> Result<Status, String> {
        if !required("status", known(self.status).and_then(KeyStatus::is_revoked))? || self.revoke_time.is_some() {
            return Ok(Status::Active);
        }
        let reason = known(self.revocation_reason).map_or_else(Default::default, Into::into);
        Ok(Status::Revoked(Revocation { reason, description: self.revocation_description.clone() }))
    }
}

fn known<T: Copy>(value: Option<EnumOrUnknown<T>>) -> Option<T> {
    value.and_then(|value| value.0)
}

fn required<T>(member: &str, value: Option<T>) -> Result<T, String> {
    value.ok_or_else(|| format!("{member} is missing or not known"))
}

/// A time with the precision of stores.
fn time(member: &str, text: Option<&str>) -> Result<Option<Timestamp>, String> {
    let read =
        |text| chrono::DateTime::parse_from_rfc3339(text).map_err(|_| format!("{member} is not an RFC 3339 time"));
    Ok(text.map(read).transpose()?.map(|time| time.with_timezone(&Utc).trunc_subsecs(6)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::key::IssuedApiKey;
    use super::*;
    use crate::key::EffectiveStatus;
    use crate::policy::Visibility;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_timestamp(1_780_000_000 + seconds, 123_456_000).unwrap()
    }

    fn key() -> ApiKey {
        let value = json!({
            "key_id": "11111111-2222-4333-8444-555555555555", "name": "", "actor_id": "a", "scopes": ["x", "x"],
            "metadata": {"n": 9_007_199_254_740_993_i64}, "status": "KEY_STATUS_ACTIVE", "visibility": "KEY_VISIBILITY_PUBLIC",
            "create_time": "2026-05-28T20:26:40.123456789Z", "update_time": "2026-05-28T20:26:41Z",
            "expire_time": "2026-06-28T20:26:40Z", "last_used_time": "2026-05-29T00:00:00Z",
            "rate_limit_policy": {"quota": "7", "unit": "requests", "window": "60s"},
            "ip_restriction": {"allowed_cidrs": ["10.0.0.0/8"]}, "unknown": [1]
        });
        read_key(TenantId::NIL, KeyKind::Issued, value, at(9)).unwrap()
    }

    #[test]
    fn every_state_of_a_key_is_read_as_it_is_stored() {
        let revoked =
            Revocation { reason: crate::key::RevocationReason::PrivilegeWithdrawn, description: Some("left".into()) };
        let replaced = KeyId::parse_issued("22222222-2222-4333-8444-555555555555");
        for (stored, status) in [
            (key(), EffectiveStatus::Active),
            (ApiKey { expire_time: Some(at(-5)), visibility: Visibility::Secret, ..key() }, EffectiveStatus::Expired),
            (ApiKey { expire_time: None, rate_limit: None, last_used_time: None, ..key() }, EffectiveStatus::Active),
            (
                ApiKey { status: Status::Revoked(revoked), networks: CidrSet::default(), ..key() },
                EffectiveStatus::Revoked,
            ),
            (ApiKey { revoke_time: Some(at(5)), replaced_by: replaced, ..key() }, EffectiveStatus::Active),
            (ApiKey { revoke_time: Some(at(-5)), replaced_by: replaced, ..key() }, EffectiveStatus::Revoked),
        ] {
            let returned = serde_json::to_value(IssuedApiKey::new(&stored, at(0))).unwrap();
            let read = read_key(TenantId::NIL, KeyKind::Issued, returned, at(9)).unwrap();
            assert_eq!((&read, read.effective_status(at(0))), (&stored, status));
        }
        assert_eq!(key().version, ApiKey::first_version(at(9)));
    }

    #[test]
    fn error_names_the_member() {
        let returned = serde_json::to_value(IssuedApiKey::new(&key(), at(0))).unwrap();
        for (member, value) in [
            ("key_id", json!("AAAA")),
            ("status", json!("KEY_STATUS_NEW")),
            ("visibility", json!("KEY_VISIBILITY_UNSPECIFIED")),
            ("create_time", json!(null)),
            ("expire_time", json!("tomorrow")),
            ("scopes", json!([""])),
            ("actor_id", json!("")),
            ("rate_limit_policy", json!({"quota": "0", "window": "60s"})),
        ] {
            let mut changed = returned.clone();
            changed[member] = value;
            let error = read_key(TenantId::NIL, KeyKind::Issued, changed, at(9)).unwrap_err();
            assert!(error.contains(member), "{member}: {error}");
        }
        assert!(read_key(TenantId::NIL, KeyKind::Imported, returned, at(9)).is_err());
        assert!(read_key(TenantId::NIL, KeyKind::Issued, json!([]), at(9)).is_err());
    }
}
