//! `usage`: what the requests of each key add up to.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problems::Problems;
use crate::duration::ConfigDuration;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The usage of keys: requests, refusals and bytes, by key and hour.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UsageConfig {
    /// Whether requests are counted by key.
    pub enabled: bool,
    /// How long the usage of an hour is kept. `0s` keeps it without time limit; otherwise `24h` or more.
    pub retention: ConfigDuration,
    /// How often counts are written to the database. A process that is killed loses what it counted since.
    pub flush_interval: ConfigDuration,
    /// Maximum number of counters that a node has in memory: one for each key, hour and reason of a refusal, about 200 bytes each.
    /// Requests of further keys are counted without their keys.
    #[schemars(range(min = 1000, max = 10_000_000))]
    pub max_counters: u32,
}

impl Default for UsageConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            retention: ConfigDuration(90 * DAY),
            flush_interval: ConfigDuration(Duration::from_secs(30)),
            max_counters: 100_000,
        }
    }
}

impl UsageConfig {
    pub(super) fn validate(&self, problems: &mut Problems) {
        if !self.retention.0.is_zero() && self.retention.0 < DAY {
            problems.add("usage.retention", "must be 0s (keep the usage without time limit) or 24h or more");
        }
        if self.flush_interval.0.is_zero() {
            problems.add("usage.flush_interval", "must be more than zero");
        }
    }
}
