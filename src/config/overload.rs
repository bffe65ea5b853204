//! `gateway.overload`: when requests are refused because there are too many.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problems::Problems;

/// When requests are refused with 503 because there are too many. Requests whose key is not in the cache are refused first, and those without
/// a key; requests whose key is in the cache at twice the limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OverloadConfig {
    /// Number of requests in flight. If absent, there is no limit.
    #[schemars(range(min = 1))]
    pub max_in_flight: Option<u32>,
}

impl OverloadConfig {
    pub(super) fn validate(self, path: &str, problems: &mut Problems) {
        if self.max_in_flight == Some(0) {
            problems.add(&format!("{path}.max_in_flight"), "must be at least 1; leave it out for no limit");
        }
    }
}
