//! Metrics of the state of endpoints, read when metrics are collected.

use std::sync::Arc;

use arc_swap::ArcSwap;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts};

use super::endpoint::Endpoint;
use super::group::Upstream;

/// Reads the state of all endpoints. Clones read the same upstreams.
#[derive(Clone)]
pub(super) struct StateMetrics {
    upstreams: Arc<ArcSwap<Vec<Arc<Upstream>>>>,
    descriptions: Arc<[Desc]>,
}

/// The gauges of one collection.
struct Gauges {
    healthy: IntGaugeVec,
    in_flight: IntGaugeVec,
    connections: IntGaugeVec,
    waiting: IntGaugeVec,
}

impl StateMetrics {
    /// # Errors
    /// Never: the names and labels are valid.
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        let gauges = Gauges::new()?;
        let descriptions = gauges.all().iter().flat_map(|gauge| gauge.desc()).cloned().collect();
        Ok(Self { upstreams: Arc::default(), descriptions })
    }

    /// The upstreams whose endpoints are read.
    pub(super) fn upstreams(&self) -> Arc<Vec<Arc<Upstream>>> {
        self.upstreams.load_full()
    }

    /// The upstreams whose endpoints are read from now on.
    pub(super) fn set(&self, upstreams: Vec<Arc<Upstream>>) {
        self.upstreams.store(Arc::new(upstreams));
    }
}

impl Collector for StateMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Ok(gauges) = Gauges::new() else { return Vec::new() };
        for upstream in self.upstreams.load().iter() {
            let waiting = i64::try_from(upstream.waiting.count()).unwrap_or(i64::MAX);
            gauges.waiting.with_label_values(&[&*upstream.name]).set(waiting);
            for endpoint in &upstream.endpoints().endpoints {
                gauges.set(endpoint);
            }
        }
        gauges.all().iter().flat_map(|gauge| gauge.collect()).collect()
    }
}

impl Gauges {
    fn new() -> Result<Self, prometheus::Error> {
        let gauge = |name, help, labels: &[&str]| IntGaugeVec::new(Opts::new(name, help), labels);
        let labels = &["upstream", "endpoint"];
        Ok(Self {
            healthy: gauge(
                "keygate_upstream_healthy",
                "1 if the endpoint is neither ejected nor unhealthy by its health checks",
                labels,
            )?,
            in_flight: gauge("keygate_upstream_requests_in_flight", "Requests in flight at the endpoint", labels)?,
            connections: gauge(
                "keygate_upstream_connections",
                "Connections to the endpoint: open ones, and idle ones among them",
                &["upstream", "endpoint", "state"],
            )?,
            waiting: gauge(
                "keygate_upstream_waiting",
                "Requests that wait because all endpoints have max_requests in flight",
                &["upstream"],
            )?,
        })
    }

    fn all(&self) -> [&IntGaugeVec; 4] {
        [&self.healthy, &self.in_flight, &self.connections, &self.waiting]
    }

    fn set(&self, endpoint: &Endpoint) {
        let labels = [&*endpoint.upstream, &*endpoint.name];
        self.healthy.with_label_values(&labels).set(endpoint.is_available().into());
        self.in_flight.with_label_values(&labels).set(endpoint.in_flight().into());
        let connections = |state| self.connections.with_label_values(&[labels[0], labels[1], state]);
        connections("open").set(endpoint.connections.open());
        connections("idle").set(endpoint.connections.idle());
    }
}
