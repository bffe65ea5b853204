//! The stored key.

use serde_json::{Map, Value};

use super::status::{EffectiveStatus, Revocation, Status};
use crate::cidr::CidrSet;
use crate::clock::Timestamp;
use crate::id::{KeyId, TenantId};
use crate::policy::{RateLimitPolicy, Scopes, Visibility};

/// Free-form JSON data stored with a key.
pub type Metadata = Map<String, Value>;

/// An issued or imported key (contract, admin API section 4.1). The secret is not part of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiKey {
    /// The tenant of the key.
    pub tenant: TenantId,
    /// The id under which the key is stored.
    pub id: KeyId,
    /// Display name, at most 255 characters.
    pub name: String,
    /// The actor that the key identifies; fixed at creation.
    pub actor_id: String,
    /// Granted permissions.
    pub scopes: Scopes,
    /// Free-form data.
    pub metadata: Metadata,
    /// The stored status. [`ApiKey::effective_status`] includes expiry.
    pub status: Status,
    /// Whether the key is secret or public.
    pub visibility: Visibility,
    /// When the key was created.
    pub create_time: Timestamp,
    /// When the key was last changed; use does not count as a change.
    pub update_time: Timestamp,
    /// The key is rejected after this time; `None` means that it does not expire.
    pub expire_time: Option<Timestamp>,
    /// An active key counts as revoked after this time, because a rotation replaced it; not later than `expire_time`.
    pub revoke_time: Option<Timestamp>,
    /// The key that replaced this one in a rotation.
    pub replaced_by: Option<KeyId>,
    /// When the key was last used, approximately.
    pub last_used_time: Option<Timestamp>,
    /// The rate limit of the key.
    pub rate_limit: Option<RateLimitPolicy>,
    /// Client addresses that may use the key; an empty set allows all.
    pub networks: CidrSet,
    /// Raised by every change: the copy with the higher version is the current one. Starts at the creation time in
    /// microseconds since 1970, so that a key imported again after its deletion has a higher version than the deleted one.
    pub version: u64,
}

impl ApiKey {
    /// An active, secret key that is created at `now`. It has no name, no actor and no scopes, and does not expire.
    pub fn new(tenant: TenantId, id: KeyId, now: Timestamp) -> Self {
        Self {
            tenant,
            id,
            name: String::new(),
            actor_id: String::new(),
            scopes: Scopes::default(),
            metadata: Metadata::new(),
            status: Status::Active,
            visibility: Visibility::Secret,
            create_time: now,
            update_time: now,
            expire_time: None,
            revoke_time: None,
            replaced_by: None,
            last_used_time: None,
            rate_limit: None,
            networks: CidrSet::default(),
            version: Self::first_version(now),
        }
    }

    /// The version of a key created at `now`.
    pub fn first_version(now: Timestamp) -> u64 {
        u64::try_from(now.timestamp_micros()).unwrap_or(1)
    }

    /// The status at `now`. A revoked key stays [`EffectiveStatus::Revoked`] after it expires.
    pub fn effective_status(&self, now: Timestamp) -> EffectiveStatus {
        EffectiveStatus::of(
            matches!(self.status, Status::Revoked(_)) || self.revoke_time.is_some_and(|end| now > end),
            self.expire_time.is_some_and(|expiry| now > expiry),
        )
    }

    /// The revocation that is in effect at `now`, if there is one.
    pub fn revocation(&self, now: Timestamp) -> Option<Revocation> {
        match &self.status {
            Status::Revoked(revocation) => Some(revocation.clone()),
            Status::Active => self.revoke_time.filter(|end| now > *end).map(|_| Revocation::superseded()),
        }
    }
}
