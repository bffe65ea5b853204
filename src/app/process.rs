//! The running process: builds every part from a configuration, starts them in order, stops them in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use super::admissions::Admissions;
use super::config_watch::{ConfigWatch, StartedFrom};
use super::error::AppError;
use super::external_auth;
use super::listeners::Listeners;
use super::running_parts::{AdminRouters, RunningParts};
use super::signals::Signals;
use super::tls::TlsAcceptors;
use crate::admin::{CurrentRouter, Node, Server, ServerOptions};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, GatewayConfig};
use crate::engine::{Engine, RunningEngine};
use crate::external_auth::ExternalAuth;
use crate::gateway::{Gateway, GatewayListener, Upstreams};
use crate::lifecycle::Lifecycle;
use crate::listener::tls::TlsAcceptor;
use crate::listener::{ListeningSocket, StopTimes};
use crate::telemetry::{register_process_metrics, register_runtime_metrics};

/// Threads of the admin API. More than one, so that a slow call does not block the others.
const ADMIN_THREADS: usize = 2;
/// Threads of the listener for operations that need no key.
const PUBLIC_THREADS: usize = 1;
/// Threads of background work. More than one, so that other work does not delay the change feed.
const BACKGROUND_THREADS: usize = 2;

/// A running Keygate.
pub struct App {
    gateway: Option<Gateway>,
    external_auth: Option<ExternalAuth>,
    admin: Server,
    public: Option<Server>,
    metrics: Server,
    node: Arc<Node>,
    heartbeats: JoinHandle<()>,
    engine: RunningEngine,
    /// How long the listeners go on after a stop signal.
    delay: Duration,
    /// `None` once the configuration is watched.
    reloadable: Option<(RunningParts, Registry)>,
    config_watch: Option<JoinHandle<()>>,
    /// `None` after a signal.
    signals: Option<Signals>,
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
        register_process_metrics(&registry, SystemClock.now().timestamp())?;
        let admissions = Admissions::new(config, &registry)?;
        let tls = TlsAcceptors::new(config, &registry)?;
        let engine = Engine::builder(config.clone()).registry(registry.clone());
        let engine = background.block_on(engine.start())?;
        // Before the first listener, so that a process that serves stops gracefully; not earlier, so that one that waits for its database
        // can be ended.
        let mut signals = Signals::install(&background)?;
        if let Some(mut reopen) = signals.take_reopen() {
            let engine = engine.clone();
            background.spawn(async move {
                while reopen.recv().await.is_some() {
                    engine.reopen_access_log();
                }
            });
        }
        let signals = Some(signals);
        let gateway_config = config.gateway.as_ref().filter(|gateway| gateway.enabled);
        let upstreams =
            gateway_config.map(|gateway| Upstreams::new(gateway, &registry, &tls.file_metrics)).transpose()?;
        let routers = AdminRouters::new(&engine, upstreams.as_ref(), listeners.described(), &registry)?;
        let node = Arc::clone(routers.node());
        let heartbeats = Arc::clone(&node);
        let heartbeats = background.spawn(async move { heartbeats.run().await });
        let idle = config.serve.shutdown_idle_timeout.0;
        let times = StopTimes { grace: config.serve.http.shutdown_grace.0, idle };
        tls.watch(&background);
        let serve = |listener, router: CurrentRouter, (admission, tls), name, threads| {
            let options = ServerOptions { name, threads, times, admission, tls };
            Server::start(listener, router, options)
                .map_err(|cause| AppError::io(format!("{name} cannot be served"), cause))
        };
        let router = routers.metrics.clone();
        let metrics = serve(listeners.metrics.into(), router, (admissions.metrics, tls.metrics), "metrics", 1)?;
        let router = routers.admin.clone();
        let admin = serve(listeners.admin, router, (admissions.admin, tls.admin), "admin", ADMIN_THREADS)?;
        let public = listeners.public.map(|listener| {
            serve(listener.into(), routers.public.clone(), (admissions.public, tls.public), "public", PUBLIC_THREADS)
        });
        let public = public.transpose()?;
        let external_auth = external_auth::start(&engine, listeners.external_auth, admissions.external_auth)?;
        let gateway = match gateway_config.zip(upstreams) {
            Some((settings, upstreams)) => {
                let listeners = gateway_listeners(settings, listeners.gateway, tls.gateway);
                let parts = engine.snapshot_parts(settings);
                Some(Gateway::start(parts, upstreams, listeners, &admissions.gateway, idle)?)
            }
            None => None,
        };
        let runtimes = [
            ("background", Some(background.metrics())),
            ("admin", Some(admin.runtime_metrics())),
            ("metrics", Some(metrics.runtime_metrics())),
            ("public", public.as_ref().map(Server::runtime_metrics)),
            ("external_auth", external_auth.as_ref().map(ExternalAuth::runtime_metrics)),
            ("gateway", gateway.as_ref().map(Gateway::runtime_metrics).cloned()),
        ];
        let runtimes = runtimes.into_iter().filter_map(|(name, metrics)| Some((name, metrics?)));
        register_runtime_metrics(&registry, runtimes)?;
        let parts = RunningParts {
            engine: engine.clone(),
            admin: routers,
            gateway: gateway.as_ref().map(Gateway::reload).cloned(),
            external_auth: external_auth.as_ref().map(ExternalAuth::reload).cloned(),
        };
        let (reloadable, config_watch) = (Some((parts, registry)), None);
        Ok(Self {
            gateway,
            external_auth,
            admin,
            public,
            metrics,
            node,
            heartbeats,
            engine,
            delay: config.serve.shutdown_delay.0,
            reloadable,
            config_watch,
            signals,
            background,
        })
    }

    /// Reloads the configuration at SIGHUP and when its files change, until the stop. Without this, SIGHUP is a stop signal.
    ///
    /// # Errors
    /// [`AppError`] when its metrics are registered already.
    pub fn watch_config(&mut self, started: StartedFrom) -> Result<(), AppError> {
        let hangup = self.signals.as_mut().and_then(Signals::take_hangup);
        if let Some(((parts, registry), hangup)) = self.reloadable.take().zip(hangup) {
            let watch = ConfigWatch::new(started, parts, &registry)?;
            self.config_watch = Some(self.background.spawn(watch.run(hangup)));
        }
        Ok(())
    }

    /// The address of the gateway's first TCP listener, if there is one.
    pub fn gateway_address(&self) -> Option<SocketAddr> {
        self.gateway.as_ref().and_then(Gateway::address)
    }

    /// The address of the admin API; `None` if it listens on a Unix socket.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.address()
    }

    /// The address of health checks and metrics.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.address()
    }

    /// The lifecycle of keys, for commands of this process.
    pub fn lifecycle(&self) -> &Lifecycle {
        self.engine.lifecycle()
    }

    /// The engine of admin keys.
    pub fn admin_keys(&self) -> Engine {
        self.engine.admin_keys()
    }

    /// Waits for a stop signal: SIGINT or SIGTERM. A second signal ends the process at once with exit code 130.
    pub fn wait_for_stop(&mut self) {
        if let Some(signals) = self.signals.take() {
            signals.wait(&self.background);
        }
    }

    /// The runtime of background work.
    pub fn background(&self) -> &Runtime {
        &self.background
    }

    /// Stops all listeners, after the delay for load balancers, waits for requests in flight, and closes the database. The process is not
    /// ready from the beginning of this. The admin API, health and metrics accept connections until the gateway has stopped.
    pub fn stop(self) {
        self.node.set_stopping();
        if !self.delay.is_zero() {
            tracing::info!(delay = ?self.delay, "stopping: the process is not ready; the listeners go on for shutdown_delay");
            let delay = self.delay;
            self.background.block_on(async move { tokio::time::sleep(delay).await });
        }
        tracing::info!("stopping: no new requests are accepted");
        if let Some(watch) = self.config_watch {
            watch.abort();
        }
        if let Some(gateway) = &self.gateway {
            gateway.begin_stop();
        }
        for server in [Some(&self.admin), self.public.as_ref(), Some(&self.metrics)].into_iter().flatten() {
            server.end_connections();
        }
        if let Some(external_auth) = self.external_auth {
            external_auth.stop();
        }
        if let Some(gateway) = self.gateway {
            gateway.stop();
        }
        self.admin.stop();
        if let Some(public) = self.public {
            public.stop();
        }
        // A heartbeat after the node has left would list it again.
        self.heartbeats.abort();
        let _ = self.background.block_on(self.heartbeats);
        self.background.block_on(self.node.leave());
        self.background.block_on(self.engine.stop());
        // Last, so that health checks are answered until the end.
        self.metrics.stop();
        tracing::info!("stopped");
    }
}

/// The effective listeners of a gateway with their sockets and their TLS, which are in the same order.
fn gateway_listeners(
    config: &GatewayConfig,
    sockets: Vec<ListeningSocket>,
    tls: Vec<Option<TlsAcceptor>>,
) -> Vec<GatewayListener> {
    let listeners = config.effective_listeners().into_iter().zip(sockets).zip(tls);
    listeners.map(|(((_, config), socket), tls)| GatewayListener { config, socket, tls }).collect()
}
