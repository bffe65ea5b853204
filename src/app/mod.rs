//! The process: builds every part from a configuration, starts them in order, stops them in order.

mod build;
mod caches;
mod data_dir;
mod database;
mod dev;
mod last_used;
mod limiter;
mod listeners;
mod lookup_throttle;
mod signals;

pub use crate::admin::openapi_json;
pub use build::{BUILD_TIME, COMMIT};
pub use database::Migrations;
pub use dev::{Dev, DevOptions};
pub use listeners::{Listeners, bind};
pub use signals::wait_for_stop;

use std::net::SocketAddr;
use std::sync::Arc;

use prometheus::Registry;
use tokio::runtime::{Builder, Runtime};

use crate::admin::{self, AdminState, Server, ServerOptions};
use crate::clock::SystemClock;
use crate::config::{Config, ConfigErrors};
use crate::engine::{Engine, EngineParts};
use crate::gateway::{Gateway, GatewayError, GatewayParts};
use crate::lifecycle::Lifecycle;
use crate::request_context::RequestContext;
use crate::store::{KeyStore, SchemaError, StoreError};
use last_used::LastUsed;
use limiter::RunningLimiter;

/// Threads of the admin API: enough that one slow call holds up nobody.
const ADMIN_THREADS: usize = 2;
/// Threads of the work beside: following changes must not wait for whatever else there is.
const BACKGROUND_THREADS: usize = 2;

/// A running Keygate.
pub struct App {
    gateway: Option<Gateway>,
    admin: Server,
    metrics: Server,
    lifecycle: Arc<Lifecycle>,
    limits: RunningLimiter,
    uses: LastUsed,
    store: Arc<dyn KeyStore>,
    /// Outlives the servers, so that connections to the database never lose their runtime.
    background: Runtime,
}

/// Why Keygate could not be started.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// A setting is right in form but cannot be used.
    #[error("{0}")]
    Setting(String),
    /// A listener, a thread or a file cannot be had.
    #[error("{what}: {cause}")]
    Io {
        /// What was attempted.
        what: String,
        /// Why it failed.
        cause: std::io::Error,
    },
    /// The keys cannot be had.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The tables of the keys are not what this version needs.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The gateway cannot be started.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// The metrics clash.
    #[error("the metrics cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
}

impl AppError {
    pub(crate) fn io(what: impl Into<String>, cause: std::io::Error) -> Self {
        Self::Io { what: what.into(), cause }
    }
}

impl App {
    /// Starts everything that the configuration asks for, on listeners that are bound already.
    ///
    /// # Errors
    /// [`AppError`] when a part cannot be started; then nothing is left running.
    pub fn start(config: &Config, listeners: Listeners) -> Result<Self, AppError> {
        let background = Builder::new_multi_thread()
            .worker_threads(BACKGROUND_THREADS)
            .thread_name("background")
            .enable_all()
            .build();
        let background = background.map_err(|cause| AppError::io("threads cannot be started", cause))?;
        let registry = Registry::new();
        let store = background.block_on(database::open(&config.db))?;
        let key_set = background.block_on(build::key_set(config, &registry))?;
        let signing_keys = key_set.keys();
        let redis = caches::connect_redis(config, &background)?;
        let caches = caches::start(config, &store, redis.as_ref(), &registry, &background)?;
        let limits = RunningLimiter::start(config, redis.as_ref(), &registry, &background)?;
        let uses = LastUsed::start(config, &store, &registry, &background)?;
        let throttle = lookup_throttle::start(config, &store, &registry, &background)?;
        let parts = EngineParts {
            config,
            store: Arc::clone(&store),
            caches,
            signing_keys: Arc::clone(&signing_keys),
            clock: Arc::new(SystemClock),
            tracker: Some(uses.tracker()),
            throttle,
        };
        let core = Engine::new(parts, &registry)?;
        background.spawn(async move { key_set.run().await });
        let keep = config.retention.expired_keys.0;
        if !keep.is_zero() {
            let lifecycle = Arc::clone(&core.lifecycle);
            let context = RequestContext::system(config.tenant());
            background.spawn(async move { lifecycle.keep_purging(&context, keep).await });
        }
        let state = AdminState {
            lifecycle: Arc::clone(&core.lifecycle),
            verifier: Arc::clone(&core.verifier),
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
        let gateway = match (&config.gateway, listeners.gateway) {
            (Some(settings), Some(listener)) => {
                let parts = GatewayParts {
                    config: settings,
                    verifier: core.verifier,
                    limiter: limits.limiter.clone(),
                    on_backend_down: config.rate_limit.on_backend_down,
                    tenant: config.tenant(),
                    revoke_with_parent: config.credentials.derived_tokens.revoke_with_parent,
                };
                Some(Gateway::start(parts, listener, &registry)?)
            }
            _ => None,
        };
        Ok(Self { gateway, admin, metrics, lifecycle: core.lifecycle, limits, uses, store, background })
    }

    /// Where the gateway listens, if there is one.
    pub fn gateway_address(&self) -> Option<SocketAddr> {
        self.gateway.as_ref().map(Gateway::address)
    }

    /// Where the admin API listens.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.address()
    }

    /// Where health and metrics are.
    pub fn metrics_address(&self) -> SocketAddr {
        self.metrics.address()
    }

    /// The write side, for commands of this process.
    pub fn lifecycle(&self) -> &Lifecycle {
        &self.lifecycle
    }

    /// The runtime that work beside the servers runs on.
    pub fn background(&self) -> &Runtime {
        &self.background
    }

    /// Stops accepting everywhere, lets what is under way end, and closes the database.
    pub fn stop(self) {
        tracing::info!("stopping: no new requests are taken");
        if let Some(gateway) = self.gateway {
            gateway.stop();
        }
        self.admin.stop();
        self.background.block_on(self.limits.stop());
        self.uses.stop(&self.background);
        self.background.block_on(self.store.close());
        // Last, so that the health of the process can be asked for as long as it lives.
        self.metrics.stop();
        tracing::info!("stopped");
    }
}
