//! What the fronts ask, and what becomes of requests when Redis is away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use smallvec::SmallVec;

use super::{Backend, Charge, Decision, Local, Metrics, Nodes, Unavailable};
use crate::config::OnBackendDown;

/// Decides about requests under limits.
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

/// What is to become of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChargeResult {
    /// It was counted, and is admitted or refused.
    Counted(Decision),
    /// It could not be counted, and is let through.
    Open,
    /// It could not be counted, and is refused: not for what the caller did.
    Closed,
}

/// What is to become of a request for each owner whose limits hold. Mostly there is one.
pub type ChargeResults = SmallVec<[ChargeResult; 1]>;

impl ChargeResult {
    /// Whether the request may go on.
    pub fn admits(&self) -> bool {
        match self {
            Self::Counted(decision) => decision.admitted,
            Self::Open => true,
            Self::Closed => false,
        }
    }
}

impl Limiter {
    /// Counts in this process alone.
    pub fn local(local: Local, metrics: Metrics) -> Self {
        Self { local, shared: None, metrics }
    }

    /// Counts in a backend that `nodes` share; `local` takes over when it is down, if that is what `on_down` says.
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

    /// Charges a request to all its buckets, or to none.
    pub async fn charge(&self, request: &Charge<'_>) -> ChargeResult {
        let answer = match &self.shared {
            None => ChargeResult::Counted(self.local.charge(request)),
            Some(shared) => match shared.backend.charge(request).await {
                Ok(decision) => self.counted(shared, request, decision),
                Err(error) => self.uncounted(shared, request, &error),
            },
        };
        self.metrics.decided(&answer);
        answer
    }

    /// Charges a request to the buckets of several owners, to all or to none: what one owner's limits refuse is taken back from
    /// those before it, and the others are only looked at. Meanwhile a request of somebody else may find less than there is,
    /// never more.
    pub async fn charge_all(&self, requests: &[Charge<'_>]) -> ChargeResults {
        let mut answers = ChargeResults::with_capacity(requests.len());
        let mut refused = false;
        for request in requests {
            let cost = if refused { 0 } else { request.cost };
            let answer = self.charge(&Charge { cost, ..*request }).await;
            if !refused && !answer.admits() {
                refused = true;
                for (request, answer) in requests.iter().zip(&mut answers) {
                    self.refund(request, answer).await;
                }
            }
            answers.push(answer);
        }
        answers
    }

    async fn refund(&self, request: &Charge<'_>, answer: &mut ChargeResult) {
        let ChargeResult::Counted(decision) = answer else { return };
        if let Some(shared) = &self.shared
            && !shared.is_down.load(Ordering::Relaxed)
        {
            shared.backend.refund(request).await;
        }
        // It has counted the request too, or learned of it.
        self.local.refund(request);
        for (named, outcome) in request.limits.iter().zip(&mut decision.outcomes) {
            *outcome = outcome.refunded(&named.limit, request.cost);
        }
    }

    fn counted(&self, shared: &Shared, request: &Charge<'_>, decision: Decision) -> ChargeResult {
        if shared.is_down.load(Ordering::Relaxed) && shared.is_down.swap(false, Ordering::Relaxed) {
            tracing::info!("rate limits are counted in Redis again");
        }
        if shared.on_down == OnBackendDown::Local {
            self.local.learn(request, &decision);
        }
        ChargeResult::Counted(decision)
    }

    fn uncounted(&self, shared: &Shared, request: &Charge<'_>, error: &Unavailable) -> ChargeResult {
        self.metrics.failed();
        if !shared.is_down.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, on_backend_down = ?shared.on_down, "rate limits are not counted in Redis now");
        }
        match shared.on_down {
            OnBackendDown::Local => ChargeResult::Counted(self.local.charge_share(request, shared.nodes.count())),
            OnBackendDown::Open => ChargeResult::Open,
            OnBackendDown::Closed => ChargeResult::Closed,
        }
    }
}

#[cfg(test)]
mod tests;
