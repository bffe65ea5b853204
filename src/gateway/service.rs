//! The gateway's listener and its life, on a runtime of its own.

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
use prometheus::Registry;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use super::account::Metrics;
use super::decide::Decider;
use super::forward::{Added, owned};
use super::limit::Limits;
use super::proxy::Proxy;
use super::route::RouteTable;
use super::upstream::Upstream;
use crate::config::{GatewayConfig, UpstreamConfig};
use crate::id::TenantId;
use crate::ratelimit::Limiter;
use crate::verifier::Verifier;

/// How often the end of requests under way is looked for.
const DRAIN_POLL: Duration = Duration::from_millis(10);

/// A running gateway.
pub struct Gateway {
    address: SocketAddr,
    thread: JoinHandle<()>,
    /// Accept no more.
    stop: watch::Sender<bool>,
    /// Give up what is still under way.
    end: watch::Sender<bool>,
    metrics: Metrics,
    grace: Duration,
}

/// Why a gateway could not be started.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The listener is not usable.
    #[error("the gateway's listener cannot be used: {0}")]
    Listener(#[from] std::io::Error),
    /// The counters are there already.
    #[error("the gateway's metrics cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
}

impl Gateway {
    /// Starts serving on a bound listener.
    ///
    /// # Errors
    /// [`GatewayError`] when the listener or the threads cannot be had.
    pub fn start(
        config: &GatewayConfig,
        listener: TcpListener,
        verifier: Arc<Verifier>,
        limiter: Option<Arc<Limiter>>,
        revoke_with_parent: bool,
        registry: &Registry,
    ) -> Result<Self, GatewayError> {
        crate::tls::install_crypto_provider();
        let metrics = Metrics::register(registry, config.routes.len())?;
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let threads = threads(config.threads);
        let limits = limiter.map(|limiter| Limits::new(config, limiter));
        let routes = RouteTable::new(&config.routes);
        let tenant = TenantId::NIL;
        let upstream = |(name, upstream): (&String, &UpstreamConfig)| (name.clone(), Arc::new(Upstream::new(upstream)));
        let upstreams: HashMap<String, Arc<Upstream>> = config.upstreams.iter().map(upstream).collect();
        let proxy = Proxy {
            decider: Decider::new(routes, verifier, limits, tenant, revoke_with_parent),
            added: Added::new(&config.request_headers),
            tenant: owned(tenant.to_string()),
            limit_fields: config.limit_headers.upstream,
            upstreams: config.routes.iter().map(|route| upstreams.get(&route.upstream).cloned()).collect(),
            metrics: metrics.clone(),
        };
        let ((stop, stopped), (end, mut ended)) = (watch::channel(false), watch::channel(false));
        let server = Arc::new(ServerConf { threads, ..ServerConf::default() });
        let mut service = http_proxy_service(&server, proxy);
        // pingora takes over a socket that is listed under the address it is told to listen on.
        service.add_tcp(&address.to_string());
        let mut sockets = Fds::new();
        sockets.add(address.to_string(), listener.into_raw_fd());
        let sockets: ListenFds = Arc::new(parking_lot::Mutex::new(sockets));
        let runtime = runtime(threads)?;
        let serve = move || {
            runtime.block_on(async {
                service.start_service(Some(sockets), stopped, 1).await;
                // Requests under way live on the runtime. An error would mean that the gateway is dropped, which ends them too.
                let _ = ended.wait_for(|ended| *ended).await;
            });
            runtime.shutdown_timeout(DRAIN_POLL);
        };
        let thread = std::thread::Builder::new().name("gateway".into()).spawn(serve)?;
        Ok(Self { address, thread, stop, end, metrics, grace: config.shutdown_grace.0 })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts no more, lets requests under way end within the configured grace, and returns.
    pub fn stop(self) {
        // An error would mean that nobody serves any more, which is what is wanted.
        let _ = self.stop.send(true);
        let deadline = std::time::Instant::now() + self.grace;
        while self.metrics.in_flight() > 0 && std::time::Instant::now() < deadline {
            std::thread::sleep(DRAIN_POLL);
        }
        let left = self.metrics.in_flight();
        if left > 0 {
            tracing::warn!(left, "{left} requests were still under way when the grace was over");
        }
        let _ = self.end.send(true);
        if self.thread.join().is_err() {
            tracing::error!("the gateway's thread has panicked");
        }
    }
}

/// One thread needs none of what lets several share their work, which costs every request (docs/performance.md).
fn runtime(threads: usize) -> std::io::Result<Runtime> {
    let mut builder = if threads == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    builder.worker_threads(threads).thread_name("gateway").enable_all().build()
}

fn threads(configured: usize) -> usize {
    if configured > 0 { configured } else { std::thread::available_parallelism().map_or(1, usize::from) }
}
