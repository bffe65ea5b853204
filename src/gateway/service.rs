//! The gateway's listener, on a runtime of its own: start, drain, stop.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use pingora::proxy::http_proxy_service;
use pingora::server::configuration::ServerConf;
use pingora::server::{Fds, ListenFds};
use pingora::services::Service;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use super::pingora::{Proxy, RouteUpstream};
use super::upstream::Upstream;
use crate::config::UpstreamConfig;
use crate::pipeline::{CurrentSnapshot, Metrics, Snapshot, SnapshotParts};

/// How often draining checks for requests in flight.
const DRAIN_POLL: Duration = Duration::from_millis(10);

/// A running gateway.
pub struct Gateway {
    address: SocketAddr,
    thread: JoinHandle<()>,
    /// Stops accepting connections.
    stop: watch::Sender<bool>,
    /// Ends the requests that are still in flight.
    end: watch::Sender<bool>,
    metrics: Metrics,
    grace: Duration,
}

/// Why a gateway cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The listener cannot be used.
    #[error("the gateway's listener cannot be used: {0}")]
    Listener(#[from] std::io::Error),
}

impl Gateway {
    /// Starts to serve on a bound listener.
    ///
    /// # Errors
    /// [`GatewayError`] when the listener cannot be used or threads cannot be started.
    pub fn start(parts: SnapshotParts<'_>, listener: TcpListener) -> Result<Self, GatewayError> {
        crate::tls::install_crypto_provider();
        let config = parts.config;
        let metrics = parts.metrics.clone();
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let threads = threads(config.threads);
        let snapshot = Arc::new(CurrentSnapshot::from_pointee(snapshot(parts)));
        let proxy = Proxy { snapshot };
        let ((stop, stopped), (end, mut ended)) = (watch::channel(false), watch::channel(false));
        let server = Arc::new(ServerConf { threads, ..ServerConf::default() });
        let mut service = http_proxy_service(&server, proxy);
        // pingora uses a socket that is listed under the address that it would bind.
        service.add_tcp(&address.to_string());
        let mut sockets = Fds::new();
        sockets.add(address.to_string(), listener.into_raw_fd());
        let sockets: ListenFds = Arc::new(parking_lot::Mutex::new(sockets));
        let runtime = runtime(threads)?;
        let serve = move || {
            runtime.block_on(async {
                service.start_service(Some(sockets), stopped, 1).await;
                // Requests in flight need the runtime. An error means that the gateway was dropped, which ends them as well.
                let _ = ended.wait_for(|ended| *ended).await;
            });
            runtime.shutdown_timeout(DRAIN_POLL);
        };
        let thread = std::thread::Builder::new().name("gateway".into()).spawn(serve)?;
        Ok(Self { address, thread, stop, end, metrics, grace: config.shutdown_grace.0 })
    }

    /// The listening address.
    pub fn address(&self) -> SocketAddr {
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
