//! Metrics of counted requests.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Metrics of a counter and its writer.
#[derive(Debug, Clone)]
pub struct Metrics {
    written: IntCounter,
    without_key: IntCounter,
    lost: IntCounter,
    failures: IntCounter,
    cells: IntGauge,
}

impl Metrics {
    /// Creates the metrics and registers them.
    ///
    /// # Errors
    /// If metrics of these names are registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests = IntCounterVec::new(
            Opts::new(
                "keygate_usage_requests_total",
                "Requests counted for the usage of keys: written to the database, counted without their keys because too many \
                 keys wait to be written, or lost at the stop of the process",
            ),
            &["outcome"],
        )?;
        let failures = IntCounter::new(
            "keygate_usage_write_failures_total",
            "Failed writes of the usage of keys; each is tried again",
        )?;
        let cells = IntGauge::new(
            "keygate_usage_pending_counters",
            "Counters of keys, hours and refusals in memory, at the end of the last write",
        )?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(failures.clone()))?;
        registry.register(Box::new(cells.clone()))?;
        let [written, without_key, lost] =
            ["written", "without_key", "lost"].map(|outcome| requests.with_label_values(&[outcome]));
        Ok(Self { written, without_key, lost, failures, cells })
    }

    /// Counts requests that were written.
    pub(super) fn written(&self, requests: u64) {
        self.written.inc_by(requests);
    }

    /// Counts a request that is counted without its key.
    pub(super) fn without_key(&self) {
        self.without_key.inc();
    }

    /// Counts requests that could not be written before the process stops.
    pub(super) fn lost(&self, requests: u64) {
        self.lost.inc_by(requests);
    }

    /// Counts a failed write.
    pub(super) fn failed(&self) {
        self.failures.inc();
    }

    /// Sets the number of counters in memory.
    pub(super) fn set_cells(&self, cells: usize) {
        self.cells.set(i64::try_from(cells).unwrap_or(i64::MAX));
    }
}
