//! The configuration: plain data, read once.
//!
//! The file is parsed into a tree, environment variables are applied on top, the tree is validated against the JSON
//! schema that is generated from the types, deserialized, and checked by the rules across fields. Every error names the
//! path of its setting. Values are never shown: any of them may be a secret.

mod access_log;
mod admin_auth;
mod audit;
mod auth_failures;
mod cache;
mod check;
mod console;
mod cors;
mod credential_location;
mod credentials;
mod database;
mod endpoint;
mod env;
mod external_auth;
mod gateway;
mod limit;
mod listener;
mod load;
mod multitenancy;
mod other_settings;
mod overload;
mod place;
mod problems;
mod quota;
mod rate_limit;
mod redact;
mod restart;
mod retention;
mod root;
mod route;
mod route_certificate;
mod route_cors;
mod route_headers;
mod route_response;
mod route_rewrite;
mod schema;
mod secret_files;
mod secrets;
mod serve;
mod setting;
mod source;
mod sources;
mod stream;
mod suggestions;
mod telemetry;
mod template;
mod timeouts;
mod traces;
mod upstream;
mod upstream_balancing;
mod upstream_endpoint;
mod upstream_health;
mod upstream_tls;
mod usage;

pub use access_log::{AccessLogConfig, AccessLogField, AccessLogForm, AccessLogOutput, AccessLogVariable};
#[cfg(feature = "server")]
pub(crate) use admin_auth::BOOTSTRAP_KEY_MIN;
pub use admin_auth::{AdminAuthConfig, AdminAuthMode, AdminCertificateConfig};
pub use audit::AuditConfig;
pub use auth_failures::{AuthFailureMode, AuthFailuresConfig};
pub use cache::{
    CacheConfig, CacheType, LastUsedConfig, MemoryCacheConfig, OnDatabaseDown, RedisConfig, RedisTlsConfig,
    SentinelConfig,
};
pub use console::ConsoleConfig;
pub use cors::CorsConfig;
pub use credential_location::{BasicPart, CredentialLocation};
pub use credentials::{
    ApiKeysConfig, CredentialsConfig, DerivedTokensConfig, JwtConfig, MacaroonConfig, PrefixConfig, RetiredValue,
    SigningKeysConfig, UnknownCaveats,
};
pub use database::{DatabaseConfig, Dsn, PostgresDsn};
pub use endpoint::{EndpointUrl, parse_endpoint};
pub use env::{UnknownVariable, unknown_variables};
pub use external_auth::ExternalAuthConfig;
pub use gateway::{AddedHeader, GatewayConfig, LimitHeadersConfig, UnknownKeysConfig, UpstreamLimitFields};
pub use limit::{CountBy, LimitConfig};
pub use listener::{
    CertificateConfig, ClientCertificateMode, ClientCertificatesConfig, ConnectionsConfig, ListenerConfig,
    ListenerLimits, ProxyProtocolConfig, TlsConfig, TlsVersion,
};
pub use multitenancy::{MultitenancyConfig, NetworkConfig};
pub use overload::OverloadConfig;
pub use place::ConfigPlace;
pub use problems::{ConfigError, ConfigErrors};
pub use quota::QuotaConfig;
pub use rate_limit::{OnBackendDown, RateLimitBackend, RateLimitConfig, RateLimitMode};
#[cfg(test)]
pub(crate) use restart::needs_restart;
pub use retention::RetentionConfig;
pub use root::Config;
pub use route::{Auth, RouteConfig};
pub use route_certificate::RouteCertificateConfig;
pub use route_cors::{OriginPattern, RouteCorsConfig};
pub use route_headers::HeaderRulesConfig;
pub use route_response::{RedirectConfig, RespondConfig};
pub use route_rewrite::ForwardedHost;
pub use schema::json_schema;
#[cfg(test)]
pub(crate) use schema::members;
pub use secrets::{HmacConfig, RetiredSecret, SecretsConfig};
#[cfg(feature = "server")]
pub(crate) use serve::listen_ip;
pub use serve::{ClientIpSource, HttpConfig, MetricsConfig, PublicConfig, RequestLogConfig, ServeConfig};
pub use setting::{Setting, SettingSource};
pub use source::{ConfigSource, Difference, LoadedConfig};
pub use sources::Sources;
pub use stream::{OnRevoke, Upgrade};
pub use telemetry::{LogConfig, LogFormat, LogLevel};
pub use template::{Template, TemplateError, TemplatePart, Variable};
pub use timeouts::RouteTimeoutsConfig;
pub use traces::{CollectorTlsConfig, TracingConfig, TracingExporter, TracingProtocol};
pub use upstream::{UpstreamConfig, UpstreamProtocol};
pub use upstream_balancing::{
    BalancingPolicy, DnsConfig, EjectionConfig, HashBy, LoadBalancingConfig, NonIdempotentRetries, PoolConfig,
    RetriesConfig,
};
pub use upstream_endpoint::EndpointConfig;
pub use upstream_health::{HealthCheckConfig, HealthCheckType};
pub use upstream_tls::UpstreamTlsConfig;
pub use usage::UsageConfig;

#[cfg(test)]
mod tests;
