//! `quota`: limits on the number of keys.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Limits on the number of keys.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QuotaConfig {
    /// Maximum number of active keys; unlimited when 0 or absent.
    pub api_keys_max: Option<u64>,
}
