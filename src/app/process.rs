//! The running process: builds every part from a configuration, starts them in order, stops them in order.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::admin as admin_api;
use super::admissions::Admissions;
use super::config_watch::{ConfigWatch, StartedFrom};
use super::error::AppError;
use super::external_auth;
use super::handover::{HANDSHAKE, Predecessor, SharedSockets, Successor};
use super::listeners::Listeners;
use super::running_parts::{AdminRouters, RunningParts};
use super::signals::Signals;
use super::tls::TlsAcceptors;
use crate::admin::{CurrentRouter, Node, Server, ServerOptions};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Dsn, GatewayConfig};
use crate::engine::{Engine, FileFollower, RunningEngine};
use crate::external_auth::ExternalAuth;
use crate::gateway::{Gateway, GatewayListener, Upstreams};
use crate::lifecycle::Lifecycle;
use crate::listener::tls::TlsAcceptor;
use crate::listener::{ListeningSocket, StopTimes};
use crate::store::{Access, LentLock};
use crate::telemetry::{register_process_metrics, register_runtime_metrics};

/// Threads of the admin API. More than one, so that a slow call does not block the others.
const ADMIN_THREADS: usize = 2;
/// Threads of the listener for operations that need no key.
const PUBLIC_THREADS: usize = 1;
/// The time between two looks at whether this process is ready.
const READY_LOOK: Duration = Duration::from_millis(20);
/// Threads of background work. More than one, so that other work does not delay the change feed.
const BACKGROUND_THREADS: usize = 2;

