//! Admin keys in responses.

use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use utoipa::ToSchema;

use crate::admin::auth::AdminGrant;
use crate::admin::keygate_v1::schemas::RoleText;
use crate::admin::v2alpha1::enums::{KeyStatus, RevocationReason};
use crate::admin::v2alpha1::key::{IpRestriction, RateLimitPolicy, time_text};
use crate::clock::Timestamp;
use crate::key::{ApiKey, Status};

/// An admin key. Unset optional members are omitted.
#[derive(Debug, Serialize, ToSchema)]
pub struct AdminKey {
    key_id: String,
    name: String,
    #[schema(value_type = Vec<RoleText>, inline)]
    roles: Vec<&'static str>,
    /// The prefixes of the actors that it is bound to; empty for every actor.
    #[schema(value_type = Vec<String>)]
    actors: Vec<Box<str>>,
    status: KeyStatus,
    #[schema(format = DateTime)]
    create_time: String,
    #[schema(format = DateTime)]
    update_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime, nullable = false)]
    expire_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime, nullable = false)]
    last_used_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    rate_limit_policy: Option<RateLimitPolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    ip_restriction: Option<IpRestriction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    revocation_reason: Option<RevocationReason>,
}

/// A new admin key and its secret.
#[derive(Serialize, ToSchema)]
pub struct NewAdminKeyResponse {
    admin_key: AdminKey,
    /// The text of the key. It is returned only once: empty if an earlier request with the same `request_id` has returned it.
    secret: String,
    /// The key that was rotated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    old_admin_key: Option<AdminKey>,
}

impl AdminKey {
    /// Converts a record, with its status at `now`.
    pub fn new(key: &ApiKey, now: Timestamp) -> Self {
        let grant = AdminGrant::of_record(&key.scopes, &key.metadata);
        let reason = match &key.status {
            Status::Revoked(revocation) => Some(revocation.reason),
            Status::Active => None,
        };
        Self {
            key_id: key.id.to_string(),
            name: key.name.clone(),
            roles: grant.role_names(),
            actors: grant.actors.prefixes().unwrap_or_default().to_vec(),
            status: key.effective_status(now).into(),
            create_time: time_text(key.create_time),
            update_time: time_text(key.update_time),
            expire_time: key.expire_time.map(time_text),
            last_used_time: key.last_used_time.map(time_text),
            rate_limit_policy: key.rate_limit.map(RateLimitPolicy::from),
            ip_restriction: (!key.networks.is_empty()).then(|| IpRestriction::of(&key.networks)),
            revocation_reason: reason
                .filter(|reason| *reason != crate::key::RevocationReason::default())
                .map(Into::into),
        }
    }
}

impl NewAdminKeyResponse {
    /// The response for a new key.
    pub fn new(key: &ApiKey, secret: Option<&SecretString>, now: Timestamp) -> Self {
        let secret = secret.map_or_else(String::new, |secret| secret.expose_secret().to_owned());
        Self { admin_key: AdminKey::new(key, now), secret, old_admin_key: None }
    }

    /// The response with the key that was rotated.
    pub(super) fn replacing(self, old: &ApiKey, now: Timestamp) -> Self {
        Self { old_admin_key: Some(AdminKey::new(old, now)), ..self }
    }
}
