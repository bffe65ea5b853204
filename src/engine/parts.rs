//! The verifier and the lifecycle of keys, and their settings in a configuration.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use chrono::TimeDelta;
use prometheus::Registry;

use crate::cache::{Caches, KeyCache, RevokedParents};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, RetiredSecret, RetiredValue, UnknownCaveats};
use crate::credential::{ADMIN_PREFIX, Keyring, Retired, Routing, SigningKeys, TokenSettings};
use crate::last_used::Tracker;
use crate::lifecycle::{self, DerivedSettings, Lifecycle};
use crate::store::{KeySource, KeyStore, StoreError};
use crate::verifier::{self, KeyResolver, LookupThrottle, ProofCacheSettings, Verifier};

/// Maximum life of a derived token, whatever is configured (contract, admin API section 2.1).
const MAX_TOKEN_LIFE: Duration = Duration::from_secs(315_360_000);
/// Maximum number of revoked keys that are kept in memory for the sake of their tokens, about 100 bytes each.
pub(super) const MAX_REVOKED_PARENTS: usize = 100_000;
/// Maximum number of bucket owners in memory, about 200 bytes each.
#[cfg(feature = "embedded")]
pub(super) const MAX_OWNERS: usize = 1_000_000;

/// The read side and the write side over the same keys.
#[derive(Clone)]
pub struct Engine {
    /// Verifies credentials.
    pub verifier: Arc<Verifier>,
    /// Issues, imports, changes and revokes keys.
    pub lifecycle: Arc<Lifecycle>,
}

/// What an engine is built from.
pub struct EngineParts<'a> {
    /// The settings of credentials and quotas.
    pub config: &'a Config,
    /// The keys.
    pub store: Arc<dyn KeyStore>,
    /// The caches over the store.
    pub caches: Caches<StoreError>,
    /// The keys that sign derived JWTs.
    pub signing_keys: Arc<ArcSwap<SigningKeys>>,
    /// The clock that stamps records and decides about expiry.
    pub clock: Arc<dyn Clock>,
    /// Records when keys are used.
    pub tracker: Option<Arc<Tracker>>,
    /// Limits the lookups of unknown credentials.
    pub throttle: Option<Arc<LookupThrottle>>,
}

impl Engine {
    /// Builds an engine and registers its metrics.
    ///
    /// # Errors
    /// When `registry` has the metrics of an engine already.
    #[doc(hidden)]
    pub fn new(parts: EngineParts<'_>, registry: &Registry) -> Result<Self, prometheus::Error> {
        let EngineParts { config, store, caches, signing_keys, clock, tracker, throttle } = parts;
        let keyring = Arc::new(keyring(config));
        let source: Arc<dyn KeySource> = Arc::<dyn KeyStore>::clone(&store);
        let mut resolver = KeyResolver::new(source, caches.clone());
        if let Some(throttle) = throttle {
            resolver = resolver.throttled(throttle);
        }
        let mut verifier = Verifier::new(
            verifier_settings(config, Arc::clone(&keyring)),
            Arc::new(resolver),
            Arc::clone(&signing_keys),
            Arc::clone(&caches.revoked_parents),
            Arc::clone(&clock),
            verifier::Metrics::register(registry)?,
        );
        if let Some(tracker) = tracker {
            verifier = verifier.tracking(tracker);
        }
        let lifecycle = Lifecycle::new(
            lifecycle_settings(config, keyring, &signing_keys),
            store,
            caches,
            clock,
            rand::make_rng(),
            lifecycle::Metrics::register(registry)?,
        );
        Ok(Self { verifier: Arc::new(verifier), lifecycle: Arc::new(lifecycle) })
    }

    /// The engine of admin keys over the same keys and caches. It accepts and issues only keys with the reserved prefix; the caller passes
    /// the reserved tenant [`TenantId::ADMIN`](crate::id::TenantId::ADMIN).
    #[must_use]
    pub fn for_admin_keys(&self, config: &Config) -> Self {
        let keyring = Arc::new(keyring(config));
        let prefixes = vec![ADMIN_PREFIX.to_owned()];
        let verifier = verifier::Settings { prefixes, ..verifier_settings(config, Arc::clone(&keyring)) };
        let lifecycle = lifecycle::Settings {
            prefix: ADMIN_PREFIX.to_owned(),
            public_prefix: None,
            quota: None,
            ..lifecycle_settings(config, keyring, &Arc::default())
        };
        Self {
            verifier: Arc::new(self.verifier.with_settings(verifier)),
            lifecycle: Arc::new(self.lifecycle.with_settings(lifecycle)),
        }
    }

    /// The engine with the settings of another configuration, over the same keys, caches and signing keys. Credentials that were verified
    /// under other settings are verified again.
    #[must_use]
    #[cfg(feature = "embedded")]
    pub(super) fn reconfigured(&self, config: &Config, signing_keys: &Arc<ArcSwap<SigningKeys>>) -> Self {
        let keyring = Arc::new(keyring(config));
        let verifier = verifier_settings(config, Arc::clone(&keyring));
        Self {
            verifier: Arc::new(self.verifier.with_settings(verifier)),
            lifecycle: Arc::new(self.lifecycle.with_settings(lifecycle_settings(config, keyring, signing_keys))),
        }
    }

    /// The settings of a verifier for a configuration, for [`Verifier::with_settings`].
    pub fn verifier_settings(config: &Config) -> verifier::Settings {
        verifier_settings(config, Arc::new(keyring(config)))
    }

    /// Builds an engine of a single process: over `store`, with a cache in memory and the system's clock, without signing keys.
    ///
    /// # Errors
    /// When `registry` has the metrics of an engine already.
    pub fn over(store: Arc<dyn KeyStore>, config: &Config, registry: &Registry) -> Result<Self, prometheus::Error> {
        let cache = Arc::new(KeyCache::new(config.cache.memory.key_bytes(), config.cache.ttl.0));
        let revoked_parents = Arc::new(RevokedParents::new(longest_token_life(config), MAX_REVOKED_PARENTS));
        let parts = EngineParts {
            config,
            store,
            caches: Caches::alone(Some(cache), revoked_parents),
            signing_keys: Arc::default(),
            clock: Arc::new(SystemClock),
            tracker: None,
            throttle: None,
        };
        Self::new(parts, registry)
    }
}

/// The longest life of a derived token: that of a key.
pub(super) fn longest_token_life(config: &Config) -> Duration {
    let max = config.credentials.api_keys.max_ttl.0;
    if max.is_zero() { MAX_TOKEN_LIFE } else { max.min(MAX_TOKEN_LIFE) }
}

/// The HMAC secrets of a configuration.
pub fn keyring(config: &Config) -> Keyring {
    let hmac = &config.secrets.hmac;
    let retired: Vec<Retired<_>> = hmac.retired.iter().filter_map(RetiredSecret::read).collect();
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
            ignore_unknown_caveats: credentials.derived_tokens.macaroon.unknown_caveats == UnknownCaveats::Ignore,
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
    let max_ttl = keys.max_ttl.0;
    let default_ttl = keys.default_ttl.0;
    lifecycle::Settings {
        keyring,
        routing: Routing::new(&config.credentials.macaroon_prefixes()),
        prefix: keys.prefix.current.clone(),
        public_prefix: keys.prefix.public_current.clone(),
        default_ttl: Some(if max_ttl.is_zero() { default_ttl } else { default_ttl.min(max_ttl) }),
        max_ttl,
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
