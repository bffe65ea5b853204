//! Metrics of the lookup throttle.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// Counters of a lookup throttle.
#[derive(Debug, Clone)]
pub struct LookupThrottleMetrics {
    lookups: IntCounterVec,
    batches: IntCounter,
}

impl LookupThrottleMetrics {
    /// Registers the counters.
    ///
    /// # Errors
    /// If metrics of these names are registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let lookups = IntCounterVec::new(
            Opts::new(
                "keygate_guarded_lookups_total",
                "Store lookups of credentials that may be imported keys, by way: alone, together in a batch, or refused",
            ),
            &["way"],
        )?;
        for way in ["alone", "together", "refused"] {
            lookups.with_label_values(&[way]);
        }
        let batches = IntCounter::new(
            "keygate_lookup_batches_total",
            "Batches of lookups from addresses that have used up their guessing budget",
        )?;
        registry.register(Box::new(lookups.clone()))?;
        registry.register(Box::new(batches.clone()))?;
        Ok(Self { lookups, batches })
    }

    pub(super) fn count_single(&self) {
        self.lookups.with_label_values(&["alone"]).inc();
    }

    pub(super) fn count_batched(&self) {
        self.lookups.with_label_values(&["together"]).inc();
    }

    pub(super) fn count_rejected(&self) {
        self.lookups.with_label_values(&["refused"]).inc();
    }

    pub(super) fn count_batch(&self) {
        self.batches.inc();
    }
}
