//! Active health checks.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::lb::Backend;
use pingora::lb::health_check::HealthCheck;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};

use super::check_connection::CheckConnector;
use super::endpoint::Endpoint;
use super::grpc_health::GrpcHealthCheck;
use super::http_health::{HttpHealthCheck, TcpHealthCheck};
use super::peer::plain_peer;
use super::tls::UpstreamTls;
use super::waiting::Waiting;
use crate::config::{EndpointUrl, HealthCheckConfig, HealthCheckType, UpstreamConfig, UpstreamProtocol};

type Check = Box<dyn HealthCheck + Send + Sync>;

/// Checks endpoints, each as the scheme and the host of its entry demand, and reports what changes.
pub(super) struct EndpointCheck {
    config: HealthCheckConfig,
    upstream: UpstreamConfig,
    urls: Vec<EndpointUrl>,
    tls: Option<Arc<UpstreamTls>>,
    /// Made again when the TLS files have changed.
    checks: Mutex<Arc<Checks>>,
    unhealthy_after: usize,
    healthy_after: usize,
    waiting: Arc<Waiting>,
}

/// The checks under one generation of the TLS files.
struct Checks {
    generation: u64,
    /// By entry; `None` for an entry that cannot be checked.
    by_entry: Vec<Option<Check>>,
}

impl EndpointCheck {
    pub(super) fn new<'u>(
        config: &HealthCheckConfig,
        upstream: &UpstreamConfig,
        urls: impl Iterator<Item = &'u EndpointUrl>,
        waiting: &Arc<Waiting>,
        tls: Option<Arc<UpstreamTls>>,
    ) -> Self {
        let urls: Vec<_> = urls.cloned().collect();
        let checks = Checks::new(config, upstream, &urls, tls.as_ref());
        Self {
            checks: Mutex::new(Arc::new(checks)),
            unhealthy_after: usize::try_from(config.unhealthy_after).unwrap_or(1),
            healthy_after: usize::try_from(config.healthy_after).unwrap_or(1),
            waiting: Arc::clone(waiting),
            config: config.clone(),
            upstream: upstream.clone(),
            urls,
            tls,
        }
    }

    /// The checks with the current TLS files.
    fn checks(&self) -> Arc<Checks> {
        let mut checks = self.checks.lock();
        let generation = self.tls.as_ref().map_or(0, |tls| tls.generation());
        if checks.generation != generation {
            *checks = Arc::new(Checks::new(&self.config, &self.upstream, &self.urls, self.tls.as_ref()));
        }
        Arc::clone(&checks)
    }

    async fn check_within_timeout(&self, target: &Backend) -> Result<(), String> {
        let checks = self.checks();
        let entry = endpoint(target).and_then(|endpoint| checks.by_entry.get(endpoint.entry)?.as_ref());
        let Some(check) = entry else { return Ok(()) };
        let limit = self.config.timeout.0;
        match tokio::time::timeout(limit, check.check(target)).await {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {}", crate::duration::format_go(limit))),
        }
    }
}

impl Checks {
    fn new(
        config: &HealthCheckConfig,
        upstream: &UpstreamConfig,
        urls: &[EndpointUrl],
        tls: Option<&Arc<UpstreamTls>>,
    ) -> Self {
        let check = |url: &EndpointUrl| {
            let check = entry_check(config, upstream, url, tls);
            check.inspect_err(|error| tracing::error!(%error, "an endpoint cannot be checked")).ok()
        };
        // Before the files, so that a change of theirs in between is noticed.
        let generation = tls.map_or(0, |tls| tls.generation());
        Self { generation, by_entry: urls.iter().map(check).collect() }
    }
}

#[async_trait]
impl HealthCheck for EndpointCheck {
    async fn check(&self, target: &Backend) -> pingora::Result<()> {
        let result = self.check_within_timeout(target).await;
        let fault = result.err();
        let failed = fault.is_some();
        if let Some(endpoint) = endpoint(target) {
            *endpoint.last_fault.lock() = fault;
        }
        if failed { Err(Error::new(ErrorType::Custom("health check failed"))) } else { Ok(()) }
    }

    async fn health_status_change(&self, target: &Backend, healthy: bool) {
        let Some(endpoint) = endpoint(target) else { return };
        endpoint.set_healthy(healthy);
        let (upstream, name) = (&*endpoint.upstream, &*endpoint.name);
        if healthy {
            self.waiting.notify();
            tracing::info!(upstream, endpoint = name, "the endpoint is healthy again");
        } else {
            let fault = endpoint.last_fault.lock().clone().unwrap_or_default();
            tracing::warn!(upstream, endpoint = name, fault, "the endpoint is unhealthy: its health checks fail");
        }
    }

    fn health_threshold(&self, success: bool) -> usize {
        if success { self.healthy_after } else { self.unhealthy_after }
    }
}

fn endpoint(target: &Backend) -> Option<&Arc<Endpoint>> {
    target.ext.get()
}

/// The check of all addresses of an entry.
fn entry_check(
    config: &HealthCheckConfig,
    upstream: &UpstreamConfig,
    url: &EndpointUrl,
    tls: Option<&Arc<UpstreamTls>>,
) -> pingora::Result<Check> {
    let host = config.host.as_deref().unwrap_or(&url.authority);
    let protocol = match config.kind {
        HealthCheckType::Http => upstream.protocol,
        HealthCheckType::Tcp => UpstreamProtocol::Http1,
        HealthCheckType::Grpc => UpstreamProtocol::Http2,
    };
    let mut peer = template(config, upstream, url)?;
    if protocol == UpstreamProtocol::Http2 {
        peer.options.set_http_version(2, 2);
    }
    let connector = CheckConnector::new(peer, tls);
    Ok(match config.kind {
        HealthCheckType::Http => Box::new(HttpHealthCheck::new(config, protocol, host, connector)?),
        HealthCheckType::Tcp => Box::new(TcpHealthCheck(connector)),
        HealthCheckType::Grpc => Box::new(GrpcHealthCheck::new(&config.service, host, connector)?),
    })
}

/// A peer whose address is replaced for each check.
fn template(config: &HealthCheckConfig, upstream: &UpstreamConfig, url: &EndpointUrl) -> pingora::Result<HttpPeer> {
    let any = SocketAddr::Inet(std::net::SocketAddr::from(([127, 0, 0, 1], 1)));
    let mut peer = plain_peer(url, &any, upstream)?;
    let timeout = Some(config.timeout.0);
    peer.options.connection_timeout = timeout;
    peer.options.total_connection_timeout = timeout;
    peer.options.read_timeout = timeout;
    peer.options.write_timeout = timeout;
    Ok(peer)
}
