//! `log` and `tracing`.

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

/// Traces. Not supported by this version: only `enabled: false` is accepted.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TracingConfig {
    /// Whether traces are exported.
    pub enabled: bool,
    /// Service name in traces.
    pub service_name: String,
    /// Service version in traces.
    pub service_version: String,
    /// Environment name in traces.
    pub environment: String,
    /// The exporter: `otlp`.
    pub exporter: Option<TracingExporter>,
    /// `host:port` of the collector.
    pub endpoint: Option<String>,
    /// The fraction of requests that are traced, 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub sample_rate: f64,
}

/// Trace exporters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
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
