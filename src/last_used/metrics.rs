//! Metrics of recorded uses.

use prometheus::{IntCounterVec, Opts, Registry};

/// Metrics of a tracker and its writer.
#[derive(Debug, Clone)]
pub struct Metrics {
    uses: IntCounterVec,
}

impl Metrics {
    /// Creates the metrics and registers them.
    ///
    /// # Errors
    /// If metrics of these names are registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let uses = IntCounterVec::new(
            Opts::new("keygate_last_used_total", "First uses of keys on a day, by outcome"),
            &["outcome"],
        )?;
        for outcome in ["written", "dropped", "failed"] {
            uses.with_label_values(&[outcome]);
        }
        registry.register(Box::new(uses.clone()))?;
        Ok(Self { uses })
    }

    /// Counts a use that was dropped because the queue was full or closed.
    pub(super) fn dropped(&self) {
        self.uses.with_label_values(&["dropped"]).inc();
    }

    /// Counts uses that were written.
    pub(super) fn written(&self, count: usize) {
        self.uses.with_label_values(&["written"]).inc_by(count as u64);
    }

    /// Counts uses that could not be written.
    pub(super) fn failed(&self, count: usize) {
        self.uses.with_label_values(&["failed"]).inc_by(count as u64);
    }
}
