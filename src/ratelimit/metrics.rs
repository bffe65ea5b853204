//! What limiting counts.

use std::sync::Arc;

use prometheus::{IntCounter, IntCounterVec, Opts, PullingGauge, Registry};

use super::{ChargeResult, Nodes};

/// Counters of a limiter.
#[derive(Debug, Clone)]
pub struct Metrics {
    admitted: IntCounter,
    refused: IntCounter,
    open: IntCounter,
    closed: IntCounter,
    failures: IntCounter,
}

impl Metrics {
    /// Makes the counters known to `registry`, and the number of `nodes`.
    ///
    /// # Errors
    /// When counters of these names are there already.
    pub fn register(registry: &Registry, nodes: Arc<Nodes>) -> Result<Self, prometheus::Error> {
        let decisions = IntCounterVec::new(
            Opts::new("keygate_rate_limit_decisions_total", "Requests under a limit, by what became of them"),
            &["outcome"],
        )?;
        let failures =
            IntCounter::new("keygate_rate_limit_failures_total", "Requests that Redis could not be asked to count")?;
        let count = Box::new(move || f64::from(nodes.count()));
        let count = PullingGauge::new("keygate_rate_limit_nodes", "Nodes that share the limits, as last known", count)?;
        registry.register(Box::new(decisions.clone()))?;
        registry.register(Box::new(failures.clone()))?;
        registry.register(Box::new(count))?;
        let outcome = |name| decisions.with_label_values(&[name]);
        Ok(Self {
            admitted: outcome("admitted"),
            refused: outcome("refused"),
            open: outcome("admitted_uncounted"),
            closed: outcome("refused_uncounted"),
            failures,
        })
    }

    pub(super) fn decided(&self, answer: &ChargeResult) {
        match answer {
            ChargeResult::Counted(decision) if decision.admitted => self.admitted.inc(),
            ChargeResult::Counted(_) => self.refused.inc(),
            ChargeResult::Open => self.open.inc(),
            ChargeResult::Closed => self.closed.inc(),
        }
    }

    pub(super) fn failed(&self) {
        self.failures.inc();
    }
}
