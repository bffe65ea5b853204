//! `gateway.listeners`: where the gateway listens, and the limits of its connections.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problems::Problems;
use crate::cidr::CidrSet;
use crate::duration::ConfigDuration;

/// The prefix of a Unix socket in an address.
const UNIX: &str = "unix:";
/// The address of the gateway if none is configured.
const DEFAULT_ADDRESS: &str = "127.0.0.1:8080";

/// A listener of the gateway.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerConfig {
    /// `ip:port`, or `unix:` and the path of a socket, for example `unix:/run/keygate/gateway.sock`. A socket has mode 0660; one that an
    /// earlier process left is replaced.
    pub address: String,
    /// TLS. If absent, connections are in clear text.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
    /// Whether HTTP/2 is served: by ALPN on a TLS listener, with prior knowledge on one in clear text.
    #[serde(default = "yes")]
    pub http2: bool,
    /// PROXY protocol, versions 1 and 2.
    #[serde(default)]
    pub proxy_protocol: ProxyProtocolConfig,
    /// Address ranges of the proxies whose `X-Forwarded-For`, `Forwarded`, `X-Forwarded-Proto` and `X-Forwarded-Host` are trusted. The
    /// client is the right-most address that is not in a range.
    #[serde(default)]
    pub trusted_proxies: Vec<String>,
    /// Whether requests that carry a credential are answered with 403 unless they came over TLS, also to a trusted proxy.
    #[serde(default)]
    pub require_tls: bool,
    /// Limits of connections and request heads.
    #[serde(default)]
    pub limits: ListenerLimits,
}

/// TLS of a listener.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificates. A client gets the one with the server name that it sends (SNI), else the first. The files are watched.
    #[schemars(length(min = 1))]
    pub certificates: Vec<CertificateConfig>,
    /// The lowest version of TLS.
    #[serde(default)]
    pub min_version: TlsVersion,
    /// Certificates of clients (mutual TLS). If absent, none is requested.
    #[serde(default)]
    pub client_certificates: Option<ClientCertificatesConfig>,
    /// Time limit of a handshake.
    #[serde(default = "handshake_timeout")]
    pub handshake_timeout: ConfigDuration,
}

/// A certificate and its private key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateConfig {
    /// Path of a PEM file with the certificate, followed by its intermediate certificates.
    pub certificate: PathBuf,
    /// Path of a PEM file with the private key.
    pub key: PathBuf,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    Tls13,
}

/// Certificates of clients (mutual TLS).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificatesConfig {
    /// Path of a PEM file with the certificate authorities. The file is watched.
    pub ca: PathBuf,
    /// Whether a client must have a certificate.
    #[serde(default)]
    pub mode: ClientCertificateMode,
}

/// Whether a client must have a certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificateMode {
    /// A handshake without a certificate fails.
    #[default]
    Required,
    /// A certificate is requested; one that is presented must be valid.
    Optional,
}

/// PROXY protocol, versions 1 and 2.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProxyProtocolConfig {
    /// Address ranges of the proxies that send a PROXY header. Each of their connections must begin with one. Connections of others must
    /// not.
    pub trusted: Vec<String>,
}

