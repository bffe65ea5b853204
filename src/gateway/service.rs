//! The gateway's listeners, on a runtime of their own: start, drain, stop.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::IntoRawFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use pingora::apps::HttpServerOptions;
use pingora::listeners::{ListenerConfig, Listeners};
use pingora::protocols::l4::stream::L4BufferSettings;
use pingora::proxy::http_proxy;
use pingora::server::configuration::ServerConf;
use pingora::server::{Fds, ListenFds};
use pingora::services::Service as _;
use pingora::services::listening::Service;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::http1::{Clock, Front};
use super::pingora::{Proxy, RouteUpstream};
use super::server_app::ListenerApp;
use super::upstream::Upstream;
use crate::cidr::CidrSet;
use crate::config::{self, UpstreamConfig};
use crate::listener::tls::TlsAcceptor;
use crate::listener::{Admission, ListeningSocket, UnixSocket};
use crate::pipeline::{CurrentSnapshot, ListenerTrust, Metrics, Snapshot, SnapshotParts};

/// How often draining checks for requests in flight.
const DRAIN_POLL: Duration = Duration::from_millis(10);

/// A running gateway.
pub struct Gateway {
    address: Option<SocketAddr>,
    thread: JoinHandle<()>,
    /// Stops accepting connections.
    stop: watch::Sender<bool>,
    /// Ends the requests that are still in flight.
    end: watch::Sender<bool>,
    metrics: Metrics,
    grace: Duration,
    /// Their paths are removed at the end.
    _unix: Vec<UnixSocket>,
}

/// A pingora service for one listener, and the descriptor that it listens on.
struct Listening {
    service: Service<ListenerApp>,
    sockets: ListenFds,
}

/// A listener of the gateway, ready to serve.
pub struct GatewayListener {
    /// Its settings.
    pub config: config::ListenerConfig,
    /// Its bound socket.
    pub socket: ListeningSocket,
    /// Its TLS; `None` for clear text.
    pub tls: Option<TlsAcceptor>,
}

/// Why a gateway cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The listener cannot be used.
    #[error("the gateway's listener cannot be used: {0}")]
    Listener(#[from] std::io::Error),
}

impl Gateway {
    /// Starts to serve on bound sockets. `admission` has the caps of their connections.
    ///
    /// # Errors
    /// [`GatewayError`] when a socket cannot be used or threads cannot be started.
    pub fn start(
        parts: SnapshotParts<'_>,
        listeners: Vec<GatewayListener>,
        admission: &Admission,
    ) -> Result<Self, GatewayError> {
        crate::tls::install_crypto_provider();
        let config = parts.config;
        let metrics = parts.metrics.clone();
        let address = listeners.iter().find_map(|listener| listener.socket.address());
        let threads = threads(config.threads);
        let snapshot = Arc::new(CurrentSnapshot::from_pointee(snapshot(parts)));
        let ((stop, stopped), (end, mut ended)) = (watch::channel(false), watch::channel(false));
        let server = Arc::new(ServerConf { threads, ..ServerConf::default() });
        let mut proxy = http_proxy(&server, Proxy { snapshot: Arc::clone(&snapshot) });
        // CONNECT reaches the front, which refuses it as it does other requests.
        let mut options = HttpServerOptions::default();
        options.allow_connect_method_proxying = true;
        proxy.server_options = Some(options);
        let proxy = Arc::new(proxy);
        let clock = Clock::new();
        let mut unix = Vec::new();
        let mut services = Vec::new();
        for GatewayListener { config, socket, tls } in listeners {
            let front = Front {
                proxy: Arc::clone(&proxy),
                snapshot: Arc::clone(&snapshot),
                clock: Arc::clone(&clock),
                limits: config.limits,
                trust: Arc::new(ListenerTrust::from(&config)),
                // With TLS it is ALPN that selects HTTP/2.
                http2: config.http2 && tls.is_none(),
            };
            let proxies = CidrSet::parse(&config.proxy_protocol.trusted).unwrap_or_default();
            let app = ListenerApp { front, admission: admission.clone(), tls, proxies };
            services.push(Listening::new(&socket, app)?);
            if let ListeningSocket::Unix(socket) = socket {
                unix.push(socket);
            }
        }
        let runtime = runtime(threads)?;
        let serve = move || {
            runtime.block_on(async {
                tokio::spawn(clock.run());
                let services: JoinSet<()> =
                    services.into_iter().map(|listening| listening.run(stopped.clone())).collect();
                services.join_all().await;
                // Requests in flight need the runtime. An error means that the gateway was dropped, which ends them as well.
                let _ = ended.wait_for(|ended| *ended).await;
            });
            runtime.shutdown_timeout(DRAIN_POLL);
        };
        let thread = std::thread::Builder::new().name("gateway".into()).spawn(serve)?;
        Ok(Self { address, thread, stop, end, metrics, grace: config.shutdown_grace.0, _unix: unix })
    }

