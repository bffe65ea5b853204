//! Metrics of traces.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// The metrics of traces.
#[derive(Debug, Clone)]
pub struct Metrics {
    exported: IntCounter,
    dropped: IntCounterVec,
}

/// Why spans are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// The queue is full.
    QueueFull,
    /// The collector cannot be reached, or reports an error.
    ExportFailed,
    /// The collector took the request but not all of its spans.
    Rejected,
    /// The process stops.
    Stopped,
}

impl DropReason {
    const ALL: [Self; 4] = [Self::QueueFull, Self::ExportFailed, Self::Rejected, Self::Stopped];

    fn label(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::ExportFailed => "export_failed",
            Self::Rejected => "rejected",
            Self::Stopped => "stopped",
        }
    }
}

impl Metrics {
    /// Creates the metrics and registers them.
    ///
    /// # Errors
    /// When `registry` has metrics of these names already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            exported: IntCounter::new("keygate_trace_spans_exported_total", "Spans that the collector has taken")?,
            dropped: IntCounterVec::new(
                Opts::new("keygate_trace_spans_dropped_total", "Spans that were not delivered, by reason"),
                &["reason"],
            )?,
        };
        registry.register(Box::new(metrics.exported.clone()))?;
        registry.register(Box::new(metrics.dropped.clone()))?;
        for reason in DropReason::ALL {
            metrics.drop_spans(reason, 0);
        }
        Ok(metrics)
    }

    /// Counts spans that were dropped.
    pub fn drop_spans(&self, reason: DropReason, count: usize) {
        self.dropped.with_label_values(&[reason.label()]).inc_by(count as u64);
    }

    /// Counts spans that were delivered.
    #[cfg(feature = "otlp")]
    pub(super) fn export_spans(&self, count: usize) {
        self.exported.inc_by(count as u64);
    }
}
