//! Upstreams: endpoints in round-robin order, host names resolved again every few seconds.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use http::HeaderValue;

use super::timeouts::Timeouts;
use crate::config::{EndpointUrl, UpstreamConfig, UpstreamProtocol};
use crate::wire::Rejection;

/// How long a resolved address is used. The addresses of a name change when instances start and stop.
const NAME_TTL: Duration = Duration::from_secs(10);

/// A group of equivalent endpoints.
#[derive(Debug)]
pub struct Upstream {
    endpoints: Vec<Endpoint>,
    next: AtomicUsize,
    /// The protocol of the connections.
    pub protocol: UpstreamProtocol,
    /// The timeouts, unless a route has others.
    pub timeouts: Timeouts,
}

/// One endpoint.
#[derive(Debug)]
pub struct Endpoint {
    url: EndpointUrl,
    host_value: HeaderValue,
    /// The address, if the URL contains one instead of a name.
    fixed: Option<SocketAddr>,
    resolved: ArcSwapOption<(SocketAddr, Instant)>,
}

impl Upstream {
    /// An upstream with the endpoints of a validated configuration.
    pub fn new(config: &UpstreamConfig) -> Self {
        Self {
            endpoints: config.parsed_endpoints().into_iter().map(Endpoint::new).collect(),
            next: AtomicUsize::new(0),
            protocol: config.protocol,
            timeouts: Timeouts::from(config),
        }
    }

    /// The next endpoint in round-robin order; `None` if there are no endpoints.
    pub fn next(&self) -> Option<&Endpoint> {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        self.endpoints.get(next.checked_rem(self.endpoints.len())?)
    }

    /// The number of endpoints.
    pub fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// Whether there are no endpoints.
    pub fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }
}

impl Endpoint {
    fn new(url: EndpointUrl) -> Self {
        let host_value = HeaderValue::from_str(&url.authority).unwrap_or_else(|_| HeaderValue::from_static(""));
        let fixed = url.host.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, url.port));
        Self { url, host_value, fixed, resolved: ArcSwapOption::empty() }
    }

    /// Whether connections use TLS.
    pub fn tls(&self) -> bool {
        self.url.tls
    }

    /// The name that the certificate must have.
    pub fn server_name(&self) -> &str {
        &self.url.host
    }

    /// The value of `Host` for this endpoint.
    pub fn host_value(&self) -> &HeaderValue {
        &self.host_value
    }

    /// The current address.
    ///
    /// # Errors
    /// [`Rejection::UpstreamUnreachable`] if the name cannot be resolved and was never resolved before.
    pub async fn address(&self) -> Result<SocketAddr, Rejection> {
        if let Some(address) = self.fixed {
            return Ok(address);
        }
        let cached = self.resolved.load_full();
        if let Some(cached) = &cached
            && cached.1.elapsed() < NAME_TTL
        {
            return Ok(cached.0);
        }
        let answer = tokio::net::lookup_host((self.url.host.as_str(), self.url.port)).await;
        match (answer.ok().and_then(|mut addresses| addresses.next()), cached) {
            (Some(address), _) => {
                self.resolved.store(Some(Arc::new((address, Instant::now()))));
                Ok(address)
            }
            // An outdated address may still work.
            (None, Some(cached)) => Ok(cached.0),
            (None, None) => {
                tracing::warn!(
                    host = self.url.host,
                    "the host name {} of the upstream cannot be resolved",
                    self.url.host
                );
                Err(Rejection::UpstreamUnreachable)
            }
        }
    }
}
