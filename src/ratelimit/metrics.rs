//! Metrics of the limiter.

use std::sync::Arc;

use prometheus::{IntCounter, IntCounterVec, Opts, PullingGauge, Registry};

use super::{ChargeResult, Nodes};

/// Counters of a limiter.
#[derive(Debug, Clone)]
pub struct Metrics {
    admitted: IntCounter,
    rejected: IntCounter,
    open: IntCounter,
    closed: IntCounter,
    failures: IntCounter,
}

impl Metrics {
    /// Registers the counters, and a gauge of `nodes`.
    ///
    /// # Errors
    /// If metrics of these names are registered already.
    pub fn register(registry: &Registry, nodes: Arc<Nodes>) -> Result<Self, prometheus::Error> {
        let decisions = IntCounterVec::new(
            Opts::new("keygate_rate_limit_decisions_total", "Requests under a limit by outcome"),
            &["outcome"],
        )?;
        let failures =
            IntCounter::new("keygate_rate_limit_failures_total", "Requests under a limit that Redis could not count")?;
        let count = Box::new(move || f64::from(nodes.count()));
        let nodes = PullingGauge::new(
            "keygate_rate_limit_nodes",
            "Nodes that share the limits, as of the last heartbeat",
            count,
        )?;
        registry.register(Box::new(decisions.clone()))?;
        registry.register(Box::new(failures.clone()))?;
        registry.register(Box::new(nodes))?;
        let outcome = |name| decisions.with_label_values(&[name]);
        Ok(Self {
            admitted: outcome("admitted"),
            rejected: outcome("refused"),
            open: outcome("admitted_uncounted"),
            closed: outcome("refused_uncounted"),
            failures,
        })
    }

    pub(super) fn decided(&self, result: &ChargeResult) {
        match result {
            ChargeResult::Counted(decision) if decision.admitted => self.admitted.inc(),
            ChargeResult::Counted(_) => self.rejected.inc(),
            ChargeResult::Open => self.open.inc(),
            ChargeResult::Closed => self.closed.inc(),
        }
    }

    pub(super) fn failed(&self) {
        self.failures.inc();
    }
}
