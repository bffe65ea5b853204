//! `log` and `tracing`.

use http::Uri;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problems::Problems;

/// Logs, written to stderr.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// The lowest level that is logged.
    pub level: LogLevel,
    /// Format of log lines.
    pub format: LogFormat,
}

/// Log levels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Details for debugging.
    Debug,
    /// Normal events, and the access log.
    #[default]
    Info,
    /// Conditions that may need attention.
    Warn,
    /// Failures that need attention.
    Error,
}

/// Format of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object for each line.
    #[default]
    Json,
    /// Plain text.
    Text,
}

/// Traces of requests, sent to a collector by the OpenTelemetry protocol (OTLP). A trace of a client is continued, and the client decides
/// whether it is recorded; without one a new trace begins.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TracingConfig {
    /// Whether traces are recorded and exported.
    pub enabled: bool,
    /// Service name in traces.
    pub service_name: String,
    /// Service version in traces.
    pub service_version: String,
    /// Environment name in traces.
    pub environment: String,
    /// The exporter: `otlp`. Required if traces are enabled.
    pub exporter: Option<TracingExporter>,
    /// The form in which spans are sent.
    pub protocol: TracingProtocol,
    /// The collector: `host:port`, or a URL. Required if traces are enabled. Over HTTP the URL may be one of `https`, and its path is
    /// `/v1/traces` if it has none.
    pub endpoint: Option<String>,
    /// The fraction of new traces that are recorded, 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub sample_rate: f64,
}

/// Trace exporters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TracingExporter {
    /// The OpenTelemetry protocol.
    Otlp,
}

/// The form in which spans are sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum TracingProtocol {
    /// OTLP over gRPC, in clear text.
    #[default]
    #[serde(rename = "grpc")]
    Grpc,
    /// OTLP over HTTP with binary messages.
    #[serde(rename = "http/protobuf")]
    HttpProtobuf,
}

impl Default for TracingConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            service_name: "talos".into(),
            service_version: "0.0.0".into(),
            environment: "development".into(),
            exporter: None,
            protocol: TracingProtocol::default(),
            endpoint: None,
            sample_rate: 0.001,
        }
    }
}

impl TracingConfig {
    /// The URL of the collector.
    ///
    /// # Errors
    /// What is wrong with `endpoint`.
    pub fn url(&self) -> Result<String, &'static str> {
        const FORM: &str =
            "must be the address of a collector, for example otel-collector:4317 or http://otel-collector:4318";
        let endpoint = self.endpoint.as_deref().unwrap_or_default();
        let url = if endpoint.contains("://") { endpoint.to_owned() } else { format!("http://{endpoint}") };
        let parsed: Uri = url.parse().map_err(|_| FORM)?;
        let (Some(scheme), Some(authority)) = (parsed.scheme_str(), parsed.authority()) else { return Err(FORM) };
        if authority.as_str().contains('@') || parsed.query().is_some() || authority.host().is_empty() {
            return Err("must be a URL without user, password and query");
        }
        match (self.protocol, scheme, parsed.path()) {
            (TracingProtocol::Grpc, "http", "/") if authority.port().is_none() => Err(FORM),
            (TracingProtocol::Grpc, "http", "/") => Ok(format!("http://{authority}")),
            (TracingProtocol::Grpc, "https", _) => Err(
                "names TLS, which gRPC does not have here; set tracing.protocol to http/protobuf, or run a collector on this host",
            ),
            (TracingProtocol::HttpProtobuf, "http" | "https", "/") => Ok(format!("{scheme}://{authority}/v1/traces")),
            (TracingProtocol::HttpProtobuf, "http" | "https", path) => Ok(format!("{scheme}://{authority}{path}")),
            _ => Err(FORM),
        }
    }

    pub(super) fn validate(&self, problems: &mut Problems) {
        if !self.enabled {
            return;
        }
        if self.exporter.is_none() {
            problems.add("tracing.exporter", "must be otlp if tracing.enabled is true");
        }
        if let Err(why) = self.url() {
            problems.add("tracing.endpoint", why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::problems::problem_paths;
    use super::*;

    #[test]
    fn endpoint_is_an_address_or_a_url() {
        for (protocol, endpoint, url) in [
            ("grpc", "otel:4317", Some("http://otel:4317")),
            ("grpc", "[::1]:4317", Some("http://[::1]:4317")),
            ("grpc", "http://otel:4317", Some("http://otel:4317")),
            ("grpc", "otel", None),
            ("grpc", "https://otel:4317", None),
            ("grpc", "otel:4317/v1/traces", None),
            ("http/protobuf", "otel:4318", Some("http://otel:4318/v1/traces")),
            ("http/protobuf", "https://otel.example.com", Some("https://otel.example.com/v1/traces")),
            (
                "http/protobuf",
                "https://otel.example.com/otlp/v1/traces",
                Some("https://otel.example.com/otlp/v1/traces"),
            ),
            ("http/protobuf", "ftp://otel", None),
            ("http/protobuf", "https://user:secret@otel", None),
            ("http/protobuf", "https://otel/?key=secret", None),
            ("http/protobuf", "", None),
        ] {
            let text = format!("{{ protocol: {protocol}, endpoint: '{endpoint}' }}");
            let config: TracingConfig = serde_saphyr::from_str(&text).unwrap();
            assert_eq!(config.url().ok().as_deref(), url, "{text}");
        }
    }

    #[test]
    fn traces_need_an_exporter_and_an_endpoint() {
        for (text, expected) in [
            ("{ endpoint: ' ' }", &[][..]),
            ("{ enabled: true }", &["tracing.endpoint", "tracing.exporter"]),
            ("{ enabled: true, exporter: otlp }", &["tracing.endpoint"]),
            ("{ enabled: true, exporter: otlp, endpoint: 'otel:4317' }", &[]),
        ] {
            assert_eq!(problem_paths(text, TracingConfig::validate), expected, "{text}");
        }
    }
}
