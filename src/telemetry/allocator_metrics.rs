//! Metrics of the allocator of the binary, read from its own statistics when they are collected.

use std::sync::{Mutex, PoisonError};

use mimalloc::MiMalloc;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, IntGauge, Registry};
use serde::Deserialize;

/// The metrics of the allocator.
struct AllocatorMetrics {
    committed: IntGauge,
    reserved: IntGauge,
    purged: Counter,
    /// The number of purged bytes at the last collection.
    counted: Mutex<i64>,
}

/// The statistics that the allocator keeps in every build. Those of single allocations cost time and are not compiled in.
#[derive(Debug, Deserialize)]
struct Statistics {
    committed: Amount,
    reserved: Amount,
    purged: i64,
}

#[derive(Debug, Deserialize)]
struct Amount {
    current: i64,
}

/// Registers the metrics of mimalloc. They are those of the process if mimalloc is its global allocator, as in the binary.
///
/// # Errors
/// When `registry` has metrics of these names already.
pub(super) fn register_allocator_metrics(registry: &Registry) -> Result<(), prometheus::Error> {
    registry.register(Box::new(AllocatorMetrics {
        committed: IntGauge::new(
            "keygate_allocator_committed_bytes",
            "Memory that the allocator holds, in use or for later use, in bytes",
        )?,
        reserved: IntGauge::new(
            "keygate_allocator_reserved_bytes",
            "Address space that the allocator has reserved, in bytes",
        )?,
        purged: Counter::new(
            "keygate_allocator_purged_bytes_total",
            "Unused memory that the allocator has returned to the kernel, in bytes",
        )?,
        counted: Mutex::new(0),
    }))
}

impl Statistics {
    fn read() -> Option<Self> {
        let text = MiMalloc::stats_json().ok()?;
        serde_json::from_slice(text.to_bytes()).ok()
    }
}

impl AllocatorMetrics {
    /// Values that cannot be read stay as they are.
    fn read(&self) {
        let Some(Statistics { committed, reserved, purged }) = Statistics::read() else { return };
        // Threads update the sums one after the other, so that a sum may be negative for a moment.
        self.committed.set(committed.current.max(0));
        self.reserved.set(reserved.current.max(0));
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(added) = purged.checked_sub(*counted).filter(|added| *added > 0) {
            #[expect(clippy::cast_precision_loss, reason = "a counter is a floating-point number")]
            self.purged.inc_by(added as f64);
            *counted = purged;
        }
    }

    fn all(&self) -> [&dyn Collector; 3] {
        [&self.committed, &self.reserved, &self.purged]
    }
}

impl Collector for AllocatorMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.all().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.read();
        self.all().into_iter().flat_map(Collector::collect).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_of_the_allocator_are_read() {
        let registry = Registry::new();
        register_allocator_metrics(&registry).unwrap();
        let names: Vec<_> = registry.gather().iter().map(|family| family.name().to_owned()).collect();
        let expected = [
            "keygate_allocator_committed_bytes",
            "keygate_allocator_purged_bytes_total",
            "keygate_allocator_reserved_bytes",
        ];
        assert_eq!(names, expected);
        // The allocator of this test is another one; mimalloc has only what it needs to write its statistics.
        let statistics = Statistics::read().unwrap();
        assert!(
            0 < statistics.committed.current && statistics.committed.current <= statistics.reserved.current,
            "{statistics:?}"
        );
    }
}