/// Limits of the connections of a listener. Connections that exceed a time are closed, between requests without a response.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ListenerLimits {
    /// Time limit of a request head, from its first byte; 408. On a new connection also the time until its first byte.
    pub head_timeout: ConfigDuration,
    /// Maximum size of a request head in bytes; 431.
    #[schemars(range(min = 1024, max = 1_048_576))]
    pub head_bytes: usize,
    /// Maximum number of fields of a request head; 431.
    #[schemars(range(min = 1, max = 256))]
    pub head_fields: usize,
    /// Maximum size of a request target in bytes; 414.
    #[schemars(range(min = 64, max = 1_048_576))]
    pub target_bytes: usize,
    /// How long a connection may be idle between requests.
    pub idle_timeout: ConfigDuration,
    /// Maximum number of requests on a connection.
    #[schemars(range(min = 1))]
    pub requests_per_connection: u32,
    /// Maximum age of a connection. It is closed after the request that is in flight.
    pub connection_age: ConfigDuration,
    /// Maximum time without a byte of a request body; 408.
    pub body_idle_timeout: ConfigDuration,
    /// Lowest rate of a request body in bytes per second, as an average after the first `body_idle_timeout`; 0 for none; 408.
    pub body_rate: u32,
    /// Maximum time in which a client reads no byte of a response that is waiting for it.
    pub response_stall_timeout: ConfigDuration,
    /// Maximum number of concurrent requests on an HTTP/2 connection.
    #[schemars(range(min = 1, max = 10_000))]
    pub http2_streams: u32,
    /// Number of requests in flight of all connections; 503. Requests whose key is in the cache are refused at twice of it. If absent, there
    /// is no limit.
    #[schemars(range(min = 1))]
    pub max_in_flight: Option<u32>,
}

/// Limits of the connections of the gateway in all listeners.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectionsConfig {
    /// Maximum number of connections. Above it, the connection that has been idle for the longest time is closed; without an idle one, the
    /// new connection is refused.
    #[schemars(range(min = 1))]
    pub max: usize,
    /// Maximum number of connections of a client address; of a /64 network in IPv6. Proxies in `proxy_protocol.trusted` and
    /// `trusted_proxies` are exempt.
    #[schemars(range(min = 1))]
    pub max_per_client: usize,
    /// Maximum number of connections that have not sent a complete request head yet.
    #[schemars(range(min = 1))]
    pub max_pending: usize,
}

impl ListenerConfig {
    /// A listener in clear text on an address, with default limits.
    pub fn new(address: String) -> Self {
        Self {
            address,
            tls: None,
            http2: true,
            proxy_protocol: ProxyProtocolConfig::default(),
            trusted_proxies: Vec::new(),
            require_tls: false,
            limits: ListenerLimits::default(),
        }
    }

    /// The listener of a configuration that names none.
    pub(super) fn fallback() -> Self {
        Self::new(DEFAULT_ADDRESS.into())
    }

    /// The path of the Unix socket, if the address is one.
    pub fn socket_path(&self) -> Option<&Path> {
        self.address.strip_prefix(UNIX).map(Path::new)
    }

    pub(super) fn validate(&self, path: &str, problems: &mut Problems) {
        let is_usable = match self.socket_path() {
            Some(socket) => !socket.as_os_str().is_empty(),
            None => self.address.parse::<SocketAddr>().is_ok(),
        };
        if !is_usable {
            problems.add(
                &format!("{path}.address"),
                "must be an IP address and a port, for example 0.0.0.0:8080, or unix: and a path",
            );
        }
        for (name, ranges) in
            [("proxy_protocol.trusted", &self.proxy_protocol.trusted), ("trusted_proxies", &self.trusted_proxies)]
        {
            validate_ranges(&format!("{path}.{name}"), ranges, problems);
        }
        if let Some(tls) = &self.tls {
            tls.validate(&format!("{path}.tls"), problems);
        }
        self.limits.validate(&format!("{path}.limits"), problems);
    }
}

impl TlsConfig {
    pub(super) fn validate(&self, path: &str, problems: &mut Problems) {
        if self.certificates.is_empty() {
            problems.add(&format!("{path}.certificates"), "must have at least one entry");
        }
        if self.handshake_timeout.0.is_zero() {
            problems.add(&format!("{path}.handshake_timeout"), "must be longer than 0s");
        }
    }
}

