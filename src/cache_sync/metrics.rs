//! What following the changes of keys counts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::{Histogram, HistogramOpts, IntCounter, PullingGauge, Registry};

use crate::cache::Freshness;

const BUCKETS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];

/// Counters of one cache_sync.
#[derive(Debug, Clone)]
pub struct Metrics {
    propagation: Histogram,
    failures: IntCounter,
}

impl Metrics {
    /// Makes the counters known to `registry`, and the age of what `freshness` tells.
    ///
    /// # Errors
    /// When counters of these names are there already.
    pub fn register(registry: &Registry, freshness: Arc<Freshness>) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            propagation: Histogram::with_opts(
                HistogramOpts::new(
                    "keygate_feed_propagation_seconds",
                    "Time from a change of a key to its effect here",
                )
                .buckets(BUCKETS.to_vec()),
            )?,
            failures: IntCounter::new("keygate_feed_failures_total", "Looks at the changes of keys that failed")?,
        };
        let age = Box::new(move || freshness.age(Instant::now()).as_secs_f64());
        let age =
            PullingGauge::new("keygate_feed_age_seconds", "How long ago all changes of keys were known here", age)?;
        registry.register(Box::new(metrics.propagation.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        registry.register(Box::new(age))?;
        Ok(metrics)
    }

    pub(super) fn applied(&self, after: Duration) {
        self.propagation.observe(after.as_secs_f64());
    }

    pub(super) fn failed(&self) {
        self.failures.inc();
    }
}
