//! Batches the throttled lookups.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};

use super::LookupThrottleMetrics;
use crate::cache::CacheKey;
use crate::key::ApiKey;
use crate::store::{KeySource, StoreError};

/// The minimum time from the start of one batch to the start of the next.
const BATCH_INTERVAL: Duration = Duration::from_millis(50);
/// The maximum number of lookups in a batch.
const BATCH_MAX: usize = 500;

/// A lookup that waits for the next batch.
pub(super) struct PendingLookup {
    pub(super) key: CacheKey,
    pub(super) reply: oneshot::Sender<Result<Option<ApiKey>, StoreError>>,
}

/// Looks up the pending lookups of a throttle, up to 500 in one statement, with at most one statement every 50 ms.
pub struct Batcher {
    pending: mpsc::Receiver<PendingLookup>,
    store: Arc<dyn KeySource>,
    metrics: LookupThrottleMetrics,
}

impl Batcher {
    pub(super) fn new(
        pending: mpsc::Receiver<PendingLookup>,
        store: Arc<dyn KeySource>,
        metrics: LookupThrottleMetrics,
    ) -> Self {
        Self { pending, store, metrics }
    }

    /// Runs until the throttle is dropped.
    pub async fn run(mut self) {
        let mut interval = interval(BATCH_INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while let Some(first) = self.pending.recv().await {
            interval.tick().await;
            let mut batch = vec![first];
            while batch.len() < BATCH_MAX
                && let Ok(next) = self.pending.try_recv()
            {
                batch.push(next);
            }
            self.look_up(batch).await;
        }
    }

    async fn look_up(&self, mut batch: Vec<PendingLookup>) {
        // Lookups of cancelled requests are dropped.
        batch.retain(|pending| !pending.reply.is_closed());
        let keys: Vec<_> = batch.iter().map(|pending| pending.key).collect();
        if keys.is_empty() {
            return;
        }
        self.metrics.count_batch();
        let found = self.store.find_many(&keys).await;
        let found: Result<HashMap<_, _>, _> =
            found.map(|keys| keys.into_iter().map(|key| ((key.tenant, key.id), key)).collect());
        for pending in batch {
            let result = found.as_ref().map(|found| found.get(&pending.key).cloned()).map_err(Clone::clone);
            // The request may be cancelled by now.
            let _ = pending.reply.send(result);
        }
    }
}
