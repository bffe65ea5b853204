//! The gateway's listeners, on runtimes of their own: start, drain, stop.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora::apps::{HttpServerApp, HttpServerOptions};
use pingora::connectors::TransportConnector;
use pingora::proxy::{HttpProxy, http_proxy};
use pingora::server::configuration::ServerConf;
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::RuntimeMetrics;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::accepted::{Accepted, Movable};
use super::connection::Connections;
use super::deadline::Clock;
use super::pingora::Proxy;
use super::reload::{GatewayReload, snapshot};
use super::socket::Socket;
use super::upstream::{RouteUpstream, RunningUpstreams, Upstreams};
use super::workers::Workers;
use crate::config;
use crate::listener::tls::TlsAcceptor;
use crate::listener::{
    AcceptLoop, AcceptedConnection, Admission, ListeningSocket, OpenConnections, StopTimes, UnixSocket,
};
use crate::pipeline::{CurrentSnapshot, Metrics, SnapshotParts};

/// More attempts than a request ever has: pingora's own limit would end the search for an endpoint that can be reached.
const MAX_ATTEMPTS: usize = 100_000;

/// A running gateway.
pub struct Gateway {
    address: Option<SocketAddr>,
    thread: JoinHandle<()>,
    /// Stops accepting connections.
    stop: watch::Sender<bool>,
    metrics: Metrics,
    runtime_metrics: Arc<[RuntimeMetrics]>,
    reload: GatewayReload,
    /// Their paths are removed at the end.
    _unix: Vec<UnixSocket>,
}

/// A listener in the gateway's runtime.
struct Listening {
    socket: AcceptingSocket,
    /// What connections share that are accepted from now on.
    connections: Arc<ArcSwap<Connections>>,
    accept: AcceptLoop,
}

/// A socket that tokio has not registered yet.
enum AcceptingSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
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
    /// Starts to serve on bound sockets. `upstreams` are those of the same configuration; `admission` has the caps of the connections; `opened`
    /// becomes true when connections are accepted, `None` for from the beginning; `idle` is how long a connection may be silent after the stop.
    ///
    /// # Errors
    /// [`GatewayError`] when a socket cannot be used or threads cannot be started.
    pub fn start(
        parts: SnapshotParts<'_>,
        upstreams: Upstreams,
        listeners: Vec<GatewayListener>,
        admission: &Admission,
        opened: Option<&watch::Receiver<bool>>,
        idle: Duration,
    ) -> Result<Self, GatewayError> {
        crate::tls::install_crypto_provider();
        let config = parts.config;
        let metrics = parts.metrics.clone();
        let address = listeners.iter().find_map(|listener| listener.socket.address());
        let threads = threads(config.threads);
        let workers = Workers::start(threads)?;
        let times = StopTimes { grace: config.shutdown_grace.0, idle };
        let snapshot = Arc::new(CurrentSnapshot::from_pointee(snapshot(parts, &upstreams)));
        let (stop, stopped) = watch::channel(false);
        let (proxy, connector, clock) = (proxy(threads, &snapshot), connector(config), Clock::new());
        let mut unix = Vec::new();
        let mut listening = Vec::new();
        let mut reload = Vec::new();
        for GatewayListener { config, mut socket, tls } in listeners {
            let (proxy, snapshot, clock) = (Arc::clone(&proxy), Arc::clone(&snapshot), Arc::clone(&clock));
            let proxy = (proxy, connector.clone());
            let connections = Connections::new(proxy, snapshot, clock, (&config, tls));
            let connections = Arc::new(ArcSwap::from_pointee(connections));
            reload.push((config.address, Arc::clone(&connections)));
            let accept = AcceptLoop {
                admission: admission.clone(),
                opened: opened.cloned(),
                ending: None,
                stopped: stopped.clone(),
                times,
                places: workers.places(),
            };
            listening.push(Listening { socket: AcceptingSocket::of(&mut socket)?, connections, accept });
            if let ListeningSocket::Unix(socket) = socket {
                unix.push(socket);
            }
        }
        let (upstreams, current) = watch::channel(upstreams);
        let reload = GatewayReload { snapshot, upstreams, listeners: reload.into() };
        let runtime_metrics = workers.metrics();
        let serve = move || workers.run(serve(listening, current, proxy, clock, stopped));
        let thread = std::thread::Builder::new().name("gateway".into()).spawn(serve)?;
        Ok(Self { address, thread, stop, metrics, runtime_metrics, reload, _unix: unix })
    }

    /// The address of the first TCP listener.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The metrics of its runtimes.
    pub fn runtime_metrics(&self) -> &[RuntimeMetrics] {
        &self.runtime_metrics
    }

    /// Replaces settings while the gateway runs.
    pub fn reload(&self) -> &GatewayReload {
        &self.reload
    }

    /// Begins to stop.
    pub fn begin_stop(&self) {
        // An error means that the thread has ended already.
        let _ = self.stop.send(true);
    }

    /// Stops accepting, waits for requests in flight up to the configured grace period, and returns.
    pub fn stop(self) {
        self.begin_stop();
        if self.thread.join().is_err() {
            tracing::error!("the gateway's thread has panicked");
        }
        let left = self.metrics.in_flight();
        if left > 0 {
            tracing::warn!(left, "{left} requests were still in flight at the end of the grace period");
        }
    }
}

