//! `retention`: deletion of expired keys.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problems::Problems;
use crate::duration::ConfigDuration;

/// Leaves time to notice a mistake before keys are deleted.
const EXPIRED_KEYS_MIN: Duration = Duration::from_secs(24 * 3600);

/// Deletion of expired keys.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionConfig {
    /// How long a key is kept after its `expire_time`; after that it is deleted permanently. The `expire_time` of a revoked key
    /// is at least 30 days after its revocation. `0s` keeps keys without time limit; otherwise `24h` or more.
    pub expired_keys: ConfigDuration,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self { expired_keys: ConfigDuration(Duration::ZERO) }
    }
}

impl RetentionConfig {
    pub(super) fn validate(&self, problems: &mut Problems) {
        if !self.expired_keys.0.is_zero() && self.expired_keys.0 < EXPIRED_KEYS_MIN {
            problems.add("retention.expired_keys", "must be 0s (keep keys without time limit) or 24h or more");
        }
    }
}
