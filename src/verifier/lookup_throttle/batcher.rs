//! Lookups that wait, made together.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};

use super::LookupThrottleMetrics;
use crate::cache::CacheKey;
use crate::key::ApiKey;
use crate::store::{KeySource, StoreError};

/// From the beginning of one statement to the next one: a lookup waits that long at the least that another one be made with it.
const PACE: Duration = Duration::from_millis(50);
/// Lookups in one statement.
const TOGETHER: usize = 500;

/// A lookup that waits.
pub(super) struct PendingLookup {
    pub(super) key: CacheKey,
    pub(super) answer: oneshot::Sender<Result<Option<ApiKey>, StoreError>>,
}

/// Makes the lookups that wait at a throttle: one statement at a time, and not more often than its pace.
pub struct Batcher {
    asked: mpsc::Receiver<PendingLookup>,
    store: Arc<dyn KeySource>,
    metrics: LookupThrottleMetrics,
}

impl Batcher {
    pub(super) fn new(
        asked: mpsc::Receiver<PendingLookup>,
        store: Arc<dyn KeySource>,
        metrics: LookupThrottleMetrics,
    ) -> Self {
        Self { asked, store, metrics }
    }

    /// Works until the throttle is gone.
    pub async fn run(mut self) {
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while let Some(first) = self.asked.recv().await {
            pace.tick().await;
            let mut together = vec![first];
            while together.len() < TOGETHER
                && let Ok(next) = self.asked.try_recv()
            {
                together.push(next);
            }
            self.answer(together).await;
        }
    }

    async fn answer(&self, mut together: Vec<PendingLookup>) {
        // Whoever went away meanwhile needs no answer.
        together.retain(|asked| !asked.answer.is_closed());
        let keys: Vec<_> = together.iter().map(|asked| asked.key).collect();
        if keys.is_empty() {
            return;
        }
        self.metrics.statement();
        let found = self.store.find_many(&keys).await;
        let found: Result<HashMap<_, _>, _> =
            found.map(|records| records.into_iter().map(|record| ((record.tenant, record.id), record)).collect());
        for asked in together {
            let answer = found.as_ref().map(|found| found.get(&asked.key).cloned()).map_err(Clone::clone);
            // As above.
            let _ = asked.answer.send(answer);
        }
    }
}
