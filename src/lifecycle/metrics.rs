//! Metrics of the write side (contract, operations section 6).

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry};

use super::batch_item::{BatchCode, BatchItem};
use crate::key::RevocationReason;

const BATCH_SIZES: &[f64] = &[1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0];

/// Metrics of the write side.
#[derive(Debug, Clone)]
pub struct Metrics {
    created: IntCounter,
    revoked: IntCounterVec,
    rotated: IntCounter,
    tokens: IntCounter,
    purged: IntCounter,
    batches: IntCounter,
    partial_batches: IntCounter,
    batch_succeeded: IntCounter,
    batch_failed: IntCounterVec,
    batch_size: Histogram,
}

impl Metrics {
    /// Creates the metrics and registers them.
    ///
    /// # Errors
    /// If metrics of these names are registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let sizes = HistogramOpts::new("talos_batch_import_key_count", "Keys in a batch").buckets(BATCH_SIZES.to_vec());
        let batch_size = Histogram::with_opts(sizes)?;
        registry.register(Box::new(batch_size.clone()))?;
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let by = |label: &str, name: &str, help: &str| {
            let counter = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        Ok(Self {
            created: counter("talos_keys_created_total", "Keys issued or imported")?,
            revoked: by("reason", "talos_keys_revoked_total", "Keys revoked, by reason")?,
            rotated: counter("talos_keys_rotated_total", "Keys rotated")?,
            tokens: counter("talos_tokens_minted_total", "Tokens derived from keys")?,
            purged: counter("keygate_purged_keys_total", "Keys deleted some time after their expiry")?,
            batches: counter("talos_batch_import_requests_total", "Batch imports")?,
            partial_batches: counter(
                "talos_batch_import_partial_failures_total",
                "Batch imports of which some keys were rejected",
            )?,
            batch_succeeded: counter("talos_batch_import_keys_succeeded_total", "Keys imported in batches")?,
            batch_failed: by(
                "error_code",
                "talos_batch_import_keys_failed_total",
                "Keys rejected in batches, by code",
            )?,
            batch_size,
        })
    }

    pub(super) fn created(&self) {
        self.created.inc();
    }

    pub(super) fn revoked(&self, reason: RevocationReason) {
        self.revoked.with_label_values(&[reason.name()]).inc();
    }

    pub(super) fn rotated(&self) {
        self.rotated.inc();
        self.created.inc();
        self.revoked.with_label_values(&["rotation"]).inc();
    }

    pub(super) fn token_minted(&self) {
        self.tokens.inc();
    }

    pub(super) fn purged(&self, count: usize) {
        self.purged.inc_by(count as u64);
    }

    #[expect(clippy::cast_precision_loss, reason = "a batch has at most 1000 items")]
    pub(super) fn batch(&self, items: &[BatchItem]) {
        let failed = |code: BatchCode| items.iter().filter(|item| item.as_ref().is_err_and(|e| e.code == code)).count();
        let succeeded = items.iter().filter(|item| item.is_ok()).count();
        for code in BatchCode::ALL {
            self.batch_failed.with_label_values(&[code.name()]).inc_by(failed(code) as u64);
        }
        self.batches.inc();
        self.batch_succeeded.inc_by(succeeded as u64);
        self.created.inc_by(succeeded as u64);
        self.batch_size.observe(items.len() as f64);
        if succeeded > 0 && succeeded < items.len() {
            self.partial_batches.inc();
        }
    }
}
