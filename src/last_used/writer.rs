//! Writes uses to the store, many at once.

use std::sync::Arc;
use std::time::Duration;

use chrono::SubsecRound;
use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout;

use super::today::Today;
use super::{Metrics, Settings, Use};
use crate::clock::Clock;
use crate::request_context::RequestContext;
use crate::store::KeyStore;

/// Writes what a tracker notes.
pub struct Writer {
    context: RequestContext,
    uses: Mutex<mpsc::Receiver<Use>>,
    flush_size: usize,
    flush_interval: Duration,
    today: Arc<Today>,
    store: Arc<dyn KeyStore>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

impl Writer {
    pub(super) fn new(
        context: RequestContext,
        settings: Settings,
        uses: mpsc::Receiver<Use>,
        today: Arc<Today>,
        store: Arc<dyn KeyStore>,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Self {
        let Settings { flush_size, flush_interval, .. } = settings;
        Self {
            context,
            uses: Mutex::new(uses),
            flush_size: flush_size.max(1),
            flush_interval,
            today,
            store,
            clock,
            metrics,
        }
    }

    /// Writes until the tracker is closed and all that it noted is written. Several tasks may do so at once: while some write, one
    /// collects.
    pub async fn run(&self) {
        while let Some(batch) = self.collect().await {
            self.flush(batch).await;
        }
    }

    /// As many uses as are written at once, or those that have come when the first one has waited long enough.
    async fn collect(&self) -> Option<Vec<Use>> {
        let mut uses = self.uses.lock().await;
        let mut batch = vec![uses.recv().await?];
        let fill = async {
            loop {
                let room = self.flush_size - batch.len();
                if room == 0 || uses.recv_many(&mut batch, room).await == 0 {
                    break;
                }
            }
        };
        // Full, closed or out of time: what is there is written.
        let _ = timeout(self.flush_interval, fill).await;
        Some(batch)
    }

    async fn flush(&self, batch: Vec<Use>) {
        let mut keys: Vec<_> = batch.iter().map(|noted| noted.key).collect();
        keys.sort_unstable();
        keys.dedup();
        // Stores keep microseconds.
        match self.store.record_last_used(&self.context, &keys, self.clock.now().trunc_subsecs(6)).await {
            Ok(()) => self.metrics.written(batch.len()),
            Err(error) => {
                // The next use of each key is a new attempt.
                for noted in &batch {
                    self.today.forget(noted.mark);
                }
                self.metrics.failed(batch.len());
                tracing::warn!(%error, keys = batch.len(), "the last use of keys could not be written");
            }
        }
    }
}
