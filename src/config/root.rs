//! The whole configuration.

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::id::TenantId;

use super::audit::AuditConfig;
use super::cache::{CacheConfig, LastUsedConfig};
use super::credentials::CredentialsConfig;
use super::database::DatabaseConfig;
use super::external_auth::ExternalAuthConfig;
use super::gateway::GatewayConfig;
use super::multitenancy::MultitenancyConfig;
use super::problems::{ConfigErrors, Problems};
use super::quota::QuotaConfig;
use super::rate_limit::RateLimitConfig;
use super::retention::RetentionConfig;
use super::secrets::SecretsConfig;
use super::serve::ServeConfig;
use super::sources::Sources;
use super::telemetry::LogConfig;
use super::traces::TracingConfig;
use super::usage::UsageConfig;

/// Keygate's configuration. The settings up to `gateway` have the names and meanings of Ory Talos.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The admin API and the listener for health and metrics.
    pub serve: ServeConfig,
    /// Credentials: prefixes, lifetimes, token settings.
    pub credentials: CredentialsConfig,
    /// Secrets that sign and verify credentials.
    pub secrets: SecretsConfig,
    /// The database that stores keys.
    pub db: DatabaseConfig,
    /// The key cache.
    pub cache: CacheConfig,
    /// Rate limiting.
    pub rate_limit: RateLimitConfig,
    /// Recording of `last_used_time`, with a resolution of one day.
    pub last_used: LastUsedConfig,
    /// Deletion of expired keys.
    pub retention: RetentionConfig,
    /// The audit trail.
    pub audit: AuditConfig,
    /// The usage of keys: requests, refusals and bytes, by key and hour.
    pub usage: UsageConfig,
    /// Logs, written to stderr.
    pub log: LogConfig,
    /// Traces of requests.
    pub tracing: TracingConfig,
    /// Limits on the number of keys.
    pub quota: QuotaConfig,
    /// Multiple tenants. Not supported by this version.
    pub multitenancy: MultitenancyConfig,
    /// The reverse proxy. Without this section none is started.
    pub gateway: Option<GatewayConfig>,
    /// External authorization for other proxies. Without this section there is none.
    pub external_auth: Option<ExternalAuthConfig>,
    /// Where the settings are from.
    #[serde(skip)]
    pub sources: Sources,
}

impl Config {
    /// A configuration with the three settings that have no default; everything else has its default.
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

    /// Checks the rules across fields.
    ///
    /// # Errors
    /// All errors, each with its path.
    pub fn validate(&self) -> Result<(), ConfigErrors> {
        let mut problems = Problems::default();
        self.collect_problems(&mut problems);
        problems.result(())
    }

    pub(super) fn collect_problems(&self, problems: &mut Problems) {
        self.serve.validate(problems);
        self.credentials.validate(problems);
        self.secrets.validate(problems);
        self.retention.validate(problems);
        self.audit.validate(problems);
        self.usage.validate(problems);
        self.db.validate(problems);
        self.cache.validate(problems);
        self.tracing.validate(problems);
        self.multitenancy.validate(problems);
        if let Some(gateway) = &self.gateway {
            gateway.validate(problems);
        }
        if let Some(external_auth) = &self.external_auth {
            external_auth.validate(self.gateway.is_some(), problems);
        }
    }
}
