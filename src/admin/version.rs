//! The version of this process.

use serde::Serialize;
use utoipa::ToSchema;

/// The response of `/version`.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Version {
    /// The version of Keygate.
    pub version: String,
    /// The commit of the build.
    pub commit: String,
    /// The time of the build.
    pub build_time: String,
    /// A hash of the configuration without its secrets.
    pub config_hash: String,
}
