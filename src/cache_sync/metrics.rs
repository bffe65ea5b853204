//! Metrics of the change feed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::{Histogram, HistogramOpts, IntCounter, PullingGauge, Registry};

use crate::cache::Freshness;

const BUCKETS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];

/// The metrics of one [`CacheSync`](super::CacheSync).
#[derive(Debug, Clone)]
pub struct Metrics {
    propagation: Histogram,
    failures: IntCounter,
}

impl Metrics {
    /// Registers the metrics, and the age of `freshness`.
    ///
    /// # Errors
    /// If metrics of these names are registered already.
    pub fn register(registry: &Registry, freshness: Arc<Freshness>) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            propagation: Histogram::with_opts(
                HistogramOpts::new(
                    "keygate_feed_propagation_seconds",
                    "Time from the commit of a change of a key to its effect on this node",
                )
                .buckets(BUCKETS.to_vec()),
            )?,
            failures: IntCounter::new("keygate_feed_failures_total", "Failed reads of the feed of changes of keys")?,
        };
        let age = Box::new(move || freshness.age(Instant::now()).as_secs_f64());
        let age =
            PullingGauge::new("keygate_feed_age_seconds", "Time since this node last knew all changes of keys", age)?;
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
