//! `gateway.limits`: rate limits in addition to those of keys.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problems::Problems;
use crate::duration::ConfigDuration;

/// A rate limit.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitConfig {
    /// Number of requests per window; also the burst size.
    #[schemars(range(max = 1_000_000_000))]
    pub quota: std::num::NonZeroU64,
    /// Length of the window, at least one second. Tokens are replenished evenly over it.
    pub window: ConfigDuration,
    /// Which requests are counted together. Requests without a credential are counted by client address.
    #[serde(default)]
    pub count_by: CountBy,
    /// Whether the limit only counts and reports. Dry-run limits never reject.
    #[serde(default)]
    pub dry_run: bool,
}

/// Which requests are counted together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CountBy {
    /// Those of a key and of its derived tokens.
    #[default]
    Key,
    /// Those of all keys of an actor.
    Actor,
    /// All requests of the tenant.
    Tenant,
    /// Those of a client address.
    Address,
}

impl LimitConfig {
    pub(super) fn validate(&self, path: &str, name: &str, problems: &mut Problems) {
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if !(1..=64).contains(&name.len()) || !plain {
            problems.add(path, "must have a name of 1 to 64 letters, digits, dots, dashes and underscores");
        }
        if name == "default" {
            problems.add(path, "must have another name: default is the limit of the key itself");
        }
        if self.window.0 < Duration::from_secs(1) {
            problems.add(&format!("{path}.window"), "must be at least 1s");
        }
    }
}
