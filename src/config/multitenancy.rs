//! `multitenancy`: multiple tenants, selected by request host.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problems::Problems;

/// Multiple tenants, selected by request host. Not supported by this version: only `enabled: false` is accepted.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MultitenancyConfig {
    /// Whether multiple tenants are enabled.
    pub enabled: bool,
    /// The tenants.
    pub networks: Vec<NetworkConfig>,
}

/// A tenant.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// The request host that selects the tenant.
    pub hostname: String,
    /// The tenant's id, a lower-case UUID.
    pub id: String,
    /// Path of the tenant's own configuration file.
    pub config_path: String,
}

impl MultitenancyConfig {
    pub(super) fn validate(&self, problems: &mut Problems) {
        problems.unsupported(self.enabled, "multitenancy.enabled", "set it to false");
    }
}
