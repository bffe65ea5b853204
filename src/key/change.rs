//! Changes to a key that lives on, and to the one that takes its place (contract, admin API sections 5.3 and 5.4).

use super::limits::{InvalidField, NAME_MAX, check_metadata, check_networks, check_scopes, length};
use super::{ApiKey, Metadata};
use crate::cidr::CidrSet;
use crate::policy::{RateLimitPolicy, Visibility};

/// New values of fields; what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KeyChange {
    /// 0 to 255 characters.
    pub name: Option<String>,
    /// At most 100, each of 1 to 100 characters.
    pub scopes: Option<Vec<String>>,
    /// At most 65536 bytes as JSON.
    pub metadata: Option<Metadata>,
    /// `Some(None)` removes the limit.
    pub rate_limit: Option<Option<RateLimitPolicy>>,
    /// At most 50 ranges; an empty set removes the restriction.
    pub networks: Option<CidrSet>,
}

/// A new key in the place of another.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RotateKey {
    /// In what the new key differs.
    pub change: KeyChange,
    /// The new key's visibility; the old one's when absent.
    pub visibility: Option<Visibility>,
}

impl KeyChange {
    /// Checks every limit.
    ///
    /// # Errors
    /// The first field that breaks its limit.
    pub fn check(&self) -> Result<(), InvalidField> {
        self.name.iter().try_for_each(|name| length("name", name, 0, NAME_MAX))?;
        self.scopes.iter().try_for_each(|scopes| check_scopes(scopes))?;
        self.metadata.iter().try_for_each(check_metadata)?;
        self.networks.iter().try_for_each(check_networks)
    }

    /// Puts the new values in.
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
