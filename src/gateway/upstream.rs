//! Where requests are forwarded to: endpoints in turn, names looked up again every few seconds.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use http::HeaderValue;

use crate::config::{EndpointUrl, UpstreamConfig};
use crate::verifier::Denial;

/// How long an answer of the name service is used. Addresses behind a name move when instances come and go.
const NAME_TTL: Duration = Duration::from_secs(10);

/// A group of equal endpoints.
#[derive(Debug)]
pub struct Upstream {
    endpoints: Vec<Endpoint>,
    next: AtomicUsize,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long the upstream may be silent.
    pub read_timeout: Duration,
}

/// One endpoint.
#[derive(Debug)]
pub struct Endpoint {
    url: EndpointUrl,
    host_value: HeaderValue,
    /// Its address, if that is how it is named.
    fixed: Option<SocketAddr>,
    resolved: ArcSwapOption<(SocketAddr, Instant)>,
}

impl Upstream {
    /// An upstream of validated endpoints.
    pub fn new(config: &UpstreamConfig) -> Self {
        Self {
            endpoints: config.parsed_endpoints().into_iter().map(Endpoint::new).collect(),
            next: AtomicUsize::new(0),
            connect_timeout: config.connect_timeout.0,
            read_timeout: config.read_timeout.0,
        }
    }

    /// The endpoint whose turn it is; none when there are none.
    pub fn next(&self) -> Option<&Endpoint> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        self.endpoints.get(turn.checked_rem(self.endpoints.len())?)
    }

    /// How many endpoints there are to try.
    pub fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// Whether there is none.
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

    /// Whether it is reached over TLS.
    pub fn tls(&self) -> bool {
        self.url.tls
    }

    /// The name that its certificate must have.
    pub fn server_name(&self) -> &str {
        &self.url.host
    }

    /// What it expects in `Host`.
    pub fn host_value(&self) -> &HeaderValue {
        &self.host_value
    }

    /// Its address now.
    ///
    /// # Errors
    /// [`Denial::UpstreamUnreachable`] when the name has none and had none before.
    pub async fn address(&self) -> Result<SocketAddr, Denial> {
        if let Some(address) = self.fixed {
            return Ok(address);
        }
        let known = self.resolved.load_full();
        if let Some(known) = &known
            && known.1.elapsed() < NAME_TTL
        {
            return Ok(known.0);
        }
        let answer = tokio::net::lookup_host((self.url.host.as_str(), self.url.port)).await;
        match (answer.ok().and_then(|mut addresses| addresses.next()), known) {
            (Some(address), _) => {
                self.resolved.store(Some(Arc::new((address, Instant::now()))));
                Ok(address)
            }
            // An outdated address is a better guess than none.
            (None, Some(known)) => Ok(known.0),
            (None, None) => {
                tracing::warn!(host = self.url.host, "the upstream's name {} has no address", self.url.host);
                Err(Denial::UpstreamUnreachable)
            }
        }
    }
}
