//! Metrics of the signing-key refresher (contract, operations section 6).

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry};

const BUCKETS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// Metrics of a signing-key refresher.
#[derive(Debug, Clone)]
pub struct Metrics {
    loads: IntCounterVec,
    duration: Histogram,
    keys: IntGauge,
}

impl Metrics {
    /// Registers the metrics.
    ///
    /// # Errors
    /// If metrics of these names are registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            loads: IntCounterVec::new(
                Opts::new("talos_keyservice_load_total", "Loads of the signing keys by result"),
                &["result"],
            )?,
            duration: Histogram::with_opts(
                HistogramOpts::new("talos_keyservice_load_duration_seconds", "Duration of a load of the signing keys")
                    .buckets(BUCKETS.to_vec()),
            )?,
            keys: IntGauge::new("talos_keyservice_keys_loaded", "Keys that can sign or verify derived tokens")?,
        };
        registry.register(Box::new(metrics.loads.clone()))?;
        registry.register(Box::new(metrics.duration.clone()))?;
        registry.register(Box::new(metrics.keys.clone()))?;
        Ok(metrics)
    }

    /// Records a load.
    pub(super) fn observe(&self, succeeded: bool, took: Duration) {
        self.loads.with_label_values(&[if succeeded { "success" } else { "error" }]).inc();
        self.duration.observe(took.as_secs_f64());
    }

    pub(super) fn set_keys(&self, count: usize) {
        self.keys.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    #[cfg(test)]
    pub(super) fn counts(&self) -> (u64, u64, i64) {
        let count = |result| self.loads.with_label_values(&[result]).get();
        (count("success"), count("error"), self.keys.get())
    }
}
