//! All upstreams of a gateway.

use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus::Registry;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::group::Upstream;
use super::metrics::Metrics;
use super::state_metrics::StateMetrics;
use super::tls::check_system_authorities;
use crate::config::{GatewayConfig, UpstreamConfig};
use crate::gateway::deadline::Clock;
use crate::listener::tls::{self, TlsError};

/// All upstreams of a configuration, by name.
#[derive(Clone)]
pub struct Upstreams {
    by_name: Arc<BTreeMap<String, (UpstreamConfig, Arc<Upstream>)>>,
    metrics: Arc<UpstreamMetrics>,
}

/// The metrics of the upstreams of all configurations.
struct UpstreamMetrics {
    requests: Metrics,
    tls: tls::Metrics,
    state: StateMetrics,
}

/// The upstreams that have background work: name resolution, health checks and the watch of TLS files.
#[derive(Default)]
pub(in crate::gateway) struct RunningUpstreams(BTreeMap<String, (Arc<Upstream>, JoinSet<()>)>);

/// Why upstreams cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamsError {
    /// Metrics are registered already.
    #[error("the metrics of upstreams cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The TLS files of an upstream cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Upstreams {
    /// The upstreams of a validated configuration, and their metrics. `tls_metrics` counts reloads of their TLS files.
    ///
    /// # Errors
    /// When `registry` has their metrics already, or a TLS file cannot be used.
    pub fn new(
        config: &GatewayConfig,
        registry: &Registry,
        tls_metrics: &tls::Metrics,
    ) -> Result<Self, UpstreamsError> {
        crate::tls::install_crypto_provider();
        let state = StateMetrics::new()?;
        let metrics = UpstreamMetrics { requests: Metrics::register(registry)?, tls: tls_metrics.clone(), state };
        registry.register(Box::new(metrics.state.clone()))?;
        let upstreams = Self::build(config, Arc::new(metrics), &BTreeMap::new())?;
        upstreams.show();
        Ok(upstreams)
    }

    /// The upstreams of another validated configuration. Those whose settings are the same are kept, with their connections and their health.
    ///
    /// # Errors
    /// When a TLS file cannot be used.
    pub fn reconfigured(&self, config: &GatewayConfig) -> Result<Self, UpstreamsError> {
        Self::build(config, Arc::clone(&self.metrics), &self.by_name)
    }

    fn build(
        config: &GatewayConfig,
        metrics: Arc<UpstreamMetrics>,
        before: &BTreeMap<String, (UpstreamConfig, Arc<Upstream>)>,
    ) -> Result<Self, UpstreamsError> {
        check_system_authorities(config)?;
        let upstream = |(name, config): (&String, &UpstreamConfig)| {
            let upstream = match before.get(name) {
                Some((before, upstream)) if before == config => Arc::clone(upstream),
                _ => Upstream::new(name, config, &metrics.requests, &metrics.tls)?,
            };
            Ok((name.clone(), (config.clone(), upstream)))
        };
        let by_name = config.upstreams.iter().map(upstream).collect::<Result<_, UpstreamsError>>()?;
        Ok(Self { by_name: Arc::new(by_name), metrics })
    }

    /// The metrics and the report of endpoints are about these upstreams from now on.
    pub fn show(&self) {
        self.metrics.state.set(self.each().cloned().collect());
    }

    fn each(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.by_name.values().map(|(_, upstream)| upstream)
    }

    /// The upstream of a name.
    pub(in crate::gateway) fn get(&self, name: &str) -> Option<Arc<Upstream>> {
        self.by_name.get(name).map(|(_, upstream)| Arc::clone(upstream))
    }

    /// The state of all endpoints of the upstreams that are shown, for `/health/ready`: by upstream and endpoint, whether it is healthy and
    /// whether it is ejected. `None` until all names were resolved, successfully or not; a resolution has a time limit.
    pub fn report(&self) -> Option<Value> {
        let shown = self.metrics.state.upstreams();
        if !shown.iter().all(|upstream| upstream.is_resolved()) {
            return None;
        }
        let endpoints = |upstream: &Upstream| -> Value {
            let set = upstream.endpoints();
            let state = set.endpoints.iter().map(|endpoint| {
                let state = json!({ "healthy": endpoint.is_healthy(), "ejected": endpoint.is_ejected() });
                (endpoint.name.to_string(), state)
            });
            Value::Object(state.collect())
        };
        let upstreams = shown.iter().map(|upstream| (upstream.name.to_string(), endpoints(upstream)));
        Some(Value::Object(upstreams.collect()))
    }
}

impl RunningUpstreams {
    /// Starts the background work of new upstreams on the current runtime, and ends that of upstreams that are not among `upstreams`. All of
    /// it ends when this is dropped.
    pub(in crate::gateway) fn follow(&mut self, upstreams: &Upstreams, clock: &Arc<Clock>) {
        self.0.retain(|name, (running, _)| {
            let current = upstreams.by_name.get(name);
            current.is_some_and(|(_, upstream)| Arc::ptr_eq(running, upstream))
        });
        for (name, (_, upstream)) in upstreams.by_name.iter() {
            self.0.entry(name.clone()).or_insert_with(|| {
                let mut tasks = JoinSet::new();
                upstream.spawn(clock, &mut tasks);
                (Arc::clone(upstream), tasks)
            });
        }
    }
}
