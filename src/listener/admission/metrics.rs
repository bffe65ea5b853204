//! Metrics of connections. Open connections are counted when the metrics are read, so that no request changes a shared counter.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};

use super::refused::Refused;

/// The metrics of the connections of all listeners of a process.
#[derive(Clone)]
pub struct ConnectionMetrics {
    refused: IntCounterVec,
    evicted: IntCounterVec,
    open: OpenConnections,
}

/// The number of connections by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) pending: i64,
    pub(super) active: i64,
    pub(super) idle: i64,
    /// Evicted and not closed yet.
    pub(super) closing: i64,
}

/// Something that counts its connections.
pub(super) trait Count: Send + Sync {
    fn counts(&self) -> Counts;
}

/// The counters of one listener.
pub(super) struct Counters {
    /// In the order of [`Refused::ALL`].
    refused: [IntCounter; Refused::ALL.len()],
    evicted: IntCounter,
}

/// The admissions of the listeners, by their labels.
type Sources = Arc<Mutex<Vec<(&'static str, Weak<dyn Count>)>>>;

#[derive(Clone)]
struct OpenConnections {
    gauge: IntGaugeVec,
    sources: Sources,
}

impl ConnectionMetrics {
    /// Creates the metrics and registers them.
    ///
    /// # Errors
    /// When `registry` has metrics of these names already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let open = Opts::new("keygate_connections", "Open connections by listener and state");
        let refused =
            Opts::new("keygate_connections_refused_total", "Refused connections by listener and the cap reached");
        let evicted = Opts::new(
            "keygate_connections_evicted_total",
            "Idle connections that were closed to make room for a new one, by listener",
        );
        let metrics = Self {
            refused: IntCounterVec::new(refused, &["listener", "reason"])?,
            evicted: IntCounterVec::new(evicted, &["listener"])?,
            open: OpenConnections { gauge: IntGaugeVec::new(open, &["listener", "state"])?, sources: Arc::default() },
        };
        registry.register(Box::new(metrics.refused.clone()))?;
        registry.register(Box::new(metrics.evicted.clone()))?;
        registry.register(Box::new(metrics.open.clone()))?;
        Ok(metrics)
    }

    pub(super) fn counters(&self, listener: &str) -> Counters {
        Counters {
            refused: Refused::ALL.map(|refused| self.refused.with_label_values(&[listener, refused.reason()])),
            evicted: self.evicted.with_label_values(&[listener]),
        }
    }

    pub(super) fn observe(&self, listener: &'static str, source: &Arc<dyn Count>) {
        self.open.lock_sources(|sources| sources.push((listener, Arc::downgrade(source))));
    }
}

impl Counters {
    pub(super) fn refused(&self, refused: Refused) -> &IntCounter {
        &self.refused[refused as usize]
    }

    pub(super) fn evicted(&self) -> &IntCounter {
        &self.evicted
    }
}

impl OpenConnections {
    fn lock_sources<T>(&self, with: impl FnOnce(&mut Vec<(&'static str, Weak<dyn Count>)>) -> T) -> T {
        with(&mut self.sources.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Collector for OpenConnections {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.lock_sources(|sources| {
            for (listener, source) in sources.iter() {
                let counts = source.upgrade().map_or_else(Counts::default, |source| source.counts());
                for (state, count) in [
                    ("pending", counts.pending),
                    ("active", counts.active),
                    ("idle", counts.idle),
                    ("closing", counts.closing),
                ] {
                    self.gauge.with_label_values(&[*listener, state]).set(count);
                }
            }
        });
        self.gauge.collect()
    }
}
