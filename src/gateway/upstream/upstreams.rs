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
use crate::config::GatewayConfig;
use crate::listener::tls::{self, TlsError};

/// All upstreams of a gateway, by name.
#[derive(Clone)]
pub struct Upstreams(Arc<BTreeMap<String, Arc<Upstream>>>);

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
        check_system_authorities(config)?;
        let metrics = Metrics::register(registry)?;
        let upstreams = config.upstreams.iter();
        let upstream = |(name, config): (&String, _)| {
            Upstream::new(name, config, &metrics, tls_metrics).map(|upstream| (name.clone(), upstream))
        };
        let upstreams = upstreams.map(upstream).collect::<Result<BTreeMap<_, _>, _>>()?;
        registry.register(Box::new(StateMetrics::new(upstreams.values().cloned().collect())?))?;
        Ok(Self(Arc::new(upstreams)))
    }

    /// The upstream of a name.
    pub(in crate::gateway) fn get(&self, name: &str) -> Option<Arc<Upstream>> {
        self.0.get(name).cloned()
    }

    /// Starts the background work on the current runtime; it ends when the result is dropped.
    pub(in crate::gateway) fn start(&self) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for upstream in self.0.values() {
            upstream.spawn(&mut tasks);
        }
        tasks
    }

    /// The state of all endpoints, for `/health/ready`: by upstream and endpoint, whether it is healthy and whether it is ejected. `None`
    /// until all names were resolved, successfully or not; a resolution has a time limit.
    pub fn report(&self) -> Option<Value> {
        if !self.0.values().all(|upstream| upstream.is_resolved()) {
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
        let upstreams = self.0.iter().map(|(name, upstream)| (name.clone(), endpoints(upstream)));
        Some(Value::Object(upstreams.collect()))
    }
}
