//! Metrics of the tokio runtimes of the process, read when they are collected.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{CounterVec, IntCounterVec, IntGaugeVec, Opts, Registry};
use tokio::runtime::RuntimeMetrics;

/// A runtime, and what was counted of it at the last collection.
struct Counted {
    /// Several runtimes may share a name.
    name: &'static str,
    metrics: RuntimeMetrics,
    busy_seconds: f64,
    parks: u64,
}

/// The metrics of all runtimes.
struct Runtimes {
    all: Mutex<Vec<Counted>>,
    workers: IntGaugeVec,
    tasks: IntGaugeVec,
    queued: IntGaugeVec,
    busy: CounterVec,
    parks: IntCounterVec,
}

/// Registers the metrics of runtimes with their names.
///
/// # Errors
/// When `registry` has metrics of these names already.
pub fn register_runtime_metrics(
    registry: &Registry,
    runtimes: impl IntoIterator<Item = (&'static str, RuntimeMetrics)>,
) -> Result<(), prometheus::Error> {
    let gauge = |name: &str, help: &str| IntGaugeVec::new(Opts::new(name, help), &["runtime"]);
    let runtimes = runtimes.into_iter().map(|(name, metrics)| Counted { name, metrics, busy_seconds: 0.0, parks: 0 });
    registry.register(Box::new(Runtimes {
        all: Mutex::new(runtimes.collect()),
        workers: gauge("keygate_runtime_workers", "Threads that run the tasks of a runtime")?,
        tasks: gauge("keygate_runtime_tasks", "Tasks of a runtime that have not ended")?,
        queued: gauge("keygate_runtime_queued_tasks", "Tasks that wait in the common queue of a runtime")?,
        busy: CounterVec::new(
            Opts::new("keygate_runtime_busy_seconds_total", "Time that the threads of a runtime were busy, in seconds"),
            &["runtime"],
        )?,
        parks: IntCounterVec::new(
            Opts::new("keygate_runtime_parks_total", "Times that a thread of a runtime had nothing to do and slept"),
            &["runtime"],
        )?,
    }))
}

impl Runtimes {
    fn read(&self) {
        let mut runtimes = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sums: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
        for Counted { name, metrics, busy_seconds, parks } in &mut *runtimes {
            let counts = [metrics.num_workers(), metrics.num_alive_tasks(), metrics.global_queue_depth()];
            for (sum, count) in sums.entry(name).or_default().iter_mut().zip(counts) {
                *sum += count;
            }
            let workers = 0..metrics.num_workers();
            let busy: f64 =
                workers.clone().map(|worker| metrics.worker_total_busy_duration(worker).as_secs_f64()).sum();
            self.busy.with_label_values(&[*name]).inc_by((busy - *busy_seconds).max(0.0));
            *busy_seconds = busy.max(*busy_seconds);
            let parked: u64 = workers.map(|worker| metrics.worker_park_count(worker)).sum();
            self.parks.with_label_values(&[*name]).inc_by(parked.saturating_sub(*parks));
            *parks = parked.max(*parks);
        }
        for (name, counts) in sums {
            for (gauge, count) in [&self.workers, &self.tasks, &self.queued].into_iter().zip(counts) {
                gauge.with_label_values(&[name]).set(i64::try_from(count).unwrap_or(i64::MAX));
            }
        }
    }

    fn families(&self) -> [&dyn Collector; 5] {
        [&self.workers, &self.tasks, &self.queued, &self.busy, &self.parks]
    }
}

impl Collector for Runtimes {
    fn desc(&self) -> Vec<&Desc> {
        self.families().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.read();
        self.families().into_iter().flat_map(Collector::collect).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_runtime_has_its_values() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let task = runtime.spawn(std::future::pending::<()>());
        let registry = Registry::new();
        register_runtime_metrics(&registry, [("one", runtime.metrics())]).unwrap();
        let families = registry.gather();
        let value = |name: &str| {
            let family = families.iter().find(|family| family.name() == name).unwrap();
            assert_eq!(family.get_metric()[0].get_label()[0].value(), "one");
            family.get_metric()[0].get_gauge().get_value()
        };
        let values = [value("keygate_runtime_workers"), value("keygate_runtime_tasks")];
        assert_eq!(format!("{values:?}"), "[2.0, 1.0]");
        task.abort();
    }
}
