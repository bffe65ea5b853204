//! What noting uses counts.

use prometheus::{IntCounterVec, Opts, Registry};

/// Counters of one tracker and its writer.
#[derive(Debug, Clone)]
pub struct Metrics {
    uses: IntCounterVec,
}

impl Metrics {
    /// Makes the counters known to `registry`.
    ///
    /// # Errors
    /// When counters of these names are there already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let uses = IntCounterVec::new(
            Opts::new("keygate_last_used_total", "First uses of keys on a day, by what became of the note of them"),
            &["outcome"],
        )?;
        for outcome in ["written", "dropped", "failed"] {
            uses.with_label_values(&[outcome]);
        }
        registry.register(Box::new(uses.clone()))?;
        Ok(Self { uses })
    }

    /// A use that found the queue full.
    pub(super) fn dropped(&self) {
        self.uses.with_label_values(&["dropped"]).inc();
    }

    pub(super) fn written(&self, count: usize) {
        self.uses.with_label_values(&["written"]).inc_by(count as u64);
    }

    /// Uses that the store did not take.
    pub(super) fn failed(&self, count: usize) {
        self.uses.with_label_values(&["failed"]).inc_by(count as u64);
    }
}
