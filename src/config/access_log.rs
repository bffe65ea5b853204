//! `gateway.access_log`: which requests are logged, and which fields a line has.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problems::Problems;

/// The access log of the gateway, of external authorization and of the Tower layer. It does not depend on `log.level`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AccessLogConfig {
    /// Whether requests are logged.
    pub enabled: bool,
    /// The fraction of requests that are logged, 0 to 1. Responses with a status of 500 or more are always logged.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub sample_rate: f64,
    /// The fields of a line. A field without a value is left out.
    pub fields: Vec<AccessLogField>,
}

/// A field of an access-log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccessLogField {
    /// Id of the request.
    RequestId,
    /// Method.
    Method,
    /// Host that the client requested.
    Host,
    /// Path as received, without the query.
    Path,
    /// Protocol that the client used, for example `HTTP/1.1`.
    Protocol,
    /// Status of the response; 499 if the client closed the connection before it.
    Status,
    /// Bytes of the response body that were sent.
    Bytes,
    /// Bytes of the request body that were received.
    BytesReceived,
    /// Time from the request head to the end of the response, in microseconds.
    DurationUs,
    /// Name of the route.
    Route,
    /// Name of the upstream.
    Upstream,
    /// Endpoint of the upstream that sent the response, or was tried last.
    Endpoint,
    /// Time from the first attempt at the upstream to the end of its response, in microseconds.
    UpstreamUs,
    /// Number of attempts at the upstream.
    Attempts,
    /// Whether the upstream broke off its response.
    Truncated,
    /// Id of the key.
    KeyId,
    /// Code of the rejection.
    Denial,
    /// Address of the client.
    Peer,
    /// Address of the proxy in front of the gateway, if there is one.
    Proxy,
    /// `User-Agent` of the client, at most 256 bytes.
    UserAgent,
    /// Id of the trace: that of the client's `traceparent`, or of the trace that the request begins (`tracing.enabled`).
    TraceId,
}

impl AccessLogField {
    /// All fields, in the order of a line.
    pub const ALL: [Self; 21] = [
        Self::RequestId,
        Self::Method,
        Self::Host,
        Self::Path,
        Self::Protocol,
        Self::Status,
        Self::Bytes,
        Self::BytesReceived,
        Self::DurationUs,
        Self::Route,
        Self::Upstream,
        Self::Endpoint,
        Self::UpstreamUs,
        Self::Attempts,
        Self::Truncated,
        Self::KeyId,
        Self::Denial,
        Self::Peer,
        Self::Proxy,
        Self::UserAgent,
        Self::TraceId,
    ];
}

impl Default for AccessLogConfig {
    fn default() -> Self {
        Self { enabled: true, sample_rate: 1.0, fields: AccessLogField::ALL.to_vec() }
    }
}

impl AccessLogConfig {
    pub(super) fn validate(&self, path: &str, problems: &mut Problems) {
        if self.enabled && self.fields.is_empty() {
            problems.add(&format!("{path}.fields"), "must name a field; to log nothing, set enabled to false");
        }
    }
}
