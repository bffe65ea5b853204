//! `cache` and `last_used`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::load::Problems;
use crate::duration::ConfigDuration;

/// The cache of key records. A change made on this node takes effect at once, so caching costs no freshness.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CacheConfig {
    /// Where records are cached: `memory` or `noop` (not at all). `redis` is not available in this version.
    pub r#type: CacheType,
    /// Whether the cache is on; yes when absent, unless the type is `noop`.
    pub enabled: Option<bool>,
    /// How long a record is kept; `0s` turns the cache off.
    pub ttl: ConfigDuration,
    /// The cache in memory.
    pub memory: MemoryCacheConfig,
    /// The shared cache. Accepted, without effect in this version.
    pub redis: RedisConfig,
}

/// Where records are cached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CacheType {
    /// In the memory of the process.
    #[default]
    Memory,
    /// In memory and in Redis.
    Redis,
    /// Not at all.
    Noop,
}

/// The cache in memory.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MemoryCacheConfig {
    /// Bytes at the most, 1 MiB to 10 GiB.
    #[schemars(range(min = 1_048_576, max = 10_737_418_240_u64))]
    pub max_size: u64,
    /// Accepted, without effect.
    #[schemars(range(min = 100, max = 1_000_000))]
    pub num_counters: u64,
}

/// The shared cache.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RedisConfig {
    /// `host:port` of the servers.
    #[schemars(length(min = 1))]
    pub addrs: Vec<String>,
    /// The password.
    #[schemars(with = "Option<String>")]
    pub password: Option<secrecy::SecretString>,
    /// The database's number.
    #[schemars(range(max = 15))]
    pub db: u8,
    /// Connections at the most.
    #[schemars(range(min = 1, max = 1000))]
    pub pool_size: u32,
    /// How long a call may take.
    pub timeout: ConfigDuration,
    /// Connections kept open.
    #[schemars(range(max = 4_294_967_295_u32))]
    pub min_idle_conns: u32,
    /// How long an unused connection is kept.
    pub conn_max_idle_time: ConfigDuration,
    /// How long a connection is kept.
    pub conn_max_lifetime: ConfigDuration,
    /// TLS to the servers.
    pub tls: RedisTlsConfig,
}

/// TLS to the servers.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RedisTlsConfig {
    /// Whether connections are encrypted, by the system's roots.
    pub enabled: bool,
}

/// How uses of keys are recorded.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LastUsedConfig {
    /// Uses that may wait to be recorded.
    #[schemars(range(min = 256, max = 1_000_000))]
    pub queue_size: u32,
    /// Uses recorded in one statement.
    #[schemars(range(min = 1, max = 10_000))]
    pub flush_size: u32,
    /// How long a use waits at the most.
    pub flush_interval: ConfigDuration,
    /// Tasks that record.
    #[schemars(range(min = 1, max = 64))]
    pub num_workers: u32,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            r#type: CacheType::default(),
            enabled: None,
            ttl: seconds(300),
            memory: MemoryCacheConfig::default(),
            redis: RedisConfig::default(),
        }
    }
}

impl Default for MemoryCacheConfig {
    fn default() -> Self {
        Self { max_size: 104_857_600, num_counters: 10_000 }
    }
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            addrs: vec!["localhost:6379".into()],
            password: None,
            db: 0,
            pool_size: 100,
            timeout: seconds(3),
            min_idle_conns: 2,
            conn_max_idle_time: seconds(300),
            conn_max_lifetime: seconds(1800),
            tls: RedisTlsConfig::default(),
        }
    }
}

impl Default for LastUsedConfig {
    fn default() -> Self {
        Self { queue_size: 10_000, flush_size: 100, flush_interval: seconds(30), num_workers: 4 }
    }
}

impl CacheConfig {
    /// Whether records are cached at all.
    pub fn is_on(&self) -> bool {
        self.r#type != CacheType::Noop && self.enabled.unwrap_or(true) && !self.ttl.0.is_zero()
    }

    pub(super) fn validate(&self, problems: &mut Problems) {
        problems.unsupported(self.r#type == CacheType::Redis, "cache.type", "set it to memory");
    }
}

fn seconds(seconds: u64) -> ConfigDuration {
    ConfigDuration(std::time::Duration::from_secs(seconds))
}
