//! From the configuration to the parts: what each part is told.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use chrono::TimeDelta;
use prometheus::Registry;
use sha2::{Digest, Sha256};

use super::AppError;
use super::last_used::LastUsed;
use crate::admin::Version;
use crate::cache::Caches;
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, RetiredValue};
use crate::credential::{Keyring, Retired, Routing, SigningKeys, TokenSettings};
use crate::id::TenantId;
use crate::lifecycle::{self, DerivedSettings, Lifecycle};
use crate::signing_keys::{self, SigningKeyRefresher};
use crate::store::{KeySource, KeyStore, StoreError};
use crate::verifier::{self, KeyResolver, LookupThrottle, ProofCacheSettings, Verifier};

/// What this binary was built from, if the build was told.
pub const COMMIT: &str = match option_env!("KEYGATE_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};
/// When this binary was built, if the build was told.
pub const BUILD_TIME: &str = match option_env!("KEYGATE_BUILD_TIME") {
    Some(time) => time,
    None => "unknown",
};
/// No token lives longer, whatever is configured (contract, admin API section 2.1).
const TOKEN_LIFE_MAX: Duration = Duration::from_secs(315_360_000);

/// The use cases.
pub(super) struct Core {
    pub(super) verifier: Arc<Verifier>,
    pub(super) lifecycle: Arc<Lifecycle>,
}

impl Core {
    pub(super) fn new(
        config: &Config,
        store: &Arc<dyn KeyStore>,
        caches: &Caches<StoreError>,
        signing_keys: &Arc<ArcSwap<SigningKeys>>,
        uses: &LastUsed,
        throttle: Option<Arc<LookupThrottle>>,
        registry: &Registry,
    ) -> Result<Self, AppError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let keyring = Arc::new(keyring(config));
        let source: Arc<dyn KeySource> = Arc::<dyn KeyStore>::clone(store);
        let resolver = KeyResolver::new(source, caches.clone());
        let resolver = match throttle {
            Some(throttle) => resolver.throttled(throttle),
            None => resolver,
        };
        let verifier = Verifier::new(
            verifier_settings(config, Arc::clone(&keyring)),
            Arc::new(resolver),
            Arc::clone(signing_keys),
            Arc::clone(&caches.revoked_parents),
            Arc::clone(&clock),
            verifier::Metrics::register(registry)?,
        )
        .tracking(uses.tracker());
        let lifecycle = Lifecycle::new(
            lifecycle_settings(config, keyring, signing_keys),
            Arc::clone(store),
            caches.clone(),
            clock,
            rand::make_rng(),
            lifecycle::Metrics::register(registry)?,
        );
        Ok(Self { verifier: Arc::new(verifier), lifecycle: Arc::new(lifecycle) })
    }
}

fn keyring(config: &Config) -> Keyring {
    let hmac = &config.secrets.hmac;
    let retired: Vec<Retired<_>> = hmac.retired.iter().filter_map(crate::config::RetiredSecret::read).collect();
    Keyring::new(&hmac.current, &retired)
}

fn verifier_settings(config: &Config, keyring: Arc<Keyring>) -> verifier::Settings {
    let credentials = &config.credentials;
    let retired = credentials.issuer_retired.iter().filter_map(RetiredValue::read);
    verifier::Settings {
        tokens: TokenSettings {
            issuer: credentials.issuer.clone(),
            issuers_retired: retired
                .map(|entry| Retired { value: entry.value.to_owned(), expires_at: entry.expires_at })
                .collect(),
            clock_skew: TimeDelta::from_std(credentials.effective_clock_skew()).unwrap_or_default(),
            keyring,
        },
        routing: Routing::new(&credentials.macaroon_prefixes()),
        prefixes: credentials.api_keys.prefix.all(),
        max_age: credentials.api_keys.max_ttl.0,
        proof_cache: ProofCacheSettings {
            key: rand::random(),
            max_bytes: if config.cache.is_on() { config.cache.memory.proof_cache_bytes() } else { 0 },
        },
    }
}

fn lifecycle_settings(
    config: &Config,
    keyring: Arc<Keyring>,
    signing_keys: &Arc<ArcSwap<SigningKeys>>,
) -> lifecycle::Settings {
    let keys = &config.credentials.api_keys;
    let derived = &config.credentials.derived_tokens;
    lifecycle::Settings {
        keyring,
        routing: Routing::new(&config.credentials.macaroon_prefixes()),
        prefix: keys.prefix.current.clone(),
        public_prefix: keys.prefix.public_current.clone(),
        default_ttl: Some(if keys.max_ttl.0.is_zero() {
            keys.default_ttl.0
        } else {
            keys.default_ttl.0.min(keys.max_ttl.0)
        }),
        max_ttl: keys.max_ttl.0,
        quota: config.quota.api_keys_max.filter(|quota| *quota > 0),
        derived: DerivedSettings {
            issuer: config.credentials.issuer.clone(),
            default_ttl: derived.default_ttl.0,
            macaroon_prefix: derived.macaroon.prefix.current.clone(),
            signing_key_id: derived.jwt.signing_key_id.clone(),
            signing_keys: Arc::clone(signing_keys),
        },
    }
}

/// How long a derived token may live: as long as a key.
pub(super) fn longest_token_life(config: &Config) -> Duration {
    let max = config.credentials.api_keys.max_ttl.0;
    if max.is_zero() { TOKEN_LIFE_MAX } else { max.min(TOKEN_LIFE_MAX) }
}

pub(super) fn version(config: &Config) -> Version {
    // Secrets show as redacted in this text, so the hash tells nothing of them.
    let text = format!("{}:{}:{config:?}", config.serve.http.host, TenantId::NIL);
    Version {
        version: env!("CARGO_PKG_VERSION").into(),
        commit: COMMIT.into(),
        build_time: BUILD_TIME.into(),
        config_hash: hex::encode(Sha256::digest(text)),
    }
}

pub(super) async fn key_set(config: &Config, registry: &Registry) -> Result<SigningKeyRefresher, AppError> {
    let sources = &config.credentials.derived_tokens.jwt.signing_keys;
    let options = signing_keys::Options { allow_internal: sources.allow_internal, ..signing_keys::Options::default() };
    let metrics = signing_keys::Metrics::register(registry)?;
    SigningKeyRefresher::load(&sources.urls, options, metrics)
        .await
        .map_err(|why| AppError::Setting(format!("credentials.derived_tokens.jwt.signing_keys.urls: {why}")))
}
