//! Metrics of the audit trail.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// Metrics of the audit trail.
#[derive(Debug, Clone)]
pub struct Metrics {
    sealed: IntCounter,
    rejected: IntCounter,
    failed: IntCounterVec,
}

impl Metrics {
    /// Creates the metrics and registers them.
    ///
    /// # Errors
    /// If metrics of these names are registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let sealed = IntCounter::new("keygate_audit_sealed_rows_total", "Rows of the audit trail that were sealed")?;
        let rejected = IntCounter::new(
            "keygate_audit_rejected_rows_total",
            "Rows of the audit trail that were not sealed because their authentication code is wrong",
        )?;
        let failed = IntCounterVec::new(
            Opts::new("keygate_audit_failures_total", "Failures of the background work of the audit trail"),
            &["work"],
        )?;
        for work in ["seal", "checkpoint", "output", "refused_calls", "retention"] {
            failed.with_label_values(&[work]);
        }
        registry.register(Box::new(sealed.clone()))?;
        registry.register(Box::new(rejected.clone()))?;
        registry.register(Box::new(failed.clone()))?;
        Ok(Self { sealed, rejected, failed })
    }

    pub(super) fn sealed(&self, count: usize) {
        self.sealed.inc_by(count as u64);
    }

    pub(super) fn rejected(&self, count: usize) {
        self.rejected.inc_by(count as u64);
    }

    /// Logs a failure of background work, and counts it.
    pub(super) fn failed(&self, work: &'static str, error: &dyn std::fmt::Display) {
        self.failed.with_label_values(&[work]).inc();
        tracing::warn!(%error, work, "work on the audit trail failed; it is tried again");
    }
}
