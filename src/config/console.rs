//! `serve.http.console`: the console in a browser.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The console at `/console/` of the admin API.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ConsoleConfig {
    /// Whether the console is served. It is not served while the admin API does not authenticate callers.
    pub enabled: bool,
}

impl Default for ConsoleConfig {
    fn default() -> Self {
        Self { enabled: true }
    }
}
