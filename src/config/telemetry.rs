//! `log`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// Normal events.
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
