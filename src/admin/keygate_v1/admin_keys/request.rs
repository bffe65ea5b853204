//! Requests to create and to revoke admin keys.

use serde::Deserialize;
use utoipa::ToSchema;

use crate::admin::auth::{AdminGrant, NewAdminKey};
use crate::admin::error::ApiError;
use crate::admin::json::EnumOrUnknown;
use crate::admin::keygate_v1::schemas::{ActorPrefixText, RoleText};
use crate::admin::v2alpha1::enums::RevocationReason;
use crate::admin::v2alpha1::key::{IpRestriction, RateLimitPolicy, read_ttl};
use crate::cidr::CidrSet;
use crate::key::RevokeKey;

/// A request to create an admin key.
#[derive(Deserialize, ToSchema)]
pub(in crate::admin) struct CreateAdminKeyRequest {
    /// A display name, 1 to 255 characters.
    #[schema(required, nullable = false, min_length = 1, max_length = 255)]
    name: Option<String>,
    /// What the key permits.
    #[schema(value_type = Vec<RoleText>, inline, required, min_items = 1)]
    roles: Option<Vec<String>>,
    /// Prefixes of the actors whose keys it may name; every actor if absent or empty.
    #[schema(value_type = Vec<ActorPrefixText>, inline, required = false, max_items = 100)]
    actors: Option<Vec<String>>,
    /// The lifetime, such as `12h` or `30d`; the default of keys if absent.
    #[schema(nullable = false, pattern = "^([0-9]+(\\.[0-9]+)?(ns|us|µs|ms|s|m|h|d|w|mo|y))+$")]
    ttl: Option<String>,
    #[serde(alias = "rateLimitPolicy")]
    #[schema(nullable = false)]
    rate_limit_policy: Option<RateLimitPolicy>,
    #[serde(alias = "ipRestriction")]
    #[schema(nullable = false)]
    ip_restriction: Option<IpRestriction>,
    /// An idempotency key, at most 36 characters.
    #[serde(alias = "requestId")]
    #[schema(nullable = false, max_length = 36)]
    request_id: Option<String>,
}

/// A request to revoke an admin key.
#[derive(Deserialize, ToSchema)]
pub(in crate::admin) struct RevokeAdminKeyRequest {
    #[schema(value_type = RevocationReason, required = false)]
    reason: Option<EnumOrUnknown<RevocationReason>>,
    /// Only with `REVOCATION_REASON_PRIVILEGE_WITHDRAWN`; at most 500 characters.
    #[schema(nullable = false, max_length = 500)]
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
