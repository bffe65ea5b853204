//! `gateway.upstreams`: where requests are forwarded to.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::endpoint::{EndpointUrl, parse_endpoint};
use super::problems::Problems;
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
    #[serde(default = "connect_timeout")]
    pub connect_timeout: ConfigDuration,
    /// Maximum time without data from the upstream.
    #[serde(default = "read_timeout")]
    pub read_timeout: ConfigDuration,
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

fn connect_timeout() -> ConfigDuration {
    ConfigDuration(Duration::from_secs(5))
}

fn read_timeout() -> ConfigDuration {
    ConfigDuration(Duration::from_secs(60))
}

impl Default for UpstreamConfig {
    /// An upstream without endpoints.
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            protocol: UpstreamProtocol::default(),
            connect_timeout: connect_timeout(),
            read_timeout: read_timeout(),
        }
    }
}

impl UpstreamConfig {
    pub(super) fn validate(&self, path: &str, problems: &mut Problems) {
        if self.endpoints.is_empty() {
            problems.add(&format!("{path}.endpoints"), "must have at least one entry");
        }
        for (name, timeout) in [("connect_timeout", self.connect_timeout), ("read_timeout", self.read_timeout)] {
            if timeout.0.is_zero() {
                problems.add(&format!("{path}.{name}"), "must be longer than 0s");
            }
        }
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
