//! The running process: builds every part from a configuration, starts them in order, stops them in order.

use std::net::SocketAddr;
use std::sync::Arc;

use prometheus::Registry;
use tokio::runtime::{Builder, Runtime};

use super::build;
use super::caches;
use super::database;
use super::error::AppError;
use super::external_auth;
use super::last_used::LastUsed;
use super::limiter::RunningLimiter;
use super::listeners::Listeners;
use super::lookup_throttle;
use crate::admin::{self, AdminState, Server, ServerOptions};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::engine::{Engine, EngineParts};
use crate::external_auth::ExternalAuth;
use crate::gateway::{Gateway, GatewayParts};
use crate::lifecycle::Lifecycle;
use crate::pipeline;
use crate::request_context::RequestContext;
use crate::store::KeyStore;

/// Threads of the admin API. More than one, so that a slow call does not block the others.
const ADMIN_THREADS: usize = 2;
/// Threads of background work. More than one, so that other work does not delay the change feed.
const BACKGROUND_THREADS: usize = 2;

/// A running Keygate.
pub struct App {
    gateway: Option<Gateway>,
    external_auth: Option<ExternalAuth>,
    admin: Server,
    metrics: Server,
    lifecycle: Arc<Lifecycle>,
    limits: RunningLimiter,
    last_used: LastUsed,
    store: Arc<dyn KeyStore>,
    /// Outlives the servers, so that database connections never lose their runtime.
    background: Runtime,
}

impl App {
    /// Starts all parts of a configuration on listeners that are bound already.
    ///
    /// # Errors
    /// [`AppError`] if a part cannot be started; the other parts are stopped.
    pub fn start(config: &Config, listeners: Listeners) -> Result<Self, AppError> {
        let background = Builder::new_multi_thread()
            .worker_threads(BACKGROUND_THREADS)
            .thread_name("background")
            .enable_all()
            .build();
        let background = background.map_err(|cause| AppError::io("threads cannot be started", cause))?;
        let registry = Registry::new();
        let store = background.block_on(database::open(&config.db))?;
        let refresher = background.block_on(build::signing_keys(config, &registry))?;
        let signing_keys = refresher.keys();
        let redis = caches::connect_redis(config, &background)?;
        let caches = caches::start(config, &store, redis.as_ref(), &registry, &background)?;
        let limits = RunningLimiter::start(config, redis.as_ref(), &registry, &background)?;
        let last_used = LastUsed::start(config, &store, &registry, &background)?;
        let throttle = lookup_throttle::start(config, &store, &registry, &background)?;
        let parts = EngineParts {
            config,
            store: Arc::clone(&store),
            caches,
            signing_keys: Arc::clone(&signing_keys),
            clock: Arc::new(SystemClock),
            tracker: Some(last_used.tracker()),
            throttle,
        };
        let engine = Engine::new(parts, &registry)?;
        background.spawn(async move { refresher.run().await });
        let keep = config.retention.expired_keys.0;
        if !keep.is_zero() {
            let lifecycle = Arc::clone(&engine.lifecycle);
            let context = RequestContext::system(config.tenant());
            background.spawn(async move { lifecycle.keep_purging(&context, keep).await });
        }
        let state = AdminState {
            lifecycle: Arc::clone(&engine.lifecycle),
            verifier: Arc::clone(&engine.verifier),
            signing_keys,
            tenant: config.tenant(),
            client_ip_source: config.serve.http.client_ip_source,
            version: Arc::new(build::version(config)),
            limiter: limits.limiter.clone(),
            quiet_health: config.serve.http.request_log.exclude_health_endpoints,
        };
        let grace = config.serve.http.shutdown_grace.0;
        let serve = |listener, router, name, threads| {
            let options = ServerOptions { name, threads, grace };
            Server::start(listener, router, options)
                .map_err(|cause| AppError::io(format!("{name} cannot be served"), cause))
        };
        let metrics = serve(listeners.metrics, admin::metrics_router(state.clone(), registry.clone()), "metrics", 1)?;
        let admin = serve(listeners.admin, admin::router(state, &registry)?, "admin", ADMIN_THREADS)?;
        let requests = pipeline::Metrics::register(&registry)?;
        let external_auth =
            external_auth::start(config, listeners.external_auth, &engine.verifier, &limits, requests.clone())?;
        let gateway = match (&config.gateway, listeners.gateway) {
            (Some(settings), Some(listener)) => {
                let parts = GatewayParts {
                    config: settings,
                    verifier: engine.verifier,
                    limiter: limits.limiter.clone(),
                    on_backend_down: config.rate_limit.on_backend_down,
                    tenant: config.tenant(),
                    revoke_with_parent: config.credentials.derived_tokens.revoke_with_parent,
                };
                Some(Gateway::start(parts, listener, requests)?)
            }
            _ => None,
        };
        let lifecycle = engine.lifecycle;
        Ok(Self { gateway, external_auth, admin, metrics, lifecycle, limits, last_used, store, background })
    }

    /// The address of the gateway, if there is one.
    pub fn gateway_address(&self) -> Option<SocketAddr> {
        self.gateway.as_ref().map(Gateway::address)
    }

    /// The address of the admin API.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.address()
    }

    /// The address of health checks and metrics.
    pub fn metrics_address(&self) -> SocketAddr {
        self.metrics.address()
    }

    /// The lifecycle of keys, for commands of this process.
    pub fn lifecycle(&self) -> &Lifecycle {
        &self.lifecycle
    }

    /// The runtime of background work.
    pub fn background(&self) -> &Runtime {
        &self.background
    }

    /// Stops all listeners, waits for requests in flight, and closes the database.
    pub fn stop(self) {
        tracing::info!("stopping: no new requests are accepted");
        if let Some(external_auth) = self.external_auth {
            external_auth.stop();
        }
        if let Some(gateway) = self.gateway {
            gateway.stop();
        }
        self.admin.stop();
        self.background.block_on(self.limits.stop());
        self.last_used.stop(&self.background);
        self.background.block_on(self.store.close());
        // Last, so that health checks are answered until the end.
        self.metrics.stop();
        tracing::info!("stopped");
    }
}
