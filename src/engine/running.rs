//! An engine with its background work.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Mutex;

use super::access_logs::AccessLogs;
use super::audit::AuditTrail;
use super::auth_failures::AuthFailureThrottles;
#[cfg(feature = "server")]
use super::caches::times;
use super::error::EngineError;
#[cfg(feature = "server")]
use super::file_follower::FileFollower;
use super::last_used::LastUsed;
use super::limiter::RunningLimiter;
use super::nodes::Redis;
use super::parts::{Engine, keyring};
use super::tasks::Tasks;
use super::traces::Traces;
use super::usage::Usage;
use crate::audit_log::GatheredCalls;
use crate::cache::Caches;
use crate::config::{Config, GatewayConfig};
use crate::credential::{Keyring, SigningKeys};
use crate::lifecycle::Lifecycle;
use crate::pipeline::live_streams::LiveStreams;
use crate::pipeline::{AccessLogSink, AuthFailureThrottle, Metrics, SnapshotParts};
use crate::ratelimit::Limiter;
#[cfg(feature = "server")]
use crate::store::StoreFile;
use crate::store::{KeyStore, NodeDirectory, StoreError};
use crate::traces::Tracer;
use crate::usage::UsageCounter;
use crate::verifier::Verifier;

/// An engine whose caches, limits and signing keys are kept up to date in the background. Clones are the same engine; the background
/// work ends with [`RunningEngine::stop`], or when the last clone is dropped.
#[derive(Clone)]
pub struct RunningEngine {
    engine: Engine,
    config: Arc<Config>,
    /// Where access-log lines are written; `None` if they are events of `tracing`.
    access_log: Option<AccessLogSink>,
    auth_failures: AuthFailureThrottles,
    shared: Arc<Shared>,
}

/// What does not depend on the settings that can change while the engine runs.
struct Shared {
    store: Arc<dyn KeyStore>,
    #[cfg_attr(
        not(feature = "server"),
        expect(dead_code, reason = "only a server is reloaded and replaced while it runs")
    )]
    caches: Caches<StoreError>,
    /// The connection to Redis, if there is one.
    #[cfg_attr(not(feature = "server"), expect(dead_code, reason = "only a server is reloaded while it runs"))]
    redis: Option<Arc<Redis>>,
    signing_keys: Arc<ArcSwap<SigningKeys>>,
    metrics: Metrics,
    limits: RunningLimiter,
    live_streams: Arc<LiveStreams>,
    gathered_calls: Arc<GatheredCalls>,
    usage: Option<Arc<UsageCounter>>,
    tracer: Option<Arc<Tracer>>,
    access_logs: AccessLogs,
    /// `None` once stopped.
    background: Mutex<Option<Background>>,
}

/// What runs in the background of an engine.
pub(super) struct Background {
    pub(super) audit: AuditTrail,
    pub(super) last_used: LastUsed,
    pub(super) usage: Option<Usage>,
    pub(super) traces: Option<Traces>,
    pub(super) tasks: Tasks,
}

impl RunningEngine {
    #[expect(clippy::too_many_arguments, reason = "one for each field")]
    pub(super) fn new(
        engine: Engine,
        config: Config,
        store: Arc<dyn KeyStore>,
        caches: Caches<StoreError>,
        redis: Option<Arc<Redis>>,
        signing_keys: Arc<ArcSwap<SigningKeys>>,
        metrics: Metrics,
        limits: RunningLimiter,
        auth_failures: AuthFailureThrottles,
        live_streams: Arc<LiveStreams>,
        background: Background,
    ) -> Result<Self, EngineError> {
        let gathered_calls = background.audit.gathered();
        let usage = background.usage.as_ref().map(Usage::counter);
        let tracer = background.traces.as_ref().map(Traces::tracer);
        let background = Mutex::new(Some(background));
        let shared = Shared {
            store,
            caches,
            redis,
            signing_keys,
            metrics,
            limits,
            live_streams,
            gathered_calls,
            usage,
            tracer,
            access_logs: AccessLogs::default(),
            background,
        };
        let access_log = shared.access_logs.sink(&config)?;
        Ok(Self { engine, config: Arc::new(config), access_log, auth_failures, shared: Arc::new(shared) })
    }

    /// The engine with the settings of another configuration: credentials, secrets, quotas and the throttle of rejected credentials. The database, the caches, the limiter and the
    /// background work stay as they are.
    ///
    /// # Errors
    /// [`EngineError`] if the output of the access log cannot be opened.
    #[doc(hidden)]
    pub fn reconfigured(&self, config: Config) -> Result<Self, EngineError> {
        let engine = self.engine.reconfigured(&config, &self.shared.signing_keys);
        let access_log = self.shared.access_logs.sink(&config)?;
        let auth_failures = self.auth_failures.reconfigured(&config);
        Ok(Self { engine, config: Arc::new(config), access_log, auth_failures, shared: Arc::clone(&self.shared) })
    }

