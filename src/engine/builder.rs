//! Builds an engine from a configuration, with its database, caches, limiter and background work.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;

use super::audit::AuditTrail;
use super::auth_failures::AuthFailureThrottles;
use super::error::EngineError;
use super::last_used::LastUsed;
use super::limiter::RunningLimiter;
use super::nodes::{connect_redis, register_redis};
use super::parts::{Engine, EngineParts};
use super::running::{Background, RunningEngine};
use super::tasks::Tasks;
use super::traces::Traces;
use super::usage::Usage;
use super::{caches, database, live_streams, lookup_throttle};
use crate::clock::SystemClock;
use crate::config::{Config, CountBy, LimitConfig};
use crate::duration::ConfigDuration;
use crate::lifecycle::Retention;
use crate::pipeline;
use crate::request_context::RequestContext;
use crate::signing_keys::{self, SigningKeyRefresher};
use crate::store::{Access, KeyStore};

/// Builds an engine: see [`Engine::builder`].
#[must_use = "an engine runs once it is started"]
pub struct EngineBuilder {
    config: Config,
    registry: Registry,
    store: Option<Arc<dyn KeyStore>>,
    access: Access,
}

impl Engine {
    /// A builder of an engine with everything that the gateway has: the database of `db.dsn` (SQLite, or PostgreSQL with its change
    /// feed), caches, rate limits, the recording of uses, the usage of keys and the purge of what is kept no longer.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(feature = "sqlite")]
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// use keygate::config::Config;
    /// use keygate::engine::Engine;
    ///
    /// let secret = "a secret of at least 32 characters".to_owned();
    /// let config = Config::new("https://keys.example.com".into(), secret.into(), "sqlite://:memory:".into());
    /// let engine = Engine::builder(config).start().await?;
    /// // Serve requests; issue and revoke keys through `engine.lifecycle()`.
    /// engine.stop().await;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn builder(config: Config) -> EngineBuilder {
        EngineBuilder { config, registry: Registry::new(), store: None, access: Access::default() }
    }
}

impl EngineBuilder {
    /// The registry for the engine's metrics. By default they are in a registry of their own.
    pub fn registry(self, registry: Registry) -> Self {
        Self { registry, ..self }
    }

    /// Adds a rate limit that routes and layers can name: `quota` requests per `window`, counted for each key.
    pub fn limit(mut self, name: impl Into<String>, quota: NonZeroU64, window: Duration) -> Self {
        let limit = LimitConfig { quota, window: ConfigDuration(window), count_by: CountBy::Key, dry_run: false };
        self.config.gateway.get_or_insert_default().limits.insert(name.into(), limit);
        self
    }

    /// A store instead of the database of `db.dsn`.
    pub fn store(self, store: Arc<dyn KeyStore>) -> Self {
        Self { store: Some(store), ..self }
    }

    /// How this process uses the file of the database of `db.dsn`.
    #[doc(hidden)]
    pub fn access(self, access: Access) -> Self {
        Self { access, ..self }
    }

    /// Opens the database and starts the background work on the current tokio runtime, which must run as long as the engine is used.
    ///
    /// # Errors
    /// [`EngineError`] if the configuration is invalid, the database is unavailable, or the registry has the metrics of an engine already.
    pub async fn start(self) -> Result<RunningEngine, EngineError> {
        let Self { config, registry, store, access } = self;
        crate::tls::install_crypto_provider();
        config.validate()?;
        let mut tasks = Tasks::default();
        let store = match store {
            Some(store) => store,
            None => database::open(&config.db, access).await?,
        };
        let refresher = load_signing_keys(&config, &registry).await?;
        let signing_keys = refresher.keys();
        let redis = connect_redis(&config, &mut tasks).await?;
        register_redis(redis.as_ref(), &registry)?;
        let caches = caches::start(&config, &store, redis.as_ref(), &registry, &mut tasks).await?;
        let limits = RunningLimiter::start(&config, redis.as_ref(), &registry, &mut tasks)?;
        let last_used = LastUsed::start(&config, &store, &registry)?;
        let usage = Usage::start(&config, &store, &registry, &mut tasks)?;
        let parts = EngineParts {
            config: &config,
            store: Arc::clone(&store),
            caches,
            signing_keys: Arc::clone(&signing_keys),
            clock: Arc::new(SystemClock),
            tracker: Some(last_used.tracker()),
            throttle: Some(lookup_throttle::start(&config, &store, &registry, &mut tasks)?),
        };
        let caches = parts.caches.clone();
        let engine = Engine::new(parts, &registry)?;
        let live_streams = live_streams::start(&engine, &caches.changes, &registry, &mut tasks)?;
        tasks.spawn(async move { refresher.run().await });
        keep_purging(&config, &engine, &mut tasks);
        let audit = AuditTrail::start(&config, &engine.lifecycle, &registry)?;
        let auth_failures = AuthFailureThrottles::start(&config, &registry)?;
        let metrics = pipeline::Metrics::register(&registry)?;
        let traces = Traces::start(&config, &registry)?;
        let background = Background { audit, last_used, usage, traces, tasks };
        RunningEngine::new(
            engine,
            config,
            store,
            caches,
            redis,
            signing_keys,
            metrics,
            limits,
            auth_failures,
            live_streams,
            background,
        )
    }
}

/// Loads the keys that sign derived JWTs.
async fn load_signing_keys(config: &Config, registry: &Registry) -> Result<SigningKeyRefresher, EngineError> {
    let sources = &config.credentials.derived_tokens.jwt.signing_keys;
    let options = signing_keys::Options { allow_internal: sources.allow_internal, ..signing_keys::Options::default() };
    let metrics = signing_keys::Metrics::register(registry)?;
    SigningKeyRefresher::load(&sources.urls, options, metrics)
        .await
        .map_err(|why| EngineError::Setting(format!("credentials.derived_tokens.jwt.signing_keys.urls: {why}")))
}

fn keep_purging(config: &Config, engine: &Engine, tasks: &mut Tasks) {
    let unless_zero = |time: ConfigDuration| Some(time.0).filter(|time| !time.is_zero());
    let retention = Retention {
        expired_keys: unless_zero(config.retention.expired_keys),
        usage: unless_zero(config.usage.retention),
    };
    let (lifecycle, context) = (Arc::clone(&engine.lifecycle), RequestContext::system(config.tenant()));
    tasks.spawn(async move { lifecycle.keep_purging(&context, retention).await });
}
