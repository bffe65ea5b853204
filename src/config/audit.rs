//! `audit`: the audit trail.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problems::Problems;
use crate::duration::ConfigDuration;

/// Leaves time to notice a mistake before rows are removed.
const RETENTION_MIN: Duration = Duration::from_secs(24 * 3600);

/// The audit trail: a row in the database for every mutation, in the transaction of the mutation.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuditConfig {
    /// Where rows are written as JSON lines as well: `stdout`, or the path of a file. The rows of this node are written within a
    /// second of their commit. Only the database has every row in any case.
    pub output: Option<String>,
    /// How long rows are kept. `0s` keeps rows without time limit; otherwise `24h` or more. What remains can be verified.
    pub retention: ConfigDuration,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self { output: None, retention: ConfigDuration(Duration::ZERO) }
    }
}

impl AuditConfig {
    pub(super) fn validate(&self, problems: &mut Problems) {
        if !self.retention.0.is_zero() && self.retention.0 < RETENTION_MIN {
            problems.add("audit.retention", "must be 0s (keep rows without time limit) or 24h or more");
        }
        if self.output.as_ref().is_some_and(|output| output.trim().is_empty()) {
            problems.add("audit.output", "must be stdout or the path of a file; to write no lines, leave it out");
        }
    }
}
