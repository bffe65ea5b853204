//! `tracing`: traces of requests and their collector.

use std::collections::BTreeMap;
use std::path::PathBuf;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::problems::Problems;
use super::redact;

/// Fields that the export sets itself.
const OWN_FIELDS: [&str; 9] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "te",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

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
    /// The collector: `host:port` in clear text, or a URL of `http` or `https`. Required if traces are enabled. Over HTTP the path is
    /// `/v1/traces` if the URL has none.
    pub endpoint: Option<String>,
    /// TLS to a collector whose URL is one of `https`. Its certificate must be for the host in the URL.
    pub tls: CollectorTlsConfig,
    /// Fields that are sent with each export, such as `Authorization`.
    #[schemars(with = "BTreeMap<String, String>")]
    #[serde(serialize_with = "redact::secrets")]
    pub headers: BTreeMap<String, SecretString>,
    /// Fields whose values are in files: the paths of the files by the names of the fields.
    pub header_files: BTreeMap<String, PathBuf>,
    /// The fraction of new traces that are recorded, 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub sample_rate: f64,
}

/// TLS to a collector.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CollectorTlsConfig {
    /// The only authorities that are trusted, a PEM file; those of the system if absent. It is read at the start.
    pub ca_file: Option<PathBuf>,
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
    /// OTLP over gRPC.
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
            tls: CollectorTlsConfig::default(),
            headers: BTreeMap::new(),
            header_files: BTreeMap::new(),
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
            (TracingProtocol::Grpc, "https", "/") => Ok(format!("https://{authority}")),
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
        match self.url() {
            Ok(url) if self.tls.ca_file.is_some() && !url.starts_with("https://") => {
                problems
                    .add("tracing.tls.ca_file", "is for a collector with TLS; begin tracing.endpoint with https://");
            }
            Ok(_) => {}
            Err(why) => problems.add("tracing.endpoint", why),
        }
        for (name, value) in &self.headers {
            check_field(&format!("tracing.headers.{name}"), name, value, problems);
        }
        problems.unique("tracing.headers", self.headers.keys().map(|name| name.to_ascii_lowercase()));
    }

    /// The fields that are sent with each export. Values are marked as sensitive.
    pub fn fields(&self) -> HeaderMap {
        let field = |(name, value): (&String, &SecretString)| {
            let mut value = HeaderValue::from_str(value.expose_secret()).ok()?;
            value.set_sensitive(true);
            Some((HeaderName::from_bytes(name.as_bytes()).ok()?, value))
        };
        self.headers.iter().filter_map(field).collect()
    }
}

/// Checks a field that is sent with each export. The problem never has its value.
fn check_field(path: &str, name: &str, value: &SecretString, problems: &mut Problems) {
    let lower = name.to_ascii_lowercase();
    if HeaderName::from_bytes(name.as_bytes()).is_err() {
        problems.add(path, "must be the name of a header");
    } else if OWN_FIELDS.contains(&lower.as_str()) || lower.starts_with("grpc-") {
        problems.add(path, "is set by the export itself; remove it");
    } else if HeaderValue::from_str(value.expose_secret()).is_err() {
        problems.add(path, "has a value with characters that no header can have");
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
            ("grpc", "https://otel:4317", Some("https://otel:4317")),
            ("grpc", "https://otel.example.com", Some("https://otel.example.com")),
            ("grpc", "https://otel:4317/v1/traces", None),
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

    #[test]
    fn fields_and_authorities_are_checked() {
        let with = |more: &str| format!("{{ enabled: true, exporter: otlp, endpoint: 'https://otel:4317', {more} }}");
        for (text, expected) in [
            (with("tls: { ca_file: /ca.pem }, headers: { Authorization: Bearer x, x-tenant: a b }"), &[][..]),
            (with("headers: { 'a b': x }"), &["tracing.headers.a b"]),
            (
                with("headers: { Content-Type: x, grpc-timeout: 1S }"),
                &["tracing.headers.Content-Type", "tracing.headers.grpc-timeout"],
            ),
            (with(r#"headers: { x: "a\nb" }"#), &["tracing.headers.x"]),
            (with("headers: { X-A: a, x-a: b }"), &["tracing.headers.1"]),
            (with("tls: { ca_file: /ca.pem }").replace("https", "http"), &["tracing.tls.ca_file"]),
        ] {
            assert_eq!(problem_paths(&text, TracingConfig::validate), expected, "{text}");
        }
    }

    #[test]
    fn values_of_fields_are_not_shown() {
        let config: TracingConfig = serde_saphyr::from_str("{ headers: { authorization: hunter2 } }").unwrap();
        let shown = format!("{config:?} {} {:?}", serde_json::to_string(&config).unwrap(), config.fields());
        assert!(shown.contains("authorization") && !shown.contains("hunter2"), "{shown}");
        assert_eq!(config.fields()["authorization"], "hunter2");
    }
}
