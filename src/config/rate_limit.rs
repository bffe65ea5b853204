//! `rate_limit`, `quota` and `multitenancy`: what a tenant may use.

use schemars::JsonSchema;
use serde::Deserialize;

use super::load::Problems;

/// Enforcement of rate limits. Not available in this version: only `enabled: false` is taken.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimitConfig {
    /// Whether limits are enforced: those that keys have, and those of the gateway.
    pub enabled: bool,
    /// Where requests are counted.
    pub backend: RateLimitBackend,
    /// What becomes of requests while Redis cannot count them.
    pub on_backend_down: OnBackendDown,
    /// How nodes count in Redis.
    pub mode: RateLimitMode,
}

impl Default for RateLimitConfig {
    /// On: a limit that somebody set is meant.
    fn default() -> Self {
        Self {
            enabled: true,
            backend: RateLimitBackend::default(),
            on_backend_down: OnBackendDown::default(),
            mode: RateLimitMode::default(),
        }
    }
}

/// Where requests are counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RateLimitBackend {
    /// In each process.
    #[default]
    Memory,
    /// In Redis, for all.
    Redis,
}

/// What becomes of requests while Redis cannot count them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnBackendDown {
    /// Each node goes on counting for itself, with the quota divided by the nodes that were alive.
    #[default]
    Local,
    /// They are let through, uncounted.
    Open,
    /// They are answered with 503.
    Closed,
}

/// How nodes count in Redis.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RateLimitMode {
    /// Each request is counted there before it is answered.
    #[default]
    Exact,
    /// Each node takes slices of a busy key's quota and spends them by itself: faster, and together the nodes may admit a tenth
    /// of the quota more.
    Leased,
}

/// How many keys there may be.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QuotaConfig {
    /// Active keys at the most; 0 or absent for any number.
    pub api_keys_max: Option<u64>,
}

/// Several tenants, told apart by the request's host.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MultitenancyConfig {
    /// Whether there are several tenants.
    pub enabled: bool,
    /// The tenants.
    pub networks: Vec<NetworkConfig>,
}

/// A tenant.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// The host that names it.
    pub hostname: String,
    /// Its id, a lower-case UUID.
    pub id: String,
    /// Its own configuration.
    pub config_path: String,
}

impl MultitenancyConfig {
    pub(super) fn validate(&self, problems: &mut Problems) {
        problems.unsupported(self.enabled, "multitenancy.enabled", "set it to false");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> RateLimitConfig {
        serde_saphyr::from_str(text).unwrap()
    }

    #[test]
    fn how_requests_are_counted_is_read_from_the_file() {
        let default = read("enabled: false");
        assert_eq!(default.backend, RateLimitBackend::Memory);
        assert_eq!((default.on_backend_down, default.mode), (OnBackendDown::Local, RateLimitMode::Exact));
        let config = read("{ backend: redis, on_backend_down: closed, mode: leased }");
        assert_eq!(config.backend, RateLimitBackend::Redis);
        assert_eq!((config.on_backend_down, config.mode), (OnBackendDown::Closed, RateLimitMode::Leased));
        assert_eq!(read("on_backend_down: open").on_backend_down, OnBackendDown::Open);
    }
}
