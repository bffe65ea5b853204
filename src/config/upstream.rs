//! `gateway.upstreams`: where requests are forwarded to.

use schemars::JsonSchema;
use serde::Deserialize;

use super::endpoint::{EndpointUrl, parse_endpoint};
use super::problems::Problems;
use super::timeouts;
use crate::duration::ConfigDuration;

/// An upstream.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamConfig {
    /// The endpoints, each `http://host:port` or `https://host:port`, used round-robin.
    #[schemars(length(min = 1))]
    pub endpoints: Vec<String>,
    /// The protocol of the connections.
    #[serde(default)]
    pub protocol: UpstreamProtocol,
    /// Timeout of connecting.
    #[serde(default = "timeouts::connect_timeout")]
    pub connect_timeout: ConfigDuration,
    /// Maximum time from the end of the request to the head of the response; 504.
    #[serde(default = "timeouts::first_byte_timeout")]
    pub first_byte_timeout: ConfigDuration,
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
}

/// The protocol of the connections to an upstream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
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
            first_byte_timeout: timeouts::first_byte_timeout(),
            read_timeout: timeouts::read_timeout(),
            total_timeout: None,
            stream_idle_timeout: timeouts::stream_idle_timeout(),
        }
    }
}

impl UpstreamConfig {
    pub(super) fn validate(&self, path: &str, problems: &mut Problems) {
        if self.endpoints.is_empty() {
            problems.add(&format!("{path}.endpoints"), "must have at least one entry");
        }
        let timeouts = [
            ("connect_timeout", Some(self.connect_timeout)),
            ("first_byte_timeout", Some(self.first_byte_timeout)),
            ("read_timeout", Some(self.read_timeout)),
            ("total_timeout", self.total_timeout),
            ("stream_idle_timeout", Some(self.stream_idle_timeout)),
        ];
        timeouts::validate(timeouts, path, problems);
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            if parse_endpoint(endpoint).is_none() {
                problems.add(
                    &format!("{path}.endpoints.{index}"),
                    "must be http://host:port or https://host:port, without a path",
                );
            }
        }
    }

    /// The parsed endpoints.
    pub fn parsed_endpoints(&self) -> Vec<EndpointUrl> {
        self.endpoints.iter().filter_map(|endpoint| parse_endpoint(endpoint)).collect()
    }
}
