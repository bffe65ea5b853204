//! `gateway.upstreams.*.health_check`: active health checks.

use std::time::Duration;

use http::HeaderValue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problems::Problems;
use crate::duration::ConfigDuration;

/// Active health checks of the endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HealthCheckConfig {
    /// The kind of check.
    #[serde(rename = "type")]
    pub kind: HealthCheckType,
    /// The path and query of an HTTP check.
    pub path: String,
    /// `Host` of an HTTP or gRPC check; that of the endpoint when absent.
    pub host: Option<String>,
    /// The statuses of a healthy endpoint in an HTTP check.
    #[schemars(length(min = 1, max = 100), inner(range(min = 200, max = 599)))]
    pub expected_status: Vec<u16>,
    /// The service of a gRPC check; empty for the server as a whole.
    #[schemars(length(max = 255))]
    pub service: String,
    /// Time from one round of checks to the next.
    pub interval: ConfigDuration,
    /// Timeout of a check.
    pub timeout: ConfigDuration,
    /// Number of consecutive failed checks after which an endpoint is unhealthy.
    #[schemars(range(min = 1, max = 100))]
    pub unhealthy_after: u32,
    /// Number of consecutive passed checks after which an endpoint is healthy again.
    #[schemars(range(min = 1, max = 100))]
    pub healthy_after: u32,
}

/// A kind of health check.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HealthCheckType {
    /// A GET request with an expected status.
    #[default]
    Http,
    /// A connection is established, with TLS for `https`.
    Tcp,
    /// `grpc.health.v1.Health/Check` answers `SERVING`.
    Grpc,
}

impl Default for HealthCheckConfig {
    fn default() -> Self {
        Self {
            kind: HealthCheckType::default(),
            path: "/".into(),
            host: None,
            expected_status: vec![200],
            service: String::new(),
            interval: ConfigDuration(Duration::from_secs(5)),
            timeout: ConfigDuration(Duration::from_secs(2)),
            unhealthy_after: 3,
            healthy_after: 2,
        }
    }
}

impl HealthCheckConfig {
    pub(super) fn validate(&self, path: &str, problems: &mut Problems) {
        let is_plain = self.path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        if !self.path.starts_with('/') || !is_plain {
            problems.add(&format!("{path}.path"), "must be a path such as /health, with or without a query");
        }
        if self.host.as_ref().is_some_and(|host| host.is_empty() || HeaderValue::from_str(host).is_err()) {
            problems.add(&format!("{path}.host"), "must be a host name, with or without a port");
        }
        if self.expected_status.is_empty() || self.expected_status.iter().any(|status| !(200..=599).contains(status)) {
            problems.add(&format!("{path}.expected_status"), "must have at least one status, each 200 to 599");
        }
        if self.service.len() > 255 {
            problems.add(&format!("{path}.service"), "must have at most 255 bytes");
        }
        for (name, time) in [("interval", self.interval), ("timeout", self.timeout)] {
            if time.0.is_zero() {
                problems.add(&format!("{path}.{name}"), "must be longer than 0s");
            }
        }
        for (name, count) in [("unhealthy_after", self.unhealthy_after), ("healthy_after", self.healthy_after)] {
            if !(1..=100).contains(&count) {
                problems.add(&format!("{path}.{name}"), "must be 1 to 100");
            }
        }
    }
}
