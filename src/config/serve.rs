//! `serve`: the listeners of the admin API, of its public operations, and of health and metrics.

use std::net::{IpAddr, Ipv4Addr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::admin_auth::{AdminAuthConfig, AdminAuthMode};
use super::console::ConsoleConfig;
use super::cors::CorsConfig;
use super::listener::TlsConfig;
use super::problems::Problems;
use crate::duration::ConfigDuration;

/// The admin API and the listener for health and metrics.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ServeConfig {
    /// The admin API.
    pub http: HttpConfig,
    /// Health and metrics.
    pub metrics: MetricsConfig,
    /// A further listener that serves only the operations that need no key: `:selfRevoke`, JWKS, health and version. Without this
    /// section there is none.
    pub public: Option<PublicConfig>,
    /// How long all listeners go on after a stop signal, while `/health/ready` is 503 already: the time that load balancers need to take
    /// the process out of service.
    pub shutdown_delay: ConfigDuration,
    /// How long a connection may be silent after that before it is closed. A request that arrives earlier is served.
    pub shutdown_idle_timeout: ConfigDuration,
}

/// The admin API.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// The IP address to listen on. Without authentication of callers only a loopback address.
    pub host: String,
    /// The port to listen on.
    #[schemars(range(min = 1))]
    pub port: u16,
    /// Path of a Unix socket to listen on instead of `host` and `port`, with mode 0660. A socket that an earlier process left is replaced.
    pub socket: Option<String>,
    /// Who may call the admin API.
    pub auth: AdminAuthConfig,
    /// Names that requests may have in `Host` besides IP addresses, `localhost` and names below it, while callers are not authenticated. A
    /// web page can point any other name to this listener (DNS rebinding).
    pub allowed_hosts: Vec<String>,
    /// TLS. If absent, connections are in clear text.
    pub tls: Option<TlsConfig>,
    /// The access log of the admin API.
    pub request_log: RequestLogConfig,
    /// Source of the client address that `:verify` checks.
    pub client_ip_source: ClientIpSource,
    /// Whether the tenant's host is taken from `X-Forwarded-Host`. Without effect while there is a single tenant.
    pub trust_forwarded_host: bool,
    /// The console in a browser.
    pub console: ConsoleConfig,
    /// Calls by scripts of other web sites.
    pub cors: CorsConfig,
    /// How long active requests may run after a stop signal.
    pub shutdown_grace: ConfigDuration,
}

/// The access log of the admin API.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RequestLogConfig {
    /// Whether `/health/*` is left out of the log.
    pub exclude_health_endpoints: bool,
}

/// Source of the client address. Headers are trusted without further checks: use one only behind a proxy that sets it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
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

/// The listener for operations that need no key.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PublicConfig {
    /// The IP address to listen on.
    pub host: String,
    /// The port to listen on.
    #[schemars(range(min = 1))]
    pub port: u16,
    /// TLS. If absent, connections are in clear text.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
}

/// Health and metrics.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
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

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            http: HttpConfig::default(),
            metrics: MetricsConfig::default(),
            public: None,
            shutdown_delay: ConfigDuration(std::time::Duration::ZERO),
            shutdown_idle_timeout: ConfigDuration(std::time::Duration::from_secs(5)),
        }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".into(),
            port: 4420,
            socket: None,
            auth: AdminAuthConfig::default(),
            allowed_hosts: Vec::new(),
            tls: None,
            request_log: RequestLogConfig::default(),
            client_ip_source: ClientIpSource::default(),
            trust_forwarded_host: false,
            console: ConsoleConfig::default(),
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

/// The IP address of a listener; `localhost` is 127.0.0.1.
pub(crate) fn listen_ip(host: &str) -> Option<IpAddr> {
    if host == "localhost" { Some(Ipv4Addr::LOCALHOST.into()) } else { host.parse().ok() }
}

impl HttpConfig {
    /// Whether callers are authenticated.
    pub fn auth_mode(&self) -> AdminAuthMode {
        self.auth.effective_mode(self.is_local())
    }

    /// Whether only processes of this host can connect: the listener is a Unix socket, or its address is a loopback address.
    fn is_local(&self) -> bool {
        self.socket.is_some() || listen_ip(&self.host).is_some_and(|address| address.is_loopback())
    }

    fn validate(&self, problems: &mut Problems) {
        if listen_ip(&self.host).is_none() {
            problems.add("serve.http.host", "must be an IP address, for example 127.0.0.1");
        } else if self.auth_mode() == AdminAuthMode::None && !self.is_local() {
            problems.add(
                "serve.http.host",
                "would open the admin API to the network without authentication; use 127.0.0.1 or ::1, or set serve.http.auth.mode to keys",
            );
        }
        if self.socket.as_deref().is_some_and(str::is_empty) {
            problems.add("serve.http.socket", "must be the path of a socket, for example /run/keygate/admin.sock");
        }
        if self.socket.is_some() && self.tls.is_some() {
            problems.add("serve.http.tls", "has no effect on a Unix socket; remove it, or serve.http.socket");
        }
        for (index, host) in self.allowed_hosts.iter().enumerate() {
            let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
            if host.is_empty() || !host.bytes().all(is_name) {
                problems.add(
                    &format!("serve.http.allowed_hosts.{index}"),
                    "must be a host name in lower case without a port, for example keygate.internal",
                );
            }
        }
        problems.unique("serve.http.allowed_hosts", self.allowed_hosts.iter());
        let client_certificates = self.tls.as_ref().and_then(|tls| tls.client_certificates.as_ref());
        self.auth.validate(client_certificates.is_some(), problems);
        self.cors.validate(self.auth_mode() == AdminAuthMode::Keys, problems);
    }
}

impl ServeConfig {
    pub(super) fn validate(&self, problems: &mut Problems) {
        self.http.validate(problems);
        if listen_ip(&self.metrics.host).is_none() {
            problems.add("serve.metrics.host", "must be an IP address, for example 0.0.0.0");
        }
        if self.public.as_ref().is_some_and(|public| listen_ip(&public.host).is_none()) {
            problems.add("serve.public.host", "must be an IP address, for example 0.0.0.0");
        }
        let public = self.public.as_ref().and_then(|public| public.tls.as_ref());
        for (path, tls) in [
            ("serve.http.tls", self.http.tls.as_ref()),
            ("serve.metrics.tls", self.metrics.tls.as_ref()),
            ("serve.public.tls", public),
        ] {
            if let Some(tls) = tls {
                tls.validate(path, problems);
            }
        }
    }
}
