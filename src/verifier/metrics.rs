//! Metrics of verifications (contract, operations section 6).

use std::array;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry};

use super::proof_cache::VerifiedBy;
use super::resolver::CacheOutcome;
use super::verification::Verification;
use crate::credential::CredentialKind;

const BUCKETS: &[f64] = &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Upper bounds of the buckets of decisions, in seconds: most take some microseconds.
const DECISION_BUCKETS: &[f64] = &[
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
    0.5, 1.0, 2.5, 5.0,
];

/// The number of credential kinds, from the last variant.
const KINDS: usize = CredentialKind::DerivedMacaroon as usize + 1;
/// The number of cache outcomes, from the last variant.
const LEVELS: usize = CacheOutcome::Skip as usize + 1;

/// The number of ways to verify a text, from the last variant.
const CHECKS: usize = VerifiedBy::Connection as usize + 1;

/// The metrics of one verifier.
#[derive(Debug, Clone)]
pub struct Metrics {
    verifications: IntCounterVec,
    duration: HistogramVec,
    cache_hits: IntCounter,
    cache_misses: IntCounter,
    lookups: IntCounterVec,
    decisions: HistogramVec,
    checks: IntCounterVec,
    series: Arc<CachedSeries>,
}

/// Series, cached after their first use. Each appears when it is first counted.
#[derive(Debug)]
struct CachedSeries {
    /// By kind; failures, then successes.
    verifications: [[OnceLock<IntCounter>; 2]; KINDS],
    /// By kind; misses, then hits.
    duration: [[OnceLock<Histogram>; 2]; KINDS],
    /// By level.
    lookups: [OnceLock<IntCounter>; LEVELS],
    /// By level.
    decisions: [OnceLock<Histogram>; LEVELS],
    checks: [OnceLock<IntCounter>; CHECKS],
}

impl Metrics {
    /// Creates the metrics and registers them.
    ///
    /// # Errors
    /// When `registry` has metrics of these names already.
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
                    "Verifications by where the key was found: memory, shared, stale, database, none",
                ),
                &["level"],
            )?,
            decisions: HistogramVec::new(
                HistogramOpts::new(
                    "keygate_decision_duration_seconds",
                    "Time from the request head to the verdict about its credential, by where the key was found: memory, shared, stale, database, none",
                )
                .buckets(DECISION_BUCKETS.to_vec()),
                &["tier"],
            )?,
            checks: IntCounterVec::new(
                Opts::new(
                    "keygate_credential_checks_total",
                    "Verifications by which cache had the proof of the credential: connection, process, none (full verification)",
                ),
                &["known_to"],
            )?,
            series: Arc::default(),
        };
        registry.register(Box::new(metrics.verifications.clone()))?;
        registry.register(Box::new(metrics.duration.clone()))?;
        registry.register(Box::new(metrics.cache_hits.clone()))?;
        registry.register(Box::new(metrics.cache_misses.clone()))?;
        registry.register(Box::new(metrics.lookups.clone()))?;
        registry.register(Box::new(metrics.decisions.clone()))?;
        registry.register(Box::new(metrics.checks.clone()))?;
        Ok(metrics)
    }

    pub(super) fn observe(&self, verification: &Verification, took: Duration) {
        let (kind, cache) = (verification.kind, verification.cache);
        let (is_good, is_hit) = (verification.outcome.is_ok(), cache.is_hit());
        let counter = if is_hit { &self.cache_hits } else { &self.cache_misses };
        counter.inc();
        let lookups = || self.lookups.with_label_values(&[cache.level()]);
        self.series.lookups[cache as usize].get_or_init(lookups).inc();
        let decisions = || self.decisions.with_label_values(&[cache.level()]);
        self.series.decisions[cache as usize].get_or_init(decisions).observe(took.as_secs_f64());
        let checks = || self.checks.with_label_values(&[verification.check.known_to()]);
        self.series.checks[verification.check as usize].get_or_init(checks).inc();
        let result = if is_good { "success" } else { "failure" };
        let verifications = || self.verifications.with_label_values(&[kind.name(), result]);
        self.series.verifications[kind as usize][usize::from(is_good)].get_or_init(verifications).inc();
        let duration = || self.duration.with_label_values(&[kind.name(), if is_hit { "hit" } else { "miss" }]);
        let histogram = self.series.duration[kind as usize][usize::from(is_hit)].get_or_init(duration);
        histogram.observe(took.as_secs_f64());
    }
}

impl Default for CachedSeries {
    fn default() -> Self {
        Self {
            verifications: array::from_fn(|_| array::from_fn(|_| OnceLock::new())),
            duration: array::from_fn(|_| array::from_fn(|_| OnceLock::new())),
            lookups: array::from_fn(|_| OnceLock::new()),
            decisions: array::from_fn(|_| OnceLock::new()),
            checks: array::from_fn(|_| OnceLock::new()),
        }
    }
}
