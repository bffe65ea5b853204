//! The limiter that the fronts call, and the fallback while Redis is unavailable.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use smallvec::SmallVec;

use super::{Backend, Charge, Decision, Local, Metrics, Nodes, Unavailable};
use crate::config::OnBackendDown;

/// Charges requests and decides whether they are admitted.
pub struct Limiter {
    local: Local,
    shared: Option<Shared>,
    metrics: Metrics,
}

struct Shared {
    backend: Arc<dyn Backend>,
    on_down: OnBackendDown,
    nodes: Arc<Nodes>,
    is_down: AtomicBool,
}

/// The limiter's result for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChargeResult {
    /// Counted; admitted or rejected by its limits.
    Counted(Decision),
    /// Not counted, admitted (fail open).
    Open,
    /// Not counted, rejected (fail closed). Not the caller's fault.
    Closed,
}

/// One result for each owner whose limits apply to the request. Most requests have one.
pub type ChargeResults = SmallVec<[ChargeResult; 1]>;

impl ChargeResult {
    /// Whether the request is admitted.
    pub fn admits(&self) -> bool {
        match self {
            Self::Counted(decision) => decision.admitted,
            Self::Open => true,
            Self::Closed => false,
        }
    }
}

impl Limiter {
    /// Counts in this process only.
    pub fn local(local: Local, metrics: Metrics) -> Self {
        Self { local, shared: None, metrics }
    }

    /// Counts in a backend that `nodes` share. With [`OnBackendDown::Local`], `local` counts while the backend is down.
    pub fn shared(
        backend: Arc<dyn Backend>,
        on_down: OnBackendDown,
        local: Local,
        nodes: Arc<Nodes>,
        metrics: Metrics,
    ) -> Self {
        let shared = Shared { backend, on_down, nodes, is_down: AtomicBool::new(false) };
        Self { local, shared: Some(shared), metrics }
    }

    /// Whether requests are counted in this process only, so that charging never suspends.
    pub fn is_local(&self) -> bool {
        self.shared.is_none()
    }

    /// Charges a request to all its buckets, or to none.
    pub async fn charge(&self, charge: &Charge<'_>) -> ChargeResult {
        let result = match &self.shared {
            None => ChargeResult::Counted(self.local.charge(charge)),
            Some(shared) => match shared.backend.charge(charge).await {
                Ok(decision) => self.counted(shared, charge, decision),
                Err(error) => self.uncounted(shared, charge, &error),
            },
        };
        self.metrics.decided(&result);
        result
    }

    /// Charges a request to the buckets of several owners, to all or to none. If the limits of one owner reject it, the owners
    /// before are refunded and the buckets of the others are only read. Until the refund, concurrent requests may see fewer
    /// remaining requests than there are, never more.
    pub async fn charge_all(&self, charges: &[Charge<'_>]) -> ChargeResults {
        let mut results = ChargeResults::with_capacity(charges.len());
        let mut rejected = false;
        for charge in charges {
            let cost = if rejected { 0 } else { charge.cost };
            let result = self.charge(&Charge { cost, ..*charge }).await;
            if !rejected && !result.admits() {
                rejected = true;
                for (charge, result) in charges.iter().zip(&mut results) {
                    self.refund(charge, result).await;
                }
            }
            results.push(result);
        }
        results
    }

    async fn refund(&self, charge: &Charge<'_>, result: &mut ChargeResult) {
        let ChargeResult::Counted(decision) = result else { return };
        if let Some(shared) = &self.shared
            && !shared.is_down.load(Ordering::Relaxed)
        {
            shared.backend.refund(charge).await;
        }
        // The local buckets have counted the request too, or were updated from the shared ones.
        self.local.refund(charge);
        for (named, outcome) in charge.limits.iter().zip(&mut decision.outcomes) {
            *outcome = outcome.refunded(&named.limit, charge.cost);
        }
    }

    fn counted(&self, shared: &Shared, charge: &Charge<'_>, decision: Decision) -> ChargeResult {
        if shared.is_down.load(Ordering::Relaxed) && shared.is_down.swap(false, Ordering::Relaxed) {
            tracing::info!("rate limits are counted in Redis again");
        }
        if shared.on_down == OnBackendDown::Local {
            self.local.update(charge, &decision);
        }
        ChargeResult::Counted(decision)
    }

    fn uncounted(&self, shared: &Shared, charge: &Charge<'_>, error: &Unavailable) -> ChargeResult {
        self.metrics.failed();
        if !shared.is_down.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, on_backend_down = ?shared.on_down, "rate limits cannot be counted in Redis");
        }
        match shared.on_down {
            OnBackendDown::Local => ChargeResult::Counted(self.local.charge_share(charge, shared.nodes.count())),
            OnBackendDown::Open => ChargeResult::Open,
            OnBackendDown::Closed => ChargeResult::Closed,
        }
    }
}

#[cfg(test)]
mod tests;