/// Serves all listeners until the stop, and then until their connections have ended or the grace period is over.
async fn serve(
    listening: Vec<Listening>,
    mut upstreams: watch::Receiver<Upstreams>,
    proxy: Arc<HttpProxy<Proxy>>,
    clock: Arc<Clock>,
    mut stopped: watch::Receiver<bool>,
) {
    tokio::spawn(Arc::clone(&clock).run());
    // Their background work ends with this function.
    let mut running = RunningUpstreams::default();
    let current = upstreams.borrow_and_update().clone();
    running.follow(&current, &clock);
    let accepting: JoinSet<Option<OpenConnections>> = listening.into_iter().map(Listening::accept).collect();
    loop {
        tokio::select! {
            // An error means that the gateway was dropped, which is a stop as well.
            _ = stopped.wait_for(|stopped| *stopped) => break,
            Ok(()) = upstreams.changed() => {
                let current = upstreams.borrow_and_update().clone();
                running.follow(&current, &clock);
            }
        }
    }
    // Connections end after all sockets are closed, so that a client whose connection ends does not connect to one of them again.
    let open = accepting.join_all().await;
    clock.stop();
    proxy.http_cleanup().await;
    open.into_iter().flatten().map(OpenConnections::end).collect::<JoinSet<()>>().join_all().await;
}

impl Listening {
    /// Accepts connections until the stop.
    async fn accept(self) -> Option<OpenConnections> {
        let Self { socket, connections, accept } = self;
        let is_moved = !accept.places.is_empty();
        let accepted = match socket {
            AcceptingSocket::Tcp(listener) => match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => {
                    let serve = |stream: TcpStream, _, accepted| {
                        // Responses are written completely; waiting for more would delay them.
                        let _ = stream.set_nodelay(true);
                        let peer = stream.peer_addr().ok();
                        serve_socket(connections.load_full(), Accepted::new(stream, is_moved), peer, accepted)
                    };
                    Ok(accept.accept(listener, serve).await)
                }
                Err(error) => Err(error),
            },
            AcceptingSocket::Unix(listener) => match tokio::net::UnixListener::from_std(listener) {
                Ok(listener) => {
                    let serve = |stream: UnixStream, _, accepted| {
                        serve_socket(connections.load_full(), Accepted::new(stream, is_moved), None, accepted)
                    };
                    Ok(accept.accept(listener, serve).await)
                }
                Err(error) => Err(error),
            },
        };
        accepted.inspect_err(|error| tracing::error!(%error, "a listener of the gateway cannot be used")).ok()
    }
}

/// Serves a connection on the runtime on which this is called.
async fn serve_socket<S>(
    connections: Arc<Connections>,
    socket: Accepted<S>,
    peer: Option<SocketAddr>,
    accepted: AcceptedConnection,
) where
    S: Movable,
    Socket<S>: pingora::protocols::IO + 'static,
    S: AsRawFd,
{
    match socket.here() {
        Ok(socket) => connections.serve(Box::new(Socket::new(socket)), peer, accepted).await,
        Err(error) => tracing::warn!(%error, "a connection could not be served"),
    }
}

impl AcceptingSocket {
    fn of(socket: &mut ListeningSocket) -> std::io::Result<Self> {
        match socket {
            ListeningSocket::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                listener.try_clone().map(Self::Tcp)
            }
            ListeningSocket::Unix(socket) => {
                let listener = socket.take_listener()?;
                listener.set_nonblocking(true)?;
                Ok(Self::Unix(listener))
            }
        }
    }
}

fn proxy(threads: usize, snapshot: &Arc<CurrentSnapshot<RouteUpstream>>) -> Arc<HttpProxy<Proxy>> {
    let server = Arc::new(ServerConf { threads, max_retries: MAX_ATTEMPTS, ..ServerConf::default() });
    let mut proxy = http_proxy(&server, Proxy { snapshot: Arc::clone(snapshot) });
    // CONNECT reaches the front, which refuses it as it does other requests.
    let mut options = HttpServerOptions::default();
    options.allow_connect_method_proxying = true;
    proxy.server_options = Some(options);
    Arc::new(proxy)
}

/// What connects to upstreams for plain requests.
fn connector(config: &config::GatewayConfig) -> Option<Arc<TransportConnector>> {
    config.fast_path.then(|| Arc::new(TransportConnector::new(None)))
}

fn threads(configured: usize) -> usize {
    if configured > 0 { configured } else { std::thread::available_parallelism().map_or(1, usize::from) }
}