    /// Opens the file of the access log again, after it was renamed.
    #[cfg(feature = "server")]
    pub(crate) fn reopen_access_log(&self) {
        self.shared.access_logs.reopen();
    }

    /// Verifies live streams with the settings of this engine from now on, and uses its times for the caches and Redis.
    #[cfg(feature = "server")]
    pub(crate) fn take_effect(&self) {
        self.shared.live_streams.set_verifier(Arc::clone(&self.engine.verifier));
        let cache = &self.config.cache;
        self.shared.caches.set_times(&times(cache));
        if let Some(redis) = &self.shared.redis {
            redis.set_timeout(cache.redis.timeout.0);
        }
    }

    /// Verifies credentials.
    pub fn verifier(&self) -> &Arc<Verifier> {
        &self.engine.verifier
    }

    /// Issues, imports, changes and revokes keys.
    pub fn lifecycle(&self) -> &Arc<Lifecycle> {
        &self.engine.lifecycle
    }

    /// The engine of admin keys: see [`Engine::for_admin_keys`].
    pub fn admin_keys(&self) -> Engine {
        self.engine.for_admin_keys(&self.config)
    }

    /// The throttle of addresses that repeatedly present rejected credentials to the admin API.
    pub fn admin_auth_failures(&self) -> Option<&Arc<AuthFailureThrottle>> {
        self.auth_failures.admin.as_ref()
    }

    /// The configuration that the engine was started with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The secrets of the configuration.
    #[doc(hidden)]
    pub fn keyring(&self) -> Keyring {
        keyring(&self.config)
    }

    /// The limiter; `None` if limits are not enforced.
    pub fn limiter(&self) -> Option<&Arc<Limiter>> {
        self.shared.limits.limiter.as_ref()
    }

    /// The keys that sign derived JWTs.
    pub fn signing_keys(&self) -> &Arc<ArcSwap<SigningKeys>> {
        &self.shared.signing_keys
    }

    /// Counts refused calls and failed verifications of the admin API for the audit trail.
    #[doc(hidden)]
    pub fn gathered_calls(&self) -> &Arc<GatheredCalls> {
        &self.shared.gathered_calls
    }

    /// The directory of the nodes of the installation; `None` if this is the only one.
    pub fn node_directory(&self) -> Option<Arc<dyn NodeDirectory>> {
        Arc::clone(&self.shared.store).node_directory()
    }

    /// Records traces; `None` if there are none.
    #[doc(hidden)]
    pub fn tracer(&self) -> Option<&Arc<Tracer>> {
        self.shared.tracer.as_ref()
    }

    /// The metrics of the requests of all fronts.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// The parts of a snapshot with these routes and limits, for a front of this process.
    pub fn snapshot_parts<'a>(&self, gateway: &'a GatewayConfig) -> SnapshotParts<'a> {
        let config = &*self.config;
        SnapshotParts {
            config: gateway,
            verifier: Arc::clone(self.verifier()),
            limiter: self.limiter().cloned(),
            auth_failures: self.auth_failures.gateway.clone(),
            on_backend_down: config.rate_limit.on_backend_down,
            tenant: config.tenant(),
            revoke_with_parent: config.credentials.derived_tokens.revoke_with_parent,
            usage: self.shared.usage.clone(),
            live_streams: Some(Arc::clone(&self.shared.live_streams)),
            metrics: self.shared.metrics.clone(),
            tracer: self.tracer().cloned(),
            access_log: self.access_log.clone(),
        }
    }

    /// The file of the database, if one process at a time uses it.
    #[cfg(feature = "server")]
    pub(crate) fn file(&self) -> Option<Arc<dyn StoreFile>> {
        Arc::clone(&self.shared.store).file()
    }

    /// Begins to follow the changes that another process makes to the file of the database; `None` without a file.
    ///
    /// # Errors
    /// [`EngineError`] if the database cannot answer.
    #[cfg(feature = "server")]
    pub(crate) async fn follow_file(&self) -> Result<Option<FileFollower>, EngineError> {
        FileFollower::begin(&self.shared.store, self.shared.caches.clone()).await
    }

    /// Ends the background work, writes the last uses and the usage of keys, seals the last rows of the audit trail, sends the last spans and
    /// closes the database.
    /// Called when no more credentials are verified.
    pub async fn stop(&self) {
        let Some(background) = self.shared.background.lock().await.take() else { return };
        let Background { audit, last_used, usage, traces, tasks } = background;
        self.shared.limits.stop().await;
        last_used.stop().await;
        if let Some(usage) = usage {
            usage.stop().await;
        }
        audit.stop().await;
        if let Some(traces) = traces {
            traces.stop().await;
        }
        drop(tasks);
        self.shared.access_logs.flush();
        self.shared.store.close().await;
    }
}
