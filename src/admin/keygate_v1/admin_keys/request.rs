//! Requests to create and to revoke admin keys.

use serde::Deserialize;

use crate::admin::auth::{AdminGrant, NewAdminKey};
use crate::admin::error::ApiError;
use crate::admin::json::EnumOrUnknown;
use crate::admin::v2alpha1::enums::RevocationReason;
use crate::admin::v2alpha1::key::{IpRestriction, RateLimitPolicy, read_ttl};
use crate::cidr::CidrSet;
use crate::key::RevokeKey;

/// A request to create an admin key.
#[derive(Deserialize)]
pub(super) struct CreateAdminKeyRequest {
    /// A display name, 1 to 255 characters.
    name: Option<String>,
    /// At least one of `read`, `verify`, `manage` and `admin`.
    roles: Option<Vec<String>>,
    /// Prefixes of the actors whose keys it may name; every actor if absent or empty.
    actors: Option<Vec<String>>,
    /// The lifetime, such as `12h` or `30d`; the default of keys if absent.
    ttl: Option<String>,
    #[serde(alias = "rateLimitPolicy")]
    rate_limit_policy: Option<RateLimitPolicy>,
    #[serde(alias = "ipRestriction")]
    ip_restriction: Option<IpRestriction>,
    /// An idempotency key, at most 36 characters.
    #[serde(alias = "requestId")]
    request_id: Option<String>,
}

/// A request to revoke an admin key.
#[derive(Deserialize)]
pub(super) struct RevokeAdminKeyRequest {
    reason: Option<EnumOrUnknown<RevocationReason>>,
    /// Only with `REVOCATION_REASON_PRIVILEGE_WITHDRAWN`; at most 500 characters.
    description: Option<String>,
}

impl CreateAdminKeyRequest {
    pub(super) fn read(self) -> Result<NewAdminKey, ApiError> {
        let (roles, actors) = (self.roles.unwrap_or_default(), self.actors.unwrap_or_default());
        Ok(NewAdminKey {
            name: self.name.unwrap_or_default(),
            grant: AdminGrant::parse(&roles, &actors).map_err(ApiError::invalid)?,
            ttl: read_ttl(self.ttl.as_deref())?,
            networks: self.ip_restriction.as_ref().map_or(Ok(CidrSet::default()), IpRestriction::read)?,
            rate_limit: self.rate_limit_policy.as_ref().map(RateLimitPolicy::read).transpose()?,
            request_id: self.request_id,
        })
    }
}

impl RevokeAdminKeyRequest {
    pub(super) fn read(self) -> RevokeKey {
        let reason = self.reason.and_then(|value| value.0).map(Into::into).unwrap_or_default();
        RevokeKey { reason, description: self.description }
    }
}
