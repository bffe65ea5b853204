//! `cache` and `last_used`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::load::Problems;
use crate::duration::ConfigDuration;

const MAX_STALENESS_MIN: std::time::Duration = std::time::Duration::from_secs(2);

/// The cache of key records. A change made on this node takes effect at once, so caching costs no freshness.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CacheConfig {
    /// Where records are cached: `memory`, `redis` (in memory and in Redis, for several nodes on one PostgreSQL), or `noop`
    /// (not at all).
    pub r#type: CacheType,
    /// Whether the cache is on; yes when absent, unless the type is `noop`.
    pub enabled: Option<bool>,
    /// How long a record is kept; `0s` turns the cache off.
    pub ttl: ConfigDuration,
    /// How long a node that cannot hear of changes goes on to believe its caches; then it asks the database for every request.
    pub max_staleness: ConfigDuration,
    /// What such a node does when the database cannot answer either.
    pub on_database_down: OnDatabaseDown,
    /// How long it serves cached keys then, counted from the last change it could have heard of.
    pub stale_limit: ConfigDuration,
    /// The cache in memory.
    pub memory: MemoryCacheConfig,
    /// The shared cache, with `type: redis`.
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

/// What becomes of cached keys when the database cannot be asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnDatabaseDown {
    /// They are served for a while.
    #[default]
    ServeStale,
    /// They are answered with 503, as unknown ones are.
    Deny,
}

/// The cache in memory.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MemoryCacheConfig {
    /// Bytes at the most, 1 MiB to 10 GiB: three quarters for keys, a quarter for what recognises their credentials.
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
    /// The user; the default one when absent.
    pub username: Option<String>,
    /// The password.
    #[schemars(with = "Option<String>")]
    pub password: Option<secrecy::SecretString>,
    /// With a master's name, `addrs` are sentinels that tell where it is. Else several addresses are a cluster.
    pub sentinel: SentinelConfig,
    /// The database's number.
    #[schemars(range(max = 15))]
    pub db: u8,
    /// Accepted, without effect: there is one connection, shared by all requests.
    #[schemars(range(min = 1, max = 1000))]
    pub pool_size: u32,
    /// How long a call may take before the request goes on without Redis.
    pub timeout: ConfigDuration,
    /// Accepted, without effect.
    #[schemars(range(max = 4_294_967_295_u32))]
    pub min_idle_conns: u32,
    /// Accepted, without effect.
    pub conn_max_idle_time: ConfigDuration,
    /// Accepted, without effect.
    pub conn_max_lifetime: ConfigDuration,
    /// TLS to the servers.
    pub tls: RedisTlsConfig,
}

/// The sentinels that watch over the servers.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SentinelConfig {
    /// What they call the master; without it there are no sentinels.
    pub master_name: Option<String>,
    /// The user at the sentinels.
    pub username: Option<String>,
    /// The password at the sentinels.
    #[schemars(with = "Option<String>")]
    pub password: Option<secrecy::SecretString>,
}

/// TLS to the servers.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RedisTlsConfig {
    /// Whether connections are encrypted, by the system's roots.
    pub enabled: bool,
}

/// How the last use of keys is recorded, to the day.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LastUsedConfig {
    /// Uses that may wait to be recorded; what comes beyond is dropped and tried again with the key's next use.
    #[schemars(range(min = 256, max = 1_000_000))]
    pub queue_size: u32,
    /// Uses recorded in one statement.
    #[schemars(range(min = 1, max = 10_000))]
    pub flush_size: u32,
    /// How long a use waits for others to be recorded with.
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
            max_staleness: seconds(5),
            on_database_down: OnDatabaseDown::default(),
            stale_limit: seconds(300),
            memory: MemoryCacheConfig::default(),
            redis: RedisConfig::default(),
        }
    }
}

impl MemoryCacheConfig {
    /// The part of [`MemoryCacheConfig::max_size`] for what recognises credentials.
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
    /// Whether records are cached at all.
    pub fn is_on(&self) -> bool {
        self.r#type != CacheType::Noop && self.enabled.unwrap_or(true) && !self.ttl.0.is_zero()
    }

    /// Whether the cache that nodes share takes part.
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
            problems.add("cache.max_staleness", "must be at least 2s: changes are looked for every second");
        }
    }
}

fn seconds(seconds: u64) -> ConfigDuration {
    ConfigDuration(std::time::Duration::from_secs(seconds))
}
