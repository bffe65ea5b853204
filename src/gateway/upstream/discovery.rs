//! The endpoints of an upstream: those with an address, and the addresses of names.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr as InetAddress};
use std::os::unix::net::SocketAddr as UnixAddress;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::lb::discovery::ServiceDiscovery;
use pingora::lb::{Backend, Extensions};
use pingora::protocols::l4::socket::SocketAddr;

use super::endpoint::{Endpoint, EndpointSpec};
use super::metrics::Metrics;
use super::names::HostName;
use crate::config::{EndpointUrl, UpstreamConfig};

/// The entries of the configuration and the endpoints made from them.
pub(super) struct Discovery {
    upstream: Arc<str>,
    config: UpstreamConfig,
    metrics: Metrics,
    entries: Vec<Entry>,
    /// The endpoints by entry and address, so that an address that is still used keeps what is known about it.
    known: Mutex<HashMap<(usize, SocketAddr), Weak<Endpoint>>>,
}

struct Entry {
    url: EndpointUrl,
    weight: u32,
    source: Source,
}

/// Where the addresses of an entry come from.
enum Source {
    Fixed(SocketAddr),
    Name(HostName),
}

impl Discovery {
    pub(super) fn new(upstream: &Arc<str>, config: &UpstreamConfig, metrics: &Metrics) -> Self {
        let entry = |endpoint: &crate::config::EndpointConfig| {
            let url = endpoint.parsed()?;
            let source = Source::new(upstream, &url, config)?;
            Some(Entry { url, weight: endpoint.weight, source })
        };
        Self {
            upstream: Arc::clone(upstream),
            entries: config.endpoints.iter().filter_map(entry).collect(),
            config: config.clone(),
            metrics: metrics.clone(),
            known: Mutex::default(),
        }
    }

    /// The URLs of the entries, in the order of [`Endpoint::entry`].
    pub(super) fn urls(&self) -> impl Iterator<Item = &EndpointUrl> {
        self.entries.iter().map(|entry| &entry.url)
    }

    /// The names among the entries.
    pub(super) fn names(&self) -> impl Iterator<Item = &HostName> {
        self.entries.iter().filter_map(|entry| match &entry.source {
            Source::Name(name) => Some(name),
            Source::Fixed(_) => None,
        })
    }

    /// The current endpoints. An address that several entries have counts once for each weight.
    pub(super) fn backends(&self) -> BTreeSet<Backend> {
        let mut backends = BTreeSet::new();
        let mut known = self.known.lock();
        for (index, entry) in self.entries.iter().enumerate() {
            for address in entry.source.addresses() {
                let Some(endpoint) = self.endpoint(&mut known, index, entry, address) else { continue };
                let addr = endpoint.address().clone();
                let weight = usize::try_from(entry.weight).unwrap_or(1);
                let mut ext = Extensions::new();
                ext.insert(endpoint);
                backends.insert(Backend { addr, weight, ext });
            }
        }
        backends
    }

    fn endpoint(
        &self,
        known: &mut HashMap<(usize, SocketAddr), Weak<Endpoint>>,
        index: usize,
        entry: &Entry,
        address: SocketAddr,
    ) -> Option<Arc<Endpoint>> {
        if let Some(endpoint) = known.get(&(index, address.clone())).and_then(Weak::upgrade) {
            return Some(endpoint);
        }
        known.retain(|_, endpoint| endpoint.strong_count() > 0);
        let spec = EndpointSpec {
            upstream: &self.upstream,
            config: &self.config,
            entry: index,
            url: &entry.url,
            weight: entry.weight,
            address: &address,
        };
        match Endpoint::new(&spec, &self.metrics) {
            Ok(endpoint) => {
                let endpoint = Arc::new(endpoint);
                known.insert((index, address), Arc::downgrade(&endpoint));
                Some(endpoint)
            }
            Err(error) => {
                tracing::error!(upstream = &*self.upstream, %error, "an endpoint cannot be used");
                None
            }
        }
    }
}

impl Source {
    fn new(upstream: &Arc<str>, url: &EndpointUrl, config: &UpstreamConfig) -> Option<Self> {
        if let Some(path) = &url.socket {
            return UnixAddress::from_pathname(path).ok().map(|address| Self::Fixed(SocketAddr::Unix(address)));
        }
        Some(match url.host.parse::<IpAddr>() {
            Ok(address) => Self::Fixed(SocketAddr::Inet(InetAddress::new(address, url.port))),
            Err(_) => Self::Name(HostName::new(upstream, &url.host, url.port, &config.dns)),
        })
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        match self {
            Self::Fixed(address) => vec![address.clone()],
            Self::Name(name) => name.addresses().into_iter().map(SocketAddr::Inet).collect(),
        }
    }
}

/// What pingora asks for the endpoints.
pub(super) struct DiscoveryHandle(pub(super) Arc<Discovery>);

#[async_trait]
impl ServiceDiscovery for DiscoveryHandle {
    async fn discover(&self) -> pingora::Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        Ok((self.0.backends(), HashMap::new()))
    }
}
