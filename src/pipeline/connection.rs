//! What a front keeps of a client connection from one request to the next: who the client is, and what it has proven.

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderValue;

use super::headers::{forwarded_for, value_of};
use super::overload::ListenerLoad;
use crate::cidr::CidrSet;
use crate::config::ListenerConfig;
use crate::connection::{ClientCertificate, ConnectionInfo};
use crate::verifier::ConnectionMemory;
use crate::wire::credential_locations::CredentialLocations;
use crate::wire::extract::has_credential;
use crate::wire::fields::Fields;
use crate::wire::forwarded::{self, Scheme};

/// The trusted proxies of a listener, its requirements for requests with a credential, and its requests in flight.
#[derive(Debug, Clone, Default)]
pub struct ListenerTrust {
    /// The proxies whose `X-Forwarded-*` and `Forwarded` fields are read.
    pub proxies: CidrSet,
    /// Whether requests with a credential must come over TLS.
    pub require_tls: bool,
    /// The requests in flight. Connections with other settings of the same listener share it.
    #[doc(hidden)]
    pub load: Arc<ListenerLoad>,
}

/// What a front keeps of a client connection from one request to the next.
#[derive(Default)]
pub struct Connection {
    /// The client of the connection. An IPv4 address in IPv6 is an IPv4 address here.
    client_ip: Option<IpAddr>,
    /// The peer of the socket.
    peer: Option<IpAddr>,
    is_tls: bool,
    require_tls: bool,
    /// The trusted proxies, if the client of the connection is one of them.
    proxies: Option<Arc<ListenerTrust>>,
    /// The requests in flight of the listener; `None` for a front without limits of its listeners.
    pub(super) load: Option<Arc<ListenerLoad>>,
    /// The value of `X-Forwarded-For` for a client that is no trusted proxy.
    forwarded_for: Option<HeaderValue>,
    pub(super) certificate: Option<Box<ClientCertificate>>,
    pub(super) memory: ConnectionMemory,
}

impl From<&ListenerConfig> for ListenerTrust {
    /// The settings of a validated configuration. Ranges that are not valid contain no address.
    fn from(config: &ListenerConfig) -> Self {
        let proxies = CidrSet::parse(&config.trusted_proxies).unwrap_or_default();
        let load = Arc::new(ListenerLoad::new(config.limits.max_in_flight));
        Self { proxies, require_tls: config.require_tls, load }
    }
}

impl ListenerTrust {
    /// The other settings of the same validated listener, whose requests in flight go on to count. Their limit changes at once.
    #[doc(hidden)]
    #[must_use]
    pub fn reconfigured(&self, config: &ListenerConfig) -> Self {
        self.load.set_max(config.limits.max_in_flight);
        Self { load: Arc::clone(&self.load), ..Self::from(config) }
    }
}

impl Connection {
    /// The state of a new connection in clear text from a client address, for a front that trusts no proxy.
    pub fn new(client_ip: Option<IpAddr>) -> Self {
        Self { client_ip: client_ip.map(|client| client.to_canonical()), ..Self::default() }
    }

    /// The state with the verified certificate of the client.
    #[must_use]
    pub fn with_certificate(self, certificate: Option<ClientCertificate>) -> Self {
        Self { certificate: certificate.map(Box::new), ..self }
    }

    /// The state of a new connection of a listener.
    pub fn of(info: &ConnectionInfo, trust: &Arc<ListenerTrust>) -> Self {
        // The mode of a Unix socket decides who can connect, so its peers are as trusted as the listener's proxies.
        let is_proxy = match info.client {
            Some(client) => trust.proxies.contains(client),
            None => !trust.proxies.is_empty(),
        };
        let certificate = info.tls.as_ref().and_then(|tls| tls.client_certificate.clone());
        Self {
            peer: info.peer.map(|peer| peer.ip().to_canonical()),
            is_tls: info.tls.is_some(),
            require_tls: trust.require_tls,
            proxies: is_proxy.then(|| Arc::clone(trust)),
            load: Some(Arc::clone(&trust.load)),
            ..Self::new(info.client).with_certificate(certificate)
        }
    }

    /// The client of a request with these fields.
    #[inline]
    pub(super) fn client_ip<F: Fields>(&self, fields: &F) -> Option<IpAddr> {
        match &self.proxies {
            Some(trust) => forwarded::addresses(fields, self.client_ip, &trust.proxies).last(),
            None => self.client_ip,
        }
    }

    /// The peer of the socket, if that is not the client.
    #[inline]
    pub(super) fn proxy(&self, client_ip: Option<IpAddr>) -> Option<IpAddr> {
        self.peer.filter(|peer| client_ip != Some(*peer))
    }

    /// The scheme that the client used.
    pub(super) fn scheme<F: Fields>(&self, fields: &F) -> Scheme {
        let named = if self.proxies.is_some() { forwarded::scheme(fields) } else { None };
        named.unwrap_or(if self.is_tls { Scheme::Https } else { Scheme::Http })
    }

    /// Whether the request carries a credential that may not be used, because it did not come over TLS.
    #[inline]
    pub(super) fn exposes_credential<F: Fields>(
        &self,
        locations: &CredentialLocations,
        fields: &F,
        query: Option<&str>,
    ) -> bool {
        self.require_tls && has_credential(locations, fields, query) && self.scheme(fields) != Scheme::Https
    }

    /// The host that a trusted proxy says the client requested.
    pub(super) fn forwarded_host<'f, F: Fields>(&self, fields: &'f F) -> Option<&'f str> {
        self.proxies.as_ref().and_then(|_| forwarded::host(fields))
    }

    /// The value of `X-Forwarded-For` for the upstream: the client's address, then those of the trusted proxies that the request came
    /// through. What else a client sent is not part of it.
    pub(super) fn forwarded_for<F: Fields>(&mut self, fields: &F) -> Option<HeaderValue> {
        let Some(trust) = &self.proxies else {
            let client_ip = self.client_ip?;
            return Some(self.forwarded_for.get_or_insert_with(|| forwarded_for(client_ip)).clone());
        };
        let addresses: Vec<_> = forwarded::addresses(fields, self.client_ip, &trust.proxies).collect();
        let mut list = String::new();
        for address in addresses.iter().rev() {
            let separator = if list.is_empty() { "" } else { ", " };
            // Writing to memory cannot fail.
            let _ = write!(list, "{separator}{address}");
        }
        if list.is_empty() { None } else { Some(value_of(list)) }
    }
}
