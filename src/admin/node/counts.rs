//! The counters of the metrics registry that the overview shows.

use std::collections::BTreeMap;

use prometheus::{Registry, proto};

use super::histogram::Buckets;

/// The state of the counters at a time. All labels are from closed lists, so it is small.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    pub(super) requests: f64,
    /// By rejection code.
    pub(super) refusals: BTreeMap<String, f64>,
    /// Verifications by the level where the key was found.
    pub(super) lookups: BTreeMap<String, f64>,
    pub(super) decisions: Buckets,
    pub(super) propagation: Buckets,
    pub(super) in_flight: f64,
    /// `None` if this is the only node.
    pub(super) feed_age: Option<f64>,
    /// `None` if Redis is not configured.
    pub(super) is_redis_connected: Option<bool>,
    /// Whether the last reload of the configuration succeeded; `None` if it is not reloaded.
    pub(super) is_config_loaded: Option<bool>,
    /// When the configuration in effect was loaded, as a Unix time.
    pub(super) config_load_time: Option<f64>,
    /// The number of changed settings that wait for a restart.
    pub(super) restart_settings: Option<f64>,
}

impl Counts {
    /// Reads the counters of a registry.
    pub(super) fn read(registry: &Registry) -> Self {
        let mut counts = Self::default();
        for family in registry.gather() {
            let metrics = family.get_metric();
            let gauge = || metrics.first().map(|metric| metric.get_gauge().get_value());
            match family.name() {
                "keygate_gateway_requests_total" => {
                    counts.requests = metrics.iter().map(|metric| metric.get_counter().get_value()).sum();
                    counts.refusals = by_label(metrics, "denial");
                }
                "keygate_lookups_total" => counts.lookups = by_label(metrics, "level"),
                "talos_verification_duration_seconds" => {
                    counts.decisions = buckets(metrics);
                }
                "keygate_feed_propagation_seconds" => {
                    counts.propagation = buckets(metrics);
                }
                "keygate_gateway_requests_in_flight" => counts.in_flight = gauge().unwrap_or_default(),
                "keygate_feed_age_seconds" => counts.feed_age = gauge(),
                "keygate_config_reload_success" => counts.is_config_loaded = gauge().map(|value| value > 0.0),
                "keygate_config_reload_timestamp_seconds" => counts.config_load_time = gauge(),
                "keygate_config_restart_settings" => counts.restart_settings = gauge(),
                "keygate_redis_connected" => counts.is_redis_connected = gauge().map(|value| value > 0.0),
                _ => {}
            }
        }
        counts
    }
}

/// The sum of the histograms of a family.
fn buckets(metrics: &[proto::Metric]) -> Buckets {
    let mut buckets = Buckets::default();
    for metric in metrics {
        buckets.add(metric.get_histogram());
    }
    buckets
}

/// The counters of a family by the value of one label; those with an empty value are left out.
fn by_label(metrics: &[proto::Metric], label: &str) -> BTreeMap<String, f64> {
    let mut counts = BTreeMap::new();
    for metric in metrics {
        let value = metric.get_label().iter().find(|pair| pair.name() == label).map_or("", |pair| pair.value());
        if !value.is_empty() {
            *counts.entry(value.to_owned()).or_default() += metric.get_counter().get_value();
        }
    }
    counts
}
