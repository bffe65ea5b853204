//! What verification counts (contract, operations section 6).

use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry};

use super::Verification;

const BUCKETS: &[f64] = &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Counters of one verifier.
#[derive(Debug, Clone)]
pub struct Metrics {
    verifications: IntCounterVec,
    duration: HistogramVec,
    cache_hits: IntCounter,
    cache_misses: IntCounter,
    lookups: IntCounterVec,
}

impl Metrics {
    /// Makes the counters known to `registry`.
    ///
    /// # Errors
    /// When counters of these names are there already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            verifications: IntCounterVec::new(
                Opts::new("talos_verifications_total", "Verified credentials by kind and result"),
                &["type", "result"],
            )?,
            duration: HistogramVec::new(
                HistogramOpts::new("talos_verification_duration_seconds", "Time a verification took")
                    .buckets(BUCKETS.to_vec()),
                &["type", "cache_hit"],
            )?,
            cache_hits: IntCounter::new("talos_cache_hits_total", "Verifications answered from the cache")?,
            cache_misses: IntCounter::new("talos_cache_misses_total", "Verifications not answered from the cache")?,
            lookups: IntCounterVec::new(
                Opts::new(
                    "keygate_lookups_total",
                    "Verifications by what told of the key: memory, shared, stale, database, none",
                ),
                &["level"],
            )?,
        };
        registry.register(Box::new(metrics.verifications.clone()))?;
        registry.register(Box::new(metrics.duration.clone()))?;
        registry.register(Box::new(metrics.cache_hits.clone()))?;
        registry.register(Box::new(metrics.cache_misses.clone()))?;
        registry.register(Box::new(metrics.lookups.clone()))?;
        Ok(metrics)
    }

    pub(super) fn observe(&self, verification: &Verification, took: Duration) {
        let kind = verification.kind.name();
        let result = if verification.outcome.is_ok() { "success" } else { "failure" };
        let hit = verification.cache.is_hit();
        let (cache_hit, counter) = if hit { ("hit", &self.cache_hits) } else { ("miss", &self.cache_misses) };
        counter.inc();
        self.lookups.with_label_values(&[verification.cache.level()]).inc();
        self.verifications.with_label_values(&[kind, result]).inc();
        self.duration.with_label_values(&[kind, cache_hit]).observe(took.as_secs_f64());
    }
}
