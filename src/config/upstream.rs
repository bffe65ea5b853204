//! `gateway.upstreams`: where requests are forwarded to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problems::Problems;
use super::timeouts;
use super::upstream_balancing::{DnsConfig, EjectionConfig, LoadBalancingConfig, PoolConfig, RetriesConfig};
use super::upstream_endpoint::EndpointConfig;
use super::upstream_health::HealthCheckConfig;
use super::upstream_tls::UpstreamTlsConfig;
use crate::duration::ConfigDuration;

/// An upstream: a group of equivalent endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamConfig {
    /// The endpoints.
    #[schemars(length(min = 1, max = 256))]
    pub endpoints: Vec<EndpointConfig>,
    /// The protocol of the connections.
    #[serde(default)]
    pub protocol: UpstreamProtocol,
    /// How an endpoint is selected for a request.
    #[serde(default)]
    pub load_balancing: LoadBalancingConfig,
    /// How the names of endpoints are resolved.
    #[serde(default)]
    pub dns: DnsConfig,
    /// Timeout of connecting.
    #[serde(default = "timeouts::connect_timeout")]
    pub connect_timeout: ConfigDuration,
    /// Maximum time from the end of the request to the head of the response; that of `read_timeout` when absent; 504.
    #[serde(default)]
    pub first_byte_timeout: Option<ConfigDuration>,
    /// Maximum time without data from the upstream within a response. The response is broken off.
    #[serde(default = "timeouts::read_timeout")]
    pub read_timeout: ConfigDuration,
    /// Maximum time from the arrival of a request to the end of its response; unlimited when absent. 504, or the response is broken off.
    /// Not for WebSockets, event streams and gRPC calls.
    #[serde(default)]
    pub total_timeout: Option<ConfigDuration>,
    /// Maximum time without data in either direction of a WebSocket, an event stream or a gRPC call, instead of `first_byte_timeout` and
    /// `read_timeout`.
    #[serde(default = "timeouts::stream_idle_timeout")]
    pub stream_idle_timeout: ConfigDuration,
    /// When a failed request is sent again.
    #[serde(default)]
    pub retries: RetriesConfig,
    /// Idle connections and requests in flight.
    #[serde(default)]
    pub pool: PoolConfig,
    /// When an endpoint that fails gets no requests for some time.
    #[serde(default)]
    pub ejection: EjectionConfig,
    /// Active health checks; none when absent.
    #[serde(default)]
    pub health_check: Option<HealthCheckConfig>,
    /// TLS of the endpoints with `https`; if absent, the authorities of the system are trusted.
    #[serde(default)]
    pub tls: Option<UpstreamTlsConfig>,
}

/// The protocol of the connections to an upstream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamProtocol {
    /// HTTP/2 if an `https` endpoint offers it (ALPN), else HTTP/1.1.
    Auto,
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2, in clear text with prior knowledge. gRPC requires it.
    Http2,
}

impl Default for UpstreamConfig {
    /// An upstream without endpoints.
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            protocol: UpstreamProtocol::default(),
            connect_timeout: timeouts::connect_timeout(),
            first_byte_timeout: None,
            read_timeout: timeouts::read_timeout(),
            total_timeout: None,
            stream_idle_timeout: timeouts::stream_idle_timeout(),
            load_balancing: LoadBalancingConfig::default(),
            dns: DnsConfig::default(),
            retries: RetriesConfig::default(),
            pool: PoolConfig::default(),
            ejection: EjectionConfig::default(),
            health_check: None,
            tls: None,
        }
    }
}

impl UpstreamConfig {
    pub(super) fn validate(&self, path: &str, problems: &mut Problems) {
        if !(1..=256).contains(&self.endpoints.len()) {
            problems.add(&format!("{path}.endpoints"), "must have at least one entry, and at most 256");
        }
        let timeouts = [
            ("connect_timeout", Some(self.connect_timeout)),
            ("first_byte_timeout", self.first_byte_timeout),
            ("read_timeout", Some(self.read_timeout)),
            ("total_timeout", self.total_timeout),
            ("stream_idle_timeout", Some(self.stream_idle_timeout)),
        ];
        timeouts::validate(timeouts, path, problems);
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            endpoint.validate(&format!("{path}.endpoints.{index}"), problems);
        }
        problems.unique(&format!("{path}.endpoints"), self.endpoints.iter().map(|endpoint| &endpoint.url));
        self.load_balancing.validate(&format!("{path}.load_balancing"), problems);
        self.dns.validate(&format!("{path}.dns"), problems);
        self.retries.validate(&format!("{path}.retries"), problems);
        self.pool.validate(&format!("{path}.pool"), problems);
        self.ejection.validate(&format!("{path}.ejection"), problems);
        if let Some(check) = &self.health_check {
            check.validate(&format!("{path}.health_check"), problems);
        }
        if let Some(tls) = &self.tls {
            tls.validate(&format!("{path}.tls"), problems);
            if !self.endpoints.iter().filter_map(EndpointConfig::parsed).any(|url| url.tls) {
                problems.add(
                    &format!("{path}.tls"),
                    "has no effect without an endpoint with https; correct the endpoints, or remove it",
                );
            }
        }
    }
}
