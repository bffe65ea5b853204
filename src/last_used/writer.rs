//! Writes queued uses to the store, in batches.

use std::sync::Arc;
use std::time::Duration;

use chrono::SubsecRound;
use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout;

use super::daily_set::{DailySet, Mark};
use super::metrics::Metrics;
use crate::clock::Clock;
use crate::id::{KeyId, TenantId};
use crate::request_context::RequestContext;
use crate::store::KeyStore;

/// Sizes and times of the queue and its batches.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Maximum number of queued uses; further ones are dropped.
    pub queue_size: usize,
    /// Maximum number of uses per batch.
    pub flush_size: usize,
    /// How long a batch waits for further uses.
    pub flush_interval: Duration,
}

/// A queued use.
pub(super) struct Use {
    pub(super) key: (TenantId, KeyId),
    pub(super) mark: Mark,
}

/// Writes the uses that a tracker queues.
pub struct Writer {
    context: RequestContext,
    queue: Mutex<mpsc::Receiver<Use>>,
    flush_size: usize,
    flush_interval: Duration,
    queued_today: Arc<DailySet>,
    store: Arc<dyn KeyStore>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

impl Writer {
    pub(super) fn new(
        context: RequestContext,
        settings: Settings,
        queue: mpsc::Receiver<Use>,
        queued_today: Arc<DailySet>,
        store: Arc<dyn KeyStore>,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Self {
        let Settings { flush_size, flush_interval, .. } = settings;
        let (queue, flush_size) = (Mutex::new(queue), flush_size.max(1));
        Self { context, queue, flush_size, flush_interval, queued_today, store, clock, metrics }
    }

    /// Writes until the tracker is closed and the queue is empty. Several tasks may run it at once: one collects a batch while
    /// the others write theirs.
    pub async fn run(&self) {
        while let Some(batch) = self.collect().await {
            self.flush(batch).await;
        }
    }

    /// Collects a batch: up to `flush_size` uses, or those that arrive within `flush_interval` of the first. `None` if the queue
    /// is closed and empty.
    async fn collect(&self) -> Option<Vec<Use>> {
        let mut queue = self.queue.lock().await;
        let mut batch = vec![queue.recv().await?];
        let fill = async {
            loop {
                let room = self.flush_size - batch.len();
                if room == 0 || queue.recv_many(&mut batch, room).await == 0 {
                    break;
                }
            }
        };
        // The batch is written as it is when the interval has passed.
        let _ = timeout(self.flush_interval, fill).await;
        Some(batch)
    }

    async fn flush(&self, batch: Vec<Use>) {
        let mut keys: Vec<_> = batch.iter().map(|queued| queued.key).collect();
        keys.sort_unstable();
        keys.dedup();
        // Stores keep microseconds.
        match self.store.record_last_used(&self.context, &keys, self.clock.now().trunc_subsecs(6)).await {
            Ok(()) => self.metrics.written(batch.len()),
            Err(error) => {
                // The next use of each key is queued again.
                for queued in &batch {
                    self.queued_today.remove(queued.mark);
                }
                self.metrics.failed(batch.len());
                tracing::warn!(%error, keys = batch.len(), "the last use of keys could not be written");
            }
        }
    }
}
