//! `gateway.upstreams.NAME.*_timeout` and `gateway.routes.N.timeouts`: how long an upstream may take.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problems::Problems;
use crate::duration::ConfigDuration;

/// Timeouts of a route. One that is absent is that of the upstream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouteTimeoutsConfig {
    /// Instead of the upstream's `connect_timeout`.
    pub connect: Option<ConfigDuration>,
    /// Instead of the upstream's `first_byte_timeout`.
    pub first_byte: Option<ConfigDuration>,
    /// Instead of the upstream's `read_timeout`.
    pub read: Option<ConfigDuration>,
    /// Instead of the upstream's `total_timeout`.
    pub total: Option<ConfigDuration>,
    /// Instead of the upstream's `stream_idle_timeout`.
    pub stream_idle: Option<ConfigDuration>,
}

/// The default of `connect_timeout`.
pub(super) fn connect_timeout() -> ConfigDuration {
    ConfigDuration(Duration::from_secs(5))
}

/// The default of `read_timeout`.
pub(super) fn read_timeout() -> ConfigDuration {
    ConfigDuration(Duration::from_secs(60))
}

/// The default of `stream_idle_timeout`.
pub(super) fn stream_idle_timeout() -> ConfigDuration {
    ConfigDuration(Duration::from_secs(3600))
}

impl RouteTimeoutsConfig {
    pub(super) fn validate(&self, path: &str, problems: &mut Problems) {
        let timeouts = [
            ("connect", self.connect),
            ("first_byte", self.first_byte),
            ("read", self.read),
            ("total", self.total),
            ("stream_idle", self.stream_idle),
        ];
        validate(timeouts, path, problems);
    }
}

/// Checks timeouts by their names below `path`.
pub(super) fn validate(timeouts: [(&str, Option<ConfigDuration>); 5], path: &str, problems: &mut Problems) {
    for (name, timeout) in timeouts {
        if timeout.is_some_and(|timeout| timeout.0.is_zero()) {
            problems.add(&format!("{path}.{name}"), "must be longer than 0s");
        }
    }
}