impl ListenerLimits {
    fn validate(&self, path: &str, problems: &mut Problems) {
        for (name, time) in [
            ("head_timeout", self.head_timeout),
            ("idle_timeout", self.idle_timeout),
            ("connection_age", self.connection_age),
            ("body_idle_timeout", self.body_idle_timeout),
            ("response_stall_timeout", self.response_stall_timeout),
        ] {
            if time.0 < Duration::from_millis(100) {
                problems.add(&format!("{path}.{name}"), "must be at least 100ms");
            }
        }
        if self.max_in_flight == Some(0) {
            problems.add(&format!("{path}.max_in_flight"), "must be at least 1; leave it out for no limit");
        }
        if self.target_bytes > self.head_bytes {
            problems.add(&format!("{path}.target_bytes"), "must not exceed head_bytes");
        }
    }
}

impl ConnectionsConfig {
    /// `max` connections in all, without further caps.
    pub fn total(max: usize) -> Self {
        Self { max, max_per_client: usize::MAX, max_pending: usize::MAX }
    }
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            head_timeout: ConfigDuration(Duration::from_secs(10)),
            head_bytes: 32 * 1024,
            head_fields: 100,
            target_bytes: 8 * 1024,
            idle_timeout: ConfigDuration(Duration::from_secs(75)),
            requests_per_connection: 10_000,
            connection_age: ConfigDuration(Duration::from_secs(3600)),
            body_idle_timeout: ConfigDuration(Duration::from_secs(30)),
            body_rate: 128,
            response_stall_timeout: ConfigDuration(Duration::from_secs(60)),
            http2_streams: 100,
            max_in_flight: None,
        }
    }
}

impl Default for ConnectionsConfig {
    fn default() -> Self {
        Self { max: 20_000, max_per_client: 2_000, max_pending: 10_000 }
    }
}

/// Reports entries that are not address ranges.
pub(super) fn validate_ranges(path: &str, ranges: &[String], problems: &mut Problems) {
    for (index, range) in ranges.iter().enumerate() {
        if CidrSet::parse(&[range]).is_err() {
            problems
                .add(&format!("{path}.{index}"), "must be an address range, for example 10.0.0.0/8 or 192.0.2.1/32");
        }
    }
    problems.unique(path, ranges.iter());
}

fn yes() -> bool {
    true
}

fn handshake_timeout() -> ConfigDuration {
    ConfigDuration(Duration::from_secs(10))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::problems::problem_paths;

    fn problems(text: &str) -> Vec<String> {
        problem_paths(text, |config: &ListenerConfig, problems| config.validate("l", problems))
    }

    #[test]
    fn usable_listeners_are_accepted() {
        for text in [
            "address: 0.0.0.0:8080",
            "address: '[::]:8443'",
            "address: unix:/run/keygate.sock",
            "{ address: 0.0.0.0:1, trusted_proxies: [10.0.0.0/8], proxy_protocol: { trusted: ['::1/128'] } }",
            "{ address: 0.0.0.0:1, tls: { certificates: [{ certificate: a, key: b }], min_version: '1.3' } }",
            "{ address: 0.0.0.0:1, tls: { certificates: [{ certificate: a, key: b }], client_certificates: { ca: c, mode: optional } } }",
        ] {
            assert_eq!(problems(text), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn unusable_listeners_are_rejected() {
        for (text, path) in [
            ("address: localhost:8080", "l.address"),
            ("address: 'unix:'", "l.address"),
            ("{ address: 0.0.0.0:1, trusted_proxies: [10.0.0.1] }", "l.trusted_proxies.0"),
            ("{ address: 0.0.0.0:1, proxy_protocol: { trusted: [all] } }", "l.proxy_protocol.trusted.0"),
            ("{ address: 0.0.0.0:1, tls: { certificates: [] } }", "l.tls.certificates"),
            ("{ address: 0.0.0.0:1, limits: { head_timeout: 1ms } }", "l.limits.head_timeout"),
            ("{ address: 0.0.0.0:1, limits: { head_bytes: 2048 } }", "l.limits.target_bytes"),
            ("{ address: 0.0.0.0:1, limits: { max_in_flight: 0 } }", "l.limits.max_in_flight"),
        ] {
            assert_eq!(problems(text), [path], "{text}");
        }
    }
}
