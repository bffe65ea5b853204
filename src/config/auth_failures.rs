//! `gateway.auth_failures`: what happens to an address that repeatedly presents credentials that are rejected.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problems::Problems;
use crate::duration::ConfigDuration;

/// Throttling of client addresses that repeatedly present rejected credentials (401). Addresses of a /64 network in IPv6 count as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuthFailuresConfig {
    /// What happens above the limit.
    pub mode: AuthFailureMode,
    /// Number of rejected credentials that a client address may present at once.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: u32,
    /// Number of them that are replenished per second.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub per_second: u32,
    /// How long a response is delayed in the mode `delay`, 30s at most.
    pub delay: ConfigDuration,
    /// Maximum number of responses that are delayed at the same time. Further ones are sent at once.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_delayed: usize,
}

/// What happens to an address above the limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AuthFailureMode {
    /// Nothing.
    #[default]
    Off,
    /// Its further 401 responses are delayed. Requests with valid credentials are not.
    Delay,
    /// Its requests get 429 before their credential is verified, unless this process has verified the credential before.
    Reject,
}

impl Default for AuthFailuresConfig {
    fn default() -> Self {
        Self {
            mode: AuthFailureMode::Off,
            burst: 100,
            per_second: 10,
            delay: ConfigDuration(Duration::from_secs(1)),
            max_delayed: 1000,
        }
    }
}

impl AuthFailuresConfig {
    pub(super) fn validate(&self, path: &str, problems: &mut Problems) {
        if !(Duration::from_millis(1)..=Duration::from_secs(30)).contains(&self.delay.0) {
            problems.add(&format!("{path}.delay"), "must be from 1ms to 30s");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delay_is_bounded() {
        for (text, is_valid) in
            [("delay: 1ms", true), ("delay: 30s", true), ("delay: 0s", false), ("delay: 31s", false)]
        {
            let config: AuthFailuresConfig = serde_saphyr::from_str(text).unwrap();
            let mut problems = Problems::default();
            config.validate("f", &mut problems);
            assert_eq!(problems.result(()).is_ok(), is_valid, "{text}");
        }
    }
}
