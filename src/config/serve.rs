//! `serve`: the listeners of the admin API and of health and metrics.

use std::net::{IpAddr, Ipv4Addr};

use schemars::JsonSchema;
use serde::Deserialize;

use super::listener::TlsConfig;
use super::problems::Problems;
use crate::duration::ConfigDuration;

/// The admin API and the listener for health and metrics.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ServeConfig {
    /// The admin API.
    pub http: HttpConfig,
    /// Health and metrics.
    pub metrics: MetricsConfig,
}

/// The admin API.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// The IP address to listen on. The admin API does not authenticate callers yet, so only loopback addresses are accepted.
    pub host: String,
    /// The port to listen on.
    #[schemars(range(min = 1))]
    pub port: u16,
    /// TLS. If absent, connections are in clear text.
    pub tls: Option<TlsConfig>,
    /// The access log of the admin API.
    pub request_log: RequestLogConfig,
    /// Source of the client address that `:verify` checks.
    pub client_ip_source: ClientIpSource,
    /// Whether the tenant's host is taken from `X-Forwarded-Host`. Without effect while there is a single tenant.
    pub trust_forwarded_host: bool,
    /// Cross-origin calls from browsers.
    pub cors: CorsConfig,
    /// How long active requests may run after a stop signal.
    pub shutdown_grace: ConfigDuration,
}

/// The access log of the admin API.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RequestLogConfig {
    /// Whether `/health/*` is left out of the log.
    pub exclude_health_endpoints: bool,
}

/// Source of the client address. Headers are trusted without further checks: use one only behind a proxy that sets it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum ClientIpSource {
    /// The TCP peer.
    #[default]
    #[serde(rename = "CLIENT_IP_SOURCE_UNSPECIFIED")]
    Unspecified,
    /// The TCP peer.
    #[serde(rename = "CLIENT_IP_SOURCE_REMOTE_ADDR")]
    RemoteAddr,
    /// `Cf-Connecting-Ip`.
    #[serde(rename = "CLIENT_IP_SOURCE_CF_CONNECTING_IP")]
    CfConnectingIp,
    /// The leftmost entry of the first `X-Forwarded-For`.
    #[serde(rename = "CLIENT_IP_SOURCE_X_FORWARDED_FOR")]
    XForwardedFor,
    /// `X-Real-Ip`.
    #[serde(rename = "CLIENT_IP_SOURCE_X_REAL_IP")]
    XRealIp,
    /// `True-Client-Ip`.
    #[serde(rename = "CLIENT_IP_SOURCE_TRUE_CLIENT_IP")]
    TrueClientIp,
}

/// Cross-origin calls from browsers. Not supported by this version: only `enabled: false` is accepted.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CorsConfig {
    /// Whether cross-origin calls are allowed.
    pub enabled: bool,
    /// Allowed origins.
    pub allowed_origins: Vec<String>,
    /// Allowed methods.
    #[schemars(inner(regex(pattern = r"^(GET|HEAD|POST|PUT|DELETE|CONNECT|TRACE|PATCH)$")))]
    pub allowed_methods: Vec<String>,
    /// Allowed request headers.
    pub allowed_headers: Vec<String>,
    /// Response headers that scripts may read.
    pub exposed_headers: Vec<String>,
    /// Whether credentials such as cookies are allowed.
    pub allow_credentials: bool,
    /// How long browsers may cache the answer to a preflight request, in seconds.
    #[schemars(range(max = 4_294_967_295_u32))]
    pub max_age: u32,
    /// Whether decisions are logged.
    pub debug: bool,
}

/// Health and metrics.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    /// The IP address to listen on.
    pub host: String,
    /// The port to listen on.
    #[schemars(range(min = 1))]
    pub port: u16,
    /// TLS. If absent, connections are in clear text.
    pub tls: Option<TlsConfig>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".into(),
            port: 4420,
            tls: None,
            request_log: RequestLogConfig::default(),
            client_ip_source: ClientIpSource::default(),
            trust_forwarded_host: false,
            cors: CorsConfig::default(),
            shutdown_grace: ConfigDuration(std::time::Duration::from_secs(30)),
        }
    }
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self { host: "0.0.0.0".into(), port: 4422, tls: None }
    }
}

impl Default for CorsConfig {
    fn default() -> Self {
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        Self {
            enabled: false,
            allowed_origins: texts(&["*"]),
            allowed_methods: texts(&["GET", "POST", "PUT", "PATCH", "DELETE"]),
            allowed_headers: texts(&["Authorization", "Content-Type"]),
            exposed_headers: texts(&["Content-Type"]),
            allow_credentials: false,
            max_age: 0,
            debug: false,
        }
    }
}

/// The IP address of a listener; `localhost` is 127.0.0.1.
pub(crate) fn listen_ip(host: &str) -> Option<IpAddr> {
    if host == "localhost" { Some(Ipv4Addr::LOCALHOST.into()) } else { host.parse().ok() }
}

impl ServeConfig {
    pub(super) fn validate(&self, problems: &mut Problems) {
        match listen_ip(&self.http.host) {
            None => problems.add("serve.http.host", "must be an IP address, for example 127.0.0.1"),
            Some(address) if !address.is_loopback() => problems.add(
                "serve.http.host",
                "would open the admin API to the network, and it does not authenticate callers yet; use 127.0.0.1 or ::1",
            ),
            Some(_) => {}
        }
        if listen_ip(&self.metrics.host).is_none() {
            problems.add("serve.metrics.host", "must be an IP address, for example 0.0.0.0");
        }
        for (path, tls) in [("serve.http.tls", &self.http.tls), ("serve.metrics.tls", &self.metrics.tls)] {
            if let Some(tls) = tls {
                tls.validate(path, problems);
            }
        }
        problems.unique("serve.http.cors.allowed_origins", self.http.cors.allowed_origins.iter());
        problems.unsupported(self.http.cors.enabled, "serve.http.cors.enabled", "set it to false");
    }
}
