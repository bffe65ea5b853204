//! The configuration: plain data, read once, every error named by its path.
//!
//! A file is a tree; environment variables are laid over it; the tree is checked against the schema that the types below
//! generate; then it becomes the types, and rules across fields are checked. Values are never shown in errors: any of
//! them may be a secret.

mod cache;
mod check;
mod credentials;
mod database;
mod env;
mod gateway;
mod load;
mod rate_limit;
mod retention;
mod schema;
mod secrets;
mod serve;
mod suggestions;
mod telemetry;

pub use cache::{
    CacheConfig, CacheType, LastUsedConfig, MemoryCacheConfig, OnDatabaseDown, RedisConfig, RedisTlsConfig,
    SentinelConfig,
};
pub use credentials::{
    ApiKeysConfig, CredentialsConfig, DerivedTokensConfig, JwtConfig, MacaroonConfig, PrefixConfig, RetiredValue,
    SigningKeysConfig,
};
pub use database::{DatabaseConfig, Dsn, PostgresDsn};
#[cfg(feature = "server")]
pub(crate) use gateway::listen_ip;
pub use gateway::{
    AddedHeader, Auth, CountBy, EndpointUrl, GatewayConfig, LimitConfig, LimitHeadersConfig, RouteConfig,
    UnknownKeysConfig, UpstreamConfig, UpstreamLimitFields, parse_endpoint,
};
pub use load::{ConfigError, ConfigErrors};
pub use rate_limit::{
    MultitenancyConfig, NetworkConfig, OnBackendDown, QuotaConfig, RateLimitBackend, RateLimitConfig, RateLimitMode,
};
pub use retention::RetentionConfig;
pub use schema::json_schema;
pub use secrets::{HmacConfig, RetiredSecret, SecretsConfig};
pub use serve::{ClientIpSource, CorsConfig, HttpConfig, MetricsConfig, RequestLogConfig, ServeConfig};
pub use telemetry::{LogConfig, LogFormat, LogLevel, TracingConfig};

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;

use crate::id::TenantId;

/// Keygate's configuration. The keys up to `gateway` are those of Ory Talos.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The admin API and the listener for health and metrics.
    pub serve: ServeConfig,
    /// How credentials look and how long they live.
    pub credentials: CredentialsConfig,
    /// What signs and checks credentials.
    pub secrets: SecretsConfig,
    /// Where keys are kept.
    pub db: DatabaseConfig,
    /// The cache of key records.
    pub cache: CacheConfig,
    /// Enforcement of rate limits.
    pub rate_limit: RateLimitConfig,
    /// How the last use of keys is recorded, to the day.
    pub last_used: LastUsedConfig,
    /// What is taken out in the course of time.
    pub retention: RetentionConfig,
    /// Logs, on stderr.
    pub log: LogConfig,
    /// Traces. Not available in this version.
    pub tracing: TracingConfig,
    /// How many keys there may be.
    pub quota: QuotaConfig,
    /// Several tenants. Not available in this version.
    pub multitenancy: MultitenancyConfig,
    /// The reverse proxy; none is started when absent.
    pub gateway: Option<GatewayConfig>,
}

impl Config {
    /// A configuration made by a program: the three things that have no default, and defaults.
    pub fn new(issuer: String, hmac_secret: SecretString, dsn: String) -> Self {
        let mut config = Self::default();
        config.credentials.issuer = issuer;
        config.secrets.hmac.current = hmac_secret;
        config.db.dsn = dsn;
        config
    }

    /// The tenant of this installation: the nil UUID, as long as an installation has one tenant.
    pub fn tenant(&self) -> TenantId {
        TenantId::NIL
    }
}

#[cfg(test)]
mod tests;