/// The process that replaces this one.
struct Replaced {
    successor: Successor,
    /// Follows its changes of the database.
    following: Option<JoinHandle<()>>,
    /// Ends that when it is dropped.
    _followed: oneshot::Sender<Infallible>,
}

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
    /// Follows the process that this one replaces, from when on [`Self::succeed`] was called.
    follower: Option<FileFollower>,
    /// Follows another process that uses the file of the database.
    following: Option<JoinHandle<()>>,
    /// Lets the listeners accept, if they do not do so from the beginning: when this process is ready to replace another one.
    open: Option<watch::Sender<bool>>,
    /// What is passed on to a process that replaces this one; `None` if none can.
    sockets: Option<SharedSockets>,
    /// Set once another process replaces this one.
    replaced: Option<Replaced>,
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
        Self::start_after(config, listeners, false, None)
    }

    /// The same for a process that may replace another one, which lends the lock of its database. If it does, its listeners accept connections
    /// from when on [`Self::succeed`] finds it ready; the other process accepts them until then.
    ///
    /// # Errors
    /// As of [`Self::start`].
    pub fn start_after(
        config: &Config,
        listeners: Listeners,
        is_successor: bool,
        lock: Option<LentLock>,
    ) -> Result<Self, AppError> {
        let (open, opened) = is_successor.then(|| watch::channel(false)).unzip();
        let lock = lock.filter(|lock| is_of_database(lock, config));
        let is_lent = lock.is_some();
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
        let access = lock.map_or(Access::Exclusive, |lock| Access::Lent(lock.file));
        let engine = Engine::builder(config.clone()).registry(registry.clone()).access(access);
        let engine = background.block_on(engine.start())?;
        let follower = if is_lent { background.block_on(engine.follow_file())? } else { None };
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
        let running_tls = tls.clone();
        admin_api::log_warnings(config, None);
        let serve = |listener, router: CurrentRouter, (admission, tls), name, threads| {
            let options = ServerOptions { name, threads, times, admission, tls, opened: opened.clone() };
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
        let external_auth =
            external_auth::start(&engine, listeners.external_auth, admissions.external_auth, opened.clone())?;
        let gateway = match gateway_config.zip(upstreams) {
            Some((settings, upstreams)) => {
                let listeners = gateway_listeners(settings, listeners.gateway, tls.gateway);
                let parts = engine.snapshot_parts(settings);
                Some(Gateway::start(parts, upstreams, listeners, &admissions.gateway, opened.as_ref(), idle)?)
            }
            None => None,
        };
        let runtimes = [
            ("background", Some(background.metrics())),
            ("admin", Some(admin.runtime_metrics())),
            ("metrics", Some(metrics.runtime_metrics())),
            ("public", public.as_ref().map(Server::runtime_metrics)),
            ("external_auth", external_auth.as_ref().map(ExternalAuth::runtime_metrics)),
        ];
        let runtimes = runtimes.into_iter().filter_map(|(name, metrics)| Some((name, metrics?)));
        // One for each worker.
        let workers = gateway.iter().flat_map(Gateway::runtime_metrics);
        register_runtime_metrics(&registry, runtimes.chain(workers.map(|metrics| ("gateway", metrics.clone()))))?;
        let parts = RunningParts {
            engine: engine.clone(),
            admin: routers,
            gateway: gateway.as_ref().map(Gateway::reload).cloned(),
            external_auth: external_auth.as_ref().map(ExternalAuth::reload).cloned(),
            tls: running_tls,
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
            follower,
            following: None,
            open,
            sockets: None,
            replaced: None,
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

    /// Lets another process replace this one at SIGUSR2. `sockets` are those of the listeners of this process. Without this, SIGUSR2 has no
    /// effect.
    pub fn replaceable(&mut self, sockets: SharedSockets) {
        self.sockets = Some(sockets);
    }

    /// Replaces the process that has started this one: waits until this process is ready, accepts connections, and has that one end.
    pub fn succeed(&mut self, predecessor: Predecessor) {
        self.background.block_on(async {
            while let Err(reason) = self.node.ready().await {
                tracing::debug!(%reason, "not ready to replace another process");
                tokio::time::sleep(READY_LOOK).await;
            }
        });
        if let Some(open) = self.open.take() {
            // An error means that a listener has ended already.
            let _ = open.send(true);
        }
        // A process that has ended by itself needs no message: its sockets and its lock are those of this process.
        if let Err(error) = predecessor.replace() {
            tracing::warn!(%error, "process {} has ended already", predecessor.id());
        }
        tracing::info!("this process replaces process {}", predecessor.id());
        if let Some(file) = self.engine.file()
            && let Err(error) = file.own_lock()
        {
            tracing::warn!(%error, "the lock of the database names the process before this one");
        }
        let follower = self.follower.take();
        self.following = Some(self.background.spawn(async move {
            match follower {
                Some(follower) => follower.run(predecessor.ended()).await,
                None => predecessor.ended().await,
            }
        }));
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

    /// Waits for a stop signal, SIGINT or SIGTERM, or until another process replaces this one. A second signal ends the process at once with
    /// exit code 130.
    pub fn wait_for_stop(&mut self) {
        let Some(signals) = self.signals.take() else { return };
        let (sockets, engine) = (self.sockets.as_ref(), &self.engine);
        let replaced = signals.wait(&self.background, async || replace(sockets?, engine).await);
        self.replaced = replaced;
    }

    /// The runtime of background work.
    pub fn background(&self) -> &Runtime {
        &self.background
    }

    /// Stops all listeners, after the delay for load balancers, waits for requests in flight, and closes the database. The process is not
    /// ready from the beginning of this. The admin API, health and metrics accept connections until the gateway has stopped.
    pub fn stop(self) {
        self.node.set_stopping();
        let is_replaced = self.replaced.is_some();
        if is_replaced && let Some(sockets) = &self.sockets {
            sockets.keep_paths();
        }
        // Load balancers do not see that one process replaces another.
        if !self.delay.is_zero() && !is_replaced {
            tracing::info!(delay = ?self.delay, "stopping: the process is not ready; the listeners go on for shutdown_delay");
            let delay = self.delay;
            self.background.block_on(async move { tokio::time::sleep(delay).await });
        }
        tracing::info!("stopping: no new requests are accepted");
        if let Some(watch) = self.config_watch {
            watch.abort();
        }
        if let Some(sockets) = self.sockets {
            // The queue is accepted meanwhile, so that nothing is left in it when the sockets are closed.
            if !is_replaced && sockets.drop_attempts() {
                self.background.block_on(async { tokio::time::sleep(HANDSHAKE).await });
            }
            // Otherwise the listening sockets would stay open.
            drop(sockets);
        }
        if let Some(gateway) = &self.gateway {
            gateway.begin_stop();
        }
        for server in [Some(&self.admin), self.public.as_ref(), Some(&self.metrics)].into_iter().flatten() {
            server.end_connections();
            if is_replaced {
                server.begin_stop();
            }
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
        for following in [self.following, self.replaced.and_then(|replaced| replaced.following)].into_iter().flatten() {
            following.abort();
        }
        self.background.block_on(self.engine.stop());
        // Last, so that health checks are answered until the end.
        self.metrics.stop();
        tracing::info!("stopped");
    }
}

/// Starts the process that replaces this one, and follows its changes of the database. `None` if it does not become ready, which is logged.
async fn replace(sockets: &SharedSockets, engine: &RunningEngine) -> Option<Replaced> {
    tracing::info!("another process is started to replace this one");
    match start_successor(sockets, engine).await {
        Ok(started) => {
            tracing::info!("process {} replaces this one, which stops", started.successor.id());
            Some(started)
        }
        Err(error) => {
            tracing::error!("this process was not replaced and goes on: {error}");
            None
        }
    }
}

async fn start_successor(
    sockets: &SharedSockets,
    engine: &RunningEngine,
) -> Result<Replaced, Box<dyn std::error::Error + Send + Sync>> {
    let lock = engine.file().map(|file| file.lend_lock()).transpose()?.flatten();
    // Before the other process can change anything.
    let follower = engine.follow_file().await?;
    let (failed, has_failed) = oneshot::channel::<Infallible>();
    let following = follower.map(|follower| tokio::spawn(follower.run(async move { drop(has_failed.await) })));
    // Dropped with this future as well: the other process has ended then.
    let successor = Successor::start(sockets, lock.as_ref()).await?;
    Ok(Replaced { successor, following, _followed: failed })
}

/// Whether a lock is that of the database of a configuration.
fn is_of_database(lock: &LentLock, config: &Config) -> bool {
    match config.db.parse() {
        Ok(Dsn::Sqlite { path: Some(path), .. }) => path.canonicalize().is_ok_and(|path| path == lock.database),
        _ => false,
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
