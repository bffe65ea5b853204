//! What the fronts ask, and what becomes of requests when Redis is away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Backend, Decision, Local, Metrics, Nodes, Request, Unavailable};
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
pub enum Answer {
    /// It was counted, and is admitted or refused.
    Counted(Decision),
    /// It could not be counted, and is let through.
    Open,
    /// It could not be counted, and is refused: not for what the caller did.
    Closed,
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
    pub async fn charge(&self, request: &Request<'_>) -> Answer {
        let answer = match &self.shared {
            None => Answer::Counted(self.local.charge(request)),
            Some(shared) => match shared.backend.charge(request).await {
                Ok(decision) => self.counted(shared, request, decision),
                Err(error) => self.uncounted(shared, request, &error),
            },
        };
        self.metrics.decided(&answer);
        answer
    }

    fn counted(&self, shared: &Shared, request: &Request<'_>, decision: Decision) -> Answer {
        if shared.is_down.load(Ordering::Relaxed) && shared.is_down.swap(false, Ordering::Relaxed) {
            tracing::info!("rate limits are counted in Redis again");
        }
        if shared.on_down == OnBackendDown::Local {
            self.local.learn(request, &decision);
        }
        Answer::Counted(decision)
    }

    fn uncounted(&self, shared: &Shared, request: &Request<'_>, error: &Unavailable) -> Answer {
        self.metrics.failed();
        if !shared.is_down.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, on_backend_down = ?shared.on_down, "rate limits are not counted in Redis now");
        }
        match shared.on_down {
            OnBackendDown::Local => Answer::Counted(self.local.charge_share(request, shared.nodes.count())),
            OnBackendDown::Open => Answer::Open,
            OnBackendDown::Closed => Answer::Closed,
        }
    }
}

#[cfg(test)]
mod tests;
