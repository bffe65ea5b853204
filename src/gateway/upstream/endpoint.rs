//! An endpoint at one address, and what is known about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::HeaderValue;
use parking_lot::Mutex;
use pingora::protocols::Stream;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::upstreams::peer::HttpPeer;

use super::connector::ConnectionCounts;
use super::idle_pool::{Group, IdlePool};
use super::metrics::{EndpointSeries, Metrics};
use super::peer::{endpoint_peer, next_group};
use super::slow_start::SlowStart;
use crate::config::{EndpointUrl, UpstreamConfig};

const EJECTED: u8 = 1;
const UNHEALTHY: u8 = 2;

/// An endpoint at one address.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) upstream: Arc<str>,
    /// The address, or `unix:` and the path of the socket.
    pub(super) name: Arc<str>,
    /// The index of the entry in the configuration.
    pub(super) entry: usize,
    pub(super) weight: u32,
    /// Cloned for each attempt.
    peer: HttpPeer,
    /// The group of its connections.
    group: AtomicU64,
    idle: IdlePool,
    /// The value of `Host`.
    pub(super) host: HeaderValue,
    pub(super) connections: Arc<ConnectionCounts>,
    pub(super) series: EndpointSeries,
    pub(super) slow_start: SlowStart,
    /// Why the last health check failed.
    pub(super) last_fault: Mutex<Option<String>>,
    flags: AtomicU8,
    /// Consecutive failures of requests.
    failures: AtomicU32,
    in_flight: AtomicU32,
}

/// An entry of the configuration at one address.
pub(super) struct EndpointSpec<'s> {
    pub(super) upstream: &'s Arc<str>,
    pub(super) config: &'s UpstreamConfig,
    pub(super) entry: usize,
    pub(super) url: &'s EndpointUrl,
    pub(super) weight: u32,
    pub(super) address: &'s SocketAddr,
}

impl Endpoint {
    /// An endpoint that is neither ejected nor unhealthy.
    ///
    /// # Errors
    /// If the path of a socket cannot be used.
    pub(super) fn new(spec: &EndpointSpec<'_>, metrics: &Metrics) -> pingora::Result<Self> {
        let EndpointSpec { upstream, config, entry, url, weight, address } = spec;
        let name: Arc<str> = match (&url.socket, address) {
            (Some(path), _) => format!("unix:{}", path.display()).into(),
            (None, address) => address.to_string().into(),
        };
        let connections = Arc::default();
        Ok(Self {
            peer: endpoint_peer(url, address, config, &connections)?,
            group: AtomicU64::new(next_group()),
            idle: IdlePool::default(),
            host: HeaderValue::from_str(&url.authority).unwrap_or_else(|_| HeaderValue::from_static("")),
            series: EndpointSeries::new(metrics, upstream, &name),
            slow_start: SlowStart::new(config.ejection.time.0),
            upstream: Arc::clone(upstream),
            name,
            entry: *entry,
            weight: *weight,
            connections,
            last_fault: Mutex::default(),
            flags: AtomicU8::new(0),
            failures: AtomicU32::new(0),
            in_flight: AtomicU32::new(0),
        })
    }

    /// The peer of an attempt.
    pub(super) fn peer(&self) -> HttpPeer {
        let mut peer = self.peer.clone();
        peer.group_key = self.group.load(Ordering::Relaxed);
        peer
    }

    /// Takes an idle connection of a group, for HTTP/1.1. `now` is the time of the coarse clock.
    pub(super) fn take_idle(&self, group: Group, now: Duration) -> Option<Stream> {
        self.idle.take(group, now, self.idle_timeout())
    }

    /// Keeps a connection of a group, for HTTP/1.1, whose last response was read to its end.
    pub(super) fn keep_idle(&self, stream: Stream, group: Group, now: Duration) {
        self.idle.put(stream, group, now);
    }

    /// Closes idle connections that are not to be used any more.
    pub(super) fn sweep_idle(&self, tls: u64, now: Duration) {
        self.idle.sweep(self.group(tls), now, self.idle_timeout());
    }

    /// The group of new connections. `tls` is how often the TLS files have changed.
    pub(super) fn group(&self, tls: u64) -> Group {
        Group { endpoint: self.group.load(Ordering::Relaxed), tls }
    }

    fn idle_timeout(&self) -> Duration {
        self.peer.options.idle_timeout.unwrap_or_default()
    }

    pub(super) fn address(&self) -> &SocketAddr {
        &self.peer._address
    }

    pub(super) fn is_tls(&self) -> bool {
        self.peer.is_tls()
    }

    /// Has no new requests use the connections that there are.
    pub(super) fn abandon_connections(&self) {
        self.group.store(next_group(), Ordering::Relaxed);
    }

    /// Whether the endpoint is neither ejected nor unhealthy.
    pub(super) fn is_available(&self) -> bool {
        self.flags.load(Ordering::Relaxed) == 0
    }

    pub(super) fn is_ejected(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & EJECTED != 0
    }

    /// Whether its health checks pass; true without health checks.
    pub(super) fn is_healthy(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & UNHEALTHY == 0
    }

    pub(super) fn eject(&self) {
        self.flags.fetch_or(EJECTED, Ordering::Relaxed);
        self.failures.store(0, Ordering::Relaxed);
    }

    /// Ends the ejection; the endpoint gets its share of requests gradually.
    pub(super) fn end_ejection(&self) {
        self.slow_start.begin(Instant::now());
        self.flags.fetch_and(!EJECTED, Ordering::Relaxed);
    }

    /// Sets the result of the health checks. An endpoint that is healthy again gets its share of requests gradually.
    pub(super) fn set_healthy(&self, is_healthy: bool) {
        if is_healthy {
            self.slow_start.begin(Instant::now());
            self.flags.fetch_and(!UNHEALTHY, Ordering::Relaxed);
        } else {
            self.flags.fetch_or(UNHEALTHY, Ordering::Relaxed);
        }
    }

    /// Counts failures; returns the number of consecutive ones.
    pub(super) fn add_failures(&self, count: u32) -> u32 {
        self.failures.fetch_add(count, Ordering::Relaxed) + count
    }

    /// Ends a series of failures; returns their number.
    pub(super) fn add_success(&self) -> u32 {
        if self.failures.load(Ordering::Relaxed) == 0 { 0 } else { self.failures.swap(0, Ordering::Relaxed) }
    }

    /// The number of requests in flight.
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts a request as in flight unless there are `max` already. [`Endpoint::leave`] ends it.
    pub(super) fn try_enter(&self, max: Option<u32>) -> bool {
        let Some(max) = max else {
            self.in_flight.fetch_add(1, Ordering::Relaxed);
            return true;
        };
        let next = |count| (count < max).then_some(count + 1);
        self.in_flight.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next).is_ok()
    }

    /// Ends a request that [`Endpoint::try_enter`] has counted.
    pub(super) fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
    }

    /// Requests in flight in relation to weight and current share.
    pub(super) fn load(&self) -> u64 {
        let capacity = u64::from(self.weight) * u64::from(self.slow_start.share());
        (u64::from(self.in_flight()) + 1) * 10_000 / capacity.max(1)
    }
}
