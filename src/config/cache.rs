//! `cache` and `last_used`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problems::Problems;
use super::redact;
use crate::duration::ConfigDuration;

const MAX_STALENESS_MIN: std::time::Duration = std::time::Duration::from_secs(2);

/// The key cache. Changes made through this node take effect on it at once; `max_staleness` bounds the delay of others.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CacheConfig {
    /// Where keys are cached: `memory`, `redis` (in memory and in Redis, for multiple nodes on one PostgreSQL database), or
    /// `noop` (no cache).
    pub r#type: CacheType,
    /// Whether the cache is enabled. Enabled when absent, unless the type is `noop`.
    pub enabled: Option<bool>,
    /// Time to live of a cached key; `0s` disables the cache.
    pub ttl: ConfigDuration,
    /// How long a node uses its caches without confirming that it has all changes. After that every request queries the
    /// database. At least 2s.
    pub max_staleness: ConfigDuration,
    /// What happens after `max_staleness` if the database is unavailable as well.
    pub on_database_down: OnDatabaseDown,
    /// With `serve_stale`: how long cached keys are used, counted from the last confirmation.
    pub stale_limit: ConfigDuration,
    /// The in-memory cache.
    pub memory: MemoryCacheConfig,
    /// The shared cache of `type: redis`.
    pub redis: RedisConfig,
}

/// Where keys are cached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CacheType {
    /// In the memory of the process.
    #[default]
    Memory,
    /// In memory and in Redis.
    Redis,
    /// No cache.
    Noop,
}

/// What happens to cached keys while the database is unavailable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnDatabaseDown {
    /// They are used until `stale_limit`.
    #[default]
    ServeStale,
    /// Requests are rejected with 503, as those with uncached keys are.
    Deny,
}

/// The in-memory cache.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MemoryCacheConfig {
    /// Maximum size in bytes, 1 MiB to 10 GiB: three quarters for keys, one quarter for verified credentials.
    #[schemars(range(min = 1_048_576, max = 10_737_418_240_u64))]
    pub max_size: u64,
    /// Accepted without effect.
    #[schemars(range(min = 100, max = 1_000_000))]
    pub num_counters: u64,
}

/// The shared cache.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RedisConfig {
    /// The servers, each as `host:port`.
    #[schemars(length(min = 1))]
    #[serde(serialize_with = "redact::urls")]
    pub addrs: Vec<String>,
    /// The user name; the default user when absent.
    pub username: Option<String>,
    /// The password.
    #[schemars(with = "Option<String>")]
    #[serde(serialize_with = "redact::secret")]
    pub password: Option<secrecy::SecretString>,
    /// Path of a file with `password` instead.
    pub password_file: Option<PathBuf>,
    /// With `master_name` set, `addrs` are sentinels. Otherwise more than one address is a cluster.
    pub sentinel: SentinelConfig,
    /// The database number.
    #[schemars(range(max = 15))]
    pub db: u8,
    /// Accepted without effect: all requests share one multiplexed connection.
    #[schemars(range(min = 1, max = 1000))]
    pub pool_size: u32,
    /// Timeout of a call. After that the request continues without Redis.
    pub timeout: ConfigDuration,
    /// Accepted without effect.
    #[schemars(range(max = 4_294_967_295_u32))]
    pub min_idle_conns: u32,
    /// Accepted without effect.
    pub conn_max_idle_time: ConfigDuration,
    /// Accepted without effect.
    pub conn_max_lifetime: ConfigDuration,
    /// TLS to the servers.
    pub tls: RedisTlsConfig,
}

/// Redis Sentinel.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SentinelConfig {
    /// The master's name. Sentinel is not used when absent.
    pub master_name: Option<String>,
    /// The user name at the sentinels.
    pub username: Option<String>,
    /// The password at the sentinels.
    #[schemars(with = "Option<String>")]
    #[serde(serialize_with = "redact::secret")]
    pub password: Option<secrecy::SecretString>,
    /// Path of a file with `password` instead.
    pub password_file: Option<PathBuf>,
}

/// TLS to the servers.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RedisTlsConfig {
    /// Whether connections use TLS. The system's certificate authorities are trusted.
    pub enabled: bool,
}

/// Recording of `last_used_time`, with a resolution of one day.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LastUsedConfig {
    /// Maximum number of uses waiting to be recorded. Further uses are dropped; the next use of the key is recorded instead.
    #[schemars(range(min = 256, max = 1_000_000))]
    pub queue_size: u32,
    /// Maximum number of uses in one statement.
    #[schemars(range(min = 1, max = 10_000))]
    pub flush_size: u32,
    /// Maximum time that a use waits for a batch.
    pub flush_interval: ConfigDuration,
    /// Number of tasks that write batches.
    #[schemars(range(min = 1, max = 64))]
    pub num_workers: u32,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            r#type: CacheType::default(),
            enabled: None,
            ttl: seconds(300),
            max_staleness: seconds(5),
            on_database_down: OnDatabaseDown::default(),
            stale_limit: seconds(300),
            memory: MemoryCacheConfig::default(),
            redis: RedisConfig::default(),
        }
    }
}

impl MemoryCacheConfig {
    /// The part of [`MemoryCacheConfig::max_size`] for verified credentials.
    pub fn proof_cache_bytes(&self) -> u64 {
        self.max_size / 4
    }

    /// The part of [`MemoryCacheConfig::max_size`] for keys.
    pub fn key_bytes(&self) -> u64 {
        self.max_size - self.proof_cache_bytes()
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
            username: None,
            password: None,
            password_file: None,
            sentinel: SentinelConfig::default(),
            db: 0,
            pool_size: 100,
            timeout: ConfigDuration(std::time::Duration::from_millis(50)),
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
    /// Whether keys are cached.
    pub fn is_on(&self) -> bool {
        self.r#type != CacheType::Noop && self.enabled.unwrap_or(true) && !self.ttl.0.is_zero()
    }

    /// Whether the shared cache is used.
    pub fn is_shared(&self) -> bool {
        self.is_on() && self.r#type == CacheType::Redis
    }

    pub(super) fn validate(&self, problems: &mut Problems) {
        if self.redis.addrs.is_empty() {
            problems.add("cache.redis.addrs", "must name at least one server, as host:port");
        }
        if self.redis.timeout.0.is_zero() {
            problems.add("cache.redis.timeout", "must be more than zero");
        }
        if self.max_staleness.0 < MAX_STALENESS_MIN {
            problems.add("cache.max_staleness", "must be at least 2s: changes are polled every second");
        }
    }
}

fn seconds(seconds: u64) -> ConfigDuration {
    ConfigDuration(std::time::Duration::from_secs(seconds))
}
