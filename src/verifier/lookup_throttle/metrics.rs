//! What guarded lookups count.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// Counters of one throttle.
#[derive(Debug, Clone)]
pub struct LookupThrottleMetrics {
    lookups: IntCounterVec,
    statements: IntCounter,
}

impl LookupThrottleMetrics {
    /// Makes the counters known to `registry`.
    ///
    /// # Errors
    /// When counters of these names are there already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let lookups = IntCounterVec::new(
            Opts::new(
                "keygate_guarded_lookups_total",
                "Lookups of credentials of the imported shape that no cache knew, by how they were made",
            ),
            &["way"],
        )?;
        for way in ["alone", "together", "refused"] {
            lookups.with_label_values(&[way]);
        }
        let statements = IntCounter::new(
            "keygate_lookup_batches_total",
            "Statements that made lookups together, because addresses had caused too many in vain",
        )?;
        registry.register(Box::new(lookups.clone()))?;
        registry.register(Box::new(statements.clone()))?;
        Ok(Self { lookups, statements })
    }

    pub(super) fn alone(&self) {
        self.lookups.with_label_values(&["alone"]).inc();
    }

    pub(super) fn together(&self) {
        self.lookups.with_label_values(&["together"]).inc();
    }

    pub(super) fn refused(&self) {
        self.lookups.with_label_values(&["refused"]).inc();
    }

    pub(super) fn statement(&self) {
        self.statements.inc();
    }
}
