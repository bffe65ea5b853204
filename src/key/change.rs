//! Update and rotation of a key (contract, admin API sections 5.3 and 5.4).

use std::time::Duration;

use super::api_key::{ApiKey, Metadata};
use super::limits::{InvalidField, NAME_MAX, check_metadata, check_networks, check_scopes, length};
use crate::cidr::CidrSet;
use crate::policy::{RateLimitPolicy, Visibility};

/// New field values; `None` leaves a field unchanged.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KeyChange {
    /// 0 to 255 characters.
    pub name: Option<String>,
    /// At most 100 scopes, each of 1 to 100 characters.
    pub scopes: Option<Vec<String>>,
    /// At most 65536 bytes when serialized as JSON.
    pub metadata: Option<Metadata>,
    /// `Some(None)` removes the rate limit.
    pub rate_limit: Option<Option<RateLimitPolicy>>,
    /// At most 50 ranges; an empty set removes the restriction.
    pub networks: Option<CidrSet>,
}

/// Arguments of a rotation: the new key and how it differs from the old one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RotateKey {
    /// Field values that differ from the old key.
    pub change: KeyChange,
    /// Visibility of the new key; `None` keeps that of the old key.
    pub visibility: Option<Visibility>,
    /// How long the old key stays active, at most 315360000 s and until its expiry; `None` or zero revokes it at once.
    pub revoke_old_after: Option<Duration>,
}

impl KeyChange {
    /// Checks every field against its limits.
    ///
    /// # Errors
    /// [`InvalidField`] for the first field that violates a limit.
    pub fn check(&self) -> Result<(), InvalidField> {
        self.name.iter().try_for_each(|name| length("name", name, 0, NAME_MAX))?;
        self.scopes.iter().try_for_each(|scopes| check_scopes(scopes))?;
        self.metadata.iter().try_for_each(check_metadata)?;
        self.networks.iter().try_for_each(check_networks)
    }

    /// Sets the new values on `key`.
    pub fn apply(self, key: &mut ApiKey) {
        if let Some(name) = self.name {
            key.name = name;
        }
        if let Some(scopes) = self.scopes {
            key.scopes = scopes.into_iter().collect();
        }
        if let Some(metadata) = self.metadata {
            key.metadata = metadata;
        }
        if let Some(rate_limit) = self.rate_limit {
            key.rate_limit = rate_limit;
        }
        if let Some(networks) = self.networks {
            key.networks = networks;
        }
    }
}
