//! `gateway.routes.N.upgrade` and `on_revoke`: WebSockets and other streams that outlive a request.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether clients may upgrade connections to the WebSocket protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Upgrade {
    /// They may.
    #[default]
    Allow,
    /// Requests to upgrade are rejected with 403.
    Deny,
}

/// What happens to WebSockets, event streams and gRPC calls when their credential becomes invalid.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnRevoke {
    /// They are closed within a second.
    #[default]
    Close,
    /// They go on.
    Keep,
}
