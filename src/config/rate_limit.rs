//! `rate_limit`: where and how requests are counted.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Rate limiting: the limits of keys, and those of `gateway.limits`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimitConfig {
    /// Whether limits are enforced, both those of keys and those of `gateway.limits`.
    pub enabled: bool,
    /// Where requests are counted.
    pub backend: RateLimitBackend,
    /// What happens to limited requests while Redis is unavailable.
    pub on_backend_down: OnBackendDown,
    /// How nodes count in Redis.
    pub mode: RateLimitMode,
}

impl Default for RateLimitConfig {
    /// Enabled, so that a limit that is configured takes effect.
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RateLimitBackend {
    /// In the memory of each process.
    #[default]
    Memory,
    /// In Redis, shared by all nodes; uses the servers of `cache.redis`.
    Redis,
}

/// What happens to limited requests while Redis is unavailable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnBackendDown {
    /// Each node counts in memory, with the quota divided by the number of nodes last alive.
    #[default]
    Local,
    /// Requests are allowed without being counted.
    Open,
    /// Requests are rejected with 503.
    Closed,
}

/// How nodes count in Redis.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RateLimitMode {
    /// Each request is counted in Redis before it is forwarded.
    #[default]
    Exact,
    /// Each node takes leases of a busy key's quota and spends them locally. Faster; all nodes together may admit up to a
    /// tenth more than the quota.
    Leased,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> RateLimitConfig {
        serde_saphyr::from_str(text).unwrap()
    }

    #[test]
    fn settings_are_read_from_yaml() {
        let default = read("enabled: false");
        assert_eq!(default.backend, RateLimitBackend::Memory);
        assert_eq!((default.on_backend_down, default.mode), (OnBackendDown::Local, RateLimitMode::Exact));
        let config = read("{ backend: redis, on_backend_down: closed, mode: leased }");
        assert_eq!(config.backend, RateLimitBackend::Redis);
        assert_eq!((config.on_backend_down, config.mode), (OnBackendDown::Closed, RateLimitMode::Leased));
        assert_eq!(read("on_backend_down: open").on_backend_down, OnBackendDown::Open);
    }
}
