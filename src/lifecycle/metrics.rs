//! What changes to keys count (contract, operations section 6).

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

use crate::key::RevocationReason;

/// Counters of one write side.
#[derive(Debug, Clone)]
pub struct Metrics {
    created: IntCounter,
    revoked: IntCounterVec,
}

impl Metrics {
    /// Makes the counters known to `registry`.
    ///
    /// # Errors
    /// When counters of these names are there already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            created: IntCounter::new("talos_keys_created_total", "Keys that came to be")?,
            revoked: IntCounterVec::new(Opts::new("talos_keys_revoked_total", "Keys revoked, by reason"), &["reason"])?,
        };
        registry.register(Box::new(metrics.created.clone()))?;
        registry.register(Box::new(metrics.revoked.clone()))?;
        Ok(metrics)
    }

    pub(super) fn created(&self) {
        self.created.inc();
    }

    pub(super) fn revoked(&self, reason: RevocationReason) {
        self.revoked.with_label_values(&[reason.name()]).inc();
    }
}
