//! Metrics of the process, by the names of the Prometheus client libraries: read from `/proc` when they are collected.

use std::fs;
use std::sync::{Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, IntGauge, IntGaugeVec, Opts, Registry};

use super::allocator_metrics::register_allocator_metrics;

/// The unit of times in `/proc/PID/stat`: the same on all architectures of Linux that Rust supports (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;
/// The places of the user and system time in `/proc/PID/stat`, counted from the state of the process.
const TIMES: [usize; 2] = [11, 12];

/// Kinds of memory, and their names in `/proc/PID/status`.
const MEMORY: [(&str, &str); 4] =
    [("anonymous", "RssAnon:"), ("file", "RssFile:"), ("shared", "RssShmem:"), ("swapped", "VmSwap:")];

/// The metrics of the process.
struct ProcessMetrics {
    open_files: IntGauge,
    threads: IntGauge,
    resident: IntGauge,
    virtual_size: IntGauge,
    memory: IntGaugeVec,
    peak: IntGauge,
    cpu: Counter,
    start_time: IntGauge,
    /// The CPU time at the last collection.
    counted: Mutex<f64>,
}

/// Registers the metrics of the process, which was started at `start_time`, a Unix time, and of its allocator, and `keygate_build_info`.
///
/// # Errors
/// When `registry` has metrics of these names already.
pub fn register_process_metrics(registry: &Registry, start_time: i64) -> Result<(), prometheus::Error> {
    let build = Opts::new("keygate_build_info", "The running version; the value is 1")
        .const_label("version", env!("CARGO_PKG_VERSION"))
        .const_label("os", std::env::consts::OS)
        .const_label("arch", std::env::consts::ARCH);
    let build = IntGauge::with_opts(build)?;
    build.set(1);
    registry.register(Box::new(build))?;
    register_allocator_metrics(registry)?;
    let metrics = ProcessMetrics {
        open_files: IntGauge::new("process_open_fds", "Number of open file descriptors")?,
        threads: IntGauge::new("process_threads", "Number of threads")?,
        resident: IntGauge::new("process_resident_memory_bytes", "Memory in use, in bytes")?,
        virtual_size: IntGauge::new("process_virtual_memory_bytes", "Size of the address space, in bytes")?,
        memory: IntGaugeVec::new(
            Opts::new(
                "keygate_process_memory_bytes",
                "Memory by kind: anonymous (the allocator and the stacks), file, shared, and swapped, which is not in use as memory",
            ),
            &["kind"],
        )?,
        peak: IntGauge::new(
            "keygate_process_resident_memory_peak_bytes",
            "Most memory that was ever in use, in bytes",
        )?,
        cpu: Counter::new("process_cpu_seconds_total", "User and system CPU time, in seconds")?,
        start_time: IntGauge::new("process_start_time_seconds", "When the process was started, as a Unix time")?,
        counted: Mutex::new(0.0),
    };
    metrics.start_time.set(start_time);
    registry.register(Box::new(metrics))
}

impl ProcessMetrics {
    /// Values that cannot be read stay as they are.
    fn read(&self) {
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            // One of them is the folder that is being read.
            self.open_files.set(i64::try_from(files.count()).unwrap_or(i64::MAX) - 1);
        }
        if let Ok(status) = fs::read_to_string("/proc/self/status") {
            let values = [
                ("Threads:", &self.threads, 1),
                ("VmRSS:", &self.resident, 1024),
                ("VmSize:", &self.virtual_size, 1024),
                ("VmHWM:", &self.peak, 1024),
            ];
            for (name, gauge, unit) in values {
                if let Some(value) = status_value(&status, name) {
                    gauge.set(value * unit);
                }
            }
            for (kind, name) in MEMORY {
                if let Some(value) = status_value(&status, name) {
                    self.memory.with_label_values(&[kind]).set(value * 1024);
                }
            }
        }
        if let Some(seconds) = fs::read_to_string("/proc/self/stat").ok().and_then(|stat| cpu_seconds(&stat)) {
            let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
            self.cpu.inc_by((seconds - *counted).max(0.0));
            *counted = counted.max(seconds);
        }
    }

    fn all(&self) -> [&dyn Collector; 8] {
        [
            &self.open_files,
            &self.threads,
            &self.resident,
            &self.virtual_size,
            &self.memory,
            &self.peak,
            &self.cpu,
            &self.start_time,
        ]
    }
}

/// A value of `/proc/PID/status`.
fn status_value(status: &str, name: &str) -> Option<i64> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// The user and system time in `/proc/PID/stat`. The name of the program, which may contain anything, ends at the last parenthesis.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<_> = fields.split_whitespace().collect();
    let ticks = TIMES.iter().map(|place| fields.get(*place)?.parse::<u32>().ok()).sum::<Option<u32>>()?;
    Some(f64::from(ticks) / TICKS_PER_SECOND)
}

impl Collector for ProcessMetrics {
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
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn values_are_those_of_this_process() {
        let registry = Registry::new();
        register_process_metrics(&registry, 1_700_000_000).unwrap();
        let families = registry.gather();
        let value = |name: &str| {
            let family = families.iter().find(|family| family.name() == name).unwrap();
            let metric = &family.get_metric()[0];
            metric.get_gauge().get_value() + metric.get_counter().get_value()
        };
        assert!(value("process_open_fds") >= 3.0 && value("process_threads") >= 2.0);
        let (resident, all) = (value("process_resident_memory_bytes"), value("process_virtual_memory_bytes"));
        assert!(1e6 < resident && resident < all, "{resident} {all}");
        assert!(value("keygate_process_resident_memory_peak_bytes") >= resident / 2.0);
        let memory = families.iter().find(|family| family.name() == "keygate_process_memory_bytes").unwrap();
        let of_kind = |metric: &prometheus::proto::Metric| {
            (metric.get_label()[0].value().to_owned(), metric.get_gauge().get_value())
        };
        let kinds: BTreeMap<_, _> = memory.get_metric().iter().map(of_kind).collect();
        assert_eq!(kinds.keys().collect::<Vec<_>>(), ["anonymous", "file", "shared", "swapped"]);
        // All values are of the same reading.
        assert!((kinds["anonymous"] + kinds["file"] + kinds["shared"] - resident).abs() < 1.0, "{kinds:?} {resident}");
        assert!((value("process_start_time_seconds") - 1_700_000_000.0).abs() < 1.0);
        assert!((value("keygate_build_info") - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn cpu_time_is_counted_whatever_the_name_of_the_program_is() {
        let stat = "42 (a) b (c) S 1 1 1 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 4 0 100 1000 10";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("42 (a) S 1"), None);
    }
}