    /// The address of the first TCP listener.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Stops accepting, waits for requests in flight up to the configured grace period, and returns.
    pub fn stop(self) {
        // An error means that the thread has ended already.
        let _ = self.stop.send(true);
        let deadline = std::time::Instant::now() + self.grace;
        while self.metrics.in_flight() > 0 && std::time::Instant::now() < deadline {
            std::thread::sleep(DRAIN_POLL);
        }
        let left = self.metrics.in_flight();
        if left > 0 {
            tracing::warn!(left, "{left} requests were still in flight at the end of the grace period");
        }
        let _ = self.end.send(true);
        if self.thread.join().is_err() {
            tracing::error!("the gateway's thread has panicked");
        }
    }
}

impl Listening {
    fn new(socket: &ListeningSocket, app: ListenerApp) -> std::io::Result<Self> {
        let mut listeners = Listeners::new();
        // pingora uses a socket that is listed under the address that it would bind.
        let (name, descriptor) = match socket {
            ListeningSocket::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                let name = listener.local_addr()?.to_string();
                listeners.add_listener(ListenerConfig::tcp(&name).l4_buffer(L4BufferSettings::unbuffered()));
                (name, listener.try_clone()?.into_raw_fd())
            }
            ListeningSocket::Unix(socket) => {
                let listener = socket.listener()?;
                listener.set_nonblocking(true)?;
                let name = socket.path().display().to_string();
                // pingora sets the mode once more.
                let config = ListenerConfig::uds(&name).permissions(UnixSocket::permissions());
                listeners.add_listener(config.l4_buffer(L4BufferSettings::unbuffered()));
                (name, listener.into_raw_fd())
            }
        };
        let mut sockets = Fds::new();
        sockets.add(name, descriptor);
        let service = Service::with_listeners("gateway".into(), listeners, app);
        Ok(Self { service, sockets: Arc::new(parking_lot::Mutex::new(sockets)) })
    }

    async fn run(mut self, stopped: watch::Receiver<bool>) {
        self.service.start_service(Some(self.sockets), stopped, 1).await;
    }
}

/// A single thread needs no work stealing, which costs every request (docs/performance.md).
fn runtime(threads: usize) -> std::io::Result<Runtime> {
    let mut builder = if threads == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    builder.worker_threads(threads).thread_name("gateway").enable_all().build()
}

fn threads(configured: usize) -> usize {
    if configured > 0 { configured } else { std::thread::available_parallelism().map_or(1, usize::from) }
}

/// The snapshot of a configuration, with one upstream object for all routes that name it.
fn snapshot(parts: SnapshotParts<'_>) -> Snapshot<RouteUpstream> {
    let upstream = |(name, upstream): (&String, &UpstreamConfig)| (name.clone(), Arc::new(Upstream::new(upstream)));
    let upstreams: HashMap<String, Arc<Upstream>> = parts.config.upstreams.iter().map(upstream).collect();
    Snapshot::new(parts, |name| upstreams.get(name).cloned())
}
