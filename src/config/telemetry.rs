//! `log` and `tracing`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::load::Problems;

/// Logs, on stderr.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// The least level that is written.
    pub level: LogLevel,
    /// How a line looks.
    pub format: LogFormat,
}

/// How much is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// What happened.
    #[default]
    Info,
    /// What may need attention.
    Warn,
    /// What needs attention.
    Error,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For programs.
    #[default]
    Json,
    /// For people.
    Text,
}

/// Traces.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TracingConfig {
    /// Whether traces are sent.
    pub enabled: bool,
    /// Name of the service in traces.
    pub service_name: String,
    /// Version of the service in traces.
    pub service_version: String,
    /// Name of the environment in traces.
    pub environment: String,
    /// How traces are sent: `otlp`.
    pub exporter: Option<TracingExporter>,
    /// `host:port` of the collector.
    pub endpoint: Option<String>,
    /// The share of requests that are traced, 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub sample_rate: f64,
}

/// How traces are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TracingExporter {
    /// OTLP over gRPC.
    Otlp,
}

impl Default for TracingConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            service_name: "talos".into(),
            service_version: "0.0.0".into(),
            environment: "development".into(),
            exporter: None,
            endpoint: None,
            sample_rate: 0.001,
        }
    }
}

impl TracingConfig {
    pub(super) fn validate(&self, problems: &mut Problems) {
        problems.unsupported(self.enabled, "tracing.enabled", "set it to false");
    }
}
