//! `retention`: what is taken out in the course of time.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::load::Problems;
use crate::duration::ConfigDuration;

/// Long enough to see a mistake before keys are gone.
const EXPIRED_KEYS_MIN: Duration = Duration::from_secs(24 * 3600);

/// What is taken out in the course of time.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionConfig {
    /// How long a key is kept after its `expire_time`, which for a revoked key is 30 days after the revocation at the earliest;
    /// `0s` for ever, else `24h` or more. What ended longer ago is deleted for good.
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
            problems.add("retention.expired_keys", "must be 0s, which keeps keys for ever, or 24h or more");
        }
    }
}
